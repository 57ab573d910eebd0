//! The states of messages: how they are read with the events that show them, and written.
//!
//! A text that is replaced or deleted leaves nothing in the file: it is overwritten where it stands, which
//! SQLite does in place for a row of the same size, and it never stood anywhere else, since rows are only
//! added to the end of `texts`. (In a table with rows in between, one in a hundred is found again after a
//! deletion, `secure_delete` or not: it was copied when a page was split.) What the write-ahead log has of
//! it goes with the checkpoint that the writer makes before a deletion is answered.

use std::collections::HashMap;
use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension, params};

use super::accounts;
use super::event_row::{event_from, select_events};
use crate::domain::{
    Author, ChangeKind, Changed, Emoji, Event, EventKind, Mentions, NewChange, Reaction, Reactions,
    Refusal, RoomId, Seq, StoredKind, Timestamp, UserId,
};

/// Fills in what events have beside their rows: reactions, and the states of other messages, which are read
/// after the events and so are at least as new.
pub(super) fn complete(
    connection: &Connection,
    events: Vec<Event>,
) -> rusqlite::Result<Vec<Arc<Event>>> {
    let mut read = HashMap::new();
    let complete = |event| complete_with(connection, event, &mut read);
    events.into_iter().map(complete).collect()
}

/// The same for one.
pub(super) fn complete_one(connection: &Connection, event: Event) -> rusqlite::Result<Arc<Event>> {
    complete_with(connection, event, &mut HashMap::new())
}

/// `read` has the targets that were read before.
fn complete_with(
    connection: &Connection,
    mut event: Event,
    read: &mut HashMap<Seq, Option<Arc<Event>>>,
) -> rusqlite::Result<Arc<Event>> {
    if let EventKind::Message(message) = &mut event.kind
        && message.changed > 0
    {
        message.reactions = reactions(connection, &event.room, event.seq)?;
    }
    if let EventKind::Message(message) = &mut event.kind
        && !message.mentions.is_empty()
    {
        let users = message.mentions.users().iter().map(|user| user.id);
        message.mentions = message.mentions.named(&names(connection, users)?);
    }
    if let Some(by) = event.kind.by() {
        let names = names(connection, [by.id])?;
        event.kind.name_by(&names);
    }
    if let Some(quoted) = event.reply_to()
        && let Some(quoted) = find(connection, &event.room, quoted)?
    {
        event.show(&Arc::new(quoted));
    }
    if let Some(seq) = event.target() {
        let target = match read.get(&seq) {
            Some(target) => target.clone(),
            None => {
                let target = find(connection, &event.room, seq)?;
                let target = target.map(|target| complete_with(connection, target, read));
                let target = target.transpose()?;
                read.insert(seq, target.clone());
                target
            }
        };
        if let Some(target) = target {
            event.show(&target);
        }
    }
    Ok(Arc::new(event))
}

/// An event from its row alone.
pub(super) fn find(
    connection: &Connection,
    room: &RoomId,
    seq: Seq,
) -> rusqlite::Result<Option<Event>> {
    connection
        .prepare_cached(select_events!("events", "WHERE room = ?1 AND seq = ?2"))?
        .query_row(params![room.as_str(), seq.cast_signed()], event_from)
        .optional()
}

fn reactions(connection: &Connection, room: &RoomId, message: Seq) -> rusqlite::Result<Reactions> {
    let all = connection
        .prepare_cached(
            "SELECT seq, emoji, user FROM reactions WHERE room = ?1 AND message = ?2 ORDER BY seq",
        )?
        .query_map(params![room.as_str(), message.cast_signed()], |row| {
            Ok(Reaction {
                seq: row.get::<_, i64>("seq")?.unsigned_abs(),
                emoji: Emoji::stored(row.get_ref("emoji")?.as_str()?),
                user: accounts::id_from(row, "user")?,
            })
        })?
        .collect::<rusqlite::Result<Vec<_>>>()?;
    named(connection, all)
}

fn named(connection: &Connection, all: Vec<Reaction>) -> rusqlite::Result<Reactions> {
    let names = names(connection, Reactions::to_name(&all))?;
    Ok(Reactions::new(all, |user| names.get(&user).cloned()))
}

/// Calls an author as they are called now.
pub(super) fn name_author(connection: &Connection, author: &mut Author) -> rusqlite::Result<()> {
    let mut find = connection.prepare_cached("SELECT username FROM users WHERE id = ?1")?;
    let mut found = find.query([author.id.to_string()])?;
    if let Some(row) = found.next()? {
        let name = row.get_ref(0)?.as_str()?;
        if name != &*author.username {
            author.username = name.into();
        }
    }
    Ok(())
}

fn names(
    connection: &Connection,
    users: impl IntoIterator<Item = UserId>,
) -> rusqlite::Result<HashMap<UserId, Arc<str>>> {
    let mut names: HashMap<UserId, Arc<str>> = HashMap::new();
    let mut find = connection.prepare_cached("SELECT username FROM users WHERE id = ?1")?;
    for user in users {
        if !names.contains_key(&user) {
            let name = find.query_row([user.to_string()], |row| row.get(0));
            names.extend(name.optional()?.map(|name| (user, name)));
        }
    }
    Ok(names)
}

/// The place of a change that is to be made.
pub(super) struct Place<'a> {
    pub(super) room: &'a RoomId,
    pub(super) seq: Seq,
    pub(super) at: Timestamp,
}

/// Writes a message's state after a change, and gives the change as an event has it; `Ok(Err(..))` is
/// the message when it is so already.
pub(super) fn change(
    connection: &Connection,
    place: &Place<'_>,
    by: &Author,
    target: Seq,
    change: &NewChange,
) -> rusqlite::Result<Result<Changing, Refusal>> {
    let Some(message) = find(connection, place.room, target)? else {
        return Ok(Err(Refusal::NoMessage));
    };
    let message = complete_one(connection, message)?;
    let after = match message.after_change(change, by.id, place.seq, place.at) {
        Ok(Some(after)) => after,
        Ok(None) => return Ok(Ok(Changing::IsSo(message))),
        Err(refusal) => return Ok(Err(refusal)),
    };
    if let (NewChange::Delete { .. }, Some(message)) = (change, message.message()) {
        let (room, seq) = (place.room.as_str(), target.cast_signed());
        remove_mentions(connection, &message.mentions, room, seq)?;
    }
    let after = write(connection, after, by.id, change)?;
    Ok(Ok(Changing::To(EventKind::Changed(Changed {
        target,
        what: ChangeKind::from(change),
        message: Some(Arc::new(after)),
    }))))
}

/// The outcome of a change.
pub(super) enum Changing {
    /// The message is so already.
    IsSo(Arc<Event>),
    /// An event of this kind.
    To(EventKind),
}

fn write(
    connection: &Connection,
    mut after: Event,
    by: UserId,
    change: &NewChange,
) -> rusqlite::Result<Event> {
    let room = after.room.as_str();
    let (seq, kind) = (after.seq.cast_signed(), StoredKind::from(&after.kind));
    let text = match change {
        NewChange::React { .. } => None,
        NewChange::Edit { .. } | NewChange::Delete { .. } => {
            overwrite_text(connection, room, seq)?;
            Some(
                kind.body
                    .map(|body| add_text(connection, body))
                    .transpose()?,
            )
        }
    };
    if let Some(text) = text {
        connection
            .prepare_cached("UPDATE events SET text = ?3 WHERE room = ?1 AND seq = ?2")?
            .execute(params![room, seq, text])?;
    }
    connection
        .prepare_cached(
            "UPDATE events
             SET reply_to = ?3, changed = ?4, rev = ?5, edited_at = ?6, deleted_at = ?7,
                 mentions = iif(?7 IS NULL, mentions, NULL)
             WHERE room = ?1 AND seq = ?2",
        )?
        .execute(params![
            room,
            seq,
            kind.reply_to.map(Seq::cast_signed),
            kind.changed.map(Seq::cast_signed),
            kind.rev.map(Seq::cast_signed),
            kind.edited_at.map(Timestamp::as_millis),
            kind.deleted_at.map(Timestamp::as_millis),
        ])?;
    match change {
        NewChange::Edit { .. } => {}
        NewChange::Delete { .. } => {
            connection
                .prepare_cached("DELETE FROM reactions WHERE room = ?1 AND message = ?2")?
                .execute(params![room, seq])?;
        }
        NewChange::React { emoji, on } => {
            let (by, put) = (by.to_string(), kind.changed.unwrap_or(0).cast_signed());
            let emoji = emoji.as_str();
            if *on {
                add_reaction(connection, room, seq, put, emoji, &by)?;
            } else {
                connection
                    .prepare_cached(
                        "DELETE FROM reactions
                         WHERE room = ?1 AND message = ?2 AND emoji = ?3 AND user = ?4",
                    )?
                    .execute(params![room, seq, emoji, by])?;
            }
        }
    }
    if let EventKind::Message(message) = &mut after.kind {
        message.reactions = named(connection, message.reactions.all().to_vec())?;
    }
    Ok(after)
}

/// Keeps a text; its id is answered.
pub(super) fn add_text(connection: &Connection, body: &str) -> rusqlite::Result<i64> {
    connection
        .prepare_cached("INSERT INTO texts (body) VALUES (?1)")?
        .insert([body])
}

/// Keeps a reaction to the message `seq`, that the event `put` puts there.
pub(super) fn add_reaction(
    connection: &Connection,
    room: &str,
    seq: i64,
    put: i64,
    emoji: &str,
    by: &str,
) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO reactions (room, message, seq, emoji, user) VALUES (?1, ?2, ?3, ?4, ?5)",
        )?
        .execute(params![room, seq, put, emoji, by])
        .map(drop)
}

/// Notes whom a message is for.
pub(super) fn add_mentions<'a>(
    connection: &Connection,
    keys: impl IntoIterator<Item = &'a str>,
    (room, seq, at): (&str, i64, i64),
    author: &str,
) -> rusqlite::Result<()> {
    for key in keys {
        connection
            .prepare_cached(
                "INSERT INTO mentions (user, room, seq, at, author) VALUES (?1, ?2, ?3, ?4, ?5)",
            )?
            .execute(params![key, room, seq, at, author])?;
    }
    Ok(())
}

/// Forgets whom a message was for.
fn remove_mentions(
    connection: &Connection,
    mentions: &Mentions,
    room: &str,
    seq: i64,
) -> rusqlite::Result<()> {
    for key in mentions.keys() {
        connection
            .prepare_cached("DELETE FROM mentions WHERE user = ?1 AND room = ?2 AND seq = ?3")?
            .execute(params![key, room, seq])?;
    }
    Ok(())
}

/// Overwrites a message's text by as many bytes.
pub(super) fn overwrite_text(
    connection: &Connection,
    room: &str,
    seq: i64,
) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "UPDATE texts SET body = printf('%*s', octet_length(body), '')
             WHERE id = (SELECT text FROM events WHERE room = ?1 AND seq = ?2)",
        )?
        .execute(params![room, seq])
        .map(drop)
}
