//! Ctrl-C: stops the answer that is being written; at the prompt two in a row end the program.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use internlm_examples::{Error, Result};

/// Nobody waits for anything that can be stopped: the model is being loaded.
const LOADING: usize = 0;
/// The program waits for a line.
const PROMPT: usize = 1;
/// The program waits for a line, and Ctrl-C was pressed once.
const PROMPT_PRESSED: usize = 2;
/// The model answers.
const ANSWERING: usize = 3;
/// The model answers, and Ctrl-C was pressed.
const STOPPING: usize = 4;

/// 128 + SIGINT, as shells report it.
const EXIT_STATUS: i32 = 130;

/// What Ctrl-C means at the moment.
#[derive(Clone)]
pub(crate) struct Interrupt(Arc<AtomicUsize>);

impl Interrupt {
    /// Takes over Ctrl-C.
    pub(crate) fn install() -> Result<Self> {
        let state = Arc::new(AtomicUsize::new(LOADING));
        let pressed = Arc::clone(&state);
        let handler = move || {
            let next = |state| match state {
                PROMPT => PROMPT_PRESSED,
                ANSWERING => STOPPING,
                state => state,
            };
            let was = pressed.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |s| Some(next(s)));
            match was.unwrap_or_else(|state| state) {
                PROMPT => {
                    let _ = write!(std::io::stderr(), "\n(once more, or /exit, to leave)\n> ");
                }
                ANSWERING => {}
                // A second one while the answer does not stop, too.
                _ => std::process::exit(EXIT_STATUS),
            }
        };
        ctrlc::set_handler(handler)
            .map_err(|e| Error::Input(format!("Ctrl-C can't be handled: {e}")))?;
        Ok(Self(state))
    }

    /// The program waits for a line.
    pub(crate) fn at_prompt(&self) {
        self.0.store(PROMPT, Ordering::SeqCst);
    }

    /// The model answers, until the guard is dropped.
    pub(crate) fn answering(&self) -> Answering<'_> {
        self.0.store(ANSWERING, Ordering::SeqCst);
        Answering(self)
    }
}

/// An answer is being written.
pub(crate) struct Answering<'a>(&'a Interrupt);

impl Answering<'_> {
    /// Whether Ctrl-C was pressed.
    pub(crate) fn stopped(&self) -> bool {
        self.0.0.load(Ordering::SeqCst) == STOPPING
    }
}

impl Drop for Answering<'_> {
    fn drop(&mut self) {
        self.0.at_prompt();
    }
}
