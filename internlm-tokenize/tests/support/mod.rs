//! Shared by the tests of the tokenizer: where the goldens are, and a writer of tiny SentencePiece
//! models.
#![allow(
    dead_code,
    missing_docs,
    unreachable_pub,
    reason = "each test file uses a part, and nobody else"
)]
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::path::{Path, PathBuf};

use serde_json::Value;

/// A file or folder of the shared goldens and data sets; without it the test says so and ends,
/// except in CI.
pub fn shared(path: &str) -> Option<PathBuf> {
    let root = std::env::var_os("INTERNLM_SHARED").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared"),
        PathBuf::from,
    );
    found(root.join(path))
}

/// The GGUF file of SmolLM2-135M-Instruct.
pub fn smollm2() -> Option<PathBuf> {
    let fetched = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../models/SmolLM2-135M-Instruct.Q4_1.gguf"
    );
    found(std::env::var_os("INTERNLM_SMOLLM2_GGUF").map_or(fetched.into(), PathBuf::from))
}

fn found(path: PathBuf) -> Option<PathBuf> {
    if path.exists() {
        return Some(path);
    }
    assert!(
        std::env::var("CI").as_deref() != Ok("true"),
        "{} is missing in CI",
        path.display()
    );
    println!("skipped: {} is missing", path.display());
    None
}

pub fn json(path: &Path) -> Value {
    let bytes = std::fs::read(path).unwrap();
    serde_json::from_slice(&bytes).unwrap()
}

pub fn ids(value: &Value) -> Vec<u32> {
    let ids = value.as_array().unwrap().iter();
    ids.map(|id| id.as_u64().unwrap() as u32).collect()
}

/// Number of cases of the loops over broken input.
pub fn fuzz_cases() -> usize {
    let cases = std::env::var("INTERNLM_FUZZ_CASES").ok();
    cases.map_or(2000, |cases| cases.parse().unwrap())
}

/// Random cases without files of failed ones; `PROPTEST_CASES` sets their number.
pub fn proptest_config() -> proptest::test_runner::Config {
    proptest::test_runner::Config {
        failure_persistence: None,
        ..Default::default()
    }
}

/// A small generator of numbers (xorshift64*), so that broken input is the same in every run.
pub struct Rng(pub u64);

impl Rng {
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }
}

pub const NORMAL: u8 = 1;
pub const UNKNOWN: u8 = 2;
pub const CONTROL: u8 = 3;
pub const USER_DEFINED: u8 = 4;
pub const UNUSED: u8 = 5;
pub const BYTE: u8 = 6;

/// A SentencePiece model to be written. Field numbers: `sentencepiece_model.proto`.
#[derive(Clone, Debug)]
pub struct Model {
    pub pieces: Vec<(String, f32, u8)>,
    pub model_type: u8,
    pub byte_fallback: bool,
    pub add_dummy_prefix: bool,
    pub remove_extra_whitespaces: bool,
    pub escape_whitespaces: bool,
    pub charsmap: Vec<u8>,
    pub whitespace_as_suffix: bool,
}

impl Model {
    /// `<unk>`, `<s>`, `</s>`, and all byte pieces if there is byte fallback.
    pub fn new(byte_fallback: bool) -> Self {
        let mut pieces = vec![
            ("<unk>".to_owned(), 0.0, UNKNOWN),
            ("<s>".to_owned(), 0.0, CONTROL),
            ("</s>".to_owned(), 0.0, CONTROL),
        ];
        if byte_fallback {
            pieces.extend((0..256).map(|byte| (format!("<0x{byte:02X}>"), 0.0, BYTE)));
        }
        Self {
            pieces,
            model_type: 2,
            byte_fallback,
            add_dummy_prefix: false,
            remove_extra_whitespaces: false,
            escape_whitespaces: true,
            charsmap: Vec::new(),
            whitespace_as_suffix: false,
        }
    }

    pub fn with(mut self, kind: u8, pieces: &[(&str, f32)]) -> Self {
        let pieces = pieces
            .iter()
            .map(|(text, score)| (text.to_string(), *score, kind));
        self.pieces.extend(pieces);
        self
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for (text, score, kind) in &self.pieces {
            let mut piece = Vec::new();
            field(&mut piece, 1, text.as_bytes());
            piece.push(2 << 3 | 5);
            piece.extend(score.to_le_bytes());
            number(&mut piece, 3, u64::from(*kind));
            field(&mut out, 1, &piece);
        }
        let mut trainer = Vec::new();
        number(&mut trainer, 3, u64::from(self.model_type));
        number(&mut trainer, 24, u64::from(self.whitespace_as_suffix));
        number(&mut trainer, 35, u64::from(self.byte_fallback));
        field(&mut out, 2, &trainer);
        let mut normalizer = Vec::new();
        field(&mut normalizer, 1, b"identity");
        field(&mut normalizer, 2, &self.charsmap);
        number(&mut normalizer, 3, u64::from(self.add_dummy_prefix));
        number(&mut normalizer, 4, u64::from(self.remove_extra_whitespaces));
        number(&mut normalizer, 5, u64::from(self.escape_whitespaces));
        field(&mut out, 3, &normalizer);
        out
    }

    /// Writes it as a folder with an optional `tokenizer_config.json`.
    pub fn folder(&self, config: Option<&str>) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("tokenizer.model"), self.bytes()).unwrap();
        if let Some(config) = config {
            std::fs::write(folder.path().join("tokenizer_config.json"), config).unwrap();
        }
        folder
    }

    pub fn load(&self) -> internlm_tokenize::Tokenizer {
        internlm_tokenize::Tokenizer::load(self.folder(None).path()).unwrap()
    }
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn field(out: &mut Vec<u8>, number: u64, bytes: &[u8]) {
    varint(out, number << 3 | 2);
    varint(out, bytes.len() as u64);
    out.extend(bytes);
}

fn number(out: &mut Vec<u8>, number: u64, value: u64) {
    varint(out, number << 3);
    varint(out, value);
}

/// GPT-2's spelling of bytes.
pub fn byte_spelling(byte: u8) -> char {
    let itself = |byte: u8| matches!(byte, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff);
    if itself(byte) {
        return char::from(byte);
    }
    let before = (0..byte).filter(|&b| !itself(b)).count() as u32;
    char::from_u32(0x100 + before).unwrap()
}

/// A small byte-level `tokenizer.json`: all bytes, a few merges (one of which spells a special
/// token), special and plain added tokens, and a post-processor that puts `<s>` first.
pub fn byte_level_json() -> Value {
    let mut vocab = serde_json::Map::new();
    for byte in 0..=255u8 {
        vocab.insert(byte_spelling(byte).into(), serde_json::json!(byte));
    }
    let merges = [
        ["H", "e"],
        ["l", "l"],
        ["He", "ll"],
        ["\u{120}", "w"],
        ["<", "s"],
        ["<s", ">"],
    ];
    for (merge, id) in merges.iter().zip(256..) {
        vocab.insert(merge.concat(), serde_json::json!(id));
    }
    let added = |id: u32, content: &str, special: bool| {
        serde_json::json!({
            "id": id, "content": content, "special": special, "single_word": false,
            "lstrip": false, "rstrip": false, "normalized": false,
        })
    };
    let byte_level = serde_json::json!({
        "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true,
    });
    serde_json::json!({
        "version": "1.0",
        "truncation": {"direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 0},
        "padding": null,
        "added_tokens": [
            added(261, "<s>", true), added(262, "<|im_end|>", true),
            added(263, "<tool>", false), added(264, "——", false),
        ],
        "normalizer": null,
        "pre_tokenizer": byte_level,
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {"<s>": {"id": "<s>", "ids": [261], "tokens": ["<s>"]}},
        },
        "decoder": byte_level,
        "model": {
            "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false,
            "ignore_merges": false, "vocab": vocab, "merges": merges,
        },
    })
}

/// Loads a `tokenizer.json`.
pub fn load_json(json: &Value) -> internlm_tokenize::Tokenizer {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("tokenizer.json"), json.to_string()).unwrap();
    internlm_tokenize::Tokenizer::load(folder.path()).unwrap()
}
