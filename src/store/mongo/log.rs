//! The logs: one collection of events, by room and number.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use async_trait::async_trait;
use mongodb::Collection;
use mongodb::bson::{Bson, DateTime, Document, doc};
use tokio_stream::StreamExt;

use super::MongoStore;
use super::collections::{Collections, find_linearizable};
use super::errors::unreadable;
use super::numbering::{Head, Waiting};
use super::retry::retry;
use crate::domain::{Author, Epoch, Event, EventKind, NewEvent, RoomId, Seq, Timestamp, UserId};
use crate::store::cache::{LogEnd, NEWEST_MAX};
use crate::store::{
    Appended, Freshness, Log, PAGE_MAX, ROOMS_PER_USER_MAX, StoreError, within_bytes,
};

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

/// Where an event stands: what finds it, by the unique index.
pub(super) fn place(room: &RoomId, seq: Seq) -> Document {
    doc! { "room": room.as_str(), "seq": signed(seq) }
}

/// BSON has no unsigned integers. A number past the signed ones is past every event.
pub(super) fn signed(seq: Seq) -> i64 {
    i64::try_from(seq).unwrap_or(i64::MAX)
}

/// An event's document. `last_message` is the number of the last message before it.
pub(super) fn document_from(
    waiting: &Waiting,
    event: &Event,
    last_message: Option<Seq>,
) -> Document {
    let mut document = doc! {
        "_id": waiting.id,
        "room": event.room.as_str(),
        "seq": signed(event.seq),
        "messages": signed(event.messages),
        "at": DateTime::from_millis(event.at.as_millis()),
        "kind": event.kind.name(),
        "author": event.author.id.to_string(),
        "author_name": &*event.author.username,
    };
    if let Some(body) = event.kind.body() {
        document.insert("body", body.as_str());
    }
    if let Some(nonce) = &waiting.event.nonce {
        document.insert("nonce", nonce.as_str());
    }
    if let Some(last) = last_message
        && !event.kind.is_message()
    {
        document.insert("last_message", signed(last));
    }
    document
}

/// The head of the log that ends with this event, whose document it is.
pub(super) fn head_from(document: &Document, event: &Event) -> Head {
    let last_message = document.get_i64("last_message").ok();
    Head {
        last_message: last_message.map(i64::unsigned_abs),
        ..Head::EMPTY
    }
    .with(event)
}

pub(super) fn event_from(document: &Document) -> Result<Event, StoreError> {
    const OPERATION: &str = "read an event";
    let missing = unreadable(OPERATION);
    let text = |key| document.get_str(key).map_err(&missing);
    Ok(Event {
        room: RoomId::parse(text("room")?)
            .map_err(|error| StoreError::backend(OPERATION, error))?,
        seq: seq_from(document)?,
        messages: document
            .get_i64("messages")
            .map_err(&missing)?
            .unsigned_abs(),
        at: Timestamp::from_millis(
            document
                .get_datetime("at")
                .map_err(&missing)?
                .timestamp_millis(),
        ),
        author: Author {
            id: UserId::parse(text("author")?)
                .map_err(|error| StoreError::backend(OPERATION, error))?,
            username: text("author_name")?.into(),
        },
        kind: EventKind::stored(text("kind")?, document.get_str("body").ok()),
    })
}

pub(super) fn seq_from(document: &Document) -> Result<Seq, StoreError> {
    document
        .get_i64("seq")
        .map(i64::unsigned_abs)
        .map_err(unreadable("read an event’s number"))
}

/// The newest event of each of these rooms that have one, by room. It is a seek in the index for each,
/// for which the order has to be the index's, backwards.
fn newest_of(rooms: &[RoomId], event: impl Into<Bson>) -> [Document; 3] {
    let ids: Vec<&str> = rooms.iter().map(RoomId::as_str).collect();
    [
        doc! { "$match": { "room": { "$in": ids } } },
        doc! { "$sort": { "room": -1, "seq": -1 } },
        doc! { "$group": { "_id": "$room", "event": { "$first": event.into() } } },
    ]
}

pub(super) async fn heads(
    collections: &Collections,
    rooms: &[RoomId],
) -> Result<Vec<Seq>, StoreError> {
    let found = aggregate(&collections.events, &newest_of(rooms, "$seq")).await?;
    let heads: HashMap<&str, i64> = { found.iter() }
        .filter_map(|room| Some((room.get_str("_id").ok()?, room.get_i64("event").ok()?)))
        .collect();
    let head = |room: &RoomId| {
        heads
            .get(room.as_str())
            .map_or(0, |head| head.unsigned_abs())
    };
    Ok(rooms.iter().map(head).collect())
}

/// How these logs end, without their newest pages.
pub(super) async fn ends(
    collections: &Collections,
    rooms: &[RoomId],
) -> Result<Vec<(RoomId, LogEnd)>, StoreError> {
    let found = aggregate(&collections.events, &newest_of(rooms, "$$ROOT")).await?;
    let mut ends: HashMap<RoomId, LogEnd> = HashMap::new();
    let (mut known, mut unknown) = (Vec::new(), Vec::new());
    for found in &found {
        let document = found.get_document("event");
        let document = document.map_err(unreadable("read an event"))?;
        let newest = Arc::new(event_from(document)?);
        let last_message = match head_from(document, &newest).last_message {
            Some(seq) if seq == newest.seq => Some(Arc::clone(&newest)),
            Some(seq) => {
                known.push((newest.room.clone(), seq));
                None
            }
            None => {
                if newest.messages > 0 {
                    unknown.push(newest.room.clone());
                }
                None
            }
        };
        let end = LogEnd {
            head: newest.seq,
            messages: newest.messages,
            last_message,
            newest: None,
        };
        ends.insert(newest.room.clone(), end);
    }
    let mut last = events_at(&collections.events, &known).await?;
    last.extend(last_messages(collections, &unknown).await?);
    for (room, event) in last {
        if let Some(end) = ends.get_mut(&room) {
            end.last_message = Some(event);
        }
    }
    let end = |room: &RoomId| (room.clone(), ends.remove(room).unwrap_or_default());
    Ok(rooms.iter().map(end).collect())
}

/// The event at one place in each of some logs, by room.
pub(super) async fn events_at(
    events: &Collection<Document>,
    places: &[(RoomId, Seq)],
) -> Result<HashMap<RoomId, Arc<Event>>, StoreError> {
    if places.is_empty() {
        return Ok(HashMap::new());
    }
    let places: Vec<Document> = { places.iter() }
        .map(|(room, seq)| place(room, *seq))
        .collect();
    let found = retry("read a log", || async {
        let found = events.find(doc! { "$or": places.clone() });
        let found = found.batch_size(ROOMS_PER_USER_MAX as u32).await?;
        found.collect::<Result<Vec<Document>, _>>().await
    });
    by_room(found.await?.iter())
}

/// The last message of logs whose newest event does not say which it is: that is a version's before
/// this one.
async fn last_messages(
    collections: &Collections,
    rooms: &[RoomId],
) -> Result<HashMap<RoomId, Arc<Event>>, StoreError> {
    if rooms.is_empty() {
        return Ok(HashMap::new());
    }
    let ids: Vec<&str> = rooms.iter().map(RoomId::as_str).collect();
    let pipeline = [
        doc! { "$match": { "_id": { "$in": ids } } },
        // A look-up in the index for each room.
        doc! { "$lookup": {
            "from": "events",
            "localField": "_id",
            "foreignField": "room",
            "pipeline": [
                { "$match": { "kind": "message", "body": { "$exists": true } } },
                { "$sort": { "seq": -1 } },
                { "$limit": 1 },
            ],
            "as": "last",
        } },
        doc! { "$unwind": "$last" },
        doc! { "$replaceWith": "$last" },
    ];
    by_room(aggregate(&collections.rooms, &pipeline).await?.iter())
}

fn by_room<'a>(
    documents: impl Iterator<Item = &'a Document>,
) -> Result<HashMap<RoomId, Arc<Event>>, StoreError> {
    documents
        .map(|document| {
            let event = Arc::new(event_from(document)?);
            Ok((event.room.clone(), event))
        })
        .collect()
}

async fn aggregate(
    collection: &Collection<Document>,
    pipeline: &[Document],
) -> Result<Vec<Document>, StoreError> {
    retry("list rooms", || async {
        let found = collection.aggregate(pipeline.iter().cloned());
        let found = found.batch_size(ROOMS_PER_USER_MAX as u32).await?;
        found.collect::<Result<Vec<_>, _>>().await
    })
    .await
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
        let cache = self.trusted_cache();
        if limit > NEWEST_MAX {
            return self.page_before(room, Seq::MAX, limit).await;
        }
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
