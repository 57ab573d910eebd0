//! Sessions.

use std::collections::{HashMap, HashSet};

use async_trait::async_trait;
use mongodb::ClientSession;
use mongodb::bson::{DateTime, Document, doc};
use mongodb::error::Error;
use tokio_stream::StreamExt;

use super::accounts::DEACTIVATED_AT;
use super::batch_loader::BATCH_MAX;
use super::collections::{Collections, find_linearizable, insert_once};
use super::errors::unreadable;
use super::log_writer::Logs;
use super::retry::{attempt, retry};
use super::{MongoStore, accounts};
use crate::domain::{
    Account, PasswordChange, SeenSession, Session, SessionId, SignIn, Timestamp, User, UserId,
};
use crate::store::cache::Durable;
use crate::store::task::in_task;
use crate::store::{Change, Sessions, StoreError};

/// Keeps a session, and ends it again if its password was changed meanwhile: a change of a password is written before
/// it ends sessions, so one of the two sees the other.
pub(super) async fn add(collections: &Collections, sign_in: &SignIn) -> Result<bool, StoreError> {
    let session = sign_in.session;
    let by_id = doc! { "_id": session.id.to_string() };
    let document = doc! {
        "_id": session.id.to_string(),
        "user": session.user.to_string(),
        "created_at": DateTime::from_millis(session.created_at.as_millis()),
        "expires_at": DateTime::from_millis(session.expires_at.as_millis()),
        "seen_at": DateTime::from_millis(session.created_at.as_millis()),
        "device": &sign_in.device,
        "address": &sign_in.address,
    };
    let sessions = &collections.sessions;
    insert_once("add a session", sessions, by_id, document).await?;
    let account = accounts::by_id(collections, session.user).await?;
    let may_sign_in = |account: Account| {
        account.password_hash == sign_in.password_hash && !account.is_deactivated
    };
    if account.is_some_and(may_sign_in) {
        return Ok(true);
    }
    revoke(collections, session.id).await?;
    Ok(false)
}

async fn of(collections: &Collections, user: UserId) -> Result<Vec<SeenSession>, StoreError> {
    let own = doc! {
        "user": user.to_string(),
        "revoked_at": { "$exists": false },
        "expires_at": { "$gt": DateTime::now() },
    };
    let found = retry("list the sessions", || async {
        let found = collections.sessions.find(own.clone()).await?;
        found.collect::<Result<Vec<_>, _>>().await
    });
    let seen = |found: &Document| {
        let session = session_from(found)?;
        let text = |key| found.get_str(key).unwrap_or_default().to_owned();
        let seen_at = found
            .get_datetime("seen_at")
            .map(|at| at.timestamp_millis());
        Ok(SeenSession {
            session,
            device: text("device"),
            address: text("address"),
            // Of an earlier version it was never noted.
            seen_at: seen_at.map_or(session.created_at, Timestamp::from_millis),
        })
    };
    let found = found.await?;
    let sessions = found
        .iter()
        .map(seen)
        .collect::<Result<Vec<_>, StoreError>>();
    let mut sessions = sessions?;
    sessions.sort_by_key(|one| (std::cmp::Reverse(one.seen_at), one.session.id));
    Ok(sessions)
}

/// Ends all sessions of a user, or all but one, and tells of each.
pub(super) async fn revoke_all(
    collections: &Collections,
    logs: &Logs,
    user: UserId,
    but: Option<SessionId>,
) -> Result<(), StoreError> {
    for id in ids_of(collections, user).await? {
        if Some(id) != but {
            revoke(collections, id).await?;
            // The change stream tells the other nodes, and this one again, which does no harm.
            logs.tell(Change::SessionRevoked(id));
        }
    }
    Ok(())
}

/// Ends all sessions of a user within a transaction.
pub(super) async fn revoke_in(
    collections: &Collections,
    user: UserId,
    transaction: &mut ClientSession,
) -> Result<(), Error> {
    let live = doc! { "user": user.to_string(), "revoked_at": { "$exists": false } };
    let now = doc! { "$set": { "revoked_at": DateTime::now() } };
    let revoke = collections.sessions.update_many(live, now);
    revoke.session(transaction).await.map(drop)
}

/// The sessions of a user.
pub(super) async fn ids_of(
    collections: &Collections,
    user: UserId,
) -> Result<Vec<SessionId>, StoreError> {
    let sessions = of(collections, user).await?;
    Ok(sessions.iter().map(|one| one.session.id).collect())
}

/// Tells that all sessions of a user are over, also those that were revoked a moment ago.
pub(super) async fn tell_over(
    collections: &Collections,
    logs: &Logs,
    user: UserId,
) -> Result<(), StoreError> {
    let own = doc! { "user": user.to_string() };
    let found = retry("list the sessions", || async {
        let found = collections.sessions.find(own.clone());
        let found = found.projection(doc! { "_id": 1 }).await?;
        found.collect::<Result<Vec<Document>, _>>().await
    });
    let id = |session: &Document| SessionId::parse(session.get_str("_id").ok()?).ok();
    for id in found.await?.iter().filter_map(id) {
        logs.tell(Change::SessionRevoked(id));
    }
    Ok(())
}

/// Changes a password that is still the one it was, and ends what was begun with that: the resets, and the sessions
/// but one.
async fn set_password(
    collections: &Collections,
    logs: &Logs,
    change: &PasswordChange,
) -> Result<bool, StoreError> {
    const OPERATION: &str = "change a password";
    let user = doc! { "_id": change.user.to_string(), "password_hash": &change.from };
    let set = doc! { "$set": { "password_hash": &change.to } };
    let update = || collections.users.update_one(user.clone(), set.clone());
    if retry(OPERATION, update).await?.matched_count == 0 {
        // Unless it is ours, from an attempt whose answer was lost: nobody else knows this hash.
        let account = accounts::by_id(collections, change.user).await?;
        if account.is_none_or(|account| account.password_hash != change.to) {
            return Ok(false);
        }
    }
    let resets = doc! { "user": change.user.to_string() };
    let delete = || collections.resets.delete_many(resets.clone());
    retry(OPERATION, delete).await?;
    revoke_all(collections, logs, change.user, Some(change.but)).await?;
    Ok(true)
}

pub(super) async fn find(
    collections: &Collections,
    id: SessionId,
) -> Result<Option<(Session, User)>, StoreError> {
    // Certain, because a client that hears that its session is over forgets it.
    let by_id = doc! { "_id": id.to_string() };
    let session = find_linearizable("find a session", &collections.sessions, by_id).await?;
    // Revoked ones are kept until they expire, so that revoking is an update the change stream tells.
    let Some(session) = session.filter(|session| !session.contains_key("revoked_at")) else {
        return Ok(None);
    };
    let session = session_from(&session)?;
    if session.expires_at <= Timestamp::now() {
        return Ok(None);
    }
    let by_id = doc! { "_id": session.user.to_string() };
    let user = find_linearizable("find a user", &collections.users, by_id).await?;
    let user = user.filter(|user| !user.contains_key(DEACTIVATED_AT));
    user.map(|user| Ok((session, accounts::user_from(&user)?)))
        .transpose()
}

/// The sessions that are neither revoked nor over, with their users. One that is not
/// found may be there all the same: see [`find`].
pub(super) async fn find_some(
    collections: Collections,
    ids: Vec<SessionId>,
) -> Result<HashMap<SessionId, (Session, User)>, StoreError> {
    let sessions = attempt("find sessions", async {
        let found = collections
            .sessions
            .find(are_live(&ids))
            .batch_size(BATCH_MAX)
            .await?;
        found.collect::<Result<Vec<_>, _>>().await
    })
    .await?;
    // An unreadable document is nobody else's concern: its owner looks alone, and hears why.
    let sessions: Vec<Session> = { sessions.iter() }
        .filter_map(|session| session_from(session).ok())
        .collect();
    let of: Vec<String> = { sessions.iter() }
        .map(|session| session.user.to_string())
        .collect();
    let users = attempt("find users", async {
        let may_sign_in = doc! { "_id": { "$in": of }, DEACTIVATED_AT: { "$exists": false } };
        let found = collections.users.find(may_sign_in);
        found
            .batch_size(BATCH_MAX)
            .await?
            .collect::<Result<Vec<_>, _>>()
            .await
    })
    .await?;
    let users: HashMap<UserId, User> = { users.iter() }
        .filter_map(|user| accounts::user_from(user).ok())
        .map(|user| (user.id, user))
        .collect();
    let with_user = |session: Session| {
        let user = users.get(&session.user)?;
        Some((session.id, (session, user.clone())))
    };
    Ok(sessions.into_iter().filter_map(with_user).collect())
}

fn session_from(document: &Document) -> Result<Session, StoreError> {
    let missing = unreadable("read a session");
    let moment = |key| {
        let moment = document.get_datetime(key).map_err(&missing)?;
        Ok::<_, StoreError>(Timestamp::from_millis(moment.timestamp_millis()))
    };
    let invalid = |error| StoreError::backend("read a session", error);
    Ok(Session {
        id: SessionId::parse(document.get_str("_id").map_err(&missing)?).map_err(invalid)?,
        user: UserId::parse(document.get_str("user").map_err(&missing)?).map_err(invalid)?,
        created_at: moment("created_at")?,
        expires_at: moment("expires_at")?,
    })
}

fn are_live(ids: &[SessionId]) -> Document {
    let ids: Vec<String> = ids.iter().map(SessionId::to_string).collect();
    doc! {
        "_id": { "$in": ids },
        "revoked_at": { "$exists": false },
        "expires_at": { "$gt": DateTime::now() },
    }
}

pub(super) async fn live(
    collections: &Collections,
    ids: &[SessionId],
) -> Result<HashSet<SessionId>, StoreError> {
    let live = are_live(ids);
    let found = retry("check sessions", || async {
        let find = collections.sessions.find(live.clone());
        let found = find.projection(doc! { "_id": 1 }).await?;
        found.collect::<Result<Vec<_>, _>>().await
    })
    .await?;
    let id = |session: &Document| SessionId::parse(session.get_str("_id").ok()?).ok();
    Ok(found.iter().filter_map(id).collect())
}

pub(super) async fn revoke(collections: &Collections, id: SessionId) -> Result<(), StoreError> {
    let live = doc! { "_id": id.to_string(), "revoked_at": { "$exists": false } };
    let now = doc! { "$set": { "revoked_at": DateTime::now() } };
    let update = || collections.sessions.update_one(live.clone(), now.clone());
    retry("revoke a session", update).await.map(drop)
}

#[async_trait]
impl Sessions for MongoStore {
    async fn add_session(&self, sign_in: SignIn) -> Result<bool, StoreError> {
        add(&self.collections, &sign_in).await
    }

    async fn sessions_of(&self, user: UserId) -> Result<Vec<SeenSession>, StoreError> {
        of(&self.collections, user).await
    }

    async fn note_seen(&self, id: SessionId, address: &str) -> Result<(), StoreError> {
        let by_id = doc! { "_id": id.to_string() };
        let seen = doc! { "$set": { "seen_at": DateTime::now(), "address": address } };
        let sessions = &self.collections.sessions;
        let note = || sessions.update_one(by_id.clone(), seen.clone());
        retry("note a session", note).await.map(drop)
    }

    async fn revoke_sessions(
        &self,
        user: UserId,
        but: Option<SessionId>,
    ) -> Result<(), StoreError> {
        let (collections, logs) = (self.collections.clone(), self.logs.clone());
        in_task("revoke sessions", async move {
            revoke_all(&collections, &logs, user, but).await
        })
        .await
    }

    async fn set_password(&self, change: PasswordChange) -> Result<bool, StoreError> {
        let (collections, logs) = (self.collections.clone(), self.logs.clone());
        in_task("change a password", async move {
            set_password(&collections, &logs, &change).await
        })
        .await
    }

    async fn find_session(&self, id: SessionId) -> Result<Option<(Session, User)>, StoreError> {
        if let Some(found) = self.trusted_cache().and_then(|cache| cache.session(id)) {
            return Ok(Some(found));
        }
        let token = self.cache.token();
        let found = match self.live_sessions.find(id).await {
            Some(found) => Some(found),
            None => find(&self.collections, id).await?,
        };
        if let Some((session, user)) = &found {
            self.cache.keep_session(&token, *session, user.clone());
        }
        Ok(found)
    }

    async fn live_sessions(&self, ids: &[SessionId]) -> Result<HashSet<SessionId>, StoreError> {
        let live = live(&self.collections, ids).await?;
        for over in ids.iter().filter(|id| !live.contains(id)) {
            self.cache
                .apply(&Durable::Change(Change::SessionRevoked(*over)));
        }
        Ok(live)
    }

    async fn revoke_session(&self, id: SessionId) -> Result<(), StoreError> {
        let (collections, logs) = (self.collections.clone(), self.logs.clone());
        in_task("revoke a session", async move {
            revoke(&collections, id).await?;
            logs.tell(Change::SessionRevoked(id));
            Ok(())
        })
        .await
    }
}
