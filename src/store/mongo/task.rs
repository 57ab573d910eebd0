//! Work that a client which hangs up does not stop.

use crate::store::StoreError;

/// Runs work in a task of its own: a client that hangs up drops its handler, and what the handler awaits with it.
pub(super) async fn in_task<T: Send + 'static>(
    operation: &'static str,
    work: impl Future<Output = Result<T, StoreError>> + Send + 'static,
) -> Result<T, StoreError> {
    let done = tokio::spawn(work).await;
    done.map_err(|panicked| StoreError::backend(operation, panicked))?
}
