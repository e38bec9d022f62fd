//! The one decoder of the family: pre-norm attention and gated feed-forward layers.

use std::mem;

use candle_core::{DType, Tensor};
use internlm_quant::calibrate::Tap;

use crate::adapter::LoraAdapter;
use crate::config::{Config, WeightNames};
use crate::context::Step;
use crate::error::Result;
use crate::kv_cache::KvCache;
use crate::linear::Linear;
use crate::load::Loader;
use crate::ops;

/// A norm's weight with its checkpoint path.
#[derive(Debug)]
pub(crate) struct Norm {
    path: String,
    /// `(hidden_size)`, f32.
    weight: Tensor,
    stored: DType,
}

impl Norm {
    pub(crate) fn load(loader: &Loader<'_>, path: String, size: usize) -> Result<Self> {
        let weight = loader.tensor(&format!("{path}.weight"), &[size])?;
        Ok(Self {
            path,
            stored: weight.dtype(),
            weight: weight.to_dtype(DType::F32)?,
        })
    }

    pub(crate) fn weight(&self) -> &Tensor {
        &self.weight
    }

    pub(crate) fn tensors(&self) -> Result<(String, Tensor)> {
        let weight = self.weight.to_dtype(self.stored)?;
        Ok((format!("{}.weight", self.path), weight))
    }
}

/// One layer.
#[derive(Debug)]
pub(crate) struct Layer {
    attention_norm: Norm,
    wqkv: Linear,
    wo: Linear,
    ffn_norm: Norm,
    gate_up: Linear,
    down: Linear,
}

/// The residual stream between layers: the sum of the two is what flows. Adding is left to the
/// next norm, which reads both anyway.
pub(crate) struct Residual {
    /// `(num_tokens, hidden_size)`
    pub(crate) x: Tensor,
    /// `(num_tokens, hidden_size)`; what the last sub-layer adds.
    pub(crate) delta: Option<Tensor>,
}

impl Residual {
    /// Adds the delta, and normalises the sum.
    pub(crate) fn norm(&mut self, step: &Step<'_>, norm: &Norm, eps: f32) -> Result<Tensor> {
        match self.delta.take() {
            None => ops::rms_norm(step, &self.x, norm.weight(), eps),
            Some(delta) => {
                let (sum, normed) = ops::add_rms_norm(step, &self.x, &delta, norm.weight(), eps)?;
                let x = mem::replace(&mut self.x, sum);
                step.buffers.give_back_tensor(x)?;
                step.buffers.give_back_tensor(delta)?;
                Ok(normed)
            }
        }
    }

    /// Keeps only some rows.
    pub(crate) fn select(&mut self, rows: &Tensor) -> Result<()> {
        self.x = self.x.index_select(rows, 0)?;
        if let Some(delta) = &self.delta {
            self.delta = Some(delta.index_select(rows, 0)?);
        }
        Ok(())
    }
}

impl Layer {
    pub(crate) fn load(
        loader: &Loader<'_>,
        config: &Config,
        names: &WeightNames,
        index: usize,
    ) -> Result<Self> {
        let hidden = config.hidden_size;
        let at = |module: &str| format!("{}.{index}.{module}", names.layers);
        let qkv_rows = [
            config.num_attention_heads * config.head_dim,
            config.num_key_value_heads * config.head_dim,
            config.num_key_value_heads * config.head_dim,
        ];
        let qkv: Vec<_> = match names.qkv {
            [fused] => vec![(at(fused), qkv_rows.iter().sum())],
            names => names.iter().map(|name| at(name)).zip(qkv_rows).collect(),
        };
        let gate_up = names
            .gate_up
            .map(|name| (at(name), config.intermediate_size));
        Ok(Self {
            attention_norm: Norm::load(loader, at(names.attention_norm), hidden)?,
            wqkv: linear(loader, qkv, hidden, config.qkv_bias)?,
            wo: linear(
                loader,
                vec![(at(names.wo), hidden)],
                qkv_rows[0],
                config.o_bias,
            )?,
            ffn_norm: Norm::load(loader, at(names.ffn_norm), hidden)?,
            gate_up: linear(loader, gate_up.into(), hidden, config.mlp_bias)?,
            down: linear(
                loader,
                vec![(at(names.down), hidden)],
                config.intermediate_size,
                config.mlp_bias,
            )?,
        })
    }

    /// One layer of the residual stream.
    ///
    /// # Shapes
    /// - residual: `(num_tokens, hidden_size)`, before and after
    pub(crate) fn forward(
        &self,
        index: usize,
        step: &Step<'_>,
        cache: &mut dyn KvCache,
        residual: &mut Residual,
        eps: f32,
    ) -> Result<()> {
        self.forward_tapped(index, step, cache, residual, eps, &mut ())
    }

    /// The same, showing the input of each matrix product.
    pub(crate) fn forward_tapped(
        &self,
        index: usize,
        step: &Step<'_>,
        cache: &mut dyn KvCache,
        residual: &mut Residual,
        eps: f32,
        tap: &mut dyn Tap,
    ) -> Result<()> {
        self.wqkv.announce(step);
        let h = residual.norm(step, &self.attention_norm, eps)?;
        residual.delta = Some(self.attention(index, step, cache, &h, tap)?);
        step.buffers.give_back_tensor(h)?;
        self.gate_up.announce(step);
        let h = residual.norm(step, &self.ffn_norm, eps)?;
        residual.delta = Some(self.feed_forward(step, &h, tap)?);
        step.buffers.give_back_tensor(h)
    }

    /// Attention with its projections.
    ///
    /// # Shapes
    /// - h: `(num_tokens, hidden_size)`, normed
    /// - out: the same
    pub(crate) fn attention(
        &self,
        index: usize,
        step: &Step<'_>,
        cache: &mut dyn KvCache,
        h: &Tensor,
        tap: &mut dyn Tap,
    ) -> Result<Tensor> {
        let qkv = self.wqkv.forward_tapped(step, h, tap)?; // (num_tokens, qkv_dim)
        self.wo.announce(step);
        let attended = cache.attend(index, step, &qkv)?; // (num_tokens, heads * head_dim)
        step.buffers.give_back_tensor(qkv)?;
        let out = self.wo.forward_tapped(step, &attended, tap)?;
        step.buffers.give_back_tensor(attended)?;
        Ok(out)
    }

    /// Gated feed-forward: `down(silu(gate(h)) * up(h))`.
    ///
    /// # Shapes
    /// - h: `(num_tokens, hidden_size)`, normed
    /// - out: the same
    pub(crate) fn feed_forward(
        &self,
        step: &Step<'_>,
        h: &Tensor,
        tap: &mut dyn Tap,
    ) -> Result<Tensor> {
        let gate_up = self.gate_up.forward_tapped(step, h, tap)?; // (num_tokens, 2 * intermediate_size)
        self.down.announce(step);
        let gated = ops::silu_mul(step, &gate_up)?; // (num_tokens, intermediate_size)
        step.buffers.give_back_tensor(gate_up)?;
        let out = self.down.forward_tapped(step, &gated, tap)?;
        step.buffers.give_back_tensor(gated)?;
        Ok(out)
    }

    /// Replaces a tensor by full checkpoint path; `false` where the layer has none of this path.
    pub(crate) fn set(&mut self, path: &str, tensor: &Tensor) -> Result<bool> {
        for norm in [&mut self.attention_norm, &mut self.ffn_norm] {
            if path.strip_suffix(".weight") == Some(&norm.path) {
                norm.weight = tensor.to_dtype(DType::F32)?;
                return Ok(true);
            }
        }
        for linear in self.linears_mut() {
            if linear.set(path, tensor)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The matrix products.
    pub(crate) fn linears(&self) -> [&Linear; 4] {
        [&self.wqkv, &self.wo, &self.gate_up, &self.down]
    }

    fn linears_mut(&mut self) -> [&mut Linear; 4] {
        [
            &mut self.wqkv,
            &mut self.wo,
            &mut self.gate_up,
            &mut self.down,
        ]
    }

    /// Adds an adapter to the weights.
    pub(crate) fn merge(&mut self, adapter: &LoraAdapter) -> Result<()> {
        let mut linears = self.linears_mut().into_iter();
        linears.try_for_each(|linear| linear.merge(adapter))
    }

    /// Tensors by checkpoint path.
    pub(crate) fn tensors(&self) -> Result<Vec<(String, Tensor)>> {
        let mut tensors = vec![self.attention_norm.tensors()?, self.ffn_norm.tensors()?];
        for linear in self.linears() {
            tensors.extend(linear.tensors()?);
        }
        Ok(tensors)
    }
}

/// Loads modules that share an input as one product.
pub(crate) fn linear(
    loader: &Loader<'_>,
    parts: Vec<(String, usize)>,
    in_features: usize,
    bias: bool,
) -> Result<Linear> {
    let weights = loader.weight(&parts, in_features)?;
    let bias = if bias {
        let biases = parts.iter();
        let biases: Vec<_> = biases
            .map(|(path, rows)| (format!("{path}.bias"), vec![*rows]))
            .collect();
        Some(loader.rows(&biases)?)
    } else {
        None
    };
    Linear::new(weights, bias, parts)
}
