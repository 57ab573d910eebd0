//! Pages of mentions, and of the people whom a message can be for.

use std::sync::Arc;

use askama::Template;

use super::Avatar;
use crate::domain::{Epoch, Event, EventId, Mentions, RoomId, User};

/// `GET /mentions`.
#[derive(Template)]
#[template(path = "mentions/index.html")]
pub struct MentionsPage<'a> {
    /// The reader.
    pub user: &'a User,
    /// The store's, for links.
    pub epoch: Epoch,
    /// The unread ones, the newest first.
    pub unread: &'a [Arc<Event>],
    /// And those that they have.
    pub read: &'a [Arc<Event>],
    /// Where older ones are, if there are any.
    pub older: Option<String>,
    /// Whether this is not the first page.
    pub goes_on: bool,
}

impl MentionsPage<'_> {
    fn id(&self, event: &Event) -> EventId {
        let (epoch, seq) = (self.epoch, event.seq);
        EventId { epoch, seq }
    }
}

/// `GET /rooms/{room}/people`.
#[derive(Template)]
#[template(path = "people/index.html")]
pub struct PeoplePage<'a> {
    /// The reader.
    pub user: &'a User,
    /// Which room.
    pub room: &'a RoomId,
    /// How their names are to begin.
    pub query: &'a str,
    /// The people, those who spoke last first.
    pub people: &'a [User],
}

/// People to choose from while a name is typed.
#[derive(Template)]
#[template(path = "people/_options.html")]
pub struct PeopleOptions<'a> {
    /// The people, those who spoke last first.
    pub people: &'a [User],
    /// Whether everybody may be meant.
    pub room: bool,
}

/// A number of unread mentions in a few characters: the stores count up to a bound.
pub(super) fn count_of(mentions: &usize) -> String {
    match *mentions {
        Mentions::UNREAD_MAX.. => "99+".to_owned(),
        some => some.to_string(),
    }
}

/// The word after that.
pub(super) fn mentions_of(count: &usize) -> &'static str {
    match *count {
        1 => "mention",
        _ => "mentions",
    }
}
