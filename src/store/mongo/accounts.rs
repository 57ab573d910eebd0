//! Accounts: the collection of users.

use async_trait::async_trait;
use mongodb::bson::{Bson, DateTime, Document, doc};
use tokio::time::Instant;
use tokio_stream::StreamExt;

use super::collections::{Collections, Meta, find_linearizable};
use super::erasure::ERASED;
use super::errors::{duplicate_key, unreadable};
use super::log_writer::Logs;
use super::retry::{Backoff, attempt, retry};
use super::transaction::{begin, persist};
use super::{MongoStore, sessions};
use crate::domain::{
    Account, AccountRole, Email, KeptMessages, Login, NewUser, ProfileChange, User, UserId,
    Username,
};
use crate::store::task::in_task;
use crate::store::{Accounts, Change, StoreError, UserField, deadline};

pub(super) async fn add(
    collections: &Collections,
    new: &NewUser,
) -> Result<AccountRole, StoreError> {
    if has_no_users(collections).await?
        && let Some(role) = add_first(collections, new).await?
    {
        return Ok(role);
    }
    let add = || {
        collections
            .users
            .insert_one(document_of(new, AccountRole::Member))
    };
    let Err(error) = retry(ADD, add).await else {
        return Ok(AccountRole::Member);
    };
    let Some(says) = duplicate_key(&error) else {
        return Err(error);
    };
    let taken = taken(says);
    // It may be our own, from an attempt whose answer was lost.
    let own = doc! { "_id": new.user.id.to_string() };
    match find_linearizable("find a user", &collections.users, own).await? {
        Some(_) => Ok(AccountRole::Member),
        None => Err(StoreError::Taken(taken)),
    }
}

/// The field of an index that refused an account, by what MongoDB says of it.
pub(super) fn taken(says: &str) -> UserField {
    match says.contains("index: email_key") {
        true => UserField::Email,
        false => UserField::Username,
    }
}

const ADD: &str = "add a user";

pub(super) fn document_of(new: &NewUser, role: AccountRole) -> Document {
    let username = &new.user.username;
    doc! {
        "_id": new.user.id.to_string(),
        "username": username.as_str(),
        "username_key": username.key(),
        "username_shape": username.shape(),
        "names": username.claims().to_vec(),
        "email": new.email.as_str(),
        "email_key": new.email.key(),
        "password_hash": &new.password_hash,
        "role": role.as_str(),
        "created_at": DateTime::now(),
    }
}

/// Makes the first account, an admin's, together with a note that there is one; of those who try, one succeeds.
/// `None` when somebody was faster.
async fn add_first(
    collections: &Collections,
    new: &NewUser,
) -> Result<Option<AccountRole>, StoreError> {
    let note = || doc! { "_id": Meta::FirstAdmin.name(), "value": new.user.id.to_string() };
    let add = || async {
        let mut session = begin(collections).await?;
        collections
            .meta
            .insert_one(note())
            .session(&mut session)
            .await?;
        let document = document_of(new, AccountRole::Admin);
        collections
            .users
            .insert_one(document)
            .session(&mut session)
            .await?;
        session.commit_transaction().await
    };
    let mut backoff = Backoff::new();
    let until = deadline::current();
    loop {
        // A conflict means that somebody else is at it; an unknown end, that it may be done.
        let failed = match attempt(ADD, add()).await {
            Ok(()) => return Ok(Some(AccountRole::Admin)),
            Err(failed) => failed,
        };
        let noted = doc! { "_id": Meta::FirstAdmin.name() };
        let noted = find_linearizable(ADD, &collections.meta, noted).await?;
        if let Some(noted) = noted {
            let own = new.user.id.to_string();
            let is_own = noted.get_str("value").is_ok_and(|first| first == own);
            return Ok(is_own.then_some(AccountRole::Admin));
        }
        if Instant::now() >= until {
            return Err(failed);
        }
        backoff.pause().await;
    }
}

async fn has_no_users(collections: &Collections) -> Result<bool, StoreError> {
    let find = || {
        collections
            .users
            .find_one(doc! {})
            .projection(doc! { "_id": 1 })
    };
    Ok(retry("look for accounts", find).await?.is_none())
}

/// Changes an account in one transaction with a look at whether another admin is left, and, where it is to be left alone
/// from then on, with the end of its sessions and resets. All that do so write the same document, so that none of
/// them looks past another.
pub(super) async fn change(
    collections: &Collections,
    user: UserId,
    update: Document,
    what: Changed,
) -> Result<(), StoreError> {
    const OPERATION: &str = "change an account";
    let change = || async {
        let mut session = begin(collections).await?;
        let turn = doc! { "$inc": { "value": 1_i64 } };
        let of_turns = doc! { "_id": Meta::RoleChanges.name() };
        let turns = collections.meta.update_one(of_turns, turn).upsert(true);
        turns.session(&mut session).await?;
        let (users, id) = (&collections.users, user.to_string());
        let mut admins = doc! { "role": AccountRole::Admin.as_str() };
        admins.insert(DEACTIVATED_AT, doc! { "$exists": false });
        let mut other = admins.clone();
        other.insert("_id", doc! { "$ne": &id });
        admins.insert("_id", &id);
        // A store that has no admin may do without.
        let is_last = what != Changed::Raised
            && users
                .find_one(admins)
                .session(&mut session)
                .await?
                .is_some()
            && users.find_one(other).session(&mut session).await?.is_none();
        if is_last {
            session.abort_transaction().await?;
            return Ok(false);
        }
        // Nothing of an account that was deleted a moment ago.
        let live = doc! { "_id": &id, ERASED: { "$exists": false } };
        let changed = users.update_one(live, update.clone());
        changed.session(&mut session).await?;
        if what == Changed::Deactivated {
            let delete = collections.resets.delete_many(doc! { "user": &id });
            delete.session(&mut session).await?;
            sessions::revoke_in(collections, user, &mut session).await?;
        }
        session.commit_transaction().await?;
        Ok(true)
    };
    // Done twice, it is done once.
    match persist(OPERATION, change).await? {
        true => Ok(()),
        false => Err(StoreError::LastAdmin),
    }
}

/// The kinds of change to an account.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Changed {
    /// It may do more than before. A store that had no admin may stay without one who may sign in.
    Raised,
    /// It may do less.
    Lowered,
    /// Nobody may sign in to it.
    Deactivated,
}

/// The field of an account that nobody may sign in to.
pub(super) const DEACTIVATED_AT: &str = "deactivated_at";

async fn list(
    collections: &Collections,
    word: &str,
    after: &str,
    limit: usize,
) -> Result<Vec<Account>, StoreError> {
    let mut later = doc! { "username_key": { "$gt": after }, ERASED: { "$exists": false } };
    if !word.is_empty() {
        let has = |key: &str, word: &str| {
            // The place of the word as it is; nobody can write a pattern.
            let at = doc! { "$indexOfCP": [format!("${key}"), { "$literal": word }] };
            doc! { "$expr": { "$gte": [at, 0] } }
        };
        let either = [
            has("username_key", &Username::stored(word).key()),
            has("email_key", &word.to_lowercase()),
        ];
        later.insert("$or", either.to_vec());
    }
    let found = retry("list accounts", || async {
        let found = collections.users.find(later.clone());
        let found = found.sort(doc! { "username_key": 1 }).limit(limit as i64);
        found.await?.collect::<Result<Vec<_>, _>>().await
    });
    found.await?.iter().map(account_from).collect()
}

/// Of a version before this one everybody is a member.
fn role_from(user: &Document) -> AccountRole {
    user.get_str("role")
        .map_or(AccountRole::default(), AccountRole::stored)
}

async fn set_profile(
    collections: &Collections,
    logs: &Logs,
    user: UserId,
    change: ProfileChange,
) -> Result<bool, StoreError> {
    let is_there = doc! { "_id": user.to_string(), ERASED: { "$exists": false } };
    let (mut set, mut update) = (Document::new(), Document::new());
    if let Some(name) = &change.username {
        set.extend(doc! {
            "username": name.as_str(), "username_key": name.key(), "username_shape": name.shape(),
        });
        let claims = doc! { "names": { "$each": name.claims().to_vec() } };
        update.insert("$addToSet", claims);
    }
    if let Some(email) = &change.email {
        set.extend(doc! { "email": email.as_str(), "email_key": email.key() });
        // Before, so that the end of this node leaves none; and after, as one may be made meanwhile.
        end_resets(collections, user).await?;
    }
    update.insert("$set", set);
    if !set_unique(SET_PROFILE, collections, is_there, update).await? {
        return Ok(false);
    }
    if change.email.is_some() {
        end_resets(collections, user).await?;
    }
    if let Some(username) = change.username {
        collections.states.forget_name(Some(user));
        logs.tell(Change::Renamed(User { id: user, username }));
    }
    Ok(true)
}

async fn end_resets(collections: &Collections, user: UserId) -> Result<(), StoreError> {
    let own = doc! { "user": user.to_string() };
    let delete = || collections.resets.delete_many(own.clone());
    retry(SET_PROFILE, delete).await.map(drop)
}

const SET_PROFILE: &str = "change a name or an address";

/// Updates fields of the account that a filter finds, if any, which must be nobody else's. Done twice, it is done
/// once.
async fn set_unique(
    operation: &'static str,
    collections: &Collections,
    filter: Document,
    update: Document,
) -> Result<bool, StoreError> {
    let users = &collections.users;
    let set = || users.update_one(filter.clone(), update.clone());
    match retry(operation, set).await {
        Ok(updated) => Ok(updated.matched_count > 0),
        Err(error) => Err(match duplicate_key(&error) {
            Some(says) => StoreError::Taken(taken(says)),
            None => error,
        }),
    }
}

/// Makes the names of all users theirs for good. Of two who have one, it is the first's.
pub(super) async fn claim_names(collections: &Collections) -> anyhow::Result<()> {
    let unclaimed = doc! { "names": { "$exists": false } };
    let find = || async {
        let users = collections.users.find(unclaimed.clone()).await?;
        users.collect::<Result<Vec<_>, _>>().await
    };
    for user in retry("read the names", find).await? {
        let user = user_from(&user)?;
        let by_id = doc! { "_id": user.id.to_string() };
        let claims = doc! { "$set": { "names": user.username.claims().to_vec() } };
        match set_unique("claim a name", collections, by_id, claims).await {
            Ok(_) | Err(StoreError::Taken(_)) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Takes the names out of events that versions before this one wrote there, some at a time.
pub(super) async fn forget_author_names(collections: &Collections) -> anyhow::Result<()> {
    const AT_ONCE: i64 = 5_000;
    let events = &collections.events;
    let mut after = Bson::MinKey;
    loop {
        let later = doc! { "_id": { "$gt": after.clone() } };
        let find = || async {
            let found = events.find(later.clone()).projection(doc! { "_id": 1 });
            let found = found.sort(doc! { "_id": 1 }).limit(AT_ONCE);
            found.await?.collect::<Result<Vec<_>, _>>().await
        };
        let found = retry("read events", find).await?;
        let Some(last) = found.last().and_then(|last| last.get("_id")).cloned() else {
            return Ok(());
        };
        let among = doc! { "_id": { "$gt": after, "$lte": last.clone() } };
        let unset = doc! { "$unset": { "author_name": "" } };
        retry("forget names in events", || {
            events.update_many(among.clone(), unset.clone())
        })
        .await?;
        after = last;
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
    account.as_ref().map(account_from).transpose()
}

pub(super) async fn by_id(
    collections: &Collections,
    user: UserId,
) -> Result<Option<Account>, StoreError> {
    let by_id = doc! { "_id": user.to_string() };
    let find = || collections.users.find_one(by_id.clone());
    let account = retry("find an account", find).await?;
    account.as_ref().map(account_from).transpose()
}

fn account_from(account: &Document) -> Result<Account, StoreError> {
    let missing = unreadable("read an account");
    let text = |key| account.get_str(key).map_err(&missing);
    Ok(Account {
        user: user_from(account)?,
        email: Email::stored(text("email")?),
        role: role_from(account),
        is_deactivated: account.contains_key(DEACTIVATED_AT),
        password_hash: text("password_hash")?.to_owned(),
    })
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
    async fn has_no_users(&self) -> Result<bool, StoreError> {
        has_no_users(&self.collections).await
    }

    async fn account(&self, user: UserId) -> Result<Option<Account>, StoreError> {
        by_id(&self.collections, user).await
    }

    async fn set_account_role(&self, user: UserId, role: AccountRole) -> Result<(), StoreError> {
        let set = doc! { "$set": { "role": role.as_str() } };
        let what = match role {
            AccountRole::Admin => Changed::Raised,
            AccountRole::Member => Changed::Lowered,
        };
        change(&self.collections, user, set, what).await
    }

    async fn set_profile(&self, user: UserId, change: ProfileChange) -> Result<bool, StoreError> {
        let (collections, logs) = (self.collections.clone(), self.logs.clone());
        in_task(SET_PROFILE, async move {
            set_profile(&collections, &logs, user, change).await
        })
        .await
    }

    async fn erase(&self, user: UserId, messages: KeptMessages) -> Result<(), StoreError> {
        self.erase_account(user, messages).await
    }

    async fn set_deactivated(&self, user: UserId, is_on: bool) -> Result<(), StoreError> {
        let (collections, logs) = (self.collections.clone(), self.logs.clone());
        in_task("deactivate an account", async move {
            if !is_on {
                let unset = doc! { "$unset": { DEACTIVATED_AT: "" } };
                return change(&collections, user, unset, Changed::Raised).await;
            }
            let live = sessions::ids_of(&collections, user).await?;
            let set = doc! { "$set": { DEACTIVATED_AT: DateTime::now() } };
            change(&collections, user, set, Changed::Deactivated).await?;
            for id in live {
                logs.tell(Change::SessionRevoked(id));
            }
            // A sign-in may have been under way.
            sessions::revoke_all(&collections, &logs, user, None).await
        })
        .await
    }

    async fn accounts(
        &self,
        word: String,
        after: String,
        limit: usize,
    ) -> Result<Vec<Account>, StoreError> {
        list(&self.collections, &word, &after, limit).await
    }

    async fn add_user(&self, user: NewUser) -> Result<AccountRole, StoreError> {
        add(&self.collections, &user).await
    }

    async fn find_account(&self, login: &Login) -> Result<Option<Account>, StoreError> {
        find_account(&self.collections, login).await
    }
}
