//! Resets: a collection of them, by the hash of their secret.

use async_trait::async_trait;
use mongodb::bson::{DateTime, Document, doc};
use tokio::time::Instant;

use super::collections::{Collections, find_linearizable, insert_once};
use super::erasure::ERASED;
use super::errors::unreadable;
use super::log_writer::Logs;
use super::retry::{Backoff, attempt, retry};
use super::transaction::begin;
use super::{MongoStore, accounts, sessions};
use crate::domain::{Reset, Timestamp, User, UserId};
use crate::store::task::in_task;
use crate::store::{Change, Resets, StoreError, deadline};

const SPEND: &str = "reset a password";

async fn add(collections: &Collections, reset: &Reset) -> Result<(), StoreError> {
    let earlier = doc! { "user": reset.user.to_string(), "_id": { "$ne": &reset.secret_hash } };
    let delete = || collections.resets.delete_many(earlier.clone());
    retry("add a reset", delete).await?;
    let new = doc! {
        "_id": &reset.secret_hash,
        "user": reset.user.to_string(),
        "expires_at": DateTime::from_millis(reset.expires_at.as_millis()),
    };
    let by_id = doc! { "_id": &reset.secret_hash };
    insert_once("add a reset", &collections.resets, by_id, new).await
}

async fn find(collections: &Collections, secret_hash: &str) -> Result<Option<UserId>, StoreError> {
    let by_id = doc! { "_id": secret_hash };
    let found = find_linearizable("find a reset", &collections.resets, by_id).await?;
    found.as_ref().map_or(Ok(None), user_from)
}

/// The user it belongs to; `None` once it is over, as MongoDB deletes it a little later.
fn user_from(reset: &Document) -> Result<Option<UserId>, StoreError> {
    let missing = unreadable("read a reset");
    let at = reset.get_datetime("expires_at").map_err(&missing)?;
    if at.timestamp_millis() <= Timestamp::now().as_millis() {
        return Ok(None);
    }
    let user = UserId::parse(reset.get_str("user").map_err(&missing)?);
    user.map(Some)
        .map_err(|error| StoreError::backend("read a reset", error))
}

/// The end of a reset, the new password and the end of all sessions are one transaction. Where its answer is lost, the
/// password says whether it was done: nobody else knows this hash.
async fn spend(
    collections: &Collections,
    logs: &Logs,
    secret_hash: &str,
    password_hash: &str,
) -> Result<Option<UserId>, StoreError> {
    let Some(user) = find(collections, secret_hash).await? else {
        return Ok(None);
    };
    let ended = sessions::ids_of(collections, user).await?;
    if !replace_password(collections, user, secret_hash, password_hash).await? {
        return Ok(None);
    }
    for id in ended {
        logs.tell(Change::SessionRevoked(id));
    }
    // A sign-in with the old password may have been under way.
    sessions::revoke_all(collections, logs, user, None).await?;
    Ok(Some(user))
}

async fn replace_password(
    collections: &Collections,
    user: UserId,
    secret_hash: &str,
    password_hash: &str,
) -> Result<bool, StoreError> {
    let once = || async {
        let mut session = begin(collections).await?;
        let by_id = doc! { "_id": secret_hash };
        let spent = collections
            .resets
            .delete_one(by_id)
            .session(&mut session)
            .await?;
        if spent.deleted_count == 0 {
            session.abort_transaction().await?;
            return Ok(false);
        }
        let by_id = doc! { "_id": user.to_string(), ERASED: { "$exists": false } };
        let set = doc! { "$set": { "password_hash": password_hash } };
        let update = collections.users.update_one(by_id, set);
        update.session(&mut session).await?;
        sessions::revoke_in(collections, user, &mut session).await?;
        session.commit_transaction().await?;
        Ok(true)
    };
    let mut backoff = Backoff::new();
    let until = deadline::current();
    loop {
        let failed = match attempt(SPEND, once()).await {
            Ok(true) => return Ok(true),
            Ok(false) => {
                let account = accounts::by_id(collections, user).await?;
                return Ok(account.is_some_and(|it| it.password_hash == password_hash));
            }
            Err(failed) => failed,
        };
        if Instant::now() >= until {
            return Err(failed);
        }
        backoff.pause().await;
    }
}

#[async_trait]
impl Resets for MongoStore {
    async fn add_reset(&self, reset: Reset) -> Result<(), StoreError> {
        add(&self.collections, &reset).await
    }

    async fn reset_for(&self, secret_hash: &str) -> Result<Option<User>, StoreError> {
        let Some(user) = find(&self.collections, secret_hash).await? else {
            return Ok(None);
        };
        let account = accounts::by_id(&self.collections, user).await?;
        Ok(account.map(|account| account.user))
    }

    async fn spend_reset(
        &self,
        secret_hash: &str,
        password_hash: &str,
    ) -> Result<Option<User>, StoreError> {
        let (collections, logs) = (self.collections.clone(), self.logs.clone());
        let (secret_hash, hash) = (secret_hash.to_owned(), password_hash.to_owned());
        let spent = in_task(SPEND, async move {
            spend(&collections, &logs, &secret_hash, &hash).await
        });
        let Some(user) = spent.await? else {
            return Ok(None);
        };
        let account = accounts::by_id(&self.collections, user).await?;
        Ok(account.map(|account| account.user))
    }
}
