//! What a forward pass needs besides weights and tokens.

use candle_core::Device;
use internlm_kernels::{Activation, Compute};

use crate::adapter::{AdapterSet, RowAdapters};
use crate::batch::Batch;
use crate::buffers::Buffers;
use crate::kv_cache::KvCache;
use crate::rope::RopeTable;

/// Which operations a pass is made of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Our own kernels on the CPU, candle's operations on other devices.
    #[default]
    Infer,
    /// Candle's differentiable operations everywhere.
    Train,
}

/// The state of a pass: everything that is not weights or tokens.
#[non_exhaustive]
pub struct Context<'a> {
    /// Keys and values of earlier tokens; the pass adds its own.
    pub cache: &'a mut dyn KvCache,
    /// Which operations to use.
    pub mode: Mode,
    /// The adapters that the batch's sequences choose from.
    pub adapters: Option<&'a AdapterSet>,
}

impl<'a> Context<'a> {
    /// A context for inference over a cache.
    pub fn new(cache: &'a mut dyn KvCache) -> Self {
        Self {
            cache,
            mode: Mode::Infer,
            adapters: None,
        }
    }

    /// Sets the mode.
    #[must_use]
    pub fn with_mode(mut self, mode: Mode) -> Self {
        self.mode = mode;
        self
    }

    /// Sets the adapters that sequences choose from by [`Batch::set_adapter`].
    #[must_use]
    pub fn with_adapters(mut self, adapters: &'a AdapterSet) -> Self {
        self.adapters = Some(adapters);
        self
    }
}

/// Heads and their sizes, and where they lie in a row of the fused qkv projection.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct AttentionGeometry {
    /// Query heads.
    pub num_attention_heads: usize,
    /// Key and value heads; divides the query heads.
    pub num_key_value_heads: usize,
    /// Elements of a head; even.
    pub head_dim: usize,
    /// The order of heads in a row.
    pub qkv_layout: crate::config::QkvLayout,
    /// Keys are cached before rotation and every query rotates them all with its own base
    /// (InternLM 1 under dynamic NTK; `modeling_internlm.py` of InternEvo).
    pub keeps_raw_keys: bool,
}

impl AttentionGeometry {
    /// Of a configuration.
    pub fn of(config: &crate::Config) -> Self {
        Self {
            num_attention_heads: config.num_attention_heads,
            num_key_value_heads: config.num_key_value_heads,
            head_dim: config.head_dim,
            qkv_layout: config.qkv_layout(),
            keeps_raw_keys: config.keeps_raw_keys(),
        }
    }

    /// Elements of a row: all query, key and value heads.
    pub fn qkv_dim(&self) -> usize {
        (self.num_attention_heads + 2 * self.num_key_value_heads) * self.head_dim
    }

    /// Query heads that share a key head.
    pub fn group_size(&self) -> usize {
        self.num_attention_heads / self.num_key_value_heads
    }

    /// Where query head `head` begins in a row.
    pub fn q_offset(&self, head: usize) -> usize {
        use crate::config::QkvLayout;
        self.head_dim
            * match self.qkv_layout {
                QkvLayout::Interleaved => head + 2 * (head / self.group_size()),
                QkvLayout::Separate => head,
            }
    }

    /// Where key head `head` begins in a row.
    pub fn k_offset(&self, head: usize) -> usize {
        use crate::config::QkvLayout;
        self.head_dim
            * match self.qkv_layout {
                QkvLayout::Interleaved => (head + 1) * (self.group_size() + 2) - 2,
                QkvLayout::Separate => self.num_attention_heads + head,
            }
    }

    /// Where value head `head` begins in a row.
    pub fn v_offset(&self, head: usize) -> usize {
        use crate::config::QkvLayout;
        self.head_dim
            * match self.qkv_layout {
                QkvLayout::Interleaved => (head + 1) * (self.group_size() + 2) - 1,
                QkvLayout::Separate => self.num_attention_heads + self.num_key_value_heads + head,
            }
    }
}

/// What all layers of one pass share.
#[derive(Clone, Copy)]
#[non_exhaustive]
pub struct Step<'a> {
    /// The tokens.
    pub batch: &'a Batch,
    /// Rotations of the tokens.
    pub rope: &'a RopeTable,
    /// Heads of a layer.
    pub geometry: &'a AttentionGeometry,
    /// Kernels and their threads.
    pub compute: &'a Compute,
    /// How activations are rounded before a product with a dense matrix.
    pub activation: Activation,
    /// How activations are rounded before a product with a packed matrix.
    pub packed_activation: Activation,
    /// How attention may round: as the projection before it.
    pub attention_activation: Activation,
    /// Which operations to use.
    pub mode: Mode,
    /// Adapters by row; none where no row has one.
    pub(crate) adapters: Option<&'a RowAdapters<'a>>,
    /// Memory for results.
    pub(crate) buffers: &'a Buffers,
}

impl Step<'_> {
    /// Whether tensors on this device go through our kernels.
    pub fn uses_kernels(&self, device: &Device) -> bool {
        device.is_cpu() && self.mode == Mode::Infer
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::QkvLayout;

    fn offsets(qkv_layout: QkvLayout) -> Vec<usize> {
        let geometry = AttentionGeometry {
            num_attention_heads: 4,
            num_key_value_heads: 2,
            head_dim: 10,
            qkv_layout,
            keeps_raw_keys: false,
        };
        assert_eq!(geometry.qkv_dim(), 80);
        (0..4)
            .map(|h| geometry.q_offset(h))
            .chain((0..2).map(|h| geometry.k_offset(h)))
            .chain((0..2).map(|h| geometry.v_offset(h)))
            .collect()
    }

    #[test]
    fn heads_of_separate_projections_follow_each_other() {
        assert_eq!(
            offsets(QkvLayout::Separate),
            [0, 10, 20, 30, 40, 50, 60, 70]
        );
    }

    #[test]
    fn heads_of_interleaved_projections_come_by_group() {
        assert_eq!(
            offsets(QkvLayout::Interleaved),
            [0, 10, 40, 50, 20, 60, 30, 70]
        );
    }
}
