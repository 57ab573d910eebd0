//! Blocks: a table of pairs.

use async_trait::async_trait;
use rusqlite::{Connection, params};

use super::{SqliteStore, accounts};
use crate::domain::{Timestamp, User, UserId};
use crate::store::{BLOCKS_PER_USER_MAX, Blocks, StoreError};

fn set(connection: &Connection, by: UserId, whom: UserId, is_on: bool) -> rusqlite::Result<()> {
    let (by, whom) = (by.to_string(), whom.to_string());
    if is_on {
        connection
            .prepare_cached(
                "INSERT INTO blocks (user, blocked, at) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING",
            )?
            .execute(params![by, whom, Timestamp::now().as_millis()])?;
    } else {
        connection
            .prepare_cached("DELETE FROM blocks WHERE user = ?1 AND blocked = ?2")?
            .execute(params![by, whom])?;
    }
    Ok(())
}

fn blocked_by(connection: &Connection, by: UserId) -> rusqlite::Result<Vec<User>> {
    connection
        .prepare_cached(
            "SELECT id, username FROM blocks JOIN users ON id = blocked WHERE user = ?1
             ORDER BY username_key LIMIT ?2",
        )?
        .query_map(
            params![by.to_string(), BLOCKS_PER_USER_MAX as i64],
            accounts::user_from,
        )?
        .collect()
}

fn blocking(
    connection: &Connection,
    people: &[UserId],
    whom: UserId,
) -> rusqlite::Result<Vec<UserId>> {
    let mut find =
        connection.prepare_cached("SELECT 1 FROM blocks WHERE user = ?1 AND blocked = ?2")?;
    let mut blocking = Vec::new();
    for user in people {
        if find.exists(params![user.to_string(), whom.to_string()])? {
            blocking.push(*user);
        }
    }
    Ok(blocking)
}

#[async_trait]
impl Blocks for SqliteStore {
    async fn set_block(&self, by: UserId, whom: UserId, is_on: bool) -> Result<(), StoreError> {
        const OPERATION: &str = "block somebody";
        self.writer
            .write(OPERATION, move |connection, _| {
                set(connection, by, whom, is_on)
                    .map_err(|error| StoreError::backend(OPERATION, error))
            })
            .await
    }

    async fn blocked_by(&self, by: UserId) -> Result<Vec<User>, StoreError> {
        self.readers
            .read("list who is blocked", move |connection| {
                blocked_by(connection, by)
            })
            .await
    }

    async fn blocking(&self, people: &[UserId], whom: UserId) -> Result<Vec<UserId>, StoreError> {
        let people = people.to_vec();
        self.readers
            .read("look for blocks", move |connection| {
                blocking(connection, &people, whom)
            })
            .await
    }
}
