//! InternLM2's chat format as Lagent renders it.

use serde::{Deserialize, Serialize};

use super::aggregate::ChatMessage;
use crate::error::{Error, Result};

/// A message, or text that is taken as it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum TemplateItem {
    /// Text between messages.
    Raw(String),
    /// A message.
    Message(ChatMessage),
}

impl From<ChatMessage> for TemplateItem {
    fn from(message: ChatMessage) -> Self {
        Self::Message(message)
    }
}

/// Renders messages as text, without `<s>`. If the last is not the assistant's, its turn is opened.
///
/// This is for comparison with Lagent. Prompts of a local engine are made of
/// [`Part`](internlm_core::Part)s, in which a person's text can't become a marker.
///
/// # Errors
/// [`Error::Upstream`] for a role that the format lacks, and a content that is no text.
pub fn render_internlm2(items: &[TemplateItem]) -> Result<String> {
    let mut out = String::new();
    for (i, item) in items.iter().enumerate() {
        let message = match item {
            TemplateItem::Raw(text) => {
                out.push_str(text);
                continue;
            }
            TemplateItem::Message(message) => message,
        };
        let role = message.role.as_str();
        if !matches!(role, "system" | "user" | "assistant" | "environment") {
            let what = "'NoneType' object has no attribute 'get'";
            return Err(Error::upstream("AttributeError", what));
        }
        let Some(content) = message.content.as_str() else {
            return Err(Error::upstream("TypeError", "can only concatenate str"));
        };
        out.push_str("<|im_start|>");
        out.push_str(role);
        if let Some(name) = &message.name {
            out.push_str(" name=");
            out.push_str(match name.as_str() {
                // People have no channels.
                "plugin" if role != "user" => "<|plugin|>",
                "interpreter" if role != "user" => "<|interpreter|>",
                other => other,
            });
        }
        out.push('\n');
        out.push_str(content);
        out.push_str("<|im_end|>\n");
        if i + 1 == items.len() && role != "assistant" {
            out.push_str("<|im_start|>assistant\n");
        }
    }
    Ok(out)
}
