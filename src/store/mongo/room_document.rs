//! A room as a document.

use std::sync::Arc;

use mongodb::bson::{Bson, Document, doc};

use crate::domain::{Access, Label, Posting, RoomSettings};

/// A room's field until whoever makes it has become its first member: their id.
pub(super) const MAKING: &str = "making";

/// A room's field while the event of a changed setting is not in the log yet: that change.
pub(super) const SETTING: &str = "setting";

/// Without a direct room's people. A room of a version before this one has no settings, and is unlisted.
pub(super) fn settings_from(room: &Document) -> RoomSettings {
    let label = |key| room.get_str(key).ok().map(Label::stored);
    RoomSettings {
        access: room
            .get_str("access")
            .map_or(Access::default(), Access::stored),
        name: label("name"),
        topic: label("topic"),
        posting: room
            .get_str("posting")
            .map_or(Posting::default(), Posting::stored),
        is_archived: room.get_bool("archived").unwrap_or(false),
        people: Arc::default(),
    }
}

/// The fields of settings; null is none.
pub(super) fn settings_fields(settings: &RoomSettings) -> Document {
    let label = |label: &Option<Label>| {
        let label = label.as_ref().map(|label| Bson::from(label.as_str()));
        label.unwrap_or(Bson::Null)
    };
    doc! {
        "access": settings.access.as_str(),
        "name": label(&settings.name),
        "topic": label(&settings.topic),
        "posting": settings.posting.as_str(),
        "archived": settings.is_archived,
    }
}
