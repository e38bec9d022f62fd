//! The bytes of tokens, which constrained decoding matches against a grammar: joined, they are what
//! the tokenizer decodes, and so what a client sees.

#![allow(clippy::unwrap_used)] // helpers of tests

mod support;

use std::borrow::Cow;

use internlm_tokenize::{EncodeOptions, Tokenizer};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use serde_json::{Value, json};
use support::{Model, NORMAL, USER_DEFINED, byte_level_json, load_json, proptest_config, shared};

/// The bytes of all tokens, with or without regard to what decoding does to the first.
fn join(tokenizer: &Tokenizer, ids: &[u32], first: bool) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (index, &id) in ids.iter().enumerate() {
        let token = match index {
            0 if first => tokenizer.first_token_bytes(id),
            _ => tokenizer.token_bytes(id).map(Cow::Borrowed),
        };
        bytes.extend_from_slice(&token.unwrap());
    }
    bytes
}

/// `before` is what encoding puts before a text.
#[track_caller]
fn check(tokenizer: &Tokenizer, before: &str) {
    let plain = EncodeOptions::default();
    // U+2581 is the spelling of a space; the others are what normalization may change.
    let text = "[^\u{2581}]{0,12}|[ a-z<>0-9{}\":|_你好。\n]{0,24}";
    let mut runner = TestRunner::new(proptest_config());
    runner
        .run(&text, |text| {
            let ids = tokenizer.encode(&text, plain).unwrap();
            let decoded = tokenizer.decode(&ids, true).unwrap();
            let joined = join(tokenizer, &ids, true);
            prop_assert_eq!(String::from_utf8_lossy(&joined), decoded.as_str());
            // SmolLM2's vocabulary lacks a few bytes, InternLM's normalization changes a few characters.
            if decoded != text {
                return Ok(());
            }
            let whole = match text.is_empty() {
                true => String::new(),
                false => format!("{before}{text}"),
            };
            prop_assert_eq!(
                String::from_utf8(join(tokenizer, &ids, false)).unwrap(),
                whole
            );
            Ok(())
        })
        .unwrap();
    for (token, id) in tokenizer.special_tokens() {
        assert_eq!(tokenizer.token_bytes(id), None, "{token}");
        assert_eq!(tokenizer.first_token_bytes(id), None, "{token}");
    }
    let beyond = tokenizer.vocab_size() as u32;
    assert_eq!(tokenizer.token_bytes(beyond), None);
    assert!(tokenizer.decodes_by_token());
}

fn pieces(add_dummy_prefix: bool) -> Model {
    let mut model = Model::new(true)
        .with(
            NORMAL,
            &[("\u{2581}", -1.0), ("a", -2.0), ("\u{2581}a", -0.5)],
        )
        .with(NORMAL, &[("\u{2581}\u{2581}", -0.7), ("你", -3.0)])
        .with(USER_DEFINED, &[("<eoa>", 0.0), ("\u{ff0c}", 0.0)]);
    model.add_dummy_prefix = add_dummy_prefix;
    model
}

#[test]
fn pieces_without_a_space_before_the_text() {
    check(&pieces(false).load(), "");
}

#[test]
fn pieces_with_a_space_before_the_text() {
    let tokenizer = pieces(true).load();
    check(&tokenizer, " ");
    let id = |token| tokenizer.token_to_id(token).unwrap();
    for (token, first, later) in [
        ("\u{2581}a", "a", " a"),
        ("\u{2581}", "", " "),
        ("\u{2581}\u{2581}", " ", "  "),
        ("a", "a", "a"),
        // A byte is no text, so decoding leaves it alone.
        ("<0x20>", " ", " "),
    ] {
        let id = id(token);
        assert_eq!(tokenizer.token_bytes(id).unwrap(), later.as_bytes());
        assert_eq!(*tokenizer.first_token_bytes(id).unwrap(), *first.as_bytes());
    }
    assert_eq!(tokenizer.token_bytes(id("<0xE4>")), Some(&[0xe4][..]));
    assert_eq!(tokenizer.token_bytes(id("<eoa>")), None);
    assert_eq!(
        tokenizer.token_bytes(id("\u{ff0c}")),
        Some("\u{ff0c}".as_bytes())
    );
}

#[test]
fn byte_level_vocabularies() {
    check(&load_json(&byte_level_json()), "");
}

/// All bytes and a few tokens, as conversions of SentencePiece models look.
fn fallback_json(decoder: Value) -> Tokenizer {
    let mut vocab = serde_json::Map::new();
    let bytes = (0..=255u8).map(|byte| format!("<0x{byte:02X}>"));
    let tokens =
        bytes.chain(["<unk>", "\u{2581}", "a", "\u{2581}a", "\u{2581}\u{2581}"].map(Into::into));
    for (token, id) in tokens.zip(0..) {
        vocab.insert(token, json!(id));
    }
    load_json(&json!({
        "version": "1.0", "truncation": null, "padding": null, "post_processor": null,
        "added_tokens": [{
            "id": 256, "content": "<unk>", "special": true, "single_word": false,
            "lstrip": false, "rstrip": false, "normalized": false,
        }],
        "normalizer": {"type": "Sequence", "normalizers": [
            {"type": "Prepend", "prepend": "\u{2581}"},
            {"type": "Replace", "pattern": {"String": " "}, "content": "\u{2581}"},
        ]},
        "pre_tokenizer": null,
        "decoder": decoder,
        "model": {
            "type": "BPE", "dropout": null, "unk_token": "<unk>", "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": true, "byte_fallback": true,
            "ignore_merges": false, "vocab": vocab,
            "merges": [["\u{2581}", "a"], ["\u{2581}", "\u{2581}"]],
        },
    }))
}

#[test]
fn converted_pieces() {
    let tokenizer = fallback_json(json!({"type": "Sequence", "decoders": [
        {"type": "Replace", "pattern": {"String": "\u{2581}"}, "content": " "},
        {"type": "ByteFallback"},
        {"type": "Fuse"},
        {"type": "Strip", "content": " ", "start": 1, "stop": 0},
    ]}));
    check(&tokenizer, " ");
}

#[test]
fn all_spaces_of_the_first_token_go_under_metaspace() {
    let tokenizer = fallback_json(json!({
        "type": "Metaspace", "replacement": "\u{2581}", "prepend_scheme": "always", "split": false,
    }));
    let id = tokenizer.token_to_id("\u{2581}\u{2581}").unwrap();
    assert_eq!(tokenizer.token_bytes(id), Some(&b"  "[..]));
    assert_eq!(*tokenizer.first_token_bytes(id).unwrap(), *b"");
    let a = tokenizer.token_to_id("\u{2581}a").unwrap();
    assert_eq!(join(&tokenizer, &[a, a, id], true), b"a a  ");
    assert_eq!(tokenizer.decode(&[a, a, id], true).unwrap(), "a a  ");
}

#[test]
fn decoders_that_look_at_neighbours_have_no_bytes() {
    let tokenizer = fallback_json(json!({"type": "CTC", "pad_token": "<unk>",
        "word_delimiter_token": "\u{2581}", "cleanup": false}));
    assert!(!tokenizer.decodes_by_token());
    assert_eq!(tokenizer.token_bytes(3), None);
    assert_eq!(tokenizer.first_token_bytes(3), None);
}

#[test]
fn internlm() {
    for name in ["internlm", "internlm2"] {
        let Some(folder) = shared(&format!("goldens/tokenizers/{name}")) else {
            return;
        };
        let tokenizer = Tokenizer::load(folder).unwrap();
        check(&tokenizer, "");
    }
}

#[test]
fn smollm2() {
    if let Some(file) = support::smollm2() {
        check(&Tokenizer::load(file).unwrap(), "");
    }
}
