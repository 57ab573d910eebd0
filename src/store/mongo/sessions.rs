use std::collections::HashSet;

use futures_util::TryStreamExt;
use mongodb::bson::{DateTime, Document, doc};

use super::retry::trying;
use super::{Collections, find_certain, insert_once, unreadable, users};
use crate::domain::{Session, SessionId, Timestamp, User};
use crate::store::StoreError;

pub(super) async fn add(collections: &Collections, session: Session) -> Result<(), StoreError> {
    let by_id = doc! { "_id": session.id.to_string() };
    let document = doc! {
        "_id": session.id.to_string(),
        "user": session.user.to_string(),
        "created_at": DateTime::from_millis(session.created_at.as_millis()),
        "expires_at": DateTime::from_millis(session.expires_at.as_millis()),
    };
    let sessions = &collections.sessions;
    insert_once("add a session", collections, sessions, by_id, document).await
}

pub(super) async fn find(
    collections: &Collections,
    id: SessionId,
) -> Result<Option<(Session, User)>, StoreError> {
    // Certain, because a client that hears that its session is over forgets it.
    let by_id = doc! { "_id": id.to_string() };
    let session = find_certain("find a session", collections, &collections.sessions, by_id).await?;
    // Revoked ones are kept until they expire, so that revoking is an update the feed can match.
    let Some(session) = session.filter(|session| !session.contains_key("revoked_at")) else {
        return Ok(None);
    };
    let missing = unreadable("read a session");
    let moment = |key| {
        let moment = session.get_datetime(key).map_err(&missing)?;
        Ok::<_, StoreError>(Timestamp::from_millis(moment.timestamp_millis()))
    };
    let expires_at = moment("expires_at")?;
    if expires_at <= Timestamp::now() {
        return Ok(None);
    }
    let user = session.get_str("user").map_err(&missing)?;
    let by_id = doc! { "_id": user };
    let user = find_certain("find a user", collections, &collections.users, by_id).await?;
    let Some(user) = user else {
        return Ok(None);
    };
    let user = users::user_from(&user)?;
    let session = Session {
        id,
        user: user.id,
        created_at: moment("created_at")?,
        expires_at,
    };
    Ok(Some((session, user)))
}

pub(super) async fn live(
    collections: &Collections,
    ids: &[SessionId],
) -> Result<HashSet<SessionId>, StoreError> {
    let ids: Vec<String> = ids.iter().map(SessionId::to_string).collect();
    let live = doc! {
        "_id": { "$in": ids },
        "revoked_at": { "$exists": false },
        "expires_at": { "$gt": DateTime::now() },
    };
    let found = trying("check sessions", || async {
        let find = collections.sessions.find(live.clone());
        let found = find.projection(doc! { "_id": 1 }).await?;
        found.try_collect::<Vec<_>>().await
    })
    .await?;
    let id = |session: &Document| SessionId::parse(session.get_str("_id").ok()?).ok();
    Ok(found.iter().filter_map(id).collect())
}

pub(super) async fn revoke(collections: &Collections, id: SessionId) -> Result<(), StoreError> {
    let live = doc! { "_id": id.to_string(), "revoked_at": { "$exists": false } };
    let now = doc! { "$set": { "revoked_at": DateTime::now() } };
    let update = || collections.sessions.update_one(live.clone(), now.clone());
    trying("revoke a session", update).await.map(drop)
}
