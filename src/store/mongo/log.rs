//! The logs: one collection of events, by room and number.

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use mongodb::Collection;
use mongodb::bson::{DateTime, Document, doc};
use tokio_stream::StreamExt;

use super::MongoStore;
use super::aggregate::{aggregate, first, newest};
use super::collections::{Collections, find_linearizable};
use super::errors::unreadable;
use super::numbering::Waiting;
use super::retry::retry;
use crate::domain::{Author, Epoch, Event, EventKind, NewEvent, RoomId, Seq, Timestamp, UserId};
use crate::store::{Appended, Log, PAGE_MAX, StoreError, within_bytes};

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

pub(super) fn document_from((waiting, event): (&Waiting, &Arc<Event>)) -> Document {
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
    document
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

pub(super) async fn heads(
    collections: &Collections,
    rooms: &[RoomId],
) -> Result<Vec<Seq>, StoreError> {
    let ids: Vec<&str> = rooms.iter().map(RoomId::as_str).collect();
    let pipeline = [
        doc! { "$match": { "_id": { "$in": ids } } },
        newest("_id", "head", doc! {}),
    ];
    let found = aggregate(&collections.rooms, pipeline).await?;
    let heads = found
        .iter()
        .filter_map(|room| Some((room.get_str("_id").ok()?, first(room, "head")?)))
        .map(|(room, head)| Ok((room, seq_from(head)?)))
        .collect::<Result<HashMap<_, _>, StoreError>>()?;
    Ok(rooms
        .iter()
        .map(|room| heads.get(room.as_str()).copied().unwrap_or(0))
        .collect())
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

    async fn page_before(
        &self,
        room: &RoomId,
        before: Seq,
        limit: usize,
    ) -> Result<Vec<Arc<Event>>, StoreError> {
        page_before(&self.collections.events, room, before, limit).await
    }
}
