//! Work that takes a while, off the threads that move bytes.

use std::sync::Arc;

use super::error::ApiError;
use super::state::Server;

/// Runs `work` on a thread for such work, when one of the places for it is free. Should the client go away,
/// what the work gives is dropped, and a request that it handed in is cancelled by that.
///
/// # Errors
/// A panic.
pub(super) async fn run<T: Send + 'static>(
    server: &Arc<Server>,
    work: impl FnOnce(&Arc<Server>) -> T + Send + 'static,
) -> Result<T, ApiError> {
    let place = server.places.clone().acquire_owned().await;
    let server = server.clone();
    let task = tokio::task::spawn_blocking(move || {
        let _place = place;
        work(&server)
    });
    task.await
        .map_err(|error| ApiError::internal(&error).with_code("defect"))
}
