//! Cut, corrupt and hostile files are errors that say what and where, never a panic.

#![allow(clippy::unwrap_used)] // helpers of tests

mod support;

use internlm_tokenize::{EncodeOptions, Error, Tokenizer};
use support::{BYTE, Model, NORMAL, Rng, UNKNOWN, USER_DEFINED, fuzz_cases};

fn load(bytes: &[u8]) -> Result<Tokenizer, Error> {
    load_named("tokenizer.model", bytes)
}

fn load_named(name: &str, bytes: &[u8]) -> Result<Tokenizer, Error> {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join(name), bytes).unwrap();
    Tokenizer::load(folder.path())
}

fn small() -> Model {
    Model::new(false)
        .with(
            NORMAL,
            &[("a", -1.0), ("b", -2.0), ("ab", -3.0), ("\u{2581}a", -4.0)],
        )
        .with(USER_DEFINED, &[("<eoa>", 0.0)])
}

/// Whatever loads must also work.
fn exercise(tokenizer: &Tokenizer) {
    let text = "ab a<eoa></s> 中\u{1F600}b";
    for special in [false, true] {
        let options = EncodeOptions {
            add_bos: false,
            special,
        };
        let ids = tokenizer.encode(text, options).unwrap();
        tokenizer.decode(&ids, true).unwrap();
    }
    let all: Vec<u32> = (0..tokenizer.vocab_size() as u32).collect();
    tokenizer.decode(&all, false).unwrap();
}

#[test]
fn every_cut_of_a_model_is_an_error_or_a_smaller_model() {
    let bytes = small().bytes();
    exercise(&load(&bytes).unwrap());
    let mut errors = 0;
    for len in 0..bytes.len() {
        match load(&bytes[..len]) {
            Ok(tokenizer) => exercise(&tokenizer),
            Err(Error::SentencePiece { offset, .. }) => {
                assert!(offset <= len, "{offset} of {len}");
                errors += 1;
            }
            // Cut between fields: pieces, the type of model or flags are missing.
            Err(Error::Vocabulary { .. } | Error::Unsupported { .. }) => errors += 1,
            Err(error) => panic!("{len}: {error}"),
        }
    }
    // The only cuts that load are those within the normalizer's optional fields.
    assert!(errors + 2 >= bytes.len(), "{errors} of {}", bytes.len());
}

#[test]
fn mutated_models_never_panic() {
    let good = small().bytes();
    let mut rng = Rng(0x5eed);
    for _ in 0..fuzz_cases() {
        let mut bytes = good.clone();
        for _ in 0..1 + rng.below(4) {
            let at = rng.below(bytes.len());
            match rng.below(4) {
                0 => bytes[at] = rng.next() as u8,
                1 => bytes[at] ^= 1 << rng.below(8),
                2 => {
                    bytes.remove(at);
                }
                _ => bytes.insert(at, rng.next() as u8),
            }
        }
        if let Ok(tokenizer) = load(&bytes) {
            exercise(&tokenizer);
        }
    }
}

#[track_caller]
fn check(model: &Model, want: impl Fn(&Error) -> bool) {
    let error = load(&model.bytes()).unwrap_err();
    assert!(want(&error), "{error:?}");
    assert!(error.to_string().contains("tokenizer.model"), "{error}");
}

#[test]
fn vocabularies_that_contradict_themselves_are_refused() {
    let wrong =
        |id: u32| move |e: &Error| matches!(e, Error::Vocabulary { id: got, .. } if *got == id);
    check(&small().with(NORMAL, &[("ab", -9.0)]), wrong(8));
    check(&small().with(NORMAL, &[("", -9.0)]), wrong(8));
    check(&small().with(NORMAL, &[("c", f32::NAN)]), wrong(8));
    check(&small().with(NORMAL, &[("c", f32::INFINITY)]), wrong(8));
    check(
        &small().with(NORMAL, &[(&"c".repeat(5000), -9.0)]),
        wrong(8),
    );
    check(&small().with(UNKNOWN, &[("<unk2>", 0.0)]), wrong(8));
    check(&small().with(BYTE, &[("<0xG0>", 0.0)]), wrong(8));
    let mut model = small();
    model.pieces.remove(0);
    check(&model, wrong(7)); // no unknown piece
    let mut model = Model::new(true);
    model.pieces.remove(100);
    check(&model, wrong(258)); // a byte is missing
}

#[test]
fn what_is_not_implemented_is_refused_by_name() {
    let refused = |field: &'static str| move |e: &Error| matches!(e, Error::Unsupported { what, .. } if *what == field);
    let mut model = small();
    model.model_type = 1;
    check(&model, refused("trainer_spec.model_type"));
    let mut model = small();
    model.charsmap = vec![1, 2, 3];
    check(&model, refused("normalizer_spec.precompiled_charsmap"));
    let mut model = small();
    model.whitespace_as_suffix = true;
    check(&model, refused("trainer_spec.treat_whitespace_as_suffix"));
}

#[test]
fn absurd_lengths_are_refused_before_memory_is_asked_for() {
    // A piece that claims 2^62 bytes; a number of eleven bytes; field zero; a group.
    for (bytes, at) in [
        (
            &[0x0a, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x40][..],
            10,
        ),
        (
            &[
                0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1,
            ][..],
            1,
        ),
        (&[0x00, 0x00][..], 0),
        (&[0x0b][..], 0),
        (&[0x0a, 0x03, 0x0a, 0x05, b'a'][..], 4),
    ] {
        match load(bytes) {
            Err(Error::SentencePiece { offset, .. }) => assert_eq!(offset, at, "{bytes:x?}"),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn families_of_long_pieces_load_quickly_or_are_refused() {
    // Every split of every piece is a merge: 1,500 pieces make about a million.
    let long: Vec<_> = (1..1500).map(|n| "a".repeat(n)).collect();
    let pieces: Vec<_> = long.iter().map(|text| (text.as_str(), -1.0)).collect();
    exercise(&load(&Model::new(false).with(NORMAL, &pieces).bytes()).unwrap());
    // And these would take hours of splitting.
    let long: Vec<_> = (0..300)
        .map(|n| format!("{n:04}{}", "é".repeat(2040)))
        .collect();
    let pieces: Vec<_> = long.iter().map(|text| (text.as_str(), -1.0)).collect();
    match load(&Model::new(false).with(NORMAL, &pieces).bytes()) {
        Err(Error::Vocabulary { what, .. }) => assert!(what.contains("split"), "{what}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn folders_without_a_tokenizer_say_so() {
    let folder = tempfile::tempdir().unwrap();
    let error = Tokenizer::load(folder.path()).unwrap_err();
    assert!(matches!(error, Error::NoTokenizer { .. }), "{error}");
    let error = Tokenizer::load(folder.path().join("missing")).unwrap_err();
    assert!(matches!(error, Error::Io { .. }), "{error}");
}

#[test]
fn overlays_that_are_no_overlays_are_errors_with_their_field() {
    for (config, want) in [
        ("[]", "(file)"),
        ("{\"bos_token\": 3}", "bos_token"),
        ("{\"add_bos_token\": \"yes\"}", "add_bos_token"),
        ("{\"added_tokens_decoder\": []}", "added_tokens_decoder"),
        (
            "{\"added_tokens_decoder\": {\"x\": {}}}",
            "added_tokens_decoder.x",
        ),
        (
            "{\"added_tokens_decoder\": {\"3\": {}}}",
            "added_tokens_decoder.3",
        ),
        (
            "{\"added_tokens_decoder\": {\"4294967295\": {\"content\": \"<x>\"}}}",
            "added_tokens_decoder.4294967295",
        ),
        ("{\"chat_template\": 1}", "chat_template"),
        (
            "{\"additional_special_tokens\": {}}",
            "additional_special_tokens",
        ),
    ] {
        match Tokenizer::load(small().folder(Some(config)).path()) {
            Err(Error::Json { file, field, .. }) => {
                assert_eq!(field, want);
                assert_eq!(file.file_name(), Some("tokenizer_config.json".as_ref()));
            }
            other => panic!("{config}: {other:?}"),
        }
    }
}

/// A valid file of each kind that is laid over a vocabulary.
const OVERLAYS: [(&str, &str); 3] = [
    (
        "tokenizer_config.json",
        r#"{"tokenizer_class": "InternLM3Tokenizer", "add_bos_token": true, "bos_token": "<s>",
        "eos_token": {"content": "</s>"}, "pad_token": null, "add_prefix_space": false,
        "added_tokens_decoder": {"8": {"content": "<|im_end|>", "special": true}},
        "additional_special_tokens": ["<|im_end|>"], "chat_template": [{"name": "default",
        "template": "{{ messages }}"}]}"#,
    ),
    (
        "special_tokens_map.json",
        r#"{"bos_token": "<s>", "unk_token": {"content": "<unk>"}, "additional_special_tokens": []}"#,
    ),
    (
        "added_tokens.json",
        r#"{"<|im_start|>": 9, "<|plugin|>": 10}"#,
    ),
];

#[test]
fn every_cut_of_an_overlay_is_an_error() {
    for (name, text) in OVERLAYS {
        let folder = small().folder(None);
        let file = folder.path().join(name);
        std::fs::write(&file, text).unwrap();
        exercise(&Tokenizer::load(folder.path()).unwrap());
        for len in 0..text.len() {
            std::fs::write(&file, &text[..len]).unwrap();
            let error = Tokenizer::load(folder.path()).unwrap_err();
            assert!(
                matches!(error, Error::Json { .. }),
                "{name} {len}: {error:?}"
            );
        }
    }
}

#[test]
fn mutated_overlays_never_panic() {
    let mut rng = Rng(11);
    let folders = OVERLAYS.map(|_| small().folder(None));
    let mut loaded = 0;
    for case in 0..fuzz_cases() {
        let (name, text) = OVERLAYS[case % OVERLAYS.len()];
        let mut bytes = text.as_bytes().to_vec();
        for _ in 0..1 + rng.below(3) {
            let at = rng.below(bytes.len());
            match rng.below(3) {
                0 => bytes[at] = b"0123456789\",:{}[]eabx<>"[rng.below(23)],
                1 => bytes[at] = rng.next() as u8,
                _ => {
                    bytes.remove(at);
                }
            }
        }
        let folder = folders[case % OVERLAYS.len()].path();
        std::fs::write(folder.join(name), bytes).unwrap();
        if let Ok(tokenizer) = Tokenizer::load(folder) {
            loaded += 1;
            exercise(&tokenizer);
        }
    }
    assert!(loaded > 0 && loaded < fuzz_cases(), "{loaded}");
}

#[test]
fn broken_tokenizer_json_is_an_error() {
    let good = support::byte_level_json().to_string().into_bytes();
    exercise(&load_named("tokenizer.json", &good).unwrap());
    for garbage in [
        "",
        "[]",
        "{}",
        "null",
        "{\"model\": 3}",
        "{\"version\": \"1.0\"}",
    ] {
        let error = load_named("tokenizer.json", garbage.as_bytes()).unwrap_err();
        assert!(
            matches!(error, Error::Json { .. } | Error::HuggingFace { .. }),
            "{garbage}: {error:?}"
        );
    }
    for len in 0..good.len() {
        let error = load_named("tokenizer.json", &good[..len]).unwrap_err();
        assert!(matches!(error, Error::Json { .. }), "{len}: {error:?}");
    }
    let mut rng = Rng(7);
    for _ in 0..fuzz_cases() {
        let mut bytes = good.clone();
        for _ in 0..1 + rng.below(3) {
            let at = rng.below(bytes.len());
            bytes[at] = b"0123456789\",:{}[]eabx"[rng.below(21)];
        }
        if let Ok(tokenizer) = load_named("tokenizer.json", &bytes) {
            exercise_leniently(&tokenizer);
        }
    }
}

/// The crate that reads the rest of the file would panic on them.
#[test]
fn templates_around_a_text_are_checked() {
    let template = |single: serde_json::Value| {
        serde_json::json!({
            "type": "TemplateProcessing", "single": single, "pair": [],
            "special_tokens": {"<s>": {"id": "<s>", "ids": [261], "tokens": ["<s>"]}},
        })
    };
    let special = |id: &str| serde_json::json!({"SpecialToken": {"id": id, "type_id": 0}});
    let sequence = |id: &str| serde_json::json!({"Sequence": {"id": id, "type_id": 0}});
    let load = |processor: &serde_json::Value| {
        let mut json = support::byte_level_json();
        json["post_processor"] = processor.clone();
        load_named("tokenizer.json", json.to_string().as_bytes())
    };
    let list = |of: [serde_json::Value; 2]| template(serde_json::Value::from(of.to_vec()));
    exercise(&load(&list([special("<s>"), sequence("A")])).unwrap());
    for wrong in [
        list([special("<z>"), sequence("A")]),
        list([special("<s>"), sequence("B")]),
    ] {
        let nested = serde_json::json!({"type": "Sequence", "processors": [wrong]});
        for processor in [wrong, nested] {
            match load(&processor) {
                Err(Error::Json { field, .. }) => assert_eq!(field, "post_processor.single"),
                other => panic!("{other:?}"),
            }
        }
    }
}

/// A mutated `tokenizer.json` may be one whose model fails on a text; that is an error as well.
fn exercise_leniently(tokenizer: &Tokenizer) {
    if let Ok(ids) = tokenizer.encode("Hello <|im_end|> 中", EncodeOptions::default()) {
        let _ = tokenizer.decode(&ids, false);
    }
}

#[test]
fn ids_in_tokenizer_json_are_bounded() {
    let json = r#"{"version":"1.0","added_tokens":[],"model":{"type":"BPE",
        "vocab":{"a":4294967295},"merges":[]}}"#;
    let error = load_named("tokenizer.json", json.as_bytes()).unwrap_err();
    assert!(
        matches!(error, Error::Vocabulary { id: u32::MAX, .. }),
        "{error:?}"
    );
}
