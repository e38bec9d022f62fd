//! What stands in for guided decoding where the crate is built without it.

use internlm_core::ChatRequest;
use internlm_tokenize::Tokenizer;

use super::demand;
use crate::error::{Error, Result};

const WITHOUT: &str = "internlm-serve was built without its feature `guided`, so answers can't be \
                       constrained; expected text, with tool_choice auto or none";

/// Compiles nothing.
pub(crate) struct GuideFactory;

/// There is none.
#[derive(Clone)]
pub(crate) enum Guide {}

impl GuideFactory {
    pub(crate) fn new(_: &Tokenizer, _: usize, _: &[u32]) -> Result<Self> {
        Ok(Self)
    }

    /// `None` where the request asks for nothing.
    ///
    /// # Errors
    /// A request that asks for a form.
    pub(crate) fn guide(&self, request: &ChatRequest) -> Result<Option<Guide>> {
        match demand(request) {
            None => Ok(None),
            Some(field) => Err(Error::request(field, WITHOUT)),
        }
    }
}

impl Guide {
    pub(crate) fn mask(&mut self) -> Result<&[u32]> {
        match *self {}
    }

    pub(crate) fn accept(&mut self, _: u32) -> Result<()> {
        match *self {}
    }

    pub(crate) fn is_complete(&self) -> bool {
        match *self {}
    }
}

#[cfg(test)]
mod tests {
    use internlm_core::chat_model::ResponseFormat;
    use internlm_core::tool::ToolChoice;

    use super::*;

    #[track_caller]
    fn check(request: &ChatRequest, want: Option<&str>) {
        match (GuideFactory.guide(request), want) {
            (Ok(None), None) => {}
            (Err(Error::Request { field, .. }), Some(want)) => assert_eq!(field, want),
            (got, _) => panic!("{:?}, expected {want:?}", got.map(|_| ())),
        }
    }

    #[test]
    fn a_form_is_refused_without_the_feature() {
        let request = ChatRequest::prompt("x");
        check(&request, None);
        check(&request.clone().with_tool_choice(ToolChoice::None), None);
        let json = ResponseFormat::JsonObject;
        check(
            &request.clone().with_response_format(json),
            Some("response_format"),
        );
        for choice in [ToolChoice::Required, ToolChoice::Tool("f".into())] {
            check(
                &request.clone().with_tool_choice(choice),
                Some("tool_choice"),
            );
        }
    }
}
