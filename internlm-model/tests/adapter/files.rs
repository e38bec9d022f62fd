//! Adapters on disk: what is written is read, and broken files are errors that name what is wrong.

use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use internlm_model::context::Mode;
use internlm_model::{Config, Error, LoraAdapter, LoraConfig};
use safetensors::tensor::Dtype;
use serde_json::{Value, json};

use crate::checkpoint::{bits_of, bytes_as, random, write_safetensors};
use crate::options::peft;
use crate::{FAMILIES, adapter, family, floats, logits};

const CONFIG: &str = "adapter_config.json";
const WEIGHTS: &str = "adapter_model.safetensors";

fn base() -> Config {
    family("internlm2", json!({}))
}

/// The tensors of an adapter of `wqkv` and `w1` of rank 4.
fn tensors() -> Vec<(String, Tensor)> {
    let config = LoraConfig::default()
        .with_rank(4)
        .with_target_modules(["w1", "wqkv"]);
    adapter(&base(), config, 3).tensors()
}

/// A folder of PEFT's with these tensors, by the reference writer.
fn write(at: &Path, config: &Value, tensors: &[(String, Tensor)], dtype: Dtype) -> PathBuf {
    let folder = at.join("adapter");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join(CONFIG), config.to_string()).unwrap();
    let tensors = tensors.iter().map(|(name, tensor)| {
        let bytes = bytes_as(tensor, dtype);
        (name.clone(), tensor.dims().to_vec(), dtype, bytes)
    });
    write_safetensors(&folder.join(WEIGHTS), &tensors.collect::<Vec<_>>());
    folder
}

#[test]
fn what_is_saved_is_loaded() {
    for name in FAMILIES {
        let base = random(&family(name, json!({})));
        let at = tempfile::tempdir().unwrap();
        let lora = LoraConfig::default()
            .with_alpha(24.0)
            .with_rslora(true)
            .with_dropout(0.1)
            .with_base_model("internlm/base");
        let saved = adapter(base.config(), lora, 3);
        let folder = at.path().join("new").join("mine");
        saved.save(&folder).unwrap();
        let loaded = LoraAdapter::load(&folder, base.config()).unwrap();
        assert_eq!(loaded.name(), "mine");
        assert_eq!(loaded.config(), saved.config());
        assert_eq!(loaded.paths(), saved.paths());
        for ((name, got), (_, want)) in loaded.tensors().iter().zip(&saved.tensors()) {
            assert!(bits_of(got) == bits_of(want), "{name}");
        }
        let ids = [1, 5, 9, 30];
        let run = |adapter: &LoraAdapter| logits(&base, Some(adapter), &ids, Mode::Infer);
        assert_eq!(run(&loaded), run(&saved));
        // Nothing is left beside it, and it is not written over.
        let beside = std::fs::read_dir(folder.parent().unwrap()).unwrap();
        assert_eq!(beside.count(), 1);
        let again = saved.save(&folder);
        assert!(
            matches!(&again, Err(Error::OutputExists { path }) if *path == folder),
            "{again:?}"
        );
    }
}

/// The reference reader finds PEFT's names, and the configuration has what PEFT needs.
#[test]
fn the_layout_is_that_of_peft() {
    let at = tempfile::tempdir().unwrap();
    let config = LoraConfig::default().with_target_modules(["wo"]);
    let saved = adapter(&base(), config, 3);
    let folder = at.path().join("mine");
    std::fs::create_dir(&folder).unwrap();
    saved.save(&folder).unwrap();
    let mut files: Vec<_> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    files.sort();
    assert_eq!(files, [CONFIG, WEIGHTS]);
    let bytes = std::fs::read(folder.join(WEIGHTS)).unwrap();
    let read = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let mut names = read.names();
    names.sort();
    let name = |layer, matrix| {
        format!("base_model.model.model.layers.{layer}.attention.wo.lora_{matrix}.weight")
    };
    assert_eq!(
        names,
        [name(0, "A"), name(0, "B"), name(1, "A"), name(1, "B")]
    );
    let a = read.tensor(&name(1, "A")).unwrap();
    assert_eq!((a.dtype(), a.shape()), (Dtype::F32, &[8, 32][..]));
    let b = read.tensor(&name(1, "B")).unwrap();
    assert_eq!(b.shape(), [32, 8]);
    let json: Value = serde_json::from_slice(&std::fs::read(folder.join(CONFIG)).unwrap()).unwrap();
    for (key, value) in [
        ("peft_type", json!("LORA")),
        ("task_type", json!("CAUSAL_LM")),
        ("r", json!(8)),
        ("lora_alpha", json!(8)),
        ("target_modules", json!(["wo"])),
        ("bias", json!("none")),
    ] {
        assert_eq!(json[key], value, "{key}");
    }
}

#[test]
fn narrow_files_are_widened() {
    let at = tempfile::tempdir().unwrap();
    for (dtype, narrow) in [
        (Dtype::BF16, DType::BF16),
        (Dtype::F16, DType::F16),
        (Dtype::F64, DType::F32),
    ] {
        let folder = write(at.path(), &peft(), &tensors(), dtype);
        let loaded = LoraAdapter::load(&folder, &base()).unwrap();
        for ((name, got), (_, want)) in loaded.tensors().iter().zip(&tensors()) {
            let want = want.to_dtype(narrow).and_then(|t| t.to_dtype(DType::F32));
            assert_eq!(got.dtype(), DType::F32, "{name}");
            assert_eq!(floats(got), floats(&want.unwrap()), "{name}");
        }
    }
}

#[track_caller]
fn refused(config: &Value, tensors: &[(String, Tensor)], is: impl Fn(&Error, &Path) -> bool) {
    let at = tempfile::tempdir().unwrap();
    let folder = write(at.path(), config, tensors, Dtype::F32);
    let error = LoraAdapter::load(&folder, &base()).unwrap_err();
    assert!(is(&error, &folder.join(WEIGHTS)), "{error:?}");
    let text = error.to_string();
    assert!(text.contains("adapter_model.safetensors"), "{text}");
}

fn zeros(rows: usize, columns: usize) -> Tensor {
    Tensor::zeros((rows, columns), DType::F32, &Device::Cpu).unwrap()
}

fn name(layer: usize, module: &str, rest: &str) -> String {
    format!("base_model.model.model.layers.{layer}.{module}.{rest}")
}

#[test]
fn tensors_of_other_shapes_are_refused() {
    for (tensor, want) in [
        (zeros(4, 31), [4, 32]),
        (zeros(3, 32), [4, 32]),
        (zeros(32, 4), [4, 32]),
        (zeros(128, 1).flatten_all().unwrap(), [4, 32]),
    ] {
        let mut changed = tensors();
        let at = name(1, "attention.wqkv", "lora_A.weight");
        let got = tensor.dims().to_vec();
        changed.iter_mut().find(|(n, _)| *n == at).unwrap().1 = tensor;
        refused(&peft(), &changed, |error, path| {
            matches!(error, Error::TensorShape { file, name, got: g, want: w }
                if file == path && *name == at && *g == got && *w == want)
        });
    }
    // The rank of the configuration is not the file's.
    let mut config = peft();
    config["r"] = json!(8);
    refused(
        &config,
        &tensors(),
        |error, _| matches!(error, Error::TensorShape { got, want, .. } if got[0] == 4 && want[0] == 8),
    );
}

#[test]
fn values_that_are_not_finite_are_refused() {
    for value in [f32::NAN, f32::INFINITY] {
        let mut changed = tensors();
        let (at, tensor) = &mut changed[3];
        let mut values = floats(tensor);
        values[5] = value;
        *tensor = Tensor::from_vec(values, tensor.dims(), &Device::Cpu).unwrap();
        let at = at.clone();
        refused(&peft(), &changed, |error, path| {
            matches!(error, Error::NonFiniteWeights { file, name, count: 1 }
                if file == path && *name == at)
        });
    }
}

#[test]
fn a_missing_half_or_module_is_named() {
    for gone in 0..tensors().len() {
        let mut rest = tensors();
        let (at, _) = rest.remove(gone);
        refused(&peft(), &rest, |error, path| {
            matches!(error, Error::MissingTensors { file, names, count: 1 }
                if file == path && *names == [at.clone()])
        });
    }
    let layer = tensors()
        .into_iter()
        .filter(|(n, _)| n.contains("layers.0."));
    refused(&peft(), &layer.collect::<Vec<_>>(), |error, _| {
        matches!(error, Error::MissingTensors { names, count: 4, .. }
            if names[0] == name(1, "attention.wqkv", "lora_A.weight"))
    });
    refused(&peft(), &[], |error, _| {
        matches!(error, Error::MissingTensors { .. })
    });
    // With a pattern the file alone tells the modules, but pairs must be whole.
    let mut pattern = peft();
    pattern["target_modules"] = json!(".*");
    let at = tempfile::tempdir().unwrap();
    let folder = write(at.path(), &pattern, &tensors()[2..], Dtype::F32);
    let loaded = LoraAdapter::load(&folder, &base()).unwrap();
    assert_eq!(loaded.paths().len(), 3);
    refused(&pattern, &tensors()[1..], |error, _| {
        matches!(error, Error::MissingTensors { count: 1, .. })
    });
}

#[test]
fn tensors_of_something_else_are_named() {
    let (a, b) = ("lora_A.weight", "lora_B.weight");
    for extra in [
        name(2, "attention.wqkv", a),
        name(0, "self_attn.q_proj", a),
        name(0, "attention_norm", b),
        name(0, "attention.wqkv", "lora_magnitude_vector"),
        name(0, "attention.wqkv", "lora_A.default.weight"),
        name(0, "attention.wqkv", "lora_B.bias"),
        name(0, "attention.wqkv", "weight"),
        "base_model.model.model.tok_embeddings.lora_embedding_A".to_owned(),
        "base_model.model.model.tok_embeddings.lora_A.weight".to_owned(),
        "base_model.model.output.weight".to_owned(),
        "model.layers.0.attention.wqkv.lora_A.weight".to_owned(),
        // Of the base, but not what the configuration is for.
        name(0, "attention.wo", a),
        String::new(),
    ] {
        let mut changed = tensors();
        changed.push((extra.clone(), zeros(4, 32)));
        refused(&peft(), &changed, |error, path| {
            matches!(error, Error::AdapterTensor { file, name, .. }
                if file == path && *name == extra)
        });
    }
}

#[test]
fn cut_and_absent_files_are_errors() {
    let at = tempfile::tempdir().unwrap();
    let folder = write(at.path(), &peft(), &tensors(), Dtype::F32);
    let file = folder.join(WEIGHTS);
    let whole = std::fs::read(&file).unwrap();
    let cuts = (0..whole.len()).step_by(7);
    for cut in cuts.chain([whole.len() - 1]) {
        std::fs::write(&file, &whole[..cut]).unwrap();
        let result = LoraAdapter::load(&folder, &base());
        assert!(
            matches!(&result, Err(Error::Corrupt { file: f, .. }) if *f == file),
            "{cut}: {result:?}"
        );
    }
    std::fs::write(&file, [&whole[..], b"x"].concat()).unwrap();
    let longer = LoraAdapter::load(&folder, &base());
    assert!(matches!(longer, Err(Error::Corrupt { .. })));
    std::fs::remove_file(&file).unwrap();
    let absent = LoraAdapter::load(&folder, &base());
    assert!(
        matches!(&absent, Err(Error::Io { file: f, .. }) if *f == file),
        "{absent:?}"
    );
    std::fs::write(&file, &whole).unwrap();
    let json = folder.join(CONFIG);
    let config = std::fs::read(&json).unwrap();
    for cut in 0..config.len() {
        std::fs::write(&json, &config[..cut]).unwrap();
        let result = LoraAdapter::load(&folder, &base());
        assert!(matches!(result, Err(Error::Json { .. })), "{cut}");
    }
    std::fs::remove_file(&json).unwrap();
    let absent = LoraAdapter::load(&folder, &base());
    assert!(matches!(&absent, Err(Error::Io { file: f, .. }) if *f == json));
    assert!(matches!(
        LoraAdapter::load(at.path().join("no"), &base()),
        Err(Error::Io { .. })
    ));
}

#[test]
fn another_base_is_refused_while_loading() {
    let at = tempfile::tempdir().unwrap();
    let folder = write(at.path(), &peft(), &tensors(), Dtype::F32);
    let wider = family("internlm2", json!({"hidden_size": 48, "head_dim": 12}));
    let result = LoraAdapter::load(&folder, &wider);
    assert!(
        matches!(result, Err(Error::TensorShape { .. })),
        "{result:?}"
    );
    let llama = LoraAdapter::load(&folder, &family("llama", json!({})));
    assert!(
        matches!(llama, Err(Error::AdapterTensor { .. })),
        "{llama:?}"
    );
}
