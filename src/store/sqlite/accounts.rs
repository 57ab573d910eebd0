//! Accounts: the table of users.

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::SqliteStore;
use crate::domain::{Account, Email, Login, NewUser, Timestamp, User, UserId, Username};
use crate::store::{Accounts, StoreError, UserField};

pub(super) fn add(connection: &Connection, new: &NewUser) -> Result<(), StoreError> {
    let username = &new.user.username;
    let added = connection
        .prepare_cached(
            "INSERT INTO users (id, username, username_key, username_shape, email, email_key,
                                password_hash, created_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        )
        .and_then(|mut insert| {
            insert.execute(params![
                new.user.id.to_string(),
                username.as_str(),
                username.key(),
                username.shape(),
                new.email.as_str(),
                new.email.key(),
                new.password_hash,
                Timestamp::now().as_millis(),
            ])
        });
    match added {
        Ok(_) => Ok(()),
        // SQLite names the column of the index that refused.
        Err(rusqlite::Error::SqliteFailure(_, Some(says))) if says.contains("users.username_") => {
            Err(StoreError::Taken(UserField::Username))
        }
        Err(rusqlite::Error::SqliteFailure(_, Some(says))) if says.contains("users.email_key") => {
            Err(StoreError::Taken(UserField::Email))
        }
        Err(error) => Err(StoreError::backend("add a user", error)),
    }
}

/// Gives addresses beyond ASCII the key of this version, under which all spellings of a domain are one.
/// One that two accounts would share stays with whoever has it.
pub(super) fn renew_email_keys(connection: &Connection) -> rusqlite::Result<()> {
    let mut beyond_ascii =
        connection.prepare("SELECT id, email FROM users WHERE email_key GLOB '*[^ -~]*'")?;
    let found = beyond_ascii.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    for (id, email) in found.collect::<rusqlite::Result<Vec<(String, String)>>>()? {
        connection.execute(
            "UPDATE OR IGNORE users SET email_key = ?2 WHERE id = ?1",
            params![id, Email::stored(&email).key()],
        )?;
    }
    Ok(())
}

pub(super) fn find_account(
    connection: &Connection,
    login: &Login,
) -> rusqlite::Result<Option<Account>> {
    let (select, key) = match login {
        Login::Email(key) => (
            "SELECT id, username, password_hash FROM users WHERE email_key = ?1",
            key,
        ),
        Login::Username(key) => (
            "SELECT id, username, password_hash FROM users WHERE username_key = ?1",
            key,
        ),
    };
    connection
        .prepare_cached(select)?
        .query_row([key], |row| {
            Ok(Account {
                user: user_from(row)?,
                password_hash: row.get("password_hash")?,
            })
        })
        .optional()
}

/// From the columns `id` and `username`.
pub(super) fn user_from(row: &Row<'_>) -> rusqlite::Result<User> {
    Ok(User {
        id: id_from(row, "id")?,
        username: Username::stored(row.get_ref("username")?.as_str()?),
    })
}

/// From a column that holds a user's id as text.
pub(super) fn id_from(row: &Row<'_>, column: &str) -> rusqlite::Result<UserId> {
    UserId::parse(row.get_ref(column)?.as_str()?).map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(0, rusqlite::types::Type::Text, Box::new(error))
    })
}

#[async_trait]
impl Accounts for SqliteStore {
    async fn add_user(&self, user: NewUser) -> Result<(), StoreError> {
        self.writer
            .write("add a user", move |connection, _| add(connection, &user))
            .await
    }

    async fn find_account(&self, login: &Login) -> Result<Option<Account>, StoreError> {
        let login = login.clone();
        self.readers
            .read("find an account", move |connection| {
                find_account(connection, &login)
            })
            .await
    }
}
