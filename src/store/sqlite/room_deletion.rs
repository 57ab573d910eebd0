//! The deletion of a room: it is out of reach at once, and erased event by event.
//!
//! Texts are overwritten where they stand, as those of deleted messages are (see `states.rs`); what is left of their
//! rows is blank.

use rusqlite::{Connection, OptionalExtension, params};

use super::event_row::room_from;
use super::writer::Writer;
use super::{SqliteStore, room_row};
use crate::domain::RoomId;
use crate::store::cache::Durable;
use crate::store::task::{finish, in_task};
use crate::store::{Change, StoreError};

/// The number of events erased in one turn of the writer, so that posts elsewhere don't wait for a large room.
const AT_ONCE: i64 = 1_000;

const DELETE: &str = "delete a room";

/// Puts a room out of everybody's reach; `false` when there is none.
fn begin(
    connection: &Connection,
    changes: &mut Vec<Durable>,
    room: &RoomId,
) -> rusqlite::Result<bool> {
    // A conversation is nobody's to delete.
    let is_there = room_row::settings(connection, room)?.is_some();
    if !is_there || room.is_direct() || was_deleted(connection, room)? {
        return Ok(false);
    }
    let id = room.as_str();
    for statement in [
        "INSERT INTO deleted_rooms (id) VALUES (?1)",
        "UPDATE rooms SET access = 'private', name = NULL, topic = NULL WHERE id = ?1",
    ] {
        connection.prepare_cached(statement)?.execute([id])?;
    }
    show_out(connection, room)?;
    changes.push(Durable::Change(Change::RoomDeleted(room.clone())));
    Ok(true)
}

/// Ends what people have in a room.
fn show_out(connection: &Connection, room: &RoomId) -> rusqlite::Result<()> {
    for statement in [
        "DELETE FROM memberships WHERE room = ?1",
        "DELETE FROM bans WHERE room = ?1",
        "DELETE FROM invites WHERE room = ?1",
        "DELETE FROM reports WHERE room = ?1",
    ] {
        let mut delete = connection.prepare_cached(statement)?;
        delete.execute([room.as_str()])?;
    }
    Ok(())
}

/// Erases the last events of a room that is out of reach, so that what is left is a whole log, and when there are no
/// more, the room; `false` when there is nothing left.
pub(super) fn erase_some(connection: &Connection, room: &RoomId) -> rusqlite::Result<bool> {
    let id = room.as_str();
    let from: Option<i64> = connection
        .prepare_cached(
            "SELECT seq FROM events WHERE room = ?1 ORDER BY seq DESC LIMIT 1 OFFSET ?2",
        )?
        .query_row(params![id, AT_ONCE - 1], |row| row.get(0))
        .optional()?;
    let first = from.unwrap_or(0);
    for statement in [
        "UPDATE texts SET body = printf('%*s', octet_length(body), '')
         WHERE id IN (SELECT text FROM events WHERE room = ?1 AND seq >= ?2)",
        "DELETE FROM reactions WHERE room = ?1 AND message >= ?2",
        "DELETE FROM mentions WHERE room = ?1 AND seq >= ?2",
        "DELETE FROM events WHERE room = ?1 AND seq >= ?2",
    ] {
        let mut statement = connection.prepare_cached(statement)?;
        statement.execute(params![id, first])?;
    }
    if from.is_none() {
        // Somebody may have written there what they had begun before.
        show_out(connection, room)?;
        // From here on nothing can be written in it that was on its way: there is no such room.
        let mut delete = connection.prepare_cached("DELETE FROM rooms WHERE id = ?1")?;
        delete.execute([id])?;
    }
    Ok(from.is_some())
}

/// Goes on where a deletion was cut off by the end of a process.
pub(super) fn finish_all(connection: &Connection) -> rusqlite::Result<()> {
    let begun = connection
        .prepare("SELECT id FROM deleted_rooms WHERE id IN (SELECT id FROM rooms)")?
        .query_map([], |row| room_from(row, "id"))?
        .collect::<rusqlite::Result<Vec<_>>>()?;
    for room in begun {
        // By pieces, so that one that is cut off again has come further.
        let mut has_more = true;
        while has_more {
            let piece = connection.unchecked_transaction()?;
            has_more = erase_some(&piece, &room)?;
            piece.commit()?;
        }
    }
    Ok(())
}

/// Whether there was a room with this id that was deleted.
pub(super) fn was_deleted(connection: &Connection, room: &RoomId) -> rusqlite::Result<bool> {
    connection
        .prepare_cached("SELECT 1 FROM deleted_rooms WHERE id = ?1")?
        .exists([room.as_str()])
}

impl SqliteStore {
    pub(super) async fn delete(&self, room: &RoomId) -> Result<bool, StoreError> {
        let (writer, room) = (self.writer.clone(), room.clone());
        in_task(DELETE, async move {
            let deleted = room.clone();
            let has_begun = writer.write(DELETE, move |connection, changes| {
                begin(connection, changes, &deleted).map_err(failed)
            });
            if !has_begun.await? {
                return Ok(false);
            }
            finish(DELETE, || erase(&writer, &room)).await;
            Ok(true)
        })
        .await
    }
}

fn failed(error: rusqlite::Error) -> StoreError {
    StoreError::backend(DELETE, error)
}

/// Erases what is left of a room, piece by piece.
async fn erase(writer: &Writer, room: &RoomId) -> Result<(), StoreError> {
    loop {
        let room = room.clone();
        let has_more = writer.write(DELETE, move |connection, changes| {
            let has_more = erase_some(connection, &room).map_err(failed)?;
            if !has_more {
                changes.push(Durable::Change(Change::RoomDeleted(room)));
            }
            Ok(has_more)
        });
        if !has_more.await? {
            return Ok(());
        }
    }
}
