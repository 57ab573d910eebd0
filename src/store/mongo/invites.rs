//! Invitations: a collection of them, and the choice of who may sign up.

use async_trait::async_trait;
use mongodb::bson::{DateTime, Document, doc};
use tokio::time::Instant;
use tokio_stream::StreamExt;

use super::collections::{Collections, Meta, find_linearizable, insert_once};
use super::errors::{duplicate_key, unreadable};
use super::membership_changes::Changing;
use super::memberships::{may_have_one_more, relation};
use super::read_marks::ReadMark;
use super::retry::{Backoff, attempt, retry};
use super::transaction::begin;
use super::{MongoStore, accounts};
use crate::domain::{
    AccountRole, Guest, Invite, InviteId, NewUser, Role, RoomId, Seq, SignUpPolicy, Timestamp,
    UserId,
};
use crate::store::task::in_task;
use crate::store::{Invites, Relation, StoreError, deadline};

const SPEND: &str = "spend an invitation";
const FIND: &str = "find an invitation";

/// The field with those who have spent a use and are on their way into the room: they are let in also where they
/// were cut off, and cost no other use.
const JOINING: &str = "joining";

fn document_of(invite: &Invite) -> Document {
    let moment = |at: Timestamp| DateTime::from_millis(at.as_millis());
    doc! {
        "_id": invite.id.to_string(),
        "secret_hash": &invite.secret_hash,
        "by": invite.by.as_ref().map(|by| by.id.to_string()),
        "room": invite.room.as_ref().map(RoomId::as_str),
        "uses_left": i64::from(invite.uses_left),
        "created_at": moment(invite.created_at),
        "expires_at": moment(invite.expires_at),
    }
}

/// Without the person who invites.
fn invite_from(document: &Document) -> Result<Invite, StoreError> {
    let missing = unreadable(FIND);
    let wrong = |error| StoreError::backend(FIND, error);
    let moment = |key| {
        let at = document.get_datetime(key).map_err(&missing)?;
        Ok::<_, StoreError>(Timestamp::from_millis(at.timestamp_millis()))
    };
    let id = document.get_str("_id").map_err(&missing)?;
    let room = document.get_str("room").ok();
    let uses_left = document.get_i64("uses_left").map_err(&missing)?;
    Ok(Invite {
        id: InviteId::parse(id).map_err(wrong)?,
        secret_hash: document
            .get_str("secret_hash")
            .map_err(&missing)?
            .to_owned(),
        by: None,
        room: room.map(RoomId::known).transpose().map_err(wrong)?,
        uses_left: u32::try_from(uses_left).unwrap_or(0),
        created_at: moment("created_at")?,
        expires_at: moment("expires_at")?,
    })
}

/// The invitations with those who invite.
async fn complete(
    collections: &Collections,
    found: &[Document],
) -> Result<Vec<Invite>, StoreError> {
    let by = |document: &Document| UserId::parse(document.get_str("by").ok()?).ok();
    let users = collections
        .states
        .users(found.iter().filter_map(by).collect());
    let users = users.await?;
    let complete = |document: &Document| {
        let mut invite = invite_from(document)?;
        invite.by = by(document).and_then(|by| users.get(&by).cloned());
        Ok(invite)
    };
    found.iter().map(complete).collect()
}

async fn find_document(
    collections: &Collections,
    secret_hash: &str,
) -> Result<Option<Document>, StoreError> {
    let by_secret = doc! { "secret_hash": secret_hash };
    find_linearizable(FIND, &collections.invites, by_secret).await
}

async fn find(collections: &Collections, secret_hash: &str) -> Result<Option<Invite>, StoreError> {
    let found = find_document(collections, secret_hash).await?;
    let found: Vec<Document> = found.into_iter().collect();
    let invite = complete(collections, &found).await?.pop();
    Ok(invite.filter(Invite::lasts))
}

async fn list(
    collections: &Collections,
    by: Option<UserId>,
    before: Option<InviteId>,
    limit: usize,
) -> Result<Vec<Invite>, StoreError> {
    let mut good = doc! { "expires_at": { "$gt": DateTime::now() }, "uses_left": { "$gt": 0 } };
    good.extend(by.map(|by| ("by".to_owned(), by.to_string().into())));
    if let Some(before) = before {
        good.insert("_id", doc! { "$lt": before.to_string() });
    }
    let found = retry("list invitations", || async {
        let found = collections.invites.find(good.clone());
        let found = found.sort(doc! { "_id": -1 });
        let found = found.limit(i64::try_from(limit).unwrap_or(i64::MAX));
        found.await?.collect::<Result<Vec<_>, _>>().await
    });
    complete(collections, &found.await?).await
}

/// A filter that finds an invitation which lets in one more.
fn good(secret_hash: &str) -> Document {
    doc! {
        "secret_hash": secret_hash,
        "expires_at": { "$gt": DateTime::now() },
        "uses_left": { "$gt": 0 },
    }
}

/// One use less, of which somebody is on their way to the room.
fn one_less(user: UserId, room: Option<&RoomId>) -> Document {
    let mut update = doc! { "$inc": { "uses_left": -1_i64 } };
    if room.is_some() {
        update.insert("$addToSet", doc! { JOINING: user.to_string() });
    }
    update
}

/// Whether somebody has spent a use and is not in the room yet.
fn is_on_the_way(invite: &Document, user: UserId) -> bool {
    let user = user.to_string();
    let joining = invite.get_array(JOINING).map_or(&[][..], Vec::as_slice);
    joining.iter().any(|id| id.as_str() == Some(&user))
}

/// Spends a use for somebody who has an account; `false` when they have spent one before and were cut off.
async fn claim(
    collections: &Collections,
    secret_hash: &str,
    user: UserId,
    room: &RoomId,
) -> Result<bool, StoreError> {
    let mut filter = good(secret_hash);
    filter.insert(JOINING, doc! { "$ne": user.to_string() });
    let one_less = one_less(user, Some(room));
    let update = || {
        collections
            .invites
            .update_one(filter.clone(), one_less.clone())
    };
    // A retry finds them on their way.
    if retry(SPEND, update).await?.matched_count > 0 {
        return Ok(true);
    }
    let found = find_document(collections, secret_hash).await?;
    match found.is_some_and(|found| is_on_the_way(&found, user)) {
        true => Ok(false),
        false => Err(StoreError::InviteOver),
    }
}

/// Ends somebody's being on the way: they have come, or, with `refund`, were turned away and the use is another's.
async fn settle(
    collections: &Collections,
    secret_hash: &str,
    user: UserId,
    refund: bool,
) -> Result<(), StoreError> {
    let on_the_way = doc! { "secret_hash": secret_hash, JOINING: user.to_string() };
    let mut update = doc! { "$pull": { JOINING: user.to_string() } };
    if refund {
        update.insert("$inc", doc! { "uses_left": 1_i64 });
    }
    let update = || {
        collections
            .invites
            .update_one(on_the_way.clone(), update.clone())
    };
    retry(SPEND, update).await.map(drop)
}

/// Makes an account and spends a use in one transaction. Where its answer is lost, the account says whether it was
/// done: nobody else has its id.
async fn sign_up(
    collections: &Collections,
    secret_hash: &str,
    new: &NewUser,
    room: Option<&RoomId>,
) -> Result<(), StoreError> {
    let once = || async {
        let mut session = begin(collections).await?;
        let document = accounts::document_of(new, AccountRole::Member);
        let insert = collections.users.insert_one(document);
        insert.session(&mut session).await?;
        let one_less = one_less(new.user.id, room);
        let update = collections.invites.update_one(good(secret_hash), one_less);
        let updated = update.session(&mut session).await?;
        if updated.matched_count == 0 {
            session.abort_transaction().await?;
            return Ok(false);
        }
        session.commit_transaction().await?;
        Ok(true)
    };
    let mut backoff = Backoff::new();
    let until = deadline::current();
    loop {
        let failed = match attempt(SPEND, once()).await {
            Ok(true) => return Ok(()),
            Ok(false) => return Err(StoreError::InviteOver),
            Err(failed) => failed,
        };
        let own = doc! { "_id": new.user.id.to_string() };
        if find_linearizable(SPEND, &collections.users, own)
            .await?
            .is_some()
        {
            return Ok(());
        }
        if let Some(says) = duplicate_key(&failed) {
            return Err(StoreError::Taken(accounts::taken(says)));
        }
        if Instant::now() >= until {
            return Err(failed);
        }
        backoff.pause().await;
    }
}

/// Spends a use, then has its user join the room.
async fn spend(
    changing: Option<Changing>,
    collections: &Collections,
    invite: &Invite,
    guest: &Guest,
) -> Result<Option<ReadMark>, StoreError> {
    let (hash, user) = (&invite.secret_hash, guest.user().id);
    let mut has_spent = false;
    match (guest, &invite.room) {
        (Guest::New(new), room) => sign_up(collections, hash, new, room.as_ref()).await?,
        (Guest::User(_), Some(room)) => has_spent = claim(collections, hash, user, room).await?,
        (Guest::User(_), None) => {}
    }
    let Some(changing) = changing else {
        return Ok(None);
    };
    let begun = changing.begin(Role::Member, invite.by.as_ref()).await;
    match &begun {
        // They may have clicked twice, and be in by the other.
        Ok(mark) => settle(collections, hash, user, has_spent && mark.seq == 0).await?,
        Err(StoreError::Banned) => settle(collections, hash, user, true).await?,
        Err(_) => {}
    }
    begun.map(Some)
}

#[async_trait]
impl Invites for MongoStore {
    async fn add_invite(&self, invite: Invite) -> Result<(), StoreError> {
        let by_id = doc! { "_id": invite.id.to_string() };
        let (invites, new) = (&self.collections.invites, document_of(&invite));
        insert_once("add an invitation", invites, by_id, new).await
    }

    async fn find_invite(&self, secret_hash: &str) -> Result<Option<Invite>, StoreError> {
        find(&self.collections, secret_hash).await
    }

    async fn invites(
        &self,
        by: Option<UserId>,
        before: Option<InviteId>,
        limit: usize,
    ) -> Result<Vec<Invite>, StoreError> {
        list(&self.collections, by, before, limit).await
    }

    async fn invite(&self, id: InviteId) -> Result<Option<Invite>, StoreError> {
        let by_id = doc! { "_id": id.to_string() };
        let find = || self.collections.invites.find_one(by_id.clone());
        let found = retry(FIND, find).await?;
        let found: Vec<Document> = found.into_iter().collect();
        Ok(complete(&self.collections, &found).await?.pop())
    }

    async fn revoke_invite(&self, id: InviteId) -> Result<bool, StoreError> {
        let by_id = doc! { "_id": id.to_string() };
        let invites = &self.collections.invites;
        let deleted = retry("revoke an invitation", || invites.delete_one(by_id.clone())).await?;
        Ok(deleted.deleted_count > 0)
    }

    async fn spend_invite(&self, secret_hash: &str, guest: Guest) -> Result<Seq, StoreError> {
        let user = guest.user().clone();
        let found = find_document(&self.collections, secret_hash).await?;
        let found: Vec<Document> = found.into_iter().collect();
        let is_on_the_way = found.iter().any(|found| is_on_the_way(found, user.id));
        let invite = complete(&self.collections, &found).await?.pop();
        let invite = invite.filter(|invite| invite.lasts() || is_on_the_way);
        let invite = invite.ok_or(StoreError::InviteOver)?;
        if let (Guest::User(user), Some(room)) = (&guest, &invite.room) {
            if let Relation::Member { .. } = relation(&self.collections, room, user).await? {
                settle(&self.collections, secret_hash, user.id, false).await?;
                return Ok(0);
            }
            may_have_one_more(&self.collections, room, user).await?;
        }
        let room = invite.room.as_ref();
        let changing = room.map(|room| self.changing(room, &user));
        let collections = self.collections.clone();
        let to = invite.room.clone();
        let spending = async move { spend(changing, &collections, &invite, &guest).await };
        match (in_task(SPEND, spending).await, to) {
            (Ok(mark), _) => Ok(mark.map_or(0, |mark| self.has_begun(mark))),
            (Err(over @ StoreError::InviteOver), Some(room)) => {
                match relation(&self.collections, &room, &user).await? {
                    Relation::Member { .. } => Ok(0),
                    _ => Err(over),
                }
            }
            (Err(error), _) => Err(error),
        }
    }

    async fn sign_up_policy(&self) -> Result<Option<SignUpPolicy>, StoreError> {
        let chosen = self.collections.get(Meta::SignUp).await?;
        let word = chosen.as_ref().and_then(|chosen| chosen.as_str());
        Ok(word.and_then(|word| SignUpPolicy::parse(word).ok()))
    }

    async fn set_sign_up_policy(&self, policy: SignUpPolicy) -> Result<(), StoreError> {
        self.collections.set(Meta::SignUp, policy.as_str()).await
    }
}
