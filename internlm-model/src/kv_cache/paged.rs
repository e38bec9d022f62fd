//! A cache of fixed size in blocks, which many sequences share.

use candle_core::Tensor;

use super::KvCache;
use super::host::{self, HostLayer, Place};
use super::pool::KvDtype;
use super::tensors::TensorPool;
use crate::batch::Batch;
use crate::config::Config;
use crate::context::Step;
use crate::error::{Error, Result};
use crate::ops::{from_rows, with_f32};

/// Keys and values in blocks of [`BLOCK_SIZE`](PagedCache::BLOCK_SIZE) tokens (PagedAttention, arXiv
/// 2309.06180). On the CPU the attention kernel reads them in place; on other devices they are tensors of the
/// activations' dtype, of which each step gathers what a sequence sees.
///
/// It owns the memory, not the policy: whoever runs the model says by [`set`](PagedCache::set) which blocks a
/// slot has. Sequences may share blocks that none of them writes to.
#[derive(Debug)]
pub struct PagedCache {
    dtype: KvDtype,
    num_blocks: usize,
    layers: Vec<Layer>,
    sequences: Vec<Sequence>,
}

/// One of the two, by the device.
#[derive(Debug, Default)]
struct Layer {
    host: Option<HostLayer>,
    tensors: Option<TensorPool>,
}

#[derive(Debug, Default)]
struct Sequence {
    len: usize,
    block_table: Vec<u32>,
}

impl PagedCache {
    /// Tokens of a block.
    pub const BLOCK_SIZE: usize = 64;

    /// An empty cache for a model. Memory is taken from the system when blocks are first written.
    pub fn new(config: &Config, dtype: KvDtype, num_blocks: usize) -> Self {
        let mut layers = Vec::new();
        layers.resize_with(config.num_hidden_layers, Layer::default);
        Self {
            dtype,
            num_blocks,
            layers,
            sequences: Vec::new(),
        }
    }

    /// Bytes of one block over all layers, keys and values.
    pub fn bytes_per_block(config: &Config, dtype: KvDtype) -> usize {
        let rows = 2 * config.num_hidden_layers * config.num_key_value_heads * Self::BLOCK_SIZE;
        rows * dtype.row_bytes(config.head_dim)
    }

    /// Blocks in all.
    pub fn num_blocks(&self) -> usize {
        self.num_blocks
    }

    /// Gives a slot its blocks, of which the first `len` tokens are there already.
    pub fn set(&mut self, slot: usize, block_table: &[u32], len: usize) {
        if self.sequences.len() <= slot {
            self.sequences.resize_with(slot + 1, Sequence::default);
        }
        let sequence = &mut self.sequences[slot];
        sequence.len = len;
        sequence.block_table.clear();
        sequence.block_table.extend_from_slice(block_table);
    }

    /// Copies a block over another, in all layers.
    ///
    /// # Errors
    /// A block that is not there, a failed operation.
    pub fn copy_block(&mut self, from: u32, to: u32) -> Result<()> {
        let (from, to) = (from as usize, to as usize);
        if from.max(to) >= self.num_blocks {
            return Err(Error::Batch {
                what: format!("block {} of {}", from.max(to), self.num_blocks),
            });
        }
        for layer in &mut self.layers {
            if let Some(host) = &mut layer.host {
                host.copy_block(from, to);
            }
            if let Some(tensors) = &layer.tensors {
                tensors.copy_block(from, to)?;
            }
        }
        Ok(())
    }
}

impl KvCache for PagedCache {
    fn len(&self, slot: usize) -> usize {
        self.sequences.get(slot).map_or(0, |s| s.len)
    }

    fn begin(&mut self, batch: &Batch) -> Result<()> {
        for (slot, rows) in batch.sequences() {
            let start = batch.positions()[rows.start] as usize;
            let end = start + rows.len();
            let refuse = |what| Err(Error::Batch { what });
            let Some(sequence) = self.sequences.get(slot) else {
                return refuse(format!("slot {slot} has no blocks"));
            };
            let (len, room) = (sequence.len, sequence.block_table.len() * Self::BLOCK_SIZE);
            if start > len {
                return refuse(format!(
                    "slot {slot} holds {len} tokens, the next ones start at position {start}"
                ));
            }
            if end > room {
                return refuse(format!(
                    "slot {slot} has room for {room} tokens, not for {end}"
                ));
            }
            if let Some(block) = sequence
                .block_table
                .iter()
                .find(|&&block| block as usize >= self.num_blocks)
            {
                return refuse(format!(
                    "slot {slot} has block {block} of {}",
                    self.num_blocks
                ));
            }
        }
        for (slot, rows) in batch.sequences() {
            self.sequences[slot].len = batch.positions()[rows.end - 1] as usize + 1;
        }
        Ok(())
    }

    fn attend(&mut self, layer: usize, step: &Step<'_>, qkv: &Tensor) -> Result<Tensor> {
        let entry = &mut self.layers[layer];
        if !step.uses_kernels(qkv.device()) {
            if matches!(self.dtype, KvDtype::Int8 | KvDtype::Int4) {
                return Err(Error::Batch {
                    what: "quantized caches are read by the kernels of the CPU only".to_owned(),
                });
            }
            if entry.tensors.is_none() {
                let pool = TensorPool::new(step, qkv, self.num_blocks, Self::BLOCK_SIZE)?;
                entry.tensors = Some(pool);
            }
            let mut outs = Vec::new();
            for (slot, rows) in step.batch.sequences() {
                if let Some(pool) = &entry.tensors {
                    let table = &self.sequences[slot].block_table;
                    outs.push(pool.attend(step, qkv, rows, table)?);
                }
            }
            return Ok(Tensor::cat(&outs, 0)?);
        }
        let layer = match &mut entry.host {
            Some(host) => host,
            none => none.insert(HostLayer::new(
                self.dtype,
                self.num_blocks,
                Self::BLOCK_SIZE,
                step.geometry,
            )?),
        };
        let places: Vec<_> = step
            .batch
            .sequences()
            .map(|(slot, rows)| Place {
                rows,
                block_table: &self.sequences[slot].block_table,
            })
            .collect();
        let out = with_f32(qkv, |qkv| {
            layer.store(step, qkv, &places)?;
            let layer = &*layer;
            let sequences: Vec<_> = places.into_iter().map(|place| (place, layer)).collect();
            host::attend(step, qkv, &sequences)
        })?;
        from_rows(out, step.batch.num_tokens(), qkv.device())
    }
}

#[cfg(test)]
mod tests {
    use candle_core::DType;

    use super::super::small_model;
    use super::*;
    use crate::batch::Logits;
    use crate::context::{Context, Mode};
    use crate::{CausalLm, ContiguousCache};

    /// Two sequences in chunks, then one token each.
    fn passes(model: &CausalLm, cache: &mut dyn KvCache, mode: Mode) -> Vec<Vec<f32>> {
        let ids: Vec<u32> = (0..150).map(|i| i * 7 % 50).collect();
        let mut rows = Vec::new();
        for (a, b) in [(0..60, 0..1), (60..100, 1..65), (100..101, 65..66)] {
            let mut batch = Batch::new();
            for (slot, part) in [(1, a), (0, b)] {
                let chunk = &ids[part.clone()];
                batch
                    .push(slot, chunk, part.start, 66, Logits::All)
                    .expect("a batch");
            }
            let mut ctx = Context::new(cache).with_mode(mode);
            let logits = model.forward(&batch, &mut ctx).expect("a pass");
            rows.extend(logits.to_vec2::<f32>().expect("f32"));
        }
        rows
    }

    #[test]
    fn blocks_are_as_good_as_a_contiguous_cache() {
        for model_type in ["internlm2", "internlm"] {
            let model = small_model(model_type);
            for mode in [Mode::Infer, Mode::Train] {
                let mut whole = ContiguousCache::new(model.config(), DType::F32).expect("a cache");
                let want = passes(&model, &mut whole, mode);
                let mut paged = PagedCache::new(model.config(), KvDtype::F32, 9);
                paged.set(0, &[7, 2], 0);
                paged.set(1, &[8, 0], 0);
                assert_eq!(
                    passes(&model, &mut paged, mode),
                    want,
                    "{model_type} {mode:?}"
                );
                // A copy of the blocks of a sequence is as good as they are.
                for (from, to) in [(7, 1), (2, 5)] {
                    paged.copy_block(from, to).expect("blocks");
                }
                let next = |table: &[u32], cache: &mut PagedCache| {
                    cache.set(0, table, 66);
                    let mut batch = Batch::new();
                    batch.push(0, &[9], 66, 66, Logits::All).expect("a batch");
                    let mut ctx = Context::new(cache).with_mode(mode);
                    let logits = model.forward(&batch, &mut ctx).expect("a pass");
                    logits.to_vec2::<f32>().expect("f32")
                };
                assert_eq!(next(&[1, 5], &mut paged), next(&[7, 2], &mut paged));
            }
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let model = small_model("internlm2");
        let mut cache = PagedCache::new(model.config(), KvDtype::F32, 2);
        assert!(cache.copy_block(0, 2).is_err());
        let mut pass = |slot, start, len| {
            let mut batch = Batch::new();
            let ids = vec![1; len];
            batch
                .push(slot, &ids, start, len, Logits::Last)
                .expect("a batch");
            model.forward(&batch, &mut Context::new(&mut cache)).is_ok()
        };
        assert!(!pass(0, 0, 1), "no blocks");
        cache.set(0, &[1], 0);
        let mut pass = |start, len| {
            let mut batch = Batch::new();
            let ids = vec![1; len];
            batch
                .push(0, &ids, start, len, Logits::Last)
                .expect("a batch");
            model.forward(&batch, &mut Context::new(&mut cache)).is_ok()
        };
        assert!(pass(0, 64));
        assert!(!pass(64, 1), "no room");
        assert!(pass(10, 1));
        assert!(!pass(12, 1), "a gap");
        cache.set(0, &[2], 0);
        let mut batch = Batch::new();
        batch.push(0, &[1], 0, 1, Logits::Last).expect("a batch");
        assert!(
            model
                .forward(&batch, &mut Context::new(&mut cache))
                .is_err()
        );
    }
}
