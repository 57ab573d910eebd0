//! Blocks: a collection of pairs.

use async_trait::async_trait;
use mongodb::bson::{DateTime, Document, doc};
use tokio_stream::StreamExt;

use super::collections::{Collections, insert_once};
use super::retry::retry;
use super::{MongoStore, accounts};
use crate::domain::{User, UserId};
use crate::store::{BLOCKS_PER_USER_MAX, Blocks, StoreError};

const LIST: &str = "list who is blocked";

/// The key of a pair.
pub(super) fn key(by: &str, whom: &str) -> String {
    format!("{by} {whom}")
}

async fn blocked_by(collections: &Collections, by: UserId) -> Result<Vec<User>, StoreError> {
    let own = doc! { "user": by.to_string() };
    let found = retry(LIST, || async {
        let found = collections.blocks.find(own.clone());
        let found = found.limit(BLOCKS_PER_USER_MAX as i64).await?;
        found.collect::<Result<Vec<Document>, _>>().await
    });
    let found = found.await?;
    let ids = found
        .iter()
        .filter_map(|block| block.get_str("blocked").ok());
    let among = doc! { "_id": { "$in": ids.collect::<Vec<_>>() } };
    let users = retry(LIST, || async {
        let users = collections.users.find(among.clone());
        let users = users.sort(doc! { "username_key": 1 }).await?;
        users.collect::<Result<Vec<Document>, _>>().await
    });
    users.await?.iter().map(accounts::user_from).collect()
}

#[async_trait]
impl Blocks for MongoStore {
    async fn set_block(&self, by: UserId, whom: UserId, is_on: bool) -> Result<(), StoreError> {
        let blocks = &self.collections.blocks;
        let (by, whom) = (by.to_string(), whom.to_string());
        let by_id = doc! { "_id": key(&by, &whom) };
        if is_on {
            let mut new = by_id.clone();
            new.extend(doc! { "user": by, "blocked": whom, "at": DateTime::now() });
            return insert_once("block somebody", blocks, by_id, new).await;
        }
        let delete = || blocks.delete_one(by_id.clone());
        retry("block somebody no longer", delete).await.map(drop)
    }

    async fn blocked_by(&self, by: UserId) -> Result<Vec<User>, StoreError> {
        blocked_by(&self.collections, by).await
    }

    async fn blocking(&self, people: &[UserId], whom: UserId) -> Result<Vec<UserId>, StoreError> {
        let whom = whom.to_string();
        let keys = people.iter().map(|user| key(&user.to_string(), &whom));
        let among = doc! { "_id": { "$in": keys.collect::<Vec<_>>() } };
        let found = retry("look for blocks", || async {
            let found = self.collections.blocks.find(among.clone()).await?;
            found.collect::<Result<Vec<Document>, _>>().await
        });
        let id = |block: &Document| UserId::parse(block.get_str("user").ok()?).ok();
        Ok(found.await?.iter().filter_map(id).collect())
    }
}
