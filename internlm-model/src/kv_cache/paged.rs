//! A cache of fixed size in blocks, which many sequences share.

use candle_core::Tensor;

use super::KvCache;
use super::host::{self, HostLayer, Place};
use super::pool::KvDtype;
use crate::batch::Batch;
use crate::config::Config;
use crate::context::{AttentionGeometry, Step};
use crate::error::{Error, Result};
use crate::ops::{from_rows, with_f32};

/// Keys and values in blocks of [`BLOCK_SIZE`](PagedCache::BLOCK_SIZE) tokens (PagedAttention, arXiv
/// 2309.06180), on the CPU.
///
/// It owns the memory, not the policy: whoever runs the model says by [`set`](PagedCache::set) which blocks a
/// slot has. Sequences may share blocks that none of them writes to.
#[derive(Debug)]
pub struct PagedCache {
    num_blocks: usize,
    layers: Vec<HostLayer>,
    sequences: Vec<Sequence>,
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
        let geometry = AttentionGeometry::of(config);
        let layer = |_| HostLayer::new(dtype, num_blocks, Self::BLOCK_SIZE, &geometry);
        Self {
            num_blocks,
            layers: (0..config.num_hidden_layers).map(layer).collect(),
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
    /// A block that is not there.
    pub fn copy_block(&mut self, from: u32, to: u32) -> Result<()> {
        let (from, to) = (from as usize, to as usize);
        if from.max(to) >= self.num_blocks {
            return Err(Error::Batch {
                what: format!("block {} of {}", from.max(to), self.num_blocks),
            });
        }
        for layer in &mut self.layers {
            layer.copy_block(from, to);
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
        if !step.uses_kernels(qkv.device()) {
            return Err(Error::Batch {
                what: "a paged cache serves inference on the CPU".to_owned(),
            });
        }
        let places: Vec<_> = step
            .batch
            .sequences()
            .map(|(slot, rows)| Place {
                rows,
                block_table: &self.sequences[slot].block_table,
            })
            .collect();
        let layer = &mut self.layers[layer];
        let out = with_f32(qkv, |qkv| {
            layer.store(step, qkv, &places)?;
            let layer = &*layer;
            let sequences: Vec<_> = places.into_iter().map(|place| (place, layer)).collect();
            host::attend(step, &host::queries(step, qkv), &sequences)
        })?;
        from_rows(out, step.batch.num_tokens(), qkv.device())
    }
}
