//! How memberships begin and end, and whether there is one.

use std::collections::HashMap;

use mongodb::bson::{DateTime, Document, doc};
use tokio_stream::StreamExt;

use super::batch_loader::BATCH_MAX;
use super::collections::{Collections, find_linearizable, insert_once};
use super::event_document;
use super::log_writer::Logs;
use super::membership_document::{JOINING, LEAVING, is_member, of_members, read_from};
use super::read_marks::ReadMark;
use super::retry::{attempt, retry};
use crate::domain::{Author, MembershipId, NewEvent, NewKind, Nonce, RoomId, Seq, User, UserId};
use crate::store::{Access, ROOMS_PER_USER_MAX, StoreError};

/// The operations' names in errors.
const JOIN: &str = "join a room";
const LEAVE: &str = "leave a room";

/// Four writes, each of which may be repeated, in an order that leaves nothing half done that joining
/// again would not finish: the room, a membership that is still [`JOINING`], its event, and the
/// membership as it stays. Nodes that do this at the same time share the membership's id, so they append
/// one event. Answers how far the user has read the room by having joined it: nothing, who was a member.
pub(super) async fn join(
    collections: &Collections,
    logs: &Logs,
    room: &RoomId,
    user: &User,
) -> Result<ReadMark, StoreError> {
    let mut mark = ReadMark {
        user: user.id,
        room: room.clone(),
        seq: 0,
        messages: 0,
    };
    if let Access::Member { .. } = access(collections, room, user).await? {
        return Ok(mark);
    }
    let own = doc! { "user": user.id.to_string() };
    if count(collections, own.clone()).await? >= ROOMS_PER_USER_MAX as u64 {
        // Some may be about to end. The keys alone, which are counted first, don't say that.
        if count(collections, of_members(own)).await? >= ROOMS_PER_USER_MAX as u64 {
            return Err(StoreError::TooManyRooms);
        }
    }
    // A task, because a client that hangs up drops its handler, not what it began.
    let (collections, logs) = (collections.clone(), logs.clone());
    let (room, user) = (room.clone(), user.clone());
    let entering = tokio::spawn(async move {
        let new = doc! { "_id": room.as_str(), "created_at": DateTime::now() };
        let by_id = doc! { "_id": room.as_str() };
        insert_once("make a room", &collections.rooms, by_id, new).await?;

        let memberships = &collections.memberships;
        let key = doc! { "user": user.id.to_string(), "room": room.as_str() };
        let mut new = key.clone();
        new.insert(JOINING, MembershipId::new().to_string());
        insert_once(JOIN, memberships, key.clone(), new).await?;
        let begun = end_begun(&collections, &logs, &room, &user).await?;
        let Some(id) = begun.as_ref().and_then(|begun| begun.get_str(JOINING).ok()) else {
            // Another node has finished it, or the user has left already.
            return Ok(mark);
        };
        let id = MembershipId::parse(id).map_err(|error| StoreError::backend(JOIN, error))?;

        let joined = NewEvent {
            author: Author::from(&user),
            kind: NewKind::Joined,
            nonce: Some(Nonce::joined(id)),
        };
        let joined = logs.append(&room, joined).await?;

        let mut begun = key;
        begun.insert(JOINING, id.to_string());
        // Earlier messages are history to them.
        (mark.seq, mark.messages) = (joined.event().seq, joined.event().messages);
        let mut fields = mark.fields();
        fields.insert("joined_at", DateTime::now());
        fields.insert("joined", event_document::signed(mark.seq));
        let finish = doc! { "$set": fields, "$unset": { JOINING: "" } };
        retry(JOIN, || {
            memberships.update_one(begun.clone(), finish.clone())
        })
        .await
        .map(|_| mark)
    });
    entering
        .await
        .map_err(|panicked| StoreError::backend(JOIN, panicked))?
}

async fn count(collections: &Collections, filter: Document) -> Result<u64, StoreError> {
    let count = || collections.memberships.count_documents(filter.clone());
    retry("count memberships", count).await
}

/// The membership as it stands once one that was about to end has ended, and another is begun in its place.
async fn end_begun(
    collections: &Collections,
    logs: &Logs,
    room: &RoomId,
    user: &User,
) -> Result<Option<Document>, StoreError> {
    let key = doc! { "user": user.id.to_string(), "room": room.as_str() };
    loop {
        let begun = find_linearizable(JOIN, &collections.memberships, key.clone()).await?;
        let leaving = begun.as_ref().and_then(|begun| begun.get_str(LEAVING).ok());
        let Some(leaving) = leaving else {
            return Ok(begun);
        };
        finish_leaving(collections, logs, room, user, leaving).await?;
        let mut new = key.clone();
        new.insert(JOINING, MembershipId::new().to_string());
        insert_once(JOIN, &collections.memberships, key.clone(), new).await?;
    }
}

/// Appends the event of a membership that is [`LEAVING`] by this id, and ends it.
async fn finish_leaving(
    collections: &Collections,
    logs: &Logs,
    room: &RoomId,
    user: &User,
    id: &str,
) -> Result<Seq, StoreError> {
    let ended = doc! { "user": user.id.to_string(), "room": room.as_str(), LEAVING: id };
    let id = MembershipId::parse(id).map_err(|error| StoreError::backend(LEAVE, error))?;
    let left = NewEvent {
        author: Author::from(user),
        kind: NewKind::Left,
        nonce: Some(Nonce::left(id)),
    };
    let left = logs.append(room, left).await?;
    let end = || collections.memberships.delete_one(ended.clone());
    retry(LEAVE, end).await?;
    Ok(left.event().seq)
}

/// Three writes, each of which may be repeated: the membership that is [`LEAVING`], its event, and the
/// membership's end. Where a node dies between them, leaving again, or joining, finishes it.
pub(super) async fn leave(
    collections: &Collections,
    logs: &Logs,
    room: &RoomId,
    user: &User,
) -> Result<Seq, StoreError> {
    let (collections, logs) = (collections.clone(), logs.clone());
    let (room, user) = (room.clone(), user.clone());
    let leaving = tokio::spawn(async move {
        let memberships = &collections.memberships;
        let key = doc! { "user": user.id.to_string(), "room": room.as_str() };
        let mark = doc! { "$set": { LEAVING: MembershipId::new().to_string() } };
        let members = of_members(key.clone());
        retry(LEAVE, || {
            memberships.update_one(members.clone(), mark.clone())
        })
        .await?;
        let found = find_linearizable(LEAVE, memberships, key.clone()).await?;
        let Some(id) = found.as_ref().and_then(|found| found.get_str(LEAVING).ok()) else {
            // They were no member, or another node has finished it.
            return Ok(0);
        };
        finish_leaving(&collections, &logs, &room, &user, id).await
    });
    leaving
        .await
        .map_err(|panicked| StoreError::backend(LEAVE, panicked))?
}

pub(super) async fn access(
    collections: &Collections,
    room: &RoomId,
    user: &User,
) -> Result<Access, StoreError> {
    let membership = doc! { "user": user.id.to_string(), "room": room.as_str() };
    let find = || collections.memberships.find_one(membership.clone());
    if let Some(membership) = retry("look up a membership", find).await?
        && is_member(&membership)
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
        if !is_member(membership) {
            return None;
        }
        let user = UserId::parse(membership.get_str("user").ok()?).ok()?;
        let room = RoomId::parse(membership.get_str("room").ok()?).ok()?;
        Some(((user, room), read_from(membership)))
    };
    Ok(found.iter().filter_map(member).collect())
}
