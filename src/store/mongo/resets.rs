//! Resets: a collection of them, by the hash of their secret.

use async_trait::async_trait;
use mongodb::bson::{DateTime, Document, doc};
use mongodb::options::ReadConcern;
use tokio::time::Instant;

use super::collections::{Collections, find_linearizable, insert_once};
use super::errors::unreadable;
use super::retry::{Backoff, attempt, retry};
use super::{MongoStore, accounts};
use crate::domain::{Reset, SessionId, Timestamp, User, UserId};
use crate::store::{Resets, Sessions, StoreError, deadline};

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

/// The end of a reset and the new password are one transaction. Where its answer is lost, the password says whether it
/// was done: nobody else knows this hash.
async fn spend(
    collections: &Collections,
    secret_hash: &str,
    password_hash: &str,
) -> Result<Option<UserId>, StoreError> {
    let Some(user) = find(collections, secret_hash).await? else {
        return Ok(None);
    };
    let once = || async {
        let mut session = collections.database.client().start_session().await?;
        session
            .start_transaction()
            .read_concern(ReadConcern::snapshot())
            .await?;
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
        let by_id = doc! { "_id": user.to_string() };
        let set = doc! { "$set": { "password_hash": password_hash } };
        let update = collections.users.update_one(by_id, set);
        update.session(&mut session).await?;
        session.commit_transaction().await?;
        Ok(true)
    };
    let mut backoff = Backoff::new();
    let until = deadline::current();
    loop {
        let failed = match attempt(SPEND, once()).await {
            Ok(true) => return Ok(Some(user)),
            Ok(false) => {
                let account = accounts::by_id(collections, user).await?;
                let is_ours = account.is_some_and(|it| it.password_hash == password_hash);
                return Ok(is_ours.then_some(user));
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
        let collections = self.collections.clone();
        let (secret_hash, hash) = (secret_hash.to_owned(), password_hash.to_owned());
        // A task, because a client that hangs up drops its handler, not what it began.
        let spending = tokio::spawn(async move { spend(&collections, &secret_hash, &hash).await });
        let spent = spending
            .await
            .map_err(|panicked| StoreError::backend(SPEND, panicked))??;
        let Some(user) = spent else {
            return Ok(None);
        };
        // Again, which does no harm, and ends all sessions: none of them has this new id.
        self.set_password(user, password_hash.to_owned(), SessionId::new())
            .await?;
        let account = accounts::by_id(&self.collections, user).await?;
        Ok(account.map(|account| account.user))
    }
}
