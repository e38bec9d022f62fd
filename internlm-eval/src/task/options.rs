//! What a run says about a task.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// What a run may change of a task.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TaskOptions {
    /// Only the first items.
    pub limit: Option<usize>,
    /// Only these rows of the split, in this order. The generator that draws examples begins anew for them, as
    /// lm-evaluation-harness's does with `--samples`.
    pub rows: Option<Vec<usize>>,
    /// Examples per item in place of the task's own number.
    pub shots: Option<usize>,
    /// The seed of random examples in place of the task's own.
    pub seed: Option<i64>,
    /// Ask by the model's chat template.
    pub chat: Option<ChatOptions>,
    /// What a run says about tasks by the rules of OpenCompass.
    pub opencompass: crate::opencompass::InferOptions,
    /// Files of a split, in place of those that the task names.
    pub files: BTreeMap<String, Vec<PathBuf>>,
}

/// How a conversation is made of a prompt.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChatOptions {
    /// A system message; the task's description follows it.
    pub system: Option<String>,
    /// Each example is a turn of its own; otherwise all of the prompt is one message.
    pub multi_turn: bool,
}
