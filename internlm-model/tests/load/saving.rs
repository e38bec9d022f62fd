//! What is written, and what is not.

use candle_core::{DType, Device, Tensor};
use internlm_model::config::GenerationConfig;
use internlm_model::save::{self, SaveConfig};
use internlm_model::{Error, ModelDir};
use safetensors::SafeTensors;
use serde_json::{Value, json};

use crate::checkpoint::*;

#[test]
fn shards_are_what_the_reference_reader_reads() {
    let at = tempfile::tempdir().unwrap();
    let config = config("internlm2", json!({}));
    let model = random(&config);
    let target = at.path().join("deep").join("out");
    let options = SaveConfig::default().with_max_shard_bytes(12_000);
    let dir = model.save(&target, &options).unwrap();
    assert_eq!(
        dir.config().unwrap().torch_dtype.as_deref(),
        Some("float32")
    );
    let index: Value = serde_json::from_slice(
        &std::fs::read(target.join("model.safetensors.index.json")).unwrap(),
    )
    .unwrap();
    let map = index["weight_map"].as_object().unwrap();
    let want = bits(&model);
    let mut total = 0;
    for (name, (shape, _, bits)) in &want {
        let shard = map[name].as_str().unwrap();
        assert!(
            shard.starts_with("model-000") && shard.ends_with(".safetensors"),
            "{shard}"
        );
        let bytes = std::fs::read(target.join(shard)).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let view = file.tensor(name).unwrap();
        assert_eq!(view.shape(), shape);
        let data: Vec<u8> = bits.iter().flat_map(|b| b.to_le_bytes()).collect();
        assert_eq!(view.data(), data);
        assert!(view.data().len() <= 12_000 && !file.is_empty());
        total += data.len();
    }
    assert_eq!(index["metadata"]["total_size"], json!(total));
    assert_eq!(bits(&load(&target).unwrap()), want);
    let left: Vec<_> = std::fs::read_dir(target.parent().unwrap())
        .unwrap()
        .collect();
    assert_eq!(left.len(), 1, "nothing is left beside the target");
}

#[test]
fn side_files_come_along() {
    let at = tempfile::tempdir().unwrap();
    let source = folder(at.path(), "source", &config("internlm2", json!({})));
    for name in [
        "tokenizer.model",
        "tokenizer_config.json",
        "modeling_internlm2.py",
        "notes.txt",
    ] {
        std::fs::write(source.join(name), name).unwrap();
    }
    let mut json: Value =
        serde_json::from_slice(&std::fs::read(source.join("config.json")).unwrap()).unwrap();
    json["auto_map"] = json!({"AutoConfig": "configuration_internlm2.InternLM2Config"});
    std::fs::write(source.join("config.json"), json.to_string()).unwrap();
    let target = at.path().join("target");
    let options = SaveConfig::default().with_files_from(&source);
    load(&source).unwrap().save(&target, &options).unwrap();
    for name in [
        "tokenizer.model",
        "tokenizer_config.json",
        "modeling_internlm2.py",
    ] {
        assert_eq!(std::fs::read(target.join(name)).unwrap(), name.as_bytes());
    }
    assert!(!target.join("notes.txt").exists());
    let saved: Value =
        serde_json::from_slice(&std::fs::read(target.join("config.json")).unwrap()).unwrap();
    assert_eq!(saved["auto_map"], json["auto_map"]);
}

#[test]
fn a_target_that_holds_something_is_left_alone() {
    let at = tempfile::tempdir().unwrap();
    let model = random(&config("llama", json!({})));
    let taken = at.path().join("taken");
    std::fs::create_dir(&taken).unwrap();
    model
        .save(&taken, &SaveConfig::default())
        .expect("an empty folder will do");
    let again = model.save(&taken, &SaveConfig::default());
    assert!(matches!(again, Err(Error::OutputExists { .. })));
    let file = at.path().join("file");
    std::fs::write(&file, "mine").unwrap();
    assert!(matches!(
        model.save(&file, &SaveConfig::default()),
        Err(Error::OutputExists { .. })
    ));
    assert_eq!(std::fs::read(&file).unwrap(), b"mine");
}

#[test]
fn a_failed_save_leaves_nothing() {
    let at = tempfile::tempdir().unwrap();
    let config = config("llama", json!({}));
    let generation = GenerationConfig::of(&config);
    let tensor = |dtype| Tensor::zeros((2, 2), dtype, &Device::Cpu).unwrap();
    let target = at.path().join("out");
    let save = |tensors: Vec<Result<(String, Tensor), Error>>| {
        let options = SaveConfig::default().with_max_shard_bytes(4);
        save::save(&target, &config, &generation, tensors, &options)
    };
    let good = || Ok(("a".to_owned(), tensor(DType::F32)));
    let broken = Err(Error::NonFiniteLogits { count: 3 });
    assert!(matches!(
        save(vec![good(), broken]),
        Err(Error::NonFiniteLogits { count: 3 })
    ));
    assert!(matches!(
        save(vec![good(), good()]),
        Err(Error::DuplicateTensor { .. })
    ));
    let bytes = Ok(("b".to_owned(), tensor(DType::I64)));
    assert!(matches!(
        save(vec![good(), bytes]),
        Err(Error::WeightDtype { got: DType::I64 })
    ));
    assert_eq!(std::fs::read_dir(at.path()).unwrap().count(), 0);
    save(vec![good()]).expect("and then it can be saved");
    assert!(ModelDir::open(&target).is_ok());
}
