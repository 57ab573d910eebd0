//! Invitations: a table of them, and the choice of who may sign up.

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::event_row::{room_from, unreadable};
use super::{SqliteStore, accounts, memberships};
use crate::domain::{
    Guest, Invite, InviteId, RoomId, Seq, SignUpPolicy, Timestamp, User, UserId, Username,
};
use crate::store::cache::Durable;
use crate::store::{Invites, StoreError};

const SPEND: &str = "spend an invitation";

fn add(connection: &Connection, invite: &Invite) -> rusqlite::Result<()> {
    connection
        .prepare_cached("DELETE FROM invites WHERE expires_at <= ?1")?
        .execute([Timestamp::now().as_millis()])?;
    connection
        .prepare_cached(
            "INSERT INTO invites (id, secret_hash, by, room, uses_left, created_at, expires_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )?
        .execute(params![
            invite.id.to_string(),
            invite.secret_hash,
            invite.by.as_ref().map(|by| by.id.to_string()),
            invite.room.as_ref().map(RoomId::as_str),
            invite.uses_left,
            invite.created_at.as_millis(),
            invite.expires_at.as_millis(),
        ])
        .map(drop)
}

/// The columns that [`invite_from`] reads, of some invitations.
macro_rules! select_invites {
    ($where:literal) => {
        concat!(
            "SELECT invites.*, users.id AS by_id, username FROM invites
             LEFT JOIN users ON users.id = invites.by ",
            $where
        )
    };
}

fn invite_from(row: &Row<'_>) -> rusqlite::Result<Invite> {
    let by = match row.get_ref("by_id")?.as_str_or_null()? {
        None => None,
        Some(_) => Some(User {
            id: accounts::id_from(row, "by_id")?,
            username: Username::stored(row.get_ref("username")?.as_str()?),
        }),
    };
    let room = match row.get_ref("room")?.as_str_or_null()? {
        None => None,
        Some(_) => Some(room_from(row, "room")?),
    };
    let id = InviteId::parse(row.get_ref("id")?.as_str()?).map_err(unreadable)?;
    let moment = |column| row.get(column).map(Timestamp::from_millis);
    Ok(Invite {
        id,
        secret_hash: row.get("secret_hash")?,
        by,
        room,
        uses_left: row.get("uses_left")?,
        created_at: moment("created_at")?,
        expires_at: moment("expires_at")?,
    })
}

fn find(connection: &Connection, secret_hash: &str) -> rusqlite::Result<Option<Invite>> {
    connection
        .prepare_cached(select_invites!(
            "WHERE expires_at > ?1 AND secret_hash = ?2"
        ))?
        .query_row(
            params![Timestamp::now().as_millis(), secret_hash],
            invite_from,
        )
        .optional()
}

fn list(
    connection: &Connection,
    by: Option<UserId>,
    before: Option<InviteId>,
    limit: usize,
) -> rusqlite::Result<Vec<Invite>> {
    connection
        .prepare_cached(select_invites!(
            "WHERE expires_at > ?1 AND uses_left > 0 AND (?2 IS NULL OR by = ?2)
                   AND invites.id < coalesce(?3, '~')
             ORDER BY invites.id DESC LIMIT ?4"
        ))?
        .query_map(
            params![
                Timestamp::now().as_millis(),
                by.map(|by| by.to_string()),
                before.map(|before| before.to_string()),
                limit as i64
            ],
            invite_from,
        )?
        .collect()
}

fn spend(
    connection: &Connection,
    changes: &mut Vec<Durable>,
    secret_hash: &str,
    guest: &Guest,
) -> Result<Seq, StoreError> {
    let failed = |error| StoreError::backend(SPEND, error);
    // First, so that an account that is there already is told from an invitation that is over.
    if let Guest::New(new) = guest {
        accounts::add(connection, new)?;
    }
    let invite = find(connection, secret_hash).map_err(failed)?;
    let invite = invite.ok_or(StoreError::InviteOver)?;
    let entered = match &invite.room {
        None => 0,
        Some(room) => {
            memberships::add(connection, changes, room, invite.by.as_ref(), guest.user())?
        }
    };
    if entered > 0 || matches!(guest, Guest::New(_)) {
        if invite.uses_left == 0 {
            return Err(StoreError::InviteOver);
        }
        connection
            .prepare_cached("UPDATE invites SET uses_left = uses_left - 1 WHERE secret_hash = ?1")
            .and_then(|mut update| update.execute([secret_hash]))
            .map_err(failed)?;
    }
    Ok(entered)
}

fn by_id(connection: &Connection, id: InviteId) -> rusqlite::Result<Option<Invite>> {
    connection
        .prepare_cached(select_invites!("WHERE invites.id = ?1"))?
        .query_row([id.to_string()], invite_from)
        .optional()
}

fn revoke(connection: &Connection, id: InviteId) -> rusqlite::Result<bool> {
    connection
        .prepare_cached("DELETE FROM invites WHERE id = ?1")?
        .execute([id.to_string()])
        .map(|deleted| deleted > 0)
}

const SIGN_UP: &str = "sign-up";

pub(super) fn sign_up_policy(connection: &Connection) -> rusqlite::Result<Option<SignUpPolicy>> {
    let chosen: Option<String> = connection
        .prepare_cached("SELECT value FROM choices WHERE key = ?1")?
        .query_row([SIGN_UP], |row| row.get(0))
        .optional()?;
    Ok(chosen.and_then(|word| SignUpPolicy::parse(&word).ok()))
}

pub(super) fn set_sign_up_policy(
    connection: &Connection,
    policy: SignUpPolicy,
) -> rusqlite::Result<()> {
    connection
        .prepare_cached("INSERT OR REPLACE INTO choices (key, value) VALUES (?1, ?2)")?
        .execute(params![SIGN_UP, policy.as_str()])
        .map(drop)
}

#[async_trait]
impl Invites for SqliteStore {
    async fn add_invite(&self, invite: Invite) -> Result<(), StoreError> {
        const OPERATION: &str = "add an invitation";
        self.writer
            .write(OPERATION, move |connection, _| {
                add(connection, &invite).map_err(|error| StoreError::backend(OPERATION, error))
            })
            .await
    }

    async fn find_invite(&self, secret_hash: &str) -> Result<Option<Invite>, StoreError> {
        let secret_hash = secret_hash.to_owned();
        self.readers
            .read("find an invitation", move |connection| {
                find(connection, &secret_hash)
            })
            .await
    }

    async fn invites(
        &self,
        by: Option<UserId>,
        before: Option<InviteId>,
        limit: usize,
    ) -> Result<Vec<Invite>, StoreError> {
        self.readers
            .read("list invitations", move |connection| {
                list(connection, by, before, limit)
            })
            .await
    }

    async fn invite(&self, id: InviteId) -> Result<Option<Invite>, StoreError> {
        self.readers
            .read("find an invitation", move |connection| {
                by_id(connection, id)
            })
            .await
    }

    async fn revoke_invite(&self, id: InviteId) -> Result<bool, StoreError> {
        const OPERATION: &str = "revoke an invitation";
        self.writer
            .write(OPERATION, move |connection, _| {
                revoke(connection, id).map_err(|error| StoreError::backend(OPERATION, error))
            })
            .await
    }

    async fn spend_invite(&self, secret_hash: &str, guest: Guest) -> Result<Seq, StoreError> {
        let secret_hash = secret_hash.to_owned();
        self.writer
            .write(SPEND, move |connection, changes| {
                spend(connection, changes, &secret_hash, &guest)
            })
            .await
    }

    async fn sign_up_policy(&self) -> Result<Option<SignUpPolicy>, StoreError> {
        self.readers
            .read("read who may sign up", sign_up_policy)
            .await
    }

    async fn set_sign_up_policy(&self, policy: SignUpPolicy) -> Result<(), StoreError> {
        const OPERATION: &str = "choose who may sign up";
        self.writer
            .write(OPERATION, move |connection, _| {
                set_sign_up_policy(connection, policy)
                    .map_err(|error| StoreError::backend(OPERATION, error))
            })
            .await
    }
}
