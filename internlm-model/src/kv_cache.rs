//! Keys and values of earlier tokens, and attention over them.
//!
//! The seam is [`KvCache::attend`]: a cache takes the projection of the new tokens before
//! rotation, splits, rotates, stores and attends. So a contiguous, a paged and a quantized cache
//! fit one trait, and none has to hand out its insides.

mod contiguous;
mod host;
mod paged;
mod pool;
mod tensors;

use candle_core::{DType, Device, Tensor};

pub use contiguous::ContiguousCache;
pub use paged::PagedCache;
pub use pool::KvDtype;

use crate::context::Step;
use crate::error::{Error, Result};
use crate::ops::{from_rows, with_f32};
use host::{HostLayer, Place};
use tensors::TensorLayer;

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
        for (slot, rows) in batch.sequences() {
            let start = batch.positions()[rows.start];
            if start != 0 {
                return Err(Error::Batch {
                    what: format!(
                        "slot {slot} starts at position {start}, without a cache it must be 0"
                    ),
                });
            }
        }
        Ok(())
    }

    fn attend(&mut self, _layer: usize, step: &Step<'_>, qkv: &Tensor) -> Result<Tensor> {
        if step.uses_kernels(qkv.device()) {
            let out = with_f32(qkv, |qkv| {
                let mut layers = Vec::new();
                for (_, rows) in step.batch.sequences() {
                    let mut layer = HostLayer::new(KvDtype::F32, 1, rows.len(), step.geometry)?;
                    let place = Place {
                        rows,
                        block_table: &[0],
                    };
                    layer.store(step, qkv, std::slice::from_ref(&place))?;
                    layers.push((place, layer));
                }
                let sequences: Vec<_> = layers.iter().map(|(p, l)| (p.clone(), l)).collect();
                host::attend(step, qkv, &sequences)
            })?;
            from_rows(out, step.batch.num_tokens(), qkv.device())
        } else {
            let outs: Vec<_> = step
                .batch
                .sequences()
                .map(|(_, rows)| TensorLayer::default().attend(step, qkv, rows))
                .collect::<Result<_>>()?;
            Ok(Tensor::cat(&outs, 0)?)
        }
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
