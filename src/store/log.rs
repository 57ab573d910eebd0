//! The logs: each room's events, numbered without a gap.

use std::sync::Arc;

use async_trait::async_trait;

use super::{Freshness, StoreError};
use crate::domain::{Epoch, Event, MessageBody, NewEvent, RoomId, Seq};

/// How an append ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Appended {
    /// The event is new, and durable now.
    New(Arc<Event>),
    /// This author had appended it before, with this nonce: here is the first one.
    Repeated(Arc<Event>),
}

impl Appended {
    /// The durable event, new or not.
    pub fn event(&self) -> &Arc<Event> {
        match self {
            Self::New(event) | Self::Repeated(event) => event,
        }
    }
}

/// The most events one page holds.
pub const PAGE_MAX: usize = 200;

/// About how many bytes one page's texts take once they are escaped: the page ends early when that
/// is reached. Two hundred messages of 4,000 characters would be megabytes in the memory of a server
/// whose client reads slowly.
const PAGE_BYTES_MAX: usize = 512 * 1024;

/// Keeps as many of a page's first events as [`PAGE_BYTES_MAX`] allows, at least one.
pub(super) fn within_bytes<E>(
    events: impl Iterator<Item = Result<Arc<Event>, E>>,
) -> Result<Vec<Arc<Event>>, E> {
    let mut bytes = 0;
    let mut page = Vec::new();
    for event in events {
        let event = event?;
        bytes += event.kind.body().map_or(0, MessageBody::escaped_bytes_max);
        if bytes > PAGE_BYTES_MAX && !page.is_empty() {
            break;
        }
        page.push(event);
    }
    Ok(page)
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
    /// An earlier event of this author with the same nonce and kind is answered instead.
    ///
    /// # Errors
    ///
    /// [`StoreError::NonceReused`] when that earlier event says something else,
    /// [`StoreError::Busy`] when too much waits; in both nothing was appended.
    async fn append(&self, room: &RoomId, event: NewEvent) -> Result<Appended, StoreError>;

    /// Whether the log has an event of this number, asked so that the answer is no older than the
    /// question: a client that hears that it is ahead of the log starts over.
    async fn reaches(&self, room: &RoomId, seq: Seq) -> Result<bool, StoreError>;

    /// The highest durable number of each of these logs, 0 for an empty or unknown one.
    async fn heads(&self, rooms: &[RoomId]) -> Result<Vec<Seq>, StoreError>;

    /// The events `after + 1`, `after + 2`, …, at most `limit` and [`PAGE_MAX`]; fewer when they
    /// are long, but never none while there are some.
    async fn page_after(
        &self,
        room: &RoomId,
        after: Seq,
        limit: usize,
    ) -> Result<Vec<Arc<Event>>, StoreError>;

    /// The last events, oldest first, at most `limit` and [`PAGE_MAX`]; fewer when they are long.
    async fn newest(
        &self,
        room: &RoomId,
        limit: usize,
        freshness: &Freshness,
    ) -> Result<Vec<Arc<Event>>, StoreError>;

    /// The last events before number `before`, oldest first, at most `limit` and [`PAGE_MAX`];
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
    if first.kind == event.kind {
        Ok(Appended::Repeated(first))
    } else {
        Err(StoreError::NonceReused)
    }
}
