//! Tokens by id and by spelling, and what each contributes to decoded text.

use std::borrow::Cow;
use std::collections::HashMap;

use crate::sentencepiece::{Kind, PieceModel, byte_value};

/// What a token adds to decoded text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Output<'a> {
    /// Whole characters. Bytes before it that are no character yet never will be one.
    Text(&'a str),
    /// Bytes that may be part of a character.
    Bytes(&'a [u8]),
}

/// How bytes that are not UTF-8 are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Invalid {
    /// One U+FFFD per byte, as SentencePiece does.
    PerByte,
    /// One U+FFFD per maximal subpart, as Rust's `from_utf8_lossy` and with it the `tokenizers`
    /// crate does for byte-level vocabularies.
    PerSubpart,
}

/// What becomes of a space at the very beginning of decoded text, which encoding may have put there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FirstSpace {
    Keep,
    /// One space of the first token is dropped.
    DropOne,
    /// All spaces of the first token are dropped, as the Metaspace decoder does.
    DropAll,
}

impl FirstSpace {
    /// What the text of the first token adds.
    pub(crate) fn of(self, text: &str) -> Cow<'_, str> {
        match self {
            FirstSpace::Keep => Cow::Borrowed(text),
            FirstSpace::DropOne => Cow::Borrowed(text.strip_prefix(' ').unwrap_or(text)),
            FirstSpace::DropAll if !text.contains(' ') => Cow::Borrowed(text),
            FirstSpace::DropAll => Cow::Owned(text.replace(' ', "")),
        }
    }
}

/// The spelling of all tokens. Ids may have gaps.
#[derive(Debug, Default)]
pub(crate) struct Vocabulary {
    tokens: Vec<Option<Box<str>>>,
    ids: HashMap<Box<str>, u32>,
    special: Vec<bool>,
}

impl Vocabulary {
    /// Gives an id a spelling. An earlier spelling still finds the id.
    pub(crate) fn set(&mut self, id: u32, token: &str) {
        let index = id as usize;
        if index >= self.tokens.len() {
            self.tokens.resize(index + 1, None);
            self.special.resize(index + 1, false);
        }
        self.tokens[index] = Some(token.into());
        self.ids.insert(token.into(), id);
    }

    /// Marks a token as one that decoding may skip.
    pub(crate) fn set_special(&mut self, id: u32) {
        if let Some(special) = self.special.get_mut(id as usize) {
            *special = true;
        }
    }

    /// Largest id plus one.
    pub(crate) fn len(&self) -> usize {
        self.tokens.len()
    }

    pub(crate) fn token(&self, id: u32) -> Option<&str> {
        self.tokens.get(id as usize)?.as_deref()
    }

    pub(crate) fn id(&self, token: &str) -> Option<u32> {
        self.ids.get(token).copied()
    }

    pub(crate) fn is_special(&self, id: u32) -> bool {
        self.special.get(id as usize).copied().unwrap_or(false)
    }

    /// All tokens in the order of their ids.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &str)> {
        (0..)
            .zip(&self.tokens)
            .filter_map(|(id, token)| Some((id, token.as_deref()?)))
    }
}

/// What all tokens add to decoded text, in one block of memory.
#[derive(Debug)]
pub(crate) struct OutputTable {
    bytes: Vec<u8>,
    /// The end of each token's bytes, and whether they are whole characters.
    ends: Vec<(u32, bool)>,
    pub(crate) invalid: Invalid,
    pub(crate) first_space: FirstSpace,
    /// Whether bytes on both sides of a token that is skipped may be one character: the `tokenizers` crate
    /// takes such tokens out first, InternLM's own classes don't.
    pub(crate) joins_over_skipped: bool,
}

impl OutputTable {
    /// A table of the `tokenizers` crate's decoding.
    pub(crate) fn new(invalid: Invalid, first_space: FirstSpace) -> Self {
        Self {
            bytes: Vec::new(),
            ends: Vec::new(),
            invalid,
            first_space,
            joins_over_skipped: true,
        }
    }

    pub(crate) fn push_text(&mut self, text: &str) {
        self.bytes.extend_from_slice(text.as_bytes());
        self.ends.push((self.bytes.len() as u32, true));
    }

    pub(crate) fn push_bytes(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        self.ends.push((self.bytes.len() as u32, false));
    }

    /// The outputs of a SentencePiece vocabulary with tokens of other names laid over it.
    pub(crate) fn of_pieces(
        model: &PieceModel,
        vocabulary: &Vocabulary,
        first_space: FirstSpace,
    ) -> Self {
        let mut table = Self::new(Invalid::PerByte, first_space);
        table.joins_over_skipped = false;
        for id in 0..vocabulary.len() {
            let token = vocabulary.token(id as u32).unwrap_or_default();
            match model.pieces.get(id) {
                Some(piece) if piece.text == token => match (piece.kind, byte_value(token)) {
                    (Kind::Byte, Some(byte)) => table.push_bytes(&[byte]),
                    (Kind::Control | Kind::Unknown, _) => table.push_text(token),
                    _ if model.escape_whitespaces => {
                        table.push_text(&token.replace('\u{2581}', " "));
                    }
                    _ => table.push_text(token),
                },
                _ => table.push_text(token),
            }
        }
        table
    }

    pub(crate) fn get(&self, id: u32) -> Option<Output<'_>> {
        let index = id as usize;
        let &(end, text) = self.ends.get(index)?;
        let start = match index {
            0 => 0,
            _ => self.ends[index - 1].0,
        };
        let bytes = &self.bytes[start as usize..end as usize];
        Some(match std::str::from_utf8(bytes) {
            Ok(string) if text => Output::Text(string),
            _ => Output::Bytes(bytes),
        })
    }
}
