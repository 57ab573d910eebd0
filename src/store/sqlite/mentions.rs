//! Mentions: a table of whom messages are for.

use std::sync::Arc;

use async_trait::async_trait;
use rusqlite::{Connection, Row, params};

use super::event_row::room_from;
use super::{SqliteStore, states};
use crate::domain::{self, Event, RoomId, Seq, User, UserId};
use crate::store::{MentionPlace, Mentions, MentionsPage, StoreError, shortened};

/// The numbers of a user's mentions in a room after `read`, in their order: the last of them.
pub(super) fn unread_in(
    connection: &Connection,
    user: UserId,
    room: &RoomId,
    read: Seq,
) -> rusqlite::Result<Vec<Seq>> {
    let mut unread = connection
        .prepare_cached(
            "SELECT DISTINCT seq FROM mentions
             WHERE user IN (?1, 'room') AND room = ?2 AND seq > ?3 AND author <> ?1
             ORDER BY seq DESC LIMIT ?4",
        )?
        .query_map(
            params![
                user.to_string(),
                room.as_str(),
                read.cast_signed(),
                domain::Mentions::UNREAD_MAX as i64
            ],
            |row| Ok(row.get::<_, i64>(0)?.unsigned_abs()),
        )?
        .collect::<rusqlite::Result<Vec<Seq>>>()?;
    unread.reverse();
    Ok(unread)
}

type Place = (RoomId, Seq);

/// Selects the places of a user's unread mentions before another, and one more than asked for.
const UNREAD: &str = "\
    SELECT DISTINCT at, mentions.room AS room, seq
    FROM memberships CROSS JOIN mentions
    WHERE memberships.user = ?1 AND mentions.user IN (?1, 'room')
          AND mentions.room = memberships.room AND seq > read_seq AND author <> ?1
          AND (at, mentions.room, seq) < (?2, ?3, ?4)
    ORDER BY at DESC, room DESC, seq DESC LIMIT ?5 + 1";

/// The same of those that are read. Those by name are walked from the newest on. Of those for everybody the
/// user's rooms are looked through: in all rooms there may be many more.
const READ: &str = "\
    SELECT at, mentions.room AS room, seq FROM mentions
    CROSS JOIN memberships ON memberships.user = ?1 AND memberships.room = mentions.room
    WHERE mentions.user = ?1 AND seq <= read_seq AND (at, mentions.room, seq) < (?2, ?3, ?4)
    UNION
    SELECT at, mentions.room, seq FROM memberships
    CROSS JOIN mentions ON mentions.user = 'room' AND mentions.room = memberships.room
    WHERE memberships.user = ?1 AND author <> ?1 AND seq > joined_seq AND seq <= read_seq
          AND (at, mentions.room, seq) < (?2, ?3, ?4)
    ORDER BY at DESC, room DESC, seq DESC LIMIT ?5 + 1";

fn page(
    connection: &Connection,
    select: &str,
    user: UserId,
    before: Option<&MentionPlace>,
    limit: usize,
) -> rusqlite::Result<MentionsPage> {
    let (at, room, seq) = before.map_or((i64::MAX, "", 0), |place| {
        (place.at.as_millis(), place.room.as_str(), place.seq)
    });
    let places = params![user.to_string(), at, room, seq.cast_signed(), limit as i64];
    let mut places = connection
        .prepare_cached(select)?
        .query_map(places, place_from)?
        .collect::<rusqlite::Result<Vec<Place>>>()?;
    let found = places.len();
    places.truncate(limit);
    let events = events_at(connection, &places)?;
    let is_last = events.len() == found;
    Ok(MentionsPage { events, is_last })
}

fn place_from(row: &Row<'_>) -> rusqlite::Result<Place> {
    let seq = row.get::<_, i64>("seq")?.unsigned_abs();
    Ok((room_from(row, "room")?, seq))
}

fn events_at(connection: &Connection, places: &[Place]) -> rusqlite::Result<Vec<Arc<Event>>> {
    let mut events = Vec::with_capacity(places.len());
    for (room, seq) in places {
        events.extend(states::find(connection, room, *seq)?);
    }
    Ok(shortened(states::complete(connection, events)?))
}

impl SqliteStore {
    async fn page_of_mentions(
        &self,
        select: &'static str,
        user: UserId,
        before: Option<MentionPlace>,
        limit: usize,
    ) -> Result<MentionsPage, StoreError> {
        let page =
            move |connection: &Connection| page(connection, select, user, before.as_ref(), limit);
        self.readers.read("list mentions", page).await
    }
}

#[async_trait]
impl Mentions for SqliteStore {
    async fn unread_mentions(
        &self,
        user: &User,
        before: Option<MentionPlace>,
        limit: usize,
    ) -> Result<MentionsPage, StoreError> {
        self.page_of_mentions(UNREAD, user.id, before, limit).await
    }

    async fn read_mentions(
        &self,
        user: &User,
        before: Option<MentionPlace>,
        limit: usize,
    ) -> Result<MentionsPage, StoreError> {
        self.page_of_mentions(READ, user.id, before, limit).await
    }
}
