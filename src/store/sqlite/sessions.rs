//! Sessions.

use std::collections::HashSet;

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension, params};

use super::{SqliteStore, accounts};
use crate::domain::{Session, SessionId, Timestamp, User};
use crate::store::cache::Durable;
use crate::store::{Change, Sessions, StoreError};

pub(super) fn add(connection: &Connection, session: Session) -> Result<(), StoreError> {
    // Here, so that they go without a timer of their own: a few at a time, by an index.
    delete_expired(connection)
        .map_err(|error| StoreError::backend("delete expired sessions", error))?;
    connection
        .prepare_cached(
            "INSERT INTO sessions (id, user, created_at, expires_at) VALUES (?1, ?2, ?3, ?4)",
        )
        .and_then(|mut insert| {
            insert.execute(params![
                session.id.to_string(),
                session.user.to_string(),
                session.created_at.as_millis(),
                session.expires_at.as_millis(),
            ])
        })
        .map(drop)
        .map_err(|error| StoreError::backend("add a session", error))
}

pub(super) fn find(
    connection: &Connection,
    id: SessionId,
) -> rusqlite::Result<Option<(Session, User)>> {
    connection
        .prepare_cached(
            "SELECT users.id, users.username, sessions.created_at, sessions.expires_at
             FROM sessions JOIN users ON users.id = sessions.user
             WHERE sessions.id = ?1 AND revoked_at IS NULL AND expires_at > ?2",
        )?
        .query_row(
            params![id.to_string(), Timestamp::now().as_millis()],
            |row| {
                let user = accounts::user_from(row)?;
                let session = Session {
                    id,
                    user: user.id,
                    created_at: Timestamp::from_millis(row.get("created_at")?),
                    expires_at: Timestamp::from_millis(row.get("expires_at")?),
                };
                Ok((session, user))
            },
        )
        .optional()
}

pub(super) fn revoke(
    connection: &Connection,
    changes: &mut Vec<Durable>,
    id: SessionId,
) -> Result<(), StoreError> {
    connection
        .prepare_cached("UPDATE sessions SET revoked_at = ?2 WHERE id = ?1 AND revoked_at IS NULL")
        .and_then(|mut update| {
            update.execute(params![id.to_string(), Timestamp::now().as_millis()])
        })
        .map_err(|error| StoreError::backend("revoke a session", error))?;
    changes.push(Durable::Change(Change::SessionRevoked(id)));
    Ok(())
}

/// Sessions that are over open nothing any more; they only take room.
fn delete_expired(connection: &Connection) -> rusqlite::Result<usize> {
    connection
        .prepare_cached("DELETE FROM sessions WHERE expires_at <= ?1")?
        .execute([Timestamp::now().as_millis()])
}

pub(super) fn live(
    connection: &Connection,
    ids: Vec<SessionId>,
) -> rusqlite::Result<HashSet<SessionId>> {
    ids.into_iter()
        .filter_map(|id| match find(connection, id) {
            Ok(found) => found.map(|_| Ok(id)),
            Err(error) => Some(Err(error)),
        })
        .collect()
}

#[async_trait]
impl Sessions for SqliteStore {
    async fn add_session(&self, session: Session) -> Result<(), StoreError> {
        self.writer
            .write("add a session", move |connection, _| {
                add(connection, session)
            })
            .await
    }

    async fn find_session(&self, id: SessionId) -> Result<Option<(Session, User)>, StoreError> {
        if let Some(found) = self.cache.session(id) {
            return Ok(Some(found));
        }
        let token = self.cache.token();
        let found = self
            .readers
            .read("find a session", move |connection| find(connection, id))
            .await?;
        if let Some((session, user)) = &found {
            self.cache.keep_session(&token, *session, user.clone());
        }
        Ok(found)
    }

    async fn live_sessions(&self, ids: &[SessionId]) -> Result<HashSet<SessionId>, StoreError> {
        let ids = ids.to_vec();
        self.readers
            .read("check sessions", move |connection| live(connection, ids))
            .await
    }

    async fn revoke_session(&self, id: SessionId) -> Result<(), StoreError> {
        self.writer
            .write("revoke a session", move |connection, changes| {
                revoke(connection, changes, id)
            })
            .await
    }
}
