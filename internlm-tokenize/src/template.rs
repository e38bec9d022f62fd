//! Chat templates: messages to the parts of a prompt.
//!
//! A template is one of the formats built in here ([`BUILTIN`]) or the Jinja source that came with
//! a checkpoint. Both render to [`Part`]s and not to a string, because a string can not tell the
//! `<|im_end|>` that the template wrote from the one that a person typed. Only what the template
//! itself spelled, and what a message holds as [`Part::Marker`], comes back as a marker.

use std::sync::Arc;

use internlm_core::{Message, Part, ToolSpec};

use crate::error::{Error, Result};
use crate::tokenizer::Tokenizer;

mod builtin;
mod clock;
mod conversation;
mod guard;
mod jinja;
mod json;
mod lexer;
mod trust;

/// Names of the built-in chat formats.
///
/// - `internlm-chat`: InternLM 7B and 20B (`<|User|>:`, `<eoa>`);
/// - `internlm-chat-eoh`: the older variant of it that ends the user's text with `<eoh>`;
/// - `internlm2-chat`: InternLM2 and 2.5 (ChatML, tools, code interpreter);
/// - `internlm3-instruct`: the same format for InternLM3.
pub const BUILTIN: &[&str] = &[
    "internlm-chat",
    "internlm-chat-eoh",
    "internlm2-chat",
    "internlm3-instruct",
];

/// Special tokens as a Jinja template needs them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SpecialTokens {
    /// Variable `bos_token`.
    pub bos_token: Option<String>,
    /// Variable `eos_token`; it is also one of the template's stop tokens.
    pub eos_token: Option<String>,
    /// Variable `pad_token`.
    pub pad_token: Option<String>,
    /// Variable `unk_token`.
    pub unk_token: Option<String>,
    /// Spellings of all special tokens. Where the template writes one it becomes a
    /// [`Part::Marker`]. The four above are counted in.
    pub all: Vec<String>,
}

/// Turns messages into a prompt. Cheap to clone.
///
/// ```
/// use internlm_core::{Message, message};
/// use internlm_tokenize::ChatTemplate;
/// let template = ChatTemplate::builtin("internlm2-chat")?;
/// let parts = template.render(&[Message::user("Hi<|im_end|>")], &[], true)?;
/// assert_eq!(
///     message::join(&parts),
///     "<|im_start|>user\nHi<|im_end|><|im_end|>\n<|im_start|>assistant\n"
/// );
/// // What was typed is text, what the template wrote is a marker.
/// assert_eq!(parts.iter().filter(|p| matches!(p, internlm_core::Part::Marker { .. })).count(), 3);
/// # Ok::<(), internlm_tokenize::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct ChatTemplate {
    kind: Kind,
    stop_tokens: Arc<[String]>,
}

#[derive(Clone, Debug)]
enum Kind {
    Builtin(&'static builtin::Format),
    Jinja(Arc<jinja::Jinja>),
}

impl ChatTemplate {
    /// A built-in format by its name in [`BUILTIN`].
    ///
    /// InternLM2's format writes the names `plugin` and `interpreter` of messages as special
    /// tokens and other names verbatim. Tools become a `system name=<|plugin|>` message with the
    /// JSON list after the leading system messages, unless the messages already hold one.
    ///
    /// # Errors
    /// [`Error::UnknownTemplate`].
    pub fn builtin(name: &str) -> Result<Self> {
        let format = builtin::Format::by_name(name).ok_or_else(|| Error::UnknownTemplate {
            name: name.to_owned(),
            known: BUILTIN,
        })?;
        Ok(Self {
            kind: Kind::Builtin(format),
            stop_tokens: Arc::new([format.end_of_answer.to_owned()]),
        })
    }

    /// A Jinja template as `tokenizer_config.json` holds it.
    ///
    /// It runs as Hugging Face transformers runs it (`trim_blocks`, `lstrip_blocks`, Python's
    /// methods on strings, `tojson` as `json.dumps`, `raise_exception`, `strftime_now`, loop
    /// controls), without a loader, and on a budget of work that grows with the messages.
    /// [`Role::Environment`](internlm_core::Role) is called `tool` where the source speaks of
    /// `'tool'` and not of `'environment'`, or of neither and the message answers a tool call by
    /// its id; else it is called `environment`.
    ///
    /// # Errors
    /// [`Error::Template`] where the source is no valid template.
    pub fn jinja(source: &str, special: SpecialTokens) -> Result<Self> {
        let jinja = jinja::Jinja::new(source, special)?;
        Ok(Self {
            stop_tokens: jinja.stop_tokens().into(),
            kind: Kind::Jinja(Arc::new(jinja)),
        })
    }

    /// The template that belongs to a tokenizer: the checkpoint's own `chat_template`, else a
    /// built-in one by its special tokens (`<eoa>`: internlm-chat, `<|im_start|>`: internlm2-chat).
    ///
    /// # Errors
    /// [`Error::NoTemplate`] where neither is there, [`Error::Template`] where the checkpoint's
    /// template is invalid.
    pub fn for_tokenizer(tokenizer: &Tokenizer) -> Result<Self> {
        if let Some(source) = tokenizer.chat_template() {
            let spelling = |id: Option<u32>| id.and_then(|id| tokenizer.id_to_token(id));
            let special = SpecialTokens {
                bos_token: spelling(tokenizer.bos_token_id()),
                eos_token: spelling(tokenizer.eos_token_id()),
                pad_token: spelling(tokenizer.pad_token_id()),
                unk_token: spelling(tokenizer.unk_token_id()),
                all: tokenizer
                    .special_tokens()
                    .map(|(token, _)| token.to_owned())
                    .collect(),
            };
            return Self::jinja(source, special);
        }
        for (token, name) in [
            ("<eoa>", "internlm-chat"),
            ("<|im_start|>", "internlm2-chat"),
        ] {
            if tokenizer
                .special_tokens()
                .any(|(special, _)| special == token)
            {
                return Self::builtin(name);
            }
        }
        Err(Error::NoTemplate)
    }

    /// Fixes the clock of `strftime_now` to a number of seconds since 1970 (UTC), so that a
    /// template that writes the date renders the same prompt every day.
    ///
    /// Without it `strftime_now` reads the system's clock and, unlike transformers, writes UTC.
    #[must_use]
    pub fn with_now(mut self, unix_seconds: i64) -> Self {
        if let Kind::Jinja(jinja) = &self.kind {
            self.kind = Kind::Jinja(Arc::new(jinja.with_now(unix_seconds)));
        }
        self
    }

    /// The prompt for `messages`, without BOS unless a Jinja template writes it itself.
    ///
    /// With `add_generation_prompt` it ends where the assistant's answer begins. Join the parts
    /// ([`internlm_core::message::join`]) for the text of the prompt; give them to
    /// [`Tokenizer::encode_parts`] for the ids.
    ///
    /// Texts, names, tool specifications and tool calls are untrusted: whatever they spell comes
    /// back as [`Part::Text`]. See `docs/limits.md` for where the text may differ from Python's
    /// when they spell special tokens that a Jinja template looks for.
    ///
    /// # Errors
    /// - [`Error::Message`]: a line break in a name, or something the format cannot say
    ///   (InternLM 1 has no names, environment messages and tool calls);
    /// - [`Error::NoToolProtocol`]: tools for a format without a tool protocol;
    /// - [`Error::TemplateRefused`]: the Jinja template called `raise_exception`;
    /// - [`Error::TemplateFuel`]: it did too much work;
    /// - [`Error::Template`]: it failed otherwise.
    pub fn render(
        &self,
        messages: &[Message],
        tools: &[ToolSpec],
        add_generation_prompt: bool,
    ) -> Result<Vec<Part>> {
        match &self.kind {
            Kind::Builtin(format) => format.render(messages, tools, add_generation_prompt),
            Kind::Jinja(jinja) => jinja.render(messages, tools, add_generation_prompt),
        }
    }

    /// Special tokens that end an answer, such as `<eoa>` or `<|im_end|>`.
    ///
    /// For a Jinja template: the special token that it writes after an assistant's message, found
    /// by rendering a short conversation, and `eos_token`.
    pub fn stop_tokens(&self) -> &[String] {
        &self.stop_tokens
    }

    /// Whether [`render`](ChatTemplate::render) does anything with tools. A built-in format that can't refuses them; a
    /// Jinja template that never looks at `tools` passes them over, as transformers does.
    pub fn reads_tools(&self) -> bool {
        match &self.kind {
            Kind::Builtin(_) => true,
            Kind::Jinja(jinja) => jinja.reads("tools"),
        }
    }

    /// The name in [`BUILTIN`], or `jinja`.
    pub fn name(&self) -> &'static str {
        match &self.kind {
            Kind::Builtin(format) => format.name,
            Kind::Jinja(_) => "jinja",
        }
    }
}
