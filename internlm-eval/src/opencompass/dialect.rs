//! How prompts reach a model.

use internlm_core::Scorer;
use internlm_core::chat_model::Input;
use internlm_core::message::{Message, Part};
use serde::{Deserialize, Serialize};

use super::chat::{chat_messages, default_chat_template};
use super::meta_template::{MetaTemplate, Mode};
use super::prompt::Prompt;
use crate::error::Result;

/// How prompts reach a model: what upstream's model configuration says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Dialect {
    /// As plain text (`HuggingFaceBaseModel`).
    #[default]
    Plain,
    /// As text, by a meta template.
    Meta(MetaTemplate),
    /// As messages that the model's chat template renders (`HuggingFacewithChatTemplate`), by a meta template or the
    /// usual one.
    Chat(Option<MetaTemplate>),
}

/// A prompt in a model's dialect.
#[derive(Clone, Debug, PartialEq)]
pub enum Rendered {
    /// Text; what the meta template puts in may become special tokens.
    Text(Vec<Part>),
    /// Messages.
    Messages(Vec<Message>),
}

impl Rendered {
    /// The text as one; for messages their contents in a row.
    pub fn text(&self) -> String {
        match self {
            Rendered::Text(parts) => internlm_core::message::join(parts),
            Rendered::Messages(messages) => messages.iter().map(Message::text).collect(),
        }
    }

    /// The input of a request to generate.
    pub fn into_input(self) -> Input {
        match self {
            Rendered::Text(parts) => Input::Prompt(parts),
            Rendered::Messages(messages) => Input::Messages(messages),
        }
    }
}

impl Dialect {
    /// Renders a prompt.
    ///
    /// # Errors
    /// Roles that the meta template does not have.
    pub fn render(&self, prompt: &Prompt, mode: Mode) -> Result<Rendered> {
        Ok(match self {
            Dialect::Plain => Rendered::Text(vec![Part::text(prompt.plain())]),
            Dialect::Meta(template) => Rendered::Text(template.render_parts(prompt, mode)?),
            Dialect::Chat(template) => {
                let usual;
                let template = match template {
                    Some(template) => template,
                    None => {
                        usual = default_chat_template();
                        &usual
                    }
                };
                Rendered::Messages(chat_messages(template, prompt, mode)?)
            }
        })
    }

    /// Tokens of a rendered prompt. Those of messages are counted as upstream does: all that is said as one message
    /// of the user.
    ///
    /// # Errors
    /// Whatever the tokenizer or the chat template refuses.
    pub fn count(&self, rendered: &Rendered, scorer: &dyn Scorer) -> Result<usize> {
        let ids = match rendered {
            Rendered::Text(parts) => scorer.encode_parts(parts, true)?,
            Rendered::Messages(_) => {
                let said = Message::user(rendered.text());
                scorer.encode_parts(&scorer.render_chat(&[said], &[], true)?, false)?
            }
        };
        Ok(ids.len())
    }
}
