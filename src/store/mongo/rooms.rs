use std::collections::HashMap;

use futures_util::TryStreamExt;
use mongodb::Collection;
use mongodb::bson::{Bson, DateTime, Document, doc};

use super::retry::trying;
use super::{Collections, insert_once, log, unreadable};
use crate::domain::{Author, EventKind, NewEvent, Nonce, RoomId, RoomSummary, Seq, User};
use crate::store::{Access, ROOMS_PER_USER_MAX, StoreError, newest_first};

/// Three writes, each of which may be repeated, in an order that leaves nothing half done that
/// entering again would not finish. The membership is last: whoever has it has joined.
pub(super) async fn enter(
    collections: &Collections,
    logs: &log::Logs,
    room: &RoomId,
    user: &User,
) -> Result<(), StoreError> {
    if access(collections, room, user).await? == Access::Member {
        return Ok(());
    }
    let own = doc! { "user": user.id.to_string() };
    let count = || collections.memberships.count_documents(own.clone());
    if trying("count memberships", count).await? >= ROOMS_PER_USER_MAX as u64 {
        return Err(StoreError::TooManyRooms);
    }
    // A task, because a client that hangs up drops its handler, not what it began.
    let (collections, logs) = (collections.clone(), logs.clone());
    let (room, user) = (room.clone(), user.clone());
    let entering = tokio::spawn(async move {
        let new = doc! { "_id": room.as_str(), "created_at": DateTime::now() };
        let by_id = doc! { "_id": room.as_str() };
        insert_once("make a room", &collections, &collections.rooms, by_id, new).await?;

        let joined = NewEvent {
            author: Author::from(&user),
            kind: EventKind::Joined,
            nonce: Some(Nonce::joined()),
        };
        logs.append(&room, joined).await?;

        let key = doc! { "user": user.id.to_string(), "room": room.as_str() };
        let mut new = key.clone();
        new.insert("joined_at", DateTime::now());
        let memberships = &collections.memberships;
        insert_once("enter a room", &collections, memberships, key, new).await
    });
    entering
        .await
        .map_err(|panicked| StoreError::backend("enter a room", panicked))?
}

pub(super) async fn access(
    collections: &Collections,
    room: &RoomId,
    user: &User,
) -> Result<Access, StoreError> {
    let membership = doc! { "user": user.id.to_string(), "room": room.as_str() };
    let find = || collections.memberships.find_one(membership.clone());
    if trying("look up a membership", find).await?.is_some() {
        return Ok(Access::Member);
    }
    let find = || collections.rooms.find_one(doc! { "_id": room.as_str() });
    Ok(match trying("look up a room", find).await? {
        Some(_) => Access::Outside,
        None => Access::NoRoom,
    })
}

pub(super) async fn of(
    collections: &Collections,
    user: &User,
) -> Result<Vec<RoomSummary>, StoreError> {
    let pipeline = [
        doc! { "$match": { "user": user.id.to_string() } },
        newest("room", "head", doc! {}),
        newest("room", "last", doc! { "kind": "message" }),
    ];
    let mut rooms = aggregate(&collections.memberships, pipeline)
        .await?
        .iter()
        .map(|found| {
            let room = found
                .get_str("room")
                .map_err(unreadable("read a membership"))?;
            let room = RoomId::parse(room)
                .map_err(|error| StoreError::backend("read a membership", error))?;
            let head = match first(found, "head") {
                Some(head) => log::seq_from(head)?,
                None => 0,
            };
            let last = first(found, "last").map(log::event_from).transpose()?;
            Ok(RoomSummary { room, head, last })
        })
        .collect::<Result<Vec<_>, StoreError>>()?;
    newest_first(&mut rooms);
    Ok(rooms)
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
        .map(|(room, head)| Ok((room, log::seq_from(head)?)))
        .collect::<Result<HashMap<_, _>, StoreError>>()?;
    Ok(rooms
        .iter()
        .map(|room| heads.get(room.as_str()).copied().unwrap_or(0))
        .collect())
}

/// Adds the newest event of the log that `room_field` names and `filter` takes, as an array of
/// one or none: a look-up in the index for each room, where grouping would read the logs.
fn newest(room_field: &str, into: &str, filter: Document) -> Document {
    doc! { "$lookup": {
        "from": "events",
        "localField": room_field,
        "foreignField": "room",
        "pipeline": [ { "$match": filter }, { "$sort": { "seq": -1 } }, { "$limit": 1 } ],
        "as": into,
    } }
}

async fn aggregate<const N: usize>(
    collection: &Collection<Document>,
    pipeline: [Document; N],
) -> Result<Vec<Document>, StoreError> {
    trying("list rooms", || async {
        let found = collection.aggregate(pipeline.clone());
        found.await?.try_collect().await
    })
    .await
}

fn first<'a>(document: &'a Document, array: &str) -> Option<&'a Document> {
    document
        .get_array(array)
        .ok()?
        .first()
        .and_then(Bson::as_document)
}
