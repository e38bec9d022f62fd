//! Tokenizers inside of GGUF files.

#![allow(clippy::unwrap_used)] // helpers of tests

mod support;

use std::path::{Path, PathBuf};

use internlm_core::gguf::{Array, GgufWriter, Value};
use internlm_tokenize::{EncodeOptions, Error, Tokenizer};
use support::{BYTE, CONTROL, Model, NORMAL, UNKNOWN, USER_DEFINED, byte_level_json};

const PLAIN: EncodeOptions = EncodeOptions {
    add_bos: false,
    special: false,
};

/// Keys and values; a later value replaces an earlier one.
type Metadata = Vec<(&'static str, Value)>;

fn write(folder: &Path, metadata: Metadata) -> PathBuf {
    let mut writer = GgufWriter::new();
    for (index, (key, value)) in metadata.iter().enumerate() {
        if metadata[index + 1..].iter().all(|(later, _)| later != key) {
            writer = writer.with_metadata(*key, value.clone());
        }
    }
    let path = folder.join("tokenizer.gguf");
    let mut bytes = Vec::new();
    writer.write(&mut bytes, &path, |_, _| Ok(())).unwrap();
    std::fs::write(&path, bytes).unwrap();
    path
}

fn strings(values: impl Iterator<Item = String>) -> Value {
    Value::Array(Array::String(values.collect()))
}

fn llama(model: &Model) -> Metadata {
    let pieces = || model.pieces.iter();
    vec![
        ("tokenizer.ggml.model", Value::String("llama".into())),
        (
            "tokenizer.ggml.tokens",
            strings(pieces().map(|p| p.0.clone())),
        ),
        (
            "tokenizer.ggml.scores",
            Value::Array(Array::F32(pieces().map(|p| p.1).collect())),
        ),
        (
            "tokenizer.ggml.token_type",
            Value::Array(Array::I32(pieces().map(|p| i32::from(p.2)).collect())),
        ),
        (
            "tokenizer.ggml.add_space_prefix",
            Value::Bool(model.add_dummy_prefix),
        ),
        ("tokenizer.ggml.bos_token_id", Value::U32(1)),
        ("tokenizer.ggml.eos_token_id", Value::U32(2)),
    ]
}

fn small() -> Model {
    Model::new(true).with(
        NORMAL,
        &[
            ("\u{2581}", -5.0),
            ("h", -6.0),
            ("i", -7.0),
            ("hi", -1.0),
            ("\u{2581}hi", -2.0),
        ],
    )
}

#[test]
fn a_llama_vocabulary_encodes_like_its_sentencepiece_model() {
    for prefix in [false, true] {
        let mut model = small().with(USER_DEFINED, &[("<eoa>", 0.0), ("——", 0.0)]);
        model.add_dummy_prefix = prefix;
        let folder = tempfile::tempdir().unwrap();
        let gguf = Tokenizer::load(write(folder.path(), llama(&model))).unwrap();
        let spm = model.load();
        for text in ["", "hi hi", "  h<eoa></s>——é", "<s>"] {
            for special in [false, true] {
                let options = EncodeOptions {
                    add_bos: true,
                    special,
                };
                let ids = gguf.encode(text, options).unwrap();
                assert_eq!(ids, spm.encode(text, options).unwrap(), "{text:?}");
                assert_eq!(
                    gguf.decode(&ids, true).unwrap(),
                    spm.decode(&ids, true).unwrap()
                );
            }
        }
        assert_eq!(
            (gguf.bos_token_id(), gguf.eos_token_id()),
            (Some(1), Some(2))
        );
        assert!(gguf.adds_bos());
        assert_eq!(
            gguf.special_tokens().collect::<Vec<_>>(),
            spm.special_tokens().collect::<Vec<_>>()
        );
    }
}

/// The byte-level fixture as a GGUF vocabulary of the kind `gpt2`.
fn gpt2(pre: &str) -> Metadata {
    let json = byte_level_json();
    let mut tokens: Vec<(String, u64)> = json["model"]["vocab"]
        .as_object()
        .unwrap()
        .iter()
        .map(|(token, id)| (token.clone(), id.as_u64().unwrap()))
        .collect();
    tokens.push(("<|im_end|>".into(), 262));
    tokens.sort_by_key(|token| token.1);
    let merges = json["model"]["merges"].as_array().unwrap().iter();
    let merges = merges.map(|m| format!("{} {}", m[0].as_str().unwrap(), m[1].as_str().unwrap()));
    let mut kinds = vec![i32::from(NORMAL); tokens.len()];
    kinds[261] = i32::from(CONTROL);
    kinds[262] = i32::from(CONTROL);
    vec![
        ("tokenizer.ggml.model", Value::String("gpt2".into())),
        ("tokenizer.ggml.pre", Value::String(pre.into())),
        (
            "tokenizer.ggml.tokens",
            strings(tokens.into_iter().map(|t| t.0)),
        ),
        ("tokenizer.ggml.merges", strings(merges)),
        ("tokenizer.ggml.token_type", Value::Array(Array::I32(kinds))),
        ("tokenizer.ggml.eos_token_id", Value::U32(262)),
        ("tokenizer.chat_template", Value::String("{{ 1 }}".into())),
    ]
}

#[test]
fn a_byte_level_vocabulary_honours_its_pre_tokenizer() {
    let folder = tempfile::tempdir().unwrap();
    let load = |pre: &str| Tokenizer::load(write(folder.path(), gpt2(pre))).unwrap();
    let tokenizer = load("gpt-2");
    assert_eq!(tokenizer.encode("Hell w", PLAIN).unwrap(), [258, 259]);
    assert_eq!(tokenizer.chat_template(), Some("{{ 1 }}"));
    assert_eq!(
        (tokenizer.bos_token_id(), tokenizer.eos_token_id()),
        (None, Some(262))
    );
    assert!(!tokenizer.adds_bos());
    for pre in [
        "default",
        "smollm",
        "qwen2",
        "llama-bpe",
        "deepseek-v3",
        "dbrx",
    ] {
        let tokenizer = load(pre);
        for text in ["Hell w<s>", "123  456\n\n中文'll ——\t x", ""] {
            let ids = tokenizer.encode(text, PLAIN).unwrap();
            assert!(!ids.contains(&261), "{pre}");
            assert_eq!(tokenizer.decode(&ids, false).unwrap(), text, "{pre}");
        }
    }
}

#[test]
fn an_unknown_pre_tokenizer_or_model_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let error = Tokenizer::load(write(folder.path(), gpt2("mystery"))).unwrap_err();
    assert!(
        matches!(&error, Error::Unsupported { what: "tokenizer.ggml.pre", name, .. } if name == "mystery"),
        "{error}"
    );
    assert!(error.to_string().contains("smollm"), "{error}");
    let mut metadata = gpt2("gpt-2");
    metadata.push(("tokenizer.ggml.model", Value::String("bert".into())));
    let error = Tokenizer::load(write(folder.path(), metadata)).unwrap_err();
    assert!(
        matches!(&error, Error::Unsupported { name, .. } if name == "bert"),
        "{error}"
    );
}

#[test]
fn metadata_that_contradicts_itself_is_an_error_with_its_key() {
    let folder = tempfile::tempdir().unwrap();
    let check = |mut metadata: Metadata, want: &'static str, value: Value| {
        metadata.push((want, value));
        match Tokenizer::load(write(folder.path(), metadata)) {
            Err(Error::Gguf { key, .. }) => assert_eq!(key, want),
            other => panic!("{other:?}"),
        }
    };
    let floats = |n| Value::Array(Array::F32(vec![0.0; n]));
    let types = |n, kind| Value::Array(Array::I32(vec![kind; n]));
    let model = small();
    let n = model.pieces.len();
    let llama = || llama(&model);
    check(llama(), "tokenizer.ggml.scores", floats(n - 1));
    check(llama(), "tokenizer.ggml.token_type", types(3, 1));
    check(llama(), "tokenizer.ggml.token_type", types(n, 7));
    check(llama(), "tokenizer.ggml.bos_token_id", Value::U32(n as u32));
    let merges = strings(std::iter::once("nospace".to_owned()));
    check(gpt2("gpt-2"), "tokenizer.ggml.merges", merges);
    let error = Tokenizer::load(write(folder.path(), Vec::new())).unwrap_err();
    assert!(matches!(error, Error::Core(_)), "{error}");
    // Kinds that the constants name are those of the format.
    assert_eq!((UNKNOWN, BYTE), (2, 6));
}

#[test]
fn smollm2_counts_the_tokens_of_wikitext() {
    let (Some(gguf), Some(text)) = (
        support::smollm2(),
        support::shared("datasets/wikitext2/wiki.test.joined.txt"),
    ) else {
        return;
    };
    let tokenizer = Tokenizer::load(gguf).unwrap();
    let text = std::fs::read_to_string(text).unwrap();
    let ids = tokenizer.encode(&text, PLAIN).unwrap();
    assert_eq!(ids.len(), 304_978);
    assert_eq!(tokenizer.decode(&ids, false).unwrap(), text);
    assert_eq!(tokenizer.bos_token_id(), Some(1));
    assert!(!tokenizer.adds_bos());
    let options = EncodeOptions {
        add_bos: false,
        special: true,
    };
    let chat = "<|im_start|>user\nHi<|im_end|>\n";
    let ids = tokenizer.encode(chat, options).unwrap();
    assert_eq!((ids[0], ids[ids.len() - 2]), (1, 2));
    let plain = tokenizer.encode(chat, PLAIN).unwrap();
    assert!(plain.iter().all(|&id| id > 16), "{plain:?}");
}
