//! Steps of ReAct in text, as 0.2 finds them.

use serde::{Deserialize, Serialize};

use crate::python;

/// The words that begin the parts of a step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReActMarkers {
    /// Before a thought.
    pub thought: String,
    /// Before a tool's name.
    pub action: String,
    /// Before its input.
    pub action_input: String,
    /// Before a result.
    pub response: String,
    /// After a result.
    pub response_end: String,
    /// Before the answer.
    pub finish: String,
}

impl Default for ReActMarkers {
    fn default() -> Self {
        Self {
            thought: "Thought:".to_owned(),
            action: "Action:".to_owned(),
            action_input: "Action Input:".to_owned(),
            response: "Response:".to_owned(),
            response_end: "\n".to_owned(),
            finish: "Final Answer:".to_owned(),
        }
    }
}

/// One step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReActStep {
    /// What the model thinks, white space included.
    pub thought: String,
    /// The tool; `FinishAction` for an answer and `NoAction` if there is neither.
    pub action: String,
    /// Its input, or the answer.
    pub action_input: String,
}

impl ReActMarkers {
    /// The step in a reply. Markers are plain text here; 0.2 takes them for regular expressions.
    pub fn parse(&self, reply: &str) -> ReActStep {
        let before =
            |text: &str, marker: &str| text.split(marker).next().unwrap_or(text).to_owned();
        let thought = before(reply, &self.action);
        let thought = thought.rsplit(&self.thought).next().unwrap_or(&thought);
        let thought = before(thought, &self.finish);
        if let Some((_, answer)) = reply.rsplit_once(&self.finish) {
            return ReActStep {
                thought,
                action: "FinishAction".to_owned(),
                action_input: answer.to_owned(),
            };
        }
        let input = reply.split_once(&self.action_input);
        match (self.last_action(reply), input) {
            (Some(action), Some((_, input))) => ReActStep {
                thought,
                action: python::strip(action).to_owned(),
                action_input: python::strip(input).trim_matches('"').to_owned(),
            },
            _ => ReActStep {
                thought,
                action: "NoAction".to_owned(),
                action_input: String::new(),
            },
        }
    }

    /// The rest of the last line that has the marker and an end.
    fn last_action<'a>(&self, reply: &'a str) -> Option<&'a str> {
        let mut lines = reply.split('\n');
        // What follows the last line break is no line that ended.
        _ = lines.next_back();
        lines
            .rev()
            .find_map(|line| Some(line.split_once(&self.action)?.1))
    }
}
