//! Rooms and memberships.

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use mongodb::bson::{DateTime, Document, doc};
use tokio_stream::StreamExt;

use super::aggregate::{aggregate, first, newest};
use super::batch_loader::BATCH_MAX;
use super::collections::{Collections, find_linearizable, insert_once};
use super::errors::unreadable;
use super::log_writer::Logs;
use super::retry::{attempt, retry};
use super::{MongoStore, log};
use crate::domain::{
    Author, Event, EventKind, MembershipId, NewEvent, Nonce, RoomId, RoomSummary, Seq, User, UserId,
};
use crate::store::{Access, ROOMS_PER_USER_MAX, Rooms, StoreError, newest_first};

/// The operation's name in errors.
const JOIN: &str = "join a room";

/// A membership's field while its event is not in the log yet: its id. Its user is no member yet.
pub(super) const JOINING: &str = "joining";

/// Four writes, each of which may be repeated, in an order that leaves nothing half done that joining
/// again would not finish: the room, a membership that is still [`JOINING`], its event, and the
/// membership as it stays. Nodes that do this at the same time share the membership's id, so they append
/// one event.
pub(super) async fn join(
    collections: &Collections,
    logs: &Logs,
    room: &RoomId,
    user: &User,
) -> Result<(), StoreError> {
    if let Access::Member { .. } = access(collections, room, user).await? {
        return Ok(());
    }
    let own = doc! { "user": user.id.to_string() };
    let count = || collections.memberships.count_documents(own.clone());
    if retry("count memberships", count).await? >= ROOMS_PER_USER_MAX as u64 {
        return Err(StoreError::TooManyRooms);
    }
    // A task, because a client that hangs up drops its handler, not what it began.
    let (collections, logs) = (collections.clone(), logs.clone());
    let (room, user) = (room.clone(), user.clone());
    let entering = tokio::spawn(async move {
        let new = doc! { "_id": room.as_str(), "created_at": DateTime::now() };
        let by_id = doc! { "_id": room.as_str() };
        insert_once("make a room", &collections, &collections.rooms, by_id, new).await?;

        let memberships = &collections.memberships;
        let key = doc! { "user": user.id.to_string(), "room": room.as_str() };
        let mut new = key.clone();
        new.insert(JOINING, MembershipId::new().to_string());
        insert_once(JOIN, &collections, memberships, key.clone(), new).await?;
        let begun = find_linearizable(JOIN, &collections, memberships, key.clone()).await?;
        let Some(id) = begun.as_ref().and_then(|begun| begun.get_str(JOINING).ok()) else {
            // Another node has finished it, or the user has left already.
            return Ok(());
        };
        let id = MembershipId::parse(id).map_err(|error| StoreError::backend(JOIN, error))?;

        let joined = NewEvent {
            author: Author::from(&user),
            kind: EventKind::Joined,
            nonce: Some(Nonce::joined(id)),
        };
        let joined = logs.append(&room, joined).await?;

        let mut begun = key;
        begun.insert(JOINING, id.to_string());
        // Earlier messages are history to them.
        let read = log::signed(joined.event().seq);
        let finish = doc! {
            "$set": { "joined_at": DateTime::now(), "read": read },
            "$unset": { JOINING: "" },
        };
        retry(JOIN, || {
            memberships.update_one(begun.clone(), finish.clone())
        })
        .await
        .map(drop)
    });
    entering
        .await
        .map_err(|panicked| StoreError::backend(JOIN, panicked))?
}

pub(super) async fn access(
    collections: &Collections,
    room: &RoomId,
    user: &User,
) -> Result<Access, StoreError> {
    let membership = doc! { "user": user.id.to_string(), "room": room.as_str() };
    let find = || collections.memberships.find_one(membership.clone());
    if let Some(membership) = retry("look up a membership", find).await?
        && has_joined(&membership)
    {
        return Ok(Access::Member {
            read: read_from(&membership),
        });
    }
    let find = || collections.rooms.find_one(doc! { "_id": room.as_str() });
    Ok(match retry("look up a room", find).await? {
        Some(_) => Access::NotMember,
        None => Access::NoRoom,
    })
}

/// The pairs that are memberships, each with how far its member has read the room.
pub(super) async fn find_members(
    collections: Collections,
    asked: Vec<(UserId, RoomId)>,
) -> Result<HashMap<(UserId, RoomId), Seq>, StoreError> {
    let any: Vec<Document> = { asked.iter() }
        .map(|(user, room)| doc! { "user": user.to_string(), "room": room.as_str() })
        .collect();
    let found = attempt("look up memberships", async {
        let found = collections.memberships.find(doc! { "$or": any });
        let found = found.batch_size(BATCH_MAX).await?;
        found.collect::<Result<Vec<_>, _>>().await
    })
    .await?;
    // An unreadable document is nobody else's concern: its owner looks alone, and hears why.
    let member = |membership: &Document| {
        if !has_joined(membership) {
            return None;
        }
        let user = UserId::parse(membership.get_str("user").ok()?).ok()?;
        let room = RoomId::parse(membership.get_str("room").ok()?).ok()?;
        Some(((user, room), read_from(membership)))
    };
    Ok(found.iter().filter_map(member).collect())
}

fn has_joined(membership: &Document) -> bool {
    !membership.contains_key(JOINING)
}

/// How far a member has read; nothing, where it was never noted.
fn read_from(membership: &Document) -> Seq {
    membership.get_i64("read").map_or(0, i64::unsigned_abs)
}

pub(super) async fn mark_read(
    collections: &Collections,
    room: &RoomId,
    user: &User,
    seq: Seq,
) -> Result<(), StoreError> {
    let heads = log::heads(collections, std::slice::from_ref(room)).await?;
    let seq = seq.min(heads.first().copied().unwrap_or(0));
    let own = doc! { "user": user.id.to_string(), "room": room.as_str() };
    let read = doc! { "$max": { "read": log::signed(seq) } };
    retry("mark as read", || {
        collections
            .memberships
            .update_one(own.clone(), read.clone())
    })
    .await
    .map(drop)
}

pub(super) async fn of(
    collections: &Collections,
    user: &User,
) -> Result<Arc<[RoomSummary]>, StoreError> {
    let pipeline = [
        doc! { "$match": { "user": user.id.to_string(), JOINING: { "$exists": false } } },
        newest("room", "head", doc! {}),
        newest(
            "room",
            "last",
            doc! { "kind": "message", "body": { "$exists": true } },
        ),
        doc! { "$lookup": {
            "from": "events",
            "let": { "room": "$room", "read": { "$ifNull": ["$read", 0_i64] } },
            "pipeline": [ { "$match": { "$expr": { "$and": [
                { "$eq": ["$room", "$$room"] }, { "$eq": ["$seq", "$$read"] },
            ] } } } ],
            "as": "read_event",
        } },
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
            let newest = first(found, "head").map(log::event_from).transpose()?;
            let read = first(found, "read_event")
                .map(log::event_from)
                .transpose()?;
            let messages = |event: Option<&Event>| event.map_or(0, |event| event.messages);
            let unread = messages(newest.as_ref()).saturating_sub(messages(read.as_ref()));
            let head = newest.map_or(0, |newest| newest.seq);
            let last = first(found, "last")
                .map(log::event_from)
                .transpose()?
                .map(Arc::new);
            Ok(RoomSummary {
                room,
                head,
                last,
                unread,
            })
        })
        .collect::<Result<Vec<_>, StoreError>>()?;
    newest_first(&mut rooms);
    Ok(rooms.into())
}

#[async_trait]
impl Rooms for MongoStore {
    async fn join(&self, room: &RoomId, user: &User) -> Result<(), StoreError> {
        join(&self.collections, &self.logs, room, user).await
    }

    async fn access(&self, room: &RoomId, user: &User) -> Result<Access, StoreError> {
        match self.members.find((user.id, room.clone())).await {
            Some(read) => Ok(Access::Member { read }),
            None => access(&self.collections, room, user).await,
        }
    }

    async fn rooms_of(&self, user: &User) -> Result<Arc<[RoomSummary]>, StoreError> {
        of(&self.collections, user).await
    }

    async fn mark_read(&self, room: &RoomId, user: &User, seq: Seq) -> Result<(), StoreError> {
        mark_read(&self.collections, room, user, seq).await
    }
}
