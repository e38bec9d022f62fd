//! Keys and values of earlier tokens, and attention over them.
//!
//! The seam is [`KvCache::attend`]: a cache takes the projection of the new tokens before
//! rotation, splits, rotates, stores and attends. So a contiguous, a paged and a quantized cache
//! fit one trait, and none has to hand out its insides.

mod branches;
mod contiguous;
mod host;
mod paged;
mod pool;
mod tensors;

use candle_core::{DType, Device, Tensor};

pub(crate) use branches::Branches;
pub use contiguous::ContiguousCache;
pub use paged::PagedCache;
pub use pool::KvDtype;

use crate::context::Step;
use crate::error::Result;

/// Where keys and values of earlier tokens are.
pub trait KvCache: Send {
    /// Tokens that are stored for a slot.
    fn len(&self, slot: usize) -> usize;

    /// Makes room for the tokens of a batch and forgets what they replace.
    ///
    /// # Errors
    /// A sequence that starts past the end of what is stored for its slot.
    fn begin(&mut self, batch: &crate::Batch) -> Result<()>;

    /// Attention of one layer.
    ///
    /// Neither `qkv` nor the result may be kept, nor views of them: the next layer uses their memory.
    ///
    /// # Shapes
    /// - qkv: `(num_tokens, (num_attention_heads + 2 * num_key_value_heads) * head_dim)`, before rotation
    /// - out: `(num_tokens, num_attention_heads * head_dim)`
    ///
    /// # Errors
    /// A failed operation; what the batch stored so far is replaced when it is run again.
    fn attend(&mut self, layer: usize, step: &Step<'_>, qkv: &Tensor) -> Result<Tensor>;
}

/// No cache: each sequence of a batch is whole, and nothing outlives the pass.
#[derive(Debug, Default)]
pub struct NoCache;

impl KvCache for NoCache {
    fn len(&self, _slot: usize) -> usize {
        0
    }

    fn begin(&mut self, batch: &crate::Batch) -> Result<()> {
        branches::check(batch, &[])
    }

    fn attend(&mut self, _layer: usize, step: &Step<'_>, qkv: &Tensor) -> Result<Tensor> {
        branches::attend(step, qkv, &[])
    }
}

/// The dtype that a cache should have beside activations of this dtype on this device.
pub(crate) fn natural_dtype(dtype: Option<DType>, device: &Device) -> DType {
    match dtype {
        Some(dtype @ (DType::BF16 | DType::F16)) => dtype,
        _ if device.is_cpu() => DType::F32,
        _ => dtype.unwrap_or(DType::F32),
    }
}

/// A decoder with random weights for tests: `"internlm2"`, or `"internlm"` (1), which keeps raw keys.
#[cfg(test)]
fn small_model(model_type: &str) -> crate::CausalLm {
    let json = format!(
        r#"{{"model_type": "{model_type}", "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": {}, "vocab_size": 50, "bias": true,
        "max_position_embeddings": 90, "rope_scaling": {{"type": "dynamic", "factor": 3.0}},
        "rotary": {{"type": "dynamic", "base": 10000}}}}"#,
        if model_type == "internlm" { 4 } else { 2 }
    );
    let config =
        crate::Config::from_json("config.json".as_ref(), json.as_bytes()).expect("a config");
    crate::CausalLm::random(config, 3, crate::LoadConfig::default()).expect("a model")
}
