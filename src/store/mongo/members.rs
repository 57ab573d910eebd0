//! The members of a room, by name.

use std::collections::HashSet;

use async_trait::async_trait;
use mongodb::bson::{Bson, Document, doc};
use tokio_stream::StreamExt;

use super::collections::Collections;
use super::errors::unreadable;
use super::membership_document::JOINING;
use super::retry::retry;
use super::{MongoStore, accounts};
use crate::domain::{RoomId, User};
use crate::store::{Members, StoreError};

const OPERATION: &str = "look up members";

/// The members among users, in the order of these.
async fn members_among(
    collections: &Collections,
    room: &RoomId,
    users: Vec<User>,
) -> Result<Vec<User>, StoreError> {
    let ids: Vec<String> = users.iter().map(|user| user.id.to_string()).collect();
    let all = u32::try_from(ids.len() + 1).unwrap_or(u32::MAX);
    let filter = doc! {
        "room": room.as_str(), "user": { "$in": ids }, JOINING: { "$exists": false },
    };
    let found = retry(OPERATION, || async {
        let found = collections.memberships.find(filter.clone());
        let found = found.projection(doc! { "_id": 0, "user": 1 });
        found
            .batch_size(all)
            .await?
            .collect::<Result<Vec<Document>, _>>()
            .await
    });
    let found = found.await?;
    let members: HashSet<&str> = { found.iter() }
        .filter_map(|member| member.get_str("user").ok())
        .collect();
    let is_member = |user: &User| members.contains(user.id.to_string().as_str());
    Ok(users.into_iter().filter(is_member).collect())
}

/// Users by a condition on their keys, in the order of these.
async fn users_by_key(
    collections: &Collections,
    key: impl Into<Bson>,
    limit: usize,
) -> Result<Vec<Document>, StoreError> {
    let filter = doc! { "username_key": key.into() };
    retry(OPERATION, || async {
        let found = collections.users.find(filter.clone());
        let found = found.projection(doc! { "username": 1, "username_key": 1 });
        let found = found.sort(doc! { "username_key": 1 }).limit(limit as i64);
        found
            .batch_size(limit as u32 + 1)
            .await?
            .collect::<Result<Vec<Document>, _>>()
            .await
    })
    .await
}

async fn members_called(
    collections: &Collections,
    room: &RoomId,
    prefix: &str,
    limit: usize,
) -> Result<Vec<User>, StoreError> {
    // Others may be called so in other rooms.
    const AT_ONCE: usize = 200;
    let end = format!("{prefix}\u{10ffff}");
    let mut range = doc! { "$gte": prefix, "$lt": &end };
    let mut members = Vec::new();
    loop {
        let found = users_by_key(collections, range, AT_ONCE).await?;
        let users = found.iter().map(accounts::user_from);
        let users = users.collect::<Result<_, _>>()?;
        members.extend(members_among(collections, room, users).await?);
        members.truncate(limit);
        let Some(last) = found.get(AT_ONCE - 1) else {
            return Ok(members);
        };
        if members.len() == limit {
            return Ok(members);
        }
        let last = last
            .get_str("username_key")
            .map_err(unreadable(OPERATION))?;
        range = doc! { "$gt": last, "$lt": &end };
    }
}

#[async_trait]
impl Members for MongoStore {
    async fn members_named(
        &self,
        room: &RoomId,
        keys: Vec<String>,
    ) -> Result<Vec<User>, StoreError> {
        let most = keys.len();
        let found = users_by_key(&self.collections, doc! { "$in": keys }, most).await?;
        let users = found.iter().map(accounts::user_from);
        members_among(&self.collections, room, users.collect::<Result<_, _>>()?).await
    }

    async fn members_called(
        &self,
        room: &RoomId,
        prefix: String,
        limit: usize,
    ) -> Result<Vec<User>, StoreError> {
        members_called(&self.collections, room, &prefix, limit).await
    }

    async fn count_members(&self, room: &RoomId) -> Result<u64, StoreError> {
        let members = doc! { "room": room.as_str(), JOINING: { "$exists": false } };
        let count = || {
            self.collections
                .memberships
                .count_documents(members.clone())
        };
        retry(OPERATION, count).await
    }
}
