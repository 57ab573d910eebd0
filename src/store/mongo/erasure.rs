//! The end of an account: nobody can sign in to it at once; what it leaves is erased step by step.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use mongodb::bson::{DateTime, Document, doc};
use tokio::time::sleep;
use tokio_stream::StreamExt;

use super::accounts::{self, Changed};
use super::collections::Collections;
use super::errors::unreadable;
use super::event_document::seq_from;
use super::log_writer::Logs;
use super::membership_changes::{Changing, End};
use super::retry::retry;
use super::rooms::memberships;
use super::task::in_task;
use super::{MongoStore, sessions};
use crate::domain::{
    AccountRole, Author, KeptMessages, NewChange, NewEvent, NewKind, RoomId, Seq, User, UserId,
    unnamed,
};
use crate::store::cache::ReadCache;
use crate::store::{Change, StoreError};

/// A user's field once their account is deleted: what becomes of their messages.
pub(super) const ERASED: &str = "erased";

/// The field as long as something is left to do.
pub(super) const ERASING: &str = "erasing";

/// How long until a failure is followed by another try.
const AGAIN_IN: Duration = Duration::from_secs(5);

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
    let former = crate::domain::Username::FORMER;
    let key = format!("{former} {id}");
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
        let by_id = doc! { "_id": &id };
        let account = retry(ERASE, || collections.users.find_one(by_id.clone())).await?;
        let account = account.unwrap_or_default();
        if account
            .get_str(ERASING)
            .is_ok_and(|word| word == KeptMessages::Delete.as_str())
        {
            for room in self.all_rooms().await? {
                self.delete_messages(&room).await?;
            }
        }
        self.unname(&account).await?;
        let done = doc! { "$unset": { ERASING: "" } };
        retry(ERASE, || {
            collections.users.update_one(by_id.clone(), done.clone())
        })
        .await?;
        collections.states.forget_name(None);
        self.cache.forget_all();
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
        changing.end(End::Leaves).await?;
        self.cache.forget_user(self.user.id);
        self.logs.tell(Change::Resync);
        Ok(())
    }

    async fn all_rooms(&self) -> Result<Vec<RoomId>, StoreError> {
        let rooms = retry(ERASE, || async {
            let rooms = self.collections.rooms.find(doc! {});
            let rooms = rooms.projection(doc! { "_id": 1 }).await?;
            rooms.collect::<Result<Vec<Document>, _>>().await
        });
        let id = |room: &Document| RoomId::known(room.get_str("_id").ok()?).ok();
        Ok(rooms.await?.iter().filter_map(id).collect())
    }

    async fn delete_messages(&self, room: &RoomId) -> Result<(), StoreError> {
        let written = doc! {
            "room": room.as_str(), "author": self.user.id.to_string(), "kind": "message",
            "deleted_at": { "$exists": false },
        };
        let found = retry(ERASE, || async {
            let found = self.collections.events.find(written.clone());
            let found = found.projection(doc! { "seq": 1 }).await?;
            found.collect::<Result<Vec<Document>, _>>().await
        });
        for message in found.await? {
            let event = NewEvent {
                author: Author::from(&self.user),
                kind: NewKind::Change {
                    target: seq_from(&message)?,
                    change: NewChange::Delete { as_owner: false },
                },
                nonce: None,
            };
            match self.logs.append(room, event).await {
                // Somebody was faster.
                Ok(_) | Err(StoreError::Refused(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Takes their names out of texts that name them.
    async fn unname(&self, account: &Document) -> Result<(), StoreError> {
        let claims = account.get_array("names").into_iter().flatten();
        let claims = claims.filter_map(|claim| claim.as_str().map(str::to_owned));
        let claims: HashSet<String> = claims.collect();
        let events = &self.collections.events;
        let named_in = doc! { "mentions": self.user.id.to_string() };
        let found = retry(ERASE, || async {
            let found = events.find(named_in.clone());
            let found = found.projection(doc! { "room": 1, "seq": 1, "body": 1 });
            found.await?.collect::<Result<Vec<Document>, _>>().await
        });
        for message in found.await? {
            let Ok(body) = message.get_str("body") else {
                continue;
            };
            let Some(unnamed) = unnamed(body, &claims) else {
                continue;
            };
            let seq: Seq = seq_from(&message)?;
            let room = message.get_str("room").map_err(unreadable(ERASE))?;
            // An edit that comes between names nobody who is not there.
            let as_found = doc! { "room": room, "seq": seq.cast_signed(), "body": body };
            let update = doc! { "$set": { "body": unnamed } };
            retry(ERASE, || {
                events.update_one(as_found.clone(), update.clone())
            })
            .await?;
        }
        Ok(())
    }
}

/// Goes on where a node has died in the midst of it; again where the database fails.
pub(super) async fn finish_all(collections: Collections, logs: Logs, cache: Arc<ReadCache>) {
    while let Err(error) = finish_begun(&collections, &logs, &cache).await {
        tracing::warn!(?error, "cannot finish deleting an account: trying again");
        sleep(AGAIN_IN).await;
    }
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
            user: accounts::user_of(user, crate::domain::Username::FORMER),
        };
        in_task(ERASE, async move {
            erasing.begin(messages).await?;
            erasing.finish().await
        })
        .await
    }
}
