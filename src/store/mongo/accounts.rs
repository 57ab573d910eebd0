//! Accounts: the collection of users.

use async_trait::async_trait;
use mongodb::bson::{DateTime, Document, doc};
use tokio_stream::StreamExt;

use super::MongoStore;
use super::collections::{Collections, find_linearizable};
use super::errors::{duplicate_key, unreadable};
use super::retry::retry;
use crate::domain::{Account, Email, Login, NewUser, User, UserId, Username};
use crate::store::{Accounts, StoreError, UserField};

pub(super) async fn add(collections: &Collections, new: &NewUser) -> Result<(), StoreError> {
    let username = &new.user.username;
    let user = doc! {
        "_id": new.user.id.to_string(),
        "username": username.as_str(),
        "username_key": username.key(),
        "username_shape": username.shape(),
        "email": new.email.as_str(),
        "email_key": new.email.key(),
        "password_hash": &new.password_hash,
        "created_at": DateTime::now(),
    };
    let add = || collections.users.insert_one(&user);
    let Err(error) = retry("add a user", add).await else {
        return Ok(());
    };
    let Some(says) = duplicate_key(&error) else {
        return Err(error);
    };
    let taken = match says.contains("index: email_key") {
        true => UserField::Email,
        false => UserField::Username,
    };
    // It may be our own, from an attempt whose answer was lost.
    let own = doc! { "_id": new.user.id.to_string() };
    match find_linearizable("find a user", &collections.users, own).await? {
        Some(_) => Ok(()),
        None => Err(StoreError::Taken(taken)),
    }
}

/// Gives addresses beyond ASCII the key of this version, under which all spellings of a domain are one.
/// One that two accounts would share stays with whoever has it. Any node may do this again.
pub(super) async fn renew_email_keys(collections: &Collections) -> anyhow::Result<()> {
    let beyond_ascii = doc! { "email_key": { "$regex": "[^\\x00-\\x7f]" } };
    let find = || async {
        let users = collections.users.find(beyond_ascii.clone()).await?;
        users.collect::<Result<Vec<_>, _>>().await
    };
    for user in retry("read the addresses", find).await? {
        let (Ok(id), Ok(email)) = (user.get_str("_id"), user.get_str("email")) else {
            continue;
        };
        let key = Email::stored(email).key();
        if user.get_str("email_key").is_ok_and(|old| old == key) {
            continue;
        }
        let update = doc! { "$set": { "email_key": key } };
        let renew = || {
            collections
                .users
                .update_one(doc! { "_id": id }, update.clone())
        };
        match retry("renew an address’s key", renew).await {
            Ok(_) => {}
            Err(error) if duplicate_key(&error).is_some() => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

pub(super) async fn find_account(
    collections: &Collections,
    login: &Login,
) -> Result<Option<Account>, StoreError> {
    let by = match login {
        Login::Email(key) => doc! { "email_key": key },
        Login::Username(key) => doc! { "username_key": key },
    };
    let find = || collections.users.find_one(by.clone());
    let account = retry("find an account", find).await?;
    account
        .map(|account| {
            let password_hash = account
                .get_str("password_hash")
                .map_err(unreadable("read an account"))?;
            Ok(Account {
                user: user_from(&account)?,
                password_hash: password_hash.to_owned(),
            })
        })
        .transpose()
}

pub(super) fn user_from(document: &Document) -> Result<User, StoreError> {
    let missing = unreadable("read a user");
    let id = document.get_str("_id").map_err(&missing)?;
    let id = UserId::parse(id).map_err(|error| StoreError::backend("read a user’s id", error))?;
    let username = document.get_str("username").map_err(&missing)?;
    Ok(user_of(id, username))
}

/// From what was stored of them.
pub(super) fn user_of(id: UserId, username: &str) -> User {
    let username = Username::stored(username);
    User { id, username }
}

#[async_trait]
impl Accounts for MongoStore {
    async fn add_user(&self, user: NewUser) -> Result<(), StoreError> {
        add(&self.collections, &user).await
    }

    async fn find_account(&self, login: &Login) -> Result<Option<Account>, StoreError> {
        find_account(&self.collections, login).await
    }
}
