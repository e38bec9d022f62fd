//! The tokenizer inside of a GGUF file.
//!
//! Keys: `docs/gguf.md` of ggml-org/ggml. Pre-tokenizers: `src/llama-vocab.cpp` of
//! ggml-org/llama.cpp.

use internlm_core::gguf::{Array, Gguf, Value};
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};
use crate::sentencepiece::{Kind, MAX_PIECES, Piece, PieceModel, byte_value};

/// GPT-2's expression. White space that it leaves out becomes a piece of its own.
const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)";
const LLAMA3: &str = r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN2: &str = r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const DEEPSEEK3: &str = r##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"##;

/// Pre-tokenizers: names, expressions applied one after the other, whether a word that is a token
/// skips the merges, and whether BOS is added where the file does not say.
type Pre = (&'static [&'static str], &'static [&'static str], bool, bool);
const PRE: &[Pre] = &[
    (
        &["default"],
        &[r"[\p{P}\$\+<=>\^~\|]+", GPT2, r"\p{N}+", r"[0-9][0-9][0-9]"],
        false,
        false,
    ),
    (
        &["gpt-2", "phi-2", "mpt", "olmo", "jais"],
        &[GPT2],
        false,
        false,
    ),
    (
        &[
            "smollm",
            "starcoder",
            "refact",
            "command-r",
            "codeshell",
            "exaone",
        ],
        &[r"\p{N}", GPT2],
        false,
        false,
    ),
    (
        &["qwen2", "deepseek-r1-qwen", "stablelm2"],
        &[QWEN2],
        false,
        false,
    ),
    (
        &["llama-bpe", "llama3", "llama-v3", "falcon3"],
        &[LLAMA3],
        true,
        true,
    ),
    (&["dbrx", "smaug-bpe"], &[LLAMA3], false, false),
    (
        &["deepseek-v3"],
        &[r"\p{N}{1,3}", "[一-龥぀-ゟ゠-ヿ]+", DEEPSEEK3],
        false,
        false,
    ),
];
const PRE_NAMES: &str = "default, gpt-2, phi-2, mpt, olmo, jais, smollm, starcoder, refact, command-r, codeshell, exaone, qwen2, deepseek-r1-qwen, stablelm2, llama-bpe, llama3, llama-v3, falcon3, dbrx, smaug-bpe, deepseek-v3";

/// What a file's tokenizer is made of.
pub(crate) enum GgufTokenizer {
    Pieces(PieceModel),
    /// In the form of a `tokenizer.json`.
    Json(serde_json::Value),
}

/// The vocabulary and the ids with a role.
pub(crate) struct GgufParts {
    pub(crate) tokenizer: GgufTokenizer,
    pub(crate) bos: Option<u32>,
    pub(crate) eos: Option<u32>,
    pub(crate) pad: Option<u32>,
    pub(crate) unk: Option<u32>,
    pub(crate) add_bos: bool,
    pub(crate) chat_template: Option<String>,
    pub(crate) hash: String,
}

/// Reads a file's tokenizer.
pub(crate) fn read(gguf: &Gguf) -> Result<GgufParts> {
    let model = gguf
        .string("tokenizer.ggml.model")?
        .ok_or_else(|| gguf.missing("tokenizer.ggml.model"))?;
    let tokens = gguf
        .strings("tokenizer.ggml.tokens")?
        .ok_or_else(|| gguf.missing("tokenizer.ggml.tokens"))?;
    let wrong = |key: &str, what: String| Error::Gguf {
        file: gguf.file.clone(),
        key: key.into(),
        what,
    };
    if tokens.len() > MAX_PIECES {
        let what = format!("{} tokens, at most {MAX_PIECES} are read", tokens.len());
        return Err(wrong("tokenizer.ggml.tokens", what));
    }
    let kinds = match gguf.u32s("tokenizer.ggml.token_type")? {
        None => vec![Kind::Normal; tokens.len()],
        Some(types) if types.len() == tokens.len() => {
            // 0 is "undefined" there.
            let kind = |&number: &u32| Kind::from_number(u64::from(number.max(1)));
            let kinds: Option<Vec<_>> = types.iter().map(kind).collect();
            kinds.ok_or_else(|| {
                let what = "it holds a number above 6".into();
                wrong("tokenizer.ggml.token_type", what)
            })?
        }
        Some(types) => {
            let what = format!("{} types for {} tokens", types.len(), tokens.len());
            return Err(wrong("tokenizer.ggml.token_type", what));
        }
    };
    let role = |key: &str| -> Result<Option<u32>> {
        match gguf.u32(key)? {
            Some(id) if id as usize >= tokens.len() => {
                Err(wrong(key, format!("id {id} of {} tokens", tokens.len())))
            }
            id => Ok(id),
        }
    };
    let unk = role("tokenizer.ggml.unknown_token_id")?;
    let (tokenizer, add_bos) = match model {
        "llama" => (
            GgufTokenizer::Pieces(piece_model(gguf, tokens, kinds, unk)?),
            true,
        ),
        "gpt2" => {
            let pre = gguf.string("tokenizer.ggml.pre")?.unwrap_or("default");
            let Some(pre) = PRE.iter().find(|(names, ..)| names.contains(&pre)) else {
                return Err(Error::Unsupported {
                    file: gguf.file.clone(),
                    what: "tokenizer.ggml.pre",
                    name: pre.into(),
                    supported: PRE_NAMES,
                });
            };
            (
                GgufTokenizer::Json(byte_level(gguf, tokens, &kinds, pre)?),
                pre.3,
            )
        }
        other => {
            return Err(Error::Unsupported {
                file: gguf.file.clone(),
                what: "tokenizer.ggml.model",
                name: other.into(),
                supported: "llama, gpt2",
            });
        }
    };
    Ok(GgufParts {
        tokenizer,
        bos: role("tokenizer.ggml.bos_token_id")?,
        eos: role("tokenizer.ggml.eos_token_id")?,
        pad: role("tokenizer.ggml.padding_token_id")?,
        unk,
        add_bos: gguf
            .bool("tokenizer.ggml.add_bos_token")?
            .unwrap_or(add_bos),
        chat_template: gguf.string("tokenizer.chat_template")?.map(Into::into),
        hash: hash(gguf),
    })
}

/// A SentencePiece vocabulary.
fn piece_model(
    gguf: &Gguf,
    tokens: &[String],
    mut kinds: Vec<Kind>,
    unk: Option<u32>,
) -> Result<PieceModel> {
    let key = "tokenizer.ggml.scores";
    let scores = gguf.f32s(key)?.ok_or_else(|| gguf.missing(key))?;
    if scores.len() != tokens.len() {
        return Err(Error::Gguf {
            file: gguf.file.clone(),
            key: key.into(),
            what: format!("{} scores for {} tokens", scores.len(), tokens.len()),
        });
    }
    if let (Some(unk), false) = (unk, kinds.contains(&Kind::Unknown)) {
        kinds[unk as usize] = Kind::Unknown;
    }
    let mut model = PieceModel::empty();
    let pieces = tokens.iter().zip(scores).zip(kinds);
    model.pieces = pieces
        .map(|((text, &score), kind)| Piece {
            text: text.clone(),
            score,
            kind,
        })
        .collect();
    let bytes = model
        .pieces
        .iter()
        .filter(|piece| piece.kind == Kind::Byte && byte_value(&piece.text).is_some());
    model.byte_fallback = bytes.count() == 256;
    model.add_dummy_prefix = gguf
        .bool("tokenizer.ggml.add_space_prefix")?
        .unwrap_or(true);
    model.remove_extra_whitespaces = gguf
        .bool("tokenizer.ggml.remove_extra_whitespaces")?
        .unwrap_or(false);
    model.check(&gguf.file)?;
    Ok(model)
}

/// A byte-level vocabulary with its merges, as a `tokenizer.json` holds it.
fn byte_level(
    gguf: &Gguf,
    tokens: &[String],
    kinds: &[Kind],
    &(_, expressions, ignore_merges, _): &Pre,
) -> Result<serde_json::Value> {
    let key = "tokenizer.ggml.merges";
    let merges = gguf.strings(key)?.ok_or_else(|| gguf.missing(key))?;
    let mut pairs = Vec::with_capacity(merges.len());
    for (i, merge) in merges.iter().enumerate() {
        let Some((left, right)) = merge.split_once(' ') else {
            return Err(Error::Gguf {
                file: gguf.file.clone(),
                key: key.into(),
                what: format!("merge {i} is `{merge}`, expected two tokens with a space between"),
            });
        };
        pairs.push(json!([left, right]));
    }
    let mut vocab = serde_json::Map::new();
    let mut added = Vec::new();
    for ((token, kind), id) in tokens.iter().zip(kinds).zip(0u32..) {
        if let Some(first) = vocab.insert(token.clone(), json!(id)) {
            return Err(Error::Vocabulary {
                file: gguf.file.clone(),
                id,
                what: format!("`{token}` is token {first} already"),
            });
        }
        if matches!(kind, Kind::Control | Kind::Unknown | Kind::UserDefined) {
            added.push(json!({
                "id": id, "content": token, "special": *kind != Kind::UserDefined,
                "single_word": false, "lstrip": false, "rstrip": false, "normalized": false,
            }));
        }
    }
    let byte_level = json!({
        "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": false,
    });
    let mut steps: Vec<_> = expressions
        .iter()
        .map(|expression| {
            json!({
                "type": "Split", "pattern": {"Regex": expression},
                "behavior": "Isolated", "invert": false,
            })
        })
        .collect();
    steps.push(byte_level.clone());
    Ok(json!({
        "version": "1.0",
        "added_tokens": added,
        "normalizer": null,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": steps},
        "post_processor": null,
        "decoder": byte_level,
        "model": {
            "type": "BPE", "vocab": vocab, "merges": pairs, "ignore_merges": ignore_merges,
            "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false,
        },
    }))
}

/// SHA-256 over all keys of the tokenizer and their values.
fn hash(gguf: &Gguf) -> String {
    let mut hash = Sha256::new();
    let sized = |hash: &mut Sha256, text: &str| {
        hash.update((text.len() as u64).to_le_bytes());
        hash.update(text);
    };
    for (key, value) in &gguf.metadata {
        if !key.starts_with("tokenizer.") {
            continue;
        }
        sized(&mut hash, key);
        match value {
            Value::Array(Array::String(strings)) => {
                for string in strings {
                    sized(&mut hash, string);
                }
            }
            // Numbers print in a form that reads back as the same number.
            other => sized(&mut hash, &format!("{other:?}")),
        }
    }
    hex(&hash.finalize())
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
