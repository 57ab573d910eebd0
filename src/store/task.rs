//! Work that a client which hangs up does not stop.

use std::fmt::Display;
use std::time::Duration;

use tokio::time::sleep;

use super::StoreError;

/// The pause before another try.
const AGAIN_IN: Duration = Duration::from_secs(5);

/// Runs work in a task of its own: a client that hangs up drops its handler, and what the handler awaits with it.
pub(super) async fn in_task<T: Send + 'static>(
    operation: &'static str,
    work: impl Future<Output = Result<T, StoreError>> + Send + 'static,
) -> Result<T, StoreError> {
    let done = tokio::spawn(work).await;
    done.map_err(|panicked| StoreError::backend(operation, panicked))?
}

/// Goes on with what has begun and must be finished: a step that fails is tried again.
pub(super) async fn finish<T, F>(what: impl Display, mut step: impl FnMut() -> F) -> T
where
    F: Future<Output = Result<T, StoreError>>,
{
    loop {
        match step().await {
            Ok(done) => return done,
            Err(error) => tracing::warn!(?error, "cannot {what} to the end: trying again"),
        }
        sleep(AGAIN_IN).await;
    }
}
