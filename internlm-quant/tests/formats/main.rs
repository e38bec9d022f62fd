//! File formats against the checkpoints of the tools that define them, and against writers of plain
//! arithmetic.

mod awq;
mod common;
mod ggml_codes;
mod gptq;
mod int8;
mod kv;
mod nf4;
mod quantization_config;
