//! The end of an account: nobody can sign in to it at once; what it leaves is erased step by step.

use std::collections::HashSet;
use std::sync::Arc;

use futures_util::{TryStreamExt, stream};
use mongodb::bson::{Bson, DateTime, Document, doc};
use tokio_stream::StreamExt;

use super::accounts::{self, Changed};
use super::collections::Collections;
use super::event_document::place_from;
use super::log_writer::Logs;
use super::membership_changes::{Changing, End};
use super::membership_document::{BANNED, LEAVING};
use super::retry::retry;
use super::rooms::memberships;
use super::{MongoStore, sessions};
use crate::domain::{
    AccountRole, Author, KeptMessages, NewChange, NewEvent, NewKind, RoomId, User, UserId, Username,
};
use crate::markup::without_names;
use crate::store::cache::ReadCache;
use crate::store::task::{finish, in_task};
use crate::store::{Change, StoreError};

/// A user's field once their account is deleted: what becomes of their messages.
pub(super) const ERASED: &str = "erased";

/// The field as long as something is left to do.
pub(super) const ERASING: &str = "erasing";

/// The number of events read at a time.
const LOOK_AT_ONCE: i64 = 2_000;

/// The number of them erased at a time.
const ERASE_AT_ONCE: usize = 64;

const ERASE: &str = "delete an account";

/// An account to be erased, at any node.
#[derive(Clone)]
struct Erasing {
    collections: Collections,
    logs: Logs,
    cache: Arc<ReadCache>,
    user: User,
}

/// The fields of an account that is nobody's.
pub(super) fn nobody(id: &str) -> Document {
    let former = Username::FORMER;
    let key = Username::former_key(id);
    doc! {
        "username": former, "username_key": &key, "username_shape": &key,
        "email": "", "email_key": &key, "password_hash": "",
        "role": AccountRole::Member.as_str(), ERASED: true,
    }
}

impl Erasing {
    /// Takes everything from the account but its id, and ends its sessions.
    async fn begin(&self, messages: KeptMessages) -> Result<(), StoreError> {
        let (collections, id) = (&self.collections, self.user.id.to_string());
        let live = sessions::ids_of(collections, self.user.id).await?;
        let mut fields = nobody(&id);
        fields.insert("deactivated_at", DateTime::now());
        fields.insert(ERASING, messages.as_str());
        let update = doc! { "$set": fields };
        accounts::change(collections, self.user.id, update, Changed::Deactivated).await?;
        for id in live {
            self.logs.tell(Change::SessionRevoked(id));
        }
        // A sign-in may have been under way.
        sessions::revoke_all(collections, &self.logs, self.user.id, None).await?;
        collections.states.forget_name(Some(self.user.id));
        self.logs.tell(Change::Renamed(self.user.clone()));
        Ok(())
    }

    /// All the steps, each of which may be repeated.
    async fn finish(&self) -> Result<(), StoreError> {
        let (collections, id) = (&self.collections, self.user.id.to_string());
        for (collection, own) in [
            (&collections.sessions, doc! { "user": &id }),
            (&collections.resets, doc! { "user": &id }),
            (&collections.invites, doc! { "by": &id }),
            (&collections.reports, doc! { "by": &id }),
            (
                &collections.blocks,
                doc! { "$or": [{ "user": &id }, { "blocked": &id }] },
            ),
        ] {
            retry(ERASE, || collection.delete_many(own.clone())).await?;
        }
        for membership in memberships(collections, self.user.id).await? {
            // A conversation is its other people’s too.
            if !membership.room.is_direct() {
                self.leave(membership.room).await?;
            }
        }
        // The bans, too: they are no user's any more.
        let banned =
            doc! { "user": &id, BANNED: { "$exists": true }, LEAVING: { "$exists": false } };
        let memberships = &collections.memberships;
        retry(ERASE, || memberships.delete_many(banned.clone())).await?;
        let by_id = doc! { "_id": &id };
        let account = retry(ERASE, || collections.users.find_one(by_id.clone())).await?;
        self.erase_traces(&Traces::of(&account.unwrap_or_default()))
            .await?;
        let done = doc! { "$unset": { ERASING: "" } };
        retry(ERASE, || {
            collections.users.update_one(by_id.clone(), done.clone())
        })
        .await?;
        collections.states.forget_name(None);
        self.logs.tell(Change::Distrust);
        Ok(())
    }

    async fn leave(&self, room: RoomId) -> Result<(), StoreError> {
        let changing = Changing {
            collections: self.collections.clone(),
            logs: self.logs.clone(),
            room,
            user: self.user.clone(),
        };
        changing.end_told(End::Leaves, &self.cache).await.map(drop)
    }

    /// Looks through all events, some at a time, and erases what the account has left in them.
    async fn erase_traces(&self, traces: &Traces) -> Result<(), StoreError> {
        let events = &self.collections.events;
        let fields =
            doc! { "room": 1, "seq": 1, "author": 1, "kind": 1, "deleted_at": 1, "body": 1 };
        let mut after = Bson::MinKey;
        loop {
            let later = doc! { "_id": { "$gt": after } };
            let looked = retry(ERASE, || async {
                let found = events.find(later.clone()).projection(fields.clone());
                let found = found.sort(doc! { "_id": 1 }).limit(LOOK_AT_ONCE);
                found.await?.collect::<Result<Vec<Document>, _>>().await
            });
            let looked = looked.await?;
            // Together, as those of a room share its transactions.
            let erase = async |event: &Document| match traces.messages == KeptMessages::Delete
                && self.is_own_message(event)
            {
                true => self.delete(event).await,
                false => self.unname(event, traces).await,
            };
            let all = stream::iter(looked.iter().map(Ok));
            all.try_for_each_concurrent(ERASE_AT_ONCE, erase).await?;
            match looked.last().and_then(|last| last.get("_id")) {
                Some(last) => after = last.clone(),
                None => return Ok(()),
            }
        }
    }

    fn is_own_message(&self, event: &Document) -> bool {
        let is = |key, value: &str| event.get_str(key).is_ok_and(|is| is == value);
        is("kind", "message")
            && is("author", &self.user.id.to_string())
            && !event.contains_key("deleted_at")
    }

    async fn delete(&self, message: &Document) -> Result<(), StoreError> {
        let (room, target) = place_from(message)?;
        let event = NewEvent {
            author: Author::from(&self.user),
            kind: NewKind::Change {
                target,
                change: NewChange::Delete { as_owner: false },
            },
            nonce: None,
        };
        match self.logs.append(&room, event).await {
            // Somebody was faster.
            Ok(_) | Err(StoreError::Refused(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Takes their names out of a text that names them.
    async fn unname(&self, event: &Document, traces: &Traces) -> Result<(), StoreError> {
        let events = &self.collections.events;
        let by_id = doc! { "_id": event.get("_id").cloned().unwrap_or_default() };
        let mut event = Some(event.clone());
        while let Some(found) = event
            && let Ok(body) = found.get_str("body")
            && let Some(unnamed) = traces.unnamed(body)
        {
            // Its author may be editing it.
            let mut as_found = by_id.clone();
            as_found.insert("body", body);
            let update = doc! { "$set": { "body": unnamed } };
            let update = || events.update_one(as_found.clone(), update.clone());
            if retry(ERASE, update).await?.matched_count > 0 {
                return Ok(());
            }
            event = retry(ERASE, || events.find_one(by_id.clone())).await?;
        }
        Ok(())
    }
}

/// Finds the traces of an account.
struct Traces {
    /// The claims to the names they have had.
    claims: HashSet<String>,
    /// The fate of their messages.
    messages: KeptMessages,
}

impl Traces {
    fn of(account: &Document) -> Self {
        let claims = account.get_array("names").into_iter().flatten();
        let claims = claims.filter_map(|claim| claim.as_str().map(str::to_owned));
        let messages = account.get_str(ERASING).ok();
        let messages = messages.and_then(|word| KeptMessages::parse(word).ok());
        Self {
            claims: claims.collect(),
            messages: messages.unwrap_or(KeptMessages::Keep),
        }
    }

    fn unnamed(&self, text: &str) -> Option<String> {
        without_names(text, |name| {
            self.claims.contains(&Username::stored(name).claim())
        })
    }
}

/// Goes on where a node has died in the midst of it.
pub(super) async fn finish_all(collections: Collections, logs: Logs, cache: Arc<ReadCache>) {
    finish(ERASE, || finish_begun(&collections, &logs, &cache)).await;
}

async fn finish_begun(
    collections: &Collections,
    logs: &Logs,
    cache: &Arc<ReadCache>,
) -> Result<(), StoreError> {
    let begun = doc! { ERASING: { "$exists": true } };
    let found = retry(ERASE, || async {
        let found = collections.users.find(begun.clone()).await?;
        found.collect::<Result<Vec<Document>, _>>().await
    });
    for user in found.await? {
        let erasing = Erasing {
            collections: collections.clone(),
            logs: logs.clone(),
            cache: Arc::clone(cache),
            user: accounts::user_from(&user)?,
        };
        erasing.finish().await?;
    }
    Ok(())
}

impl MongoStore {
    pub(super) async fn erase_account(
        &self,
        user: UserId,
        messages: KeptMessages,
    ) -> Result<(), StoreError> {
        let erasing = Erasing {
            collections: self.collections.clone(),
            logs: self.logs.clone(),
            cache: Arc::clone(&self.cache),
            user: accounts::user_of(user, Username::FORMER),
        };
        in_task(ERASE, async move {
            erasing.begin(messages).await?;
            finish(ERASE, || erasing.finish()).await;
            Ok(())
        })
        .await
    }
}
