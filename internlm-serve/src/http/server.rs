//! A whole server: from a listener to its last connection.

use std::net::{SocketAddr, TcpListener as StdListener};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::config::ServerConfig;
use super::connection::{self, Limits};
use super::state::{Phase, Server, routes};
use crate::engine::Engine;
use crate::error::{Error, Result};

/// Time for the last words of connections after the grace time.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Time to wait when the system has no descriptor for one more connection.
const NO_DESCRIPTOR: Duration = Duration::from_millis(50);

/// Listens at an address; port 0 takes any that is free.
///
/// # Errors
/// [`Error::PublicWithoutKey`], an address that is taken or not of this machine.
pub fn bind(address: SocketAddr, config: &ServerConfig) -> Result<StdListener> {
    config.check_address(address)?;
    StdListener::bind(address).map_err(io(format!("listening at {address}")))
}

fn io(what: String) -> impl FnOnce(std::io::Error) -> Error {
    move |source| Error::Io { what, source }
}

/// Serves until `shutdown` is done. Then it takes no more connections and requests, and returns when all
/// answers are done: after [`ServerConfig::shutdown_grace`] those that are not end with an error. The engine
/// is not shut down by it.
///
/// Needs a Tokio runtime with time and I/O; one thread is enough.
///
/// # Errors
/// A configuration out of its range, a listener that other machines reach and no key, or one that does not
/// work.
pub async fn serve(
    listener: StdListener,
    engine: Engine,
    config: ServerConfig,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<()> {
    config.validate()?;
    let failed = || io("the listener".to_owned());
    let address = listener.local_addr().map_err(failed())?;
    config.check_address(address)?;
    listener.set_nonblocking(true).map_err(failed())?;
    let listener = TcpListener::from_std(listener).map_err(failed())?;
    let limits = Limits::of(&config);
    let places = Arc::new(Semaphore::new(config.max_connections));
    let grace = config.shutdown_grace;
    let any_address = !address.ip().to_canonical().is_loopback();
    let server = Server::new(engine, config, any_address);
    let router = routes(server.clone());
    let mut connections = JoinSet::new();
    let mut shutdown = std::pin::pin!(shutdown);
    tracing::info!(%address, model = server.model, "serving");
    loop {
        let place = tokio::select! {
            () = &mut shutdown => break,
            place = places.clone().acquire_owned() => place,
        };
        let accepted = tokio::select! {
            () = &mut shutdown => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                let task =
                    connection::serve(stream, router.clone(), limits, server.phase.subscribe());
                connections.spawn(async move {
                    let _place = place;
                    task.await;
                });
            }
            Err(error) => {
                // One connection may be gone already; only a lack of descriptors stays.
                tracing::warn!(%error, "a connection was not accepted");
                tokio::time::sleep(NO_DESCRIPTOR).await;
            }
        }
        while connections.try_join_next().is_some() {}
    }
    drop(listener);
    tracing::info!(connections = connections.len(), "draining");
    server.phase.send_replace(Phase::Draining);
    if !joined(&mut connections, grace).await {
        server.phase.send_replace(Phase::Over);
        joined(&mut connections, LAST_WORDS).await;
    }
    tracing::info!("done");
    Ok(())
}

/// Whether all connections end in time.
async fn joined(connections: &mut JoinSet<()>, time: Duration) -> bool {
    let all = async { while connections.join_next().await.is_some() {} };
    tokio::time::timeout(time, all).await.is_ok()
}
