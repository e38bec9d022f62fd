//! Compiled grammars, kept for the next request that asks for the same.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use llguidance::TokenParser;

/// Most of them. Agents come again and again with one set of tools; each grammar is bounded by the limits of its
/// compilation.
const MOST: usize = 8;

/// Grammars as text and what they were compiled to, not begun; the one that was used last comes last.
#[derive(Default)]
pub(super) struct Kept(Mutex<VecDeque<(String, TokenParser)>>);

impl Kept {
    /// A parser whose states are its own: they count against a limit.
    pub(super) fn get(&self, grammar: &str) -> Option<TokenParser> {
        let mut kept = self.lock();
        let at = kept.iter().position(|(other, _)| other == grammar)?;
        let found = kept.remove(at)?;
        let parser = found.1.deep_clone();
        kept.push_back(found);
        Some(parser)
    }

    /// Keeps a parser in place of the one that was not used for longest.
    pub(super) fn put(&self, grammar: String, parser: TokenParser) {
        let mut kept = self.lock();
        kept.retain(|(other, _)| *other != grammar);
        kept.push_back((grammar, parser));
        if kept.len() > MOST {
            kept.pop_front();
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.lock().len()
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<(String, TokenParser)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
