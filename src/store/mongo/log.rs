//! The logs: pages of them, and how they grow.

use std::collections::VecDeque;
use std::sync::Arc;

use async_trait::async_trait;
use mongodb::Collection;
use mongodb::bson::{Document, doc};
use tokio_stream::StreamExt;

use super::MongoStore;
use super::collections::{Collections, find_linearizable};
use super::event_document::{event_from, head_from, place, signed};
use super::log_ends::{events_at, heads, last_messages};
use super::retry::retry;
use crate::domain::{Epoch, Event, NewEvent, RoomId, Seq};
use crate::store::cache::{LogEnd, NEWEST_MAX};
use crate::store::{Appended, Freshness, Log, PAGE_MAX, StoreError, within_bytes};

pub(super) async fn page_after(
    events: &Collection<Document>,
    room: &RoomId,
    after: Seq,
    limit: usize,
) -> Result<Vec<Arc<Event>>, StoreError> {
    page_from(&documents_after(events, room, after, limit).await?)
}

/// The documents of [`page_after`].
pub(super) async fn documents_after(
    events: &Collection<Document>,
    room: &RoomId,
    after: Seq,
    limit: usize,
) -> Result<Vec<Document>, StoreError> {
    documents(events, room, doc! { "$gt": signed(after) }, 1, limit).await
}

pub(super) async fn page_before(
    events: &Collection<Document>,
    room: &RoomId,
    before: Seq,
    limit: usize,
) -> Result<Vec<Arc<Event>>, StoreError> {
    let before = doc! { "$lt": signed(before) };
    let mut page = page_from(&documents(events, room, before, -1, limit).await?)?;
    page.reverse();
    Ok(page)
}

async fn documents(
    events: &Collection<Document>,
    room: &RoomId,
    seq: Document,
    order: i32,
    limit: usize,
) -> Result<Vec<Document>, StoreError> {
    if limit == 0 {
        // To MongoDB, no limit at all.
        return Ok(Vec::new());
    }
    let limit = u32::try_from(limit.min(PAGE_MAX)).unwrap_or(u32::MAX);
    retry("read a log", || async {
        events
            .find(doc! { "room": room.as_str(), "seq": seq.clone() })
            .sort(doc! { "seq": order })
            .limit(limit.into())
            // All in the first answer; the default is 101 and then another round trip.
            .batch_size(limit)
            .await?
            .collect::<Result<Vec<_>, _>>()
            .await
    })
    .await
}

fn page_from(documents: &[Document]) -> Result<Vec<Arc<Event>>, StoreError> {
    within_bytes(
        documents
            .iter()
            .map(|document| event_from(document).map(Arc::new)),
    )
}

/// How a log ends, with its newest page.
async fn end_with_page(collections: &Collections, room: &RoomId) -> Result<LogEnd, StoreError> {
    let before = doc! { "$lt": i64::MAX };
    let documents = documents(&collections.events, room, before, -1, NEWEST_MAX).await?;
    let page = page_from(&documents)?;
    let (Some(document), Some(newest)) = (documents.first(), page.first()) else {
        return Ok(LogEnd {
            newest: Some(VecDeque::new()),
            ..LogEnd::default()
        });
    };
    let last_message = match page.iter().find(|event| event.kind.is_message()) {
        Some(last) => Some(Arc::clone(last)),
        None if newest.messages == 0 => None,
        None => {
            let last = match head_from(document, newest).last_message {
                Some(seq) => events_at(&collections.events, &[(room.clone(), seq)]).await?,
                None => last_messages(collections, std::slice::from_ref(room)).await?,
            };
            last.into_values().next()
        }
    };
    Ok(LogEnd {
        head: newest.seq,
        messages: newest.messages,
        last_message,
        newest: Some(page.iter().rev().cloned().collect()),
    })
}

#[async_trait]
impl Log for MongoStore {
    fn epoch(&self) -> Epoch {
        self.epoch
    }

    async fn append(&self, room: &RoomId, event: NewEvent) -> Result<Appended, StoreError> {
        self.logs.append(room, event).await
    }

    async fn reaches(&self, room: &RoomId, seq: Seq) -> Result<bool, StoreError> {
        let event = place(room, seq);
        let events = &self.collections.events;
        let found =
            find_linearizable("look for an event", &self.collections, events, event).await?;
        Ok(found.is_some())
    }

    async fn heads(&self, rooms: &[RoomId]) -> Result<Vec<Seq>, StoreError> {
        heads(&self.collections, rooms).await
    }

    async fn page_after(
        &self,
        room: &RoomId,
        after: Seq,
        limit: usize,
    ) -> Result<Vec<Arc<Event>>, StoreError> {
        page_after(&self.collections.events, room, after, limit).await
    }

    async fn newest(
        &self,
        room: &RoomId,
        limit: usize,
        freshness: &Freshness,
    ) -> Result<Vec<Arc<Event>>, StoreError> {
        if limit > NEWEST_MAX {
            return self.page_before(room, Seq::MAX, limit).await;
        }
        let cache = self.trusted_cache();
        if let Some(newest) = cache.and_then(|cache| cache.newest(room, limit))
            && freshness.allows(room, newest.last().map_or(0, |event| event.seq))
        {
            return Ok(newest);
        }
        let token = self.cache.token();
        let mut end = end_with_page(&self.collections, room).await?;
        // A primary that has been replaced answers what was so before: it is asked again, unless the
        // log does not reach so far.
        if let Some(seen) = freshness.seen_in(room)
            && end.head < seen
            && self.reaches(room, seen).await?
        {
            end = end_with_page(&self.collections, room).await?;
        }
        let newest = end.last(limit);
        self.cache.keep_page(&token, room, end);
        Ok(newest)
    }

    async fn page_before(
        &self,
        room: &RoomId,
        before: Seq,
        limit: usize,
    ) -> Result<Vec<Arc<Event>>, StoreError> {
        page_before(&self.collections.events, room, before, limit).await
    }
}
