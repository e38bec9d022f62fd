//! A tokenizer whose tokens are the bytes, then some more.

use internlm_tokenize::Tokenizer;
use serde_json::{Map, Value, json};

/// What byte-level BPE writes for a byte (GPT-2's `bytes_to_unicode`).
fn byte_char(byte: u8) -> char {
    let printable = |b: u8| matches!(b, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
    if printable(byte) {
        return char::from(byte);
    }
    let rank = (0..byte).filter(|&b| !printable(b)).count() as u32;
    char::from_u32(256 + rank).expect("a character")
}

/// Tokens 0 to 255 are the bytes, from 256 on come the special ones, then words that are matched as a whole.
pub(crate) fn tokenizer(special: &[&str], words: &[&str]) -> Tokenizer {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let vocab: Map<String, Value> = (0..=255u8)
        .map(|byte| (byte_char(byte).to_string(), byte.into()))
        .collect();
    let special = special.iter().map(|token| (token, true));
    let words = words.iter().map(|token| (token, false));
    let added: Vec<_> = special
        .chain(words)
        .zip(256..)
        .map(|((token, special), id)| {
            json!({"id": id, "content": token, "special": special, "single_word": false,
                "lstrip": false, "rstrip": false, "normalized": false})
        })
        .collect();
    let bytes = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true,
        "use_regex": false});
    let tokenizer = json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": added,
        "normalizer": null, "post_processor": null, "pre_tokenizer": bytes, "decoder": bytes,
        "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "vocab": vocab,
            "merges": []},
    });
    let config = json!({"bos_token": "<s>", "eos_token": "</s>", "add_bos_token": false,
        "tokenizer_class": "PreTrainedTokenizerFast"});
    for (name, value) in [
        ("tokenizer.json", tokenizer),
        ("tokenizer_config.json", config),
    ] {
        std::fs::write(folder.path().join(name), value.to_string()).expect("a file");
    }
    Tokenizer::load(folder.path()).expect("the tokenizer loads")
}
