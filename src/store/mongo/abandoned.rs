//! Abandoned transactions: of a node that died, or was cut off, between a transaction's last write and its
//! commit. Whoever inserts an event of the same number waits for it, and MongoDB ends it only after a minute.
//!
//! So an insert that takes long has them ended. Only those of our own user and application name, and only where
//! nothing has happened for a second; ours take milliseconds. Should one be alive after all, its node
//! hears that nothing was done, and does it again.

use std::pin::pin;
use std::time::Duration;

use mongodb::bson::{Document, doc};
use mongodb::error::Error;
use mongodb::options::{DatabaseOptions, ReadConcern};
use tokio::time::{Instant, timeout};
use tokio_stream::StreamExt;

use super::collections::Collections;

/// After this long an insert is taken to be held up, and a transaction in which nothing happens to be
/// abandoned.
const PATIENCE: Duration = Duration::from_secs(1);

/// Waits for a write; if that takes long, has abandoned transactions ended that may hold it up.
pub(super) async fn unblocked<T>(collections: &Collections, write: impl Future<Output = T>) -> T {
    let mut write = pin!(write);
    loop {
        if let Ok(written) = timeout(PATIENCE, &mut write).await {
            return written;
        }
        tokio::select! {
            written = &mut write => return written,
            () = end_abandoned(collections) => {}
        }
    }
}

/// For a transaction that another was in the way of: whether that has been so for long is told by when it
/// began. Has abandoned ones ended then.
pub(super) async fn unblock(collections: &Collections, since: Instant) {
    if since.elapsed() > PATIENCE {
        end_abandoned(collections).await;
    }
}

async fn end_abandoned(collections: &Collections) {
    match timeout(PATIENCE, kill_idle(collections)).await {
        Ok(Ok(0)) | Err(_) => {}
        Ok(Ok(ended)) => tracing::warn!(ended, "ended transactions that were abandoned"),
        // Without the right to see them it takes a minute.
        Ok(Err(error)) => tracing::debug!(?error, "cannot look for abandoned transactions"),
    }
}

async fn kill_idle(collections: &Collections) -> Result<usize, Error> {
    // MongoDB tells what is under way to no reader that asks for a majority's word.
    let local = ReadConcern::local();
    let local = DatabaseOptions::builder().read_concern(local).build();
    let client = collections.database.client();
    let admin = client.database_with_options("admin", local);
    let micros = i64::try_from(PATIENCE.as_micros()).unwrap_or(i64::MAX);
    let idle = [
        doc! { "$currentOp": { "allUsers": false, "idleSessions": true } },
        doc! { "$match": {
            "type": "idleSession",
            "appName": &*collections.app_name,
            "transaction.timeInactiveMicros": { "$gt": micros },
        } },
        doc! { "$project": { "lsid": 1 } },
    ];
    let idle: Vec<Document> = admin
        .aggregate(idle)
        .await?
        .collect::<Result<_, _>>()
        .await?;
    let sessions: Vec<Document> = { idle.iter() }
        .filter_map(|idle| Some(doc! { "id": idle.get_document("lsid").ok()?.get("id")? }))
        .collect();
    let count = sessions.len();
    if count > 0 {
        admin.run_command(doc! { "killSessions": sessions }).await?;
    }
    Ok(count)
}
