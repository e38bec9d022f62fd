//! Keys and values of earlier tokens, and attention over them.
//!
//! The seam is [`KvCache::attend`]: a cache takes the projection of the new tokens before
//! rotation, splits, rotates, stores and attends. So a contiguous, a paged and a quantized cache
//! fit one trait, and none has to hand out its insides.

mod host;
mod tensors;

use candle_core::{DType, Device, Tensor};

use crate::config::Config;
use crate::context::Step;
use crate::error::{Error, Result};
use host::HostLayer;
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
    /// # Shapes
    /// - qkv: `(num_tokens, (num_attention_heads + 2 * num_key_value_heads) * head_dim)`, before rotation
    /// - out: `(num_tokens, num_attention_heads * head_dim)`
    ///
    /// # Errors
    /// A failed operation; what the batch stored so far is replaced when it is run again.
    fn attend(&mut self, layer: usize, step: &Step<'_>, qkv: &Tensor) -> Result<Tensor>;
}

/// One contiguous buffer of keys and one of values per sequence and layer.
///
/// On the CPU they hold the cache's dtype (f32, bf16 or f16) and are read in place by our
/// attention kernel; on other devices they are tensors.
#[derive(Debug)]
pub struct ContiguousCache {
    dtype: DType,
    num_hidden_layers: usize,
    sequences: Vec<Sequence>,
}

#[derive(Debug, Default)]
struct Sequence {
    len: usize,
    layers: Vec<Layer>,
}

#[derive(Debug, Default)]
enum Layer {
    #[default]
    Empty,
    Host(HostLayer),
    Tensors(TensorLayer),
}

impl ContiguousCache {
    /// An empty cache for a model.
    ///
    /// # Errors
    /// A dtype other than f32, bf16 and f16.
    pub fn new(config: &Config, dtype: DType) -> Result<Self> {
        if !matches!(dtype, DType::F32 | DType::BF16 | DType::F16) {
            return Err(Error::Batch {
                what: format!("a cache holds f32, bf16 or f16, not {}", dtype.as_str()),
            });
        }
        Ok(Self {
            dtype,
            num_hidden_layers: config.num_hidden_layers,
            sequences: Vec::new(),
        })
    }

    /// Keeps only the first `len` tokens of a slot.
    pub fn truncate(&mut self, slot: usize, len: usize) {
        if let Some(sequence) = self.sequences.get_mut(slot) {
            sequence.len = sequence.len.min(len);
        }
    }

    /// Forgets a slot and gives its memory back.
    pub fn clear(&mut self, slot: usize) {
        if let Some(sequence) = self.sequences.get_mut(slot) {
            *sequence = Sequence::default();
        }
    }

    /// Bytes of memory that the host buffers take.
    pub fn bytes(&self) -> usize {
        let layers = self.sequences.iter().flat_map(|s| &s.layers);
        layers
            .map(|layer| match layer {
                Layer::Host(host) => host.bytes(),
                _ => 0,
            })
            .sum()
    }
}

impl KvCache for ContiguousCache {
    fn len(&self, slot: usize) -> usize {
        self.sequences.get(slot).map_or(0, |s| s.len)
    }

    fn begin(&mut self, batch: &crate::Batch) -> Result<()> {
        for (slot, rows) in batch.sequences() {
            let start = batch.positions()[rows.start] as usize;
            if start > self.len(slot) {
                return Err(Error::Batch {
                    what: format!(
                        "slot {slot} holds {} tokens, the next ones start at position {start}",
                        self.len(slot)
                    ),
                });
            }
        }
        for (slot, rows) in batch.sequences() {
            if self.sequences.len() <= slot {
                self.sequences.resize_with(slot + 1, Sequence::default);
            }
            let sequence = &mut self.sequences[slot];
            sequence
                .layers
                .resize_with(self.num_hidden_layers, Layer::default);
            sequence.len = batch.positions()[rows.end - 1] as usize + 1;
        }
        Ok(())
    }

    fn attend(&mut self, layer: usize, step: &Step<'_>, qkv: &Tensor) -> Result<Tensor> {
        if step.uses_kernels(qkv.device()) {
            let mut slots = Vec::new();
            for (slot, rows) in step.batch.sequences() {
                let entry = &mut self.sequences[slot].layers[layer];
                if !matches!(entry, Layer::Host(_)) {
                    *entry = Layer::Host(HostLayer::new(self.dtype));
                }
                if let Layer::Host(host) = std::mem::take(entry) {
                    slots.push((slot, rows, host));
                }
            }
            let out = host::attend(step, qkv, &mut slots);
            for (slot, _, host) in slots {
                self.sequences[slot].layers[layer] = Layer::Host(host);
            }
            out
        } else {
            let mut outs = Vec::new();
            for (slot, rows) in step.batch.sequences() {
                let entry = &mut self.sequences[slot].layers[layer];
                if !matches!(entry, Layer::Tensors(_)) {
                    *entry = Layer::Tensors(TensorLayer::default());
                }
                if let Layer::Tensors(tensors) = entry {
                    outs.push(tensors.attend(step, qkv, rows)?);
                }
            }
            Ok(Tensor::cat(&outs, 0)?)
        }
    }
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
            let mut slots: Vec<_> = step
                .batch
                .sequences()
                .map(|(slot, rows)| (slot, rows, HostLayer::new(DType::F32)))
                .collect();
            host::attend(step, qkv, &mut slots)
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
