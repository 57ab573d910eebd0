//! Mentions: a table of whom messages are for.

use std::sync::Arc;

use async_trait::async_trait;
use rusqlite::{Connection, Row, params};

use super::event_row::room_from;
use super::{SqliteStore, states};
use crate::domain::{self, Event, RoomId, Seq, User, UserId};
use crate::store::{MentionPlace, Mentions, ReadMentions, StoreError, shortened};

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

fn unread(connection: &Connection, user: UserId) -> rusqlite::Result<Vec<Arc<Event>>> {
    let places = connection
        .prepare_cached(
            "SELECT DISTINCT mentions.at, mentions.room, mentions.seq
             FROM memberships CROSS JOIN mentions
             WHERE memberships.user = ?1 AND mentions.user IN (?1, 'room')
                   AND mentions.room = memberships.room AND seq > read_seq AND author <> ?1
             ORDER BY mentions.at DESC, mentions.room DESC, seq DESC LIMIT ?2",
        )?
        .query_map(
            params![user.to_string(), domain::Mentions::UNREAD_MAX as i64],
            place_from,
        )?
        .collect::<rusqlite::Result<Vec<Place>>>()?;
    events_at(connection, &places)
}

fn read(
    connection: &Connection,
    user: UserId,
    before: Option<&MentionPlace>,
    limit: usize,
) -> rusqlite::Result<ReadMentions> {
    let (at, room, seq) = before.map_or((i64::MAX, "", 0), |place| {
        (place.at.as_millis(), place.room.as_str(), place.seq)
    });
    // Those by name are walked from the newest on. Of those for everybody the user's rooms are looked
    // through: in all rooms there may be many more.
    let mut places = connection
        .prepare_cached(
            "SELECT at, mentions.room AS room, seq FROM mentions
             CROSS JOIN memberships ON memberships.user = ?1 AND memberships.room = mentions.room
             WHERE mentions.user = ?1 AND seq <= read_seq AND (at, mentions.room, seq) < (?2, ?3, ?4)
             UNION
             SELECT at, mentions.room, seq FROM memberships
             CROSS JOIN mentions ON mentions.user = 'room' AND mentions.room = memberships.room
             WHERE memberships.user = ?1 AND author <> ?1 AND at >= joined_at AND seq <= read_seq
                   AND (at, mentions.room, seq) < (?2, ?3, ?4)
             ORDER BY at DESC, room DESC, seq DESC LIMIT ?5",
        )?
        .query_map(
            params![
                user.to_string(),
                at,
                room,
                seq.cast_signed(),
                limit as i64 + 1
            ],
            place_from,
        )?
        .collect::<rusqlite::Result<Vec<Place>>>()?;
    let found = places.len();
    places.truncate(limit);
    let events = events_at(connection, &places)?;
    let is_last = events.len() == found;
    Ok(ReadMentions { events, is_last })
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

#[async_trait]
impl Mentions for SqliteStore {
    async fn unread_mentions(&self, user: &User) -> Result<Vec<Arc<Event>>, StoreError> {
        let user = user.id;
        self.readers
            .read("list mentions", move |connection| unread(connection, user))
            .await
    }

    async fn read_mentions(
        &self,
        user: &User,
        before: Option<MentionPlace>,
        limit: usize,
    ) -> Result<ReadMentions, StoreError> {
        let user = user.id;
        self.readers
            .read("list mentions", move |connection| {
                read(connection, user, before.as_ref(), limit)
            })
            .await
    }
}
