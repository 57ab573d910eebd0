//! Resets: a table of them.

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension, params};

use super::{SqliteStore, accounts, sessions};
use crate::domain::{Reset, Timestamp, User};
use crate::store::{Resets, StoreError};

fn add(connection: &Connection, reset: &Reset) -> rusqlite::Result<()> {
    connection
        .prepare_cached("DELETE FROM resets WHERE user = ?1 OR expires_at <= ?2")?
        .execute(params![
            reset.user.to_string(),
            Timestamp::now().as_millis()
        ])?;
    connection
        .prepare_cached("INSERT INTO resets (secret_hash, user, expires_at) VALUES (?1, ?2, ?3)")?
        .execute(params![
            reset.secret_hash,
            reset.user.to_string(),
            reset.expires_at.as_millis(),
        ])
        .map(drop)
}

fn find(connection: &Connection, secret_hash: &str) -> rusqlite::Result<Option<User>> {
    connection
        .prepare_cached(
            "SELECT users.id, username FROM resets JOIN users ON users.id = resets.user
             WHERE secret_hash = ?1 AND expires_at > ?2",
        )?
        .query_row(
            params![secret_hash, Timestamp::now().as_millis()],
            accounts::user_from,
        )
        .optional()
}

#[async_trait]
impl Resets for SqliteStore {
    async fn add_reset(&self, reset: Reset) -> Result<(), StoreError> {
        self.writer
            .write("add a reset", move |connection, _| {
                add(connection, &reset).map_err(|error| StoreError::backend("add a reset", error))
            })
            .await
    }

    async fn reset_for(&self, secret_hash: &str) -> Result<Option<User>, StoreError> {
        let secret_hash = secret_hash.to_owned();
        self.readers
            .read("find a reset", move |connection| {
                find(connection, &secret_hash)
            })
            .await
    }

    async fn spend_reset(
        &self,
        secret_hash: &str,
        password_hash: &str,
    ) -> Result<Option<User>, StoreError> {
        let (secret_hash, password_hash) = (secret_hash.to_owned(), password_hash.to_owned());
        self.writer
            .write("reset a password", move |connection, changes| {
                let failed = |error| StoreError::backend("reset a password", error);
                let Some(user) = find(connection, &secret_hash).map_err(failed)? else {
                    return Ok(None);
                };
                sessions::replace_password(connection, changes, user.id, &password_hash, None)?;
                Ok(Some(user))
            })
            .await
    }
}
