//! A matrix product with its bias, and the checkpoint paths that its rows came from.

use candle_core::{DType, Tensor};
use internlm_quant::Weight;

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
