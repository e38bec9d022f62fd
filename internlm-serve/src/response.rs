//! The events of a request, as an iterator for threads and as a stream for tasks.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use futures_core::Stream;
use internlm_core::chat_model::{Completion, Event};

use crate::error::{Error, Result};

/// An event of one of a request's answers.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Answer {
    /// Which of the `n` answers, from 0.
    pub index: usize,
    /// What happened.
    pub event: Event,
}

/// The events of a request, as they happen: an [`Iterator`] that waits, and a [`Stream`].
///
/// It ends when each answer had its [`Event::Finish`], or after an error, which concerns all of
/// them. Dropping it cancels the request: the engine frees what it holds before its next step.
pub struct Response {
    channel: Arc<Channel>,
}

/// The engine's end.
pub(crate) struct Sender {
    channel: Arc<Channel>,
}

#[derive(Default)]
struct Channel {
    queue: Mutex<Queue>,
    arrived: Condvar,
    cancelled: AtomicBool,
}

#[derive(Default)]
struct Queue {
    items: VecDeque<Result<Answer>>,
    closed: bool,
    /// The last item is the end, or an error.
    complete: bool,
    waker: Option<Waker>,
}

impl Channel {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        // A panic can't leave the queue half-changed.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake(&self, queue: &mut Queue) {
        if let Some(waker) = queue.waker.take() {
            waker.wake();
        }
        self.arrived.notify_all();
    }
}

/// Both ends of a new channel.
pub(crate) fn channel() -> (Sender, Response) {
    let channel = Arc::new(Channel::default());
    let response = Response {
        channel: channel.clone(),
    };
    (Sender { channel }, response)
}

impl Sender {
    /// Sends an event. After an error nothing may follow.
    pub(crate) fn send(&self, item: Result<Answer>) {
        let mut queue = self.channel.queue();
        queue.complete |= item.is_err();
        queue.items.push_back(item);
        self.channel.wake(&mut queue);
    }

    /// Says that all answers had their end.
    pub(crate) fn complete(self) {
        self.channel.queue().complete = true;
    }

    /// Whether nobody listens any more.
    pub(crate) fn is_cancelled(&self) -> bool {
        self.channel.cancelled.load(Ordering::Acquire)
    }
}

impl Drop for Sender {
    /// An engine that is gone must not make half an answer look like a whole one.
    fn drop(&mut self) {
        let mut queue = self.channel.queue();
        if !queue.complete {
            queue.items.push_back(Err(Error::Closed));
        }
        queue.closed = true;
        self.channel.wake(&mut queue);
    }
}

impl Response {
    /// Waits for the next event, but not for longer than this; [`Poll::Pending`] where none came.
    pub fn next_within(&mut self, time: Duration) -> Poll<Option<Result<Answer>>> {
        let begin = Instant::now();
        let mut queue = self.channel.queue();
        loop {
            if let Some(item) = queue.items.pop_front() {
                return Poll::Ready(Some(item));
            }
            if queue.closed {
                return Poll::Ready(None);
            }
            let Some(left) = time
                .checked_sub(begin.elapsed())
                .filter(|left| !left.is_zero())
            else {
                return Poll::Pending;
            };
            queue = self
                .channel
                .arrived
                .wait_timeout(queue, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    /// Waits for the end and collects the first answer.
    ///
    /// # Errors
    /// The first failed event.
    pub fn complete(self) -> Result<Completion> {
        let mut completions = self.complete_all()?;
        Ok(completions.drain(..).next().unwrap_or_default())
    }

    /// Waits for the end and collects all answers, in the order of their indices.
    ///
    /// # Errors
    /// The first failed event.
    pub fn complete_all(self) -> Result<Vec<Completion>> {
        let mut completions = Vec::new();
        for answer in self {
            let Answer { index, event } = answer?;
            if completions.len() <= index {
                completions.resize_with(index + 1, Completion::default);
            }
            completions[index].push(event);
        }
        Ok(completions)
    }
}

impl Iterator for Response {
    type Item = Result<Answer>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut queue = self.channel.queue();
        loop {
            if let Some(item) = queue.items.pop_front() {
                return Some(item);
            }
            if queue.closed {
                return None;
            }
            queue = self
                .channel
                .arrived
                .wait(queue)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Stream for Response {
    type Item = Result<Answer>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut queue = self.channel.queue();
        match queue.items.pop_front() {
            Some(item) => Poll::Ready(Some(item)),
            None if queue.closed => Poll::Ready(None),
            None => {
                queue.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl Drop for Response {
    fn drop(&mut self) {
        self.channel.cancelled.store(true, Ordering::Release);
    }
}

impl std::fmt::Debug for Response {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Response").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::task::Wake;

    use super::*;

    fn delta(index: usize, text: &str) -> Result<Answer> {
        let event = Event::Delta {
            text: text.to_owned(),
            ids: Vec::new(),
            logprobs: Vec::new(),
        };
        Ok(Answer { index, event })
    }

    #[test]
    fn answers_are_collected_by_index() {
        let (sender, response) = channel();
        for (index, text) in [(1, "b"), (0, "a"), (1, "c")] {
            sender.send(delta(index, text));
        }
        sender.complete();
        let texts: Vec<_> = response.complete_all().unwrap();
        let texts: Vec<_> = texts.iter().map(|c| c.text.as_str()).collect();
        assert_eq!(texts, ["a", "bc"]);
    }

    #[test]
    fn an_iterator_waits_for_another_thread() {
        let (sender, response) = channel();
        let thread = std::thread::spawn(move || response.complete().unwrap().text);
        sender.send(delta(0, "x"));
        sender.complete();
        assert_eq!(thread.join().unwrap(), "x");
    }

    #[test]
    fn a_stream_wakes_its_task() {
        #[derive(Default)]
        struct Count(std::sync::atomic::AtomicUsize);
        impl Wake for Count {
            fn wake(self: Arc<Self>) {
                self.0.fetch_add(1, Ordering::Relaxed);
            }
        }
        let count = Arc::new(Count::default());
        let waker = Waker::from(count.clone());
        let mut cx = Context::from_waker(&waker);
        let (sender, mut response) = channel();
        assert!(Pin::new(&mut response).poll_next(&mut cx).is_pending());
        sender.send(delta(0, "x"));
        assert_eq!(count.0.load(Ordering::Relaxed), 1);
        assert!(matches!(
            Pin::new(&mut response).poll_next(&mut cx),
            Poll::Ready(Some(Ok(_)))
        ));
        assert!(Pin::new(&mut response).poll_next(&mut cx).is_pending());
        sender.complete();
        assert_eq!(count.0.load(Ordering::Relaxed), 2);
        assert!(matches!(
            Pin::new(&mut response).poll_next(&mut cx),
            Poll::Ready(None)
        ));
    }

    #[test]
    fn waiting_ends() {
        let (sender, mut response) = channel();
        assert!(response.next_within(Duration::ZERO).is_pending());
        assert!(response.next_within(Duration::from_millis(1)).is_pending());
        sender.send(delta(0, "x"));
        assert!(matches!(
            response.next_within(Duration::ZERO),
            Poll::Ready(Some(Ok(_)))
        ));
        sender.complete();
        assert!(matches!(
            response.next_within(Duration::MAX),
            Poll::Ready(None)
        ));
    }

    #[test]
    fn half_an_answer_is_an_error() {
        let (sender, mut response) = channel();
        sender.send(delta(0, "x"));
        drop(sender);
        assert!(response.next().is_some_and(|item| item.is_ok()));
        assert!(matches!(response.next(), Some(Err(Error::Closed))));
        assert!(response.next().is_none());
        // An error that was sent is the last word.
        let (sender, mut response) = channel();
        sender.send(Err(Error::Deadline));
        drop(sender);
        assert!(matches!(response.next(), Some(Err(Error::Deadline))));
        assert!(response.next().is_none());
    }

    #[test]
    fn dropping_is_seen_by_the_sender() {
        let (sender, response) = channel();
        assert!(!sender.is_cancelled());
        drop(response);
        assert!(sender.is_cancelled());
    }
}
