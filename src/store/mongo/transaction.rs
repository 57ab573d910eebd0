//! Transactions over several documents, and doing again what is safe to repeat.

use mongodb::ClientSession;
use mongodb::error::Error;
use mongodb::options::ReadConcern;
use tokio::time::Instant;

use super::collections::Collections;
use super::retry::{Backoff, attempt};
use crate::store::{StoreError, deadline};

/// Begins a transaction: all its reads are of one moment.
pub(super) async fn begin(collections: &Collections) -> Result<ClientSession, Error> {
    let mut session = collections.database.client().start_session().await?;
    let begin = session.start_transaction();
    begin.read_concern(ReadConcern::snapshot()).await?;
    Ok(session)
}

/// Makes attempts, each a transaction that may follow itself, until one has ended or the caller's time is over: a
/// conflict means that somebody else is at it.
pub(super) async fn persist<T, A>(
    operation: &'static str,
    transaction: impl Fn() -> A,
) -> Result<T, StoreError>
where
    A: IntoFuture<Output = Result<T, Error>>,
{
    let mut backoff = Backoff::new();
    let until = deadline::current();
    loop {
        match attempt(operation, transaction()).await {
            Ok(done) => return Ok(done),
            Err(failed) if Instant::now() >= until => return Err(failed),
            Err(_) => backoff.pause().await,
        }
    }
}
