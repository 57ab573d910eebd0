use mongodb::bson::{DateTime, Document, doc};

use super::{Collections, bounded, duplicate_key, unreadable};
use crate::domain::{Account, Login, NewUser, User, UserId, Username};
use crate::store::{StoreError, UserField};

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
    let added = bounded("add a user", collections.users.insert_one(user)).await;
    added
        .map(drop)
        .map_err(|error| match duplicate_key(&error) {
            Some(says) if says.contains("index: username_") => {
                StoreError::Taken(UserField::Username)
            }
            Some(says) if says.contains("index: email_key") => StoreError::Taken(UserField::Email),
            _ => error,
        })
}

pub(super) async fn find_account(
    collections: &Collections,
    login: &Login,
) -> Result<Option<Account>, StoreError> {
    let by = match login {
        Login::Email(key) => doc! { "email_key": key },
        Login::Username(key) => doc! { "username_key": key },
    };
    let account = bounded("find an account", collections.users.find_one(by)).await?;
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
    Ok(User {
        id: UserId::parse(id).map_err(|error| StoreError::backend("read a user’s id", error))?,
        username: Username::stored(document.get_str("username").map_err(&missing)?),
    })
}
