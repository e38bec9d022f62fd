//! Folders of AWQ and GPTQ, against the logits of their makers and against dense weights.

use std::path::Path;

use candle_core::DType;
use internlm_kernels::Activation;
use internlm_model::context::Mode;
use internlm_model::{CausalLm, Error, LoadConfig};
use internlm_quant::Error as QuantError;
use safetensors::tensor::Dtype;
use serde_json::{Value, json};

use crate::checkpoint::*;
use crate::common::max_abs_diff;
use crate::goldens::{self, values};
use crate::torch_writer::torch_of;
use crate::words_writer::*;

fn exact() -> LoadConfig {
    options().with_packed_activation(Activation::F32)
}

fn logits(model: &CausalLm, ids: &[u32]) -> Vec<f32> {
    goldens::logits(model, ids, Mode::Infer)
}

#[test]
fn goldens_of_autoawq_and_lmdeploy() {
    goldens::check(&exact(), &[Mode::Infer], |folder, model, ids| {
        let dense = load_with(folder, exact().with_packed(false)).unwrap();
        assert!(!dense.is_packed());
        assert!(bits(&dense) == bits(model), "{}", folder.display());
        let alone = exact().with_mmap(false).with_threads(1);
        let alone = load_with(folder, alone).unwrap();
        assert_eq!(logits(&alone, &ids[0]), logits(model, &ids[0]));
    });
}

/// The same folder as `pytorch_model.bin`.
fn as_torch(folder: &Path, tensors: &[Raw]) {
    std::fs::remove_file(folder.join("model.safetensors")).unwrap();
    std::fs::write(folder.join("pytorch_model.bin"), torch_of(tensors)).unwrap();
}

#[track_caller]
fn check(class: &str, more: Value, format: Format, quantization: Value) {
    let at = tempfile::tempdir().unwrap();
    let config = config(class, more);
    let excluded: Vec<String> =
        serde_json::from_value(quantization["modules_to_not_convert"].clone()).unwrap_or_default();
    let packed = |module: &str| !excluded.iter().any(|text| module.contains(text.as_str()));
    let tensors = tensors(&config, format, packed);
    let path = at.path().join("packed");
    let folder = words_folder(&path, &config, Some(quantization), &tensors);
    let model = load_with(&folder, exact()).unwrap();
    assert!(model.is_packed());

    let dense = load_with(&folder, exact().with_packed(false)).unwrap();
    assert!(!dense.is_packed());
    assert!(bits(&model) == bits(&dense));
    let in_tensors = load_with(&folder, exact().with_packed_tensors(true)).unwrap();
    assert!(in_tensors.is_packed() && bits(&in_tensors) == bits(&dense));
    // A dense folder of the same values computes the same.
    let saved = folder_of(&at.path().join("dense"), &config, dense.tensors().unwrap());
    let saved = load(&saved).unwrap();
    assert!(saved.config().quantization.is_none());
    let ids = [1, 7, 20, 3, 39];
    for model in [&model, &in_tensors] {
        assert!(max_abs_diff(&logits(model, &ids), &logits(&saved, &ids)) < 1e-4);
    }
    // What was rounded is near what it was rounded from.
    let random = random(&config);
    for ((name, ours), (_, from)) in model
        .tensors()
        .unwrap()
        .iter()
        .zip(random.tensors().unwrap())
    {
        let most = values(&from).iter().fold(0f32, |m, v| m.max(v.abs()));
        let scattered = matches!(format, Format::Gptq { desc_act: true });
        let diff = max_abs_diff(&values(ours), &values(&from));
        assert!(scattered || diff <= 0.1 * most, "{name}: {diff} of {most}");
    }

    as_torch(&folder, &tensors);
    for options in [exact(), exact().with_mmap(false).with_threads(1)] {
        let torch = load_with(&folder, options).unwrap();
        assert!(bits(&torch) == bits(&model));
        assert_eq!(logits(&torch, &ids), logits(&model, &ids));
    }
}

fn gptq_json(desc_act: bool) -> Value {
    json!({"quant_method": "gptq", "bits": 4, "group_size": GROUP, "desc_act": desc_act, "sym": false})
}

#[test]
fn awq_in_every_class() {
    for class in ["internlm", "internlm2", "internlm3", "llama", "qwen2"] {
        check(class, json!({}), Format::Awq, awq_json(json!({})));
    }
}

#[test]
fn parts_that_end_inside_of_a_tile() {
    let heads = json!({"head_dim": 24, "num_attention_heads": 2, "num_key_value_heads": 1});
    check("llama", heads.clone(), Format::Awq, awq_json(json!({})));
    check("qwen2", heads, Format::Awq, awq_json(json!({})));
}

#[test]
fn gptq_with_and_without_another_order() {
    for desc_act in [false, true] {
        let format = Format::Gptq { desc_act };
        check(
            "llama",
            json!({"attention_bias": true}),
            format,
            gptq_json(desc_act),
        );
        check("internlm2", json!({}), format, gptq_json(desc_act));
    }
}

#[test]
fn modules_that_are_not_converted_are_dense() {
    for excluded in [
        json!(["v_proj"]),
        json!(["up_proj", "layers.1"]),
        json!(["q_proj", "down"]),
    ] {
        let quantization = awq_json(json!({"modules_to_not_convert": excluded}));
        check("qwen2", json!({}), Format::Awq, quantization);
    }
}

#[test]
fn dtypes_are_for_what_is_dense() {
    let at = tempfile::tempdir().unwrap();
    let config = config("llama", json!({}));
    let tensors = tensors(&config, Format::Awq, |_| true);
    let folder = words_folder(at.path(), &config, Some(awq_json(json!({}))), &tensors);
    let model = load_with(&folder, options().with_dtype(DType::BF16)).unwrap();
    assert!(model.is_packed());
    assert_eq!(bits(&model)["lm_head.weight"].1, DType::BF16);
    let dense = options().with_dtype(DType::BF16).with_packed(false);
    let dense = bits(&load_with(&folder, dense).unwrap());
    assert_eq!(dense["model.layers.0.mlp.up_proj.weight"].1, DType::BF16);
}

#[track_caller]
fn refused(quantization: Option<Value>, change: impl FnOnce(&mut Vec<Raw>)) -> Error {
    let at = tempfile::tempdir().unwrap();
    let config = config("llama", json!({}));
    let mut tensors = tensors(&config, Format::Awq, |_| true);
    change(&mut tensors);
    let folder = words_folder(at.path(), &config, quantization, &tensors);
    load_with(&folder, exact()).expect_err("it is refused")
}

const MODULE: &str = "model.layers.1.mlp.up_proj";

fn find<'a>(tensors: &'a mut [Raw], suffix: &str) -> &'a mut Raw {
    let name = format!("{MODULE}.{suffix}");
    tensors.iter_mut().find(|(n, ..)| *n == name).unwrap()
}

#[test]
fn what_lacks_or_does_not_fit_is_named() {
    let awq = || Some(awq_json(json!({})));
    for suffix in ["qzeros", "scales"] {
        let name = format!("{MODULE}.{suffix}");
        let error = refused(awq(), |tensors| tensors.retain(|(n, ..)| *n != name));
        assert!(
            matches!(&error, Error::MissingTensors { names, count: 1, .. } if *names == [name]),
            "{error}"
        );
    }
    let weight = format!("{MODULE}.weight");
    let error = refused(awq(), |tensors| {
        tensors.retain(|(n, ..)| !n.starts_with(MODULE));
    });
    assert!(matches!(&error, Error::MissingTensors { names, .. } if *names == [weight]));

    for suffix in ["qweight", "qzeros", "scales"] {
        let error = refused(awq(), |tensors| find(tensors, suffix).1.swap(0, 1));
        let name = format!("{MODULE}.{suffix}");
        assert!(
            matches!(&error, Error::TensorShape { name: n, .. } if *n == name),
            "{error}"
        );
    }
    let error = refused(awq(), |tensors| {
        let (_, _, dtype, _) = find(tensors, "qweight");
        *dtype = Dtype::F32;
    });
    assert!(
        matches!(&error, Error::Weight { at, source: QuantError::Dtype { .. } } if at == MODULE),
        "{error}"
    );
    let error = refused(awq(), |tensors| {
        find(tensors, "scales").3[..2].copy_from_slice(&half::f16::NAN.to_le_bytes());
    });
    assert!(
        matches!(&error, Error::Weight { at, source: QuantError::Codes { what: "scales", .. } } if at == MODULE),
        "{error}"
    );
}

#[test]
fn configurations_that_do_not_fit_are_refused() {
    let error = refused(None, |_| ());
    assert!(
        matches!(
            &error,
            Error::Weight {
                source: QuantError::Missing { .. },
                ..
            }
        ),
        "{error}"
    );
    let error = refused(Some(awq_json(json!({"group_size": 48}))), |_| ());
    assert!(
        matches!(
            &error,
            Error::Weight {
                source: QuantError::GroupSize { .. },
                ..
            }
        ),
        "{error}"
    );
    for wrong in [
        json!({"bits": 3}),
        json!({"quant_method": "aqlm"}),
        json!({"version": "gemv"}),
    ] {
        let error = refused(Some(awq_json(wrong)), |_| ());
        assert!(
            matches!(&error, Error::Config { field, .. } if field == "quantization_config"),
            "{error}"
        );
    }
}

#[test]
fn progress_counts_words() {
    let at = tempfile::tempdir().unwrap();
    let config = config("llama", json!({}));
    let tensors = tensors(&config, Format::Awq, |_| true);
    let folder = words_folder(at.path(), &config, Some(awq_json(json!({}))), &tensors);
    let last = std::sync::Arc::new(std::sync::Mutex::new(None));
    let seen = last.clone();
    let options =
        options().with_on_progress(move |progress| *seen.lock().unwrap() = Some(progress));
    load_with(&folder, options).unwrap();
    let last = last.lock().unwrap().unwrap();
    assert_eq!(
        (last.tensors, last.total_tensors),
        (tensors.len(), tensors.len())
    );
    let bytes: usize = tensors.iter().map(|(.., data)| data.len()).sum();
    assert_eq!((last.bytes, last.total_bytes), (bytes as u64, bytes as u64));
}

#[test]
fn random_packed_models_depend_on_the_seed_and_keep_variance() {
    let mut config = config(
        "llama",
        json!({"hidden_size": 256, "intermediate_size": 512}),
    );
    config.quantization = Some(internlm_model::QuantizationConfig::awq(128));
    let model = |seed, threads| {
        CausalLm::random(config.clone(), seed, exact().with_threads(threads)).unwrap()
    };
    let one = model(1, 1);
    assert!(one.is_packed());
    assert!(bits(&one) == bits(&model(1, 2)));
    assert!(bits(&one) != bits(&model(2, 2)));
    for (name, tensor) in one.tensors().unwrap() {
        if name.contains("_proj") {
            let values = values(&tensor);
            let square = values.iter().map(|v| v * v).sum::<f32>() / values.len() as f32;
            let columns = tensor.dim(1).unwrap() as f32;
            assert!(
                (square * columns - 1.0).abs() < 0.1,
                "{name}: {}",
                square * columns
            );
        }
    }
}
