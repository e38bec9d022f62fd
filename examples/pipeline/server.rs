//! The engine behind OpenAI's API, on a thread of this program.

use std::net::{Ipv4Addr, SocketAddr};
use std::thread::JoinHandle;
use std::time::Duration;

use internlm_examples::model::{ModelArgs, weight_bytes};
use internlm_examples::{Error, Result};
use internlm_model::ModelDir;
use internlm_serve::http::{self, ServerConfig};
use tokio::sync::oneshot;

use crate::arguments::Arguments;
use crate::stage::Stage;

/// A server that starts when it is needed and stops when it is dropped.
pub(crate) struct Server {
    model: ModelArgs,
    running: Option<Running>,
}

struct Running {
    url: String,
    stop: oneshot::Sender<()>,
    thread: JoinHandle<internlm_serve::Result<()>>,
}

impl Server {
    /// A server of a checkpoint, not started yet.
    pub(crate) fn of(arguments: &Arguments, dir: &ModelDir) -> Self {
        Self {
            model: arguments.model_args(dir),
            running: None,
        }
    }

    /// Loads the model and listens at a free port of this machine.
    ///
    /// # Errors
    /// The model can't be loaded, or there is no port.
    pub(crate) fn start(&mut self) -> Result<Stage> {
        let config = ServerConfig::default().with_shutdown_grace(Duration::ZERO);
        let listener = http::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), &config)?;
        let address = listener.local_addr().map_err(Error::io("the listener"))?;
        let engine = self.model.engine()?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(Error::io("the runtime"))?;
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::spawn(move || {
            runtime.block_on(http::serve(listener, engine, config, async {
                let _ = stopped.await;
            }))
        });
        let url = format!("http://{address}/v1");
        let stage = Stage {
            what: format!("OpenAI's API at {url}"),
            bytes: Some(weight_bytes(&self.model.model)?),
            ..Stage::default()
        };
        self.running = Some(Running { url, stop, thread });
        Ok(stage)
    }

    /// Where it listens; starts it if an earlier run did that stage.
    ///
    /// # Errors
    /// As [`start`](Server::start).
    pub(crate) fn url(&mut self) -> Result<&str> {
        if self.running.is_none() {
            self.start()?;
        }
        Ok(self.running.as_ref().map_or("", |running| &running.url))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(running) = self.running.take() {
            let _ = running.stop.send(());
            let _ = running.thread.join();
        }
    }
}
