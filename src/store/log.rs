//! The logs: each room's events, numbered without a gap.

use std::sync::Arc;

use async_trait::async_trait;

use super::{Freshness, StoreError};
use crate::domain::{
    Epoch, Event, EventKind, Message, NewEvent, NewKind, Nonce, RoomId, Seq, UserId,
};

/// How an append ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Appended {
    /// The event is new, and durable now.
    New(Arc<Event>),
    /// This author had appended it before, with this nonce: here is the first one.
    Repeated(Arc<Event>),
    /// The message is so already: here it is.
    Unchanged(Arc<Event>),
}

impl Appended {
    /// The durable event, new or not.
    pub fn event(&self) -> &Arc<Event> {
        match self {
            Self::New(event) | Self::Repeated(event) | Self::Unchanged(event) => event,
        }
    }
}

/// The end of a room's history.
#[derive(Debug, Clone, PartialEq)]
pub struct History {
    /// The last entries, oldest first, in their present state.
    pub entries: Vec<Arc<Event>>,
    /// The head of the log of which that is the end. The entries may be of a later state.
    pub head: Seq,
}

/// The place of an event among all logs.
pub type LogPlace = (RoomId, Seq);

/// Some of the messages of an author.
#[derive(Debug, Clone, PartialEq)]
pub struct Written {
    /// The messages, perhaps none.
    pub messages: Vec<Arc<Event>>,
    /// The place after which there may be more; `None` at the end.
    pub next: Option<LogPlace>,
}

/// So many events are looked through for those of an author at a time,
pub(super) const LOOK_THROUGH: usize = 5_000;

/// and so many of theirs are answered.
pub(super) const WRITTEN_MAX: usize = 200;

/// The most events one page holds.
pub const PAGE_MAX: usize = 200;

/// About how many bytes one page's texts take once they are escaped: the page ends early when that
/// is reached. Two hundred messages of 4,000 characters would be megabytes in the memory of a server
/// whose client reads slowly.
const PAGE_BYTES_MAX: usize = 512 * 1024;

/// Reads as many of a page's first events as [`PAGE_BYTES_MAX`] allows, at least one.
pub(super) fn within_bytes<E>(
    events: impl Iterator<Item = Result<Event, E>>,
) -> Result<Vec<Event>, E> {
    let mut bytes = 0;
    let mut page = Vec::new();
    for event in events {
        let event = event?;
        bytes += event.escaped_bytes_max();
        if bytes > PAGE_BYTES_MAX && !page.is_empty() {
            break;
        }
        page.push(event);
    }
    Ok(page)
}

/// The same once the events have what they show of other messages: a page of changes to one message has
/// that as many times.
pub(super) fn shortened(mut page: Vec<Arc<Event>>) -> Vec<Arc<Event>> {
    if !page.iter().any(|event| event.shows_more()) {
        return page;
    }
    let mut bytes = 0;
    let mut fits = |event: &Arc<Event>| {
        bytes += event.escaped_bytes_max();
        bytes <= PAGE_BYTES_MAX
    };
    let fitting = page.iter().take_while(|event| fits(event)).count();
    page.truncate(fitting.max(1));
    page
}

/// The logs. A caller that goes away does not stop an append.
///
/// # Errors
///
/// [`StoreError::Backend`] from any method; the others where a method says so.
#[async_trait]
pub trait Log: Send + Sync {
    /// Which life of the data this is; see [`Epoch`]. Fixed while the process runs.
    fn epoch(&self) -> Epoch;

    /// The only way into a log: gives the event the next number and answers when it is durable.
    /// An earlier event of this author with the same nonce and kind is answered instead. A change
    /// writes the message's new state in the same transaction; where that is so already, nothing is
    /// appended.
    ///
    /// # Errors
    ///
    /// [`StoreError::NonceReused`] when that earlier event says something else,
    /// [`StoreError::Refused`] when a change may not be made, [`StoreError::Busy`] when too much waits;
    /// in all of them nothing was appended.
    async fn append(&self, room: &RoomId, event: NewEvent) -> Result<Appended, StoreError>;

    /// The message that an author has posted with a nonce.
    async fn find_by_nonce(
        &self,
        room: &RoomId,
        author: UserId,
        nonce: &Nonce,
    ) -> Result<Option<Arc<Event>>, StoreError>;

    /// The messages of an author that were not deleted, by room and number: some of those after this place. There is
    /// no index of them, so the logs are looked through, some events at a time.
    async fn written_by(
        &self,
        author: UserId,
        after: Option<LogPlace>,
    ) -> Result<Written, StoreError>;

    /// Whether the log has an event of this number, asked so that the answer is no older than the
    /// question: a client that hears that it is ahead of the log starts over.
    async fn reaches(&self, room: &RoomId, seq: Seq) -> Result<bool, StoreError>;

    /// The highest durable number of each of these logs, 0 for an empty or unknown one.
    async fn heads(&self, rooms: &[RoomId]) -> Result<Vec<Seq>, StoreError>;

    /// The events `after + 1`, `after + 2`, …, at most `limit` and [`PAGE_MAX`]; fewer when they
    /// are long, but never none while there are some. Changes come with their messages as these are now.
    async fn page_after(
        &self,
        room: &RoomId,
        after: Seq,
        limit: usize,
    ) -> Result<Vec<Arc<Event>>, StoreError>;

    /// The last entries, at most `limit` and [`PAGE_MAX`]; fewer when they are long.
    async fn newest(
        &self,
        room: &RoomId,
        limit: usize,
        freshness: &Freshness,
    ) -> Result<History, StoreError>;

    /// The last entries before number `before`, oldest first, at most `limit` and [`PAGE_MAX`];
    /// fewer when they are long.
    async fn page_before(
        &self,
        room: &RoomId,
        before: Seq,
        limit: usize,
    ) -> Result<Vec<Arc<Event>>, StoreError>;
}

/// Decides what a nonce that stands in the log already means for `event`.
pub(super) fn repeated(first: Arc<Event>, event: &NewEvent) -> Result<Appended, StoreError> {
    let is_same = match (&first.kind, &event.kind) {
        (EventKind::Message(first), NewKind::Message { body, reply_to, .. }) => {
            first.is_repeated_by(&Message::new(body.clone(), *reply_to))
        }
        (EventKind::Joined { .. }, NewKind::Joined { .. })
        | (EventKind::Left { .. }, NewKind::Left { .. }) => true,
        (EventKind::Set(first), NewKind::Set(setting)) => first == setting,
        _ => false,
    };
    match is_same {
        true => Ok(Appended::Repeated(first)),
        false => Err(StoreError::NonceReused),
    }
}
