//! ReAct in JSON: an object with an `action` or with a `conclusion`, read leniently.
//!
//! With an engine that constrains answers, [`ReActJson::constrained`] makes every reply one of the two shapes,
//! with the names of the tools and the schemas of their arguments.

use internlm_core::chat_model::ResponseFormat;
use internlm_core::{ChatRequest, Message, ToolSpec};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::arguments::{object_prefix, read_object, unfenced};
use super::dialect::{Dialect, Turn, call_id, one_system};
use super::{Call, Channel, Observed, Reply};
use crate::lagent::{ActionDescription, JsonParser, prompts};
use crate::python;

/// Configuration of the protocol.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct ReActJson {
    /// Whether the engine is asked to keep answers to the form.
    pub constrained: bool,
}

impl ReActJson {
    /// Sets whether answers are constrained.
    #[must_use]
    pub fn with_constrained(mut self, constrained: bool) -> Self {
        self.constrained = constrained;
        self
    }
}

/// The instructions of ReAct in JSON, as both machines send them.
pub(crate) fn instructions(actions: &[ActionDescription], parser: &JsonParser) -> String {
    let shapes: Vec<String> = parser.shapes.iter().map(ToString::to_string).collect();
    let [function, finish] = [0, 1].map(|i| shapes.get(i).map_or("", String::as_str));
    let forms = [("function_format", function), ("finish_format", finish)];
    let output = prompts::fill(prompts::OUTPUT_FORMAT, &forms);
    let tools = ActionDescription::json_line(actions);
    let values = [
        ("action_info", tools.as_str()),
        ("output_format", output.as_str()),
    ];
    prompts::fill(prompts::SELECT_ACTION, &values)
}

/// The schema of one turn: an action of one of the tools, or a conclusion.
pub fn turn_schema(tools: &[ToolSpec], may_act: bool) -> Value {
    let thought = json!({"type": "string"});
    let mut shapes: Vec<Value> = Vec::new();
    if may_act {
        shapes.extend(tools.iter().map(|tool| {
            let parameters = match tool.parameters.is_object() {
                true => tool.parameters.clone(),
                false => json!({"type": "object"}),
            };
            json!({
                "type": "object",
                "properties": {
                    "thought_process": thought,
                    "action": {
                        "type": "object",
                        "properties": {"name": {"const": tool.name}, "parameters": parameters},
                        "required": ["name", "parameters"],
                        "additionalProperties": false,
                    },
                },
                "required": ["thought_process", "action"],
                "additionalProperties": false,
            })
        }));
    }
    shapes.push(json!({
        "type": "object",
        "properties": {"thought_process": thought, "conclusion": {"type": "string"}},
        "required": ["thought_process", "conclusion"],
        "additionalProperties": false,
    }));
    json!({"anyOf": shapes})
}

impl Dialect for ReActJson {
    fn system(&self, system: Option<&str>, tools: &[ToolSpec]) -> Vec<Message> {
        let actions: Vec<_> = tools.iter().map(ActionDescription::from_spec).collect();
        one_system(system, instructions(&actions, &JsonParser::react()))
    }

    fn request(&self, messages: Vec<Message>, tools: &[ToolSpec], last: bool) -> ChatRequest {
        let request = ChatRequest::messages(messages);
        match self.constrained {
            true => {
                request.with_response_format(ResponseFormat::JsonSchema(turn_schema(tools, !last)))
            }
            false => request,
        }
    }

    fn read(&self, reply: &Reply, _: &[ToolSpec], first_id: usize) -> Turn {
        let text = python::strip(&reply.text);
        let lines = unfenced(text)
            .split('\n')
            .filter(|line| !line.trim_start().starts_with("//"));
        let text = lines.collect::<Vec<_>>().join("\n");
        let object = text.find('{').and_then(|at| object_prefix(&text[at..]));
        let Some(value) = object.and_then(read_object) else {
            let what = match reply.is_cut() {
                true => "the reply is not whole: it is too long",
                false => "the reply is not a JSON object",
            };
            return Turn::Fault(what.to_owned());
        };
        let thought = value["thought_process"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        let action = &value["action"];
        if action.is_null() {
            return match &value["conclusion"] {
                Value::String(text) => Turn::Answer(text.clone()),
                Value::Null => {
                    Turn::Fault("the object has neither `action` nor `conclusion`".to_owned())
                }
                other => Turn::Answer(other.to_string()),
            };
        }
        let Some(name) = action["name"].as_str() else {
            return Turn::Fault("the `action` has no `name`".to_owned());
        };
        let arguments = [&action["parameters"], &action["arguments"]]
            .into_iter()
            .find(|v| !v.is_null());
        let arguments = match arguments {
            Some(Value::String(text)) => read_object(text).unwrap_or_else(|| json!(text)),
            Some(value) => value.clone(),
            None => json!({}),
        };
        let call = Call {
            id: call_id(first_id),
            name: name.to_owned(),
            arguments,
            channel: Channel::Tool,
            thought,
        };
        Turn::Calls(vec![(call, None)])
    }

    fn said(&self, reply: &Reply, _: &Turn) -> Message {
        Message::assistant(&reply.text)
    }

    fn told(&self, results: &[(Call, Observed)]) -> Vec<Message> {
        results
            .iter()
            .map(|(_, observed)| Message::user(observed.text()))
            .collect()
    }

    fn fault(&self, what: &str) -> Message {
        Message::user(format!(
            "Error: {what}. Reply with one JSON object of the form above."
        ))
    }
}
