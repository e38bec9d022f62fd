//! What happens in a run.

use std::time::Duration;

use internlm_core::chat_model::{FinishReason, Usage};
use internlm_core::{Message, ToolCall};
use serde::{Deserialize, Serialize};

use super::report::Report;
use crate::protocol::{Call, Observed};

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
#[non_exhaustive]
pub enum AgentEvent {
    /// The model is asked.
    TurnStarted {
        /// Which request of the run, from 1.
        turn: usize,
        /// Messages of the request that were not in the one before.
        new_messages: Vec<Message>,
    },
    /// More text of its answer. The texts of a turn join to what it said.
    Delta {
        /// The text.
        text: String,
    },
    /// The model failed and is asked once more. What it said in this turn is void.
    Retried {
        /// Which try failed, from 1.
        attempt: usize,
        /// How.
        error: String,
    },
    /// The model answered.
    TurnFinished {
        /// What it said.
        text: String,
        /// Calls beside the text.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        tool_calls: Vec<ToolCall>,
        /// Why it ended, if the model says.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        finish_reason: Option<FinishReason>,
        /// Token counts of this request.
        usage: Usage,
        /// How long it took.
        elapsed: Duration,
    },
    /// Calls wait for approval, and the run is over for now.
    ApprovalNeeded {
        /// The calls.
        calls: Vec<Call>,
    },
    /// A call is run.
    CallStarted {
        /// The call.
        call: Call,
    },
    /// A call is over.
    CallFinished {
        /// The call's id.
        id: String,
        /// The tool.
        name: String,
        /// What came of it.
        observed: Observed,
        /// How long it took.
        elapsed: Duration,
    },
    /// The run is over; nothing follows.
    Finished {
        /// What it left.
        report: Box<Report>,
    },
}
