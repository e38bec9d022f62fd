//! Streams of events, with an end to each event.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::{Body, BodyDataStream, Bytes};
use axum::http::Response;
use futures_core::Stream;
use rmcp::transport::streamable_http_client::SseError;
use sse_stream::{Sse, SseStream};

use super::said::Said;

/// Events of a server.
pub(super) type Events = Pin<Box<dyn Stream<Item = Result<Sse, SseError>> + Send>>;

/// Why a stream of events ends.
#[derive(Debug, thiserror::Error)]
pub(super) enum EventFault {
    /// The body broke off.
    #[error("the answer broke off: {0}")]
    Body(#[from] axum::Error),
    /// An event is too long.
    #[error("it sent an event of more than {0} bytes")]
    TooLong(usize),
}

/// The bytes of a stream of events, none of which may be longer than this.
pub(super) struct Bounded {
    stream: BodyDataStream,
    max_size: usize,
    said: Arc<Said>,
    /// Bytes since the last empty line.
    size: usize,
    at_line_start: bool,
}

impl Bounded {
    pub(super) fn events(response: Response<Body>, max_size: usize, said: &Arc<Said>) -> Events {
        let stream = Self {
            stream: response.into_body().into_data_stream(),
            max_size,
            said: Arc::clone(said),
            size: 0,
            at_line_start: true,
        };
        Box::pin(SseStream::from_bytes_stream(stream))
    }

    fn is_within(&mut self, bytes: &[u8]) -> bool {
        for byte in bytes {
            let end = matches!(byte, b'\n' | b'\r');
            self.size = match end && self.at_line_start {
                true => 0,
                false => self.size + 1,
            };
            self.at_line_start = end;
            if self.size > self.max_size {
                return false;
            }
        }
        true
    }
}

impl Stream for Bounded {
    type Item = Result<Bytes, EventFault>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let polled = Pin::new(&mut self.stream).poll_next(cx);
        polled.map(|item| {
            let bytes = match item? {
                Ok(bytes) => bytes,
                Err(error) => return Some(Err(error.into())),
            };
            match self.is_within(&bytes) {
                true => Some(Ok(bytes)),
                false => {
                    let fault = EventFault::TooLong(self.max_size);
                    self.said.broke(fault.to_string());
                    Some(Err(fault))
                }
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_has_a_size() {
        let bounded = || Bounded {
            stream: Body::empty().into_data_stream(),
            max_size: 10,
            said: Arc::default(),
            size: 0,
            at_line_start: true,
        };
        let mut events = bounded();
        for _ in 0..100 {
            assert!(events.is_within(b"data: 12\n\n") && events.is_within(b": ping\r\n\r\n"));
        }
        assert!(!bounded().is_within(b"data: 1234\n"));
        assert!(!bounded().is_within(b"data:\ndata:\n"));
    }
}
