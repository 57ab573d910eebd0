//! Rooms and memberships.

use std::sync::Arc;

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension, params};

use super::event_row::room_from;
use super::{SqliteStore, log, mentions};
use crate::domain::{
    Author, MembershipId, NewEvent, NewKind, Nonce, RoomId, RoomSummary, Seq, Timestamp, User,
    UserId,
};
use crate::store::cache::{CachedList, Durable, Membership};
use crate::store::{Access, Freshness, ROOMS_PER_USER_MAX, Rooms, StoreError, newest_first};

pub(super) fn join(
    connection: &Connection,
    changes: &mut Vec<Durable>,
    room: &RoomId,
    user: &User,
) -> Result<Seq, StoreError> {
    let now = Timestamp::now().as_millis();
    let add = |statement: &str, params: &[&dyn rusqlite::ToSql]| {
        connection
            .prepare_cached(statement)
            .and_then(|mut insert| insert.execute(params))
            .map_err(|error| StoreError::backend("join a room", error))
    };
    add(
        "INSERT INTO rooms (id, created_at) VALUES (?1, ?2) ON CONFLICT DO NOTHING",
        &[&room.as_str(), &now],
    )?;
    let joined = add(
        "INSERT INTO memberships (user, room, joined_at) VALUES (?1, ?2, ?3)
         ON CONFLICT DO NOTHING",
        &[&user.id.to_string(), &room.as_str(), &now],
    )?;
    if joined == 0 {
        return Ok(0);
    }
    let rooms: usize = connection
        .prepare_cached("SELECT count(*) FROM memberships WHERE user = ?1")
        .and_then(|mut count| count.query_row([user.id.to_string()], |row| row.get::<_, u32>(0)))
        .map_err(|error| StoreError::backend("join a room", error))?
        as usize;
    if rooms > ROOMS_PER_USER_MAX {
        return Err(StoreError::TooManyRooms);
    }
    let event = NewEvent {
        author: Author::from(user),
        kind: NewKind::Joined,
        // A membership and its event are one transaction: nobody else tries the same one.
        nonce: Some(Nonce::joined(MembershipId::new())),
    };
    let joined = log::append(connection, changes, room, event)?;
    let seq = joined.event().seq;
    add(
        "UPDATE memberships SET joined_seq = ?3 WHERE user = ?1 AND room = ?2",
        &[&user.id.to_string(), &room.as_str(), &seq.cast_signed()],
    )?;
    // Earlier messages are history to them.
    mark_read(connection, changes, room, user.id, seq)?;
    Ok(seq)
}

pub(super) fn leave(
    connection: &Connection,
    changes: &mut Vec<Durable>,
    room: &RoomId,
    user: &User,
) -> Result<Seq, StoreError> {
    let left = connection
        .prepare_cached("DELETE FROM memberships WHERE user = ?1 AND room = ?2")
        .and_then(|mut delete| delete.execute(params![user.id.to_string(), room.as_str()]))
        .map_err(|error| StoreError::backend("leave a room", error))?;
    if left == 0 {
        return Ok(0);
    }
    let event = NewEvent {
        author: Author::from(user),
        kind: NewKind::Left,
        nonce: Some(Nonce::left(MembershipId::new())),
    };
    Ok(log::append(connection, changes, room, event)?.event().seq)
}

pub(super) fn mark_read(
    connection: &Connection,
    changes: &mut Vec<Durable>,
    room: &RoomId,
    user: UserId,
    seq: Seq,
) -> Result<(), StoreError> {
    let failed = |error| StoreError::backend("mark as read", error);
    let seq = seq.min(log::head(connection, room).map_err(failed)?.seq);
    let updated = connection
        .prepare_cached(
            "UPDATE memberships SET read_seq = ?3
             WHERE user = ?1 AND room = ?2 AND read_seq < ?3",
        )
        .and_then(|mut update| {
            update.execute(params![user.to_string(), room.as_str(), seq.cast_signed()])
        })
        .map_err(failed)?;
    if updated > 0 {
        changes.push(Durable::Read {
            room: room.clone(),
            user,
            seq,
            messages: log::messages_up_to(connection, room, seq).map_err(failed)?,
        });
    }
    Ok(())
}

pub(super) fn access(
    connection: &Connection,
    room: &RoomId,
    user: UserId,
) -> rusqlite::Result<Access> {
    let read: Option<Option<i64>> = connection
        .prepare_cached(
            "SELECT (SELECT read_seq FROM memberships WHERE user = ?2 AND room = rooms.id)
             FROM rooms WHERE id = ?1",
        )?
        .query_row(params![room.as_str(), user.to_string()], |row| row.get(0))
        .optional()?;
    Ok(match read {
        None => Access::NoRoom,
        Some(None) => Access::NotMember,
        Some(Some(read)) => Access::Member {
            read: read.unsigned_abs(),
        },
    })
}

/// The memberships of `user`, by room.
pub(super) fn memberships(
    connection: &Connection,
    user: UserId,
) -> rusqlite::Result<Vec<Membership>> {
    connection
        .prepare_cached(
            "SELECT memberships.room, read_seq, coalesce(messages, 0) AS read_messages
             FROM memberships
             LEFT JOIN events ON events.room = memberships.room AND seq = read_seq
             WHERE user = ?1 ORDER BY memberships.room",
        )?
        .query_map([user.to_string()], |row| {
            Ok(Membership {
                room: room_from(row, "room")?,
                read: row.get::<_, i64>("read_seq")?.unsigned_abs(),
                read_messages: row.get::<_, i64>("read_messages")?.unsigned_abs(),
                mentions: Vec::new(),
            })
        })?
        .map(|membership| {
            let mut membership = membership?;
            let (room, read) = (&membership.room, membership.read);
            membership.mentions = mentions::unread_in(connection, user, room, read)?;
            Ok(membership)
        })
        .collect()
}

/// The lobby, read all at once.
pub(super) fn of(connection: &Connection, user: UserId) -> rusqlite::Result<Vec<RoomSummary>> {
    let mut summaries = memberships(connection, user)?
        .into_iter()
        .map(|membership| {
            let end = log::end(connection, &membership.room)?;
            Ok(RoomSummary {
                head: end.head,
                last: end.last_message,
                unread: end.messages.saturating_sub(membership.read_messages),
                mentions: membership.mentions.len(),
                room: membership.room,
            })
        })
        .collect::<rusqlite::Result<Vec<_>>>()?;
    newest_first(&mut summaries);
    Ok(summaries)
}

#[async_trait]
impl Rooms for SqliteStore {
    async fn join(&self, room: &RoomId, user: &User) -> Result<Seq, StoreError> {
        let (room, user) = (room.clone(), user.clone());
        self.writer
            .write("join a room", move |connection, changes| {
                join(connection, changes, &room, &user)
            })
            .await
    }

    async fn leave(&self, room: &RoomId, user: &User) -> Result<Seq, StoreError> {
        let (room, user) = (room.clone(), user.clone());
        self.writer
            .write("leave a room", move |connection, changes| {
                leave(connection, changes, &room, &user)
            })
            .await
    }

    async fn access(&self, room: &RoomId, user: &User) -> Result<Access, StoreError> {
        if let Some(read) = self.cache.read_by(user.id, room) {
            return Ok(Access::Member { read });
        }
        let token = self.cache.token();
        let is_known = self.cache.knows(user.id);
        let (room, id) = (room.clone(), user.id);
        let (access, memberships) = self
            .readers
            .read("look up a membership", move |connection| {
                let access = access(connection, &room, id)?;
                let is_worth_it = !is_known && matches!(access, Access::Member { .. });
                let memberships = is_worth_it.then(|| memberships(connection, id));
                Ok((access, memberships.transpose()?))
            })
            .await?;
        if let Some(memberships) = memberships {
            self.cache.keep_memberships(&token, user.id, memberships);
        }
        Ok(access)
    }

    async fn rooms_of(&self, user: &User, _: &Freshness) -> Result<Arc<[RoomSummary]>, StoreError> {
        let id = user.id;
        // Once to know which, once to know their ends, and once more if one of them has changed.
        for _ in 0..4 {
            let token = self.cache.token();
            match self.cache.rooms_of(id) {
                CachedList::List(list) => return Ok(list),
                CachedList::Nothing => {
                    let read = self.readers.read("list the rooms", move |connection| {
                        memberships(connection, id)
                    });
                    self.cache.keep_memberships(&token, id, read.await?);
                }
                CachedList::AllBut(rooms) => {
                    let read = self.readers.read("list the rooms", move |connection| {
                        let end = |room: RoomId| Ok((room.clone(), log::end(connection, &room)?));
                        rooms.into_iter().map(end).collect()
                    });
                    self.cache.keep_ends(&token, id, read.await?);
                }
            }
        }
        let list = self
            .readers
            .read("list the rooms", move |connection| of(connection, id))
            .await?;
        Ok(list.into())
    }

    async fn mark_read(&self, room: &RoomId, user: &User, seq: Seq) -> Result<(), StoreError> {
        let (room, user) = (room.clone(), user.id);
        self.writer
            .write("mark as read", move |connection, changes| {
                mark_read(connection, changes, &room, user, seq)
            })
            .await
    }
}
