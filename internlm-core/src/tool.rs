//! Tools as a model sees them.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What a model is told of a tool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToolSpec {
    /// The name that calls use.
    pub name: String,
    /// What it does and when to use it.
    #[serde(default)]
    pub description: String,
    /// A JSON Schema of the arguments, an object.
    #[serde(default)]
    pub parameters: Value,
}

/// A call that a model makes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToolCall {
    /// The tool's name.
    pub name: String,
    /// The arguments, as the model wrote them once parsed.
    #[serde(alias = "parameters")]
    pub arguments: Value,
    /// Ties a result to its call, where the protocol has such ids.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
}

/// Whether the model may, must or must not call tools.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
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
