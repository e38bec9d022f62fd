//! A grammar's state along one answer.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use internlm_core::tool_call::{ACTION_END, ACTION_START, INTERPRETER, PLUGIN};
use llguidance::TokenParser;
use llguidance::panic_utils::catch_unwind;
use llguidance::toktrie::SimpleVob;

use super::grammar::{Form, Shown};
use super::spelled::Spelled;
use super::vocabulary::Vocabulary;
use crate::error::{Error, Result};

/// Longest reason that is reported.
const MAX_REASON_CHARS: usize = 400;

const NO_TOKEN: &str = "the grammar leaves no token to go on with";

/// A grammar's state along one answer. Clones go their own ways, for `n` answers.
#[derive(Clone)]
pub(crate) struct Guide {
    parser: TokenParser,
    vocabulary: Arc<Vocabulary>,
    form: Form,
    /// Where calls stand between special tokens.
    spelled: Option<Spelled>,
    /// Whether no token showed in the text yet.
    first: bool,
    /// Whether only an end token may follow.
    complete: bool,
    /// Whether an end token was taken.
    ended: bool,
    /// Why nothing can follow any more.
    failed: Option<String>,
    mask: SimpleVob,
}

impl Guide {
    pub(super) fn new(
        mut parser: TokenParser,
        vocabulary: Arc<Vocabulary>,
        form: Form,
    ) -> Result<Self> {
        parser.start_without_prompt();
        let mask = vocabulary.trie().alloc_token_set();
        let mut guide = Self {
            parser,
            vocabulary,
            form,
            spelled: form.calls.then(Spelled::default),
            first: true,
            complete: false,
            ended: false,
            failed: None,
            mask,
        };
        guide.complete = guide.run(|parser| said(parser.check_stop()))?;
        // What can't even begin is known before the model runs.
        guide.clone().mask()?;
        Ok(guide)
    }

    /// The tokens that may come next, one bit each: token `i` is bit `i % 32` of word `i / 32`, and
    /// there are `vocab_size.div_ceil(32)` words. At least one bit is set.
    ///
    /// # Errors
    /// [`Error::Request`]: the grammar became too complex, or leaves no token to go on with.
    pub(crate) fn mask(&mut self) -> Result<&[u32]> {
        self.check()?;
        if self.complete {
            self.mask = self.vocabulary.trie().eos_token_set();
        } else {
            self.mask = self.run(|parser| said(parser.compute_mask()))?;
            let mut mask = std::mem::take(&mut self.mask);
            for &id in self.silent() {
                mask.allow_token(id);
            }
            self.mask = mask;
        }
        if let Some(spelled) = &self.spelled {
            spelled.completions(&self.vocabulary, |id| self.mask.disallow_token(id));
        }
        let words = self.vocabulary.vocab_size.div_ceil(32);
        let Some(mask) = self.mask.as_slice().get(..words) else {
            return Err(self.fail("the mask is too short"));
        };
        if mask.iter().all(|&word| word == 0) {
            return Err(self.fail(NO_TOKEN));
        }
        Ok(&self.mask.as_slice()[..words])
    }

    /// Takes the chosen token, an end token included.
    ///
    /// # Errors
    /// [`Error::Request`]: a token that the grammar does not allow here, or a grammar that became too
    /// complex. The guide is of no use then.
    pub(crate) fn accept(&mut self, id: u32) -> Result<()> {
        self.check()?;
        if self.complete {
            if !self.vocabulary.eos.contains(&id) {
                return Err(self.fail("the answer is complete, and a token follows"));
            }
            self.ended = true;
            return Ok(());
        }
        let silent = self.silent().contains(&id);
        if silent {
            self.first = false;
            return Ok(());
        }
        self.complete = self.run(move |parser| {
            if said(parser.consume_token(id))? != 0 {
                return Err("a `stop` of the grammar takes text back".to_owned());
            }
            said(parser.check_stop())
        })?;
        self.ended = self.vocabulary.eos.contains(&id);
        if self.shows(id) {
            self.first = false;
        }
        if let Some(spelled) = &mut self.spelled {
            spelled.accept(self.vocabulary.text(id));
        }
        Ok(())
    }

    /// Whether nothing but an end token may follow.
    pub(crate) fn is_complete(&self) -> bool {
        self.complete || self.ended
    }

    /// Tokens of which the text shows nothing because they come first, such as a lone space.
    fn silent(&self) -> &[u32] {
        match &self.vocabulary.first {
            Some(first) if self.first && !self.form.calls => &first.silent,
            _ => &[],
        }
    }

    /// Whether a token takes part in the decoded text.
    fn shows(&self, id: u32) -> bool {
        let vocabulary = &self.vocabulary;
        match self.form.shown {
            Shown::All => true,
            Shown::NotSpecial => !vocabulary.is_special(id),
            Shown::Protocol => {
                let protocol = [ACTION_START, PLUGIN, INTERPRETER, ACTION_END];
                let of_protocol = |name| vocabulary.marker(name) == Some(id);
                !vocabulary.is_marker(id) || protocol.into_iter().any(of_protocol)
            }
        }
    }

    fn check(&self) -> Result<()> {
        let what = match &self.failed {
            Some(failed) => failed.as_str(),
            None if self.ended => "the answer has ended",
            None => return Ok(()),
        };
        Err(Error::request(self.form.field, what))
    }

    fn fail(&mut self, what: &str) -> Error {
        self.failed = Some(what.to_owned());
        Error::request(self.form.field, what)
    }

    /// Runs the parser, over the first token's bytes where they differ, and keeps what goes wrong.
    fn run<T>(&mut self, work: impl FnOnce(&mut TokenParser) -> Result<T, String>) -> Result<T> {
        let first = self.vocabulary.first.as_ref().filter(|_| self.first);
        let parser = &mut self.parser;
        if let Some(first) = first {
            parser.token_env = first.env.clone();
            parser.bias_computer = first.masks.clone();
            // Masks are kept by the parser's state, not by the trie that they are made with.
            parser.invalidate_bias_cache();
        }
        let result = catch_unwind(AssertUnwindSafe(|| Ok(work(parser))));
        if first.is_some() {
            let factory = &self.vocabulary.factory;
            parser.token_env = factory.tok_env().clone();
            parser.bias_computer = factory.slicer();
            parser.invalidate_bias_cache();
        }
        said(result)
            .and_then(|result| result)
            .map_err(|what| self.fail(&what))
    }
}

/// A result with the reason that clients are told.
fn said<T, E: std::fmt::Display>(result: std::result::Result<T, E>) -> Result<T, String> {
    result.map_err(|error| reason(&error))
}

/// What the compiler or the parser says, in a length and form fit for a client.
pub(super) fn reason(error: &impl std::fmt::Display) -> String {
    let text = error.to_string();
    let text = text.split("<backtrace>").next().unwrap_or_default();
    let text = text.replace("<non-verbose/>", "");
    let text = text.trim();
    match text.strip_prefix("panic: ") {
        // How the parser says that no token goes on.
        _ if text == "NoExtensionBias" => NO_TOKEN.to_owned(),
        Some(_) => "a defect of the grammar compiler met it".to_owned(),
        None if text.chars().count() > MAX_REASON_CHARS => {
            let cut: String = text.chars().take(MAX_REASON_CHARS).collect();
            format!("{cut}…")
        }
        None => text.to_owned(),
    }
}
