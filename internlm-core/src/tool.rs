//! Tools as a model sees them.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

/// What a model is told of a tool.
///
/// Reads OpenAI's `{"type": "function", "function": {…}}` too.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ToolSpec {
    /// The name that calls use.
    pub name: String,
    /// What it does and when to use it.
    pub description: String,
    /// A JSON Schema of the arguments, an object.
    pub parameters: Value,
}

impl ToolSpec {
    /// A tool.
    pub fn new(name: impl Into<String>, description: impl Into<String>, parameters: Value) -> Self {
        Self {
            name: name.into(),
            description: description.into(),
            parameters,
        }
    }
}

/// A call that a model makes.
///
/// Is written as `{"name", "arguments", "id"}`, the `id` only if there is one. Reads this form
/// (with `parameters` as another name of `arguments`) and OpenAI's, whose arguments are a string
/// that holds JSON:
///
/// ```
/// use internlm_core::ToolCall;
/// let call: ToolCall = serde_json::from_str(
///     r#"{"id": "call_1", "type": "function",
///         "function": {"name": "add", "arguments": "{\"a\": 1}"}}"#,
/// )?;
/// assert_eq!((call.name.as_str(), call.id.as_deref()), ("add", Some("call_1")));
/// assert_eq!(call.arguments["a"], 1);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ToolCall {
    /// The tool's name.
    pub name: String,
    /// The arguments, as the model wrote them once parsed.
    pub arguments: Value,
    /// Ties a result to its call, where the protocol has such ids.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
}

impl ToolCall {
    /// A call without an id.
    pub fn new(name: impl Into<String>, arguments: Value) -> Self {
        Self {
            name: name.into(),
            arguments,
            id: None,
        }
    }

    /// Sets the id.
    #[must_use]
    pub fn with_id(mut self, id: impl Into<String>) -> Self {
        self.id = Some(id.into());
        self
    }
}

/// Whether the model may, must or must not call tools.
///
/// Is written as `"auto"`, `"none"`, `"required"` or `{"tool": name}`. OpenAI's
/// `{"type": "function", "function": {"name": …}}` is read too.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ToolChoice {
    /// The model decides.
    #[default]
    Auto,
    /// No calls: the tools are left out of the prompt.
    None,
    /// At least one call.
    Required,
    /// This tool.
    Tool(String),
}

impl<'de> Deserialize<'de> for ToolSpec {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Inner {
            name: String,
            #[serde(default)]
            description: Option<String>,
            #[serde(default)]
            parameters: Value,
        }
        #[derive(Deserialize)]
        struct Outer {
            function: Inner,
        }
        let value = Value::deserialize(d)?;
        let inner = if value.get("function").is_some() {
            Outer::deserialize(value).map(|outer| outer.function)
        } else {
            Inner::deserialize(value)
        };
        let inner = inner.map_err(D::Error::custom)?;
        Ok(Self {
            name: inner.name,
            description: inner.description.unwrap_or_default(),
            parameters: inner.parameters,
        })
    }
}

impl<'de> Deserialize<'de> for ToolCall {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Plain {
            name: String,
            #[serde(alias = "parameters")]
            arguments: Value,
            #[serde(default)]
            id: Option<String>,
        }
        #[derive(Deserialize)]
        struct Function {
            name: String,
            #[serde(default)]
            arguments: Value,
        }
        #[derive(Deserialize)]
        struct OpenAi {
            function: Function,
            #[serde(default)]
            id: Option<String>,
        }
        let value = Value::deserialize(d)?;
        if value.get("function").is_none() {
            let Plain {
                name,
                arguments,
                id,
            } = Plain::deserialize(value).map_err(D::Error::custom)?;
            return Ok(Self {
                name,
                arguments,
                id,
            });
        }
        let OpenAi { function, id } = OpenAi::deserialize(value).map_err(D::Error::custom)?;
        Ok(Self {
            name: function.name,
            arguments: match function.arguments {
                Value::Null => Value::Object(Default::default()),
                // A model may have written something that is not JSON: it stays a string.
                Value::String(text) if text.trim().is_empty() => Value::Object(Default::default()),
                Value::String(text) => serde_json::from_str(&text).unwrap_or(Value::String(text)),
                other => other,
            },
            id,
        })
    }
}

impl<'de> Deserialize<'de> for ToolChoice {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Named {
            name: String,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "lowercase")]
        enum Plain {
            Auto,
            None,
            Required,
            Tool(String),
        }
        #[derive(Deserialize)]
        struct OpenAi {
            function: Named,
        }
        let value = Value::deserialize(d)?;
        if value.get("function").is_some() {
            let choice = OpenAi::deserialize(value).map_err(D::Error::custom)?;
            return Ok(Self::Tool(choice.function.name));
        }
        Ok(match Plain::deserialize(value).map_err(D::Error::custom)? {
            Plain::Auto => Self::Auto,
            Plain::None => Self::None,
            Plain::Required => Self::Required,
            Plain::Tool(name) => Self::Tool(name),
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn call(value: Value) -> ToolCall {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn calls_have_a_stable_form() {
        let plain = ToolCall::new("f", json!({"b": 1, "a": [2]}));
        let text = serde_json::to_string(&plain).unwrap();
        assert_eq!(text, r#"{"name":"f","arguments":{"b":1,"a":[2]}}"#);
        let with_id = plain.clone().with_id("x");
        let text = serde_json::to_string(&with_id).unwrap();
        assert_eq!(text, r#"{"name":"f","arguments":{"b":1,"a":[2]},"id":"x"}"#);
        for original in [plain, with_id, ToolCall::new("f", json!("not an object"))] {
            assert_eq!(call(serde_json::to_value(&original).unwrap()), original);
        }
    }

    #[test]
    fn calls_are_read_in_both_forms() {
        let f = |arguments| ToolCall::new("f", arguments);
        assert_eq!(
            call(json!({"name": "f", "parameters": {"a": 1}})),
            f(json!({"a": 1}))
        );
        let open_ai = |arguments: Value| {
            call(json!({"type": "function", "function": {"name": "f", "arguments": arguments}}))
        };
        assert_eq!(open_ai(json!("{\"a\": 1}")), f(json!({"a": 1})));
        assert_eq!(open_ai(json!({"a": 1})), f(json!({"a": 1})));
        assert_eq!(open_ai(json!("")), f(json!({})));
        assert_eq!(open_ai(json!(null)), f(json!({})));
        assert_eq!(open_ai(json!("{\"a\": ")), f(json!("{\"a\": ")));
    }

    #[test]
    fn malformed_calls_are_errors() {
        for value in [
            json!({"name": "f"}),
            json!({"arguments": {}}),
            json!({"name": 1, "arguments": {}}),
            json!({"function": {"arguments": "{}"}}),
            json!({"function": "f"}),
            json!("f"),
            json!(null),
        ] {
            assert!(
                serde_json::from_value::<ToolCall>(value.clone()).is_err(),
                "{value}"
            );
        }
    }

    #[test]
    fn specs_are_read_in_both_forms() {
        let schema = json!({"type": "object", "properties": {}});
        let spec = ToolSpec::new("f", "Does f.", schema.clone());
        let plain = json!({"name": "f", "description": "Does f.", "parameters": schema});
        assert_eq!(serde_json::to_value(&spec).unwrap(), plain);
        let open_ai = json!({"type": "function", "function": plain.clone()});
        for value in [plain, open_ai] {
            assert_eq!(serde_json::from_value::<ToolSpec>(value).unwrap(), spec);
        }
        let bare: ToolSpec = serde_json::from_value(json!({"name": "f"})).unwrap();
        assert_eq!(bare, ToolSpec::new("f", "", Value::Null));
        assert!(serde_json::from_value::<ToolSpec>(json!({"description": "x"})).is_err());
    }

    #[test]
    fn choices() {
        for (choice, value) in [
            (ToolChoice::Auto, json!("auto")),
            (ToolChoice::None, json!("none")),
            (ToolChoice::Required, json!("required")),
            (ToolChoice::Tool("f".into()), json!({"tool": "f"})),
        ] {
            assert_eq!(serde_json::to_value(&choice).unwrap(), value);
            assert_eq!(serde_json::from_value::<ToolChoice>(value).unwrap(), choice);
        }
        let open_ai = json!({"type": "function", "function": {"name": "f"}});
        let choice: ToolChoice = serde_json::from_value(open_ai).unwrap();
        assert_eq!(choice, ToolChoice::Tool("f".into()));
        assert!(serde_json::from_value::<ToolChoice>(json!("some")).is_err());
    }
}
