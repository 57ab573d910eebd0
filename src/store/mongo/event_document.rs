//! An event as a document: one collection holds those of all logs, by room and number.

use mongodb::bson::{DateTime, Document, doc};

use super::errors::unreadable;
use super::numbering::{Head, Waiting};
use crate::domain::{Author, Event, EventKind, RoomId, Seq, Timestamp, UserId};
use crate::store::StoreError;

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
