//! What an engine runs: a model, and what goes with it.

use internlm_model::{LoraAdapter, TextModel};

use crate::error::{Error, Result};

/// A model with its tokenizer, LoRA adapters of it, and a smaller model that guesses for it.
#[derive(Debug)]
#[non_exhaustive]
pub struct Models {
    /// The model.
    pub text: TextModel,
    /// Adapters that requests choose by their names.
    pub adapters: Vec<LoraAdapter>,
    /// A model of the same tokenizer whose guesses the model checks (speculative decoding, arXiv 2211.17192).
    /// Answers don't change by it.
    pub draft: Option<TextModel>,
}

impl Models {
    /// A model alone.
    pub fn new(text: TextModel) -> Self {
        Self {
            text,
            adapters: Vec::new(),
            draft: None,
        }
    }

    /// Adds an adapter.
    #[must_use]
    pub fn with_adapter(mut self, adapter: LoraAdapter) -> Self {
        self.adapters.push(adapter);
        self
    }

    /// Sets the model that guesses.
    #[must_use]
    pub fn with_draft(mut self, draft: TextModel) -> Self {
        self.draft = Some(draft);
        self
    }

    /// Checks that they go together.
    pub(crate) fn validate(&self) -> Result<()> {
        let refuse = |field, what| Err(Error::Config { field, what });
        for (i, adapter) in self.adapters.iter().enumerate() {
            let name = adapter.name();
            if self.adapters[..i].iter().any(|other| other.name() == name) {
                let what = format!("adapter {i} is called `{name}` as one before it");
                return refuse("adapters", what);
            }
        }
        let Some(draft) = &self.draft else {
            return Ok(());
        };
        let (ours, theirs) = (self.text.tokenizer(), draft.tokenizer());
        let count = ours.vocab_size().max(theirs.vocab_size()) as u32;
        if let Some(id) = (0..count).find(|&id| ours.id_to_token(id) != theirs.id_to_token(id)) {
            let what = format!(
                "token {id} is {:?}, the model's is {:?}: both must have one tokenizer",
                theirs.id_to_token(id),
                ours.id_to_token(id)
            );
            return refuse("draft", what);
        }
        let columns = self.text.model().config().vocab_size;
        let theirs = draft.model().config().vocab_size;
        if theirs > columns {
            let what = format!("has {theirs} columns of logits, the model has {columns}");
            return refuse("draft", what);
        }
        Ok(())
    }
}

impl From<TextModel> for Models {
    fn from(text: TextModel) -> Self {
        Self::new(text)
    }
}
