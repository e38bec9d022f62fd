//! The form that an answer must have, as requests ask for it.

use internlm_core::chat_model::ResponseFormat;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;

use super::error::ApiError;

/// OpenAI's `response_format`.
#[derive(Clone, Debug, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum Format {
    Text,
    JsonObject,
    JsonSchema { json_schema: Schema },
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Schema {
    schema: Value,
}

impl Format {
    pub(super) fn response_format(&self) -> ResponseFormat {
        match self {
            Format::Text => ResponseFormat::Text,
            Format::JsonObject => ResponseFormat::JsonObject,
            Format::JsonSchema { json_schema } => {
                ResponseFormat::JsonSchema(json_schema.schema.clone())
            }
        }
    }
}

/// Words of other servers (vLLM, llama.cpp) for the form of an answer. Other fields that are not known are
/// passed over; with these the answer would be free text where a form was asked for.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct OtherForms {
    structured_outputs: Option<IgnoredAny>,
    guided_json: Option<IgnoredAny>,
    guided_regex: Option<IgnoredAny>,
    guided_choice: Option<IgnoredAny>,
    guided_grammar: Option<IgnoredAny>,
    grammar: Option<IgnoredAny>,
    json_schema: Option<IgnoredAny>,
}

impl OtherForms {
    /// Refuses them by name.
    ///
    /// # Errors
    /// One of them is there.
    pub(super) fn check(&self) -> Result<(), ApiError> {
        for (field, value) in [
            ("structured_outputs", &self.structured_outputs),
            ("guided_json", &self.guided_json),
            ("guided_regex", &self.guided_regex),
            ("guided_choice", &self.guided_choice),
            ("guided_grammar", &self.guided_grammar),
            ("grammar", &self.grammar),
            ("json_schema", &self.json_schema),
        ] {
            if value.is_some() {
                let message =
                    format!("`{field}` is not known here; `response_format` takes a JSON schema.");
                return Err(ApiError::field(field, message));
            }
        }
        Ok(())
    }
}
