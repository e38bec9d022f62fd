//! What is known of a server that does not do what it should.

use std::process::ExitStatus;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::tool::limited_text;

/// Bytes that are kept of what a server writes to its error output.
const LAST_WORDS: usize = 2048;
/// Bytes that are kept of the first line that is no message.
const FIRST_NOISE: usize = 100;

/// What a server said besides messages, and how it ended.
#[derive(Debug, Default)]
pub(super) struct Said {
    facts: Mutex<Facts>,
}

#[derive(Debug, Default)]
struct Facts {
    status: Option<ExitStatus>,
    broken: Option<String>,
    noise: usize,
    first_noise: Option<String>,
    errors: Vec<u8>,
}

impl Said {
    fn facts(&self) -> MutexGuard<'_, Facts> {
        self.facts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes how its process ended.
    pub(super) fn ended(&self, status: ExitStatus) {
        self.facts().status = Some(status);
    }

    /// Notes why the connection can't go on.
    pub(super) fn broke(&self, why: String) {
        self.facts().broken = Some(why);
    }

    /// Notes a line that is no message.
    pub(super) fn noise(&self, line: &[u8]) {
        let mut facts = self.facts();
        facts.noise += 1;
        facts.first_noise.get_or_insert_with(|| {
            let text = String::from_utf8_lossy(line.trim_ascii());
            limited_text(text.into_owned(), FIRST_NOISE)
        });
    }

    /// Notes what it wrote to its error output.
    pub(super) fn errors(&self, piece: &[u8]) {
        let errors = &mut self.facts().errors;
        errors.extend_from_slice(piece);
        let over = errors.len().saturating_sub(LAST_WORDS);
        errors.drain(..over);
    }

    /// The facts in words; empty, or begins with a separator.
    pub(super) fn words(&self) -> String {
        let facts = self.facts();
        let mut words = String::new();
        if let Some(status) = facts.status {
            words.push_str(&format!(" ({status})"));
        }
        if let Some(broken) = &facts.broken {
            words.push_str(&format!("; {broken}"));
        }
        if let Some(first) = &facts.first_noise {
            let lines = facts.noise;
            words.push_str(&format!(
                "; {lines} lines of its output are no messages of MCP, the first is `{first}`"
            ));
        }
        let errors = String::from_utf8_lossy(&facts.errors);
        let errors = errors.trim();
        if !errors.is_empty() {
            words.push_str(&format!("; its last words: {errors}"));
        }
        words
    }
}
