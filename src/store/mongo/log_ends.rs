//! How logs end: the head and the last message of many at once.

use std::collections::HashMap;
use std::sync::Arc;

use mongodb::Collection;
use mongodb::bson::{Bson, Document, doc};
use tokio_stream::StreamExt;

use super::collections::Collections;
use super::errors::unreadable;
use super::event_document::{event_from, head_from, place};
use super::retry::retry;
use super::settings::settings_of;
use crate::domain::{Event, RoomId, Seq};
use crate::store::cache::LogEnd;
use crate::store::{ROOMS_PER_USER_MAX, StoreError};

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
    let (mut whole, mut known, mut unknown) = (Vec::new(), Vec::new(), Vec::new());
    for found in &found {
        let document = found.get_document("event");
        let document = document.map_err(unreadable("read an event"))?;
        let newest = event_from(document)?;
        match head_from(document, &newest).last_message {
            Some(seq) if seq == newest.seq => whole.push(newest.clone()),
            Some(seq) => known.push((newest.room.clone(), seq)),
            None => {
                if newest.messages > 0 {
                    unknown.push(newest.room.clone());
                }
            }
        }
        let end = LogEnd {
            head: newest.seq,
            messages: newest.messages,
            last_message: None,
            settings: Arc::default(),
            newest: None,
        };
        ends.insert(newest.room.clone(), end);
    }
    let mut last = events_at(collections, &known).await?;
    last.extend(last_messages(collections, &unknown).await?);
    last.extend(by_room(collections.states.complete(whole).await?));
    for (room, event) in last {
        if let Some(end) = ends.get_mut(&room) {
            end.last_message = Some(event);
        }
    }
    let mut settings = settings_of(collections, rooms).await?;
    let end = |room: &RoomId| {
        let end = LogEnd {
            settings: settings.remove(room).unwrap_or_default(),
            ..ends.remove(room).unwrap_or_default()
        };
        (room.clone(), end)
    };
    Ok(rooms.iter().map(end).collect())
}

/// The event at one place in each of some logs, by room.
pub(super) async fn events_at(
    collections: &Collections,
    places: &[(RoomId, Seq)],
) -> Result<HashMap<RoomId, Arc<Event>>, StoreError> {
    if places.is_empty() {
        return Ok(HashMap::new());
    }
    let places: Vec<Document> = { places.iter() }
        .map(|(room, seq)| place(room, *seq))
        .collect();
    let found = retry("read a log", || async {
        let found = collections.events.find(doc! { "$or": places.clone() });
        let found = found.batch_size(ROOMS_PER_USER_MAX as u32).await?;
        found.collect::<Result<Vec<Document>, _>>().await
    });
    complete(collections, &found.await?).await
}

/// The last message of logs whose newest event does not say which it is: that is a version's before
/// this one.
pub(super) async fn last_messages(
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
                { "$match": { "kind": "message", "$or": [
                    { "body": { "$exists": true } },
                    { "deleted_at": { "$exists": true } },
                ] } },
                { "$sort": { "seq": -1 } },
                { "$limit": 1 },
            ],
            "as": "last",
        } },
        doc! { "$unwind": "$last" },
        doc! { "$replaceWith": "$last" },
    ];
    let found = aggregate(&collections.rooms, &pipeline).await?;
    complete(collections, &found).await
}

async fn complete(
    collections: &Collections,
    documents: &[Document],
) -> Result<HashMap<RoomId, Arc<Event>>, StoreError> {
    let events = documents.iter().map(event_from).collect::<Result<_, _>>()?;
    Ok(by_room(collections.states.complete(events).await?).collect())
}

fn by_room(events: Vec<Arc<Event>>) -> impl Iterator<Item = (RoomId, Arc<Event>)> {
    events.into_iter().map(|event| (event.room.clone(), event))
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
