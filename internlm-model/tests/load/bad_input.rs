//! Cut, corrupt and hostile files: an error that says which, never a panic, and nothing outside of
//! the folder is opened.

use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};
use internlm_model::{Error, ModelDir};
use safetensors::tensor::Dtype;
use serde_json::{Value, json};

use crate::checkpoint::*;
use crate::fuzz;

/// A folder with `model.safetensors` of these bytes.
fn write(at: &Path, bytes: &[u8]) {
    std::fs::write(at.join("config.json"), minimal().to_json().to_string()).unwrap();
    std::fs::write(at.join("model.safetensors"), bytes).unwrap();
}

/// The bytes of a valid file of the minimal configuration.
fn valid() -> Vec<u8> {
    let at = tempfile::tempdir().unwrap();
    let folder = folder(at.path(), "m", &minimal());
    std::fs::read(folder.join("model.safetensors")).unwrap()
}

/// A file of a header and data.
fn file(header: &str, data: &[u8]) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.bytes());
    bytes.extend(data);
    bytes
}

#[track_caller]
fn corrupt(at: &Path, bytes: &[u8]) {
    write(at, bytes);
    let result = load(at);
    assert!(matches!(result, Err(Error::Corrupt { .. })), "{result:?}");
}

#[test]
fn every_cut_of_a_safetensors_file() {
    let at = tempfile::tempdir().unwrap();
    let whole = valid();
    for cut in 0..whole.len() {
        corrupt(at.path(), &whole[..cut]);
    }
    let larger = folder(at.path(), "larger", &config("internlm2", json!({})));
    let path = larger.join("model.safetensors");
    let whole = std::fs::read(&path).unwrap();
    for part in (0..64).map(|i| whole.len() * i / 64).chain([0, 7, 8]) {
        std::fs::write(&path, &whole[..part]).unwrap();
        assert!(
            matches!(load(&larger), Err(Error::Corrupt { .. })),
            "{part}"
        );
    }
    let longer = [&whole[..], b"x"].concat();
    std::fs::write(&path, longer).unwrap();
    assert!(matches!(load(&larger), Err(Error::Corrupt { .. })));
}

#[test]
fn headers_that_lie() {
    let temporary = tempfile::tempdir().unwrap();
    let at = temporary.path();
    for len in [1 << 63, u64::MAX, 100_000_001, 9, 100_000_000] {
        let mut bytes = u64::to_le_bytes(len).to_vec();
        bytes.extend(b"{}");
        corrupt(at, &bytes);
    }
    // A sparse file that is as long as its header says, but over the limit.
    write(at, &200_000_000u64.to_le_bytes());
    std::fs::File::options()
        .write(true)
        .open(at.join("model.safetensors"))
        .unwrap()
        .set_len(300_000_000)
        .unwrap();
    assert!(matches!(load(at), Err(Error::Corrupt { .. })));

    for header in [
        "",
        "{",
        "[]",
        "null",
        "x",
        r#"{"a": 1}"#,
        r#"{"a": {"dtype": "F32"}}"#,
        r#"{"a": {"dtype": "F32", "shape": [1], "data_offsets": [0]}}"#,
        r#"{"a": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}}"#,
        r#"{"a": {"dtype": 7, "shape": [1], "data_offsets": [0, 4]}}"#,
    ] {
        corrupt(at, &file(header, &[0; 4]));
    }
    let entry = |shape: &str, start: u64, end: u64| {
        format!(r#"{{"dtype": "F32", "shape": {shape}, "data_offsets": [{start}, {end}]}}"#)
    };
    let one = |entry: String| format!(r#"{{"a": {entry}}}"#);
    let two = |a: String, b: String| format!(r#"{{"a": {a}, "b": {b}}}"#);
    for header in [
        one(entry("[1]", 4, 0)),
        one(entry("[2]", 0, 4)),
        one(entry("[1]", 0, 1 << 60)),
        one(entry("[1]", u64::MAX - 3, u64::MAX)),
        one(entry("[1]", 4, 8)),
        one(entry("[4294967296, 4294967296, 4294967296]", 0, 8)),
        one(entry(
            "[0, 18446744073709551615, 18446744073709551615]",
            0,
            0,
        )),
        two(entry("[1]", 0, 4), entry("[1]", 0, 4)),
        two(entry("[2]", 0, 8), entry("[1]", 4, 8)),
        two(entry("[1]", 0, 4), "1".to_owned()),
        format!(r#"{{"a": {0}, "a": {0}}}"#, entry("[2]", 0, 8)),
    ] {
        corrupt(at, &file(&header, &[0; 8]));
    }
}

#[test]
fn names_shapes_and_types_are_checked_before_reading() {
    let at = tempfile::tempdir().unwrap();
    let config = config("internlm2", json!({"bias": false}));
    let tensors = random(&config).tensors().unwrap();
    let saved = |name: &str, tensors: Vec<(String, Tensor)>| {
        folder_of(&at.path().join(name), &config, tensors)
    };

    let none = saved("none", vec![tensors[0].clone()]);
    match load(&none) {
        Err(Error::MissingTensors { names, count, .. }) => {
            assert_eq!((names.len(), count), (10, tensors.len() - 1));
        }
        other => panic!("{other:?}"),
    }
    let mut extra = tensors.clone();
    let zero = Tensor::zeros(3, candle_core::DType::F32, &Device::Cpu).unwrap();
    extra.push((
        "model.layers.0.attention.rotary_emb.inv_freq".into(),
        zero.clone(),
    ));
    extra.push(("model.surplus.weight".into(), zero.clone()));
    assert_eq!(
        bits(&load(&saved("extra", extra)).unwrap()).len(),
        tensors.len()
    );

    let mut wrong = tensors.clone();
    let at_wo = wrong
        .iter()
        .position(|(n, _)| n.ends_with("1.attention.wo.weight"))
        .unwrap();
    wrong[at_wo].1 = wrong[at_wo].1.narrow(0, 0, 31).unwrap();
    match load(&saved("wrong", wrong)) {
        Err(Error::TensorShape {
            name,
            got,
            want,
            file,
        }) => {
            assert_eq!(name, "model.layers.1.attention.wo.weight");
            assert_eq!((got, want), (vec![31, 32], vec![32, 32]));
            assert!(file.ends_with("model.safetensors"));
        }
        other => panic!("{other:?}"),
    }

    let folder = saved("typed", tensors.clone());
    let stored: Vec<_> = tensors
        .iter()
        .map(|(n, t)| match n.as_str() {
            "output.weight" => (
                n.clone(),
                t.dims().to_vec(),
                Dtype::I32,
                vec![0; 4 * t.elem_count()],
            ),
            _ => (
                n.clone(),
                t.dims().to_vec(),
                Dtype::F32,
                bytes_as(t, Dtype::F32),
            ),
        })
        .collect();
    write_safetensors(&folder.join("model.safetensors"), &stored);
    match load(&folder) {
        Err(Error::TensorType { name, got, .. }) => {
            assert_eq!((name.as_str(), got.as_str()), ("output.weight", "I32"))
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn weights_that_are_not_finite_are_counted() {
    let at = tempfile::tempdir().unwrap();
    let config = config("llama", json!({}));
    let mut tensors = random(&config).tensors().unwrap();
    let index = tensors
        .iter()
        .position(|(n, _)| n == "model.layers.0.mlp.down_proj.weight")
        .unwrap();
    let mut values = tensors[index]
        .1
        .flatten_all()
        .unwrap()
        .to_vec1::<f32>()
        .unwrap();
    (values[3], values[70], values[2047]) = (f32::NAN, f32::INFINITY, f32::NEG_INFINITY);
    tensors[index].1 = Tensor::from_vec(values.clone(), (32, 64), &Device::Cpu).unwrap();
    let folder = folder_of(&at.path().join("nan"), &config, tensors.clone());
    match load(&folder) {
        Err(Error::NonFiniteWeights { name, count, .. }) => {
            assert_eq!(
                (name.as_str(), count),
                ("model.layers.0.mlp.down_proj.weight", 3)
            );
        }
        other => panic!("{other:?}"),
    }
    assert!(load_with(&folder, options().with_check_finite(false)).is_ok());
    // Too large for f16 only.
    (values[3], values[70], values[2047]) = (1e6, 1.0, 1.0);
    tensors[index].1 = Tensor::from_vec(values, (32, 64), &Device::Cpu).unwrap();
    let folder = folder_of(&at.path().join("large"), &config, tensors);
    assert!(load(&folder).is_ok());
    let narrow = load_with(&folder, options().with_dtype(candle_core::DType::F16));
    assert!(matches!(
        narrow,
        Err(Error::NonFiniteWeights { count: 1, .. })
    ));
}

/// A folder whose index says that all tensors are in `shard`.
fn indexed(at: &Path, shard: &str) {
    let names = random(&minimal()).tensors().unwrap();
    let map: serde_json::Map<String, Value> =
        names.into_iter().map(|(n, _)| (n, json!(shard))).collect();
    std::fs::create_dir_all(at).unwrap();
    std::fs::write(at.join("config.json"), minimal().to_json().to_string()).unwrap();
    std::fs::write(
        at.join("model.safetensors.index.json"),
        json!({"weight_map": map}).to_string(),
    )
    .unwrap();
}

#[test]
fn shards_outside_of_the_folder_are_not_opened() {
    let root = tempfile::tempdir().unwrap();
    // The canary is a valid shard: if it were opened, loading would succeed.
    let canary = root.path().join("canary.safetensors");
    std::fs::write(&canary, valid()).unwrap();
    let at = root.path().join("model");
    let absolute = canary.display().to_string();
    for shard in [
        "../canary.safetensors",
        "./../canary.safetensors",
        "x/../../canary.safetensors",
        absolute.as_str(),
        "/etc/passwd",
        "",
        ".",
        "..",
        "a\\..\\b",
        "nul\0.safetensors",
    ] {
        indexed(&at, shard);
        let result = load(&at);
        assert!(
            matches!(result, Err(Error::OutsideFolder { .. })),
            "{shard:?}: {result:?}"
        );
    }
    indexed(&at, "absent.safetensors");
    assert!(matches!(load(&at), Err(Error::Io { .. })));
    indexed(&at, "inside.safetensors");
    std::fs::write(at.join("inside.safetensors"), valid()).unwrap();
    load(&at).expect("a shard inside is read");
}

#[cfg(unix)]
#[test]
fn links_out_of_the_folder_are_not_followed_except_into_the_hub_cache() {
    use std::os::unix::fs::symlink;
    let root = tempfile::tempdir().unwrap();
    let canary = root.path().join("canary.safetensors");
    std::fs::write(&canary, valid()).unwrap();
    let at = root.path().join("model");
    indexed(&at, "link.safetensors");
    symlink(&canary, at.join("link.safetensors")).unwrap();
    assert!(matches!(load(&at), Err(Error::OutsideFolder { .. })));
    symlink(root.path(), at.join("up")).unwrap();
    indexed(&at, "up/canary.safetensors");
    assert!(matches!(load(&at), Err(Error::OutsideFolder { .. })));

    let repository = root.path().join("models--internlm--tiny");
    let snapshot = repository.join("snapshots").join("main");
    indexed(&snapshot, "link.safetensors");
    std::fs::create_dir(repository.join("blobs")).unwrap();
    std::fs::write(repository.join("blobs").join("abc"), valid()).unwrap();
    symlink("../../blobs/abc", snapshot.join("link.safetensors")).unwrap();
    load(&snapshot).expect("a snapshot's blobs are its files");
    // Also by a link to the snapshot, which has a name of its own.
    let short = root.path().join("tiny");
    symlink(&snapshot, &short).unwrap();
    load(&short).expect("a snapshot behind a link");
    let name = |path: &Path| ModelDir::open(path).unwrap().name();
    assert_eq!(name(&short), "tiny");
    assert_eq!(name(&snapshot), "internlm/tiny");
    assert_eq!(name(&snapshot.join(".")), "internlm/tiny");
    std::fs::remove_file(snapshot.join("link.safetensors")).unwrap();
    symlink(&canary, snapshot.join("link.safetensors")).unwrap();
    assert!(matches!(load(&snapshot), Err(Error::OutsideFolder { .. })));
}

#[test]
fn indexes_that_lie_or_are_cut() {
    let at = tempfile::tempdir().unwrap();
    let model = random(&minimal());
    let folder = at.path().join("sharded");
    let options = internlm_model::save::SaveConfig::default().with_max_shard_bytes(100);
    model.save(&folder, &options).unwrap();
    let path = folder.join("model.safetensors.index.json");
    let whole = std::fs::read(&path).unwrap();
    let end = whole.iter().rposition(|&b| b == b'}').unwrap();
    for cut in 0..end {
        std::fs::write(&path, &whole[..cut]).unwrap();
        assert!(matches!(load(&folder), Err(Error::Json { .. })), "{cut}");
    }
    let mut index: Value = serde_json::from_slice(&whole).unwrap();
    index["weight_map"]["model.norm.weight"] = index["weight_map"]["lm_head.weight"].clone();
    std::fs::write(&path, index.to_string()).unwrap();
    assert!(matches!(load(&folder), Err(Error::Corrupt { .. })));
    for text in [
        "{}",
        "[]",
        r#"{"weight_map": []}"#,
        r#"{"weight_map": {"a": 1}}"#,
    ] {
        std::fs::write(&path, text).unwrap();
        assert!(matches!(load(&folder), Err(Error::Json { .. })), "{text}");
    }
    std::fs::write(&path, r#"{"weight_map": {}}"#).unwrap();
    assert!(matches!(load(&folder), Err(Error::MissingTensors { .. })));
}

#[test]
fn every_cut_of_a_gguf_file() {
    let at = tempfile::tempdir().unwrap();
    let config = minimal();
    let model = random(&config);
    let path = at.path().join("m.gguf");
    write_gguf(&path, &config, &model.tensors().unwrap(), plain);
    let (whole, want) = (std::fs::read(&path).unwrap(), bits(&model));
    let mut survived = 0;
    for cut in 0..whole.len() {
        std::fs::write(&path, &whole[..cut]).unwrap();
        if let Ok(model) = load(&path) {
            // Only the padding behind the last tensor may go.
            survived += 1;
            assert_eq!(bits(&model), want);
        }
    }
    assert!(survived < 32, "{survived}");
}

#[test]
fn gguf_tensors_that_do_not_fit_are_refused() {
    let at = tempfile::tempdir().unwrap();
    let config = config("internlm2", json!({"bias": false}));
    let mut tensors = random(&config).tensors().unwrap();
    let path = at.path().join("m.gguf");
    // IQ1_S is a type that is not read: 50 bytes a block of 256 elements.
    write_gguf(&path, &config, &tensors, |name, shape, values| match name {
        "blk.1.ffn_down.weight" => (24, vec![0; values.len()]),
        _ => plain(name, shape, values),
    });
    match load(&path) {
        Err(Error::TensorType { name, got, .. }) => {
            assert_eq!(
                (name.as_str(), got.as_str()),
                ("model.layers.1.feed_forward.w2.weight", "I8")
            );
        }
        other => panic!("{other:?}"),
    }
    tensors.retain(|(n, _)| n != "model.layers.1.attention.wqkv.weight");
    write_gguf(&path, &config, &tensors, plain);
    assert!(matches!(
        load(&path),
        Err(Error::MissingTensors { count: 1, .. })
    ));
    // A head too many in the metadata.
    let mut narrow = config.clone();
    narrow.num_attention_heads = 2;
    write_gguf(&path, &narrow, &random(&narrow).tensors().unwrap(), plain);
    let mut bytes = std::fs::read(&path).unwrap();
    let key = b"internlm2.attention.head_count\x04\0\0\0";
    let place = bytes.windows(key.len()).position(|w| w == key).unwrap() + key.len();
    bytes[place] = 4;
    std::fs::write(&path, &bytes).unwrap();
    assert!(matches!(load(&path), Err(Error::TensorShape { .. })));
}

/// A mapped file would end the test by a signal here.
#[test]
fn a_file_that_is_cut_while_it_is_read_is_an_error() {
    let at = tempfile::tempdir().unwrap();
    let folder = folder(at.path(), "m", &config("internlm2", json!({})));
    let file = folder.join("model.safetensors");
    let options = options()
        .with_mmap(false)
        .with_on_progress(move |progress| {
            if progress.tensors == 3 {
                let file = std::fs::File::options().write(true).open(&file).unwrap();
                file.set_len(2000).unwrap();
            }
        });
    match load_with(&folder, options) {
        Err(Error::Corrupt { file, what }) => {
            assert!(file.ends_with("model.safetensors"));
            assert!(what.contains("was cut"), "{what}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn paths_that_hold_no_checkpoint_say_what_they_hold() {
    let at = tempfile::tempdir().unwrap();
    let not = |path: PathBuf| match ModelDir::open(&path) {
        Err(Error::NotACheckpoint { what, .. }) => what,
        other => panic!("{other:?}"),
    };
    assert!(not(at.path().to_path_buf()).contains("nothing"));
    std::fs::write(at.path().join("readme.md"), "hello").unwrap();
    assert!(not(at.path().to_path_buf()).contains("readme.md"));
    std::fs::write(at.path().join("config.json"), "{}").unwrap();
    assert!(not(at.path().to_path_buf()).contains("no weights"));
    not(at.path().join("readme.md"));
    std::fs::write(at.path().join("empty"), "").unwrap();
    not(at.path().join("empty"));
    assert!(matches!(
        ModelDir::open(at.path().join("absent")),
        Err(Error::Io { .. })
    ));
    std::fs::create_dir(at.path().join("model.safetensors")).unwrap();
    std::fs::write(
        at.path().join("config.json"),
        minimal().to_json().to_string(),
    )
    .unwrap();
    assert!(matches!(load(at.path()), Err(Error::Io { .. })));
}

#[test]
fn mutated_files_never_panic() {
    let at = tempfile::tempdir().unwrap();
    let (single, sharded) = (at.path().join("single"), at.path().join("sharded"));
    std::fs::create_dir(&single).unwrap();
    let whole = valid();
    let header_len = 8 + u64::from_le_bytes(whole[..8].try_into().unwrap()) as usize;
    let options = internlm_model::save::SaveConfig::default().with_max_shard_bytes(100);
    let model = random(&minimal());
    model.save(&sharded, &options).unwrap();
    let index_path = sharded.join("model.safetensors.index.json");
    let index = std::fs::read(&index_path).unwrap();
    let gguf_path = at.path().join("m.gguf");
    write_gguf(&gguf_path, &minimal(), &model.tensors().unwrap(), plain);
    let gguf = std::fs::read(&gguf_path).unwrap();
    let mut random = fuzz::Random(5);
    let mut loaded = [0; 3];
    for _ in 0..fuzz::cases() {
        let header = random.mutate(&whole[8..header_len]);
        let bytes = [
            &(header.len() as u64).to_le_bytes(),
            &header[..],
            &whole[header_len..],
        ]
        .concat();
        write(&single, &bytes);
        loaded[0] += usize::from(load(&single).is_ok());
        std::fs::write(&index_path, random.mutate(&index)).unwrap();
        loaded[1] += usize::from(load(&sharded).is_ok());
        std::fs::write(&gguf_path, random.mutate(&gguf)).unwrap();
        loaded[2] += usize::from(load(&gguf_path).is_ok());
    }
    let cases = fuzz::cases();
    assert!(
        loaded.iter().all(|&n| n < cases),
        "{loaded:?} of {cases} loaded"
    );
}
