//! `tokenizer.json`, encoded by the `tokenizers` crate.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::path::Path;
use std::sync::Arc;

use serde_json::{Map, Value};
use tokenizers::Tokenizer;

use crate::error::{Error, Result};
use crate::matcher::is_marker;
use crate::overlay::{Added, MAX_ID};
use crate::sentencepiece::byte_value;
use crate::vocabulary::{FirstSpace, Invalid, OutputTable, Vocabulary};

/// Two tokenizers over one file.
#[derive(Clone, Debug)]
pub(crate) struct HuggingFace {
    full: Arc<Tokenizer>,
    /// The same without special tokens and without added tokens that look like markup: the crate's
    /// own switch, `set_encode_special_tokens`, leaves the latter in, and a vocabulary that spells
    /// special tokens itself could still produce them.
    plain: Arc<Tokenizer>,
}

impl HuggingFace {
    /// Reads a `tokenizer.json`; `file` only names it in errors.
    pub(crate) fn read(bytes: &[u8], file: &Path) -> Result<(Self, Value)> {
        let json: Value = serde_json::from_slice(bytes).map_err(|source| Error::Json {
            file: file.to_path_buf(),
            field: "(file)".into(),
            what: source.to_string(),
        })?;
        Ok((Self::new(json.clone(), file)?, json))
    }

    pub(crate) fn new(mut json: Value, file: &Path) -> Result<Self> {
        let Some(object) = json.as_object_mut() else {
            return Err(Error::Json {
                file: file.to_path_buf(),
                field: "(file)".into(),
                what: "expected an object".into(),
            });
        };
        // Cutting and padding are for whoever makes batches.
        object.insert("truncation".into(), Value::Null);
        object.insert("padding".into(), Value::Null);
        pin(object);
        let full = Arc::new(build(&json, file)?);
        let hidden: HashSet<String> = added_tokens(&json)
            .filter(|token| token["special"] == true || content(token).is_some_and(is_marker))
            .filter_map(|token| content(token).map(str::to_owned))
            .collect();
        let plain = if hidden.is_empty() {
            full.clone()
        } else {
            hide(&mut json, &hidden);
            let mut plain = build(&json, file)?;
            plain.set_encode_special_tokens(true);
            Arc::new(plain)
        };
        Ok(Self { full, plain })
    }

    /// Appends the ids of a text. With `special`, special tokens that it spells are recognised.
    pub(crate) fn encode(&self, text: &str, special: bool, out: &mut Vec<u32>) -> Result<()> {
        let tokenizer = if special { &self.full } else { &self.plain };
        let encoding = tokenizer
            .encode_fast(text, false)
            .map_err(failed("encoding a text"))?;
        out.extend_from_slice(encoding.get_ids());
        Ok(())
    }

    /// The tokens that the post-processor puts before a text.
    pub(crate) fn prefix(&self) -> Vec<u32> {
        self.full
            .encode_fast("", true)
            .map(|encoding| encoding.get_ids().to_vec())
            .unwrap_or_default()
    }

    pub(crate) fn decode(&self, ids: &[u32]) -> Result<String> {
        self.full
            .decode(ids, false)
            .map_err(failed("decoding tokens"))
    }

    /// Spellings of all tokens, and the added ones.
    pub(crate) fn vocabulary(&self, file: &Path) -> Result<(Vocabulary, Vec<Added>)> {
        let mut vocabulary = Vocabulary::default();
        let mut tokens: Vec<_> = self.full.get_vocab(true).into_iter().collect();
        tokens.sort_by(|a, b| (a.1, &a.0).cmp(&(b.1, &b.0)));
        for (token, id) in tokens {
            if u64::from(id) >= MAX_ID {
                return Err(Error::Vocabulary {
                    file: file.to_path_buf(),
                    id,
                    what: format!("`{token}`: ids must be less than {MAX_ID}"),
                });
            }
            vocabulary.set(id, &token);
        }
        let mut added: Vec<_> = self
            .full
            .get_added_tokens_decoder()
            .into_iter()
            .map(|(id, token)| Added {
                content: token.content,
                id,
                special: token.special,
            })
            .collect();
        added.sort_by_key(|token| token.id);
        for token in &added {
            vocabulary.set(token.id, &token.content);
        }
        Ok((vocabulary, added))
    }
}

fn failed(what: &'static str) -> impl Fn(tokenizers::Error) -> Error {
    move |source| Error::HuggingFace {
        what,
        message: source.to_string(),
    }
}

/// Builds the crate's tokenizer and checks that added tokens have the ids that the file gives them.
fn build(json: &Value, file: &Path) -> Result<Tokenizer> {
    check_template(&json["post_processor"], file)?;
    // The crate reads borrowed strings, which a `Value` can't lend.
    let tokenizer =
        Tokenizer::from_bytes(json.to_string()).map_err(failed("reading tokenizer.json"))?;
    for token in added_tokens(json) {
        let (Some(content), Some(id)) = (content(token), token["id"].as_u64()) else {
            continue;
        };
        let got = tokenizer.token_to_id(content);
        if got.map(u64::from) != Some(id) && !content.is_empty() {
            return Err(Error::Vocabulary {
                file: file.to_path_buf(),
                id: u32::try_from(id).unwrap_or(u32::MAX),
                what: format!(
                    "the added token `{content}` can't have this id, it would be {got:?}"
                ),
            });
        }
    }
    Ok(tokenizer)
}

/// Checks what the crate takes for granted when it puts a template around one text: there is no
/// second text, and the tokens that are named are there. Processors may hold others.
fn check_template(processor: &Value, file: &Path) -> Result<()> {
    // As deep as the JSON parser goes.
    for inner in processor["processors"].as_array().into_iter().flatten() {
        check_template(inner, file)?;
    }
    let pieces = processor["single"].as_array().into_iter().flatten();
    for piece in pieces {
        let what = match (
            &piece["Sequence"]["id"],
            piece["SpecialToken"]["id"].as_str(),
        ) {
            (Value::String(id), _) if id != "A" => format!("sequence `{id}`, expected `A`"),
            (_, Some(id)) if processor["special_tokens"].get(id).is_none() => {
                format!("the special token `{id}`, which `special_tokens` lacks")
            }
            _ => continue,
        };
        return Err(Error::Json {
            file: file.to_path_buf(),
            field: "post_processor.single".into(),
            what: format!("it has {what}"),
        });
    }
    Ok(())
}

fn added_tokens(json: &Value) -> impl Iterator<Item = &Value> {
    json["added_tokens"].as_array().into_iter().flatten()
}

fn content(token: &Value) -> Option<&str> {
    token["content"].as_str()
}

/// The crate counts added tokens on from the end of the vocabulary, whatever ids the file gives
/// them. Tokens of the vocabulary keep their ids, so the added ones become some.
fn pin(json: &mut Map<String, Value>) {
    let tokens: Vec<_> = json
        .get("added_tokens")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(|token| Some((content(token)?.to_owned(), token["id"].clone())))
        .collect();
    let vocab = json
        .get_mut("model")
        .and_then(|model| model.get_mut("vocab"));
    if let Some(vocab) = vocab.and_then(Value::as_object_mut) {
        for (content, id) in tokens {
            if !content.is_empty() {
                vocab.entry(content).or_insert(id);
            }
        }
    }
}

/// Takes tokens out of everything that could produce them. All ids stay as they are, so hidden
/// tokens of the vocabulary get spellings that nobody can guess.
fn hide(json: &mut Value, hidden: &HashSet<String>) {
    let secret = RandomState::new().hash_one(0);
    let names: HashMap<&str, String> = hidden
        .iter()
        .zip(0..)
        .map(|(token, n)| (token.as_str(), format!("\u{fffe}{secret:016x}\u{ffff}{n}")))
        .collect();
    let mut in_vocab = HashSet::new();
    if let Some(model) = json.get_mut("model").and_then(Value::as_object_mut) {
        if let Some(merges) = model.get_mut("merges").and_then(Value::as_array_mut) {
            merges.retain(|merge| !merge_parts(merge).iter().any(|part| hidden.contains(part)));
        }
        match model.get_mut("vocab") {
            Some(Value::Object(vocab)) => {
                for (&token, name) in &names {
                    if let Some(id) = vocab.remove(token) {
                        vocab.insert(name.clone(), id);
                        in_vocab.insert(token);
                    }
                }
            }
            // Unigram: the place is the id.
            Some(Value::Array(vocab)) => {
                for entry in vocab {
                    let name = entry[0]
                        .as_str()
                        .and_then(|token| names.get_key_value(token));
                    if let Some((token, name)) = name {
                        in_vocab.insert(token);
                        entry[0] = name.clone().into();
                    }
                }
            }
            _ => {}
        }
        let unknown = model.get("unk_token").and_then(Value::as_str);
        if let Some(name) = unknown.and_then(|token| names.get(token)) {
            model.insert("unk_token".into(), name.clone().into());
        }
    }
    // What is left is counted on from the end of the vocabulary, so it stays and is special:
    // those are not matched.
    if let Some(added) = json.get_mut("added_tokens").and_then(Value::as_array_mut) {
        added.retain(|token| !content(token).is_some_and(|token| in_vocab.contains(token)));
        for token in added {
            if content(token).is_some_and(|token| hidden.contains(token)) {
                token["special"] = true.into();
            }
        }
    }
    // It refers to tokens by name and is not used.
    if let Some(json) = json.as_object_mut() {
        json.insert("post_processor".into(), Value::Null);
    }
}

/// Both sides of a merge and what they join to.
fn merge_parts(merge: &Value) -> [String; 3] {
    let (left, right) = match merge {
        Value::String(merge) => merge.split_once(' ').unwrap_or_default(),
        merge => (
            merge[0].as_str().unwrap_or_default(),
            merge[1].as_str().unwrap_or_default(),
        ),
    };
    [left.into(), right.into(), format!("{left}{right}")]
}

/// The outputs of tokens under the decoder of a `tokenizer.json`, where they do not depend on
/// neighbours; `None` for other decoders.
pub(crate) fn outputs(json: &Value, vocabulary: &Vocabulary) -> Option<OutputTable> {
    let decoder = &json["decoder"];
    let single = std::slice::from_ref(decoder);
    let steps = match decoder["type"].as_str()? {
        "Sequence" => decoder["decoders"].as_array()?.as_slice(),
        _ => single,
    };
    let tokens = || (0..vocabulary.len()).map(|id| vocabulary.token(id as u32).unwrap_or_default());
    if let [step] = steps {
        match step["type"].as_str()? {
            "ByteLevel" => {
                let mut table = OutputTable::new(Invalid::PerSubpart, FirstSpace::Keep);
                let bytes_of = byte_level();
                for token in tokens() {
                    let bytes: Option<Vec<u8>> = token.chars().map(&bytes_of).collect();
                    table.push_bytes(bytes.as_deref().unwrap_or(token.as_bytes()));
                }
                return Some(table);
            }
            "Metaspace" if step["replacement"] == "\u{2581}" => {
                let keeps = step["prepend_scheme"] == "never" || step["add_prefix_space"] == false;
                let first = if keeps {
                    FirstSpace::Keep
                } else {
                    FirstSpace::DropAll
                };
                let mut table = OutputTable::new(Invalid::PerByte, first);
                for token in tokens() {
                    table.push_text(&token.replace('\u{2581}', " "));
                }
                return Some(table);
            }
            _ => {}
        }
    }
    // SentencePiece-like, as conversions from `tokenizer.model` write it.
    let (mut replace, mut bytes, mut fused) = (false, false, false);
    let mut first = FirstSpace::Keep;
    for step in steps {
        match step["type"].as_str()? {
            "Replace" if step["pattern"]["String"] == "\u{2581}" && step["content"] == " " => {
                replace = true;
            }
            "ByteFallback" => bytes = true,
            "Fuse" => fused = true,
            "Strip"
                if fused && step["content"] == " " && step["start"] == 1 && step["stop"] == 0 =>
            {
                first = FirstSpace::DropOne;
            }
            _ => return None,
        }
    }
    if !fused {
        return None;
    }
    let mut table = OutputTable::new(Invalid::PerByte, first);
    for token in tokens() {
        match byte_value(token) {
            Some(byte) if bytes => table.push_bytes(&[byte]),
            _ if replace => table.push_text(&token.replace('\u{2581}', " ")),
            _ => table.push_text(token),
        }
    }
    Some(table)
}

/// The inverse of GPT-2's `bytes_to_unicode` (`src/encoder.py` of openai/gpt-2): printable bytes
/// of Latin-1 stand for themselves, the others are U+0100 and up in order.
fn byte_level() -> impl Fn(char) -> Option<u8> {
    let itself = |byte: &u8| matches!(byte, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff);
    let others: Vec<u8> = (0..=255).filter(|byte| !itself(byte)).collect();
    move |c| match c as u32 {
        cp @ 0..0x100 => Some(cp as u8).filter(itself),
        cp => others.get(cp as usize - 0x100).copied(),
    }
}
