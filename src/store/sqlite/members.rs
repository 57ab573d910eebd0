//! The members of a room, by name.

use std::collections::HashSet;

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension, params};

use super::{SqliteStore, accounts};
use crate::domain::{Person, RoomId, Timestamp, User, UserId};
use crate::store::{LOOKED_THROUGH, Members, StoreError};

fn members_named(
    connection: &Connection,
    room: &RoomId,
    keys: &[String],
) -> rusqlite::Result<Vec<User>> {
    let mut find = connection.prepare_cached(
        "SELECT id, username FROM users CROSS JOIN memberships ON user = id AND room = ?1
         WHERE username_key = ?2",
    )?;
    let find = |key: &String| {
        find.query_row(params![room.as_str(), key], accounts::user_from)
            .optional()
            .transpose()
    };
    keys.iter().filter_map(find).collect()
}

const OF_SMALL_ROOM: &str = "\
    SELECT id, username FROM (SELECT user FROM memberships WHERE room = ?1 LIMIT ?4)
    CROSS JOIN users ON id = user
    WHERE username_key >= ?2 AND username_key < ?2 || char(0x10ffff)
    ORDER BY username_key LIMIT ?3";

const OF_LARGE_ROOM: &str = "\
    SELECT id, username FROM (
        SELECT id, username, username_key FROM users
        WHERE username_key >= ?2 AND username_key < ?2 || char(0x10ffff)
        ORDER BY username_key LIMIT ?4
    ) CROSS JOIN memberships ON user = id AND room = ?1
    ORDER BY username_key LIMIT ?3";

fn members_called(
    connection: &Connection,
    room: &RoomId,
    prefix: &str,
    limit: usize,
) -> rusqlite::Result<Vec<User>> {
    let is_small = connection
        .prepare_cached("SELECT 1 FROM memberships WHERE room = ?1 LIMIT 1 OFFSET ?2")?
        .query_row(params![room.as_str(), LOOKED_THROUGH as i64], |_| Ok(()))
        .optional()?
        .is_none();
    connection
        .prepare_cached(match is_small {
            true => OF_SMALL_ROOM,
            false => OF_LARGE_ROOM,
        })?
        .query_map(
            params![room.as_str(), prefix, limit as i64, LOOKED_THROUGH as i64],
            accounts::user_from,
        )?
        .collect()
}

const PEOPLE: &str = "\
    SELECT id, username, joined_at FROM memberships CROSS JOIN users ON id = user
    WHERE room = ?1 AND username_key >= ?2 AND username_key < ?2 || char(0x10ffff) AND username_key > ?3
    ORDER BY username_key LIMIT ?4";

fn people(
    connection: &Connection,
    room: &RoomId,
    prefix: &str,
    after: &str,
    limit: usize,
) -> rusqlite::Result<Vec<Person>> {
    connection
        .prepare_cached(PEOPLE)?
        .query_map(params![room.as_str(), prefix, after, limit as i64], |row| {
            Ok(Person {
                user: accounts::user_from(row)?,
                joined_at: Timestamp::from_millis(row.get("joined_at")?),
            })
        })?
        .collect()
}

fn members_among(
    connection: &Connection,
    pairs: Vec<(RoomId, UserId)>,
) -> rusqlite::Result<HashSet<(RoomId, UserId)>> {
    let mut find =
        connection.prepare_cached("SELECT 1 FROM memberships WHERE user = ?1 AND room = ?2")?;
    let mut members = HashSet::new();
    for (room, user) in pairs {
        if find.exists(params![user.to_string(), room.as_str()])? {
            members.insert((room, user));
        }
    }
    Ok(members)
}

pub(super) fn count_members(connection: &Connection, room: &RoomId) -> rusqlite::Result<u64> {
    connection
        .prepare_cached("SELECT count(*) FROM memberships WHERE room = ?1")?
        .query_row([room.as_str()], |row| row.get::<_, i64>(0))
        .map(i64::unsigned_abs)
}

#[async_trait]
impl Members for SqliteStore {
    async fn members_named(
        &self,
        room: &RoomId,
        keys: Vec<String>,
    ) -> Result<Vec<User>, StoreError> {
        let room = room.clone();
        self.readers
            .read("look up members", move |connection| {
                members_named(connection, &room, &keys)
            })
            .await
    }

    async fn members_called(
        &self,
        room: &RoomId,
        prefix: String,
        limit: usize,
    ) -> Result<Vec<User>, StoreError> {
        let room = room.clone();
        self.readers
            .read("look up members", move |connection| {
                members_called(connection, &room, &prefix, limit)
            })
            .await
    }

    async fn people(
        &self,
        room: &RoomId,
        prefix: String,
        after: String,
        limit: usize,
    ) -> Result<Vec<Person>, StoreError> {
        let room = room.clone();
        self.readers
            .read("list people", move |connection| {
                people(connection, &room, &prefix, &after, limit)
            })
            .await
    }

    async fn members_among(
        &self,
        pairs: &[(RoomId, UserId)],
    ) -> Result<HashSet<(RoomId, UserId)>, StoreError> {
        let pairs = pairs.to_vec();
        self.readers
            .read("look up members", move |connection| {
                members_among(connection, pairs)
            })
            .await
    }

    async fn count_members(&self, room: &RoomId) -> Result<u64, StoreError> {
        let room = room.clone();
        self.readers
            .read("count members", move |connection| {
                count_members(connection, &room)
            })
            .await
    }
}
