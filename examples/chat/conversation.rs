//! A conversation that fits the context. What of it was computed before, the engine's cache finds again.

use std::path::Path;
use std::task::Poll;
use std::time::{Duration, Instant};

use internlm_core::chat_model::{Completion, Event, Usage};
use internlm_core::{ChatRequest, Message, SamplingParams};
use internlm_examples::{Error, Result, progress};
use internlm_model::config::RopeScaling;
use internlm_serve::Engine;
use serde::Serialize;

use super::interrupt::Answering;

/// Time between two looks at Ctrl-C while nothing comes.
const LOOK: Duration = Duration::from_millis(50);

/// What was said, and what the model remembers of it.
pub(crate) struct Conversation {
    engine: Engine,
    sampling: SamplingParams,
    /// Most tokens of prompt and answer.
    context: usize,
    system: Option<String>,
    /// User and assistant by turns.
    messages: Vec<Message>,
}

/// An answer and what it took.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    pub(crate) text: String,
    pub(crate) usage: Usage,
    pub(crate) interrupted: bool,
    /// Old turns that no longer fit.
    pub(crate) dropped_turns: usize,
    pub(crate) reading: Duration,
    pub(crate) writing: Duration,
}

#[derive(Serialize)]
struct Saved<'a> {
    model: &'a str,
    messages: Vec<Message>,
}

impl Conversation {
    pub(crate) fn new(engine: Engine, sampling: SamplingParams, context: Option<usize>) -> Self {
        let config = engine.model().config();
        let longest = match config.rope.scaling {
            // Beyond the trained length quality falls off, though there is no hard end.
            RopeScaling::Dynamic { .. } => config.max_position_embeddings,
            _ => config.context_length(),
        };
        Self {
            sampling,
            context: context.unwrap_or(longest).min(engine.context_length()),
            engine,
            system: None,
            messages: Vec::new(),
        }
    }

    /// Replaces the system prompt; an empty one is none.
    pub(crate) fn set_system(&mut self, system: Option<String>) {
        self.system = system.filter(|text| !text.is_empty());
    }

    /// Forgets everything but the system prompt.
    pub(crate) fn clear(&mut self) {
        self.messages.clear();
    }

    /// Number of turns.
    pub(crate) fn turns(&self) -> usize {
        self.messages.len() / 2
    }

    fn with_system(&self) -> Vec<Message> {
        let system = self.system.iter().map(Message::system);
        system.chain(self.messages.iter().cloned()).collect()
    }

    /// Writes the conversation as JSON; a file of that name is replaced as a whole or not at all.
    pub(crate) fn save(&self, file: &Path) -> Result<()> {
        let saved = Saved {
            model: self.engine.model().name(),
            messages: self.with_system(),
        };
        let mut json =
            serde_json::to_vec_pretty(&saved).map_err(|e| Error::Input(e.to_string()))?;
        json.push(b'\n');
        let mut scratch = file.as_os_str().to_owned();
        scratch.push(format!(".{}.tmp", std::process::id()));
        let write = || {
            let mut out = std::fs::File::create_new(&scratch)?;
            std::io::Write::write_all(&mut out, &json)?;
            out.sync_all()?;
            std::fs::rename(&scratch, file)
        };
        write().map_err(|e| {
            // Whatever was written is of no use; the error that counts is the first one.
            let _ = std::fs::remove_file(&scratch);
            Error::io(file.display().to_string())(e)
        })
    }

    /// Says something and lets the model answer; `on_text` sees the text as it comes.
    ///
    /// # Errors
    /// What was said does not fit the context, or the model fails; then nothing was said.
    pub(crate) fn say(
        &mut self,
        text: &str,
        answering: &Answering<'_>,
        on_text: impl FnMut(&str) -> Result<()>,
    ) -> Result<Answer> {
        let before = self.messages.clone();
        self.messages.push(Message::user(text));
        let answer = self.answer(answering, on_text);
        match &answer {
            Ok(answer) if !(answer.interrupted && answer.text.is_empty()) => {
                self.messages.push(Message::assistant(&answer.text));
            }
            _ => self.messages = before,
        }
        answer
    }

    fn answer(
        &mut self,
        answering: &Answering<'_>,
        mut on_text: impl FnMut(&str) -> Result<()>,
    ) -> Result<Answer> {
        let (prompt_tokens, dropped_turns) = self.fit()?;
        let mut sampling = self.sampling.clone();
        let room = self.context - prompt_tokens;
        sampling.max_new_tokens = Some(sampling.max_new_tokens.map_or(room, |max| max.min(room)));
        let request = ChatRequest::messages(self.with_system()).with_sampling(sampling);
        let mut answer = Answer {
            dropped_turns,
            ..Answer::default()
        };
        let begin = Instant::now();
        let spinner = progress::spinner("reading");
        // Dropped when the answer is interrupted, which ends the work.
        let mut response = self.engine.submit(request)?;
        let mut completion = Completion::default();
        loop {
            let event = match response.next_within(LOOK) {
                Poll::Ready(Some(event)) => event?.event,
                Poll::Ready(None) => break,
                Poll::Pending if answering.stopped() => {
                    answer.interrupted = true;
                    break;
                }
                Poll::Pending => continue,
            };
            if completion.ids.is_empty() {
                spinner.finish_and_clear();
                answer.reading = begin.elapsed();
            }
            if let Event::Delta { text, .. } = &event {
                on_text(text)?;
            }
            completion.push(event);
            answer.interrupted = answering.stopped();
            if answer.interrupted {
                break;
            }
        }
        spinner.finish_and_clear();
        answer.writing = begin.elapsed() - answer.reading;
        answer.usage = completion.usage;
        if answer.interrupted {
            answer.usage.prompt_tokens = prompt_tokens;
            answer.usage.completion_tokens = completion.ids.len();
        }
        answer.text = completion.text;
        Ok(answer)
    }

    /// Tokens of the prompt, and turns that were dropped: the oldest are, until there is room for an answer.
    fn fit(&mut self) -> Result<(usize, usize)> {
        let wanted = self.sampling.max_new_tokens.unwrap_or(self.context);
        let room = wanted.min(self.context / 4).max(1);
        let mut dropped = 0;
        loop {
            let request = ChatRequest::messages(self.with_system());
            let prompt_tokens = self.engine.prompt_ids(&request)?.len();
            if prompt_tokens + room <= self.context {
                return Ok((prompt_tokens, dropped));
            }
            if self.messages.len() < 3 {
                return Err(internlm_model::Error::PromptTooLong {
                    prompt_tokens,
                    context_length: self.context,
                }
                .into());
            }
            self.messages.drain(..2);
            dropped += 1;
        }
    }
}
