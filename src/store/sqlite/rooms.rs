//! Rooms: their settings, and the lists of them.

use std::sync::Arc;

use async_trait::async_trait;
use rusqlite::{Connection, params};

use super::event_row::room_from;
use super::{SqliteStore, log, members, mentions, room_row};
use crate::domain::{
    Author, Level, ListedRoom, NewEvent, NewKind, RoomId, RoomSettings, RoomSummary, Seq, Setting,
    User, UserId,
};
use crate::store::cache::{CachedList, Durable, Membership, NEWEST_MAX};
use crate::store::{
    Freshness, Log, OPEN_ROOMS_MAX, Rooms, Seen, StoreError, by_name, newest_first,
};

/// The memberships of `user`, by room.
pub(super) fn memberships(
    connection: &Connection,
    user: UserId,
) -> rusqlite::Result<Vec<Membership>> {
    connection
        .prepare_cached(
            "SELECT memberships.room, read_seq, level, coalesce(messages, 0) AS read_messages
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
                level: Level::stored(row.get_ref("level")?.as_str()?),
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
            Ok(membership.summary(&end))
        })
        .collect::<rusqlite::Result<Vec<_>>>()?;
    newest_first(&mut summaries);
    Ok(summaries)
}

fn set(
    connection: &Connection,
    changes: &mut Vec<Durable>,
    room: &RoomId,
    by: &User,
    setting: Setting,
) -> Result<Seq, StoreError> {
    let failed = |error| StoreError::backend("change a setting", error);
    let settings = room_row::settings(connection, room).map_err(failed)?;
    let Some(settings) = settings.and_then(|settings| settings.with(&setting)) else {
        return Ok(0);
    };
    connection
        .prepare_cached(
            "UPDATE rooms SET access = ?2, name = ?3, topic = ?4, posting = ?5, archived = ?6
             WHERE id = ?1",
        )
        .and_then(|mut update| {
            update.execute(params![
                room.as_str(),
                settings.access.as_str(),
                settings.name.as_ref().map(|name| name.as_str()),
                settings.topic.as_ref().map(|topic| topic.as_str()),
                settings.posting.as_str(),
                settings.is_archived,
            ])
        })
        .map_err(failed)?;
    let event = NewEvent {
        author: Author::from(by),
        kind: NewKind::Set(setting),
        nonce: None,
    };
    Ok(log::append(connection, changes, room, event)?.event().seq)
}

fn open_rooms(connection: &Connection) -> rusqlite::Result<Arc<[ListedRoom]>> {
    let rooms = connection
        .prepare_cached(
            "SELECT * FROM rooms WHERE access = 'open' AND archived = 0
                   AND EXISTS (SELECT 1 FROM memberships WHERE room = rooms.id)
             ORDER BY id LIMIT ?1",
        )?
        .query_map([OPEN_ROOMS_MAX as i64], |row| {
            let room = room_from(row, "id")?;
            Ok(ListedRoom {
                people: members::count_members(connection, &room)?,
                settings: room_row::settings_from(row)?,
                room,
            })
        })?
        .collect::<rusqlite::Result<Vec<_>>>()?;
    Ok(by_name(rooms))
}

fn all_rooms(
    connection: &Connection,
    word: &str,
    after: &str,
    limit: usize,
) -> rusqlite::Result<Vec<ListedRoom>> {
    let mut select = connection.prepare_cached(
        "SELECT * FROM rooms
         WHERE access != 'direct' AND id > ?1 AND id NOT IN (SELECT id FROM deleted_rooms)
         ORDER BY id",
    )?;
    let mut rows = select.query([after])?;
    let mut rooms = Vec::new();
    while rooms.len() < limit
        && let Some(row) = rows.next()?
    {
        let mut room = ListedRoom {
            room: room_from(row, "id")?,
            settings: room_row::settings_from(row)?,
            people: 0,
        };
        if room.has(word) {
            room.people = members::count_members(connection, &room.room)?;
            rooms.push(room);
        }
    }
    Ok(rooms)
}

#[async_trait]
impl Rooms for SqliteStore {
    async fn settings(&self, room: &RoomId) -> Result<Option<RoomSettings>, StoreError> {
        let room = room.clone();
        self.readers
            .read("look up a room", move |connection| {
                room_row::settings(connection, &room)
            })
            .await
    }

    async fn kept_settings(&self, room: &RoomId) -> Result<Arc<RoomSettings>, StoreError> {
        if let Some(settings) = self.cache.settings(room) {
            return Ok(settings);
        }
        // They are kept with the newest page, so that a post reads nothing but once.
        let kept = Freshness::Seen(Seen::default());
        self.newest(room, NEWEST_MAX, &kept).await?;
        match self.cache.settings(room) {
            Some(settings) => Ok(settings),
            None => Ok(self.settings(room).await?.unwrap_or_default().into()),
        }
    }

    async fn set(&self, room: &RoomId, by: &User, setting: Setting) -> Result<Seq, StoreError> {
        let (room, by) = (room.clone(), by.clone());
        self.writer
            .write("change a setting", move |connection, changes| {
                set(connection, changes, &room, &by, setting)
            })
            .await
    }

    async fn delete_room(&self, room: &RoomId) -> Result<bool, StoreError> {
        self.delete(room).await
    }

    async fn open_rooms(&self) -> Result<Arc<[ListedRoom]>, StoreError> {
        if let Some(kept) = self.cache.open_rooms() {
            return Ok(kept);
        }
        let token = self.cache.token();
        let rooms = self.readers.read("list open rooms", open_rooms).await?;
        self.cache.keep_open_rooms(&token, &rooms);
        Ok(rooms)
    }

    async fn all_rooms(
        &self,
        word: String,
        after: String,
        limit: usize,
    ) -> Result<Vec<ListedRoom>, StoreError> {
        self.readers
            .read("list all rooms", move |connection| {
                all_rooms(connection, &word, &after, limit)
            })
            .await
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
}
