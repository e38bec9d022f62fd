//! Runs on tokio: as a future, and as a stream of events.
//!
//! A model's answers come from an iterator that may block, so a run has a thread of tokio's for blocking work.

use std::pin::Pin;
use std::task::{Context, Poll};

use futures_core::Stream;
use internlm_core::Message;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::{Agent, AgentEvent, Report, SavedRun};
use crate::error::{Error, Result};
use crate::tool::CancelToken;

/// The events of a run. Dropping it cancels the run.
#[derive(Debug)]
pub struct AgentStream {
    events: UnboundedReceiver<Result<AgentEvent>>,
    cancel: CancelToken,
}

impl AgentStream {
    /// The next event; `None` after the last.
    pub async fn next(&mut self) -> Option<Result<AgentEvent>> {
        self.events.recv().await
    }

    /// Drives the run to its end.
    ///
    /// # Errors
    /// As [`Agent::run`].
    pub async fn finish(mut self) -> Result<Report> {
        while let Some(event) = self.next().await {
            if let AgentEvent::Finished { report } = event? {
                return Ok(*report);
            }
        }
        Err(Error::Cancelled)
    }
}

impl Stream for AgentStream {
    type Item = Result<AgentEvent>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.events.poll_recv(context)
    }
}

impl Drop for AgentStream {
    fn drop(&mut self) {
        self.cancel.cancel();
    }
}

/// What a stream begins with.
enum Beginning {
    Messages(Vec<Message>),
    Saved(Box<SavedRun>),
}

impl Agent {
    /// Works on a task to its end, on tokio.
    ///
    /// # Errors
    /// As [`run`](Agent::run).
    pub async fn run_async(&self, task: impl Into<String>) -> Result<Report> {
        self.stream(task).finish().await
    }

    /// Works on a task on tokio; the stream is what happens. Must be called on a runtime.
    pub fn stream(&self, task: impl Into<String>) -> AgentStream {
        self.spawn(Beginning::Messages(vec![Message::user(task)]))
    }

    /// The same after a conversation, whose last message is the task.
    pub fn stream_with(&self, messages: Vec<Message>) -> AgentStream {
        self.spawn(Beginning::Messages(messages))
    }

    /// Goes on with a run that was written down.
    pub fn resume_stream(&self, saved: SavedRun) -> AgentStream {
        self.spawn(Beginning::Saved(Box::new(saved)))
    }

    fn spawn(&self, beginning: Beginning) -> AgentStream {
        let (sender, events) = unbounded_channel();
        let mut agent = self.clone();
        // Dropping one stream must not end other runs of the agent.
        let cancel = self.cancel.child();
        agent.cancel = cancel.clone();
        tokio::task::spawn_blocking(move || {
            let run = match beginning {
                Beginning::Messages(messages) => agent.start_with(messages),
                Beginning::Saved(saved) => agent.resume(*saved),
            };
            match run {
                Err(error) => _ = sender.send(Err(error)),
                Ok(run) => {
                    for event in run {
                        if sender.send(event).is_err() {
                            return;
                        }
                    }
                }
            }
        });
        AgentStream { events, cancel }
    }
}
