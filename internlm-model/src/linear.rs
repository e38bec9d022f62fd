//! A matrix product with its bias, and the checkpoint paths that its rows came from.

use candle_core::{DType, Tensor};
use internlm_quant::Weight;
use internlm_quant::calibrate::Tap;

use crate::adapter::LoraAdapter;
use crate::context::{Mode, Step};
use crate::error::{Error, Result};

/// One or more linear layers of a checkpoint that share an input, fused along their outputs.
#[derive(Debug)]
pub(crate) struct Linear {
    /// One, unless layers are packed in different forms. Never empty.
    segments: Vec<Segment>,
}

/// Neighbouring layers in one weight.
#[derive(Debug)]
struct Segment {
    weight: Weight,
    /// `(out_features)`, f32 on the CPU and in the dtype of the weight elsewhere.
    bias: Option<Tensor>,
    /// Module paths as on disk, with their numbers of rows.
    parts: Vec<(String, usize)>,
}

impl Linear {
    /// A layer from its parts, whose rows fill the weights in their order. A bias is one of all parts.
    ///
    /// # Errors
    /// A failed conversion of the bias.
    pub(crate) fn new(
        weights: Vec<Weight>,
        bias: Option<Tensor>,
        parts: Vec<(String, usize)>,
    ) -> Result<Self> {
        let (mut parts, mut start) = (parts.into_iter().peekable(), 0);
        let mut segments = Vec::with_capacity(weights.len());
        for weight in weights {
            let (rows, _) = weight.shape();
            let bias = match &bias {
                Some(bias) if bias.device().is_cpu() => Some(bias.to_dtype(DType::F32)?),
                Some(bias) => Some(bias.to_dtype(dtype(&weight))?),
                None => None,
            };
            let (mut own, mut left) = (Vec::new(), rows);
            while let Some(part) = parts.next_if(|(_, rows)| *rows <= left) {
                left -= part.1;
                own.push(part);
            }
            segments.push(Segment {
                weight,
                bias: bias.map(|bias| bias.narrow(0, start, rows)).transpose()?,
                parts: own,
            });
            start += rows;
        }
        Ok(Self { segments })
    }

    /// `x · weightᵀ + bias`, and what the rows' adapters add.
    ///
    /// # Shapes
    /// - x: `(num_tokens, in_features)`
    /// - out: `(num_tokens, out_features)`
    pub(crate) fn forward(&self, step: &Step<'_>, x: &Tensor) -> Result<Tensor> {
        let out = self.product(step, x)?;
        match step.adapters {
            None => Ok(out),
            Some(adapters) => {
                let parts = self.parts().map(|(path, rows)| (path.as_str(), *rows));
                adapters.add(step, x, out, parts)
            }
        }
    }

    fn product(&self, step: &Step<'_>, x: &Tensor) -> Result<Tensor> {
        if let [segment] = self.segments.as_slice() {
            return segment.forward(step, x);
        }
        let outs: Result<Vec<_>> = self.segments.iter().map(|s| s.forward(step, x)).collect();
        Ok(Tensor::cat(&outs?, 1)?)
    }

    /// The same, showing the input under the path of each part.
    pub(crate) fn forward_tapped(
        &self,
        step: &Step<'_>,
        x: &Tensor,
        tap: &mut dyn Tap,
    ) -> Result<Tensor> {
        for (path, _) in self.parts() {
            let at = |source| Error::Weight {
                at: path.clone(),
                source,
            };
            tap.input(path, x).map_err(at)?;
        }
        self.forward(step, x)
    }

    /// Says that the next product is this one, before the smaller steps that come first.
    pub(crate) fn announce(&self, step: &Step<'_>) {
        if let Some(segment) = self.segments.first()
            && step.mode == Mode::Infer
        {
            segment.weight.announce(step.compute);
        }
    }

    /// Whether this is the layer of one checkpoint path.
    pub(crate) fn is(&self, path: &str) -> bool {
        let mut parts = self.parts();
        parts.next().is_some_and(|(only, _)| only == path) && parts.next().is_none()
    }

    /// Paths and rows of all parts.
    fn parts(&self) -> impl Iterator<Item = &(String, usize)> {
        self.segments.iter().flat_map(|segment| &segment.parts)
    }

    /// Refuses an adapter of a part that is packed.
    pub(crate) fn expect_mergeable(&self, adapter: &LoraAdapter) -> Result<()> {
        for segment in &self.segments {
            let mut parts = segment.parts.iter();
            let adapted = parts.find(|(path, _)| adapter.module(path).is_some());
            if let (Weight::Packed(_), Some((path, _))) = (&segment.weight, adapted) {
                return Err(Error::PackedMerge { at: path.clone() });
            }
        }
        Ok(())
    }

    /// Adds an adapter to the weights, which keep their dtype.
    pub(crate) fn merge(&mut self, adapter: &LoraAdapter) -> Result<()> {
        self.segments
            .iter_mut()
            .try_for_each(|segment| segment.merge(adapter))
    }

    /// Replaces a part's weight or bias by full checkpoint path; all parts beside it are f32
    /// afterwards. `false` where the path is none of this layer's.
    pub(crate) fn set(&mut self, path: &str, tensor: &Tensor) -> Result<bool> {
        for segment in &mut self.segments {
            if segment.set(path, tensor)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether any of it is packed.
    pub(crate) fn is_packed(&self) -> bool {
        self.segments.iter().any(|s| is_packed(&s.weight))
    }

    /// Bytes of the weights as they lie in memory.
    pub(crate) fn bytes(&self) -> usize {
        self.segments.iter().map(|s| s.weight.bytes()).sum()
    }

    /// Tensors by checkpoint path, as they are saved: weights, and biases in the weight's dtype. A
    /// packed weight is given by its values, in f32: a checkpoint of these is a dense one.
    pub(crate) fn tensors(&self) -> Result<Vec<(String, Tensor)>> {
        let mut tensors = Vec::new();
        for segment in &self.segments {
            let weight = segment.weight.dequantize()?;
            let mut start = 0;
            for (path, rows) in &segment.parts {
                tensors.push((format!("{path}.weight"), weight.narrow(0, start, *rows)?));
                if let Some(bias) = &segment.bias {
                    let bias = bias.narrow(0, start, *rows)?.to_dtype(weight.dtype())?;
                    tensors.push((format!("{path}.bias"), bias));
                }
                start += rows;
            }
        }
        Ok(tensors)
    }

    /// The dtype of the weight; of a packed one, of its values.
    pub(crate) fn dtype(&self) -> DType {
        self.segments
            .first()
            .map_or(DType::F32, |segment| dtype(&segment.weight))
    }
}

impl Segment {
    fn forward(&self, step: &Step<'_>, x: &Tensor) -> Result<Tensor> {
        let activation = match &self.weight {
            Weight::Dense(_) => Some(step.activation),
            Weight::Packed(_) => Some(step.packed_activation),
            Weight::PackedTensors(_) => None, // no kernel reads it
        };
        let bias = self.bias.as_ref();
        let product = match activation.filter(|_| step.uses_kernels(x.device())) {
            Some(activation) => {
                let (rows, _) = self.weight.shape();
                let out = step.buffers.take(x.dim(0)? * rows);
                let weight = &self.weight;
                weight.matmul_into(x, bias, step.compute, activation, out)
            }
            None => self.weight.matmul_tensor(x, bias),
        };
        product.map_err(|source| Error::Weight {
            at: self.parts[0].0.clone(),
            source,
        })
    }

    /// See [`Linear::merge`].
    fn merge(&mut self, adapter: &LoraAdapter) -> Result<()> {
        let mut parts = self.parts.iter();
        if !parts.any(|(path, _)| adapter.module(path).is_some()) {
            return Ok(());
        }
        let Weight::Dense(weight) = &self.weight else {
            return Err(Error::PackedMerge {
                at: self.parts[0].0.clone(),
            });
        };
        let (mut merged, mut start) = (Vec::with_capacity(self.parts.len()), 0);
        for (path, rows) in &self.parts {
            let own = weight.narrow(0, start, *rows)?;
            merged.push(match adapter.delta(path)? {
                None => own,
                // Summed in f32, so that only the result is rounded.
                Some(delta) => {
                    let delta = delta.to_device(own.device())?;
                    (own.to_dtype(DType::F32)? + delta)?.to_dtype(weight.dtype())?
                }
            });
            start += rows;
        }
        self.weight = Weight::Dense(match merged.as_slice() {
            [one] => one.clone(),
            parts => Tensor::cat(parts, 0)?,
        });
        Ok(())
    }

    /// See [`Linear::set`].
    fn set(&mut self, path: &str, tensor: &Tensor) -> Result<bool> {
        let mut start = 0;
        for (module, rows) in &self.parts {
            match path.strip_prefix(module.as_str()) {
                Some(".weight") => {
                    let weight = with_rows(&self.weight.dequantize()?, start, *rows, tensor)?;
                    self.weight = Weight::Dense(weight);
                    return Ok(true);
                }
                Some(".bias") => {
                    let Some(bias) = &self.bias else {
                        return Ok(false);
                    };
                    self.bias = Some(with_rows(bias, start, *rows, tensor)?);
                    return Ok(true);
                }
                _ => start += rows,
            }
        }
        Ok(false)
    }
}

fn dtype(weight: &Weight) -> DType {
    match weight {
        Weight::Dense(weight) => weight.dtype(),
        Weight::Packed(_) | Weight::PackedTensors(_) => DType::F32,
    }
}

/// Whether a weight is held as codes.
pub(crate) fn is_packed(weight: &Weight) -> bool {
    match weight {
        Weight::Dense(_) => false,
        Weight::Packed(_) | Weight::PackedTensors(_) => true,
    }
}

/// A tensor in f32 with some of its rows replaced.
fn with_rows(all: &Tensor, start: usize, rows: usize, tensor: &Tensor) -> Result<Tensor> {
    let mut want = all.dims().to_vec();
    if let Some(first) = want.first_mut() {
        *first = rows;
    }
    if tensor.dims() != want {
        return Err(internlm_quant::Error::Shape {
            what: "a replaced weight",
            got: tensor.dims().to_vec(),
            want: format!("{want:?}"),
        }
        .into());
    }
    let tensor = tensor.to_dtype(DType::F32)?.contiguous()?;
    let end = start + rows;
    let total = all.dim(0)?;
    if rows == total {
        return Ok(tensor);
    }
    let all = all.to_dtype(DType::F32)?;
    let (before, after) = (all.narrow(0, 0, start)?, all.narrow(0, end, total - end)?);
    Ok(Tensor::cat(&[&before, &tensor, &after], 0)?)
}
