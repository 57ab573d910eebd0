//! A room's settings as columns.

use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension, Row};

use super::accounts::user_from;
use crate::domain::{Access, Author, Label, Posting, RoomId, RoomSettings};

/// From the columns of the table but the first two: without a direct room's people.
pub(super) fn settings_from(row: &Row<'_>) -> rusqlite::Result<RoomSettings> {
    let label = |column| -> rusqlite::Result<Option<Label>> {
        let label = row.get_ref(column)?.as_str_or_null()?;
        Ok(label.map(Label::stored))
    };
    Ok(RoomSettings {
        access: Access::stored(row.get_ref("access")?.as_str()?),
        name: label("name")?,
        topic: label("topic")?,
        posting: Posting::stored(row.get_ref("posting")?.as_str()?),
        is_archived: row.get("archived")?,
        people: Arc::default(),
    })
}

/// `None` of a room that is not there.
pub(super) fn settings(
    connection: &Connection,
    room: &RoomId,
) -> rusqlite::Result<Option<RoomSettings>> {
    let mut settings = connection
        .prepare_cached(
            "SELECT * FROM rooms
             WHERE id = ?1 AND NOT EXISTS (SELECT 1 FROM deleted_rooms WHERE id = ?1)",
        )?
        .query_row([room.as_str()], settings_from)
        .optional()?;
    if let Some(settings) = &mut settings
        && room.is_direct()
    {
        settings.people = people(connection, room)?;
    }
    Ok(settings)
}

fn people(connection: &Connection, room: &RoomId) -> rusqlite::Result<Arc<[Author]>> {
    connection
        .prepare_cached(
            "SELECT id, username FROM memberships CROSS JOIN users ON id = user WHERE room = ?1
             ORDER BY username_key",
        )?
        .query_map([room.as_str()], |row| Ok(Author::from(&user_from(row)?)))?
        .collect()
}
