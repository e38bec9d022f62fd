//! The events of all prompts of one request.

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_core::Stream;
use internlm_core::Event;
use tokio::time::Sleep;

use super::state::Server;
use crate::error::Error;
use crate::response::{Answer, Response};

/// An event of the answer with this index, or the error that ends all of them.
pub(super) type Item = Result<(usize, Event), Error>;

/// Several responses as one: a request may have more than one prompt. Dropping it cancels all of them.
pub(super) struct Answers {
    responses: Vec<Option<Response>>,
    /// Answers to each prompt.
    n: usize,
    deadline: Option<Pin<Box<Sleep>>>,
    /// Done when the server lets nobody finish any more.
    over: Pin<Box<dyn Future<Output = ()> + Send>>,
    /// What was looked at and not taken.
    ahead: VecDeque<Item>,
}

impl Answers {
    pub(super) fn new(server: &Server, responses: Vec<Response>, n: usize) -> Self {
        let deadline = server.config.request_deadline;
        Self {
            responses: responses.into_iter().map(Some).collect(),
            n,
            deadline: deadline.map(|deadline| Box::pin(tokio::time::sleep(deadline))),
            over: Box::pin(server.over()),
            ahead: VecDeque::new(),
        }
    }

    /// The next event; `None` after the last one or an error.
    pub(super) async fn next(&mut self) -> Option<Item> {
        poll_fn(|cx| self.poll(cx)).await
    }

    /// Waits for the first event, at most this long.
    ///
    /// # Errors
    /// The first event is an error.
    pub(super) async fn begin(&mut self, patience: Duration) -> Result<(), Error> {
        match tokio::time::timeout(patience, self.next()).await {
            Ok(Some(Err(error))) => Err(error),
            Ok(item) => {
                self.ahead.extend(item);
                Ok(())
            }
            Err(_) => Ok(()),
        }
    }

    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Item>> {
        if let Some(item) = self.ahead.pop_front() {
            return Poll::Ready(Some(item));
        }
        let mut open = false;
        for (prompt, place) in self.responses.iter_mut().enumerate() {
            let Some(response) = place else { continue };
            match Pin::new(response).poll_next(cx) {
                Poll::Ready(Some(Ok(Answer { index, event }))) => {
                    return Poll::Ready(Some(Ok((prompt * self.n + index, event))));
                }
                Poll::Ready(Some(Err(error))) => return self.fail(error),
                Poll::Ready(None) => *place = None,
                Poll::Pending => open = true,
            }
        }
        if !open {
            return Poll::Ready(None);
        }
        let late = self
            .deadline
            .as_mut()
            .is_some_and(|deadline| deadline.as_mut().poll(cx).is_ready());
        if late {
            return self.fail(Error::Deadline);
        }
        match self.over.as_mut().poll(cx) {
            Poll::Ready(()) => self.fail(Error::Closed),
            Poll::Pending => Poll::Pending,
        }
    }

    fn fail(&mut self, error: Error) -> Poll<Option<Item>> {
        self.responses.clear();
        Poll::Ready(Some(Err(error)))
    }
}
