//! `tokenizer.json`: safe encoding, exact decoding and streaming.

#![allow(clippy::unwrap_used)] // helpers of tests

mod support;

use internlm_tokenize::{EncodeOptions, Tokenizer};
use proptest::prelude::*;
use serde_json::{Value, json};
use support::{byte_level_json, load_json};

const PLAIN: EncodeOptions = EncodeOptions {
    add_bos: false,
    special: false,
};
const SPECIAL: EncodeOptions = EncodeOptions {
    add_bos: true,
    special: true,
};

fn peer(json: &Value) -> tokenizers::Tokenizer {
    tokenizers::Tokenizer::from_bytes(json.to_string()).unwrap()
}

#[test]
fn special_tokens_in_plain_text_stay_text() {
    let tokenizer = load_json(&byte_level_json());
    let text = "Hell<s> w<|im_end|><tool>——";
    assert_eq!(
        tokenizer.encode(text, SPECIAL).unwrap(),
        [261, 258, 261, 259, 262, 263, 264]
    );
    // The merges spell `<s>`, too; plain text must not get there by them either. The dash is an
    // added token, but no markup.
    let ids = tokenizer.encode(text, PLAIN).unwrap();
    assert!(
        ids.iter().all(|id| ![261, 262, 263].contains(id)),
        "{ids:?}"
    );
    assert!(ids.contains(&264));
    assert_eq!(tokenizer.decode(&ids, true).unwrap(), text);
}

#[test]
fn roles_come_from_the_file_and_from_the_config() {
    let tokenizer = load_json(&byte_level_json());
    assert_eq!(tokenizer.bos_token_id(), Some(261));
    assert!(tokenizer.adds_bos());
    assert_eq!(tokenizer.eos_token_id(), None);
    assert_eq!(tokenizer.vocab_size(), 265);
    assert_eq!(
        tokenizer.special_tokens().collect::<Vec<_>>(),
        [("<s>", 261), ("<|im_end|>", 262), ("<tool>", 263)]
    );
    assert!(tokenizer.is_special(262) && !tokenizer.is_special(263));

    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    write("tokenizer.json", &byte_level_json().to_string());
    write(
        "tokenizer_config.json",
        r#"{"bos_token": null, "eos_token": {"content": "<|im_end|>"}, "pad_token": "<missing>",
            "add_bos_token": false,
            "chat_template": [{"name": "tool", "template": "t"}, {"name": "default", "template": "d"}]}"#,
    );
    let tokenizer = Tokenizer::load(folder.path()).unwrap();
    assert_eq!(tokenizer.bos_token_id(), None);
    assert_eq!(tokenizer.eos_token_id(), Some(262));
    assert_eq!(tokenizer.pad_token_id(), None);
    assert!(!tokenizer.adds_bos());
    assert_eq!(tokenizer.chat_template(), Some("d"));
    let hash = tokenizer.hash().to_owned();
    write("chat_template.jinja", "file");
    let tokenizer = Tokenizer::load(folder.path()).unwrap();
    assert_eq!(tokenizer.chat_template(), Some("file"));
    assert_ne!(tokenizer.hash(), hash);
    assert_eq!(tokenizer.hash().len(), 64);
}

#[test]
fn a_character_over_many_tokens_streams_when_it_is_complete() {
    let tokenizer = load_json(&byte_level_json());
    let mut detokenizer = tokenizer.detokenizer(true);
    let ids = tokenizer.encode("中", PLAIN).unwrap();
    assert_eq!(ids, [0xe4, 0xb8, 0xad]);
    let texts: Vec<_> = ids
        .iter()
        .map(|&id| detokenizer.push(id).unwrap())
        .collect();
    assert_eq!(texts, ["", "", "中"]);
    // One sign for the two bytes of a broken character, as the crate has it.
    assert_eq!(detokenizer.push(0xe4).unwrap(), "");
    assert_eq!(detokenizer.push(0xb8).unwrap(), "");
    assert_eq!(detokenizer.push(b'A'.into()).unwrap(), "\u{fffd}A");
    assert_eq!(detokenizer.push(0xe4).unwrap(), "");
    assert_eq!(detokenizer.flush(), "\u{fffd}");
    assert_eq!(detokenizer.flush(), "");
}

/// Decoders that a table covers, and one that it does not.
fn decoders() -> Vec<Value> {
    let replace = json!({"type": "Replace", "pattern": {"String": "\u{2581}"}, "content": " "});
    let strip = json!({"type": "Strip", "content": " ", "start": 1, "stop": 0});
    vec![
        byte_level_json()["decoder"].clone(),
        json!({"type": "Sequence", "decoders": [replace, {"type": "ByteFallback"}, {"type": "Fuse"}, strip]}),
        json!({"type": "Sequence", "decoders": [replace, {"type": "ByteFallback"}, {"type": "Fuse"}]}),
        json!({"type": "Metaspace", "replacement": "\u{2581}", "prepend_scheme": "always", "split": true}),
        json!({"type": "Metaspace", "replacement": "\u{2581}", "prepend_scheme": "never", "split": true}),
        json!({"type": "WordPiece", "prefix": "##", "cleanup": false}),
    ]
}

/// An id that the vocabulary of `with_decoder` lacks: its token got another.
const GAP: u32 = 'é' as u32;

fn with_decoder(decoder: Value) -> Value {
    let mut json = byte_level_json();
    json["decoder"] = decoder;
    let vocab = json["model"]["vocab"].as_object_mut().unwrap();
    for (token, id) in ["\u{2581}", "\u{2581}hi", "\u{2581}\u{2581}", "##x", "é"]
        .iter()
        .zip(265..)
    {
        vocab.insert(token.to_string(), json!(id));
    }
    // The crate gives added tokens that the vocabulary lacks ids behind its end, whatever the file
    // says; with them in it both sides agree.
    for (token, id) in ["<|im_end|>", "<tool>", "——"].iter().zip(262..) {
        vocab.insert(token.to_string(), json!(id));
    }
    for byte in 0..=255u8 {
        vocab.insert(format!("<0x{byte:02X}>"), json!(270 + u32::from(byte)));
    }
    json
}

#[test]
fn gaps_of_the_vocabulary_are_nothing() {
    let skipped = [GAP, 261];
    for (decoder, space) in decoders()
        .into_iter()
        .zip(["\u{2581}", "", " ", "", " ", "\u{2581}"])
    {
        let tokenizer = load_json(&with_decoder(decoder));
        assert_eq!(tokenizer.id_to_token(GAP), None);
        // The first token after them is the first of the text.
        let ids = [skipped.as_slice(), &[265]].concat();
        assert_eq!(tokenizer.decode(&ids, true).unwrap(), space);
    }
    let tokenizer = load_json(&with_decoder(decoders()[2].clone()));
    let byte = |byte: u32| 270 + byte;
    let ids = [byte(0xe4), GAP, byte(0xb8), 261, byte(0xad)];
    assert_eq!(tokenizer.decode(&ids, true).unwrap(), "中");
    assert_eq!(
        tokenizer.decode(&ids, false).unwrap(),
        "\u{fffd}\u{fffd}<s>\u{fffd}"
    );
}

proptest! {
    #![proptest_config(support::proptest_config())]

    #[test]
    fn decoding_equals_that_of_the_crate(
        ids in prop::collection::vec(0u32..270, 0..20),
        decoder in 0..6usize,
        skip: bool,
    ) {
        let json = with_decoder(decoders()[decoder].clone());
        let text = load_json(&json).decode(&ids, skip).unwrap();
        prop_assert_eq!(text, peer(&json).decode(&ids, skip).unwrap());
    }

    #[test]
    fn bytes_join_over_what_is_skipped_as_in_the_crate(
        pieces in prop::collection::vec((any::<char>(), prop::sample::subsequence(&[GAP, 261, 262], 0..=3), 0..4usize), 1..6),
        decoder in 1..3usize,
    ) {
        // The crate strips a space that is spelled as a byte, too.
        prop_assume!(pieces[0].0 != ' ');
        let json = with_decoder(decoders()[decoder].clone());
        let mut ids = Vec::new();
        for (c, skipped, at) in pieces {
            for (index, byte) in c.to_string().bytes().enumerate() {
                if index == at {
                    ids.extend(&skipped);
                }
                ids.push(270 + u32::from(byte));
            }
        }
        let text = load_json(&json).decode(&ids, true).unwrap();
        prop_assert_eq!(text, peer(&json).decode(&ids, true).unwrap());
    }

    #[test]
    fn byte_fallback_of_text_equals_that_of_the_crate(text in "[ -~中é😀]{0,8}", decoder in 1..3usize) {
        let json = with_decoder(decoders()[decoder].clone());
        let ids: Vec<u32> = text.bytes().map(|byte| 270 + u32::from(byte)).collect();
        let got = load_json(&json).decode(&ids, false).unwrap();
        // The crate strips the fused text; only what is spelled U+2581 counts here.
        let want = if text.starts_with(' ') { text } else { peer(&json).decode(&ids, false).unwrap() };
        prop_assert_eq!(got, want);
    }

    #[test]
    fn streams_join_to_the_whole(
        ids in prop::collection::vec(0u32..526, 0..30),
        decoder in 0..6usize,
        skip: bool,
    ) {
        let tokenizer = load_json(&with_decoder(decoders()[decoder].clone()));
        let mut detokenizer = tokenizer.detokenizer(skip);
        let mut text = String::new();
        for &id in &ids {
            text.push_str(&detokenizer.push(id).unwrap());
        }
        text.push_str(&detokenizer.flush());
        prop_assert_eq!(text, tokenizer.decode(&ids, skip).unwrap());
    }

    #[test]
    fn encoding_equals_that_of_the_crate_and_comes_back(text in "[ -~\\n中文é😀]{0,40}") {
        let json = byte_level_json();
        let tokenizer = load_json(&json);
        let mut peer = peer(&json);
        peer.with_truncation(None).unwrap();
        let special = EncodeOptions { add_bos: false, special: true };
        let got = tokenizer.encode(&text, special).unwrap();
        let encoding = peer.encode(text.as_str(), false).unwrap();
        prop_assert_eq!(&got, encoding.get_ids());
        let plain = tokenizer.encode(&text, PLAIN).unwrap();
        prop_assert_eq!(tokenizer.decode(&plain, true).unwrap(), text);
    }
}

#[test]
fn a_unigram_vocabulary_can_not_spell_a_special_token() {
    let json = json!({
        "version": "1.0",
        "added_tokens": [{
            "id": 1, "content": "</s>", "special": true, "single_word": false, "lstrip": false,
            "rstrip": false, "normalized": false,
        }],
        "model": {"type": "Unigram", "unk_id": 0, "vocab": [
            ["<unk>", 0.0], ["</s>", 0.0], ["<", -1.0], ["/", -1.0], ["s", -1.0], [">", -1.0],
        ]},
        "decoder": {"type": "Fuse"},
    });
    let tokenizer = load_json(&json);
    assert_eq!(tokenizer.encode("</s>", PLAIN).unwrap(), [2, 3, 4, 5]);
    let special = EncodeOptions {
        add_bos: false,
        special: true,
    };
    assert_eq!(tokenizer.encode("</s>", special).unwrap(), [1]);
}

#[test]
fn added_tokens_keep_the_ids_of_the_file_or_it_is_refused() {
    let mut json = byte_level_json();
    json["added_tokens"][1]["id"] = json!(300);
    let tokenizer = load_json(&json);
    let special = EncodeOptions {
        add_bos: false,
        special: true,
    };
    assert_eq!(
        tokenizer.encode("<|im_end|>——", special).unwrap(),
        [300, 264]
    );
    let ids = tokenizer.encode("<|im_end|>——", PLAIN).unwrap();
    assert_eq!((ids.contains(&300), ids.last()), (false, Some(&264)));
    assert_eq!(
        tokenizer.decode(&[300, 262, 264], false).unwrap(),
        "<|im_end|>——"
    );

    // In a unigram vocabulary the place is the id, so there is no room for a gap.
    json["model"] = json!({"type": "Unigram", "unk_id": 0, "vocab": [["<unk>", 0.0]]});
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("tokenizer.json"), json.to_string()).unwrap();
    let error = Tokenizer::load(folder.path()).unwrap_err();
    assert!(
        matches!(error, internlm_tokenize::Error::Vocabulary { id: 261, .. }),
        "{error:?}"
    );
}
