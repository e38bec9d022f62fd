//! Tokenizers of each kind: small ones made here, and real ones where they are found.

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use internlm_tokenize::Tokenizer;
use serde_json::{Value, json};

use super::GuideFactory;

/// A tokenizer with its guides.
pub(super) struct Subject {
    pub(super) name: &'static str,
    pub(super) tokenizer: Tokenizer,
    pub(super) factory: GuideFactory,
    pub(super) eos: Vec<u32>,
    /// Tokens that close something: quotes, brackets, ends, markers.
    pub(super) closers: Vec<u32>,
    /// Walks of one form: few where a mask is slow.
    pub(super) walks: usize,
}

/// A small generator of numbers (xorshift64*), so that walks are the same in every run.
pub(super) struct Rng(pub(super) u64);

impl Rng {
    pub(super) fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % bound
    }
}

fn subject(name: &'static str, tokenizer: Tokenizer, ends: &[&str], walks: usize) -> Subject {
    let eos: Vec<u32> = ends
        .iter()
        .map(|end| tokenizer.token_to_id(end).unwrap())
        .collect();
    // As models do, with rows beyond the tokenizer's.
    let vocab_size = tokenizer.vocab_size() + 37;
    let factory = GuideFactory::new(&tokenizer, vocab_size, &eos).unwrap();
    let closes = |&id: &u32| {
        let token = tokenizer.token_bytes(id).unwrap_or_default();
        matches!(token, [b'"' | b'}' | b']', ..] | [])
    };
    Subject {
        closers: (0..tokenizer.vocab_size() as u32).filter(closes).collect(),
        name,
        tokenizer,
        factory,
        eos,
        walks,
    }
}

fn load(json: &Value) -> Tokenizer {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("tokenizer.json"), json.to_string()).unwrap();
    Tokenizer::load(folder.path()).unwrap()
}

fn added(id: usize, content: &str) -> Value {
    json!({"id": id, "content": content, "special": true, "single_word": false,
        "lstrip": false, "rstrip": false, "normalized": false})
}

const SPECIAL: [&str; 6] = [
    "<unk>",
    "<|im_end|>",
    "<|action_start|>",
    "<|action_end|>",
    "<|plugin|>",
    "<|interpreter|>",
];
const WORDS: [&str; 14] = [
    "\u{2581}",
    "\u{2581}\u{2581}",
    "a",
    "\u{2581}a",
    "{",
    "\u{2581}{",
    "\"",
    "\u{2581}\"",
    "}",
    "{\"",
    "\":",
    "你",
    "\u{2581}foo",
    "foo",
];

fn pieces(decoder: Value) -> Tokenizer {
    let bytes = (0..=255u8).map(|byte| format!("<0x{byte:02X}>"));
    let tokens = bytes.chain(SPECIAL.into_iter().chain(WORDS).map(Into::into));
    let vocab: serde_json::Map<_, _> = tokens
        .zip(0..)
        .map(|(token, id)| (token, json!(id)))
        .collect();
    let specials: Vec<_> = SPECIAL
        .iter()
        .zip(256..)
        .map(|(s, id)| added(id, s))
        .collect();
    load(&json!({
        "version": "1.0", "truncation": null, "padding": null, "post_processor": null,
        "added_tokens": specials, "normalizer": null, "pre_tokenizer": null, "decoder": decoder,
        "model": {
            "type": "BPE", "dropout": null, "unk_token": "<unk>", "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": true, "byte_fallback": true,
            "ignore_merges": false, "vocab": vocab, "merges": [],
        },
    }))
}

/// A vocabulary as conversions of SentencePiece models have it; decoding takes one space from the first
/// token.
pub(super) fn drops_one() -> Subject {
    let tokenizer = pieces(json!({"type": "Sequence", "decoders": [
        {"type": "Replace", "pattern": {"String": "\u{2581}"}, "content": " "},
        {"type": "ByteFallback"},
        {"type": "Fuse"},
        {"type": "Strip", "content": " ", "start": 1, "stop": 0},
    ]}));
    subject("pieces that lose a space", tokenizer, &["<|im_end|>"], 300)
}

/// The same, decoded without looking at the place: bytes are spelled as `<0x..>`.
pub(super) fn drops_all() -> Subject {
    let tokenizer = pieces(json!({
        "type": "Metaspace", "replacement": "\u{2581}", "prepend_scheme": "always", "split": false,
    }));
    subject("metaspace", tokenizer, &["<|im_end|>"], 300)
}

/// A byte-level vocabulary without the tool protocol's tokens.
pub(super) fn byte_level() -> Subject {
    let itself = |byte: u8| matches!(byte, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff);
    let spelling = |byte: u8| match itself(byte) {
        true => char::from(byte),
        false => {
            let before = (0..byte).filter(|&b| !itself(b)).count() as u32;
            char::from_u32(0x100 + before).unwrap()
        }
    };
    let spell = |word: &str| word.bytes().map(spelling).collect::<String>();
    let words = [
        " {", "{\"", "\":", " a", "你好", "foo", "\n\n", "}", "\"}", "ends",
    ];
    let bytes = (0..=255).map(|byte| spelling(byte).to_string());
    let mut vocab = serde_json::Map::new();
    for token in bytes.chain(words.into_iter().map(spell)) {
        let id = vocab.len();
        vocab.entry(token).or_insert(json!(id));
    }
    let end = vocab.len();
    let decoder = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true});
    let tokenizer = load(&json!({
        "version": "1.0", "truncation": null, "padding": null, "post_processor": null,
        "added_tokens": [added(end, "<|im_end|>"), added(end + 1, "</s>")],
        "normalizer": null, "pre_tokenizer": decoder, "decoder": decoder,
        "model": {
            "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false,
            "ignore_merges": false, "vocab": vocab, "merges": [],
        },
    }));
    subject("bytes", tokenizer, &["<|im_end|>", "</s>"], 300)
}

/// A tokenizer that decodes by context.
pub(super) fn contextual() -> Tokenizer {
    pieces(
        json!({"type": "CTC", "pad_token": "<unk>", "word_delimiter_token": "\u{2581}", "cleanup": false}),
    )
}

fn found(path: PathBuf) -> Option<PathBuf> {
    if path.exists() {
        return Some(path);
    }
    let ci = std::env::var("CI").is_ok_and(|value| value == "true");
    assert!(!ci, "{} is missing in CI", path.display());
    println!("skipped: {} is missing", path.display());
    None
}

fn golden(name: &str) -> Option<Tokenizer> {
    let shared = std::env::var_os("INTERNLM_SHARED").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared"),
        PathBuf::from,
    );
    let folder = found(shared.join("goldens/tokenizers").join(name))?;
    Some(Tokenizer::load(folder).unwrap())
}

/// InternLM2's SentencePiece vocabulary of 92,544 tokens.
fn internlm2() -> Option<Subject> {
    let tokenizer = golden("internlm2")?;
    Some(subject("internlm2", tokenizer, &["</s>"], 150))
}

/// InternLM's SentencePiece vocabulary of 103,168 tokens.
fn internlm() -> Option<Subject> {
    let tokenizer = golden("internlm")?;
    Some(subject("internlm", tokenizer, &["</s>"], 150))
}

/// SmolLM2's byte-level vocabulary, from a GGUF file.
fn smollm2() -> Option<Subject> {
    let fetched = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../models/SmolLM2-135M-Instruct.Q4_1.gguf"
    );
    let path = std::env::var_os("INTERNLM_SMOLLM2_GGUF").map_or(fetched.into(), PathBuf::from);
    let tokenizer = Tokenizer::load(found(path)?).unwrap();
    Some(subject("smollm2", tokenizer, &["<|im_end|>"], 200))
}

/// All of them, made once for all tests.
pub(super) fn each(check: impl FnMut(&Subject)) {
    static ALL: LazyLock<Vec<Subject>> = LazyLock::new(|| {
        let real = [smollm2, internlm2, internlm];
        let real = real.into_iter().filter_map(|subject| subject());
        [drops_one(), byte_level()]
            .into_iter()
            .chain(real)
            .collect()
    });
    ALL.iter().for_each(check);
}

/// The real ones that are found.
pub(super) fn each_real(mut check: impl FnMut(&Subject)) {
    each(|subject| {
        if subject.tokenizer.vocab_size() > 1000 {
            check(subject);
        }
    });
}
