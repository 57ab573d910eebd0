//! The end of an account: nobody can sign in to it at once; what it leaves is erased step by step.

use std::cell::RefCell;
use std::collections::HashSet;
use std::time::{Duration, Instant};

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::event_row::{place_from, signed};
use super::readers::Readers;
use super::rooms::memberships;
use super::states::{add_text, overwrite_text};
use super::writer::Writer;
use super::{SqliteStore, accounts, log, sessions};
use crate::domain::{
    Author, KeptMessages, NewChange, NewEvent, NewKind, RoomId, Timestamp, User, UserId, Username,
};
use crate::markup::without_names;
use crate::store::cache::Durable;
use crate::store::task::{finish, in_task};
use crate::store::{Change, LogPlace, StoreError};

/// The number of rooms left, or messages changed, in one turn of the writer.
const AT_ONCE: usize = 25;

/// The number of events a reader looks through at a time, unless that takes [`LOOK_MAX`]: a text may be made of
/// nothing but possible names.
const LOOK_AT_ONCE: usize = 2_000;

/// The longest that a reader looks through them.
const LOOK_MAX: Duration = Duration::from_millis(50);

const ERASE: &str = "delete an account";

fn failed(error: rusqlite::Error) -> StoreError {
    StoreError::backend(ERASE, error)
}

/// The user, as they are called from now on.
fn former(id: UserId) -> User {
    let username = Username::stored(Username::FORMER);
    User { id, username }
}

/// Takes everything from the account but its id, and ends its sessions.
fn begin(
    connection: &Connection,
    changes: &mut Vec<Durable>,
    user: UserId,
    messages: KeptMessages,
) -> Result<(), StoreError> {
    accounts::ensure_other_admin(connection, user)?;
    sessions::revoke_all(connection, changes, user, None)?;
    let id = user.to_string();
    let nobody = Username::former_key(&id);
    connection
        .prepare_cached(
            "UPDATE users
             SET username = ?2, username_key = ?3, username_shape = ?3, email = '', email_key = ?3,
                 password_hash = '', role = 'member', deactivated_at = ?4, erased = ?5
             WHERE id = ?1",
        )
        .and_then(|mut update| {
            let (now, messages) = (Timestamp::now().as_millis(), messages.as_str());
            update.execute(params![id, Username::FORMER, nobody, now, messages])
        })
        .map_err(failed)?;
    forget(connection, user)?;
    changes.push(Durable::Change(Change::Renamed(former(user))));
    Ok(())
}

/// Deletes what is about them alone.
fn forget(connection: &Connection, user: UserId) -> Result<(), StoreError> {
    let id = user.to_string();
    for statement in [
        "DELETE FROM sessions WHERE user = ?1",
        "DELETE FROM resets WHERE user = ?1",
        "DELETE FROM invites WHERE by = ?1",
        "DELETE FROM bans WHERE user = ?1",
        "DELETE FROM reports WHERE by = ?1",
        "DELETE FROM blocks WHERE ?1 IN (user, blocked)",
    ] {
        let delete = connection.prepare_cached(statement);
        delete
            .and_then(|mut delete| delete.execute([&id]))
            .map_err(failed)?;
    }
    Ok(())
}

/// The rooms that they are in, but conversations, which are their other people's too.
fn rooms_of(connection: &Connection, user: UserId) -> rusqlite::Result<Vec<RoomId>> {
    let rooms = memberships(connection, user)?.into_iter();
    let rooms = rooms.map(|membership| membership.room);
    Ok(rooms.filter(|room| !room.is_direct()).collect())
}

/// Finds the traces of an account.
#[derive(Clone)]
struct Traces {
    user: UserId,
    /// The claims to the names they have had.
    claims: HashSet<String>,
    /// The fate of their messages.
    messages: KeptMessages,
}

impl Traces {
    fn of(connection: &Connection, user: UserId) -> rusqlite::Result<Self> {
        let claims = connection
            .prepare_cached("SELECT hash FROM names WHERE user = ?1")?
            .query_map([user.to_string()], |row| row.get(0))?
            .collect::<rusqlite::Result<_>>()?;
        let erased: Option<String> = connection
            .prepare_cached("SELECT erased FROM users WHERE id = ?1")?
            .query_row([user.to_string()], |row| row.get(0))?;
        let messages = erased.and_then(|word| KeptMessages::parse(&word).ok());
        Ok(Self {
            user,
            claims,
            messages: messages.unwrap_or(KeptMessages::Keep),
        })
    }

    /// A text without their names.
    fn unnamed(&self, connection: &Connection, text: &str) -> rusqlite::Result<Option<String>> {
        let claim = |name: &str| Username::stored(name).claim();
        let failed = RefCell::new(None);
        let is_anothers = |name: &str| {
            let find = connection
                .prepare_cached("SELECT 1 FROM names WHERE hash = ?1 AND user != ?2")
                .and_then(|mut find| find.exists(params![claim(name), self.user.to_string()]));
            find.unwrap_or_else(|error| {
                *failed.borrow_mut() = Some(error);
                true
            })
        };
        let unnamed = without_names(text, |name| self.claims.contains(&claim(name)), is_anothers);
        failed.into_inner().map_or(Ok(unnamed), Err)
    }

    /// Looks through the next messages. Answers the traces among them, and the place to go on after, unless it is the
    /// end.
    fn look(
        &self,
        connection: &Connection,
        after: Option<&LogPlace>,
    ) -> rusqlite::Result<(Vec<Trace>, Option<LogPlace>)> {
        let (room, seq) = signed(after);
        let events = connection
            .prepare_cached(
                "SELECT room, seq, author, kind, deleted_at, body
                 FROM events LEFT JOIN texts ON texts.id = events.text
                 WHERE (room, seq) > (?1, ?2) ORDER BY room, seq LIMIT ?3",
            )?
            .query_map(params![room, seq, LOOK_AT_ONCE as i64], |row| {
                self.read(row)
            })?
            .collect::<rusqlite::Result<Vec<Looked>>>()?;
        // The texts are looked through when nothing is being read, which would keep deleted ones in the file.
        let (began, is_full) = (Instant::now(), events.len() == LOOK_AT_ONCE);
        let mut found = Vec::new();
        let mut events = events.into_iter().peekable();
        while let Some(Looked { place, what }) = events.next() {
            let is_last = events.peek().is_none();
            let what = match what {
                Found::OwnMessage => Some(What::Deleted),
                Found::Text(text) => self.unnamed(connection, &text)?.map(|_| What::Unnamed),
                Found::Nothing => None,
            };
            let is_to_go_on = is_last && is_full || !is_last && began.elapsed() > LOOK_MAX;
            let next = is_to_go_on.then(|| place.clone());
            found.extend(what.map(|what| Trace { place, what }));
            if next.is_some() {
                return Ok((found, next));
            }
        }
        Ok((found, None))
    }

    /// An event as it is looked at; only messages may be traces.
    fn read(&self, row: &Row<'_>) -> rusqlite::Result<Looked> {
        let place = place_from(row)?;
        let is_message = row.get_ref("kind")?.as_str()? == "message";
        if !is_message || row.get::<_, Option<i64>>("deleted_at")?.is_some() {
            let what = Found::Nothing;
            return Ok(Looked { place, what });
        }
        let is_theirs = accounts::id_from(row, "author")? == self.user;
        let text = row.get_ref("body")?.as_str_or_null()?;
        let what = match text.filter(|text| text.contains('@')) {
            _ if is_theirs && self.messages == KeptMessages::Delete => Found::OwnMessage,
            Some(text) => Found::Text(text.to_owned()),
            None => Found::Nothing,
        };
        Ok(Looked { place, what })
    }

    /// Erases some traces.
    fn erase(
        &self,
        connection: &Connection,
        changes: &mut Vec<Durable>,
        traces: &[Trace],
    ) -> Result<(), StoreError> {
        for Trace { place, what } in traces {
            match what {
                What::Deleted => self.delete(connection, changes, place)?,
                What::Unnamed => self.unname(connection, place).map_err(failed)?,
            }
        }
        Ok(())
    }

    fn delete(
        &self,
        connection: &Connection,
        changes: &mut Vec<Durable>,
        (room, seq): &LogPlace,
    ) -> Result<(), StoreError> {
        let event = NewEvent {
            author: Author::from(&former(self.user)),
            kind: NewKind::Change {
                target: *seq,
                change: NewChange::Delete { as_owner: false },
            },
            nonce: None,
        };
        match log::append(connection, changes, room, event) {
            // Somebody was faster.
            Ok(_) | Err(StoreError::Refused(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn unname(&self, connection: &Connection, place: &LogPlace) -> rusqlite::Result<()> {
        let (room, seq) = (place.0.as_str(), place.1.cast_signed());
        let body: Option<String> = connection
            .prepare_cached(
                "SELECT body FROM events JOIN texts ON texts.id = events.text
                 WHERE room = ?1 AND seq = ?2",
            )?
            .query_row(params![room, seq], |row| row.get(0))
            .optional()?;
        let unnamed = body
            .map(|body| self.unnamed(connection, &body))
            .transpose()?;
        let Some(body) = unnamed.flatten() else {
            return Ok(());
        };
        overwrite_text(connection, room, seq)?;
        let text = add_text(connection, &body)?;
        connection
            .prepare_cached("UPDATE events SET text = ?3 WHERE room = ?1 AND seq = ?2")?
            .execute(params![room, seq, text])?;
        Ok(())
    }
}

/// An event that was read.
struct Looked {
    place: LogPlace,
    what: Found,
}

/// The result of reading an event.
enum Found {
    Nothing,
    /// A message of theirs, which is to be deleted.
    OwnMessage,
    /// A text that may name them.
    Text(String),
}

/// Something that an account has left in a log.
#[derive(Clone)]
struct Trace {
    place: LogPlace,
    what: What,
}

/// The fate of a message.
#[derive(Clone, Copy)]
enum What {
    Deleted,
    Unnamed,
}

/// Has them leave some rooms; `false` when they have left all.
fn leave_some(
    connection: &Connection,
    changes: &mut Vec<Durable>,
    user: UserId,
) -> Result<bool, StoreError> {
    let rooms = rooms_of(connection, user).map_err(failed)?;
    for room in rooms.iter().take(AT_ONCE) {
        super::memberships::end(connection, changes, room, &former(user), None)?;
    }
    Ok(rooms.len() > AT_ONCE)
}

fn note_done(
    connection: &Connection,
    changes: &mut Vec<Durable>,
    user: UserId,
) -> Result<(), StoreError> {
    connection
        .prepare_cached("UPDATE users SET erased = 'done' WHERE id = ?1")
        .and_then(|mut update| update.execute([user.to_string()]))
        .map_err(failed)?;
    changes.push(Durable::Change(Change::Distrust));
    Ok(())
}

/// Goes on where the end of a process has cut off an erasure, before anybody else uses the file.
pub(super) fn finish_all(connection: &Connection) -> Result<(), StoreError> {
    let begun = connection
        .prepare("SELECT id FROM users WHERE erased IN ('keep', 'delete')")
        .and_then(|mut select| {
            let ids = select.query_map([], |row| accounts::id_from(row, "id"))?;
            ids.collect::<rusqlite::Result<Vec<_>>>()
        })
        .map_err(failed)?;
    // By turns, so that one that is cut off again has come further. Nobody is there yet to be told.
    for user in begun {
        // An export may have read some before it read that they are to go.
        in_turn(connection, |_| forget(connection, user))?;
        while in_turn(connection, |untold| leave_some(connection, untold, user))? {}
        let traces = Traces::of(connection, user).map_err(failed)?;
        let mut after = None;
        loop {
            let (found, next) = traces.look(connection, after.as_ref()).map_err(failed)?;
            in_turn(connection, |untold| {
                traces.erase(connection, untold, &found)
            })?;
            after = next;
            if after.is_none() {
                break;
            }
        }
        in_turn(connection, |untold| note_done(connection, untold, user))?;
    }
    Ok(())
}

/// Does something in a transaction.
fn in_turn<T>(
    connection: &Connection,
    work: impl FnOnce(&mut Vec<Durable>) -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    let turn = connection.unchecked_transaction().map_err(failed)?;
    let done = work(&mut Vec::new())?;
    turn.commit().map_err(failed)?;
    Ok(done)
}

/// The same while the server runs: what is to be done is looked for by readers, so that posts wait for none of it.
async fn erase_all(writer: &Writer, readers: &Readers, user: UserId) -> Result<(), StoreError> {
    let leave = move |connection: &Connection, changes: &mut Vec<Durable>| {
        leave_some(connection, changes, user)
    };
    while writer.write(ERASE, leave).await? {}
    let traces = readers.read(ERASE, move |connection| Traces::of(connection, user));
    let traces = traces.await?;
    let mut after = None;
    loop {
        let looking = traces.clone();
        let looked = readers.read(ERASE, move |connection| {
            looking.look(connection, after.as_ref())
        });
        let (found, next) = looked.await?;
        for some in found.chunks(AT_ONCE) {
            let (erasing, some) = (traces.clone(), some.to_vec());
            let erase = move |connection: &Connection, changes: &mut Vec<Durable>| {
                erasing.erase(connection, changes, &some)
            };
            writer.write(ERASE, erase).await?;
        }
        if next.is_none() {
            break;
        }
        after = next;
    }
    let done = move |connection: &Connection, changes: &mut Vec<Durable>| {
        note_done(connection, changes, user)
    };
    writer.write(ERASE, done).await
}

impl SqliteStore {
    pub(super) async fn erase_account(
        &self,
        user: UserId,
        messages: KeptMessages,
    ) -> Result<(), StoreError> {
        let (writer, readers) = (self.writer.clone(), self.readers.clone());
        in_task(ERASE, async move {
            let began = writer.write(ERASE, move |connection, changes| {
                begin(connection, changes, user, messages)
            });
            began.await?;
            finish(ERASE, || erase_all(&writer, &readers, user)).await;
            Ok(())
        })
        .await
    }
}
