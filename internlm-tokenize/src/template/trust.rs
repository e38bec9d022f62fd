//! Keeps what a template wrote apart from what it was given.
//!
//! A Jinja template returns one string. To know which characters of it are the template's own,
//! it is rendered a second time with every character of untrusted text that occurs in a special
//! token replaced by a private *twin*, a private-use character that occurs nowhere else. Where the
//! second output with its twins translated back equals the first, the twins mark exactly the
//! untrusted characters, and a special token of the second output consists of trusted ones alone:
//! however text was trimmed, split or joined, and whichever border it stands at.
//!
//! Where it does not equal it, the template looks into untrusted text (`'<think>' in content`),
//! and a third rendering takes the place of the second: the special tokens in the template's own
//! source, in its variables and in trusted content are replaced by one private character each, and
//! only these become markers. That is as safe; it only misses markers that a template puts together
//! from pieces (`'<|' + role + '|>'`).

use internlm_core::Part;
use rustc_hash::{FxHashMap, FxHashSet};

/// Special tokens, ready to be searched for in text.
#[derive(Clone, Debug, Default)]
pub(super) struct Tokens {
    /// By first character, the longest first.
    by_first: FxHashMap<char, Vec<String>>,
}

impl Tokens {
    pub(super) fn new<'a>(all: impl IntoIterator<Item = &'a str>) -> Self {
        let mut tokens = Self::default();
        for token in all {
            tokens.insert(token);
        }
        tokens
    }

    /// Adds a token. One of nothing but white space is left out: text is full of it.
    pub(super) fn insert(&mut self, token: &str) {
        let Some(first) = token.chars().next() else {
            return;
        };
        if token.chars().all(char::is_whitespace) {
            return;
        }
        let list = self.by_first.entry(first).or_default();
        let at = list.partition_point(|other| other.len() > token.len());
        if !list[at..].iter().any(|other| other == token) {
            list.insert(at, token.to_owned());
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &str> {
        self.by_first.values().flatten().map(String::as_str)
    }

    pub(super) fn contains(&self, token: &str) -> bool {
        token
            .chars()
            .next()
            .and_then(|first| self.by_first.get(&first))
            .is_some_and(|list| list.iter().any(|other| other == token))
    }

    /// The token that `text` begins with, the longest if several do.
    fn at_start(&self, first: char, text: &str) -> Option<&str> {
        self.by_first
            .get(&first)?
            .iter()
            .find(|token| text.starts_with(token.as_str()))
            .map(String::as_str)
    }

    /// The characters of all tokens, white space left out.
    fn alphabet(&self) -> Vec<char> {
        let set: FxHashSet<char> = self
            .iter()
            .flat_map(str::chars)
            .filter(|c| !c.is_whitespace())
            .collect();
        let mut alphabet: Vec<char> = set.into_iter().collect();
        alphabet.sort_unstable();
        alphabet
    }
}

/// The private-use characters of planes 15 and 16 that some text uses already.
#[derive(Clone, Debug, Default)]
pub(super) struct Used(FxHashSet<char>);

impl Used {
    pub(super) fn add(&mut self, text: &str) {
        // In UTF-8 these begin with the bytes F3 B0.. and F4; most text has neither byte.
        if text.bytes().any(|byte| byte >= 0xF3) {
            self.0
                .extend(text.chars().filter(|&c| c >= PRIVATE_USE[0].0));
        }
    }

    /// Private-use characters that no text uses.
    fn free(&self) -> impl Iterator<Item = char> {
        PRIVATE_USE
            .iter()
            .flat_map(|&(first, last)| first..=last)
            .filter(|c| !self.0.contains(c))
    }
}

const PRIVATE_USE: [(char, char); 2] = [('\u{F0000}', '\u{FFFFD}'), ('\u{100000}', '\u{10FFFD}')];

/// A pairing of the characters of special tokens with private twins.
#[derive(Clone, Debug, Default)]
pub(super) struct Twins {
    twin: FxHashMap<char, char>,
    original: FxHashMap<char, char>,
}

impl Twins {
    /// `None` where the texts leave no private-use characters free.
    pub(super) fn new(tokens: &Tokens, used: &Used) -> Option<Self> {
        let mut twins = Self::default();
        let mut free = used.free();
        for c in tokens.alphabet() {
            let twin = free.next()?;
            twins.twin.insert(c, twin);
            twins.original.insert(twin, c);
        }
        Some(twins)
    }

    /// Disguises untrusted text.
    pub(super) fn disguise(&self, text: &str) -> String {
        translate(text, &self.twin)
    }

    /// The text as it was.
    pub(super) fn restore(&self, text: &str) -> String {
        translate(text, &self.original)
    }

    /// Splits an output at the tokens that it still spells, and restores the text between them.
    pub(super) fn split(&self, tokens: &Tokens, output: &str) -> Vec<Part> {
        let mut parts = Vec::new();
        let mut text_start = 0;
        let mut at = 0;
        while let Some(c) = output[at..].chars().next() {
            let Some(token) = tokens.at_start(c, &output[at..]) else {
                at += c.len_utf8();
                continue;
            };
            if text_start < at {
                parts.push(Part::text(self.restore(&output[text_start..at])));
            }
            parts.push(Part::marker(token));
            at += token.len();
            text_start = at;
        }
        if text_start < output.len() {
            parts.push(Part::text(self.restore(&output[text_start..])));
        }
        parts
    }
}

fn translate(text: &str, map: &FxHashMap<char, char>) -> String {
    text.chars()
        .map(|c| map.get(&c).copied().unwrap_or(c))
        .collect()
}

/// A private character in place of each special token.
#[derive(Clone, Debug)]
pub(super) struct Seals {
    seal: FxHashMap<String, char>,
    token: FxHashMap<char, String>,
    tokens: Tokens,
}

impl Seals {
    /// `None` where the texts leave no private-use characters free.
    pub(super) fn new(tokens: &Tokens, used: &Used) -> Option<Self> {
        let mut seals = Self {
            seal: FxHashMap::default(),
            token: FxHashMap::default(),
            tokens: Tokens::default(),
        };
        let mut free = used.free();
        // Sorted, so that the same conversation always gets the same characters.
        let mut all: Vec<&str> = tokens.iter().collect();
        all.sort_unstable();
        for token in all {
            let seal = free.next()?;
            seals.seal.insert(token.to_owned(), seal);
            seals.token.insert(seal, token.to_owned());
            // One that may be part of the template language stays spelled out in the source.
            let word = token.chars().all(|c| c.is_alphanumeric() || c == '_');
            let syntax = ["{", "}", "%}", "'", "\"", "\\"]
                .iter()
                .any(|syntax| token.contains(syntax));
            if !word && !syntax {
                seals.tokens.insert(token);
            }
        }
        Some(seals)
    }

    /// The character of a token, if it is one.
    pub(super) fn seal(&self, token: &str) -> Option<char> {
        self.seal.get(token).copied()
    }

    /// A template's source with the special tokens that it spells replaced.
    pub(super) fn source(&self, source: &str) -> String {
        let mut out = String::with_capacity(source.len());
        let mut rest = source;
        while let Some(c) = rest.chars().next() {
            match self.tokens.at_start(c, rest) {
                Some(token) => {
                    out.extend(self.seal(token));
                    rest = &rest[token.len()..];
                }
                None => {
                    out.push(c);
                    rest = &rest[c.len_utf8()..];
                }
            }
        }
        out
    }

    /// The parts of an output.
    pub(super) fn split(&self, output: &str) -> Vec<Part> {
        let mut parts = Vec::new();
        let mut text = String::new();
        for c in output.chars() {
            match self.token.get(&c) {
                Some(token) => {
                    if !text.is_empty() {
                        parts.push(Part::text(std::mem::take(&mut text)));
                    }
                    parts.push(Part::marker(token));
                }
                None => text.push(c),
            }
        }
        if !text.is_empty() {
            parts.push(Part::text(text));
        }
        parts
    }
}
