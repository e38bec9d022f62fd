//! The tokens as bytes, in the tries that masks are made with.

use std::sync::Arc;

use internlm_tokenize::Tokenizer;
use llguidance::earley::SlicedBiasComputer;
use llguidance::toktrie::{
    ApproximateTokEnv, INVALID_TOKEN, InferenceCapabilities, TokEnv, TokRxInfo, TokTrie,
};
use llguidance::{HashSet, ParserFactory};

use crate::error::{Error, Result};

/// Longest token in a trie; `toktrie` counts to 1,024. Longer ones are never drawn under a grammar.
const MAX_TOKEN_BYTES: usize = 1000;
/// Most bytes of all tokens; `toktrie` counts to 4 Mi nodes.
const MAX_BYTES: usize = 4_000_000;

/// What all grammars of an engine share.
pub(super) struct Vocabulary {
    pub(super) factory: ParserFactory,
    /// For the first token of an answer, where decoding takes spaces from it.
    pub(super) first: Option<First>,
    pub(super) eos: Vec<u32>,
    /// Columns of the logits.
    pub(super) vocab_size: usize,
    /// Tokens that decoding may skip.
    special: HashSet<u32>,
    /// Spellings and ids of all markers, which are no text.
    markers: Vec<(String, u32)>,
}

/// The first token of an answer: same ids, other bytes.
pub(super) struct First {
    pub(super) env: TokEnv,
    pub(super) masks: Arc<SlicedBiasComputer>,
    /// Tokens of which nothing is left. Nothing else follows from them.
    pub(super) silent: Vec<u32>,
}

impl Vocabulary {
    /// # Errors
    /// Sizes out of range, and a tokenizer whose tokens have no bytes of their own.
    pub(super) fn new(tokenizer: &Tokenizer, vocab_size: usize, eos: &[u32]) -> Result<Self> {
        let refuse = |what: String| {
            Err(Error::Config {
                field: "vocab_size",
                what,
            })
        };
        if vocab_size < tokenizer.vocab_size() {
            let tokens = tokenizer.vocab_size();
            return refuse(format!("{vocab_size}, the tokenizer has {tokens} tokens"));
        }
        if let Some(id) = eos.iter().find(|&&id| id as usize >= vocab_size) {
            return refuse(format!("{vocab_size}, token {id} is to end answers"));
        }
        let markers: Vec<_> = tokenizer
            .special_tokens()
            .map(|(token, id)| (token.to_owned(), id))
            .collect();
        let ids = || 0..vocab_size as u32;
        let words = |text: &dyn Fn(u32) -> Option<Vec<u8>>| -> Vec<Vec<u8>> {
            let mut words: Vec<_> = ids()
                .map(|id| text(id).filter(|bytes| is_text(bytes)).unwrap_or_default())
                .collect();
            for id in ids().filter(|&id| tokenizer.token_bytes(id).is_none()) {
                if let Some(name) = tokenizer.id_to_token(id) {
                    words[id as usize] = special(id, &name);
                }
            }
            // An end token is none of the answer's text, even where its spelling is.
            for &id in eos {
                let name = tokenizer.id_to_token(id).unwrap_or_default();
                words[id as usize] = special(id, &name);
            }
            words
        };
        let later = words(&|id| tokenizer.token_bytes(id).map(<[u8]>::to_vec));
        let first = words(&|id| tokenizer.first_token_bytes(id).map(|b| b.into_owned()));
        let bytes = later.iter().map(Vec::len).sum::<usize>();
        if bytes > MAX_BYTES {
            return refuse(format!(
                "the tokens have {bytes} bytes together, at most {MAX_BYTES} fit"
            ));
        }
        let env = environment(&later, eos);
        let slices = SlicedBiasComputer::general_slices();
        let mut factory =
            ParserFactory::new(&env, InferenceCapabilities::default(), &slices).map_err(defect)?;
        factory.quiet();
        super::compile::limit(factory.limits_mut());
        let first = match first == later {
            true => None,
            false => {
                let env = environment(&first, eos);
                let silent = ids()
                    .filter(|&id| first[id as usize].is_empty() && !later[id as usize].is_empty())
                    .collect();
                Some(First {
                    masks: Arc::new(SlicedBiasComputer::new(&env, &[]).map_err(defect)?),
                    env,
                    silent,
                })
            }
        };
        Ok(Self {
            factory,
            first,
            eos: eos.to_vec(),
            vocab_size,
            special: ids().filter(|&id| tokenizer.is_special(id)).collect(),
            markers,
        })
    }

    /// The id of a marker.
    pub(super) fn marker(&self, name: &str) -> Option<u32> {
        let found = self.markers.iter().find(|(token, _)| token == name);
        found.map(|(_, id)| *id)
    }

    /// Whether decoding may skip a token.
    pub(super) fn is_special(&self, id: u32) -> bool {
        self.special.contains(&id)
    }

    /// Whether a token is a marker, special or other markup.
    pub(super) fn is_marker(&self, id: u32) -> bool {
        self.markers.iter().any(|(_, marker)| *marker == id)
    }

    pub(super) fn trie(&self) -> &TokTrie {
        self.factory.tok_env().tok_trie()
    }

    /// A token's text; empty for those that have none.
    pub(super) fn text(&self, id: u32) -> &[u8] {
        let bytes = self.trie().token(id);
        match bytes.first() {
            Some(&TokTrie::SPECIAL_TOKEN_MARKER) => &[],
            _ => bytes,
        }
    }
}

/// 0xFF is in no text, and marks special tokens.
fn is_text(bytes: &[u8]) -> bool {
    bytes.len() <= MAX_TOKEN_BYTES && !bytes.contains(&TokTrie::SPECIAL_TOKEN_MARKER)
}

/// A word that no text matches. Lark grammars name it by what stands behind the mark, in angle brackets.
fn special(id: u32, name: &str) -> Vec<u8> {
    let name = match name.starts_with('<') && name.ends_with('>') && name.len() <= 256 {
        true => name.to_owned(),
        false => format!("<special_{id}>"),
    };
    [&[TokTrie::SPECIAL_TOKEN_MARKER], name.as_bytes()].concat()
}

/// Not canonical: what the grammar forces is masked like all else, and the model chooses among its
/// spellings as it would without a grammar.
fn environment(words: &[Vec<u8>], eos: &[u32]) -> TokEnv {
    let end = eos.first().copied().unwrap_or(INVALID_TOKEN);
    let trie = TokTrie::from(&TokRxInfo::new(words.len() as u32, end), words);
    Arc::new(ApproximateTokEnv::new(match eos {
        [] => trie,
        eos => trie.with_eos_tokens(eos),
    }))
}

fn defect(error: impl std::fmt::Display) -> Error {
    Error::Config {
        field: "vocab_size",
        what: format!("the vocabulary makes no trie: {error}"),
    }
}
