//! The end of an account: nobody can sign in to it at once; what it leaves is erased step by step.

use std::collections::HashSet;

use rusqlite::{Connection, OptionalExtension, params};

use super::event_row::room_from;
use super::rooms::memberships;
use super::states::{add_text, overwrite_text};
use super::{SqliteStore, accounts, log, sessions};
use crate::domain::{
    Author, KeptMessages, NewChange, NewEvent, NewKind, RoomId, Seq, Timestamp, User, UserId,
    Username, unnamed,
};
use crate::store::cache::Durable;
use crate::store::{Change, StoreError};

/// How many messages are deleted in one turn of the writer.
const AT_ONCE: usize = 200;

/// How many are looked through for a name: a text made for it takes a while.
const READ_AT_ONCE: usize = 20;

const ERASE: &str = "delete an account";

fn failed(error: rusqlite::Error) -> StoreError {
    StoreError::backend(ERASE, error)
}

/// Whoever has deleted their account.
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
    sessions::revoke_all(connection, changes, user, None)?;
    let id = user.to_string();
    let nobody = format!("{} {id}", Username::FORMER);
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
    accounts::ensure_admin(connection)?;
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
    changes.push(Durable::Change(Change::Renamed(former(user))));
    Ok(())
}

/// The rooms that they are in, but conversations, which are their other people's too.
fn rooms_of(connection: &Connection, user: UserId) -> rusqlite::Result<Vec<RoomId>> {
    let rooms = memberships(connection, user)?.into_iter();
    let rooms = rooms.map(|membership| membership.room);
    Ok(rooms.filter(|room| !room.is_direct()).collect())
}

/// Some places of messages, in the order of rooms and numbers, after one.
type Places = Vec<(RoomId, Seq)>;

fn places(
    connection: &Connection,
    select: &str,
    user: UserId,
    after: &(String, Seq),
    limit: usize,
) -> rusqlite::Result<Places> {
    let (room, seq) = after;
    let limit = limit as i64;
    connection
        .prepare_cached(select)?
        .query_map(
            params![user.to_string(), room, seq.cast_signed(), limit],
            |row| {
                Ok((
                    room_from(row, "room")?,
                    row.get::<_, i64>("seq")?.unsigned_abs(),
                ))
            },
        )?
        .collect()
}

const WRITTEN: &str = "SELECT room, seq FROM events
     WHERE (room, seq) > (?2, ?3) AND author = ?1 AND kind = 'message' AND deleted_at IS NULL
     ORDER BY room, seq LIMIT ?4";

const NAMED_IN: &str = "SELECT room, seq FROM mentions
     WHERE user = ?1 AND (room, seq) > (?2, ?3) ORDER BY room, seq LIMIT ?4";

fn delete_messages(
    connection: &Connection,
    changes: &mut Vec<Durable>,
    user: UserId,
    places: &Places,
) -> Result<(), StoreError> {
    for (room, seq) in places {
        let event = NewEvent {
            author: Author::from(&former(user)),
            kind: NewKind::Change {
                target: *seq,
                change: NewChange::Delete { as_owner: false },
            },
            nonce: None,
        };
        match log::append(connection, changes, room, event) {
            // Somebody was faster.
            Ok(_) | Err(StoreError::Refused(_)) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Takes their names out of texts that name them.
fn unname(
    connection: &Connection,
    claims: &HashSet<String>,
    places: &Places,
) -> rusqlite::Result<()> {
    for (room, seq) in places {
        let (room, seq) = (room.as_str(), seq.cast_signed());
        let body: Option<String> = connection
            .prepare_cached(
                "SELECT body FROM events JOIN texts ON texts.id = events.text
                 WHERE room = ?1 AND seq = ?2",
            )?
            .query_row(params![room, seq], |row| row.get(0))
            .optional()?;
        let Some(body) = body.and_then(|body| unnamed(&body, claims)) else {
            continue;
        };
        overwrite_text(connection, room, seq)?;
        let text = add_text(connection, &body)?;
        connection
            .prepare_cached("UPDATE events SET text = ?3 WHERE room = ?1 AND seq = ?2")?
            .execute(params![room, seq, text])?;
    }
    Ok(())
}

fn claims(connection: &Connection, user: UserId) -> rusqlite::Result<HashSet<String>> {
    connection
        .prepare_cached("SELECT hash FROM names WHERE user = ?1")?
        .query_map([user.to_string()], |row| row.get(0))?
        .collect()
}

/// One turn of what is left to do; `false` when it is done.
fn take_turn(
    connection: &Connection,
    changes: &mut Vec<Durable>,
    user: UserId,
    step: &mut Step,
) -> Result<bool, StoreError> {
    match step {
        Step::Leave => {
            let rooms = rooms_of(connection, user).map_err(failed)?;
            for room in rooms.iter().take(AT_ONCE) {
                super::memberships::end(connection, changes, room, &former(user), None)?;
            }
            if rooms.len() <= AT_ONCE {
                *step = Step::Delete((String::new(), 0));
            }
        }
        Step::Delete(after) => {
            let messages: Option<String> = connection
                .prepare_cached("SELECT erased FROM users WHERE id = ?1")
                .and_then(|mut find| find.query_row([user.to_string()], |row| row.get(0)))
                .map_err(failed)?;
            let some = match messages.as_deref() {
                Some("delete") => {
                    places(connection, WRITTEN, user, after, AT_ONCE).map_err(failed)?
                }
                _ => Vec::new(),
            };
            delete_messages(connection, changes, user, &some)?;
            *step = match some.last() {
                Some((room, seq)) => Step::Delete((room.to_string(), *seq)),
                None => Step::Unname((String::new(), 0)),
            };
        }
        Step::Unname(after) => {
            let some = places(connection, NAMED_IN, user, after, READ_AT_ONCE).map_err(failed)?;
            let claims = claims(connection, user).map_err(failed)?;
            unname(connection, &claims, &some).map_err(failed)?;
            if let Some((room, seq)) = some.last() {
                *step = Step::Unname((room.to_string(), *seq));
                return Ok(true);
            }
            connection
                .prepare_cached("UPDATE users SET erased = 'done' WHERE id = ?1")
                .and_then(|mut update| update.execute([user.to_string()]))
                .map_err(failed)?;
            changes.push(Durable::Change(Change::Distrust));
            return Ok(false);
        }
    }
    Ok(true)
}

/// How far an erasure is.
#[derive(Clone)]
enum Step {
    Leave,
    /// Of their messages, after this place.
    Delete((String, Seq)),
    /// Of messages that name them, after this place.
    Unname((String, Seq)),
}

/// Goes on where the end of a process has cut off an erasure.
pub(super) fn finish_all(connection: &Connection) -> Result<(), StoreError> {
    let begun = connection
        .prepare("SELECT id FROM users WHERE erased IN ('keep', 'delete')")
        .and_then(|mut select| {
            let ids = select.query_map([], |row| accounts::id_from(row, "id"))?;
            ids.collect::<rusqlite::Result<Vec<_>>>()
        })
        .map_err(failed)?;
    for user in begun {
        let (mut step, mut untold) = (Step::Leave, Vec::new());
        while take_turn(connection, &mut untold, user, &mut step)? {}
    }
    Ok(())
}

impl SqliteStore {
    pub(super) async fn erase_account(
        &self,
        user: UserId,
        messages: KeptMessages,
    ) -> Result<(), StoreError> {
        let began = self.writer.write(ERASE, move |connection, changes| {
            begin(connection, changes, user, messages)
        });
        began.await?;
        let mut step = Step::Leave;
        loop {
            let mut next = step.clone();
            let turn = self.writer.write(ERASE, move |connection, changes| {
                let has_more = take_turn(connection, changes, user, &mut next)?;
                Ok((next, has_more))
            });
            let (next, has_more) = turn.await?;
            if !has_more {
                return Ok(());
            }
            step = next;
        }
    }
}
