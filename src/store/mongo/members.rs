//! The members of a room, by name.

use std::collections::HashSet;

use async_trait::async_trait;
use mongodb::bson::{Document, doc};
use tokio_stream::StreamExt;

use super::batch_loader::BATCH_MAX;
use super::collections::Collections;
use super::membership_document::of_members;
use super::memberships::find_members;
use super::retry::retry;
use super::{MongoStore, accounts};
use crate::domain::{RoomId, User, UserId};
use crate::store::{LOOKED_THROUGH, Members, StoreError};

const OPERATION: &str = "look up members";

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
