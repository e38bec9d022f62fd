//! The tokenizer that users hold.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use internlm_core::Part;
use rayon::prelude::*;

use crate::detokenizer::Detokenizer;
use crate::error::{Error, Result};
use crate::hf::HuggingFace;
use crate::load;
use crate::matcher::{Matcher, is_marker};
use crate::overlay::Added;
use crate::spm::Spm;
use crate::vocabulary::{Output, OutputTable, Vocabulary};

/// How to encode a text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EncodeOptions {
    /// Put the BOS token first.
    pub add_bos: bool,
    /// Recognise special tokens that the text spells. Off for whatever a person typed.
    pub special: bool,
}

/// A tokenizer. Clones share its tables, and any number of threads may use it at once.
///
/// # Special tokens and what people type
/// With [`EncodeOptions::special`] off, which is the default, no text becomes a control token, an
/// added special token, or a user-defined token that looks like markup (`<eoa>`,
/// `[UNUSED_TOKEN_146]`): each is encoded as the ordinary text that it is. User-defined tokens that
/// are no markup, such as InternLM2's full-width letters, always match. On text without markers the
/// ids are those of SentencePiece.
///
/// With it on, everything matches as in the official Python classes.
#[derive(Clone)]
pub struct Tokenizer(Arc<Inner>);

/// What does the encoding.
#[derive(Debug)]
pub(crate) enum Backend {
    Spm(Box<Spm>),
    HuggingFace(HuggingFace),
}

/// Ids with a role.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Roles {
    pub(crate) bos: Option<u32>,
    pub(crate) eos: Option<u32>,
    pub(crate) pad: Option<u32>,
    pub(crate) unk: Option<u32>,
    pub(crate) add_bos: bool,
}

pub(crate) struct Inner {
    backend: Backend,
    vocabulary: Vocabulary,
    outputs: Option<OutputTable>,
    /// Spellings and ids of markers, in the order of ids.
    markers: Vec<(String, u32)>,
    marker_ids: HashMap<String, u32>,
    marker_matcher: Matcher,
    /// Added tokens, which are split out of a text before a SentencePiece vocabulary sees it: all
    /// of them, and those that are neither special nor markup.
    added: Matcher,
    plain_added: Matcher,
    roles: Roles,
    chat_template: Option<String>,
    hash: String,
}

/// What a loader found.
pub(crate) struct Parts {
    pub(crate) backend: Backend,
    pub(crate) vocabulary: Vocabulary,
    pub(crate) outputs: Option<OutputTable>,
    pub(crate) added: Vec<Added>,
    /// Markers of the vocabulary besides the added tokens.
    pub(crate) markers: Vec<(String, u32)>,
    pub(crate) roles: Roles,
    pub(crate) chat_template: Option<String>,
    pub(crate) hash: String,
}

impl Inner {
    pub(crate) fn new(parts: Parts) -> Self {
        let Parts {
            backend,
            vocabulary,
            outputs,
            added,
            mut markers,
            roles,
            chat_template,
            hash,
        } = parts;
        let hidden = |token: &Added| token.special || is_marker(&token.content);
        let pair = |token: &Added| (token.content.clone(), token.id);
        markers.extend(added.iter().filter(|token| hidden(token)).map(pair));
        markers.retain(|(token, _)| !token.is_empty());
        markers.sort_by(|a, b| (a.1, &a.0).cmp(&(b.1, &b.0)));
        markers.dedup();
        let by_ref = |token: &(String, u32)| (token.0.clone(), token.1);
        let split = |tokens: &mut dyn Iterator<Item = &Added>| {
            let tokens: Vec<_> = tokens.map(pair).collect();
            Matcher::new(tokens.iter().map(|(token, id)| (token.as_str(), *id)))
        };
        Self {
            backend,
            vocabulary,
            outputs,
            marker_ids: markers.iter().map(by_ref).collect(),
            marker_matcher: Matcher::new(markers.iter().map(|(token, id)| (token.as_str(), *id))),
            markers,
            added: split(&mut added.iter()),
            plain_added: split(&mut added.iter().filter(|token| !hidden(token))),
            roles,
            chat_template,
            hash,
        }
    }
}

impl Tokenizer {
    /// Loads a tokenizer from a folder in Hugging Face's layout, from a `tokenizer.model` or
    /// `tokenizer.json` alone, or from a `.gguf` file. A file's kind is told by its content.
    ///
    /// In a folder, `tokenizer_config.json`, `special_tokens_map.json`, `added_tokens.json` and
    /// `chat_template.jinja` are laid over the vocabulary. Where it holds both kinds of vocabulary,
    /// `tokenizer.json` is read, unless the config names one of InternLM's own classes: those read
    /// `tokenizer.model`.
    ///
    /// # Errors
    /// A missing, cut or corrupt file, or one that asks for something that is not implemented; the
    /// error names the file and the place.
    pub fn load(path: impl AsRef<Path>) -> Result<Self> {
        Ok(Self(Arc::new(load::load(path.as_ref())?)))
    }

    /// Encodes a text.
    ///
    /// # Errors
    /// [`Error::NoBos`] if BOS is asked for and there is none; otherwise only for texts of more
    /// than 512 MiB or if the `tokenizers` crate fails.
    pub fn encode(&self, text: &str, options: EncodeOptions) -> Result<Vec<u32>> {
        let mut ids = Vec::with_capacity(text.len() / 3 + 2);
        if options.add_bos {
            ids.push(self.0.roles.bos.ok_or(Error::NoBos)?);
        }
        self.encode_to(text, options.special, &mut ids)?;
        Ok(ids)
    }

    /// Encodes a prompt. Neighbouring texts are encoded as one, a marker becomes its id. A marker
    /// that the tokenizer lacks is text. BOS is not put before a first part that is BOS itself.
    ///
    /// # Errors
    /// As [`encode`](Tokenizer::encode).
    pub fn encode_parts(&self, parts: &[Part], add_bos: bool) -> Result<Vec<u32>> {
        let mut ids = Vec::new();
        if add_bos {
            ids.push(self.0.roles.bos.ok_or(Error::NoBos)?);
        }
        let mut text = String::new();
        for (index, part) in parts.iter().enumerate() {
            let marker = match part {
                Part::Marker { text } => self.0.marker_ids.get(text).copied(),
                Part::Text { .. } => None,
            };
            let Some(id) = marker else {
                text.push_str(part.as_str());
                continue;
            };
            self.encode_to(&text, false, &mut ids)?;
            text.clear();
            if !(add_bos && index == 0 && Some(id) == self.0.roles.bos) {
                ids.push(id);
            }
        }
        self.encode_to(&text, false, &mut ids)?;
        Ok(ids)
    }

    /// Encodes many texts on all cores.
    ///
    /// # Errors
    /// As [`encode`](Tokenizer::encode).
    pub fn encode_batch(&self, texts: &[&str], options: EncodeOptions) -> Result<Vec<Vec<u32>>> {
        texts
            .par_iter()
            .map(|text| self.encode(text, options))
            .collect()
    }

    fn encode_to(&self, text: &str, special: bool, ids: &mut Vec<u32>) -> Result<()> {
        let spm = match &self.0.backend {
            Backend::HuggingFace(_) if text.is_empty() => return Ok(()),
            Backend::HuggingFace(tokenizer) => return tokenizer.encode(text, special, ids),
            Backend::Spm(spm) => spm,
        };
        let added = if special {
            &self.0.added
        } else {
            &self.0.plain_added
        };
        let mut at = 0;
        while let Some((id, start, end)) = added.find(text, at) {
            spm.encode(&text[at..start], special, ids)?;
            ids.push(id);
            at = end;
        }
        spm.encode(&text[at..], special, ids)
    }

    /// Decodes ids. Bytes that are no UTF-8 become U+FFFD: one each, or for byte-level vocabularies
    /// one for each maximal subpart, as the `tokenizers` crate does. Ids in gaps of the vocabulary add
    /// nothing.
    ///
    /// # Errors
    /// [`Error::UnknownId`], for ids of [`vocab_size`](Tokenizer::vocab_size) or more.
    pub fn decode(&self, ids: &[u32], skip_special_tokens: bool) -> Result<String> {
        for &id in ids {
            self.check_id(id)?;
        }
        if self.0.outputs.is_none() {
            return self.decode_whole(ids, skip_special_tokens);
        }
        let mut detokenizer = self.detokenizer(skip_special_tokens);
        let mut text = String::with_capacity(ids.len() * 4);
        for &id in ids {
            detokenizer.push_to(id, &mut text)?;
        }
        text.push_str(&detokenizer.flush());
        Ok(text)
    }

    /// A decoder for ids that arrive one by one.
    pub fn detokenizer(&self, skip_special_tokens: bool) -> Detokenizer {
        Detokenizer::new(self.clone(), skip_special_tokens)
    }

    /// Splits a trusted text, such as a rendered template, at the markers that it spells.
    pub fn parse_markers(&self, text: &str) -> Vec<Part> {
        let mut parts = Vec::new();
        let mut at = 0;
        while let Some((_, start, end)) = self.0.marker_matcher.find(text, at) {
            if at < start {
                parts.push(Part::text(&text[at..start]));
            }
            parts.push(Part::marker(&text[start..end]));
            at = end;
        }
        if at < text.len() {
            parts.push(Part::text(&text[at..]));
        }
        parts
    }

    /// The spelling of a token as the vocabulary has it: U+2581 for spaces, `<0x0A>` for bytes.
    pub fn id_to_token(&self, id: u32) -> Option<String> {
        self.0.vocabulary.token(id).map(Into::into)
    }

    /// The id of a token that is spelled as in the vocabulary.
    pub fn token_to_id(&self, token: &str) -> Option<u32> {
        self.0.vocabulary.id(token)
    }

    /// The largest id plus one, added tokens included. A model may have more rows than that.
    pub fn vocab_size(&self) -> usize {
        self.0.vocabulary.len()
    }

    /// The id of the token that begins a text.
    pub fn bos_token_id(&self) -> Option<u32> {
        self.0.roles.bos
    }

    /// The id of the token that ends a text.
    pub fn eos_token_id(&self) -> Option<u32> {
        self.0.roles.eos
    }

    /// The id of the token that fills batches up.
    pub fn pad_token_id(&self) -> Option<u32> {
        self.0.roles.pad
    }

    /// The id of the token for what the vocabulary can't spell.
    pub fn unk_token_id(&self) -> Option<u32> {
        self.0.roles.unk
    }

    /// Whether the checkpoint wants BOS before a text.
    pub fn adds_bos(&self) -> bool {
        self.0.roles.add_bos
    }

    /// The bytes that a token adds to a decoded text; they may be a part of a character. The bytes of
    /// all tokens of an encoded text join to that text, but for the space that some tokenizers put
    /// before it: see [`first_token_bytes`](Tokenizer::first_token_bytes).
    ///
    /// `None` for [markers](Tokenizer::special_tokens), which are no text; for ids that the
    /// vocabulary lacks; and for all ids where a `tokenizer.json` asks for a decoder that looks at
    /// neighbours ([`decodes_by_token`](Tokenizer::decodes_by_token)).
    pub fn token_bytes(&self, id: u32) -> Option<&[u8]> {
        self.0.vocabulary.token(id)?;
        let markers = &self.0.markers;
        let is_marker = markers.binary_search_by_key(&id, |marker| marker.1).is_ok();
        if is_marker || self.is_special(id) {
            return None;
        }
        Some(match self.0.outputs.as_ref()?.get(id)? {
            Output::Text(text) => text.as_bytes(),
            Output::Bytes(bytes) => bytes,
        })
    }

    /// The same for the first token of a text, from which decoding takes the space that encoding may
    /// have put there.
    pub fn first_token_bytes(&self, id: u32) -> Option<Cow<'_, [u8]>> {
        let bytes = self.token_bytes(id)?;
        let table = self.0.outputs.as_ref()?;
        Some(match table.get(id)? {
            Output::Text(text) => match table.first_space.of(text) {
                Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
                Cow::Owned(text) => Cow::Owned(text.into_bytes()),
            },
            Output::Bytes(_) => Cow::Borrowed(bytes),
        })
    }

    /// Whether each token adds the same to a decoded text wherever it stands, except at the beginning.
    pub fn decodes_by_token(&self) -> bool {
        self.0.outputs.is_some()
    }

    /// Whether decoding may skip a token.
    pub fn is_special(&self, id: u32) -> bool {
        self.0.vocabulary.is_special(id)
    }

    /// All markers with their ids, in the order of ids: special tokens, and other tokens that look
    /// like markup, which decoding does not skip ([`is_special`](Tokenizer::is_special)). An id may
    /// have two spellings, such as `<|im_start|>` and the `[UNUSED_TOKEN_146]` that it replaces.
    pub fn special_tokens(&self) -> impl Iterator<Item = (&str, u32)> {
        self.0
            .markers
            .iter()
            .map(|(token, id)| (token.as_str(), *id))
    }

    /// The Jinja source of the checkpoint's chat template.
    pub fn chat_template(&self) -> Option<&str> {
        self.0.chat_template.as_deref()
    }

    /// SHA-256 in hex: of the file, or over names and contents of the files of a folder that were
    /// read, or over the tokenizer's metadata of a GGUF file.
    pub fn hash(&self) -> &str {
        &self.0.hash
    }

    pub(crate) fn outputs(&self) -> Option<&OutputTable> {
        self.0.outputs.as_ref()
    }

    pub(crate) fn check_id(&self, id: u32) -> Result<()> {
        // Gaps are tokens that the vocabulary does not have; they decode to nothing.
        if (id as usize) < self.vocab_size() {
            return Ok(());
        }
        Err(Error::UnknownId {
            id,
            vocab_size: self.vocab_size(),
        })
    }

    /// Whether the vocabulary has a token at an id; ids may have gaps.
    pub(crate) fn has_token(&self, id: u32) -> bool {
        self.0.vocabulary.token(id).is_some()
    }

    /// Decodes with the decoder of a `tokenizer.json`.
    pub(crate) fn decode_whole(&self, ids: &[u32], skip_special_tokens: bool) -> Result<String> {
        let Backend::HuggingFace(tokenizer) = &self.0.backend else {
            return Ok(String::new());
        };
        let kept: Vec<u32> = ids
            .iter()
            .copied()
            .filter(|&id| !(skip_special_tokens && self.is_special(id)))
            .collect();
        tokenizer.decode(&kept)
    }
}

impl fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokenizer")
            .field("vocab_size", &self.vocab_size())
            .field("roles", &self.0.roles)
            .field("hash", &self.0.hash)
            .finish_non_exhaustive()
    }
}
