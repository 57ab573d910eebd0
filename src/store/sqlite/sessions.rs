//! Sessions.

use std::collections::HashSet;

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::{SqliteStore, accounts};
use crate::domain::{
    PasswordChange, SeenSession, Session, SessionId, SignIn, Timestamp, User, UserId,
};
use crate::store::cache::Durable;
use crate::store::{Change, Sessions, StoreError};

pub(super) fn add(connection: &Connection, sign_in: &SignIn) -> Result<bool, StoreError> {
    let session = sign_in.session;
    // Here, so that they go without a timer of their own: a few at a time, by an index.
    delete_expired(connection)
        .map_err(|error| StoreError::backend("delete expired sessions", error))?;
    connection
        .prepare_cached(
            "INSERT INTO sessions (id, user, created_at, expires_at, device, address, seen_at)
             SELECT ?1, id, ?3, ?4, ?5, ?6, ?3 FROM users
             WHERE id = ?2 AND password_hash = ?7 AND deactivated_at IS NULL",
        )
        .and_then(|mut insert| {
            insert.execute(params![
                session.id.to_string(),
                session.user.to_string(),
                session.created_at.as_millis(),
                session.expires_at.as_millis(),
                sign_in.device,
                sign_in.address,
                sign_in.password_hash,
            ])
        })
        .map(|added| added > 0)
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
             WHERE sessions.id = ?1 AND revoked_at IS NULL AND expires_at > ?2
                   AND deactivated_at IS NULL",
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

pub(super) fn revoke_all(
    connection: &Connection,
    changes: &mut Vec<Durable>,
    user: UserId,
    but: Option<SessionId>,
) -> Result<(), StoreError> {
    let others =
        of(connection, user).map_err(|error| StoreError::backend("list the sessions", error))?;
    let others = others.iter().map(|one| one.session.id);
    for id in others.filter(|id| Some(*id) != but) {
        revoke(connection, changes, id)?;
    }
    Ok(())
}

/// Gives a user another password, and ends what was begun with the one before: the resets, and the sessions but one.
pub(super) fn replace_password(
    connection: &Connection,
    changes: &mut Vec<Durable>,
    user: UserId,
    password_hash: &str,
    but: Option<SessionId>,
) -> Result<(), StoreError> {
    let failed = |error| StoreError::backend("change a password", error);
    connection
        .prepare_cached("UPDATE users SET password_hash = ?2 WHERE id = ?1 AND erased IS NULL")
        .and_then(|mut update| update.execute(params![user.to_string(), password_hash]))
        .map_err(failed)?;
    connection
        .prepare_cached("DELETE FROM resets WHERE user = ?1")
        .and_then(|mut delete| delete.execute([user.to_string()]))
        .map_err(failed)?;
    revoke_all(connection, changes, user, but)
}

fn set_password(
    connection: &Connection,
    changes: &mut Vec<Durable>,
    change: &PasswordChange,
) -> Result<bool, StoreError> {
    let is_as_it_was = connection
        .prepare_cached(
            "SELECT 1 FROM users WHERE id = ?1 AND password_hash = ?2 AND erased IS NULL",
        )
        .and_then(|mut find| find.exists(params![change.user.to_string(), change.from]))
        .map_err(|error| StoreError::backend("change a password", error))?;
    if is_as_it_was {
        replace_password(
            connection,
            changes,
            change.user,
            &change.to,
            Some(change.but),
        )?;
    }
    Ok(is_as_it_was)
}

fn of(connection: &Connection, user: UserId) -> rusqlite::Result<Vec<SeenSession>> {
    connection
        .prepare_cached(
            "SELECT * FROM sessions WHERE user = ?1 AND revoked_at IS NULL AND expires_at > ?2
             ORDER BY seen_at DESC, id",
        )?
        .query_map(
            params![user.to_string(), Timestamp::now().as_millis()],
            |row| {
                let moment = |column| row.get(column).map(Timestamp::from_millis);
                let created_at = moment("created_at")?;
                Ok(SeenSession {
                    session: Session {
                        id: id_from(row)?,
                        user,
                        created_at,
                        expires_at: moment("expires_at")?,
                    },
                    device: row.get("device")?,
                    address: row.get("address")?,
                    // Of an earlier version it was never noted.
                    seen_at: moment("seen_at")?.max(created_at),
                })
            },
        )?
        .collect()
}

fn id_from(row: &Row<'_>) -> rusqlite::Result<SessionId> {
    SessionId::parse(row.get_ref("id")?.as_str()?).map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(0, rusqlite::types::Type::Text, Box::new(error))
    })
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
    async fn add_session(&self, sign_in: SignIn) -> Result<bool, StoreError> {
        self.writer
            .write("add a session", move |connection, _| {
                add(connection, &sign_in)
            })
            .await
    }

    async fn sessions_of(&self, user: UserId) -> Result<Vec<SeenSession>, StoreError> {
        self.readers
            .read("list the sessions", move |connection| of(connection, user))
            .await
    }

    async fn note_seen(&self, id: SessionId, address: &str) -> Result<(), StoreError> {
        let address = address.to_owned();
        self.writer
            .write("note a session", move |connection, _| {
                connection
                    .prepare_cached("UPDATE sessions SET seen_at = ?2, address = ?3 WHERE id = ?1")
                    .and_then(|mut update| {
                        let now = Timestamp::now().as_millis();
                        update.execute(params![id.to_string(), now, address])
                    })
                    .map(drop)
                    .map_err(|error| StoreError::backend("note a session", error))
            })
            .await
    }

    async fn revoke_sessions(
        &self,
        user: UserId,
        but: Option<SessionId>,
    ) -> Result<(), StoreError> {
        self.writer
            .write("revoke sessions", move |connection, changes| {
                revoke_all(connection, changes, user, but)
            })
            .await
    }

    async fn set_password(&self, change: PasswordChange) -> Result<bool, StoreError> {
        self.writer
            .write("change a password", move |connection, changes| {
                set_password(connection, changes, &change)
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
