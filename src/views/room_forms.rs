//! Forms about a room: one to make it, one for its settings.

use std::borrow::Cow;

use askama::Template;

use super::Field;

use crate::domain::{Access, Label, Level, Posting, RoomId, RoomSettings, User};
use crate::error::error_of;

/// The fields that describe a room, as typed.
#[derive(Debug, Clone, Copy, Default)]
pub struct RoomForm<'a> {
    /// Its id.
    pub room: &'a str,
    /// Its name.
    pub name: &'a str,
    /// Its topic.
    pub topic: &'a str,
    /// The room's access.
    pub access: Access,
    /// The right to write.
    pub posting: Posting,
    /// The errors, by field.
    pub errors: &'a [(&'static str, String)],
    /// The question to its sender before it is done.
    pub asks: Option<&'a str>,
    /// Whether another form of the page has the focus.
    pub is_second: bool,
}

impl<'a> RoomForm<'a> {
    /// The error of a field.
    fn error_at(&self, name: &str) -> Option<&'a str> {
        error_of(self.errors, name)
    }
}

/// `GET /new`, and again with errors.
#[derive(Template)]
#[template(path = "rooms/make.html")]
pub struct NewRoomPage<'a> {
    user: &'a User,
    form: RoomForm<'a>,
}

impl<'a> NewRoomPage<'a> {
    /// With what was typed before.
    pub fn of(user: &'a User, form: RoomForm<'a>) -> Self {
        Self { user, form }
    }
}

/// `GET /rooms/{room}/settings`, and again with errors or a question.
#[derive(Template)]
#[template(path = "rooms/settings.html")]
pub struct RoomSettingsPage<'a> {
    user: &'a User,
    room: &'a RoomId,
    title: Cow<'a, str>,
    /// The typed values.
    pub form: RoomForm<'a>,
    decides: bool,
    is_archived: bool,
    level: Option<Level>,
    /// The id that was typed to delete the room, and why that was not done.
    pub not_deleted: Option<(&'a str, &'a str)>,
}

impl<'a> RoomSettingsPage<'a> {
    /// As they are. The level is a member's.
    pub fn of(
        user: &'a User,
        room: &'a RoomId,
        settings: &'a RoomSettings,
        decides: bool,
        level: Option<Level>,
    ) -> Self {
        let label = |label: &'a Option<Label>| label.as_ref().map_or("", Label::as_str);
        Self {
            user,
            room,
            title: settings.title(room, &user.id),
            form: RoomForm {
                room: room.as_str(),
                name: label(&settings.name),
                topic: label(&settings.topic),
                access: settings.access,
                posting: settings.posting,
                errors: &[],
                asks: None,
                is_second: false,
            },
            decides,
            is_archived: settings.is_archived,
            level,
            not_deleted: None,
        }
    }
}

/// `GET /directs`, and again with an error.
#[derive(Template)]
#[template(path = "rooms/direct.html")]
pub struct DirectPage<'a> {
    /// The reader.
    pub user: &'a User,
    /// The names of the others.
    pub field: Field<'a>,
}

/// A level in a word, and what it means in a line.
fn heard(level: &Level) -> (&'static str, &'static str) {
    match level {
        Level::All => ("Every message", "counts as unread and notifies."),
        Level::Mentions => ("Mentions", "Only what is for you does."),
        Level::Nothing => ("Nothing", "The room is quiet."),
    }
}

/// An access in a word, and what it means in a line.
pub(super) fn explained(access: &Access) -> (&'static str, &'static str) {
    match access {
        Access::Open => (
            "Open",
            "Everybody on this server sees it in their list and can enter.",
        ),
        Access::Unlisted => (
            "Unlisted",
            "People who know its address can enter. Nobody else sees it.",
        ),
        Access::Private => (
            "Private",
            "Only people whom an owner adds or invites. To others it does not exist.",
        ),
        Access::Direct => ("Direct", "Only its people, for good."),
    }
}
