use rusqlite::{Connection, OptionalExtension, params};

use super::log;
use crate::domain::{
    Author, EventKind, NewEvent, Nonce, RoomId, RoomSummary, Seq, Timestamp, User, UserId,
};
use crate::store::{Access, Change, ROOMS_PER_USER_MAX, StoreError};

pub(super) fn enter(
    connection: &Connection,
    changes: &mut Vec<Change>,
    room: &RoomId,
    user: &User,
) -> Result<(), StoreError> {
    let now = Timestamp::now().as_millis();
    let add = |statement: &str, params: &[&dyn rusqlite::ToSql]| {
        connection
            .prepare_cached(statement)
            .and_then(|mut insert| insert.execute(params))
            .map_err(|error| StoreError::backend("enter a room", error))
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
    if joined == 1 {
        let rooms: usize = connection
            .prepare_cached("SELECT count(*) FROM memberships WHERE user = ?1")
            .and_then(|mut count| {
                count.query_row([user.id.to_string()], |row| row.get::<_, u32>(0))
            })
            .map_err(|error| StoreError::backend("enter a room", error))?
            as usize;
        if rooms > ROOMS_PER_USER_MAX {
            return Err(StoreError::TooManyRooms);
        }
        let event = NewEvent {
            author: Author::from(user),
            kind: EventKind::Joined,
            nonce: Some(Nonce::joined()),
        };
        let joined = log::append(connection, changes, room, event)?;
        // What was said before is history to them.
        mark_read(connection, room, user.id, joined.event().seq)?;
    }
    Ok(())
}

pub(super) fn mark_read(
    connection: &Connection,
    room: &RoomId,
    user: UserId,
    seq: Seq,
) -> Result<(), StoreError> {
    let failed = |error| StoreError::backend("mark as read", error);
    let seq = seq.min(log::head(connection, room).map_err(failed)?.seq);
    connection
        .prepare_cached(
            "UPDATE memberships SET read_seq = ?3
             WHERE user = ?1 AND room = ?2 AND read_seq < ?3",
        )
        .and_then(|mut update| {
            update.execute(params![user.to_string(), room.as_str(), seq.cast_signed()])
        })
        .map(drop)
        .map_err(failed)
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
        Some(None) => Access::Outside,
        Some(Some(read)) => Access::Member {
            read: read.unsigned_abs(),
        },
    })
}

pub(super) fn of(connection: &Connection, user: UserId) -> rusqlite::Result<Vec<RoomSummary>> {
    let rooms: Vec<(RoomId, Seq)> = connection
        .prepare_cached("SELECT room, read_seq FROM memberships WHERE user = ?1")?
        .query_map([user.to_string()], |row| {
            let read: i64 = row.get("read_seq")?;
            Ok((log::room_from(row, "room")?, read.unsigned_abs()))
        })?
        .collect::<Result<_, _>>()?;
    let mut summaries = rooms
        .into_iter()
        .map(|(room, read)| {
            let head = log::head(connection, &room)?;
            let read = log::messages_up_to(connection, &room, read)?;
            Ok(RoomSummary {
                head: head.seq,
                last: log::last_message(connection, &room)?,
                unread: head.messages.saturating_sub(read),
                room,
            })
        })
        .collect::<rusqlite::Result<Vec<_>>>()?;
    crate::store::newest_first(&mut summaries);
    Ok(summaries)
}
