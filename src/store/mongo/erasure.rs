//! The end of an account: nobody can sign in to it at once; what it leaves is erased step by step.

use std::cell::RefCell;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{TryStreamExt, stream};
use mongodb::bson::{Bson, DateTime, Document, doc};
use tokio::task::spawn_blocking;
use tokio::time::sleep;
use tokio_stream::StreamExt;

use super::accounts::{self, Changed, DEACTIVATED_AT};
use super::collections::{Collections, has_field};
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
        let mut fields = nobody(&self.user.id.to_string());
        fields.insert(DEACTIVATED_AT, DateTime::now());
        fields.insert(ERASING, messages.as_str());
        let update = doc! { "$set": fields };
        let (user, what) = (self.user.id, Changed::Deactivated);
        let begun = accounts::change(&self.collections, user, update, what).await;
        let Err(error) = begun else {
            return Ok(());
        };
        if matches!(error, StoreError::LastAdmin) {
            return Err(error);
        }
        // It may have been done all the same, and must be finished then.
        match self.has_begun().await {
            true => Ok(()),
            false => Err(error),
        }
    }

    /// Whether the account is nobody's by now; asked until somebody answers.
    async fn has_begun(&self) -> bool {
        let (users, id) = (&self.collections.users, self.user.id.to_string());
        finish(ERASE, || has_field(ERASE, users, &id, ERASING)).await
    }

    /// All the steps, each of which may be repeated.
    async fn finish(&self) -> Result<(), StoreError> {
        let (collections, id) = (&self.collections, self.user.id.to_string());
        collections.states.forget_name(Some(self.user.id));
        self.logs.tell(Change::Renamed(self.user.clone()));
        // Also of a sign-in that was under way.
        sessions::tell_over(collections, &self.logs, self.user.id).await?;
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
        let traces = Arc::new(Traces::of(&account.unwrap_or_default()));
        self.erase_traces(&traces).await?;
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
    async fn erase_traces(&self, traces: &Arc<Traces>) -> Result<(), StoreError> {
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
            let messages = looked.iter().filter(|event| is_message(event));
            let (own, others): (Vec<&Document>, Vec<&Document>) = messages
                .partition(|event| traces.messages == KeptMessages::Delete && self.is_own(event));
            // Together, as those of a room share its transactions.
            let all = stream::iter(own.into_iter().map(Ok));
            let delete = |event| self.delete(event);
            all.try_for_each_concurrent(ERASE_AT_ONCE, delete).await?;
            self.unname(others.into_iter().filter_map(Text::of).collect(), traces)
                .await?;
            match looked.last().and_then(|last| last.get("_id")) {
                Some(last) => after = last.clone(),
                None => return Ok(()),
            }
        }
    }

    fn is_own(&self, message: &Document) -> bool {
        let author = message.get_str("author");
        author.is_ok_and(|author| author == self.user.id.to_string())
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

    /// Takes their names out of texts that name them.
    async fn unname(&self, mut texts: Vec<Text>, traces: &Arc<Traces>) -> Result<(), StoreError> {
        let events = &self.collections.events;
        while !texts.is_empty() {
            let (found, of) = (texts.clone(), Arc::clone(traces));
            // A text may be made of nothing but possible names, which takes a while.
            let longer = blocking(move || of.longer_names(&found)).await?;
            let anothers = self.anothers(longer).await?;
            let of = Arc::clone(traces);
            let unnamed = blocking(move || of.unnamed(texts, &anothers)).await?;
            texts = Vec::new();
            for (text, unnamed) in unnamed {
                let by_id = doc! { "_id": &text.id };
                // Its author may be editing it.
                let mut as_found = by_id.clone();
                as_found.insert("body", &text.body);
                let update = doc! { "$set": { "body": unnamed } };
                let update = || events.update_one(as_found.clone(), update.clone());
                if retry(ERASE, update).await?.matched_count == 0 {
                    let again = retry(ERASE, || events.find_one(by_id.clone())).await?;
                    texts.extend(again.as_ref().and_then(Text::of));
                }
            }
        }
        Ok(())
    }

    /// The claims among these that are other accounts'.
    async fn anothers(&self, claims: HashSet<String>) -> Result<HashSet<String>, StoreError> {
        let claims: Vec<String> = claims.into_iter().collect();
        let mut anothers = HashSet::new();
        for some in claims.chunks(1_000) {
            let having =
                doc! { "names": { "$in": some }, "_id": { "$ne": self.user.id.to_string() } };
            let users = &self.collections.users;
            let found = retry(ERASE, || async {
                let found = users.find(having.clone()).projection(doc! { "names": 1 });
                found.await?.collect::<Result<Vec<Document>, _>>().await
            });
            anothers.extend(found.await?.iter().flat_map(claims_of));
        }
        Ok(anothers)
    }
}

/// Runs work that takes a while on a thread for that.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, StoreError> {
    let done = spawn_blocking(work).await;
    done.map_err(|panicked| StoreError::backend(ERASE, panicked))
}

fn is_message(event: &Document) -> bool {
    event.get_str("kind").is_ok_and(|kind| kind == "message") && !event.contains_key("deleted_at")
}

fn claims_of(account: &Document) -> impl Iterator<Item = String> {
    let claims = account.get_array("names").into_iter().flatten();
    claims.filter_map(|claim| claim.as_str().map(str::to_owned))
}

/// A text that may name somebody.
#[derive(Clone)]
struct Text {
    id: Bson,
    body: String,
}

impl Text {
    fn of(message: &Document) -> Option<Self> {
        let body = message
            .get_str("body")
            .ok()
            .filter(|body| body.contains('@'))?;
        Some(Self {
            id: message.get("_id")?.clone(),
            body: body.to_owned(),
        })
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
        let messages = account.get_str(ERASING).ok();
        let messages = messages.and_then(|word| KeptMessages::parse(word).ok());
        Self {
            claims: claims_of(account).collect(),
            messages: messages.unwrap_or(KeptMessages::Keep),
        }
    }

    fn is_theirs(&self, name: &str) -> bool {
        self.claims.contains(&claim(name))
    }

    /// The claims to longer names where these texts have one of theirs.
    fn longer_names(&self, texts: &[Text]) -> HashSet<String> {
        let longer = RefCell::new(HashSet::new());
        for text in texts {
            let keep = |name: &str| {
                longer.borrow_mut().insert(claim(name));
                false
            };
            without_names(&text.body, |name| self.is_theirs(name), keep);
        }
        longer.into_inner()
    }

    /// The texts that name them, each with what it is without that.
    fn unnamed(&self, texts: Vec<Text>, anothers: &HashSet<String>) -> Vec<(Text, String)> {
        let unnamed = texts.into_iter().filter_map(|text| {
            let is_anothers = |name: &str| anothers.contains(&claim(name));
            let unnamed = without_names(&text.body, |name| self.is_theirs(name), is_anothers)?;
            Some((text, unnamed))
        });
        unnamed.collect()
    }
}

fn claim(name: &str) -> String {
    Username::stored(name).claim()
}

/// The time between two looks for erasures in whose midst a node has died; so long one is left to its node.
const LOOK_EVERY: Duration = Duration::from_mins(5);

/// Goes on where a node has died in the midst of it: before this one started, or since.
pub(super) async fn finish_all(collections: Collections, logs: Logs, cache: Arc<ReadCache>) {
    let mut begun = doc! { ERASING: { "$exists": true } };
    loop {
        finish(ERASE, || finish_begun(&collections, &logs, &cache, &begun)).await;
        sleep(LOOK_EVERY).await;
        let before = doc! { "$subtract": ["$$NOW", LOOK_EVERY.as_millis() as i64] };
        begun.insert("$expr", doc! { "$lt": ["$deactivated_at", before] });
    }
}

async fn finish_begun(
    collections: &Collections,
    logs: &Logs,
    cache: &Arc<ReadCache>,
    begun: &Document,
) -> Result<(), StoreError> {
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
