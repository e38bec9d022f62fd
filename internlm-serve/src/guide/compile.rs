//! From requests to guides, in bounded time.

use std::collections::VecDeque;
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use internlm_core::ChatRequest;
use internlm_tokenize::Tokenizer;
use llguidance::TokenParser;
use llguidance::api::{ParserLimits, TopLevelGrammar};

use super::grammar::{Grammar, grammar};
use super::state::{Guide, reason};
use super::vocabulary::Vocabulary;
use crate::error::{Error, Result};

/// Longest that a request waits for its grammar. The limits of work below end nearly all sooner; they
/// count steps, not time, and some steps are uncounted.
const PATIENCE: Duration = Duration::from_millis(1500);
/// Grammars that are compiled at once. One that is given up on keeps its place until its limits of
/// work end it.
const AT_ONCE: usize = 4;
/// Grammars that are kept for the next request that asks for the same: agents come again and again with one set of tools.
const KEPT: usize = 8;
/// The compiler recurses into grammars; only what is used of it is ever held.
const STACK_BYTES: usize = 64 << 20;

/// Limits of the work for a grammar, and for one mask.
pub(super) fn limit(limits: &mut ParserLimits) {
    limits.initial_lexer_fuel = 1_000_000;
    limits.max_grammar_size = 200_000;
    limits.step_lexer_fuel = 200_000;
    limits.step_max_items = 50_000;
    limits.max_items_in_row = 2_000;
    limits.max_lexer_states = 50_000;
    limits.verbose_errors = false;
}

/// What the grammars of an engine are compiled with: the vocabulary as bytes. Made once per engine.
pub(crate) struct GuideFactory {
    vocabulary: Option<Arc<Vocabulary>>,
    running: Arc<Running>,
    /// Grammars and what they were compiled to, not begun; the last one used comes last.
    kept: Mutex<VecDeque<(String, TokenParser)>>,
}

/// Compilations that run.
#[derive(Default)]
struct Running {
    count: Mutex<usize>,
    ended: Condvar,
}

/// A place among those; given back when dropped.
struct Place(Arc<Running>);

impl GuideFactory {
    /// Reads the vocabulary. `vocab_size` is the number of logits, `eos` the tokens that end an answer.
    ///
    /// A tokenizer that decodes by context has no bytes to match; that is an error of the requests that
    /// ask for a form, and no other.
    ///
    /// # Errors
    /// A `vocab_size` less than the tokenizer's or than an end token, and a vocabulary out of bounds.
    pub(crate) fn new(tokenizer: &Tokenizer, vocab_size: usize, eos: &[u32]) -> Result<Self> {
        let vocabulary = match tokenizer.decodes_by_token() {
            true => Some(Arc::new(Vocabulary::new(tokenizer, vocab_size, eos)?)),
            false => None,
        };
        Ok(Self {
            vocabulary,
            running: Arc::default(),
            kept: Mutex::default(),
        })
    }

    /// The grammar of a request; `None` where it asks for nothing.
    ///
    /// # Errors
    /// [`Error::Request`] that names `response_format` or `tool_choice` and says what is wrong with it:
    /// a form that is malformed, asks for something that grammars can't enforce, or is too large.
    pub(crate) fn guide(&self, request: &ChatRequest) -> Result<Option<Guide>> {
        let Some(field) = super::demand(request) else {
            return Ok(None);
        };
        let Some(vocabulary) = &self.vocabulary else {
            let what =
                "answers can't be constrained: this tokenizer decodes tokens by their neighbours";
            return Err(Error::request(field, what));
        };
        let Grammar { top, form } = grammar(request, field, vocabulary)?;
        let parser = self.compile(vocabulary, top, field)?;
        Guide::new(parser, vocabulary.clone(), form).map(Some)
    }

    /// Compiles on a thread of its own, for the stack and the clock, unless it is kept.
    fn compile(
        &self,
        vocabulary: &Arc<Vocabulary>,
        grammar: TopLevelGrammar,
        field: &'static str,
    ) -> Result<TokenParser> {
        let key = serde_json::to_string(&grammar)
            .map_err(|error| Error::request(field, format!("no grammar: {error}")))?;
        if let Some(parser) = self.kept(&key) {
            return Ok(parser);
        }
        let until = Instant::now() + PATIENCE;
        let late = || Error::request(field, "compiling the grammar takes too long; simplify it");
        let place = Place::take(&self.running, until).ok_or_else(late)?;
        // Another request may have asked for the same meanwhile.
        if let Some(parser) = self.kept(&key) {
            return Ok(parser);
        }
        let (sender, receiver) = sync_channel(1);
        let vocabulary = vocabulary.clone();
        std::thread::Builder::new()
            .name("grammar".into())
            .stack_size(STACK_BYTES)
            .spawn(move || {
                let parser = vocabulary.factory.create_parser(grammar);
                drop(place);
                // Nobody may be waiting any more.
                let _ = sender.send(parser.map_err(|error| reason(&error)));
            })
            .map_err(|error| Error::request(field, format!("no thread to compile it: {error}")))?;
        match receiver.recv_timeout(until.saturating_duration_since(Instant::now())) {
            Ok(Ok(parser)) => {
                self.keep(key, parser.deep_clone());
                Ok(parser)
            }
            Ok(Err(what)) => Err(Error::request(field, what)),
            Err(RecvTimeoutError::Timeout) => Err(late()),
            Err(RecvTimeoutError::Disconnected) => Err(Error::request(
                field,
                "a defect of the grammar compiler met it",
            )),
        }
    }
}

impl GuideFactory {
    /// A kept grammar, with states of its own: those count against a limit.
    fn kept(&self, key: &str) -> Option<TokenParser> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let at = kept.iter().position(|(other, _)| other == key)?;
        let found = kept.remove(at)?;
        let parser = found.1.deep_clone();
        kept.push_back(found);
        Some(parser)
    }

    fn keep(&self, key: String, parser: TokenParser) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|(other, _)| *other != key);
        kept.push_back((key, parser));
        if kept.len() > KEPT {
            kept.pop_front();
        }
    }

    #[cfg(test)]
    pub(super) fn kept_len(&self) -> usize {
        self.kept.lock().map_or(0, |kept| kept.len())
    }
}

impl Place {
    fn take(running: &Arc<Running>, until: Instant) -> Option<Self> {
        let count = running.count.lock().unwrap_or_else(PoisonError::into_inner);
        let left = until.saturating_duration_since(Instant::now());
        let (mut count, _) = running
            .ended
            .wait_timeout_while(count, left, |count| *count >= AT_ONCE)
            .unwrap_or_else(PoisonError::into_inner);
        if *count >= AT_ONCE {
            return None;
        }
        *count += 1;
        Some(Self(running.clone()))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let running = &self.0;
        *running.count.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        running.ended.notify_one();
    }
}
