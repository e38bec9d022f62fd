//! Errors as OpenAI's clients expect them.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use internlm_core::Error as CoreError;
use internlm_model::Error as ModelError;
use internlm_tokenize::Error as TokenizeError;
use serde::Serialize;

use super::wire;
use crate::error::Error;

/// A refusal or a failure, on its way to a client.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ApiError {
    pub(crate) status: StatusCode,
    pub(crate) message: String,
    /// OpenAI's `type`.
    pub(crate) kind: &'static str,
    /// The field that is at fault.
    pub(crate) param: Option<String>,
    pub(crate) code: Option<&'static str>,
}

/// The JSON of an error.
#[derive(Serialize)]
pub(crate) struct ErrorBody<'e> {
    error: Fields<'e>,
}

#[derive(Serialize)]
struct Fields<'e> {
    message: &'e str,
    #[serde(rename = "type")]
    kind: &'e str,
    param: Option<&'e str>,
    code: Option<&'e str>,
}

/// OpenAI's type of everything that is the client's fault.
const INVALID_REQUEST: &str = "invalid_request_error";
/// OpenAI's type of everything that is the server's.
const SERVER_ERROR: &str = "server_error";

/// The code of a request that there is no memory for.
const OUT_OF_MEMORY: &str = "out_of_memory";

/// Seconds after which a client that met a full queue or a full memory may come back.
const RETRY_AFTER: &str = "1";

impl ApiError {
    fn new(
        status: StatusCode,
        kind: &'static str,
        code: Option<&'static str>,
        message: impl Into<String>,
    ) -> Self {
        Self {
            status,
            message: message.into(),
            kind,
            param: None,
            code,
        }
    }

    /// A field that can't be what it is.
    pub(crate) fn field(param: impl Into<String>, message: impl Into<String>) -> Self {
        Self::bad(message).at(param)
    }

    /// A request that can't be what it is.
    pub(crate) fn bad(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, INVALID_REQUEST, None, message)
    }

    pub(crate) fn with_code(mut self, code: &'static str) -> Self {
        self.code = Some(code);
        self
    }

    /// Names the field.
    pub(crate) fn at(mut self, param: impl Into<String>) -> Self {
        self.param = Some(param.into());
        self
    }

    pub(crate) fn status(status: StatusCode, code: &'static str, message: &str) -> Self {
        let kind = match status.is_server_error() {
            true => SERVER_ERROR,
            false => INVALID_REQUEST,
        };
        Self::new(status, kind, Some(code), message)
    }

    /// Says the same whatever was wrong with the key.
    pub(crate) fn unauthorized() -> Self {
        let message = "An API key is needed and this request has none that is known.";
        Self::status(StatusCode::UNAUTHORIZED, "invalid_api_key", message)
    }

    pub(crate) fn unknown_model(name: &str) -> Self {
        let message =
            format!("The model `{name}` does not exist; GET /v1/models lists those that do.");
        Self::status(StatusCode::NOT_FOUND, "model_not_found", &message).at("model")
    }

    /// The server ends and takes no more requests.
    pub(crate) fn closed() -> Self {
        let message = "The server is shutting down.";
        Self::status(StatusCode::SERVICE_UNAVAILABLE, "shutting_down", message)
    }

    /// There is not enough memory for the request now.
    fn out_of_memory(error: &dyn std::fmt::Display) -> Self {
        tracing::warn!(%error, "a request was refused");
        let message =
            "The server has not enough memory for the request; come back later, or ask for less.";
        Self::status(StatusCode::SERVICE_UNAVAILABLE, OUT_OF_MEMORY, message)
    }

    /// Something that should not happen. What it was is for the log.
    pub(crate) fn internal(error: &dyn std::fmt::Display) -> Self {
        tracing::error!(%error, "a request failed");
        let message = "The server met an error while it worked on the request.";
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            SERVER_ERROR,
            None,
            message,
        )
    }

    pub(crate) fn body(&self) -> ErrorBody<'_> {
        ErrorBody {
            error: Fields {
                message: &self.message,
                kind: self.kind,
                param: self.param.as_deref(),
                code: self.code,
            },
        }
    }

    /// The engine's error, for a request whose prompt is the field `prompt`.
    pub(crate) fn of(error: Error, prompt: &'static str) -> Self {
        match error {
            Error::Request { field, what } => Self::request(field, what, prompt),
            Error::PromptTooLong {
                prompt_tokens,
                context_length,
            }
            | Error::Model(ModelError::PromptTooLong {
                prompt_tokens,
                context_length,
            }) => Self::too_long(prompt_tokens, context_length, prompt),
            Error::QueueFull { .. } | Error::TooManyGrammars { .. } => Self::new(
                StatusCode::TOO_MANY_REQUESTS,
                "rate_limit_error",
                Some("queue_full"),
                format!("{error}; come back later"),
            ),
            Error::OutOfMemory { .. } => Self::out_of_memory(&error),
            Error::Model(error) if error.is_out_of_memory() => Self::out_of_memory(&error),
            Error::Deadline => {
                let message = "The request was not done by its deadline.";
                Self::status(StatusCode::GATEWAY_TIMEOUT, "deadline_exceeded", message)
            }
            Error::Panicked { .. } => Self::internal(&error).with_code("defect"),
            Error::Closed => Self::closed(),
            Error::Model(error) => Self::model(error, prompt),
            Error::Tokenize(error) => Self::tokenize(&error, prompt),
            error => Self::internal(&error),
        }
    }

    fn request(field: &str, what: String, prompt: &'static str) -> Self {
        let param = match field {
            "max_new_tokens" => "max_tokens",
            "input" => prompt,
            field => field,
        };
        Self::field(param, format!("`{param}`: {what}"))
    }

    fn too_long(prompt_tokens: usize, context_length: usize, prompt: &'static str) -> Self {
        let message = format!(
            "The prompt has {prompt_tokens} tokens, the context holds {context_length} and needs room for the \
             answer."
        );
        Self::field(prompt, message).with_code("context_length_exceeded")
    }

    fn model(error: ModelError, prompt: &'static str) -> Self {
        match error {
            ModelError::Request(CoreError::Request { field, what }) => {
                Self::request(field, what, prompt)
            }
            ModelError::Request(CoreError::PromptTooLong {
                prompt_tokens,
                context_length,
            }) => Self::too_long(prompt_tokens, context_length, prompt),
            ModelError::Request(CoreError::Backend { source, .. }) => {
                // The engine's errors come back through the traits of `internlm-core` with their kind lost.
                match source.downcast_ref::<ModelError>() {
                    Some(ModelError::Tokenize(error)) => Self::tokenize(error, prompt),
                    Some(ModelError::TokenId { .. } | ModelError::Batch { .. }) => {
                        Self::field(prompt, source.to_string())
                    }
                    Some(ModelError::Head { .. }) => Self::unsupported(&source),
                    _ => Self::internal(&source),
                }
            }
            ModelError::TokenId { .. } | ModelError::Batch { .. } => {
                Self::field(prompt, error.to_string())
            }
            ModelError::Head { .. } => Self::unsupported(&error),
            ModelError::Tokenize(error) => Self::tokenize(&error, prompt),
            error => Self::internal(&error),
        }
    }

    /// The model is not made for the call.
    pub(crate) fn unsupported(error: &dyn std::fmt::Display) -> Self {
        Self::bad(format!("The model can't do this: {error}."))
            .at("model")
            .with_code("model_not_supported")
    }

    fn tokenize(error: &TokenizeError, prompt: &'static str) -> Self {
        match error {
            // What a template fails on is what it was given: it was compiled before.
            TokenizeError::Template { .. }
            | TokenizeError::TemplateFuel
            | TokenizeError::TemplateRefused { .. }
            | TokenizeError::NoTemplate
            | TokenizeError::Message { .. }
            | TokenizeError::UnknownId { .. }
            | TokenizeError::TextTooLong { .. } => Self::field(prompt, error.to_string()),
            TokenizeError::NoToolProtocol { .. } => Self::field("tools", error.to_string()),
            TokenizeError::EmptyStop { .. } => Self::field("stop", error.to_string()),
            error => Self::internal(error),
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = wire::json(self.status, &self.body());
        let headers = response.headers_mut();
        if self.status == StatusCode::TOO_MANY_REQUESTS || self.code == Some(OUT_OF_MEMORY) {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER));
        }
        if self.status == StatusCode::GATEWAY_TIMEOUT || self.code == Some("defect") {
            // OpenAI's clients would send the same again, and it would fail again.
            headers.insert("x-should-retry", HeaderValue::from_static("false"));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(error: Error, status: u16, param: Option<&str>, code: Option<&str>) -> Response {
        let error = ApiError::of(error, "messages");
        assert_eq!(error.status.as_u16(), status);
        assert_eq!((error.param.as_deref(), error.code), (param, code));
        error.into_response()
    }

    #[test]
    fn the_engines_errors_have_a_status() {
        let refused = Error::request("max_new_tokens", "is 0");
        check(refused, 400, Some("max_tokens"), None);
        check(
            Error::request("input", "is empty"),
            400,
            Some("messages"),
            None,
        );
        let long = Error::PromptTooLong {
            prompt_tokens: 9,
            context_length: 8,
        };
        check(long, 400, Some("messages"), Some("context_length_exceeded"));
        let full = Error::QueueFull {
            waiting: 2,
            limit: 2,
        };
        let full = check(full, 429, None, Some("queue_full"));
        assert!(full.headers().contains_key(header::RETRY_AFTER));
        let busy = Error::TooManyGrammars { limit: 4 };
        check(busy, 429, None, Some("queue_full"));
        let memory = Error::OutOfMemory {
            needed: 2,
            available: 1,
        };
        let memory = check(memory, 503, None, Some("out_of_memory"));
        assert!(memory.headers().contains_key(header::RETRY_AFTER));
        let device = candle_core::Error::Cuda(
            "DriverError(CUDA_ERROR_OUT_OF_MEMORY, \"out of memory\")".into(),
        );
        let device = ModelError::from(device);
        check(device.into(), 503, None, Some("out_of_memory"));
        check(Error::Deadline, 504, None, Some("deadline_exceeded"));
        check(Error::Closed, 503, None, Some("shutting_down"));
    }

    /// 25. A panic ends its request with status 500, without what the panic said.
    #[test]
    fn a_panic_is_the_servers_fault() {
        let panicked = Error::Panicked {
            what: "secret".to_owned(),
        };
        let error = ApiError::of(panicked, "prompt");
        assert!(!error.message.contains("secret"));
        assert_eq!(error.status, StatusCode::INTERNAL_SERVER_ERROR);
        let response = error.into_response();
        assert_eq!(response.headers()["x-should-retry"], "false");
    }

    #[test]
    fn templates_that_refuse_are_the_clients_fault() {
        let refused = TokenizeError::TemplateRefused {
            message: "roles must alternate".to_owned(),
        };
        check(refused.into(), 400, Some("messages"), None);
        let fuel = ModelError::Tokenize(TokenizeError::TemplateFuel);
        check(fuel.into(), 400, Some("messages"), None);
        let head = ModelError::Head {
            got: "reward",
            want: "language model",
        };
        check(head.into(), 400, Some("model"), Some("model_not_supported"));
    }
}
