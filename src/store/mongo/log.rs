//! The logs: pages of them, and how they grow.

use std::collections::VecDeque;
use std::sync::Arc;

use async_trait::async_trait;
use mongodb::Collection;
use mongodb::action::Action;
use mongodb::bson::{Bson, Document, doc};
use mongodb::options::Hint;
use tokio_stream::StreamExt;

use super::MongoStore;
use super::collections::{Collections, ENTRIES, find_linearizable};
use super::event_document::{event_from, head_from, place, place_from, seq_from, signed};
use super::log_ends::{events_at, heads, last_messages};
use super::retry::retry;
use super::settings::settings;
use crate::domain::{Epoch, Event, NewEvent, Nonce, RoomId, Seq, UserId};
use crate::store::cache::{LogEnd, NEWEST_MAX};
use crate::store::log::{LOOK_THROUGH, WRITTEN_MAX};
use crate::store::{
    Appended, Freshness, History, Log, LogPlace, PAGE_MAX, StoreError, Written, shortened,
    within_bytes,
};

pub(super) async fn page_after(
    collections: &Collections,
    room: &RoomId,
    after: Seq,
    limit: usize,
) -> Result<Vec<Arc<Event>>, StoreError> {
    let page = documents_after(&collections.events, room, after, limit).await?;
    page_from(collections, &page).await
}

/// The documents of [`page_after`].
pub(super) async fn documents_after(
    events: &Collection<Document>,
    room: &RoomId,
    after: Seq,
    limit: usize,
) -> Result<Vec<Document>, StoreError> {
    let after = doc! { "room": room.as_str(), "seq": { "$gt": signed(after) } };
    documents(events, None, after, 1, limit).await
}

/// The last entries before a number, oldest first.
pub(super) async fn page_before(
    collections: &Collections,
    room: &RoomId,
    before: Seq,
    limit: usize,
) -> Result<Vec<Arc<Event>>, StoreError> {
    let before =
        doc! { "room": room.as_str(), "target": Bson::Null, "seq": { "$lt": signed(before) } };
    let index = Hint::Name(ENTRIES.to_owned());
    let page = documents(&collections.events, Some(index), before, -1, limit).await?;
    let mut page = page_from(collections, &page).await?;
    page.reverse();
    Ok(page)
}

async fn documents(
    events: &Collection<Document>,
    index: Option<Hint>,
    filter: Document,
    order: i32,
    limit: usize,
) -> Result<Vec<Document>, StoreError> {
    if limit == 0 {
        // To MongoDB, no limit at all.
        return Ok(Vec::new());
    }
    let limit = u32::try_from(limit.min(PAGE_MAX)).unwrap_or(u32::MAX);
    retry("read a log", || async {
        let find = events
            .find(filter.clone())
            .optional(index.clone(), |find, index| find.hint(index))
            .sort(doc! { "seq": order })
            .limit(limit.into())
            // All in the first answer; the default is 101 and then another round trip.
            .batch_size(limit);
        find.await?.collect::<Result<Vec<_>, _>>().await
    })
    .await
}

async fn page_from(
    collections: &Collections,
    documents: &[Document],
) -> Result<Vec<Arc<Event>>, StoreError> {
    let page = within_bytes(documents.iter().map(event_from))?;
    Ok(shortened(collections.states.complete(page).await?))
}

/// The newest event's document.
async fn newest(
    events: &Collection<Document>,
    room: &RoomId,
) -> Result<Option<Document>, StoreError> {
    let all = doc! { "room": room.as_str() };
    let newest = documents(events, None, all, -1, 1).await?;
    Ok(newest.into_iter().next())
}

/// How a log ends, with its newest entries.
async fn end_with_page(collections: &Collections, room: &RoomId) -> Result<LogEnd, StoreError> {
    let Some(document) = newest(&collections.events, room).await? else {
        return Ok(LogEnd {
            settings: settings(collections, room)
                .await?
                .unwrap_or_default()
                .into(),
            newest: Some(VecDeque::new()),
            ..LogEnd::default()
        });
    };
    let newest = event_from(&document)?;
    // A message that comes meanwhile belongs to a later moment.
    let page = page_before(collections, room, newest.seq + 1, NEWEST_MAX).await?;
    let last_message = match page.iter().rfind(|event| event.kind.is_message()) {
        Some(last) => Some(Arc::clone(last)),
        None if newest.messages == 0 => None,
        None => {
            let last = match head_from(&document, &newest).last_message {
                Some(seq) => events_at(collections, &[(room.clone(), seq)]).await?,
                None => last_messages(collections, std::slice::from_ref(room)).await?,
            };
            last.into_values().next()
        }
    };
    Ok(LogEnd {
        head: newest.seq,
        messages: newest.messages,
        last_message,
        settings: settings(collections, room)
            .await?
            .unwrap_or_default()
            .into(),
        newest: Some(page.into()),
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

    async fn find_by_nonce(
        &self,
        room: &RoomId,
        author: UserId,
        nonce: &Nonce,
    ) -> Result<Option<Arc<Event>>, StoreError> {
        let filter = doc! {
            "room": room.as_str(), "author": author.to_string(), "nonce": nonce.as_str(),
        };
        let find = || self.collections.events.find_one(filter.clone());
        let found = retry("look for a nonce", find).await?;
        let found = page_from(&self.collections, found.as_slice()).await?;
        Ok(found.into_iter().next())
    }

    async fn written_by(
        &self,
        author: UserId,
        after: Option<LogPlace>,
    ) -> Result<Written, StoreError> {
        const OPERATION: &str = "list what somebody wrote";
        let events = &self.collections.events;
        let by_place = || Hint::Keys(doc! { "room": 1, "seq": 1 });
        let next_to = |of: &LogPlace| place(&of.0, of.1 + 1);
        let from = after.as_ref().map(next_to);
        let end = retry(OPERATION, || {
            let last = events.find_one(doc! {}).skip(LOOK_THROUGH as u64 - 1);
            let last = last.projection(doc! { "_id": 0, "room": 1, "seq": 1 });
            let last = last.optional(from.clone(), |last, from| last.min(from));
            last.hint(by_place())
        });
        let end = end.await?.as_ref().map(place_from).transpose()?;
        let to = end.as_ref().map(next_to);
        let written = doc! {
            "author": author.to_string(), "kind": "message", "deleted_at": { "$exists": false },
        };
        let found = retry(OPERATION, || async {
            let found = events.find(written.clone()).limit(WRITTEN_MAX as i64);
            let found = found.optional(from.clone(), |found, from| found.min(from));
            let found = found.optional(to.clone(), |found, to| found.max(to));
            let found = found.hint(by_place()).await?;
            found.collect::<Result<Vec<Document>, _>>().await
        });
        let found: Result<Vec<Event>, StoreError> = found.await?.iter().map(event_from).collect();
        let messages = self.collections.states.complete(found?).await?;
        let next = match messages.last() {
            Some(last) if messages.len() == WRITTEN_MAX => Some((last.room.clone(), last.seq)),
            _ => end,
        };
        Ok(Written { messages, next })
    }

    async fn reaches(&self, room: &RoomId, seq: Seq) -> Result<bool, StoreError> {
        let event = place(room, seq);
        let events = &self.collections.events;
        let found = find_linearizable("look for an event", events, event).await?;
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
        page_after(&self.collections, room, after, limit).await
    }

    async fn newest(
        &self,
        room: &RoomId,
        limit: usize,
        freshness: &Freshness,
    ) -> Result<History, StoreError> {
        if limit > NEWEST_MAX {
            let newest = newest(&self.collections.events, room).await?;
            let head = newest.as_ref().map_or(Ok(0), seq_from)?;
            let entries = self.page_before(room, head + 1, limit).await?;
            return Ok(History { entries, head });
        }
        let cache = self.trusted_cache();
        if let Some(newest) = cache.and_then(|cache| cache.newest(room, limit))
            && freshness.allows(room, newest.head)
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
        page_before(&self.collections, room, before, limit).await
    }
}
