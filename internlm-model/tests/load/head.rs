//! Embeddings and heads that are rounded while they are loaded.

use std::path::Path;

use candle_core::{Device, Tensor};
use internlm_kernels::Activation;
use internlm_model::config::Config;
use internlm_model::load::{HeadWeights, Prepared};
use internlm_model::{Error, LoadConfig};
use internlm_quant::Error as QuantError;
use safetensors::tensor::Dtype;
use serde_json::json;

use crate::blocks::logits;
use crate::checkpoint::*;
use crate::common::{max_abs_diff, shared};
use crate::words_writer::*;

fn with(head: HeadWeights) -> LoadConfig {
    let options = options().with_packed_activation(Activation::F32);
    options.with_head(head)
}

fn rows(tensor: &Tensor) -> Vec<Vec<f32>> {
    let tensor = tensor.to_dtype(candle_core::DType::F32).unwrap();
    tensor.to_vec2().unwrap()
}

/// Checks values that were rounded in groups, by what rounding to nearest means.
#[track_caller]
fn check_rounded(head: HeadWeights, group: usize, got: &Tensor, from: &Tensor) {
    let (got, from) = (rows(got), rows(from));
    let groups = |rows: &[Vec<f32>]| -> Vec<Vec<f32>> {
        let groups = rows.iter().flat_map(|row| row.chunks(group));
        groups.map(<[f32]>::to_vec).collect()
    };
    for (got, from) in groups(&got).iter().zip(groups(&from)) {
        let low = from.iter().copied().fold(f32::INFINITY, f32::min);
        let high = from.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        // The distance of two codes, and how far off a value may be: half of it, as much again where a
        // zero point moves the ends, and what the scale is off in half precision, 2⁻¹¹ of each of 127 steps.
        let (step, most) = match head {
            HeadWeights::Int8 => (high.max(-low) / 127.0, 0.57),
            _ => ((high - low) / 15.0, 1.02),
        };
        let stored = half::f16::from_f32(step).to_f32();
        for (got, from) in got.iter().zip(&from) {
            assert!(
                (got - from).abs() <= most * step,
                "{got} for {from}, {step}"
            );
            let code = got / stored;
            assert!(
                (code - code.round()).abs() < 1e-3,
                "{got} of steps of {stored}"
            );
        }
    }
}

#[track_caller]
fn check(path: &Path, config: &Config, group: [usize; 2]) {
    let stored = load_with(path, with(HeadWeights::Stored)).unwrap();
    let from: std::collections::BTreeMap<_, _> = stored.tensors().unwrap().into_iter().collect();
    let names = config.weight_names();
    let names = [names.embed_tokens, names.head].map(|path| format!("{path}.weight"));
    let rounded = &names[..if config.tie_word_embeddings { 1 } else { 2 }];
    for (head, group) in [HeadWeights::Int8, HeadWeights::Int4]
        .into_iter()
        .zip(group)
    {
        let model = load_with(path, with(head)).unwrap();
        assert!(model.is_packed() && model.weight_bytes() < stored.weight_bytes());
        let tensors = model.tensors().unwrap();
        assert_eq!(tensors.len(), from.len());
        for (name, tensor) in &tensors {
            if rounded.contains(name) {
                check_rounded(head, group, tensor, &from[name]);
            } else {
                assert_eq!(bits_of(tensor), bits_of(&from[name]), "{name}");
            }
        }
        // What it computes is what a dense model of these values computes.
        let at = tempfile::tempdir().unwrap();
        let dense = folder_of(&at.path().join("dense"), config, tensors);
        let dense = load_with(&dense, with(HeadWeights::Stored)).unwrap();
        let (got, want) = (logits(&model), logits(&dense));
        assert!(max_abs_diff(&got, &want) < 1e-4);
        let alone = with(head).with_threads(1).with_mmap(false);
        assert_eq!(logits(&load_with(path, alone).unwrap()), got);
    }
}

#[test]
fn dense_checkpoints_tied_and_not() {
    let at = tempfile::tempdir().unwrap();
    for tied in [false, true] {
        for (class, hidden, group) in [
            ("llama", 32, [32, 32]),
            ("internlm2", 64, [64, 32]),
            ("llama", 48, [16, 16]),
        ] {
            let more = json!({"tie_word_embeddings": tied, "hidden_size": hidden, "head_dim": hidden / 4, "vocab_size": 301});
            let config = config(class, more);
            let name = format!("{class}-{hidden}-{tied}");
            check(&folder(at.path(), &name, &config), &config, group);
            let file = at.path().join(format!("{name}.gguf"));
            write_gguf(&file, &config, &random(&config).tensors().unwrap(), plain);
            check(&file, &config, group);
        }
    }
}

#[test]
fn narrow_heads_of_packed_checkpoints() {
    let at = tempfile::tempdir().unwrap();
    let config = config("llama", json!({}));
    for dtype in [Dtype::F16, Dtype::BF16] {
        let mut tensors = tensors(&config, Format::Awq, |_| true);
        for (name, tensor) in random(&config).tensors().unwrap() {
            if let Some(raw) = tensors
                .iter_mut()
                .find(|raw| raw.0 == name && raw.1.len() == 2)
            {
                (raw.2, raw.3) = (dtype, bytes_as(&tensor, dtype));
            }
        }
        let path = at.path().join(format!("{dtype:?}"));
        let path = words_folder(&path, &config, Some(awq_json(json!({}))), &tensors);
        let stored = load_with(&path, with(HeadWeights::Stored)).unwrap();
        for head in [HeadWeights::Int8, HeadWeights::Int4] {
            let model = load_with(&path, with(head)).unwrap();
            assert!(model.weight_bytes() < stored.weight_bytes());
            let from: std::collections::BTreeMap<_, _> =
                stored.tensors().unwrap().into_iter().collect();
            for (name, tensor) in model.tensors().unwrap() {
                if name == "lm_head.weight" || name == "model.embed_tokens.weight" {
                    check_rounded(head, 32, &tensor, &from[&name]);
                }
            }
        }
    }
}

/// Logits of the makers of the goldens, with heads that are off by a rounding.
#[test]
fn goldens_with_a_rounded_head() {
    let Some(goldens) = shared("goldens/awq") else {
        return;
    };
    let mut folders = 0;
    for entry in std::fs::read_dir(goldens).unwrap() {
        let golden = entry.unwrap().path();
        if !golden.join("awq").exists() {
            continue;
        }
        folders += 1;
        let ids: Vec<Vec<u32>> =
            serde_json::from_slice(&std::fs::read(golden.join("eval_ids.json")).unwrap()).unwrap();
        let want = candle_core::safetensors::load(golden.join("logits.safetensors"), &Device::Cpu);
        let want = &want.unwrap()["logits_awq_dequant_f32"];
        let want: Vec<f32> = want.flatten_all().unwrap().to_vec1().unwrap();
        let norm = |values: &[f32]| {
            values
                .iter()
                .map(|v| f64::from(*v).powi(2))
                .sum::<f64>()
                .sqrt()
        };
        for (head, most) in [(HeadWeights::Int8, 0.02), (HeadWeights::Int4, 0.3)] {
            let model = load_with(&golden.join("awq"), with(head)).unwrap();
            let got: Vec<f32> = ids.iter().flat_map(|ids| logits_of(&model, ids)).collect();
            let diff: Vec<f32> = got.iter().zip(&want).map(|(a, b)| a - b).collect();
            let off = norm(&diff) / norm(&want);
            assert!(
                off > 0.0 && off < most,
                "{} {head:?}: {off}",
                golden.display()
            );
        }
    }
    assert!(folders >= 5, "{folders}");
}

fn logits_of(model: &internlm_model::CausalLm, ids: &[u32]) -> Vec<f32> {
    let mut cache = model.new_cache().unwrap();
    let mut batch = internlm_model::Batch::new();
    let all = internlm_model::batch::Logits::All;
    batch.push(0, ids, 0, ids.len(), all).unwrap();
    let out = model.forward(&batch, &mut internlm_model::Context::new(&mut cache));
    out.unwrap().to_vec2::<f32>().unwrap().concat()
}

#[test]
fn random_models_and_other_heads() {
    let options = with(HeadWeights::Int8);
    let llama = config("llama", json!({}));
    let model = internlm_model::CausalLm::random(llama.clone(), 3, options.clone()).unwrap();
    let dense = random(&llama);
    assert!(model.is_packed() && model.weight_bytes() < dense.weight_bytes());
    assert!(logits(&model).iter().all(|v| v.is_finite()));
    // What is packed in the file stays so: its embedding has the form that it had.
    let at = tempfile::tempdir().unwrap();
    let file = at.path().join("model.gguf");
    let config = crate::blocks::wide("llama", json!({}));
    crate::blocks::write(&file, &config, |_| internlm_quant::ggml::GgmlType::Q4_0);
    let (got, want) = (load_with(&file, options).unwrap(), load(&file).unwrap());
    assert!(bits(&got) == bits(&want));
}

#[test]
fn what_cannot_be_rounded_is_an_error() {
    let at = tempfile::tempdir().unwrap();
    let llama = config("llama", json!({}));
    let path = folder(at.path(), "dense", &llama);
    let dense = with(HeadWeights::Int4).with_packed(false);
    for error in [
        load_with(&path, dense.clone()).unwrap_err(),
        internlm_model::CausalLm::random(llama.clone(), 1, dense).unwrap_err(),
    ] {
        assert!(matches!(
            error,
            Error::HeadWeights {
                got: HeadWeights::Int4
            }
        ));
    }
    // No group divides 4 inputs.
    let small = folder(at.path(), "small", &minimal());
    let error = load_with(&small, with(HeadWeights::Int8)).unwrap_err();
    let Error::Weight {
        at: path_of,
        source: QuantError::GroupSize { .. },
    } = error
    else {
        panic!("{error:?}");
    };
    assert_eq!(path_of, "model.embed_tokens");
    // Values that are not finite.
    let mut tensors = random(&llama).tensors().unwrap();
    let head = tensors
        .iter_mut()
        .find(|t| t.0 == "lm_head.weight")
        .unwrap();
    let mut values = rows(&head.1);
    values[7][3] = f32::NAN;
    head.1 = Tensor::new(values, &Device::Cpu).unwrap();
    let broken = folder_of(&at.path().join("broken"), &llama, tensors);
    let error = load_with(&broken, with(HeadWeights::Int8)).unwrap_err();
    assert!(
        matches!(&error, Error::Weight { at, source: QuantError::NotFinite { .. } } if at == "lm_head"),
        "{error:?}"
    );
}

#[test]
fn a_prepared_file_keeps_one_kind_of_head() {
    let at = tempfile::tempdir().unwrap();
    let llama = config("llama", json!({}));
    let path = folder(at.path(), "dense", &llama);
    let file = at.path().join("kept");
    let load = |head, prepared| load_with(&path, with(head).with_prepared(prepared));
    let at_file = || Prepared::At(file.clone());
    let made = load(HeadWeights::Int8, at_file()).unwrap();
    assert!(bits(&load(HeadWeights::Int8, at_file()).unwrap()) == bits(&made));
    // Nothing of it is used.
    load(HeadWeights::Stored, at_file()).unwrap();
    let error = load(HeadWeights::Int4, at_file()).unwrap_err();
    assert!(matches!(error, Error::Prepared { file: named, .. } if named == file));
    for head in [HeadWeights::Int8, HeadWeights::Int4, HeadWeights::Int8] {
        let want = bits(&load_with(&path, with(head)).unwrap());
        assert!(bits(&load(head, Prepared::Beside).unwrap()) == want);
    }
}
