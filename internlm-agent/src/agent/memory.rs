//! What an agent remembers between tasks.

use internlm_core::{ChatModel, ChatRequest, Message, Role, SamplingParams};
use serde::{Deserialize, Serialize};

use crate::error::Result;

/// A conversation that is kept within a number of tokens: what is too old is summarized by the model, or dropped
/// if there is none to do it.
///
/// Tokens are estimated, one for four ASCII characters and one for any other, unless a count is given.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Memory {
    /// What was said, without what was summarized.
    pub messages: Vec<Message>,
    /// What was said before, in short.
    #[serde(default)]
    pub summary: Option<String>,
    /// Most tokens of a conversation; without a budget nothing is forgotten.
    #[serde(default)]
    pub budget: Option<usize>,
    #[serde(skip, default = "estimate")]
    count: fn(&str) -> usize,
}

impl Default for Memory {
    fn default() -> Self {
        Self {
            messages: Vec::new(),
            summary: None,
            budget: None,
            count: estimate_tokens,
        }
    }
}

fn estimate() -> fn(&str) -> usize {
    estimate_tokens
}

fn estimate_tokens(text: &str) -> usize {
    let (ascii, other) =
        text.chars()
            .fold((0usize, 0usize), |(ascii, other), c| match c.is_ascii() {
                true => (ascii + 1, other),
                false => (ascii, other + 1),
            });
    ascii.div_ceil(4) + other
}

impl Memory {
    /// An empty memory without a budget.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the most tokens.
    #[must_use]
    pub fn with_budget(mut self, tokens: usize) -> Self {
        self.budget = Some(tokens);
        self
    }

    /// Sets how tokens are counted.
    #[must_use]
    pub fn with_count(mut self, count: fn(&str) -> usize) -> Self {
        self.count = count;
        self
    }

    /// Adds a message.
    pub fn push(&mut self, message: Message) {
        self.messages.push(message);
    }

    /// The tokens of everything.
    pub fn tokens(&self) -> usize {
        let summary = self.summary.as_deref().map_or(0, self.count);
        summary
            + self
                .messages
                .iter()
                .map(|m| self.tokens_of(m))
                .sum::<usize>()
    }

    fn tokens_of(&self, message: &Message) -> usize {
        let calls = message
            .tool_calls
            .iter()
            .map(|call| (self.count)(&call.arguments.to_string()));
        (self.count)(&message.text()) + calls.sum::<usize>() + 4
    }

    /// What a run begins with: the summary, if there is one, and the messages.
    pub fn prompt(&self) -> Vec<Message> {
        let summary = self
            .summary
            .iter()
            .map(|text| Message::user(format!("{SUMMARY}{text}")));
        summary.chain(self.messages.iter().cloned()).collect()
    }

    /// Takes the conversation of a run that began with [`prompt`](Memory::prompt).
    pub fn keep(&mut self, mut messages: Vec<Message>) {
        if self.summary.is_some()
            && messages
                .first()
                .is_some_and(|m| m.text().starts_with(SUMMARY))
        {
            messages.remove(0);
        }
        self.messages = messages;
    }

    /// Makes everything fit the budget. A conversation is only cut before a user's message, so that no result is
    /// parted from its call; the last task is always kept.
    ///
    /// # Errors
    /// If the model can't summarize.
    pub fn fit(&mut self, model: Option<&dyn ChatModel>) -> Result<()> {
        let Some(budget) = self.budget else {
            return Ok(());
        };
        if self.tokens() <= budget {
            return Ok(());
        }
        // Half of the budget is left for what comes next.
        let mut kept = 0;
        let mut cut = self.messages.len();
        for (i, message) in self.messages.iter().enumerate().rev() {
            kept += self.tokens_of(message);
            let is_task = message.role == Role::User;
            if is_task && (kept <= budget / 2 || cut == self.messages.len()) {
                cut = i;
            }
            if kept > budget / 2 && cut < self.messages.len() {
                break;
            }
        }
        if cut == 0 || cut == self.messages.len() {
            return Ok(());
        }
        if let Some(model) = model {
            let old = &self.messages[..cut];
            self.summary = Some(self.summarize(model, old, budget / 4)?);
        }
        self.messages.drain(..cut);
        Ok(())
    }

    fn summarize(&self, model: &dyn ChatModel, old: &[Message], tokens: usize) -> Result<String> {
        let mut text = String::new();
        if let Some(summary) = &self.summary {
            text.push_str(&format!("Before that: {summary}\n"));
        }
        for message in old {
            text.push_str(&format!("{}: {}\n", message.role.as_str(), message.text()));
        }
        let ask = format!(
            "Summarize this conversation in at most {tokens} tokens. Keep names, numbers, decisions and what is \
             still to be done.\n\n{text}"
        );
        let sampling = SamplingParams::greedy().with_max_new_tokens(tokens.max(32));
        let request = ChatRequest::messages(vec![Message::user(ask)]).with_sampling(sampling);
        Ok(model.complete(&request)?.text)
    }
}

const SUMMARY: &str = "What was said before, in short: ";
