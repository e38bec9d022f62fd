//! Adapters that become a part of the weights.

use super::CausalLm;
use crate::adapter::{Base, LoraAdapter};
use crate::decoder::Layer;
use crate::error::Result;

impl CausalLm {
    /// Adds an adapter to the weights for good: afterwards the base computes what it computed with
    /// the adapter, up to rounding. Weights keep their dtype, so those of bf16 and f16 are rounded again.
    ///
    /// # Errors
    /// An adapter of another network, or one of a module that is packed
    /// ([`LoadConfig::with_packed`](crate::LoadConfig::with_packed) loads it dense); nothing is changed
    /// then. A failed operation.
    pub fn merge(&mut self, adapter: &LoraAdapter) -> Result<()> {
        adapter.expect_base(&Base::of(&self.config))?;
        for linear in self.layers.iter().flat_map(Layer::linears) {
            linear.expect_mergeable(adapter)?;
        }
        self.head.expect_mergeable(adapter)?;
        for layer in &mut self.layers {
            layer.merge(adapter)?;
        }
        self.head.merge(adapter)
    }
}
