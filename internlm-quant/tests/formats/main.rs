//! File formats against the checkpoints of the tools that define them, and against writers of plain
//! arithmetic.

mod awq;
mod common;
mod gptq;
mod quantization_config;
