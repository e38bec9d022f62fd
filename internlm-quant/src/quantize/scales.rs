//! The search for the scales of a block's groups.

use candle_core::{DType, Device, Tensor};
use internlm_kernels::Compute;

use super::{AwqConfig, first, weight_path};
use crate::calibrate::{Calibrate, Group, Parameter, Piece, Producer, Tap, values};
use crate::error::{Error, Result};
use crate::parallel;
use crate::rtn::{Grid, Grouping, check_finite};
use crate::search::scale;
use crate::search::statistics::InputStatistics;
use crate::stream::Stream;

/// What was found for a group.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Scaled {
    /// The factors that were applied, `(columns)`; `None` where the group is better without.
    pub scales: Option<Vec<f32>>,
    /// Their exponent.
    pub exponent: Option<f32>,
    /// Mean square error of the inspected module.
    pub error: f64,
    /// The same without scales.
    pub unscaled: f64,
    /// The error of each exponent that was tried, from 0.
    pub errors: Vec<f64>,
}

/// Searches and applies the scales of every group that has a producer.
///
/// Inputs are taken once, from the dense block: a scale that is undone changes no other group's.
pub(super) fn search<C: Calibrate>(
    model: &mut C,
    block: usize,
    groups: &[Group],
    stream: &Stream,
    compute: &Compute,
    config: &AwqConfig,
) -> Result<Vec<Option<Scaled>>, C::Error> {
    let inputs = Inputs::gather(model, block, groups, stream, config.inspect_tokens)?;
    let mut found = Vec::new();
    for (group, input) in groups.iter().zip(inputs) {
        found.push(match &group.producer {
            Some(producer) if config.scale_steps > 0 => {
                let producer = Divided::load(model, producer)?;
                let scaled = of_group(model, group, &input, &producer, compute, config)?;
                if let Some(scales) = &scaled.scales {
                    producer.divide(model, scales)?;
                    multiply(model, group, scales)?;
                }
                Some(scaled)
            }
            _ => None,
        });
    }
    Ok(found)
}

/// The inputs of one group.
pub(super) struct Input {
    path: String,
    pub(super) statistics: InputStatistics,
    /// Some of them.
    pub(super) pieces: Vec<Piece>,
}

/// Gathers them while a block runs.
pub(super) struct Inputs {
    groups: Vec<Input>,
    /// The sequences of what runs, where its inputs are kept.
    keep: Option<Vec<usize>>,
}

impl Inputs {
    /// Runs the loaded block; about `kept` tokens of every input are kept.
    pub(super) fn gather<C: Calibrate>(
        model: &C,
        block: usize,
        groups: &[Group],
        stream: &Stream,
        kept: usize,
    ) -> Result<Vec<Input>, C::Error> {
        let input = |group: &Group| {
            Ok(Input {
                path: first(group)?.path.clone(),
                statistics: InputStatistics::new(0),
                pieces: Vec::new(),
            })
        };
        let mut inputs = Self {
            groups: groups.iter().map(input).collect::<Result<_>>()?,
            keep: None,
        };
        let path = model.block_path(block);
        for (piece, keep) in stream.pieces().iter().zip(stream.sample(kept)) {
            inputs.keep = keep.then(|| piece.cu_seqlens.clone());
            model.run(&path, &piece.x, &piece.cu_seqlens, &mut inputs)?;
        }
        Ok(inputs.groups)
    }
}

impl Tap for Inputs {
    fn input(&mut self, path: &str, x: &Tensor) -> Result<()> {
        for input in self.groups.iter_mut().filter(|g| g.path == path) {
            if input.statistics.tokens() == 0 {
                input.statistics = InputStatistics::new(x.dim(1)?);
            }
            input.statistics.add(&values(x)?)?;
            if let Some(cu_seqlens) = &self.keep {
                input.pieces.push(Piece {
                    x: x.clone(),
                    cu_seqlens: cu_seqlens.clone(),
                });
            }
        }
        Ok(())
    }
}

/// Tries every exponent on the inspected module. The weights are as before when it returns.
fn of_group<C: Calibrate>(
    model: &mut C,
    group: &Group,
    input: &Input,
    producer: &Divided,
    compute: &Compute,
    config: &AwqConfig,
) -> Result<Scaled, C::Error> {
    let weights = dense_weights(model, group)?;
    let activations = input.statistics.absmean();
    let columns = activations.len();
    config.grouping().check(columns)?;
    let slices: Vec<&[f32]> = weights.iter().map(|(_, w)| w.as_slice()).collect();
    let spread = scale::weight_means(&slices, columns, config.group_size)?;
    let mut targets = Vec::new();
    for piece in &input.pieces {
        targets.push(values(&model.run(
            &group.inspect,
            &piece.x,
            &piece.cu_seqlens,
            &mut (),
        )?)?);
    }
    let mut trial = |scales: Option<&[f32]>| -> Result<f64, C::Error> {
        for (path, weight) in &weights {
            let rounded = rounded(compute, weight, columns, scales, config.grouping());
            let tensor = matrix(rounded, columns)?;
            model.set_weight(path, Parameter::Dense(tensor))?;
        }
        let (mut sum, mut count) = (0.0, 0);
        for (piece, target) in input.pieces.iter().zip(&targets) {
            let out = values(&model.run(&group.inspect, &piece.x, &piece.cu_seqlens, &mut ())?)?;
            sum += square_distance(&out, target);
            count += out.len();
        }
        Ok(sum / count.max(1) as f64)
    };
    let unscaled = trial(None)?;
    let mut errors = Vec::with_capacity(config.scale_steps);
    let mut best: Option<(f64, f32, Vec<f32>)> = None;
    for step in 0..config.scale_steps {
        let exponent = step as f32 / config.scale_steps as f32;
        let scales = producer.undoable(scale::candidate(&activations, &spread, exponent));
        let error = trial(Some(&scales))?;
        errors.push(error);
        if best.as_ref().is_none_or(|(least, ..)| error < *least) {
            best = Some((error, exponent, scales));
        }
    }
    for (path, weight) in weights {
        model.set_weight(&path, Parameter::Dense(matrix(weight, columns)?))?;
    }
    Ok(match best {
        Some((error, exponent, scales)) if error < unscaled => Scaled {
            scales: Some(scales),
            exponent: Some(exponent),
            error,
            unscaled,
            errors,
        },
        _ => Scaled {
            scales: None,
            exponent: None,
            error: unscaled,
            unscaled,
            errors,
        },
    })
}

/// The weights of a group's layers with their paths.
pub(super) fn dense_weights<C: Calibrate>(
    model: &C,
    group: &Group,
) -> Result<Vec<(String, Vec<f32>)>, C::Error> {
    let mut weights = Vec::new();
    for consumer in &group.consumers {
        let path = weight_path(&consumer.path);
        let weight = values(&required(model, &path)?)?;
        check_finite("weight", &weight)?;
        weights.push((path, weight));
    }
    Ok(weights)
}

/// A tensor that the block must have.
pub(super) fn required<C: Calibrate>(model: &C, path: &str) -> Result<Tensor, C::Error> {
    let missing = || Error::Group {
        group: path.to_owned(),
        what: "the block has no such tensor".to_owned(),
    };
    Ok(model.tensor(path)?.ok_or_else(missing)?)
}

/// `round(W·s) / s`, as the network would compute with it.
fn rounded(
    compute: &Compute,
    weight: &[f32],
    columns: usize,
    scales: Option<&[f32]>,
    grouping: Grouping,
) -> Vec<f32> {
    let mut out = weight.to_vec();
    parallel::over_chunks(compute, &mut out, columns, |_, row| {
        if let Some(scales) = scales {
            scale::multiply_columns(row, scales);
        }
        for group in row.chunks_mut(grouping.group_size) {
            let grid = Grid::of(group, grouping.levels()).stored(grouping.scales);
            group.iter_mut().for_each(|w| *w = grid.round(*w));
        }
        if let Some(scales) = scales {
            scale::divide_columns(row, scales);
        }
    });
    out
}

fn square_distance(a: &[f32], b: &[f32]) -> f64 {
    let squares = a.iter().zip(b).map(|(a, b)| f64::from(a - b).powi(2));
    squares.sum()
}

fn matrix(values: Vec<f32>, columns: usize) -> Result<Tensor> {
    let rows = values.len() / columns.max(1);
    Ok(Tensor::from_vec(values, (rows, columns), &Device::Cpu)?)
}

/// Multiplies the inputs of a group's layers.
pub(super) fn multiply<C: Calibrate>(
    model: &mut C,
    group: &Group,
    scales: &[f32],
) -> Result<(), C::Error> {
    for (path, mut weight) in dense_weights(model, group)? {
        scale::multiply_columns(&mut weight, scales);
        model.set_weight(&path, Parameter::Dense(matrix(weight, scales.len())?))?;
    }
    Ok(())
}

/// A producer's tensors: what is divided.
pub(super) struct Divided {
    tensors: Vec<(String, Tensor)>,
    norm: bool,
}

impl Divided {
    pub(super) fn load<C: Calibrate>(model: &C, producer: &Producer) -> Result<Self, C::Error> {
        let (path, norm) = match producer {
            Producer::Norm(path) => (path, true),
            Producer::Linear(path) => (path, false),
        };
        let weight = weight_path(path);
        let mut tensors = vec![(weight.clone(), required(model, &weight)?)];
        let bias = format!("{path}.bias");
        if let Some(tensor) = model.tensor(&bias)? {
            tensors.push((bias, tensor));
        }
        Ok(Self { tensors, norm })
    }

    /// Corrects scales so that dividing undoes them exactly: a norm's weight `n` becomes `n / s` in
    /// the dtype that it is stored in, and `s` what it was divided by in truth. A channel that the
    /// norm shuts off keeps scale 1, as in LMDeploy.
    pub(super) fn undoable(&self, mut scales: Vec<f32>) -> Vec<f32> {
        let Some((_, weight)) = self.tensors.first().filter(|_| self.norm) else {
            return scales;
        };
        let exact = |scales: &[f32]| -> Result<Vec<f32>> {
            let norm = values(weight)?;
            let divided = norm.iter().zip(scales).map(|(n, s)| n / s).collect();
            let stored = Tensor::from_vec(divided, scales.len(), &Device::Cpu)?;
            let stored = values(&stored.to_dtype(weight.dtype())?)?;
            Ok(norm.iter().zip(stored).map(|(n, d)| n / d).collect())
        };
        if let Ok(corrected) = exact(&scales) {
            for (scale, corrected) in scales.iter_mut().zip(corrected) {
                let usable = corrected.is_finite() && corrected > 0.0;
                *scale = if usable { corrected } else { 1.0 };
            }
        }
        scales
    }

    /// Divides the tensors: a norm element by element, a linear layer by output rows.
    pub(super) fn divide<C: Calibrate>(
        &self,
        model: &mut C,
        scales: &[f32],
    ) -> Result<(), C::Error> {
        for (path, tensor) in &self.tensors {
            let mut divided = values(tensor)?;
            let columns = tensor.dims().get(1).copied().unwrap_or(1);
            if divided.len() != scales.len() * columns {
                return Err(Error::Group {
                    group: path.clone(),
                    what: format!(
                        "{} outputs feed {} inputs",
                        divided.len() / columns.max(1),
                        scales.len()
                    ),
                }
                .into());
            }
            scale::divide_rows(&mut divided, columns, scales);
            let dtype = if self.norm {
                tensor.dtype()
            } else {
                DType::F32
            };
            let divided = Tensor::from_vec(divided, tensor.dims(), &Device::Cpu)
                .and_then(|t| t.to_dtype(dtype))
                .map_err(Error::from)?;
            model.set_weight(path, Parameter::Dense(divided))?;
        }
        Ok(())
    }
}
