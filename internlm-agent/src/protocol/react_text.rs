//! ReAct in text: `Thought:`, `Action:`, `Action Input:`, `Final Answer:`, read leniently.
//!
//! Differences from Lagent 0.2, whose machine is [`ReActV024`](super::lagent::ReActV024): a tool call before a
//! made-up `Response:` is run instead of believing the made-up answer, markers may be of any case, inputs may be
//! fenced or followed by text, and a reply without markers is sent back instead of being called an action.

use internlm_core::{ChatRequest, Message, SamplingParams, ToolSpec};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::arguments::{is_object, read_arguments};
use super::dialect::{Dialect, Turn, call_id, one_system};
use super::{CUT_CALL, Call, Channel, Observed, Reply};
use crate::lagent::{ActionDescription, ReActMarkers, prompts};
use crate::python::{self, PyValue};

/// The language of a protocol's own words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Language {
    /// English.
    #[default]
    English,
    /// Chinese.
    Chinese,
}

/// Configuration of the protocol.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct ReActText {
    /// The language of the instructions.
    pub language: Language,
    /// The words before the parts of a step.
    pub markers: ReActMarkers,
}

impl ReActText {
    /// Sets the language.
    #[must_use]
    pub fn with_language(mut self, language: Language) -> Self {
        self.language = language;
        self
    }

    /// Sets the markers.
    #[must_use]
    pub fn with_markers(mut self, markers: ReActMarkers) -> Self {
        self.markers = markers;
        self
    }
}

/// The instructions of ReAct, as both machines send them.
pub(crate) fn instructions(
    language: Language,
    markers: &ReActMarkers,
    tools: &str,
    names: Vec<PyValue>,
) -> String {
    let template = match language {
        Language::English => prompts::REACT_EN,
        Language::Chinese => prompts::REACT_CN,
    };
    prompts::fill(
        template,
        &[
            ("tool_description", tools),
            ("action_names", &PyValue::List(names).repr()),
            ("thought", &markers.thought),
            ("action", &markers.action),
            ("action_input", &markers.action_input),
            ("response", &markers.response),
            ("finish", &markers.finish),
        ],
    )
}

impl Dialect for ReActText {
    fn system(&self, system: Option<&str>, tools: &[ToolSpec]) -> Vec<Message> {
        let actions: Vec<_> = tools.iter().map(ActionDescription::from_spec).collect();
        let names = tools.iter().map(|tool| PyValue::str(&tool.name)).collect();
        let text = instructions(
            self.language,
            &self.markers,
            &ActionDescription::repr(&actions),
            names,
        );
        one_system(system, text)
    }

    fn request(&self, mut messages: Vec<Message>, _: &[ToolSpec], last: bool) -> ChatRequest {
        if last {
            messages.push(Message::user(match self.language {
                Language::English => prompts::FORCE_STOP_EN,
                Language::Chinese => prompts::FORCE_STOP_CN,
            }));
        }
        // The model must not write the tool's part.
        let mut sampling = SamplingParams::default();
        sampling.stop = vec![format!("\n{}", self.markers.response)];
        ChatRequest::messages(messages).with_sampling(sampling)
    }

    fn read(&self, reply: &Reply, tools: &[ToolSpec], first_id: usize) -> Turn {
        let text = reply.text.as_str();
        // What follows a made-up response is made up too. Within a line it is a word as any.
        let response = format!("\n{}", self.markers.response);
        let text = find(text, &response, 0).map_or(text, |(at, _)| &text[..at]);
        let action = self.action(text);
        let finish = find(text, &self.markers.finish, 0);
        if let Some((at, end)) = finish
            && action.as_ref().is_none_or(|(start, ..)| at < *start)
        {
            return Turn::Answer(text[end..].trim().to_owned());
        }
        let Some((start, name, input)) = action else {
            let what = format!(
                "there is neither `{}` with `{}` nor `{}`",
                self.markers.action, self.markers.action_input, self.markers.finish
            );
            return Turn::Fault(what);
        };
        let name = name.trim_matches(['[', ']', '`', '"', '\'', '*', ' ']);
        let tool = tools.iter().find(|tool| tool.name == name);
        // An answer after the call was written without its result.
        let all = (reply.text.len(), input.len());
        let input = find(input, &self.markers.finish, 0).map_or(input, |(at, _)| &input[..at]);
        let input = find(input, &self.markers.thought, 0).map_or(input, |(at, _)| &input[..at]);
        // An object that is closed is whole, and so is what has something behind it.
        let whole = text.len() < all.0 || input.len() < all.1 || is_object(input);
        let (arguments, fault) = match read_arguments(input, tool) {
            _ if reply.is_cut() && !whole => (json!({}), Some(CUT_CALL.to_owned())),
            Ok(arguments) => (arguments, None),
            Err(what) if tool.is_some() => (json!({}), Some(what)),
            Err(_) => (json!({}), None),
        };
        let call = Call {
            id: call_id(first_id),
            name: name.to_owned(),
            arguments,
            channel: Channel::Tool,
            thought: thought(&text[..start], &self.markers.thought).to_owned(),
        };
        Turn::Calls(vec![(call, fault)])
    }

    fn said(&self, reply: &Reply, _: &Turn) -> Message {
        Message::assistant(&reply.text)
    }

    fn told(&self, results: &[(Call, Observed)]) -> Vec<Message> {
        let told = results.iter().map(|(_, observed)| {
            let markers = &self.markers;
            let text = observed.text();
            Message::user(format!(
                "{}{text}{}",
                markers.response, markers.response_end
            ))
        });
        told.collect()
    }

    fn fault(&self, what: &str) -> Message {
        let markers = &self.markers;
        Message::user(format!(
            "{}Error: {what}. Please follow the format.{}",
            markers.response, markers.response_end
        ))
    }
}

impl ReActText {
    /// The first action that has an input: where it begins, its name, and all after the input's marker.
    fn action<'a>(&self, text: &'a str) -> Option<(usize, &'a str, &'a str)> {
        let (input_at, input_end) = find(text, &self.markers.action_input, 0)?;
        let mut found = None;
        let mut from = 0;
        while let Some((at, end)) = find(&text[..input_at], &self.markers.action, from) {
            found = Some((at, end));
            from = end;
        }
        let (at, end) = found?;
        let name = text[end..input_at].lines().next().unwrap_or_default();
        Some((at, python::strip(name), &text[input_end..]))
    }
}

fn thought<'a>(text: &'a str, marker: &str) -> &'a str {
    let mut from = 0;
    while let Some((_, end)) = find(text, marker, from) {
        from = end;
    }
    python::strip(&text[from..])
}

/// The first place of a marker in any case of ASCII, from a byte on.
fn find(text: &str, marker: &str, from: usize) -> Option<(usize, usize)> {
    if marker.is_empty() {
        return None;
    }
    let haystack = text.as_bytes().get(from..)?;
    let mut windows = haystack.windows(marker.len());
    let at = from + windows.position(|window| window.eq_ignore_ascii_case(marker.as_bytes()))?;
    Some((at, at + marker.len()))
}
