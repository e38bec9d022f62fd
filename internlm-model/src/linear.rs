//! A matrix product with its bias, and the checkpoint paths that its rows came from.

use candle_core::{DType, Tensor};
use internlm_quant::Weight;
use internlm_quant::calibrate::Tap;

use crate::context::Step;
use crate::error::{Error, Result};

/// One or more linear layers of a checkpoint that share an input, fused along their outputs.
#[derive(Debug)]
pub(crate) struct Linear {
    weight: Weight,
    /// `(out_features)`, f32 on the CPU and the activations' dtype elsewhere.
    bias: Option<Tensor>,
    /// Module paths as on disk, with their numbers of rows.
    parts: Vec<(String, usize)>,
}

impl Linear {
    /// A layer from its parts, whose rows add up to the weight's.
    pub(crate) fn new(weight: Weight, bias: Option<Tensor>, parts: Vec<(String, usize)>) -> Self {
        Self {
            weight,
            bias,
            parts,
        }
    }

    /// `x · weightᵀ + bias`.
    ///
    /// # Shapes
    /// - x: `(num_tokens, in_features)`
    /// - out: `(num_tokens, out_features)`
    pub(crate) fn forward(&self, step: &Step<'_>, x: &Tensor) -> Result<Tensor> {
        let at = |source| Error::Weight {
            at: self.parts[0].0.clone(),
            source,
        };
        if step.uses_kernels(x.device()) {
            self.weight
                .matmul(x, self.bias.as_ref(), step.compute, step.activation)
                .map_err(at)
        } else {
            self.weight.matmul_tensor(x, self.bias.as_ref()).map_err(at)
        }
    }

    /// The same, showing the input under the path of each part.
    pub(crate) fn forward_tapped(
        &self,
        step: &Step<'_>,
        x: &Tensor,
        tap: &mut dyn Tap,
    ) -> Result<Tensor> {
        for (path, _) in &self.parts {
            let at = |source| Error::Weight {
                at: path.clone(),
                source,
            };
            tap.input(path, x).map_err(at)?;
        }
        self.forward(step, x)
    }

    /// Whether this is the layer of one checkpoint path.
    pub(crate) fn is(&self, path: &str) -> bool {
        matches!(self.parts.as_slice(), [(only, _)] if only == path)
    }

    /// Replaces a part's weight or bias by full checkpoint path; all parts are f32 afterwards.
    /// `false` where the path is none of this layer's.
    pub(crate) fn set(&mut self, path: &str, tensor: &Tensor) -> Result<bool> {
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

    /// The weight.
    pub(crate) fn weight(&self) -> &Weight {
        &self.weight
    }

    /// Tensors by checkpoint path, as they are saved: weights, and biases in the weight's dtype. A
    /// packed weight is given by its values, in f32: a checkpoint of these is a dense one.
    pub(crate) fn tensors(&self) -> Result<Vec<(String, Tensor)>> {
        let weight = self.weight.dequantize()?;
        let mut tensors = Vec::new();
        let mut start = 0;
        for (path, rows) in &self.parts {
            tensors.push((format!("{path}.weight"), weight.narrow(0, start, *rows)?));
            if let Some(bias) = &self.bias {
                let bias = bias.narrow(0, start, *rows)?.to_dtype(weight.dtype())?;
                tensors.push((format!("{path}.bias"), bias));
            }
            start += rows;
        }
        Ok(tensors)
    }

    /// The dtype of the weight; of a packed one, of its values.
    pub(crate) fn dtype(&self) -> DType {
        match &self.weight {
            Weight::Dense(weight) => weight.dtype(),
            Weight::Packed(_) => DType::F32,
        }
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
