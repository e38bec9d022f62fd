//! The form that an answer must have, as requests ask for it.

use std::collections::BTreeMap;

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

/// vLLM's `structured_outputs`: exactly one of its forms.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Structured {
    json: Option<Value>,
    json_object: Option<bool>,
    regex: Option<String>,
    choice: Option<Vec<String>>,
    grammar: Option<String>,
    #[serde(flatten)]
    others: BTreeMap<String, IgnoredAny>,
}

impl Structured {
    /// # Errors
    /// None or several forms, a form that is not known, no choices or an empty one.
    pub(super) fn response_format(&self) -> Result<ResponseFormat, ApiError> {
        let refuse = |what: &str| {
            let message = format!("`structured_outputs` {what}");
            Err(ApiError::field("structured_outputs", message))
        };
        if let Some((field, _)) = self.others.first_key_value() {
            return refuse(&format!("has no form `{field}` here."));
        }
        let json_object = self.json_object.filter(|&wanted| wanted);
        let choice = match &self.choice {
            Some(choices) if choices.is_empty() || choices.iter().any(String::is_empty) => {
                return refuse("needs choices that are not empty.");
            }
            Some(choices) => Some(ResponseFormat::Lark(one_of(choices))),
            None => None,
        };
        let mut forms = [
            self.json.clone().map(ResponseFormat::JsonSchema),
            json_object.map(|_| ResponseFormat::JsonObject),
            self.regex.clone().map(ResponseFormat::Regex),
            choice,
            self.grammar.clone().map(ResponseFormat::Lark),
        ]
        .into_iter()
        .flatten();
        match (forms.next(), forms.next()) {
            (Some(form), None) => Ok(form),
            _ => refuse("takes exactly one of json, json_object, regex, choice and grammar."),
        }
    }
}

/// A grammar of texts of which one is the answer. Strings of Lark are written as those of JSON.
fn one_of(choices: &[String]) -> String {
    let texts = choices
        .iter()
        .map(|choice| Value::from(&**choice).to_string());
    format!("start: {}", texts.collect::<Vec<_>>().join(" | "))
}

/// Other words for the form of an answer, of llama.cpp and of vLLM before 0.12. Fields that are not known are
/// passed over, but with these the answer would be free text where a form was asked for.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct OtherForms {
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
            ("guided_json", &self.guided_json),
            ("guided_regex", &self.guided_regex),
            ("guided_choice", &self.guided_choice),
            ("guided_grammar", &self.guided_grammar),
            ("grammar", &self.grammar),
            ("json_schema", &self.json_schema),
        ] {
            if value.is_some() {
                let message = format!(
                    "`{field}` is not known here; `response_format` takes a JSON schema, \
                     `structured_outputs` also a regex, choices or a grammar."
                );
                return Err(ApiError::field(field, message));
            }
        }
        Ok(())
    }
}
