//! The thread that all connections of a client live on.

use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

use super::McpFault;

/// A thread with a runtime of tokio, so that a program needs none. It ends with this value.
#[derive(Debug)]
pub(super) struct Thread {
    handle: Handle,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Thread {
    pub(super) fn start() -> Result<Self, McpFault> {
        let fault = |error: std::io::Error| McpFault::Thread {
            what: error.to_string(),
        };
        let runtime = Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(fault)?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::Builder::new()
            .name("mcp".to_owned())
            .spawn(move || {
                runtime.block_on(async { stopped.await.ok() });
                runtime.shutdown_timeout(Duration::from_millis(100));
            })
            .map_err(fault)?;
        Ok(Self {
            handle,
            stop: Some(stop),
            thread: Some(thread),
        })
    }

    /// Runs something there. Its result comes by the channel, which is closed without one if it panics.
    pub(super) fn run<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> (mpsc::Receiver<T>, tokio::task::AbortHandle) {
        let (sender, receiver) = mpsc::sync_channel(1);
        let task = self.handle.spawn(async move {
            sender.send(work.await).ok();
        });
        (receiver, task.abort_handle())
    }
}

impl Drop for Thread {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take()
            && thread.thread().id() != std::thread::current().id()
        {
            thread.join().ok();
        }
    }
}
