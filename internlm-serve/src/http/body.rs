//! Bodies of requests: how much of them is read, for how long, and what is wrong with them.

use axum::body::{Body, Bytes};
use axum::http::{Request, StatusCode, header};
use http_body_util::BodyExt;
use serde::de::DeserializeOwned;

use super::config::ServerConfig;
use super::error::ApiError;

/// Reads a body.
///
/// What is over the limit is read and forgotten, up to the limit once more: a client that is still sending
/// would not read our answer.
///
/// # Errors
/// Too long, too slow, or cut.
pub(super) async fn read(config: &ServerConfig, request: Request<Body>) -> Result<Bytes, ApiError> {
    let read = collect(request, config.max_body_bytes);
    match tokio::time::timeout(config.body_timeout, read).await {
        Ok(body) => body,
        Err(_) => Err(ApiError::status(
            StatusCode::REQUEST_TIMEOUT,
            "request_timeout",
            "The body of the request did not arrive in time.",
        )),
    }
}

async fn collect(request: Request<Body>, limit: usize) -> Result<Bytes, ApiError> {
    let too_large = || {
        let message = format!("The body of the request is larger than {limit} bytes.");
        ApiError::status(StatusCode::PAYLOAD_TOO_LARGE, "request_too_large", &message)
    };
    let announced = request.headers().get(header::CONTENT_LENGTH);
    let announced: Option<usize> = announced.and_then(|v| v.to_str().ok()?.parse().ok());
    let most = limit.saturating_mul(2);
    if announced.is_some_and(|length| length > most) {
        return Err(too_large());
    }
    let mut body = request.into_body();
    let mut bytes = Vec::with_capacity(announced.unwrap_or(0).min(limit));
    let mut length = 0usize;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| ApiError::bad("The body of the request is cut."))?;
        let Ok(data) = frame.into_data() else {
            continue;
        };
        length = length.saturating_add(data.len());
        if length > most {
            break;
        }
        if length <= limit {
            bytes.extend_from_slice(&data);
        }
    }
    match length > limit {
        true => Err(too_large()),
        false => Ok(bytes.into()),
    }
}

/// Deepest nesting of arrays and objects. serde_json has the same limit for what is kept, and none for what is
/// ignored.
const MOST_NESTING: usize = 128;

/// How deeply arrays and objects of a JSON text are nested.
fn nesting(bytes: &[u8]) -> usize {
    let (mut depth, mut deepest) = (0usize, 0);
    let (mut in_string, mut escaped) = (false, false);
    for byte in bytes {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            _ if in_string => {}
            b'[' | b'{' => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

/// Parses a body. Fields that `T` does not have are ignored.
///
/// # Errors
/// Not JSON, not an object, or a field of the wrong type, which is named. Nesting deeper than 128 is refused.
pub(super) fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ApiError> {
    if bytes.trim_ascii_start().first() != Some(&b'{') {
        return Err(ApiError::bad(
            "The body of the request is not a JSON object.",
        ));
    }
    if nesting(bytes) > MOST_NESTING {
        let message = format!("The body of the request nests deeper than {MOST_NESTING}.");
        return Err(ApiError::bad(message));
    }
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let parsed = serde_path_to_error::deserialize(&mut deserializer);
    match parsed {
        Ok(value) => match deserializer.end() {
            Ok(()) => Ok(value),
            Err(error) => Err(ApiError::bad(format!(
                "The body is not valid JSON: {error}."
            ))),
        },
        Err(error) => {
            let path = error.path().to_string();
            let inner = error.into_inner();
            let what = match inner.is_data() {
                true => "has the wrong type",
                false => "is not valid JSON",
            };
            match path.as_str() {
                "." | "?" => Err(ApiError::bad(format!("The body {what}: {inner}."))),
                _ => Err(ApiError::field(
                    path.clone(),
                    format!("`{path}` {what}: {inner}."),
                )),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize, PartialEq)]
    struct Fields {
        a: Option<u32>,
        list: Option<Vec<u32>>,
    }

    #[track_caller]
    fn param(body: &str, want: Option<&str>) {
        let error = parse::<Fields>(body.as_bytes()).unwrap_err();
        assert_eq!(error.param.as_deref(), want, "{}", error.message);
        assert_eq!(error.status, StatusCode::BAD_REQUEST);
    }

    #[test]
    fn a_good_body_is_read() {
        let fields: Fields = parse(b"{\"a\": 1, \"list\": [2], \"other\": []}").unwrap();
        let want = Fields {
            a: Some(1),
            list: Some(vec![2]),
        };
        assert_eq!(fields, want);
    }

    #[test]
    fn the_field_at_fault_is_named() {
        param("{\"a\": \"x\"}", Some("a"));
        param("{\"a\": -1}", Some("a"));
        param("{\"a\": NaN}", Some("a"));
        param("{\"a\": 1e99}", Some("a"));
        param("{\"list\": [1, 2, true]}", Some("list[2]"));
        param("[]", None);
        param("", None);
        param("{", None);
        param("{} {}", None);
    }

    #[test]
    fn unknown_fields_are_ignored_unless_they_nest_without_end() {
        assert!(parse::<Fields>(b" {\"b\": {\"c\": [1]}, \"a\": null}").is_ok());
        let deep = format!("{{\"b\": {}{}}}", "[".repeat(3000), "]".repeat(3000));
        assert!(parse::<Fields>(deep.as_bytes()).is_err());
        let text = format!("{{\"b\": \"{}\\\"[\"}}", "[".repeat(3000));
        assert!(parse::<Fields>(text.as_bytes()).is_ok());
        assert_eq!(nesting(b"{\"a\": [1, {}], \"b\": []}"), 3);
    }
}
