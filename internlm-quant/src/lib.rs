//! Weights of the InternLM family: what a matrix looks like in memory, and the formats that it may
//! come from.
//!
//! [`Weight`] is the matrix of a linear layer together with its product; on the CPU it hands
//! candle's storage to the kernels of `internlm-kernels`. [`PackedWeight`] is one of 4 or 8 bits for these
//! kernels, [`PackedTensors`] the same for other devices.
//!
//! [`awq`], [`gptq`], [`int8`] and [`ggml`] turn what files hold into [`Codes`]: small integers with a scale and
//! a zero per group of inputs, from which packed weights are made. [`QuantizationConfig`] says which
//! of them a folder holds. [`nf4`] is the 4-bit type of QLoRA, [`kv`] the rows of a quantized cache.
//!
//! ```
//! use internlm_quant::candle::{Device, Tensor};
//! use internlm_quant::Weight;
//!
//! let weight = Weight::Dense(Tensor::new(&[[1f32, 0.], [0., 2.], [3., 3.]], &Device::Cpu)?);
//! let x = Tensor::new(&[[10f32, 20.]], &Device::Cpu)?;
//! let y = weight.matmul_tensor(&x, None)?;
//! assert_eq!(y.to_vec2::<f32>()?, [[10., 40., 90.]]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#![forbid(unsafe_code)]

pub mod awq;
pub mod calibrate;
mod codes;
pub mod error;
pub mod ggml;
pub mod gptq;
pub mod int8;
pub mod kv;
pub mod nf4;
mod nibbles;
mod packed;
mod packed_tensors;
mod parallel;
mod quantization_config;
pub mod quantize;
mod raw;
pub mod report;
pub mod rtn;
pub mod search;
mod stream;
mod weight;

pub use candle_core as candle;

pub use codes::{Codes, Zeros};
pub use error::{Error, Result};
pub use packed::{PackedBuilder, PackedWeight};
pub use packed_tensors::{PackedTensors, PackedTensorsBuilder};
pub use quantization_config::{QuantizationConfig, QuantizationMethod};
pub use raw::{RawDtype, RawTensor};
pub use stream::Stream;
pub use weight::Weight;
