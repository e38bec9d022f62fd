//! Products of codes by tiles.

pub(super) mod bf16;
pub(super) mod int8;
