//! Prepared files: what is read from them, and files that are stale, damaged or something else.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use internlm_model::load::Prepared;
use internlm_model::{CausalLm, Error};
use internlm_quant::ggml::GgmlType;
use serde_json::json;

use crate::blocks::{finer_values, logits, wide, write};
use crate::checkpoint::*;
use crate::fuzz;
use crate::words_writer::*;

fn prepared(source: &Path, file: &Path) -> Result<CausalLm, Error> {
    load_with(source, options().with_prepared(Prepared::At(file.into())))
}

fn beside(source: &Path) -> CausalLm {
    load_with(source, options().with_prepared(Prepared::Beside)).unwrap()
}

/// Loads without a prepared file, while making it, and from it: all the same, bit for bit.
#[track_caller]
fn check(source: &Path) {
    let plain = load(source).unwrap();
    assert!(plain.is_packed());
    let at = tempfile::tempdir().unwrap();
    let file = at.path().join("kept");
    let made = prepared(source, &file).unwrap();
    let written = fs::read(&file).unwrap();
    let read = prepared(source, &file).unwrap();
    let alone = options().with_threads(1).with_mmap(false);
    let alone = load_with(source, alone.with_prepared(Prepared::At(file.clone()))).unwrap();
    for other in [made, read, alone] {
        assert_eq!(logits(&other), logits(&plain));
        assert!(bits(&other) == bits(&plain));
        assert_eq!(other.weight_bytes(), plain.weight_bytes());
    }
    assert!(fs::read(&file).unwrap() == written);
    // Nothing else is left in the folder.
    assert_eq!(fs::read_dir(at.path()).unwrap().count(), 1);
}

#[test]
fn prepared_weights_are_the_packed_ones() {
    let at = tempfile::tempdir().unwrap();
    let file = at.path().join("model.gguf");
    let tied = json!({"tie_word_embeddings": true});
    for (class, more) in [
        ("llama", tied),
        ("internlm2", json!({})),
        ("qwen2", json!({})),
    ] {
        write(&file, &wide(class, more.clone()), |_| GgmlType::Q4_1);
        check(&file);
        write(&file, &wide(class, more), finer_values); // segments, and dense rows beside packed ones
        check(&file);
    }
    for (name, format, quantization) in [
        ("awq", Format::Awq, awq_json(json!({}))),
        ("gptq", Format::Gptq { desc_act: true }, gptq()),
    ] {
        let config = config("llama", json!({}));
        let tensors = tensors(&config, format, |_| true);
        check(&words_folder(
            &at.path().join(name),
            &config,
            Some(quantization),
            &tensors,
        ));
    }
}

fn gptq() -> serde_json::Value {
    json!({"quant_method": "gptq", "bits": 4, "group_size": GROUP, "desc_act": true, "sym": false})
}

fn awq_folder(at: &Path) -> PathBuf {
    let config = config("llama", json!({}));
    let tensors = tensors(&config, Format::Awq, |_| true);
    words_folder(
        &at.join("awq"),
        &config,
        Some(awq_json(json!({}))),
        &tensors,
    )
}

/// Whether the file was read: reading it is the only way to notice that it was changed.
#[track_caller]
fn refused(source: &Path, file: &Path) -> String {
    let before = fs::read(file).unwrap();
    let error = prepared(source, file).unwrap_err();
    assert!(fs::read(file).unwrap() == before, "left as it was");
    match error {
        Error::Prepared { file: named, what } => {
            assert_eq!(named, file);
            what
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_file_of_other_sources_or_options_is_refused() {
    let at = tempfile::tempdir().unwrap();
    let source = awq_folder(at.path());
    let file = at.path().join("kept");
    prepared(&source, &file).unwrap();
    for name in ["model.safetensors", "config.json"] {
        let changed = fs::File::options()
            .append(true)
            .open(source.join(name))
            .unwrap();
        let time = changed.metadata().unwrap().modified().unwrap();
        changed
            .set_modified(SystemTime::now() + Duration::from_secs(9))
            .unwrap();
        assert!(refused(&source, &file).contains(name));
        changed.set_modified(time).unwrap();
        prepared(&source, &file).unwrap();
    }
    // The same number of bytes and the same time, under another name.
    let shard = source.join("other.safetensors");
    fs::rename(source.join("model.safetensors"), &shard).unwrap();
    assert!(refused(&source, &file).contains("other.safetensors"));
    // Another model.
    let gguf = at.path().join("model.gguf");
    write(&gguf, &wide("llama", json!({})), |_| GgmlType::Q4_0);
    refused(&gguf, &file);
    fs::remove_file(&file).unwrap();
    prepared(&source, &file).unwrap();
}

#[test]
fn beside_the_source_it_is_made_again() {
    let at = tempfile::tempdir().unwrap();
    let source = awq_folder(at.path());
    let want = logits(&beside(&source));
    let file = source.join("model.prepared");
    let whole = fs::read(&file).unwrap();
    let middle = whole.len() / 3;
    for damage in [
        &|bytes: &mut Vec<u8>| bytes.truncate(middle),
        &|bytes: &mut Vec<u8>| bytes.clear(),
        &|bytes: &mut Vec<u8>| bytes[middle] ^= 1,
        &|bytes: &mut Vec<u8>| bytes[9] ^= 1,
        &|bytes: &mut Vec<u8>| *bytes.last_mut().unwrap() = 0,
        &|bytes: &mut Vec<u8>| bytes.push(0),
    ] as [&dyn Fn(&mut Vec<u8>); 6]
    {
        let mut bytes = whole.clone();
        damage(&mut bytes);
        fs::write(&file, bytes).unwrap();
        assert_eq!(logits(&beside(&source)), want);
        assert!(fs::read(&file).unwrap() == whole);
    }
    // A source that was changed: the file is of the new one.
    let weights = source.join("model.safetensors");
    let changed = fs::File::options().append(true).open(weights).unwrap();
    changed
        .set_modified(SystemTime::now() + Duration::from_secs(9))
        .unwrap();
    assert_eq!(logits(&beside(&source)), want);
    let again = fs::read(&file).unwrap();
    assert!(again != whole);
    assert_eq!(logits(&beside(&source)), want);
    assert!(fs::read(&file).unwrap() == again);
    // A GGUF file has it under its own name.
    let gguf = at.path().join("model.gguf");
    write(&gguf, &wide("llama", json!({})), |_| GgmlType::Q4_0);
    beside(&gguf);
    assert!(at.path().join("model.gguf.prepared").is_file());
}

#[test]
fn files_of_another_kind_are_never_overwritten() {
    let at = tempfile::tempdir().unwrap();
    let source = awq_folder(at.path());
    let file = source.join("model.prepared");
    let text = b"INTERN, a letter to one".as_slice();
    fs::write(&file, text).unwrap();
    for prepared in [Prepared::Beside, Prepared::At(file.clone())] {
        let error = load_with(&source, options().with_prepared(prepared)).unwrap_err();
        assert!(matches!(error, Error::Corrupt { file: named, .. } if named == file));
        assert_eq!(fs::read(&file).unwrap(), text);
    }
    let missing = at.path().join("no folder/kept");
    assert!(matches!(prepared(&source, &missing), Err(Error::Io { .. })));
    let folder = at.path().join("a folder");
    fs::create_dir(&folder).unwrap();
    assert!(matches!(prepared(&source, &folder), Err(Error::Io { .. })));
}

#[test]
fn nothing_is_kept_of_dense_weights_or_a_failed_load() {
    let at = tempfile::tempdir().unwrap();
    let dense = folder(at.path(), "dense", &config("llama", json!({})));
    let file = at.path().join("kept");
    prepared(&dense, &file).unwrap();
    let source = awq_folder(at.path());
    let unpacked = options()
        .with_packed(false)
        .with_prepared(Prepared::At(file.clone()));
    assert!(!load_with(&source, unpacked).unwrap().is_packed());
    assert!(!file.exists());

    // Values that are not finite: found when matrices have been written.
    let config = config("llama", json!({}));
    let mut tensors = tensors(&config, Format::Awq, |_| true);
    let norm = tensors
        .iter_mut()
        .find(|t| t.0 == "model.norm.weight")
        .unwrap();
    norm.3.fill(0xff);
    let broken = words_folder(
        &at.path().join("broken"),
        &config,
        Some(awq_json(json!({}))),
        &tensors,
    );
    assert!(prepared(&broken, &broken.join("kept")).is_err());
    let names = fs::read_dir(&broken)
        .unwrap()
        .map(|e| e.unwrap().file_name());
    assert!(
        names
            .into_iter()
            .all(|name| !name.to_string_lossy().starts_with("kept"))
    );
}

/// Any cut and any flipped bit is an error, and no memory is asked for that the file doesn't hold.
#[test]
fn damage_is_always_found() {
    let at = tempfile::tempdir().unwrap();
    let config = config("llama", json!({"num_hidden_layers": 1}));
    let tensors = tensors(&config, Format::Awq, |_| true);
    let source = words_folder(
        &at.path().join("awq"),
        &config,
        Some(awq_json(json!({}))),
        &tensors,
    );
    let file = at.path().join("kept");
    let want = bits(&prepared(&source, &file).unwrap());
    let whole = fs::read(&file).unwrap();
    let found = |bytes: &[u8]| {
        fs::write(&file, bytes).unwrap();
        let error = prepared(&source, &file).err();
        assert!(fs::read(&file).unwrap() == bytes);
        matches!(error, Some(Error::Prepared { .. } | Error::Corrupt { .. }))
    };
    for len in 0..whole.len() {
        assert!(found(&whole[..len]), "cut at {len} of {}", whole.len());
    }
    let mut random = fuzz::Random(11);
    let start = (0..8 * 64).chain((0..fuzz::cases()).map(|_| random.below(8 * whole.len())));
    for bit in start.collect::<Vec<_>>() {
        let mut bytes = whole.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        assert!(found(&bytes), "bit {bit}");
    }
    for _ in 0..fuzz::cases() {
        let bytes = random.mutate(&whole);
        assert!(bytes == whole || found(&bytes));
    }
    // Two processes that make it at the same time both end with a whole file.
    fs::remove_file(&file).unwrap();
    let ok = AtomicBool::new(true);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let model = prepared(&source, &file).unwrap();
                ok.fetch_and(bits(&model) == want, Ordering::Relaxed);
            });
        }
    });
    assert!(ok.into_inner());
    assert!(fs::read(&file).unwrap() == whole);
}
