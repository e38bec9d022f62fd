//! From requests to guides, in bounded time.

use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use internlm_core::ChatRequest;
use internlm_tokenize::Tokenizer;
use llguidance::TokenParser;
use llguidance::api::{ParserLimits, TopLevelGrammar};

use super::grammar::{Grammar, grammar};
use super::kept::Kept;
use super::state::{Guide, reason};
use super::vocabulary::Vocabulary;
use crate::error::{Error, Result};

/// Longest that the compilation of a grammar takes. The limits of work below end nearly all sooner; they
/// count steps, not time, and some steps are uncounted.
const PATIENCE: Duration = Duration::from_millis(1500);
/// Longest that a request waits for others' grammars before its own is compiled.
const WAIT: Duration = Duration::from_secs(10);
/// Grammars that are compiled at once. One that is given up on keeps its place until its limits of
/// work end it.
const AT_ONCE: usize = 4;
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
    kept: Arc<Kept>,
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
            kept: Arc::default(),
        })
    }

    /// The grammar of a request; `None` where it asks for nothing.
    ///
    /// # Errors
    /// [`Error::Request`] that names `response_format` or `tool_choice` and says what is wrong with it:
    /// a form that is malformed, asks for something that grammars can't enforce, or is too large;
    /// [`Error::TooManyGrammars`], which has nothing to do with this one.
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

    /// Compiles on a thread of its own, for the stack and the clock, unless the parser is kept.
    fn compile(
        &self,
        vocabulary: &Arc<Vocabulary>,
        grammar: TopLevelGrammar,
        field: &'static str,
    ) -> Result<TokenParser> {
        let key = serde_json::to_string(&grammar)
            .map_err(|error| Error::request(field, format!("no grammar: {error}")))?;
        if let Some(parser) = self.kept.get(&key) {
            return Ok(parser);
        }
        let place = Place::take(&self.running).ok_or(Error::TooManyGrammars { limit: AT_ONCE })?;
        // Another request may have asked for the same meanwhile.
        if let Some(parser) = self.kept.get(&key) {
            return Ok(parser);
        }
        let until = Instant::now() + PATIENCE;
        let (sender, receiver) = sync_channel(1);
        let (vocabulary, kept) = (vocabulary.clone(), self.kept.clone());
        std::thread::Builder::new()
            .name("grammar".into())
            .stack_size(STACK_BYTES)
            .spawn(move || {
                let parser = vocabulary.factory.create_parser(grammar);
                if let Ok(parser) = &parser {
                    kept.put(key, parser.deep_clone());
                }
                drop(place);
                // Nobody may be waiting any more.
                let _ = sender.send(parser.map_err(|error| reason(&error)));
            })
            .map_err(|error| Error::request(field, format!("no thread to compile it: {error}")))?;
        match receiver.recv_timeout(until.saturating_duration_since(Instant::now())) {
            Ok(parser) => parser.map_err(|what| Error::request(field, what)),
            Err(RecvTimeoutError::Timeout) => {
                let what = "compiling the grammar takes too long; simplify it";
                Err(Error::request(field, what))
            }
            Err(RecvTimeoutError::Disconnected) => Err(Error::request(
                field,
                "a defect of the grammar compiler met it",
            )),
        }
    }
}

#[cfg(test)]
impl GuideFactory {
    /// Grammars that are kept.
    pub(super) fn kept(&self) -> usize {
        self.kept.len()
    }
}

impl Place {
    fn take(running: &Arc<Running>) -> Option<Self> {
        let count = running.count.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut count, _) = running
            .ended
            .wait_timeout_while(count, WAIT, |count| *count >= AT_ONCE)
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
