//! `tokenizer.json`, encoded by the `tokenizers` crate.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};
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
        let full = Arc::new(build(&json)?);
        let hidden: HashSet<String> = added_tokens(&json)
            .filter(|(content, special)| *special || is_marker(content))
            .map(|(content, _)| content.to_owned())
            .collect();
        let plain = if hidden.is_empty() {
            full.clone()
        } else {
            hide(&mut json, &hidden);
            Arc::new(build(&json)?)
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

fn build(json: &Value) -> Result<Tokenizer> {
    // The crate reads borrowed strings, which a `Value` can't lend.
    Tokenizer::from_bytes(json.to_string()).map_err(failed("reading tokenizer.json"))
}

/// Contents of added tokens, and whether they are special.
fn added_tokens(json: &Value) -> impl Iterator<Item = (&str, bool)> {
    let tokens = json["added_tokens"].as_array();
    tokens.into_iter().flatten().filter_map(|token| {
        let content = token["content"].as_str()?;
        Some((content, token["special"] == true))
    })
}

/// Takes tokens out of everything that could produce them. Ids of other tokens stay.
fn hide(json: &mut Value, hidden: &HashSet<String>) {
    let is_hidden = |value: &Value| value.as_str().is_some_and(|s| hidden.contains(s));
    if let Some(added) = json["added_tokens"].as_array_mut() {
        added.retain(|token| !is_hidden(&token["content"]));
    }
    // It refers to tokens by name and is not used.
    json["post_processor"] = Value::Null;
    let unknown = json["model"]["unk_token"].as_str().map(str::to_owned);
    let model = &mut json["model"];
    if let Some(merges) = model["merges"].as_array_mut() {
        merges.retain(|merge| {
            let (left, right) = match merge {
                Value::String(merge) => merge.split_once(' ').unwrap_or_default(),
                merge => (
                    merge[0].as_str().unwrap_or_default(),
                    merge[1].as_str().unwrap_or_default(),
                ),
            };
            !(hidden.contains(left)
                || hidden.contains(right)
                || hidden.contains(&format!("{left}{right}")))
        });
    }
    match &mut model["vocab"] {
        Value::Object(vocab) => {
            vocab.retain(|token, _| !hidden.contains(token) || unknown.as_ref() == Some(token));
        }
        // Unigram: the place is the id, so the token gets a spelling that no text has.
        Value::Array(vocab) => {
            for (id, entry) in vocab.iter_mut().enumerate() {
                if is_hidden(&entry[0]) {
                    entry[0] = json!(format!("\u{fffe}\u{ffff}{id}\u{ffff}"));
                }
            }
        }
        _ => {}
    }
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
                    let bytes: Option<Vec<u8>> = token.chars().map(|c| bytes_of(c)).collect();
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
