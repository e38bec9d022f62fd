//! Answers that must have a form: JSON of a schema, a regular expression, a grammar, a call of a tool.
//!
//! A request's form is compiled to a grammar over bytes. Before each token of the answer the grammar
//! says which tokens may come next ([`Guide::mask`]); the sampler draws among those, and
//! [`Guide::accept`] moves on. What can't be compiled, or grows too large on the way, is an error of
//! the request: an answer never falls back to free text.
//!
//! The grammar sees the text that the client will see. Decoding takes a space from the first token
//! under some tokenizers, so that token is matched without it; special tokens are no text, and match
//! only where a grammar names them.
//!
//! Feature `guided` does this with the crate `llguidance`. Without it, a request that asks for a form
//! is refused.

#[cfg(any(not(feature = "guided"), test))]
#[cfg_attr(
    feature = "guided",
    expect(dead_code, reason = "its own tests use a part of it")
)]
mod absent;
#[cfg(feature = "guided")]
mod compile;
#[cfg(feature = "guided")]
mod grammar;
#[cfg(feature = "guided")]
mod kept;
#[cfg(feature = "guided")]
mod schema;
#[cfg(feature = "guided")]
mod spelled;
#[cfg(feature = "guided")]
mod state;
#[cfg(all(test, feature = "guided"))]
mod tests;
#[cfg(feature = "guided")]
mod vocabulary;

use internlm_core::ChatRequest;
use internlm_core::chat_model::ResponseFormat;
use internlm_core::tool::ToolChoice;

#[cfg(not(feature = "guided"))]
pub(crate) use absent::{Guide, GuideFactory};
#[cfg(feature = "guided")]
pub(crate) use {compile::GuideFactory, state::Guide};

/// The field of a request that asks for a form, if one does.
pub(crate) fn demand(request: &ChatRequest) -> Option<&'static str> {
    match (&request.tool_choice, &request.response_format) {
        (ToolChoice::Required | ToolChoice::Tool(_), _) => Some("tool_choice"),
        (_, ResponseFormat::Text) => None,
        _ => Some("response_format"),
    }
}
