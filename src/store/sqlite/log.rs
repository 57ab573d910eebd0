//! The logs: one table of events, by room and number.

use std::sync::Arc;

use async_trait::async_trait;

use rusqlite::{Connection, OptionalExtension, params};

use super::SqliteStore;
use super::event_row::{event_from, place_from, select_events, signed};
use super::room_row;
use super::states::{self, Changing, Place};
use crate::domain::{
    Epoch, Event, EventKind, NewEvent, Nonce, RoomId, RoomSettings, Seq, StoredKind, Timestamp,
    UserId,
};
use crate::store::cache::{Durable, LogEnd, NEWEST_MAX};
use crate::store::log::{LOOK_THROUGH, WRITTEN_MAX};
use crate::store::{
    Appended, Change, Freshness, History, Log, LogPlace, PAGE_MAX, StoreError, Written, repeated,
    shortened, within_bytes,
};

/// The head of a log, which the next event builds on. All zero for an empty one.
pub(super) struct LogHead {
    pub(super) seq: Seq,
    pub(super) messages: u64,
    at: Timestamp,
}

/// Only ever called on the writer's thread and in its transaction, so head + 1 is free.
pub(super) fn append(
    connection: &Connection,
    changes: &mut Vec<Durable>,
    room: &RoomId,
    new: NewEvent,
) -> Result<Appended, StoreError> {
    let failed = |error| StoreError::backend("append an event", error);
    if let Some(nonce) = &new.nonce
        && let Some(first) =
            find_by_nonce(connection, room, new.author.id, nonce).map_err(failed)?
    {
        return repeated(first, &new);
    }
    let head = head(connection, room).map_err(failed)?;
    let place = Place {
        room,
        seq: head.seq + 1,
        at: Timestamp::following(head.at),
    };
    let messages = head.messages + u64::from(new.kind.is_message());
    let kind = match new.kind.event_kind() {
        Ok(kind) => kind,
        Err((target, change)) => {
            let changing = states::change(connection, &place, &new.author, target, change);
            match changing.map_err(failed)? {
                Ok(Changing::To(kind)) => kind,
                Ok(Changing::IsSo(message)) => return Ok(Appended::Unchanged(message)),
                Err(refusal) => return Err(StoreError::Refused(refusal)),
            }
        }
    };
    let mut event = Event {
        room: room.clone(),
        seq: place.seq,
        messages,
        at: place.at,
        author: new.author,
        kind,
    };
    insert(connection, &event, new.nonce.as_ref()).map_err(failed)?;
    // Its author may have been renamed since they were looked up.
    states::name_author(connection, &mut event.author).map_err(failed)?;
    let event = match event.kind {
        // A change has its message's state already.
        EventKind::Changed(_) => Arc::new(event),
        _ => states::complete_one(connection, event).map_err(failed)?,
    };
    changes.push(Durable::Change(Change::Appended(Arc::clone(&event))));
    Ok(Appended::New(event))
}

fn insert(connection: &Connection, event: &Event, nonce: Option<&Nonce>) -> rusqlite::Result<()> {
    let kind = StoredKind::from(&event.kind);
    let text = kind.body.map(|body| states::add_text(connection, body));
    let (room, seq) = (event.room.as_str(), event.seq.cast_signed());
    let (at, author) = (event.at.as_millis(), event.author.id.to_string());
    let mentioned = (!kind.mentions.is_empty()).then(|| kind.mentions.join(" "));
    connection
        .prepare_cached(
            "INSERT INTO events (room, seq, messages, at, kind, author, text, nonce, target, emoji,
                                 is_on, reply_to, mentions, actor)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)",
        )?
        .execute(params![
            room,
            seq,
            event.messages.cast_signed(),
            at,
            kind.name,
            author,
            text.transpose()?,
            nonce.map(Nonce::as_str),
            kind.target.map(Seq::cast_signed),
            kind.emoji,
            kind.is_on,
            kind.reply_to.map(Seq::cast_signed),
            mentioned,
            kind.actor,
        ])?;
    let keys = kind.mentions.iter().map(|key| &**key);
    states::add_mentions(connection, keys, (room, seq, at), &author)
}

fn find_by_nonce(
    connection: &Connection,
    room: &RoomId,
    author: UserId,
    nonce: &Nonce,
) -> rusqlite::Result<Option<Arc<Event>>> {
    connection
        .prepare_cached(select_events!(
            "events",
            "WHERE room = ?1 AND author = ?2 AND nonce = ?3"
        ))?
        .query_row(
            params![room.as_str(), author.to_string(), nonce.as_str()],
            event_from,
        )
        .optional()?
        .map(|event| states::complete_one(connection, event))
        .transpose()
}

pub(super) fn head(connection: &Connection, room: &RoomId) -> rusqlite::Result<LogHead> {
    let head = connection
        .prepare_cached(
            "SELECT seq, messages, at FROM events WHERE room = ?1 ORDER BY seq DESC LIMIT 1",
        )?
        .query_row([room.as_str()], |row| {
            Ok(LogHead {
                seq: row.get::<_, i64>("seq")?.unsigned_abs(),
                messages: row.get::<_, i64>("messages")?.unsigned_abs(),
                at: Timestamp::from_millis(row.get("at")?),
            })
        })
        .optional()?;
    Ok(head.unwrap_or(LogHead {
        seq: 0,
        messages: 0,
        at: Timestamp::from_millis(0),
    }))
}

/// How many messages the log holds up to an event; 0 where there is none of that number.
pub(super) fn messages_up_to(
    connection: &Connection,
    room: &RoomId,
    seq: Seq,
) -> rusqlite::Result<u64> {
    let messages: Option<i64> = connection
        .prepare_cached("SELECT messages FROM events WHERE room = ?1 AND seq = ?2")?
        .query_row(params![room.as_str(), seq.cast_signed()], |row| row.get(0))
        .optional()?;
    Ok(messages.unwrap_or(0).unsigned_abs())
}

/// Looks back over the joins, if any came after it.
fn last_message_of(connection: &Connection, room: &RoomId) -> rusqlite::Result<Option<Arc<Event>>> {
    connection
        .prepare_cached(select_events!(
            "events INDEXED BY events_entries",
            "WHERE room = ?1 AND target IS NULL AND kind = 'message'
                   AND (text IS NULL) = (deleted_at IS NOT NULL)
             ORDER BY seq DESC LIMIT 1"
        ))?
        .query_row([room.as_str()], event_from)
        .optional()?
        .map(|event| states::complete_one(connection, event))
        .transpose()
}

fn settings_of(connection: &Connection, room: &RoomId) -> rusqlite::Result<Arc<RoomSettings>> {
    let settings = room_row::settings(connection, room)?;
    Ok(settings.unwrap_or_default().into())
}

/// How the log ends, without its newest entries.
pub(super) fn end(connection: &Connection, room: &RoomId) -> rusqlite::Result<LogEnd> {
    let head = head(connection, room)?;
    Ok(LogEnd {
        head: head.seq,
        messages: head.messages,
        last_message: match head.messages {
            0 => None,
            _ => last_message_of(connection, room)?,
        },
        settings: settings_of(connection, room)?,
        newest: None,
    })
}

/// How it ends, with those.
pub(super) fn end_with_page(connection: &Connection, room: &RoomId) -> rusqlite::Result<LogEnd> {
    let head = head(connection, room)?;
    // A message that comes meanwhile belongs to a later moment.
    let newest = page_before(connection, room, head.seq + 1, NEWEST_MAX)?;
    let last_message = newest.iter().rfind(|event| event.kind.is_message());
    Ok(LogEnd {
        head: head.seq,
        messages: head.messages,
        last_message: match last_message {
            Some(event) => Some(Arc::clone(event)),
            None if head.messages == 0 => None,
            None => last_message_of(connection, room)?,
        },
        settings: settings_of(connection, room)?,
        newest: Some(newest.into()),
    })
}

fn written_by(
    connection: &Connection,
    author: UserId,
    after: Option<&LogPlace>,
) -> rusqlite::Result<Written> {
    // The messages and the end of what was looked through are of one moment.
    let moment = connection.unchecked_transaction()?;
    let connection = &*moment;
    let (room, seq) = signed(after);
    let (look, most) = (LOOK_THROUGH as i64, WRITTEN_MAX as i64);
    let found = connection
        .prepare_cached(select_events!(
            "(SELECT * FROM events WHERE (room, seq) > (?2, ?3) ORDER BY room, seq LIMIT ?4) AS events",
            "WHERE author = ?1 AND kind = 'message' AND deleted_at IS NULL
             ORDER BY room, seq LIMIT ?5"
        ))?
        .query_map(
            params![author.to_string(), room, seq, look, most],
            event_from,
        )?
        .collect::<rusqlite::Result<Vec<_>>>()?;
    let next = match found.last() {
        Some(last) if found.len() == WRITTEN_MAX => Some((last.room.clone(), last.seq)),
        _ => connection
            .prepare_cached(
                "SELECT room, seq FROM events WHERE (room, seq) > (?1, ?2)
                 ORDER BY room, seq LIMIT 1 OFFSET ?3",
            )?
            .query_row(params![room, seq, look - 1], place_from)
            .optional()?,
    };
    Ok(Written {
        messages: states::complete(connection, found)?,
        next,
    })
}

pub(super) fn page_after(
    connection: &Connection,
    room: &RoomId,
    after: Seq,
    limit: usize,
) -> rusqlite::Result<Vec<Arc<Event>>> {
    let select = select_events!(
        "events",
        "WHERE room = ?1 AND seq > ?2 ORDER BY seq LIMIT ?3"
    );
    page(connection, select, room, after, limit)
}

pub(super) fn page_before(
    connection: &Connection,
    room: &RoomId,
    before: Seq,
    limit: usize,
) -> rusqlite::Result<Vec<Arc<Event>>> {
    let select = select_events!(
        "events INDEXED BY events_entries",
        "WHERE room = ?1 AND seq < ?2 AND target IS NULL ORDER BY seq DESC LIMIT ?3"
    );
    let mut events = page(connection, select, room, before, limit)?;
    events.reverse();
    Ok(events)
}

fn page(
    connection: &Connection,
    select: &str,
    room: &RoomId,
    from: Seq,
    limit: usize,
) -> rusqlite::Result<Vec<Arc<Event>>> {
    // A number past the signed integers is past every event.
    let from = i64::try_from(from).unwrap_or(i64::MAX);
    let limit = limit.min(PAGE_MAX).cast_signed();
    let mut page = connection.prepare_cached(select)?;
    let rows = page.query_map(params![room.as_str(), from, limit as i64], event_from)?;
    let events = within_bytes(rows)?;
    Ok(shortened(states::complete(connection, events)?))
}

#[async_trait]
impl Log for SqliteStore {
    fn epoch(&self) -> Epoch {
        self.epoch
    }

    async fn append(&self, room: &RoomId, event: NewEvent) -> Result<Appended, StoreError> {
        let room = room.clone();
        self.writer
            .write("append an event", move |connection, changes| {
                append(connection, changes, &room, event)
            })
            .await
    }

    async fn find_by_nonce(
        &self,
        room: &RoomId,
        author: UserId,
        nonce: &Nonce,
    ) -> Result<Option<Arc<Event>>, StoreError> {
        let (room, nonce) = (room.clone(), nonce.clone());
        self.readers
            .read("look for a nonce", move |connection| {
                find_by_nonce(connection, &room, author, &nonce)
            })
            .await
    }

    async fn written_by(
        &self,
        author: UserId,
        after: Option<LogPlace>,
    ) -> Result<Written, StoreError> {
        self.readers
            .read("list what somebody wrote", move |connection| {
                written_by(connection, author, after.as_ref())
            })
            .await
    }

    async fn reaches(&self, room: &RoomId, seq: Seq) -> Result<bool, StoreError> {
        let heads = self.heads(std::slice::from_ref(room)).await?;
        Ok(heads.first().is_some_and(|head| seq <= *head))
    }

    async fn heads(&self, rooms: &[RoomId]) -> Result<Vec<Seq>, StoreError> {
        let rooms = rooms.to_vec();
        self.readers
            .read("read the logs’ heads", move |connection| {
                let head = |room| head(connection, room).map(|head| head.seq);
                rooms.iter().map(head).collect()
            })
            .await
    }

    async fn page_after(
        &self,
        room: &RoomId,
        after: Seq,
        limit: usize,
    ) -> Result<Vec<Arc<Event>>, StoreError> {
        let room = room.clone();
        self.readers
            .read("read a log", move |connection| {
                page_after(connection, &room, after, limit)
            })
            .await
    }

    async fn page_before(
        &self,
        room: &RoomId,
        before: Seq,
        limit: usize,
    ) -> Result<Vec<Arc<Event>>, StoreError> {
        let room = room.clone();
        self.readers
            .read("read a log", move |connection| {
                page_before(connection, &room, before, limit)
            })
            .await
    }

    async fn newest(
        &self,
        room: &RoomId,
        limit: usize,
        _: &Freshness,
    ) -> Result<History, StoreError> {
        if limit <= NEWEST_MAX
            && let Some(newest) = self.cache.newest(room, limit)
        {
            return Ok(newest);
        }
        let (token, id) = (self.cache.token(), room.clone());
        let read = self.readers.read("read a log", move |connection| {
            if limit <= NEWEST_MAX {
                return Ok((end_with_page(connection, &id)?, None));
            }
            let end = end(connection, &id)?;
            let page = page_before(connection, &id, end.head + 1, limit)?;
            Ok((end, Some(page)))
        });
        let (end, page) = read.await?;
        if let Some(entries) = page {
            let head = end.head;
            return Ok(History { entries, head });
        }
        let newest = end.last(limit);
        self.cache.keep_page(&token, room, end);
        Ok(newest)
    }
}
