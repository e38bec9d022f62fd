//! A conversation with an engine.

use internlm_core::chat_model::{Completion, Event};
use internlm_core::{ChatRequest, Message, SamplingParams};

use crate::engine::Engine;
use crate::error::Result;
use crate::response::Response;

/// A conversation: what was said so far, and how the next answer is drawn.
///
/// ```no_run
/// use internlm_model::LoadConfig;
/// use internlm_serve::{Engine, EngineConfig};
///
/// let engine = Engine::load("internlm2_5-1_8b-chat", LoadConfig::default(), EngineConfig::default())?;
/// let mut chat = engine.chat().with_system("Answer in one sentence.");
/// for delta in chat.say("What does a KV cache hold?")? {
///     print!("{}", delta?.text);
/// }
/// # Ok::<(), internlm_serve::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Chat {
    engine: Engine,
    system: Option<Message>,
    messages: Vec<Message>,
    sampling: SamplingParams,
}

/// More of an answer.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Delta {
    /// New text.
    pub text: String,
}

/// An answer as it comes. When it is dropped, what came of it is the next message of the conversation; if
/// nothing came, the question is taken back.
#[derive(Debug)]
pub struct Reply<'c> {
    chat: &'c mut Chat,
    response: Response,
    completion: Completion,
}

impl Chat {
    pub(crate) fn new(engine: Engine) -> Self {
        let sampling = engine.model().recommended_sampling();
        Self {
            engine,
            system: None,
            messages: Vec::new(),
            sampling,
        }
    }

    /// Sets what the model is told before all else.
    #[must_use]
    pub fn with_system(mut self, text: impl Into<String>) -> Self {
        self.system = Some(Message::system(text.into()));
        self
    }

    /// Sets how answers are drawn; without, as the checkpoint recommends.
    #[must_use]
    pub fn with_sampling(mut self, sampling: SamplingParams) -> Self {
        self.sampling = sampling;
        self
    }

    /// What was said, the system's message first if there is one.
    pub fn messages(&self) -> Vec<Message> {
        self.system.iter().chain(&self.messages).cloned().collect()
    }

    /// Forgets what was said, but for the system's message.
    pub fn clear(&mut self) {
        self.messages.clear();
    }

    /// Says something, and hears the answer.
    ///
    /// # Errors
    /// As [`Engine::submit`]; then nothing was said.
    pub fn say(&mut self, text: impl Into<String>) -> Result<Reply<'_>> {
        let mut messages = self.messages();
        let said = Message::user(text.into());
        messages.push(said.clone());
        let request = ChatRequest::messages(messages).with_sampling(self.sampling.clone());
        let response = self.engine.submit(request)?;
        self.messages.push(said);
        Ok(Reply {
            chat: self,
            response,
            completion: Completion::default(),
        })
    }
}

impl Reply<'_> {
    /// What came so far; after the end with its reason and token counts.
    pub fn completion(&self) -> &Completion {
        &self.completion
    }
}

impl Iterator for Reply<'_> {
    type Item = Result<Delta>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let event = match self.response.next()? {
                Ok(answer) => answer.event,
                Err(error) => return Some(Err(error)),
            };
            let text = match &event {
                Event::Delta { text, .. } => text.clone(),
                _ => String::new(),
            };
            self.completion.push(event);
            if !text.is_empty() {
                return Some(Ok(Delta { text }));
            }
        }
    }
}

impl Drop for Reply<'_> {
    fn drop(&mut self) {
        let completion = std::mem::take(&mut self.completion);
        if completion.text.is_empty() && completion.finish_reason.is_none() {
            self.chat.messages.pop();
        } else {
            self.chat.messages.push(completion.into_message());
        }
    }
}
