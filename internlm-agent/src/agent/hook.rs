//! What an application puts between an agent, its model and its tools.

use internlm_core::ChatRequest;
use serde::{Deserialize, Serialize};

use crate::protocol::{Call, Observed, Reply};

/// Sees and changes what goes in and out. All methods do nothing by default.
pub trait Hook: Send + Sync {
    /// Before a request is sent.
    fn before_model(&self, request: &mut ChatRequest) {
        _ = request;
    }

    /// After a whole answer, before it is read.
    fn after_model(&self, reply: &mut Reply) {
        _ = reply;
    }

    /// Before a call is run. A result given here is taken instead of running it.
    fn before_tool(&self, call: &mut Call) -> Option<Observed> {
        _ = call;
        None
    }

    /// After a call, before the model is told.
    fn after_tool(&self, call: &Call, observed: &mut Observed) {
        _ = (call, observed);
    }
}

/// What becomes of a call that needs approval.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Decision {
    /// It is run.
    Allow,
    /// It is not, and the model is told why.
    Deny(String),
    /// The run stops here and can be written down; see [`SavedRun`](super::SavedRun).
    Pause,
}
