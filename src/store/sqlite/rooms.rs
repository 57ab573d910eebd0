use rusqlite::{Connection, OptionalExtension, params};

use super::log;
use crate::domain::{
    Author, EventKind, NewEvent, Nonce, RoomId, RoomSummary, Timestamp, User, UserId,
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
        log::append(connection, changes, room, event)?;
    }
    Ok(())
}

pub(super) fn access(
    connection: &Connection,
    room: &RoomId,
    user: UserId,
) -> rusqlite::Result<Access> {
    let is_member: Option<bool> = connection
        .prepare_cached(
            "SELECT EXISTS (SELECT 1 FROM memberships WHERE user = ?2 AND room = rooms.id)
             FROM rooms WHERE id = ?1",
        )?
        .query_row(params![room.as_str(), user.to_string()], |row| row.get(0))
        .optional()?;
    Ok(match is_member {
        None => Access::NoRoom,
        Some(false) => Access::Outside,
        Some(true) => Access::Member,
    })
}

pub(super) fn of(connection: &Connection, user: UserId) -> rusqlite::Result<Vec<RoomSummary>> {
    let rooms: Vec<RoomId> = connection
        .prepare_cached("SELECT room FROM memberships WHERE user = ?1")?
        .query_map([user.to_string()], |row| log::room_from(row, "room"))?
        .collect::<Result<_, _>>()?;
    let mut summaries = rooms
        .into_iter()
        .map(|room| {
            Ok(RoomSummary {
                head: log::head(connection, &room)?.seq,
                last: log::last_message(connection, &room)?,
                room,
            })
        })
        .collect::<rusqlite::Result<Vec<_>>>()?;
    crate::store::newest_first(&mut summaries);
    Ok(summaries)
}
