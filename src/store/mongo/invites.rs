//! Invitations: a collection of them, and the choice of who may sign up.

use async_trait::async_trait;
use mongodb::bson::{Bson, DateTime, Document, doc};
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
    AccountRole, Guest, Invite, InviteId, MembershipId, NewUser, Role, RoomId, Seq, SignUpPolicy,
    Timestamp, UserId,
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

/// A use that somebody has spent: theirs, since when, and a word that no other has.
fn new_claim(user: UserId) -> String {
    let now = Timestamp::now().as_millis();
    format!("{user} {now} {}", MembershipId::new())
}

/// One use less, of which somebody is on their way to the room.
fn one_less(claim: &str, room: Option<&RoomId>) -> Document {
    let mut update = doc! { "$inc": { "uses_left": -1_i64 } };
    if room.is_some() {
        update.insert("$addToSet", doc! { JOINING: claim });
    }
    update
}

/// The uses that somebody has spent who is not in the room yet, as far as is known.
fn claims_of(invite: &Document, user: UserId) -> Vec<&str> {
    let user = user.to_string();
    let joining = invite.get_array(JOINING).map_or(&[][..], Vec::as_slice);
    let claims = joining.iter().filter_map(|claim| claim.as_str());
    claims.filter(|claim| claim.starts_with(&user)).collect()
}

/// Whether a use was spent so long ago that its spender was cut off.
fn is_old(claim: &str) -> bool {
    const CUT_OFF_AFTER: i64 = 60_000;
    let at = claim
        .split(' ')
        .nth(1)
        .and_then(|at| at.parse::<i64>().ok());
    at.is_none_or(|at| at + CUT_OFF_AFTER < Timestamp::now().as_millis())
}

/// The field that counts those who have come to the room: somebody who was no member before the last of them may be
/// one now.
const SETTLED: &str = "settled";

/// The number of those who have come, as a filter finds it.
fn settled(invite: Option<&Document>) -> Bson {
    let settled = invite.and_then(|invite| invite.get(SETTLED)).cloned();
    settled.unwrap_or_default()
}

/// The end of a try to spend a use.
enum Claim {
    /// This use is theirs.
    Spent(String),
    /// Somebody has come since it was asked who is a member.
    Outdated,
}

/// Spends a use for somebody who has an account and was no member when so many had come, unless they have spent one and
/// were cut off.
async fn claim(
    collections: &Collections,
    secret_hash: &str,
    user: UserId,
    room: &RoomId,
    when: &Bson,
) -> Result<Claim, StoreError> {
    let claim = new_claim(user);
    let mut filter = good(secret_hash);
    let own = doc! { "$regex": format!("^{user}") };
    filter.insert(JOINING, doc! { "$not": own });
    // Null is found where there is nothing.
    filter.insert(SETTLED, when);
    let one_less = one_less(&claim, Some(room));
    let update = || {
        collections
            .invites
            .update_one(filter.clone(), one_less.clone())
    };
    if retry(SPEND, update).await?.matched_count > 0 {
        return Ok(Claim::Spent(claim));
    }
    // Also this one, where the answer was lost.
    let found = find_document(collections, secret_hash).await?;
    let earlier = { found.iter() }
        .flat_map(|found| claims_of(found, user))
        .next();
    match earlier {
        Some(earlier) => Ok(Claim::Spent(earlier.to_owned())),
        None if found.is_some() && settled(found.as_ref()) != *when => Ok(Claim::Outdated),
        None => Err(StoreError::InviteOver),
    }
}

/// Ends somebody's being on the way with a use: they have come, or, with `refund`, were turned away and it is
/// another's.
async fn settle(
    collections: &Collections,
    secret_hash: &str,
    claim: &str,
    refund: bool,
) -> Result<(), StoreError> {
    let on_the_way = doc! { "secret_hash": secret_hash, JOINING: claim };
    let mut update = doc! { "$pull": { JOINING: claim } };
    update.insert(
        "$inc",
        match refund {
            true => doc! { "uses_left": 1_i64 },
            false => doc! { SETTLED: 1_i64 },
        },
    );
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
    claim: &str,
    room: Option<&RoomId>,
) -> Result<(), StoreError> {
    let once = || async {
        let mut session = begin(collections).await?;
        let document = accounts::document_of(new, AccountRole::Member);
        let insert = collections.users.insert_one(document);
        insert.session(&mut session).await?;
        let one_less = one_less(claim, room);
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

/// Has the spender of a use join the room.
async fn come(
    changing: Changing,
    collections: &Collections,
    invite: &Invite,
    claim: &str,
) -> Result<ReadMark, StoreError> {
    let begun = changing.begin(Role::Member, invite.by.as_ref()).await;
    match &begun {
        Ok(_) => settle(collections, &invite.secret_hash, claim, false).await?,
        Err(StoreError::Banned) => settle(collections, &invite.secret_hash, claim, true).await?,
        Err(_) => {}
    }
    begun
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
        loop {
            // First the invitation, then whether they are a member: see `SETTLED`.
            let found = find_document(&self.collections, secret_hash).await?;
            let when = settled(found.as_ref());
            let found: Vec<Document> = found.into_iter().collect();
            let user = guest.user().clone();
            let claims = found.iter().flat_map(|found| claims_of(found, user.id));
            let claims: Vec<String> = claims.map(str::to_owned).collect();
            let invite = complete(&self.collections, &found).await?.pop();
            let invite = invite.filter(|invite| invite.lasts() || !claims.is_empty());
            let invite = invite.ok_or(StoreError::InviteOver)?;
            if let (Guest::User(user), Some(room)) = (&guest, &invite.room) {
                if let Relation::Member { .. } = relation(&self.collections, room, user).await? {
                    // Of an attempt that was cut off at its end. One that is under way settles its own.
                    for claim in claims.iter().filter(|claim| is_old(claim)) {
                        settle(&self.collections, secret_hash, claim, false).await?;
                    }
                    return Ok(0);
                }
                may_have_one_more(&self.collections, room, user).await?;
            }
            let changing = invite.room.as_ref().map(|room| self.changing(room, &user));
            let (collections, guest) = (self.collections.clone(), guest.clone());
            let spending = async move {
                let hash = &invite.secret_hash;
                let claim = match (&guest, &invite.room) {
                    (Guest::New(new), room) => {
                        let claim = new_claim(new.user.id);
                        sign_up(&collections, hash, new, &claim, room.as_ref()).await?;
                        Claim::Spent(claim)
                    }
                    (Guest::User(user), Some(room)) => {
                        claim(&collections, hash, user.id, room, &when).await?
                    }
                    (Guest::User(_), None) => return Ok(Some(None)),
                };
                match (claim, changing) {
                    (Claim::Outdated, _) => Ok(None),
                    (Claim::Spent(_), None) => Ok(Some(None)),
                    (Claim::Spent(claim), Some(changing)) => {
                        let mark = come(changing, &collections, &invite, &claim).await?;
                        Ok(Some(Some(mark)))
                    }
                }
            };
            if let Some(mark) = in_task(SPEND, spending).await? {
                return Ok(mark.map_or(0, |mark| self.has_begun(mark)));
            }
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
