//! Rate limits that outlive a restart: the generic cell rate algorithm, by this machine's clock.

use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, params};

use super::SqliteStore;
use crate::domain::{Rate, Timestamp};
use crate::store::{Bucket, Buckets, StoreError};

/// How many rows that say nothing any more go with each write. One comes with it at most, so they
/// cannot pile up.
const FORGOTTEN_AT_ONCE: u32 = 8;

#[async_trait::async_trait]
impl Buckets for SqliteStore {
    async fn take(&self, buckets: &[Bucket]) -> Result<Result<(), Duration>, StoreError> {
        let buckets = buckets.to_vec();
        self.writer
            .write("count for a limit", move |connection, _| {
                take(connection, &buckets)
                    .map_err(|error| StoreError::backend("count for a limit", error))
            })
            .await
    }

    async fn refund(&self, buckets: &[Bucket]) -> Result<(), StoreError> {
        let buckets = buckets.to_vec();
        self.writer
            .write("give back to a limit", move |connection, _| {
                refund(connection, &buckets)
                    .map_err(|error| StoreError::backend("give back to a limit", error))
            })
            .await
    }

    async fn remember(&self, key: &str, lasts: Duration) -> Result<(), StoreError> {
        let key = key.to_owned();
        self.writer
            .write("remember a network", move |connection, _| {
                put(connection, &key, Timestamp::now().after(lasts).as_millis())
                    .map_err(|error| StoreError::backend("remember a network", error))
            })
            .await
    }

    async fn is_remembered(&self, key: &str) -> Result<bool, StoreError> {
        let key = key.to_owned();
        self.readers
            .read("look for a network", move |connection| {
                let until = full_at(connection, &key)?;
                Ok(until.is_some_and(|until| until > Timestamp::now().as_millis()))
            })
            .await
    }
}

/// From all of them, or from none.
fn take(connection: &Connection, buckets: &[Bucket]) -> rusqlite::Result<Result<(), Duration>> {
    let now = Timestamp::now().as_millis();
    let mut taken = Vec::with_capacity(buckets.len());
    for Bucket { key, rate } in buckets {
        let (every, size) = (ms(rate.every), ms(rate.every * rate.burst));
        // A clock that was ahead once must not lock anybody out: an empty bucket is the worst it is.
        let full_at = full_at(connection, key)?.unwrap_or(now);
        let next = full_at.clamp(now, now + size) + every;
        let wait = next - size - now;
        if let Ok(wait) = u64::try_from(wait)
            && wait > 0
        {
            return Ok(Err(Duration::from_millis(wait)));
        }
        taken.push((key, next));
    }
    for (key, next) in taken {
        put(connection, key, next)?;
    }
    forget(connection, now)?;
    Ok(Ok(()))
}

fn refund(connection: &Connection, buckets: &[Bucket]) -> rusqlite::Result<()> {
    for Bucket {
        key,
        rate: Rate { every, .. },
    } in buckets
    {
        connection
            .prepare_cached("UPDATE limits SET full_at = full_at - ?2 WHERE key = ?1")?
            .execute(params![key, ms(*every)])?;
    }
    Ok(())
}

fn full_at(connection: &Connection, key: &str) -> rusqlite::Result<Option<i64>> {
    connection
        .prepare_cached("SELECT full_at FROM limits WHERE key = ?1")?
        .query_row([key], |row| row.get(0))
        .optional()
}

fn put(connection: &Connection, key: &str, full_at: i64) -> rusqlite::Result<()> {
    connection
        .prepare_cached("INSERT OR REPLACE INTO limits (key, full_at) VALUES (?1, ?2)")?
        .execute(params![key, full_at])
        .map(drop)
}

fn forget(connection: &Connection, now: i64) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "DELETE FROM limits WHERE key IN
             (SELECT key FROM limits WHERE full_at <= ?1 ORDER BY full_at LIMIT ?2)",
        )?
        .execute(params![now, FORGOTTEN_AT_ONCE])
        .map(drop)
}

fn ms(span: Duration) -> i64 {
    i64::try_from(span.as_millis()).unwrap_or(i64::MAX)
}
