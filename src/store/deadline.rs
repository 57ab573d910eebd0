//! The deadline of a request that waits for the database.

use std::time::Duration;

use tokio::time::Instant;

/// Through an election, which takes up to 12 seconds by default; longer than that a person does
/// not wait, and hears that it did not work.
pub(crate) const DB_DEADLINE: Duration = Duration::from_secs(15);

tokio::task_local! {
    static DEADLINE: Instant;
}

/// Runs a request, all of whose steps together wait [`DB_DEADLINE`] for the database. Work that it
/// spawns, and the body of its answer, have that much for each step.
pub(crate) async fn with_db_deadline<T>(request: impl Future<Output = T>) -> T {
    DEADLINE.scope(Instant::now() + DB_DEADLINE, request).await
}

/// Until when what is begun now is tried.
#[cfg(feature = "mongodb")]
pub(super) fn current() -> Instant {
    DEADLINE
        .try_with(|deadline| *deadline)
        .unwrap_or_else(|_| Instant::now() + DB_DEADLINE)
}
