//! The page of mentions, and how they are counted.

use std::collections::HashMap;
use std::sync::Arc;

use askama::Template;

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
    /// The titles of their rooms.
    pub titles: HashMap<RoomId, String>,
    /// Where older ones are, if there are any.
    pub older: Option<String>,
    /// Whether this is not the first page.
    pub goes_on: bool,
}

impl MentionsPage<'_> {
    fn title<'b>(&'b self, event: &'b Event) -> &'b str {
        let title = self.titles.get(&event.room);
        title.map_or(event.room.as_str(), String::as_str)
    }

    fn id(&self, event: &Event) -> EventId {
        let (epoch, seq) = (self.epoch, event.seq);
        EventId { epoch, seq }
    }
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
