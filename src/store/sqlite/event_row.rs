//! An event as a row: how it is selected and read.

use std::borrow::Cow;

use rusqlite::Row;

use super::accounts;
use crate::domain::{Author, Event, EventKind, RoomId, StoredKind, Timestamp};
use crate::store::LogPlace;

/// Selects events with their texts, by the rest of the statement.
macro_rules! select_events {
    ($from:literal, $rest:literal) => {
        concat!(
            "SELECT events.*, texts.body,
                    (SELECT username FROM users WHERE id = events.author) AS author_name
             FROM ",
            $from,
            " LEFT JOIN texts ON texts.id = events.text ",
            $rest
        )
    };
}
pub(super) use select_events;

pub(super) fn room_from(row: &Row<'_>, column: &str) -> rusqlite::Result<RoomId> {
    RoomId::known(row.get_ref(column)?.as_str()?).map_err(unreadable)
}

/// From the columns `room` and `seq`.
pub(super) fn place_from(row: &Row<'_>) -> rusqlite::Result<LogPlace> {
    Ok((
        room_from(row, "room")?,
        row.get::<_, i64>("seq")?.unsigned_abs(),
    ))
}

/// A place as columns; before all others, where there is none.
pub(super) fn signed(place: Option<&LogPlace>) -> (&str, i64) {
    place.map_or(("", 0), |(room, seq)| (room.as_str(), seq.cast_signed()))
}

/// An event from its row alone: see [`super::states::complete`].
pub(super) fn event_from(row: &Row<'_>) -> rusqlite::Result<Event> {
    Ok(Event {
        room: room_from(row, "room")?,
        seq: row.get::<_, i64>("seq")?.unsigned_abs(),
        messages: row.get::<_, i64>("messages")?.unsigned_abs(),
        at: Timestamp::from_millis(row.get("at")?),
        author: Author {
            id: accounts::id_from(row, "author")?,
            username: row
                .get_ref("author_name")?
                .as_str_or_null()?
                .unwrap_or("")
                .into(),
        },
        kind: kind_from(row)?,
    })
}

pub(super) fn unreadable(error: impl std::error::Error + Send + Sync + 'static) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(0, rusqlite::types::Type::Text, Box::new(error))
}

/// The columns of an event's kind and state.
fn kind_from(row: &Row<'_>) -> rusqlite::Result<EventKind> {
    let number = |column| row.get::<_, Option<i64>>(column);
    let seq = |column| number(column).map(|seq| seq.map(i64::unsigned_abs));
    let moment = |column| number(column).map(|at| at.map(Timestamp::from_millis));
    let stored = StoredKind {
        name: row.get_ref("kind")?.as_str()?,
        body: row.get_ref("body")?.as_str_or_null()?,
        actor: row.get_ref("actor")?.as_str_or_null()?.map(Cow::Borrowed),
        target: seq("target")?,
        emoji: row.get_ref("emoji")?.as_str_or_null()?,
        is_on: row.get("is_on")?,
        reply_to: seq("reply_to")?,
        changed: seq("changed")?,
        rev: seq("rev")?,
        edited_at: moment("edited_at")?,
        deleted_at: moment("deleted_at")?,
        mentions: mentions_from(row)?,
    };
    Ok(stored.read())
}

/// The keys of a message's mentions.
fn mentions_from<'a>(row: &'a Row<'_>) -> rusqlite::Result<Vec<Cow<'a, str>>> {
    let keys = row.get_ref("mentions")?.as_str_or_null()?.unwrap_or("");
    Ok(keys.split_terminator(' ').map(Cow::Borrowed).collect())
}
