//! The audit log: a table that is only added to.

use async_trait::async_trait;
use rusqlite::{Connection, Row, params};

use super::event_row::{room_from, unreadable};
use super::{SqliteStore, accounts};
use crate::domain::{AuditEntry, AuditId, RoomId, Timestamp, User, Username};
use crate::store::{Audit, StoreError};

fn add(connection: &Connection, entry: &AuditEntry) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO audit (id, at, by, act, user, room, detail, failed)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        )?
        .execute(params![
            entry.id.to_string(),
            entry.at.as_millis(),
            entry.by.as_ref().map(|by| by.id.to_string()),
            entry.act,
            entry.user.as_ref().map(|user| user.id.to_string()),
            entry.room.as_ref().map(RoomId::as_str),
            entry.detail,
            entry.has_failed,
        ])
        .map(drop)
}

fn list(
    connection: &Connection,
    before: Option<AuditId>,
    limit: usize,
) -> rusqlite::Result<Vec<AuditEntry>> {
    connection
        .prepare_cached(
            "SELECT audit.*, bys.username AS by_name, users.username AS user_name FROM audit
             LEFT JOIN users AS bys ON bys.id = audit.by
             LEFT JOIN users ON users.id = audit.user
             WHERE audit.id < coalesce(?1, '~') ORDER BY audit.id DESC LIMIT ?2",
        )?
        .query_map(
            params![before.map(|before| before.to_string()), limit as i64],
            entry_from,
        )?
        .collect()
}

fn entry_from(row: &Row<'_>) -> rusqlite::Result<AuditEntry> {
    let user = |id, name| -> rusqlite::Result<Option<User>> {
        let is_some = row.get_ref(id)?.as_str_or_null()?.is_some();
        let name = row.get_ref(name)?.as_str_or_null()?.unwrap_or("");
        let user = || -> rusqlite::Result<User> {
            Ok(User {
                id: accounts::id_from(row, id)?,
                username: Username::stored(name),
            })
        };
        is_some.then(user).transpose()
    };
    let has_room = row.get_ref("room")?.as_str_or_null()?.is_some();
    Ok(AuditEntry {
        id: AuditId::parse(row.get_ref("id")?.as_str()?).map_err(unreadable)?,
        at: Timestamp::from_millis(row.get("at")?),
        by: user("by", "by_name")?,
        act: row.get("act")?,
        user: user("user", "user_name")?,
        room: has_room.then(|| room_from(row, "room")).transpose()?,
        detail: row.get("detail")?,
        has_failed: row.get("failed")?,
    })
}

#[async_trait]
impl Audit for SqliteStore {
    async fn add_audit(&self, entry: &AuditEntry) -> Result<(), StoreError> {
        const OPERATION: &str = "add to the audit log";
        let entry = entry.clone();
        self.writer
            .write(OPERATION, move |connection, _| {
                add(connection, &entry).map_err(|error| StoreError::backend(OPERATION, error))
            })
            .await
    }

    async fn audit(
        &self,
        before: Option<AuditId>,
        limit: usize,
    ) -> Result<Vec<AuditEntry>, StoreError> {
        self.readers
            .read("read the audit log", move |connection| {
                list(connection, before, limit)
            })
            .await
    }
}
