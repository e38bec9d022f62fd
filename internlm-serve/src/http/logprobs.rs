//! Log-probabilities with their tokens as text and bytes.

use std::collections::BTreeMap;

use internlm_core::chat_model::TokenLogprob;
use internlm_tokenize::{EncodeOptions, Tokenizer};
use serde::Serialize;

/// What single tokens say inside of a text.
pub(super) struct TokenTexts {
    tokenizer: Tokenizer,
    /// A token and its text. Others are decoded after it, since a tokenizer may leave the space before the
    /// first word away.
    anchor: Option<(u32, String)>,
}

impl TokenTexts {
    pub(super) fn new(tokenizer: Tokenizer) -> Self {
        let ids = tokenizer.encode("a", EncodeOptions::default());
        let anchor = ids.ok().and_then(|ids| ids.last().copied());
        let anchor = anchor.and_then(|id| Some((id, tokenizer.decode(&[id], false).ok()?)));
        Self { tokenizer, anchor }
    }

    /// The bytes of a token. A character may have more bytes than its first token.
    pub(super) fn bytes(&self, id: u32) -> Vec<u8> {
        let text = self.decode(id);
        if text.contains(char::REPLACEMENT_CHARACTER)
            && let Some(bytes) = self.tokenizer.id_to_token(id).and_then(|t| raw_bytes(&t))
        {
            return bytes;
        }
        text.into_bytes()
    }

    /// The text of a token; bytes that are no character alone are U+FFFD.
    pub(super) fn text(&self, id: u32) -> String {
        String::from_utf8_lossy(&self.bytes(id)).into_owned()
    }

    fn decode(&self, id: u32) -> String {
        // Rows of the logits that have no token say nothing.
        match &self.anchor {
            Some((anchor, before)) => {
                let both = self.tokenizer.decode(&[*anchor, id], false);
                let both = both.unwrap_or_default();
                both.strip_prefix(before.as_str())
                    .unwrap_or(&both)
                    .to_owned()
            }
            None => self.tokenizer.decode(&[id], false).unwrap_or_default(),
        }
    }

    /// The text, or `token_id:5`.
    fn name(&self, id: u32, as_id: bool) -> String {
        match as_id {
            true => format!("token_id:{id}"),
            false => self.text(id),
        }
    }
}

/// The bytes of a token that is spelled as `<0x0A>`, or with the characters that GPT-2 gives to bytes.
fn raw_bytes(spelling: &str) -> Option<Vec<u8>> {
    let hex = spelling
        .strip_prefix("<0x")
        .and_then(|rest| rest.strip_suffix('>'));
    if let Some(hex) = hex {
        return u8::from_str_radix(hex, 16).ok().map(|byte| vec![byte]);
    }
    spelling.chars().map(byte_of).collect()
}

/// The byte that a character stands for (`bytes_to_unicode` of GPT-2's `encoder.py`): printable ones for
/// themselves, the others in their order from U+0100 on.
fn byte_of(c: char) -> Option<u8> {
    let prints = |byte: u8| matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF);
    match u8::try_from(u32::from(c)) {
        Ok(byte) => prints(byte).then_some(byte),
        Err(_) => {
            let place = u32::from(c).checked_sub(0x100)? as usize;
            (0..=u8::MAX).filter(|&byte| !prints(byte)).nth(place)
        }
    }
}

/// `logprobs` of a chat.
#[derive(Debug, Serialize)]
pub(super) struct ChatLogprobs {
    content: Vec<Content>,
}

#[derive(Debug, Serialize)]
struct Content {
    #[serde(flatten)]
    token: Token,
    top_logprobs: Vec<Token>,
}

#[derive(Debug, Serialize)]
struct Token {
    token: String,
    logprob: f32,
    bytes: Vec<u8>,
}

/// OpenAI's number for a token that can't be: JSON has no infinity.
const IMPOSSIBLE: f32 = -9999.0;

impl ChatLogprobs {
    pub(super) fn new(texts: &TokenTexts, logprobs: &[TokenLogprob], as_ids: bool) -> Self {
        let token = |id, logprob: f32| Token {
            token: texts.name(id, as_ids),
            logprob: logprob.max(IMPOSSIBLE),
            bytes: texts.bytes(id),
        };
        let content = |logprob: &TokenLogprob| Content {
            token: token(logprob.id, logprob.logprob),
            top_logprobs: logprob
                .top
                .iter()
                .map(|&(id, logprob)| token(id, logprob))
                .collect(),
        };
        Self {
            content: logprobs.iter().map(content).collect(),
        }
    }
}

/// `logprobs` of a completion.
#[derive(Debug, Default, Serialize)]
pub(super) struct TextLogprobs {
    tokens: Vec<String>,
    /// Null for the first token of an echoed prompt.
    token_logprobs: Vec<Option<f32>>,
    top_logprobs: Vec<Option<BTreeMap<String, f32>>>,
    /// Characters before each token.
    text_offset: Vec<usize>,
}

impl TextLogprobs {
    /// Adds a token that begins after `offset` characters, and moves `offset` behind it.
    pub(super) fn push(
        &mut self,
        texts: &TokenTexts,
        token: u32,
        logprob: Option<&TokenLogprob>,
        as_ids: bool,
        offset: &mut usize,
    ) {
        self.tokens.push(texts.name(token, as_ids));
        self.text_offset.push(*offset);
        *offset += texts.text(token).chars().count();
        self.token_logprobs
            .push(logprob.map(|logprob| logprob.logprob.max(IMPOSSIBLE)));
        self.top_logprobs.push(logprob.map(|logprob| {
            // The chosen token too, also where it is not among the most likely ones.
            let chosen = (!logprob.top.is_empty()).then_some((logprob.id, logprob.logprob));
            let top = logprob.top.iter().copied().chain(chosen);
            top.map(|(id, value)| (texts.name(id, as_ids), value.max(IMPOSSIBLE)))
                .collect()
        }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_have_characters() {
        for (c, byte) in [
            ('A', b'A'),
            ('\u{120}', b' '),
            ('\u{10A}', b'\n'),
            ('\u{143}', 0xAD),
        ] {
            assert_eq!(byte_of(c), Some(byte), "{c}");
        }
        assert_eq!(byte_of('书'), None);
        let all: std::collections::BTreeSet<_> = ('\0'..'\u{180}').filter_map(byte_of).collect();
        assert_eq!(all.len(), 256);
    }

    #[test]
    fn raw_bytes_are_read_in_both_spellings() {
        assert_eq!(raw_bytes("<0xE4>"), Some(vec![0xE4]));
        assert_eq!(raw_bytes("<0xZZ>"), None);
        assert_eq!(raw_bytes("\u{120}ä"), Some(vec![b' ', 0xE4]));
        assert_eq!(raw_bytes("书"), None);
    }
}
