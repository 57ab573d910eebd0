//! A room's settings as columns.

use rusqlite::{Connection, OptionalExtension, Row};

use crate::domain::{Access, Label, RoomId, RoomSettings};

/// From the columns `access`, `name` and `topic`.
pub(super) fn settings_from(row: &Row<'_>) -> rusqlite::Result<RoomSettings> {
    let label = |column| -> rusqlite::Result<Option<Label>> {
        let label = row.get_ref(column)?.as_str_or_null()?;
        Ok(label.map(Label::stored))
    };
    Ok(RoomSettings {
        access: Access::stored(row.get_ref("access")?.as_str()?),
        name: label("name")?,
        topic: label("topic")?,
    })
}

/// `None` of a room that is not there.
pub(super) fn settings(
    connection: &Connection,
    room: &RoomId,
) -> rusqlite::Result<Option<RoomSettings>> {
    connection
        .prepare_cached("SELECT access, name, topic FROM rooms WHERE id = ?1")?
        .query_row([room.as_str()], settings_from)
        .optional()
}
