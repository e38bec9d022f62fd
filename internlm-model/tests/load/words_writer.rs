//! Writes folders of AWQ and GPTQ.

use std::path::{Path, PathBuf};

use candle_core::{DType, Tensor};
use internlm_model::config::Config;
use internlm_quant::awq::AwqTensors;
use internlm_quant::{Codes, RawDtype, Zeros};
use safetensors::tensor::Dtype;
use serde_json::{Value, json};

use crate::checkpoint::*;

/// Name, shape, dtype and bytes of a tensor in a file.
pub(crate) type Raw = (String, Vec<usize>, Dtype, Vec<u8>);

/// How modules of the layers are written.
#[derive(Clone, Copy)]
pub(crate) enum Format {
    Awq,
    /// With or without inputs in another order.
    Gptq {
        desc_act: bool,
    },
}

/// Inputs of a group.
pub(crate) const GROUP: usize = 16;

/// The tensors of a random model: those of `packed` modules as words, all others dense.
pub(crate) fn tensors(config: &Config, format: Format, packed: impl Fn(&str) -> bool) -> Vec<Raw> {
    let mut raw = Vec::new();
    for (name, tensor) in random(config).tensors().unwrap() {
        let module = name.strip_suffix(".weight").unwrap_or_default();
        if tensor.rank() == 2 && module.contains("layers.") && packed(module) {
            let codes = rounded(&tensor);
            match format {
                Format::Awq => raw.extend(awq(module, &codes)),
                Format::Gptq { desc_act } => raw.extend(gptq(module, &codes, desc_act)),
            }
        } else {
            let bytes = bytes_as(&tensor, Dtype::F32);
            raw.push((name, tensor.dims().to_vec(), Dtype::F32, bytes));
        }
    }
    raw
}

/// The folder of some tensors.
pub(crate) fn words_folder(
    path: &Path,
    config: &Config,
    quantization: Option<Value>,
    tensors: &[Raw],
) -> PathBuf {
    std::fs::create_dir_all(path).unwrap();
    let mut json = config.to_json();
    if let Some(quantization) = quantization {
        json["quantization_config"] = quantization;
    }
    std::fs::write(path.join("config.json"), json.to_string()).unwrap();
    write_safetensors(&path.join("model.safetensors"), tensors);
    path.to_path_buf()
}

pub(crate) fn awq_json(more: Value) -> Value {
    let mut json =
        json!({"quant_method": "awq", "bits": 4, "group_size": GROUP, "zero_point": true});
    json.as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    json
}

/// Each group rounded to 4 bits between its least and its greatest value.
fn rounded(weight: &Tensor) -> Codes {
    let (rows, columns) = weight.dims2().unwrap();
    let values = weight.to_dtype(DType::F32).unwrap();
    let values = values.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let (mut codes, mut scales, mut points) = (Vec::new(), Vec::new(), Vec::new());
    for group in values.chunks(GROUP) {
        let least = group.iter().fold(0f32, |a, &b| a.min(b));
        let most = group.iter().fold(0f32, |a, &b| a.max(b));
        let scale = RawDtype::F16.round((most - least).max(1e-3) / 15.0);
        let point = (-least / scale).round().clamp(0.0, 15.0);
        let code = |v: &f32| (v / scale + point).round().clamp(0.0, 15.0) as u8;
        codes.extend(group.iter().map(code));
        scales.push(scale);
        points.push(point as u8);
    }
    Codes {
        rows,
        columns,
        bits: 4,
        group_size: GROUP,
        codes,
        scales,
        zeros: Zeros::Points(points),
        order: None,
    }
}

fn awq(module: &str, codes: &Codes) -> Vec<Raw> {
    let named = AwqTensors::from_codes(codes, RawDtype::F16)
        .unwrap()
        .named(module);
    let raw = named.into_iter().map(|(name, tensor)| {
        let dtype = match tensor.dtype {
            RawDtype::I32 => Dtype::I32,
            _ => Dtype::F16,
        };
        (name, tensor.shape, dtype, tensor.bytes.into_owned())
    });
    raw.collect()
}

/// Words of eight inputs, zero points less one. With `desc_act`, input `k` is in group
/// `k % groups`: codes of a group are spread over the row.
fn gptq(module: &str, codes: &Codes, desc_act: bool) -> Vec<Raw> {
    let (rows, columns, groups) = (codes.rows, codes.columns, codes.groups());
    let group = |k: usize| if desc_act { k % groups } else { k / GROUP };
    let Zeros::Points(points) = &codes.zeros else {
        panic!("points")
    };
    let word = |nibble: &dyn Fn(usize) -> u8| {
        let nibbles = (0..8).map(|i| u32::from(nibble(i) & 15) << (4 * i));
        nibbles.fold(0, |all, nibble| all | nibble).to_le_bytes()
    };
    let mut qweight = Vec::new();
    for line in 0..columns / 8 {
        for row in 0..rows {
            qweight.extend(word(&|i| codes.codes[row * columns + 8 * line + i]));
        }
    }
    let (mut qzeros, mut scales) = (Vec::new(), Vec::new());
    for group in 0..groups {
        for line in 0..rows / 8 {
            let point = |i| points[(8 * line + i) * groups + group];
            qzeros.extend(word(&|i| point(i).wrapping_sub(1)));
        }
        for row in 0..rows {
            scales.extend(half::f16::from_f32(codes.scales[row * groups + group]).to_le_bytes());
        }
    }
    let g_idx = (0..columns).flat_map(|k| (group(k) as i32).to_le_bytes());
    let named = |suffix: &str| format!("{module}.{suffix}");
    vec![
        (
            named("qweight"),
            vec![columns / 8, rows],
            Dtype::I32,
            qweight,
        ),
        (named("qzeros"), vec![groups, rows / 8], Dtype::I32, qzeros),
        (named("scales"), vec![groups, rows], Dtype::F16, scales),
        (named("g_idx"), vec![columns], Dtype::I32, g_idx.collect()),
    ]
}
