//! Accounts: the table of users.

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::{SqliteStore, sessions};
use crate::domain::{
    Account, AccountRole, Email, KeptMessages, Login, NewUser, ProfileChange, Timestamp, User,
    UserId, Username,
};
use crate::store::cache::Durable;
use crate::store::{Accounts, Change, StoreError, UserField};

pub(super) fn add(connection: &Connection, new: &NewUser) -> Result<AccountRole, StoreError> {
    let username = &new.user.username;
    let is_first = has_no_users(connection)
        .map_err(|error| StoreError::backend("look for accounts", error))?;
    let role = if is_first {
        AccountRole::Admin
    } else {
        AccountRole::Member
    };
    let added = connection
        .prepare_cached(
            "INSERT INTO users (id, username, username_key, username_shape, email, email_key,
                                password_hash, created_at, role)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
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
                role.as_str(),
            ])
        });
    added.map_err(|error| taken("add a user", error))?;
    claim(connection, new.user.id, username)?;
    Ok(role)
}

/// SQLite names the column of the index that refused.
fn taken(operation: &'static str, error: rusqlite::Error) -> StoreError {
    let says = match &error {
        rusqlite::Error::SqliteFailure(_, Some(says)) => says.as_str(),
        _ => "",
    };
    if says.contains("users.username_") {
        StoreError::Taken(UserField::Username)
    } else if says.contains("users.email_key") {
        StoreError::Taken(UserField::Email)
    } else {
        StoreError::backend(operation, error)
    }
}

/// Makes a name somebody's for good; the error undoes what was written before.
fn claim(connection: &Connection, user: UserId, name: &Username) -> Result<(), StoreError> {
    let id = user.to_string();
    let claimed = |hash: &String| -> rusqlite::Result<bool> {
        let mut insert = connection.prepare_cached(
            "INSERT INTO names (hash, user) VALUES (?1, ?2) ON CONFLICT DO NOTHING",
        )?;
        insert.execute(params![hash, id])?;
        let mut own =
            connection.prepare_cached("SELECT 1 FROM names WHERE hash = ?1 AND user = ?2")?;
        own.exists(params![hash, id])
    };
    for hash in name.claims() {
        let is_own = claimed(&hash).map_err(|error| StoreError::backend("claim a name", error))?;
        if !is_own {
            return Err(StoreError::Taken(UserField::Username));
        }
    }
    Ok(())
}

/// Makes the names of all users theirs for good.
pub(super) fn claim_names(connection: &Connection) -> rusqlite::Result<()> {
    let mut all = connection.prepare("SELECT id, username FROM users")?;
    let all = all.query_map([], user_from)?;
    for user in all.collect::<rusqlite::Result<Vec<User>>>()? {
        put_claims(connection, &user.id.to_string(), &user.username.claims())?;
    }
    Ok(())
}

/// Keeps names as somebody's; of two who have one, it is the first's.
pub(super) fn put_claims(
    connection: &Connection,
    user: &str,
    claims: &[String],
) -> rusqlite::Result<()> {
    let mut insert = connection
        .prepare_cached("INSERT INTO names (hash, user) VALUES (?1, ?2) ON CONFLICT DO NOTHING")?;
    for hash in claims {
        insert.execute(params![hash, user])?;
    }
    Ok(())
}

fn set_profile(
    connection: &Connection,
    changes: &mut Vec<Durable>,
    user: UserId,
    change: ProfileChange,
) -> Result<bool, StoreError> {
    let is_there = connection
        .prepare_cached("SELECT 1 FROM users WHERE id = ?1 AND erased IS NULL")
        .and_then(|mut any| any.exists([user.to_string()]))
        .map_err(|error| StoreError::backend(SET_PROFILE, error))?;
    if !is_there {
        return Ok(false);
    }
    if let Some(email) = &change.email {
        set_email(connection, user, email).map_err(|error| taken(SET_PROFILE, error))?;
    }
    if let Some(username) = change.username {
        rename(connection, user, &username)?;
        let user = User { id: user, username };
        changes.push(Durable::Change(Change::Renamed(user)));
    }
    Ok(true)
}

fn set_email(connection: &Connection, user: UserId, email: &Email) -> rusqlite::Result<()> {
    let id = user.to_string();
    connection
        .prepare_cached("UPDATE users SET email = ?2, email_key = ?3 WHERE id = ?1")?
        .execute(params![id, email.as_str(), email.key()])?;
    connection
        .prepare_cached("DELETE FROM resets WHERE user = ?1")?
        .execute([id])
        .map(drop)
}

fn rename(connection: &Connection, user: UserId, name: &Username) -> Result<(), StoreError> {
    claim(connection, user, name)?;
    connection
        .prepare_cached(
            "UPDATE users SET username = ?2, username_key = ?3, username_shape = ?4 WHERE id = ?1",
        )
        .and_then(|mut update| {
            let (key, shape) = (name.key(), name.shape());
            update.execute(params![user.to_string(), name.as_str(), key, shape])
        })
        .map(drop)
        .map_err(|error| taken(SET_PROFILE, error))
}

const SET_PROFILE: &str = "change a name or an address";

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
        Login::Email(key) => ("SELECT * FROM users WHERE email_key = ?1", key),
        Login::Username(key) => ("SELECT * FROM users WHERE username_key = ?1", key),
    };
    connection
        .prepare_cached(select)?
        .query_row([key], account_from)
        .optional()
}

fn account_from(row: &Row<'_>) -> rusqlite::Result<Account> {
    Ok(Account {
        user: user_from(row)?,
        email: Email::stored(row.get_ref("email")?.as_str()?),
        role: AccountRole::stored(row.get_ref("role")?.as_str()?),
        is_deactivated: row.get::<_, Option<i64>>("deactivated_at")?.is_some(),
        password_hash: row.get("password_hash")?,
    })
}

fn has_no_users(connection: &Connection) -> rusqlite::Result<bool> {
    let mut any = connection.prepare_cached("SELECT 1 FROM users LIMIT 1")?;
    any.exists([]).map(|any| !any)
}

pub(super) fn set_role(
    connection: &Connection,
    user: UserId,
    role: AccountRole,
) -> Result<(), StoreError> {
    const OPERATION: &str = "give a role";
    let failed = |error| StoreError::backend(OPERATION, error);
    if role == AccountRole::Member {
        ensure_other_admin(connection, user)?;
    }
    connection
        .prepare_cached("UPDATE users SET role = ?2 WHERE id = ?1 AND erased IS NULL")
        .and_then(|mut update| update.execute(params![user.to_string(), role.as_str()]))
        .map_err(failed)?;
    Ok(())
}

/// Fails for the last admin who may sign in, before they are none. A store that has none may do without.
pub(super) fn ensure_other_admin(connection: &Connection, user: UserId) -> Result<(), StoreError> {
    let admins = connection
        .prepare_cached(
            "SELECT id FROM users WHERE role = 'admin' AND deactivated_at IS NULL LIMIT 2",
        )
        .and_then(|mut admins| {
            let ids = admins.query_map([], |row| id_from(row, "id"))?;
            ids.collect::<rusqlite::Result<Vec<UserId>>>()
        })
        .map_err(|error| StoreError::backend("look for an admin", error))?;
    match admins == [user] {
        true => Err(StoreError::LastAdmin),
        false => Ok(()),
    }
}

fn set_deactivated(
    connection: &Connection,
    changes: &mut Vec<Durable>,
    user: UserId,
    is_on: bool,
) -> Result<(), StoreError> {
    let failed = |error| StoreError::backend(DEACTIVATE, error);
    let at = is_on.then(|| Timestamp::now().as_millis());
    if is_on {
        ensure_other_admin(connection, user)?;
    }
    connection
        .prepare_cached("UPDATE users SET deactivated_at = ?2 WHERE id = ?1 AND erased IS NULL")
        .and_then(|mut update| update.execute(params![user.to_string(), at]))
        .map_err(failed)?;
    if !is_on {
        return Ok(());
    }
    connection
        .prepare_cached("DELETE FROM resets WHERE user = ?1")
        .and_then(|mut delete| delete.execute([user.to_string()]))
        .map_err(failed)?;
    sessions::revoke_all(connection, changes, user, None)
}

const DEACTIVATE: &str = "deactivate an account";

fn list(
    connection: &Connection,
    word: &str,
    after: &str,
    limit: usize,
) -> rusqlite::Result<Vec<Account>> {
    connection
        .prepare_cached(
            "SELECT * FROM users
             WHERE username_key > ?1 AND erased IS NULL AND (instr(username_key, ?3) OR instr(email_key, ?4))
             ORDER BY username_key LIMIT ?2",
        )?
        .query_map(
            params![after, limit as i64, Username::stored(word).key(), word.to_lowercase()],
            account_from,
        )?
        .collect()
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
    async fn has_no_users(&self) -> Result<bool, StoreError> {
        self.readers.read("look for accounts", has_no_users).await
    }

    async fn account(&self, user: UserId) -> Result<Option<Account>, StoreError> {
        self.readers
            .read("find an account", move |connection| {
                connection
                    .prepare_cached("SELECT * FROM users WHERE id = ?1")?
                    .query_row([user.to_string()], account_from)
                    .optional()
            })
            .await
    }

    async fn set_account_role(&self, user: UserId, role: AccountRole) -> Result<(), StoreError> {
        self.writer
            .write("give a role", move |connection, _| {
                set_role(connection, user, role)
            })
            .await
    }

    async fn set_profile(&self, user: UserId, change: ProfileChange) -> Result<bool, StoreError> {
        self.writer
            .write(SET_PROFILE, move |connection, changes| {
                set_profile(connection, changes, user, change)
            })
            .await
    }

    async fn erase(&self, user: UserId, messages: KeptMessages) -> Result<(), StoreError> {
        self.erase_account(user, messages).await
    }

    async fn set_deactivated(&self, user: UserId, is_on: bool) -> Result<(), StoreError> {
        self.writer
            .write(DEACTIVATE, move |connection, changes| {
                set_deactivated(connection, changes, user, is_on)
            })
            .await
    }

    async fn accounts(
        &self,
        word: String,
        after: String,
        limit: usize,
    ) -> Result<Vec<Account>, StoreError> {
        self.readers
            .read("list accounts", move |connection| {
                list(connection, &word, &after, limit)
            })
            .await
    }

    async fn add_user(&self, user: NewUser) -> Result<AccountRole, StoreError> {
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
