//! Folders of 8 bits with a scale per output, against plain arithmetic.

use std::collections::BTreeMap;

use candle_core::{DType, Tensor};
use internlm_kernels::Activation;
use internlm_model::batch::Logits;
use internlm_model::config::Config;
use internlm_model::{Batch, CausalLm, Context, Error, LoadConfig, QuantizationConfig};
use internlm_quant::Error as QuantError;
use safetensors::tensor::Dtype;
use serde_json::{Value, json};

use crate::checkpoint::*;
use crate::common::max_abs_diff;
use crate::torch_writer::torch_of;
use crate::words_writer::{Raw, words_folder};

fn exact() -> LoadConfig {
    options().with_packed_activation(Activation::F32)
}

fn logits(model: &CausalLm, ids: &[u32]) -> Vec<f32> {
    let mut cache = model.new_cache().unwrap();
    let mut batch = Batch::new();
    batch.push(0, ids, 0, ids.len(), Logits::All).unwrap();
    let out = model.forward(&batch, &mut Context::new(&mut cache));
    out.unwrap().to_vec2::<f32>().unwrap().concat()
}

fn quantization() -> Value {
    QuantizationConfig::int8().to_json()
}

fn floats(tensor: &Tensor) -> Vec<f32> {
    let tensor = tensor.to_dtype(DType::F32).unwrap();
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

/// The tensors of a random model, matrices of its layers as signed bytes; and what these stand for.
pub(crate) fn tensors(config: &Config, scales: Dtype) -> (Vec<Raw>, BTreeMap<String, Vec<f32>>) {
    let (mut raw, mut values) = (Vec::new(), BTreeMap::new());
    for (name, tensor) in random(config).tensors().unwrap() {
        let Some(module) = name
            .strip_suffix(".weight")
            .filter(|module| module.contains("layers.") && tensor.rank() == 2)
        else {
            let bytes = bytes_as(&tensor, Dtype::F32);
            raw.push((name, tensor.dims().to_vec(), Dtype::F32, bytes));
            continue;
        };
        let (rows, columns) = tensor.dims2().unwrap();
        let (mut bytes, mut steps, mut meant) = (Vec::new(), Vec::new(), Vec::new());
        for row in floats(&tensor).chunks(columns) {
            let most = row.iter().fold(0f32, |m, v| m.max(v.abs()));
            let step = half::f16::from_f32(most / 127.0).to_f32();
            steps.push(step);
            for value in row {
                let byte = (value / step).round().clamp(-128.0, 127.0) as i8;
                bytes.push(byte as u8);
                meant.push(f32::from(byte) * step);
            }
        }
        let steps: Vec<u8> = match scales {
            Dtype::F16 => steps
                .iter()
                .flat_map(|v| half::f16::from_f32(*v).to_le_bytes())
                .collect(),
            _ => steps.iter().flat_map(|v| v.to_le_bytes()).collect(),
        };
        raw.push((name.clone(), vec![rows, columns], Dtype::I8, bytes));
        raw.push((
            format!("{module}.weight_scale"),
            vec![rows, 1],
            scales,
            steps,
        ));
        values.insert(name, meant);
    }
    (raw, values)
}

#[test]
fn every_class_is_read_in_every_way() {
    for class in ["internlm", "internlm2", "internlm3", "llama", "qwen2"] {
        for scales in [Dtype::F32, Dtype::F16] {
            let at = tempfile::tempdir().unwrap();
            let config = config(class, json!({}));
            let (tensors, want) = tensors(&config, scales);
            let folder = words_folder(
                &at.path().join("m"),
                &config,
                Some(quantization()),
                &tensors,
            );
            let model = load_with(&folder, exact()).unwrap();
            assert!(model.is_packed(), "{class}");
            let got: BTreeMap<_, _> = model.tensors().unwrap().into_iter().collect();
            for (name, want) in &want {
                assert_eq!(&floats(&got[name]), want, "{class} {name}");
            }
            let dense = load_with(&folder, exact().with_packed(false)).unwrap();
            assert!(
                !dense.is_packed() && bits(&dense) == bits(&model),
                "{class}"
            );
            let in_tensors = load_with(&folder, exact().with_packed_tensors(true)).unwrap();
            assert!(
                in_tensors.is_packed() && bits(&in_tensors) == bits(&model),
                "{class}"
            );
            let ids = [1, 7, 20, 3, 39];
            let float = logits(&dense, &ids);
            let most = float.iter().fold(0f32, |m, v| m.max(v.abs()));
            let diff = max_abs_diff(&logits(&in_tensors, &ids), &float);
            assert!(diff <= 1e-5 * most, "{class}: {diff} of {most}");
            for (activation, tolerance) in [
                (Activation::F32, 1e-5),
                (Activation::Bf16, 3e-2),
                (Activation::Int8, 5e-2),
            ] {
                let options = options().with_packed_activation(activation);
                let model = load_with(&folder, options).unwrap();
                let diff = max_abs_diff(&logits(&model, &ids), &float);
                assert!(
                    diff <= tolerance * most,
                    "{class} {activation:?}: {diff} of {most}"
                );
            }
            let read = load_with(&folder, exact().with_mmap(false).with_threads(1)).unwrap();
            assert!(bits(&read) == bits(&model), "{class}");
            std::fs::remove_file(folder.join("model.safetensors")).unwrap();
            std::fs::write(folder.join("pytorch_model.bin"), torch_of(&tensors)).unwrap();
            let torch = load_with(&folder, exact()).unwrap();
            assert!(bits(&torch) == bits(&model), "{class}");
        }
    }
}

/// A changed folder is refused.
#[track_caller]
fn refused(quantization: Option<Value>, change: impl FnOnce(&mut Vec<Raw>)) -> Error {
    let at = tempfile::tempdir().unwrap();
    let config = config("llama", json!({}));
    let (mut tensors, _) = tensors(&config, Dtype::F32);
    change(&mut tensors);
    let folder = words_folder(at.path(), &config, quantization, &tensors);
    match load_with(&folder, exact()) {
        Err(error) => error,
        Ok(_) => panic!("was read"),
    }
}

const MODULE: &str = "model.layers.1.mlp.up_proj";

fn find<'a>(tensors: &'a mut [Raw], suffix: &str) -> &'a mut Raw {
    let name = format!("{MODULE}.{suffix}");
    tensors.iter_mut().find(|(n, ..)| *n == name).unwrap()
}

#[test]
fn what_lacks_or_does_not_fit_is_named() {
    let scale = format!("{MODULE}.weight_scale");
    let error = refused(Some(quantization()), |t| t.retain(|(n, ..)| *n != scale));
    assert!(
        matches!(&error, Error::MissingTensors { names, count: 1, .. } if *names == [scale.clone()]),
        "{error}"
    );
    let error = refused(Some(quantization()), |t| {
        find(t, "weight_scale").1.swap(0, 1)
    });
    assert!(
        matches!(&error, Error::TensorShape { name, .. } if *name == scale),
        "{error}"
    );
    let error = refused(Some(quantization()), |t| find(t, "weight").1.swap(0, 1));
    assert!(
        matches!(&error, Error::TensorShape { name, .. } if *name == format!("{MODULE}.weight")),
        "{error}"
    );
    let error = refused(Some(quantization()), |t| {
        find(t, "weight_scale").3[..4].copy_from_slice(&0f32.to_le_bytes());
    });
    assert!(
        matches!(&error, Error::Weight { at, source: QuantError::Codes { what: "scales", .. } } if at == MODULE),
        "{error}"
    );
    let error = refused(Some(quantization()), |t| {
        let (_, shape, dtype, bytes) = find(t, "weight_scale");
        (*dtype, *bytes) = (Dtype::I32, vec![1; 4 * shape[0]]);
    });
    assert!(
        matches!(&error, Error::Weight { at, source: QuantError::Dtype { what: "weight_scale", .. } } if at == MODULE),
        "{error}"
    );
    // Without its configuration, or under that of another method, it is a matrix of an unknown type.
    let gptq = json!({"quant_method": "gptq", "bits": 4, "group_size": 16});
    for other in [None, Some(gptq)] {
        let error = refused(other, |_| ());
        assert!(
            matches!(&error, Error::TensorType { got, .. } if got == "I8"),
            "{error}"
        );
    }
    let mut other = quantization();
    other["format"] = json!("pack-quantized");
    let error = refused(Some(other), |_| ());
    assert!(
        matches!(&error, Error::Config { field, .. } if field == "quantization_config"),
        "{error}"
    );
}

#[test]
fn random_models_of_8_bits_keep_variance() {
    let more = json!({"hidden_size": 256, "intermediate_size": 512});
    let mut config = config("llama", more);
    config.quantization = Some(QuantizationConfig::int8());
    let model = CausalLm::random(config, 1, exact()).unwrap();
    assert!(model.is_packed());
    for (name, tensor) in model.tensors().unwrap() {
        if name.contains("_proj") {
            let values = floats(&tensor);
            let square = values.iter().map(|v| v * v).sum::<f32>() / values.len() as f32;
            let variance = square * tensor.dim(1).unwrap() as f32;
            // The scales of a few rows decide.
            assert!((variance - 1.0).abs() < 0.3, "{name}: {variance}");
        }
    }
}
