//! Keeps the spelling of the tool protocol's markers out of the text of calls.
//!
//! A parser finds calls in the decoded text, where `<|action_end|>` is the same whether it was the
//! special token or typed by ordinary ones inside of a JSON string. So no token may complete it there.

use internlm_core::tool_call::{ACTION_END, ACTION_START};

use super::vocabulary::Vocabulary;

const MARKERS: [&str; 2] = [ACTION_START, ACTION_END];

/// The end of the text so far.
#[derive(Clone, Debug, Default)]
pub(super) struct Spelled {
    tail: Vec<u8>,
}

impl Spelled {
    /// Takes a token's text; special tokens, which have none, break a spelling off.
    pub(super) fn accept(&mut self, text: &[u8]) {
        if text.is_empty() {
            self.tail.clear();
        }
        self.tail.extend_from_slice(text);
        let keep = MARKERS.map(str::len).into_iter().max().unwrap_or(0);
        let over = self.tail.len().saturating_sub(keep);
        self.tail.drain(..over);
    }

    /// Calls `forbid` for each token that would complete a marker.
    pub(super) fn completions(&self, vocabulary: &Vocabulary, mut forbid: impl FnMut(u32)) {
        let rests: Vec<&[u8]> = MARKERS
            .iter()
            .flat_map(|marker| {
                let marker = marker.as_bytes();
                (1..marker.len())
                    .filter(|&len| self.tail.ends_with(&marker[..len]))
                    .map(|len| &marker[len..])
            })
            .collect();
        // Tokens that spell a whole marker would have to be longer than any that is not special.
        if rests.is_empty() {
            return;
        }
        for id in 0..vocabulary.vocab_size as u32 {
            let text = vocabulary.text(id);
            if rests.iter().any(|rest| text.starts_with(rest)) {
                forbid(id);
            }
        }
    }
}
