//! What goes to stdout: objects for programs, text for people.

use std::io::{IsTerminal, Stdout, Write};

use serde::Serialize;

use crate::error::{Error, Result};

/// Standard output of a program.
#[derive(Debug)]
pub struct Output {
    stdout: Stdout,
    json: bool,
    terminal: bool,
}

impl Output {
    /// With `json` each [`record`](Output::record) is one line of JSON.
    pub fn new(json: bool) -> Self {
        let stdout = std::io::stdout();
        Self {
            terminal: stdout.is_terminal(),
            stdout,
            json,
        }
    }

    /// Whether objects are written instead of text.
    pub fn is_json(&self) -> bool {
        self.json
    }

    /// Whether a person looks at stdout.
    pub fn is_terminal(&self) -> bool {
        self.terminal
    }

    /// Writes an object on a line of its own, or the text that `human` makes of it. What is
    /// written is flushed, so that a program at the other end of a pipe can wait for it.
    ///
    /// # Errors
    /// A closed or full stdout.
    pub fn record<T: Serialize>(
        &mut self,
        record: &T,
        human: impl FnOnce(&T) -> String,
    ) -> Result<()> {
        let line = if self.json {
            // Only maps with keys that are not strings can't be written.
            serde_json::to_string(record).map_err(|e| Error::Input(e.to_string()))?
        } else {
            self.safe(&human(record))
        };
        self.write(&line)?;
        self.write("\n")
    }

    /// Writes text of a model as it comes. On a terminal control characters are left out: an
    /// answer must not be able to move the cursor or change the window's title.
    ///
    /// # Errors
    /// A closed or full stdout.
    pub fn text(&mut self, text: &str) -> Result<()> {
        let text = self.safe(text);
        self.write(&text)
    }

    /// Writes a remark beside the text: dim, and only on a terminal.
    ///
    /// # Errors
    /// A closed or full stdout.
    pub fn remark(&mut self, remark: &str) -> Result<()> {
        if !self.terminal {
            return Ok(());
        }
        if std::env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty()) {
            self.write(&format!("{remark}\n"))
        } else {
            self.write(&format!("\x1b[2m{remark}\x1b[0m\n"))
        }
    }

    fn safe(&self, text: &str) -> String {
        if self.terminal {
            without_controls(text)
        } else {
            text.to_owned()
        }
    }

    fn write(&mut self, text: &str) -> Result<()> {
        let mut stdout = self.stdout.lock();
        stdout
            .write_all(text.as_bytes())
            .and_then(|()| stdout.flush())
            .map_err(Error::io("standard output"))
    }
}

/// Text without control characters other than line feeds and tabs.
fn without_controls(text: &str) -> String {
    text.chars()
        .filter(|c| !c.is_control() || matches!(c, '\n' | '\t'))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_gets_no_escape_sequences() {
        assert_eq!(
            without_controls("a\x1b]0;title\x07\tb\r\n\u{9b}c书"),
            "a]0;title\tb\nc书"
        );
    }
}
