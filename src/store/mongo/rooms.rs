//! Rooms and memberships.

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use mongodb::bson::{DateTime, Document, doc};
use tokio_stream::StreamExt;

use super::batch_loader::BATCH_MAX;
use super::collections::{Collections, find_linearizable, insert_once};
use super::errors::unreadable;
use super::log_writer::Logs;
use super::membership_document::{JOINING, LEAVING, is_member, of_members, read_from};
use super::retry::{attempt, retry};
use super::{MongoStore, event_document, log_ends, mentions};
use crate::domain::{
    Author, MembershipId, NewEvent, NewKind, Nonce, RoomId, RoomSummary, Seq, User, UserId,
};
use crate::store::cache::{CachedList, Durable, LogEnd, Membership};
use crate::store::{
    Access, Change, Freshness, ROOMS_PER_USER_MAX, Rooms, StoreError, newest_first,
};

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

/// How far somebody has read a room: the field of a membership that is written whenever `read` is. Of an
/// update the change stream tells what was set, so this says whose it is; and it saves looking up how many
/// messages that are.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ReadMark {
    user: UserId,
    room: RoomId,
    seq: Seq,
    messages: u64,
}

impl ReadMark {
    const FIELD: &str = "read_mark";

    /// The one among these fields.
    pub(super) fn of(fields: &Document) -> Option<Self> {
        let mut parts = fields.get_str(Self::FIELD).ok()?.split(' ');
        Some(Self {
            user: UserId::parse(parts.next()?).ok()?,
            room: RoomId::parse(parts.next()?).ok()?,
            seq: parts.next()?.parse().ok()?,
            messages: parts.next()?.parse().ok()?,
        })
    }

    fn fields(&self) -> Document {
        let Self {
            user,
            room,
            seq,
            messages,
        } = self;
        doc! {
            "read": event_document::signed(*seq),
            Self::FIELD: format!("{user} {room} {seq} {messages}"),
        }
    }
}

impl From<ReadMark> for Durable {
    fn from(mark: ReadMark) -> Self {
        Self::Read {
            room: mark.room,
            user: mark.user,
            seq: mark.seq,
            messages: mark.messages,
        }
    }
}

/// Answers what is so now, if that is more than it was.
pub(super) async fn mark_read(
    collections: &Collections,
    room: &RoomId,
    user: &User,
    seq: Seq,
) -> Result<Option<Durable>, StoreError> {
    let up_to = doc! { "room": room.as_str(), "seq": { "$lte": event_document::signed(seq) } };
    let find = || {
        let newest = collections.events.find_one(up_to.clone());
        newest
            .sort(doc! { "seq": -1 })
            .projection(doc! { "_id": 0, "seq": 1, "messages": 1 })
    };
    let Some(event) = retry("mark as read", find).await? else {
        return Ok(None);
    };
    let mark = ReadMark {
        user: user.id,
        room: room.clone(),
        seq: event_document::seq_from(&event)?,
        messages: event.get_i64("messages").map_or(0, i64::unsigned_abs),
    };
    // It never goes back.
    let own = doc! {
        "user": user.id.to_string(),
        "room": room.as_str(),
        "read": { "$not": { "$gte": event_document::signed(mark.seq) } },
    };
    let read = doc! { "$set": mark.fields() };
    let update = || {
        collections
            .memberships
            .update_one(own.clone(), read.clone())
    };
    let updated = retry("mark as read", update).await?;
    Ok((updated.modified_count > 0).then(|| mark.into()))
}

/// The memberships of `user`, by room.
pub(super) async fn memberships(
    collections: &Collections,
    user: UserId,
) -> Result<Vec<Membership>, StoreError> {
    const OPERATION: &str = "list the rooms";
    let own = doc! { "user": user.to_string() };
    let fields =
        doc! { "_id": 0, "room": 1, "read": 1, ReadMark::FIELD: 1, JOINING: 1, LEAVING: 1 };
    let found = retry(OPERATION, || async {
        let found = collections.memberships.find(own.clone());
        let found = found
            .sort(doc! { "user": 1, "room": 1 })
            .projection(fields.clone());
        let found = found.batch_size(ROOMS_PER_USER_MAX as u32).await?;
        found.collect::<Result<Vec<Document>, _>>().await
    });
    let mut memberships = Vec::new();
    // Read to a place whose messages nobody has noted: by a version before this one.
    let mut uncounted = Vec::new();
    for membership in found.await?.iter().filter(|found| is_member(found)) {
        let room = membership.get_str("room").map_err(unreadable(OPERATION))?;
        let room = RoomId::parse(room).map_err(|error| StoreError::backend(OPERATION, error))?;
        let read = read_from(membership);
        let mark = ReadMark::of(membership).filter(|mark| mark.seq == read);
        if mark.is_none() && read > 0 {
            uncounted.push((room.clone(), read));
        }
        memberships.push(Membership {
            room,
            read,
            read_messages: mark.map_or(0, |mark| mark.messages),
            mentions: Vec::new(),
        });
    }
    let counted = log_ends::events_at(collections, &uncounted).await?;
    for membership in &mut memberships {
        if let Some(event) = counted.get(&membership.room) {
            membership.read_messages = event.messages;
        }
    }
    let mut unread: HashMap<RoomId, Vec<Seq>> = HashMap::new();
    for place in mentions::unread(collections, user, None).await? {
        unread.entry(place.room).or_default().push(place.seq);
    }
    for membership in &mut memberships {
        if let Some(mut mentions) = unread.remove(&membership.room) {
            mentions.sort_unstable();
            membership.mentions = mentions;
        }
    }
    Ok(memberships)
}

/// The lobby, read all at once.
pub(super) async fn of(
    collections: &Collections,
    user: UserId,
) -> Result<Vec<RoomSummary>, StoreError> {
    let memberships = memberships(collections, user).await?;
    let rooms: Vec<RoomId> = { memberships.iter() }
        .map(|membership| membership.room.clone())
        .collect();
    let mut ends: HashMap<RoomId, LogEnd> = { log_ends::ends(collections, &rooms).await? }
        .into_iter()
        .collect();
    let mut summaries: Vec<RoomSummary> = { memberships.into_iter() }
        .map(|membership| {
            let end = ends.remove(&membership.room).unwrap_or_default();
            RoomSummary {
                head: end.head,
                last: end.last_message,
                unread: end.messages.saturating_sub(membership.read_messages),
                mentions: membership.mentions.len(),
                room: membership.room,
            }
        })
        .collect();
    newest_first(&mut summaries);
    Ok(summaries)
}

/// Whether a list is new enough.
fn has_seen(list: &[RoomSummary], freshness: &Freshness) -> bool {
    let Freshness::Seen(seen) = freshness else {
        return false;
    };
    let mut rooms = seen.rooms();
    rooms.all(|seen| {
        let listed = list.iter().find(|listed| listed.room == *seen);
        listed.is_some_and(|listed| freshness.allows(seen, listed.head))
    })
}

#[async_trait]
impl Rooms for MongoStore {
    async fn join(&self, room: &RoomId, user: &User) -> Result<Seq, StoreError> {
        let mark = join(&self.collections, &self.logs, room, user).await?;
        let seq = mark.seq;
        self.cache.apply(&mark.into());
        Ok(seq)
    }

    async fn leave(&self, room: &RoomId, user: &User) -> Result<Seq, StoreError> {
        let left = leave(&self.collections, &self.logs, room, user).await?;
        // Another node may have done it, of which this one hears later.
        self.cache.forget_user(user.id);
        self.logs.tell(Change::Resync);
        Ok(left)
    }

    async fn access(&self, room: &RoomId, user: &User) -> Result<Access, StoreError> {
        if let Some(cache) = self.trusted_cache() {
            if let Some(read) = cache.read_by(user.id, room) {
                return Ok(Access::Member { read });
            }
            if !cache.knows(user.id) {
                let token = cache.token();
                let memberships = memberships(&self.collections, user.id).await?;
                let member = memberships.iter().find(|member| member.room == *room);
                let read = member.map(|member| member.read);
                cache.keep_memberships(&token, user.id, memberships);
                if let Some(read) = read {
                    return Ok(Access::Member { read });
                }
            }
        }
        // Somebody may have joined elsewhere a moment ago: that they are no member is read.
        match self.members.find((user.id, room.clone())).await {
            Some(read) => Ok(Access::Member { read }),
            None => access(&self.collections, room, user).await,
        }
    }

    async fn rooms_of(
        &self,
        user: &User,
        freshness: &Freshness,
    ) -> Result<Arc<[RoomSummary]>, StoreError> {
        if let Some(cache) = self.trusted_cache() {
            // Once to know which, once to know their ends, and once more if one of them has changed.
            for _ in 0..4 {
                let token = cache.token();
                match cache.rooms_of(user.id) {
                    CachedList::List(list) => {
                        if has_seen(&list, freshness) {
                            return Ok(list);
                        }
                        break;
                    }
                    CachedList::Nothing => {
                        let read = memberships(&self.collections, user.id).await?;
                        cache.keep_memberships(&token, user.id, read);
                    }
                    CachedList::AllBut(rooms) => {
                        let ends = log_ends::ends(&self.collections, &rooms).await?;
                        cache.keep_ends(&token, user.id, ends);
                    }
                }
            }
        }
        Ok(of(&self.collections, user.id).await?.into())
    }

    async fn mark_read(&self, room: &RoomId, user: &User, seq: Seq) -> Result<(), StoreError> {
        if let Some(read) = mark_read(&self.collections, room, user, seq).await? {
            self.cache.apply(&read);
        }
        Ok(())
    }
}
