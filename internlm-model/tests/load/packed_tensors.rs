//! Packed matrices as other devices hold them, on the CPU: against the kernels' form and the goldens.

use candle_core::DType;
use internlm_kernels::Activation;
use internlm_model::context::Mode;
use internlm_model::load::{HeadWeights, Prepared};
use internlm_model::{CausalLm, LoadConfig, QuantizationConfig};
use serde_json::json;

use crate::blocks::{finer_values, wide, write};
use crate::checkpoint::*;
use crate::common::max_abs_diff;
use crate::goldens::{self, logits};
use crate::words_writer::*;

fn kernels() -> LoadConfig {
    options().with_packed_activation(Activation::F32)
}

fn in_tensors() -> LoadConfig {
    kernels().with_packed_tensors(true)
}

/// With all operations that another device would run (`Mode::Train`), and with the kernels around the products.
#[test]
fn goldens_of_autoawq_and_lmdeploy() {
    let modes = [Mode::Train, Mode::Infer];
    goldens::check(&in_tensors(), &modes, |folder, model, _| {
        let for_kernels = load_with(folder, kernels()).unwrap();
        assert!(bits(model) == bits(&for_kernels), "{}", folder.display());
    });
}

/// Embedding, head and all matrices packed, in segments where neighbours differ.
#[test]
fn a_gguf_file_with_a_tied_packed_head() {
    let at = tempfile::tempdir().unwrap();
    let file = at.path().join("model.gguf");
    let config = wide("qwen2", json!({"tie_word_embeddings": true}));
    write(&file, &config, finer_values);
    let want = load_with(&file, kernels()).unwrap();
    let dense = load_with(&file, kernels().with_packed(false)).unwrap();
    let ids = [1, 5, 9, 30, 2, 17, 8];
    for options in [in_tensors(), in_tensors().with_threads(1).with_mmap(false)] {
        let model = load_with(&file, options).unwrap();
        assert!(model.is_packed() && bits(&model) == bits(&want));
        assert!(model.weight_bytes() < dense.weight_bytes() / 3);
        for mode in [Mode::Train, Mode::Infer] {
            let (got, want) = (logits(&model, &ids, mode), logits(&dense, &ids, mode));
            let most = want.iter().fold(0f32, |most, v| most.max(v.abs()));
            assert!(max_abs_diff(&got, &want) <= 1e-4 * most, "{mode:?}");
        }
    }
}

#[test]
fn heads_and_random_models_have_the_form_too() {
    let at = tempfile::tempdir().unwrap();
    let config = config("llama", json!({"hidden_size": 64, "vocab_size": 301}));
    let path = folder(at.path(), "dense", &config);
    let mut quantized = config;
    quantized.quantization = Some(QuantizationConfig::awq(32));
    for head in [HeadWeights::Int8, HeadWeights::Int4] {
        let (want, got) = (kernels().with_head(head), in_tensors().with_head(head));
        let model = load_with(&path, got.clone()).unwrap();
        assert!(model.is_packed());
        assert!(bits(&model) == bits(&load_with(&path, want.clone()).unwrap()));
        // No random matrix depends on the form.
        let random = |options| CausalLm::random(quantized.clone(), 5, options).unwrap();
        assert!(bits(&random(got)) == bits(&random(want)));
    }
}

/// A prepared file has the order of the kernels, which is of no use here.
#[test]
fn nothing_is_prepared_and_without_packing_nothing_is_packed() {
    let at = tempfile::tempdir().unwrap();
    let config = config("llama", json!({}));
    let tensors = tensors(&config, Format::Awq, |_| true);
    let path = at.path().join("model");
    let folder = words_folder(&path, &config, Some(awq_json(json!({}))), &tensors);
    let file = at.path().join("kept");
    let prepared = in_tensors().with_prepared(Prepared::At(file.clone()));
    assert!(load_with(&folder, prepared).unwrap().is_packed());
    assert!(!file.exists());
    let dense = in_tensors().with_packed(false).with_dtype(DType::BF16);
    assert!(!load_with(&folder, dense).unwrap().is_packed());
}

/// A file is refused with the path of the module, as for the kernels.
#[test]
fn errors_name_the_module() {
    let at = tempfile::tempdir().unwrap();
    let config = config("llama", json!({}));
    let mut tensors = tensors(&config, Format::Awq, |_| true);
    let module = "model.layers.1.mlp.up_proj";
    let name = format!("{module}.scales");
    let scales = tensors.iter_mut().find(|(n, ..)| *n == name).unwrap();
    scales.3[..2].copy_from_slice(&half::f16::NAN.to_le_bytes());
    let path = at.path().join("model");
    let folder = words_folder(&path, &config, Some(awq_json(json!({}))), &tensors);
    let error = load_with(&folder, in_tensors()).unwrap_err();
    assert!(
        matches!(&error, internlm_model::Error::Weight { at, .. } if at == module),
        "{error}"
    );
}
