//! Clipping and rounding of one group's layers, on the inputs that they will have.

use candle_core::Tensor;
use internlm_kernels::{Activation, Compute, Elements, matmul};

use super::scales::{Scaled, dense_weights};
use super::{AwqConfig, first};
use crate::calibrate::{Calibrate, Group, Parameter, Tap, values};
use crate::codes::Codes;
use crate::error::Result;
use crate::report::LayerReport;
use crate::rtn::{Grouping, asymmetric};
use crate::search::clip;
use crate::search::compensate::Spread;
use crate::search::scale;
use crate::search::statistics::Gram;
use crate::stream::Stream;

/// Rounds the layers of a group and sets their codes.
pub(super) fn group<C: Calibrate>(
    model: &mut C,
    block: usize,
    group: &Group,
    scaled: Option<&Scaled>,
    stream: Option<&Stream>,
    compute: &Compute,
    config: &AwqConfig,
) -> Result<Vec<LayerReport>, C::Error> {
    let weights = dense_weights(model, group)?;
    let inputs = match stream {
        Some(stream) => {
            let mut inputs = Inputs {
                path: &first(group)?.path,
                compute,
                config,
                gram: None,
                keep: false,
                sample: Vec::new(),
            };
            let path = model.block_path(block);
            let kept = stream.sample(config.inspect_tokens);
            for (piece, keep) in stream.pieces().iter().zip(kept) {
                inputs.keep = keep;
                model.run(&path, &piece.x, &piece.cu_seqlens, &mut inputs)?;
            }
            inputs.gram.map(|gram| (gram, inputs.sample))
        }
        None => None,
    };
    let spread = match (&inputs, config.compensate) {
        (Some((gram, _)), Some(damping)) => {
            Some(Spread::new(compute, gram, config.group_size, damping)?)
        }
        _ => None,
    };
    let mut reports = Vec::new();
    for (consumer, (path, weight)) in group.consumers.iter().zip(weights) {
        let mut report = LayerReport::new(&consumer.path);
        if let Some(scaled) = scaled {
            report.scale_exponent = scaled.exponent;
            report.scale_error = Some(scaled.error);
            report.unscaled_error = Some(scaled.unscaled);
        }
        let grouping = config.grouping();
        let codes = match &inputs {
            None => {
                let columns = model_columns(model, &path, weight.len())?;
                asymmetric(compute, &weight, columns, grouping)?
            }
            Some((gram, sample)) => {
                let columns = gram.columns();
                let clip = match config.clip && consumer.clip {
                    true => Some(clip::search(compute, &weight, gram, grouping)?),
                    false => None,
                };
                report.clip_ratio = clip.as_ref().map(clip::Clip::mean);
                let codes = match &spread {
                    Some(spread) => spread.round(compute, &weight, clip.as_ref(), grouping)?,
                    None => {
                        let mut clipped = weight.clone();
                        if let Some(clip) = &clip {
                            clip.apply(&mut clipped);
                        }
                        asymmetric(compute, &clipped, columns, grouping)?
                    }
                };
                let power = mean_square(compute, sample, &weight, columns)?;
                let error = error(compute, sample, &weight, &codes)?;
                let scales = scaled.and_then(|scaled| scaled.scales.as_deref());
                let rtn = rtn_error(compute, sample, &weight, columns, scales, grouping)?;
                report.output_power = Some(power);
                report.output_mse = Some(error);
                report.rtn_mse = Some(rtn);
                codes
            }
        };
        model.set_weight(&path, Parameter::Codes(codes))?;
        reports.push(report);
    }
    Ok(reports)
}

/// Inputs of a matrix, by its tensor.
fn model_columns<C: Calibrate>(model: &C, path: &str, len: usize) -> Result<usize, C::Error> {
    let weight = super::scales::required(model, path)?;
    Ok(weight.dims().get(1).copied().unwrap_or(len))
}

/// Gathers the second moments of one group's inputs, and some of the inputs.
struct Inputs<'a> {
    path: &'a str,
    compute: &'a Compute,
    config: &'a AwqConfig,
    gram: Option<Gram>,
    keep: bool,
    /// `(num_tokens, columns)`
    sample: Vec<f32>,
}

impl Tap for Inputs<'_> {
    fn input(&mut self, path: &str, x: &Tensor) -> Result<()> {
        if path != self.path {
            return Ok(());
        }
        let columns = x.dim(1)?;
        let gram = match &mut self.gram {
            Some(gram) => gram,
            none => {
                self.config.grouping().check(columns)?;
                let block = match self.config.compensate {
                    Some(_) => columns,
                    None => self.config.group_size,
                };
                none.insert(Gram::new(columns, block)?)
            }
        };
        let x = values(x)?;
        if self.keep {
            self.sample.extend_from_slice(&x);
        }
        gram.add(self.compute, &x)
    }
}

/// Mean square of `x · weightᵀ`.
pub(super) fn mean_square(
    compute: &Compute,
    x: &[f32],
    weight: &[f32],
    columns: usize,
) -> Result<f64> {
    let (m, n) = (x.len() / columns, weight.len() / columns);
    let mut out = vec![0.0; m * n];
    let w = Elements::F32(weight);
    matmul(
        compute,
        x,
        w,
        None,
        Activation::F32,
        &mut out,
        m,
        n,
        columns,
    )?;
    let sum: f64 = out.iter().map(|&v| f64::from(v).powi(2)).sum();
    Ok(sum / out.len().max(1) as f64)
}

/// Mean square of what codes change in the outputs.
fn error(compute: &Compute, x: &[f32], weight: &[f32], codes: &Codes) -> Result<f64> {
    let mut change = codes.dequantize();
    change.iter_mut().zip(weight).for_each(|(q, w)| *q -= w);
    mean_square(compute, x, &change, codes.columns)
}

/// The same for the weight rounded to nearest before it was scaled, on inputs that are scaled.
fn rtn_error(
    compute: &Compute,
    x: &[f32],
    weight: &[f32],
    columns: usize,
    scales: Option<&[f32]>,
    grouping: Grouping,
) -> Result<f64> {
    let mut before = weight.to_vec();
    if let Some(scales) = scales {
        scale::divide_columns(&mut before, scales);
    }
    let mut change = asymmetric(compute, &before, columns, grouping)?.dequantize();
    if let Some(scales) = scales {
        scale::multiply_columns(&mut change, scales);
    }
    change.iter_mut().zip(weight).for_each(|(q, w)| *q -= w);
    mean_square(compute, x, &change, columns)
}
