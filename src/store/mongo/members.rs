//! The members of a room, by name.

use std::collections::{HashMap, HashSet};

use async_trait::async_trait;
use mongodb::bson::{Document, doc};
use tokio_stream::StreamExt;

use super::batch_loader::BATCH_MAX;
use super::collections::Collections;
use super::membership_document::{is_member, of_members, read_from};
use super::retry::{attempt, retry};
use super::{MongoStore, accounts};
use crate::domain::{Person, RoomId, Seq, Timestamp, User, UserId};
use crate::store::{LOOKED_THROUGH, Members, StoreError};

const OPERATION: &str = "look up members";

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
        let room = RoomId::known(membership.get_str("room").ok()?).ok()?;
        Some(((user, room), read_from(membership)))
    };
    Ok(found.iter().filter_map(member).collect())
}

/// Those of some users who are members, in their order.
async fn only_members(
    collections: &Collections,
    room: &RoomId,
    mut users: Vec<User>,
) -> Result<Vec<User>, StoreError> {
    let ids: Vec<String> = users.iter().map(|user| user.id.to_string()).collect();
    let all = u32::try_from(ids.len() + 1).unwrap_or(u32::MAX);
    let filter = of_members(doc! { "room": room.as_str(), "user": { "$in": ids } });
    let found = retry(OPERATION, || async {
        let found = collections.memberships.find(filter.clone());
        let found = found.projection(doc! { "_id": 0, "user": 1 });
        found
            .batch_size(all)
            .await?
            .collect::<Result<Vec<Document>, _>>()
            .await
    });
    let id = |member: &Document| UserId::parse(member.get_str("user").ok()?).ok();
    let members: HashSet<UserId> = found.await?.iter().filter_map(id).collect();
    users.retain(|user| members.contains(&user.id));
    Ok(users)
}

/// The people of memberships that a filter finds: at most `limit`, by their keys.
pub(super) async fn users_among(
    collections: &Collections,
    memberships: Document,
    limit: usize,
) -> Result<Vec<User>, StoreError> {
    let found = retry(OPERATION, || async {
        let found = collections.memberships.find(memberships.clone());
        let found = found.projection(doc! { "_id": 0, "user": 1 });
        let found = found.limit(LOOKED_THROUGH as i64).await?;
        found.collect::<Result<Vec<Document>, _>>().await
    });
    let id = |found: &Document| found.get_str("user").ok().map(str::to_owned);
    let ids: Vec<String> = found.await?.iter().filter_map(id).collect();
    users(collections, doc! { "_id": { "$in": ids } }, limit).await
}

/// A page of the people of a room, by their keys. In a large one they are looked through in that order.
async fn people(
    collections: &Collections,
    room: &RoomId,
    prefix: &str,
    after: &str,
    limit: usize,
) -> Result<Vec<Person>, StoreError> {
    let all = all_members(collections, room).await?;
    let (mut members, mut after) = (Vec::new(), after.to_owned());
    loop {
        let called =
            doc! { "$gte": prefix, "$lt": format!("{prefix}\u{10ffff}"), "$gt": after.as_str() };
        let mut filter = doc! { "username_key": called };
        if let Some(all) = &all {
            filter.insert("_id", doc! { "$in": all });
        }
        let most = if all.is_some() { limit } else { LOOKED_THROUGH };
        let some = users(collections, filter, most).await?;
        let is_last = all.is_some() || some.len() < most;
        if let Some(last) = some.last() {
            after = last.username.key();
        }
        members.extend(only_members(collections, room, some).await?);
        if is_last || members.len() >= limit {
            break;
        }
    }
    members.truncate(limit);
    let ids: Vec<String> = members.iter().map(|user| user.id.to_string()).collect();
    let joined = doc! { "room": room.as_str(), "user": { "$in": ids } };
    let found = retry(OPERATION, || async {
        let found = collections.memberships.find(joined.clone());
        found.await?.collect::<Result<Vec<Document>, _>>().await
    });
    let joined_at = |found: &Document| {
        let user = UserId::parse(found.get_str("user").ok()?).ok()?;
        let at = found.get_datetime("joined_at").ok()?.timestamp_millis();
        Some((user, Timestamp::from_millis(at)))
    };
    let joined_at: HashMap<UserId, Timestamp> = found.await?.iter().filter_map(joined_at).collect();
    let person = |user: User| {
        let joined_at = joined_at.get(&user.id).copied()?;
        Some(Person { user, joined_at })
    };
    Ok(members.into_iter().filter_map(person).collect())
}

/// The first users that a filter finds, by their keys.
async fn users(
    collections: &Collections,
    filter: Document,
    limit: usize,
) -> Result<Vec<User>, StoreError> {
    let found = retry(OPERATION, || async {
        let found = collections.users.find(filter.clone());
        let found = found.projection(doc! { "username": 1 });
        let found = found.sort(doc! { "username_key": 1 }).limit(limit as i64);
        found
            .batch_size(limit as u32 + 1)
            .await?
            .collect::<Result<Vec<Document>, _>>()
            .await
    });
    found.await?.iter().map(accounts::user_from).collect()
}

/// The ids of a room's members; `None` of more than are looked through.
async fn all_members(
    collections: &Collections,
    room: &RoomId,
) -> Result<Option<Vec<String>>, StoreError> {
    let members = of_members(doc! { "room": room.as_str() });
    let limit = LOOKED_THROUGH as u32 + 1;
    let found = retry(OPERATION, || async {
        let found = collections.memberships.find(members.clone());
        let found = found.projection(doc! { "_id": 0, "user": 1 });
        let found = found.limit(limit.into()).batch_size(limit + 1).await?;
        found.collect::<Result<Vec<Document>, _>>().await
    });
    let found = found.await?;
    let id = |member: &Document| member.get_str("user").ok().map(str::to_owned);
    Ok((found.len() <= LOOKED_THROUGH).then(|| found.iter().filter_map(id).collect()))
}

async fn members_called(
    collections: &Collections,
    room: &RoomId,
    prefix: &str,
    limit: usize,
) -> Result<Vec<User>, StoreError> {
    let called = doc! { "$gte": prefix, "$lt": format!("{prefix}\u{10ffff}") };
    let all = all_members(collections, room).await?;
    let (filter, most) = match &all {
        Some(members) => (
            doc! { "_id": { "$in": members }, "username_key": called },
            limit,
        ),
        None => (doc! { "username_key": called }, LOOKED_THROUGH),
    };
    let users = users(collections, filter, most).await?;
    if all.is_some() {
        return Ok(users);
    }
    let mut members = only_members(collections, room, users).await?;
    members.truncate(limit);
    Ok(members)
}

#[async_trait]
impl Members for MongoStore {
    async fn members_named(
        &self,
        room: &RoomId,
        keys: Vec<String>,
    ) -> Result<Vec<User>, StoreError> {
        let most = keys.len();
        let named = doc! { "username_key": { "$in": keys } };
        let users = users(&self.collections, named, most).await?;
        only_members(&self.collections, room, users).await
    }

    async fn members_called(
        &self,
        room: &RoomId,
        prefix: String,
        limit: usize,
    ) -> Result<Vec<User>, StoreError> {
        members_called(&self.collections, room, &prefix, limit).await
    }

    async fn people(
        &self,
        room: &RoomId,
        prefix: String,
        after: String,
        limit: usize,
    ) -> Result<Vec<Person>, StoreError> {
        people(&self.collections, room, &prefix, &after, limit).await
    }

    async fn members_among(
        &self,
        pairs: &[(RoomId, UserId)],
    ) -> Result<HashSet<(RoomId, UserId)>, StoreError> {
        let mut members = HashSet::new();
        for pairs in pairs.chunks(BATCH_MAX as usize) {
            let asked = pairs.iter().map(|(room, user)| (*user, room.clone()));
            let found = find_members(self.collections.clone(), asked.collect()).await?;
            members.extend(found.into_keys().map(|(user, room)| (room, user)));
        }
        Ok(members)
    }

    async fn count_members(&self, room: &RoomId) -> Result<u64, StoreError> {
        let members = of_members(doc! { "room": room.as_str() });
        let count = || {
            self.collections
                .memberships
                .count_documents(members.clone())
        };
        retry(OPERATION, count).await
    }
}
