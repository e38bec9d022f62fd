//! A cache with a buffer for each sequence.

use candle_core::{DType, Tensor};

use super::KvCache;
use super::host::{self, HostLayer, Place};
use super::pool::KvDtype;
use super::tensors::TensorLayer;
use crate::batch::Batch;
use crate::config::Config;
use crate::context::Step;
use crate::error::{Error, Result};
use crate::ops::{from_rows, with_f32};

/// One contiguous buffer of keys and one of values per sequence and layer.
///
/// On the CPU they hold the cache's dtype (f32, bf16 or f16) and are read in place by our
/// attention kernel; on other devices they are tensors.
#[derive(Debug)]
pub struct ContiguousCache {
    dtype: KvDtype,
    num_hidden_layers: usize,
    sequences: Vec<Sequence>,
}

#[derive(Debug, Default)]
struct Sequence {
    len: usize,
    layers: Vec<Layer>,
}

/// One of the two, by the device.
#[derive(Debug, Default)]
struct Layer {
    host: Option<HostLayer>,
    tensors: Option<TensorLayer>,
}

/// Rows of a sequence that has one block.
fn place(rows: std::ops::Range<usize>) -> Place<'static> {
    Place {
        rows,
        block_table: &[0],
    }
}

impl ContiguousCache {
    /// An empty cache for a model.
    ///
    /// # Errors
    /// A dtype other than f32, bf16 and f16.
    pub fn new(config: &Config, dtype: DType) -> Result<Self> {
        Ok(Self {
            dtype: KvDtype::of(dtype)?,
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
        let hosts = layers.filter_map(|layer| layer.host.as_ref());
        hosts.map(HostLayer::bytes).sum()
    }
}

impl KvCache for ContiguousCache {
    fn len(&self, slot: usize) -> usize {
        self.sequences.get(slot).map_or(0, |s| s.len)
    }

    fn begin(&mut self, batch: &Batch) -> Result<()> {
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
            let out = with_f32(qkv, |qkv| {
                for (slot, rows) in step.batch.sequences() {
                    let entry = &mut self.sequences[slot].layers[layer];
                    let len = step.batch.positions()[rows.end - 1] as usize + 1;
                    let host = match &mut entry.host {
                        Some(host) => host,
                        none => none.insert(HostLayer::new(self.dtype, 1, 64, step.geometry)?),
                    };
                    host.reserve(len)?;
                    host.store(step, qkv, &[place(rows)])?;
                }
                let mut sequences = Vec::new();
                for (slot, rows) in step.batch.sequences() {
                    let host = self.sequences[slot].layers[layer].host.as_ref();
                    sequences.extend(host.map(|host| (place(rows), host)));
                }
                host::attend(step, qkv, &sequences)
            })?;
            from_rows(out, step.batch.num_tokens(), qkv.device())
        } else {
            let mut outs = Vec::new();
            for (slot, rows) in step.batch.sequences() {
                let entry = &mut self.sequences[slot].layers[layer];
                let tensors = entry.tensors.get_or_insert_default();
                outs.push(tensors.attend(step, qkv, rows)?);
            }
            Ok(Tensor::cat(&outs, 0)?)
        }
    }
}
