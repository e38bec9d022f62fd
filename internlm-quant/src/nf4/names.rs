//! NF4 tensors by the names of a bitsandbytes checkpoint.

use std::borrow::Cow;

use serde_json::{Value, json};

use super::{Absmax, DoubleAbsmax, Nf4Tensor, fail};
use crate::error::{Error, Result};
use crate::raw::{RawDtype, RawTensor};

/// The end of the name of the JSON that describes a tensor.
const STATE: &str = "quant_state.bitsandbytes__nf4";

impl Nf4Tensor {
    /// The tensors of `<module>.weight`: itself, `.absmax`, `.quant_map`, `.nested_absmax` and
    /// `.nested_quant_map` under double quantization, and `.quant_state.bitsandbytes__nf4`, the
    /// bytes of a JSON object.
    pub fn named(&self, weight: &str) -> Vec<(String, RawTensor<'static>)> {
        let floats =
            |values: &[f32]| RawTensor::floats(RawDtype::F32, [values.len()], values.to_vec());
        let bytes = |bytes: &[u8]| RawTensor::new(RawDtype::U8, [bytes.len()], bytes.to_vec());
        let mut state = json!({
            "quant_type": "nf4",
            "blocksize": self.block_size,
            "dtype": torch_name(self.dtype),
            "shape": self.shape,
        });
        let packed = RawTensor::new(RawDtype::U8, [self.packed.len(), 1], self.packed.clone());
        let at = |name: &str| format!("{weight}.{name}");
        let mut tensors = vec![
            (weight.to_owned(), packed),
            (at("quant_map"), floats(&self.values)),
        ];
        match &self.absmax {
            Absmax::Plain(absmax) => tensors.push((at("absmax"), floats(absmax))),
            Absmax::Double(double) => {
                tensors.push((at("absmax"), bytes(&double.codes)));
                tensors.push((at("nested_absmax"), floats(&double.absmax)));
                tensors.push((at("nested_quant_map"), floats(&double.values)));
                state["nested_blocksize"] = json!(double.block_size);
                state["nested_dtype"] = json!("float32");
                state["nested_offset"] = json!(double.offset);
            }
        }
        tensors.push((at(STATE), bytes(state.to_string().as_bytes())));
        tensors
    }

    /// Reads the tensors of `<module>.weight`, which `find` gives by name.
    ///
    /// # Errors
    /// [`Error::Missing`], tensors of another dtype or shape, a state that is not JSON or lacks a
    /// key, and what [`check`](Nf4Tensor::check) refuses.
    pub fn from_named<'a>(
        weight: &str,
        mut find: impl FnMut(&str) -> Option<RawTensor<'a>>,
    ) -> Result<Self> {
        let mut tensor = |name: &str| {
            let name = match name {
                "" => weight.to_owned(),
                name => format!("{weight}.{name}"),
            };
            find(&name).ok_or(Error::Missing {
                what: name,
                why: "an NF4 tensor has it",
            })
        };
        let state = State::parse(&bytes("quant_state", tensor(STATE)?)?)?;
        let absmax = tensor("absmax")?;
        let absmax = match state.nested {
            None => Absmax::Plain(floats("absmax", &absmax)?),
            Some((block_size, offset)) => Absmax::Double(DoubleAbsmax {
                codes: bytes("absmax", absmax)?,
                values: floats("nested_quant_map", &tensor("nested_quant_map")?)?,
                offset,
                block_size,
                absmax: floats("nested_absmax", &tensor("nested_absmax")?)?,
            }),
        };
        let map = floats("quant_map", &tensor("quant_map")?)?;
        let Ok(values) = <[f32; 16]>::try_from(map.as_slice()) else {
            return fail("quant_map", format!("{} elements, expected 16", map.len()));
        };
        let tensor = Self {
            shape: state.shape,
            dtype: state.dtype,
            packed: bytes("packed", tensor("")?)?,
            block_size: state.block_size,
            values,
            absmax,
        };
        tensor.check()?;
        Ok(tensor)
    }
}

/// What the JSON says.
struct State {
    dtype: RawDtype,
    shape: Vec<usize>,
    block_size: usize,
    /// Block size and offset of double quantization.
    nested: Option<(usize, f32)>,
}

impl State {
    fn parse(bytes: &[u8]) -> Result<Self> {
        let state: Value = match serde_json::from_slice(bytes) {
            Ok(state) => state,
            Err(error) => return fail("quant_state", error.to_string()),
        };
        let wrong = |key: &str| fail("quant_state", format!("`{key}` is {}", state[key]));
        let size = |key: &str| state[key].as_u64().and_then(|n| usize::try_from(n).ok());
        let sizes = |value: &Value| -> Option<Vec<usize>> {
            let sizes = value.as_array()?.iter();
            sizes.map(|n| usize::try_from(n.as_u64()?).ok()).collect()
        };
        if state["quant_type"] != "nf4" {
            return wrong("quant_type");
        }
        let dtypes = [RawDtype::F32, RawDtype::F16, RawDtype::Bf16];
        let Some(dtype) = dtypes
            .into_iter()
            .find(|&d| state["dtype"] == torch_name(d))
        else {
            return wrong("dtype");
        };
        let Some(shape) = sizes(&state["shape"]) else {
            return wrong("shape");
        };
        let Some(block_size) = size("blocksize") else {
            return wrong("blocksize");
        };
        let nested = if state["nested_blocksize"].is_null() {
            None
        } else {
            let Some(block_size) = size("nested_blocksize") else {
                return wrong("nested_blocksize");
            };
            // An f32 that JSON holds as a double.
            let Some(offset) = state["nested_offset"].as_f64() else {
                return wrong("nested_offset");
            };
            Some((block_size, offset as f32))
        };
        Ok(Self {
            dtype,
            shape,
            block_size,
            nested,
        })
    }
}

/// The name that torch gives a dtype.
fn torch_name(dtype: RawDtype) -> &'static str {
    match dtype {
        RawDtype::U8 => "uint8",
        RawDtype::I8 => "int8",
        RawDtype::I32 => "int32",
        RawDtype::F16 => "float16",
        RawDtype::Bf16 => "bfloat16",
        RawDtype::F32 => "float32",
    }
}

fn bytes(what: &'static str, tensor: RawTensor<'_>) -> Result<Vec<u8>> {
    tensor.check_as(what, RawDtype::U8, &tensor.shape)?;
    Ok(match tensor.bytes {
        Cow::Borrowed(bytes) => bytes.to_vec(),
        Cow::Owned(bytes) => bytes,
    })
}

fn floats(what: &'static str, tensor: &RawTensor<'_>) -> Result<Vec<f32>> {
    tensor.check_as(what, RawDtype::F32, &tensor.shape)?;
    let values = tensor.words().iter();
    Ok(values.map(|word| f32::from_le_bytes(*word)).collect())
}
