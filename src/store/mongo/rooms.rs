//! A user's rooms, and the lobby.

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use mongodb::bson::{Document, doc};
use tokio_stream::StreamExt;

use super::collections::Collections;
use super::errors::unreadable;
use super::membership_document::{JOINING, LEAVING, is_member, read_from};
use super::memberships::{access, join, leave};
use super::read_marks::{ReadMark, mark_read};
use super::retry::retry;
use super::{MongoStore, log_ends, mentions};
use crate::domain::{RoomId, RoomSummary, Seq, User, UserId};
use crate::store::cache::{CachedList, LogEnd, Membership};
use crate::store::{
    Access, Change, Freshness, ROOMS_PER_USER_MAX, Rooms, StoreError, newest_first,
};

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
