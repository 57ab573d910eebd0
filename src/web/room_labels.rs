//! The labels of a room, as JSON has them wherever a room is.

use serde::Serialize;

use crate::domain::{Access, Author, Label, RoomId, RoomSettings};

/// A room's id and its labels.
#[derive(Serialize)]
pub(super) struct RoomLabels<'a> {
    room: &'a RoomId,
    name: Option<&'a Label>,
    topic: Option<&'a Label>,
    access: Access,
    /// The people of a direct room.
    #[serde(skip_serializing_if = "<[Author]>::is_empty")]
    people: &'a [Author],
}

impl<'a> RoomLabels<'a> {
    pub(super) fn of(room: &'a RoomId, settings: &'a RoomSettings) -> Self {
        Self {
            room,
            name: settings.name.as_ref(),
            topic: settings.topic.as_ref(),
            access: settings.access,
            people: &settings.people,
        }
    }
}
