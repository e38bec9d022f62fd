//! Every layout gives the same tensors.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use candle_core::{DType, Device, Tensor};
use internlm_model::{Error, LoadConfig, ModelDir};
use internlm_quant::ggml::GgmlType;
use safetensors::tensor::Dtype;
use serde_json::json;

use crate::checkpoint::*;
use crate::common;
use crate::torch_writer::torch;

const CLASSES: [&str; 5] = ["internlm", "internlm2", "internlm3", "llama", "qwen2"];

#[test]
fn goldens_hold_what_their_files_say() {
    let Some(models) = common::shared("goldens/models") else {
        return;
    };
    for entry in std::fs::read_dir(models).unwrap() {
        let path = entry.unwrap().path();
        let ours = bits(&load(&path).unwrap());
        // The same files through candle.
        let mut theirs = Vec::new();
        for file in std::fs::read_dir(&path).unwrap() {
            let file = file.unwrap().path();
            match file.extension().and_then(|e| e.to_str()) {
                Some("safetensors") => {
                    theirs.extend(candle_core::safetensors::load(&file, &Device::Cpu).unwrap())
                }
                Some("bin") => theirs.extend(candle_core::pickle::read_all(&file).unwrap()),
                _ => {}
            }
        }
        assert_eq!(ours.len(), theirs.len(), "{}", path.display());
        for (name, tensor) in theirs {
            assert_eq!(ours[&name], bits_of(&tensor), "{} {name}", path.display());
        }
    }
}

#[test]
fn saved_models_are_read_back_bit_for_bit_mapped_and_not() {
    let at = tempfile::tempdir().unwrap();
    for class in CLASSES {
        for dtype in [DType::F32, DType::BF16, DType::F16] {
            let config = config(class, json!({}));
            let options = options().with_dtype(dtype);
            let model = internlm_model::CausalLm::random(config, 3, options).unwrap();
            let path = at.path().join(format!("{class}-{}", dtype.as_str()));
            model.save(&path, &Default::default()).unwrap();
            let want = bits(&model);
            assert_eq!(bits(&load(&path).unwrap()), want, "{class} {dtype:?}");
            let read = load_with(&path, super::checkpoint::options().with_mmap(false)).unwrap();
            assert_eq!(bits(&read), want, "{class} {dtype:?}, not mapped");
        }
    }
}

#[test]
fn sharded_and_torch_files_equal_one_safetensors_file() {
    let at = tempfile::tempdir().unwrap();
    for class in CLASSES {
        let config = config(class, json!({}));
        let model = random(&config);
        let want = bits(&model);
        let tensors = model.tensors().unwrap();
        let json = config.to_json().to_string();

        let bin = at.path().join(format!("{class}-bin"));
        std::fs::create_dir(&bin).unwrap();
        std::fs::write(bin.join("config.json"), &json).unwrap();
        let file = bin.join("pytorch_model.bin");
        std::fs::write(&file, torch(&tensors, Dtype::F32)).unwrap();
        assert_eq!(bits(&load(&bin).unwrap()), want);
        let twin = candle_core::pickle::read_all(&file).unwrap();
        assert_eq!(twin.len(), want.len());
        assert!(
            twin.iter()
                .all(|(name, tensor)| bits_of(tensor) == want[name])
        );

        for (ending, folder) in [("safetensors", "st"), ("bin", "bins")] {
            let folder = at.path().join(format!("{class}-{folder}"));
            std::fs::create_dir(&folder).unwrap();
            std::fs::write(folder.join("config.json"), &json).unwrap();
            let mut map = serde_json::Map::new();
            for (shard, tensors) in tensors.chunks(5).enumerate() {
                let name = format!("shard-{shard}.{ending}");
                map.extend(tensors.iter().map(|(t, _)| (t.clone(), json!(name))));
                if ending == "bin" {
                    std::fs::write(folder.join(name), torch(tensors, Dtype::F32)).unwrap();
                } else {
                    let tensors: Vec<_> = tensors
                        .iter()
                        .map(|(n, t)| {
                            (
                                n.clone(),
                                t.dims().to_vec(),
                                Dtype::F32,
                                bytes_as(t, Dtype::F32),
                            )
                        })
                        .collect();
                    write_safetensors(&folder.join(name), &tensors);
                }
            }
            let index = if ending == "bin" {
                "pytorch_model.bin.index.json"
            } else {
                "model.safetensors.index.json"
            };
            let text = json!({"metadata": {}, "weight_map": map}).to_string();
            std::fs::write(folder.join(index), text).unwrap();
            assert_eq!(bits(&load(&folder).unwrap()), want, "{class} {ending}");
        }
    }
}

#[test]
fn gguf_equals_the_folder_that_it_was_converted_from() {
    let at = tempfile::tempdir().unwrap();
    for (class, more) in [
        ("llama", json!({})),
        (
            "llama",
            json!({"attention_bias": true, "mlp_bias": true, "head_dim": 12, "tie_word_embeddings": true}),
        ),
        ("internlm2", json!({"bias": false})),
        (
            "internlm2",
            json!({"bias": true, "num_attention_heads": 4, "num_key_value_heads": 1}),
        ),
        ("qwen2", json!({"tie_word_embeddings": true})),
    ] {
        let config = config(class, more);
        let model = random(&config);
        let file = at.path().join("model.gguf");
        write_gguf(&file, &config, &model.tensors().unwrap(), plain);
        let dir = ModelDir::open(&file).unwrap();
        let read = dir.config().unwrap();
        assert_eq!(
            (read.qkv_bias, read.o_bias),
            (config.qkv_bias, config.o_bias),
            "{class}"
        );
        assert_eq!(read.tie_word_embeddings, config.tie_word_embeddings);
        assert_eq!(bits(&load(&file).unwrap()), bits(&model), "{class}");
        // The folder that holds it means the file.
        assert_eq!(ModelDir::open(at.path()).unwrap().path(), file);
    }
}

#[test]
fn gguf_blocks_are_dequantized_and_rows_put_in_order() {
    let at = tempfile::tempdir().unwrap();
    let config = config("internlm2", json!({"bias": false}));
    let model = random(&config);
    // Round the model to Q8_0 first; then the file holds exactly that.
    let q8 = |values: &[f32]| -> Vec<u8> {
        let block = |values: &[f32]| {
            let most = values.iter().fold(0f32, |m, v| m.max(v.abs()));
            let scale = half::f16::from_f32((most / 127.0).max(1e-3));
            let quants = values
                .iter()
                .map(|v| (v / scale.to_f32()).round().clamp(-127.0, 127.0) as i8 as u8);
            scale
                .to_le_bytes()
                .into_iter()
                .chain(quants)
                .collect::<Vec<u8>>()
        };
        values.chunks(32).flat_map(block).collect()
    };
    let file = at.path().join("q8.gguf");
    let tensors = model.tensors().unwrap();
    write_gguf(&file, &config, &tensors, |_, shape, values| match shape {
        [_] => plain("", shape, values),
        _ => (8, q8(values)),
    });
    let rounded = tensors.iter().map(|(name, tensor)| {
        let tensor = match tensor.rank() {
            1 => tensor.clone(),
            _ => {
                let values = tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
                let mut out = vec![0.0; values.len()];
                GgmlType::Q8_0.dequantize(&q8(&values), &mut out).unwrap();
                Tensor::from_vec(out, tensor.dims(), &Device::Cpu).unwrap()
            }
        };
        (name.clone(), bits_of(&tensor))
    });
    let loaded = bits(&load(&file).unwrap());
    for (name, want) in rounded {
        assert_eq!(loaded[&name], want, "{name}");
    }
    let narrow = bits(&load_with(&file, options().with_dtype(DType::BF16)).unwrap());
    let matrix = &narrow["model.layers.0.attention.wqkv.weight"];
    assert_eq!((matrix.1, &matrix.0), (DType::BF16, &vec![64, 32]));
    assert_eq!(narrow["model.norm.weight"].1, DType::F32);
}

#[test]
fn dtypes_are_kept_or_narrowed_as_asked() {
    let at = tempfile::tempdir().unwrap();
    let config = config("internlm3", json!({"bias": false}));
    let tensors = random(&config).tensors().unwrap();
    for (stored, want) in [
        (
            Dtype::F64,
            [DType::F32, DType::F32, DType::BF16, DType::F16],
        ),
        (
            Dtype::F32,
            [DType::F32, DType::F32, DType::BF16, DType::F16],
        ),
        (Dtype::F16, [DType::F16; 4]),
        (Dtype::BF16, [DType::BF16; 4]),
    ] {
        let folder = at.path().join(format!("{stored:?}"));
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(folder.join("config.json"), config.to_json().to_string()).unwrap();
        let stored: Vec<_> = tensors
            .iter()
            .map(|(n, t)| (n.clone(), t.dims().to_vec(), stored, bytes_as(t, stored)))
            .collect();
        write_safetensors(&folder.join("model.safetensors"), &stored);
        let asked = [None, Some(DType::F32), Some(DType::BF16), Some(DType::F16)];
        for (asked, want) in asked.into_iter().zip(want) {
            let mut options = options();
            options.dtype = asked;
            let got = bits(&load_with(&folder, options).unwrap());
            assert_eq!(got["model.layers.1.mlp.up_proj.weight"].1, want);
            let source = &tensors
                .iter()
                .find(|(n, _)| n == "lm_head.weight")
                .unwrap()
                .1;
            let rounded = match want {
                DType::F32 => source.clone(),
                narrow => source.to_dtype(narrow).unwrap(),
            };
            assert_eq!(got["lm_head.weight"], bits_of(&rounded));
        }
        let refused = load_with(&folder, options().with_dtype(DType::U8));
        assert!(matches!(
            refused,
            Err(Error::WeightDtype { got: DType::U8 })
        ));
    }
}

#[test]
fn progress_reaches_its_end() {
    let at = tempfile::tempdir().unwrap();
    let folder = folder(at.path(), "m", &config("internlm2", json!({})));
    let (calls, last) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(None)));
    let (count, seen) = (calls.clone(), last.clone());
    let options: LoadConfig = options().with_on_progress(move |progress| {
        count.fetch_add(1, Ordering::Relaxed);
        *seen.lock().unwrap() = Some(progress);
    });
    load_with(&folder, options).unwrap();
    let last = last.lock().unwrap().expect("was told");
    assert!(calls.load(Ordering::Relaxed) > 10);
    assert_eq!(last.tensors, last.total_tensors);
    assert_eq!(last.bytes, last.total_bytes);
    assert!(last.bytes > 0);
}

#[test]
fn random_models_depend_on_the_seed_alone() {
    let config = config("internlm2", json!({}));
    let model = |seed, threads| {
        let options = LoadConfig::default().with_threads(threads);
        bits(&internlm_model::CausalLm::random(config.clone(), seed, options).unwrap())
    };
    assert_eq!(model(1, 1), model(1, 3));
    assert_ne!(model(1, 1), model(2, 1));
    let bomb = {
        let mut c = config.clone();
        c.num_hidden_layers = usize::MAX;
        c
    };
    let result = internlm_model::CausalLm::random(bomb, 1, options());
    assert!(matches!(result, Err(Error::Config { .. })));
}
