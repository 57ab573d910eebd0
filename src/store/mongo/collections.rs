//! The collections, their indexes, and the facts about the whole database.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use mongodb::bson::{Bson, Document, doc};
use mongodb::options::{
    Acknowledgment, CollectionOptions, IndexOptions, ReadConcern, WriteConcern,
};
use mongodb::{Collection, Database, IndexModel};

use super::connect::Connected;
use super::errors::duplicate_key;
use super::retry::{ATTEMPT_MAX, retry};
use super::states::States;
use crate::domain::Epoch;
use crate::store::StoreError;

/// The index of entries.
pub(super) const ENTRIES: &str = "room_target_seq";

/// The collections, each with majority reads and writes.
#[derive(Clone)]
pub(super) struct Collections {
    pub(super) database: Database,
    pub(super) users: Collection<Document>,
    pub(super) sessions: Collection<Document>,
    pub(super) resets: Collection<Document>,
    pub(super) invites: Collection<Document>,
    pub(super) audit: Collection<Document>,
    pub(super) blocks: Collection<Document>,
    pub(super) reports: Collection<Document>,
    pub(super) rooms: Collection<Document>,
    pub(super) memberships: Collection<Document>,
    pub(super) events: Collection<Document>,
    pub(super) meta: Collection<Document>,
    pub(super) limits: Collection<Document>,
    pub(super) nodes: Collection<Document>,
    pub(super) presence: Collection<Document>,
    pub(super) typing: Collection<Document>,
    pub(super) states: States,
    /// The name by which MongoDB knows our connections.
    pub(super) app_name: Arc<str>,
}

impl Collections {
    pub(super) fn of(connected: &Connected) -> Self {
        let database = connected.database.clone();
        // An attempt lost in a failover is not counted.
        let quick = WriteConcern::builder().w(Acknowledgment::Nodes(1)).build();
        let quick = CollectionOptions::builder().write_concern(quick).build();
        let (events, users) = (database.collection("events"), database.collection("users"));
        Self {
            states: States::new(events.clone(), users.clone()),
            app_name: connected.app_name.as_str().into(),
            limits: database.collection_with_options("limits", quick),
            nodes: database.collection("nodes"),
            presence: database.collection("presence"),
            typing: database.collection("typing"),
            users,
            sessions: database.collection("sessions"),
            resets: database.collection("resets"),
            invites: database.collection("invites"),
            audit: database.collection("audit"),
            blocks: database.collection("blocks"),
            reports: database.collection("reports"),
            rooms: database.collection("rooms"),
            memberships: database.collection("memberships"),
            events,
            meta: database.collection("meta"),
            database,
        }
    }

    /// Named, so that a later version can tell them apart. Making one that is there does nothing;
    /// nodes that start together join one build.
    pub(super) async fn make_indexes(&self) -> anyhow::Result<()> {
        let unique = |name: &str, keys: Document| index(keys, name, IndexOptions::default(), true);
        let plain = |name: &str, keys: Document, options| index(keys, name, options, false);
        let nonce = IndexOptions::builder()
            .partial_filter_expression(doc! { "nonce": { "$exists": true } })
            .build();
        let mentions = IndexOptions::builder()
            .partial_filter_expression(doc! { "mentions": { "$exists": true } })
            .build();
        let sparse = IndexOptions::builder().sparse(true).build();
        let names = IndexOptions::builder()
            .partial_filter_expression(doc! { "names": { "$exists": true } })
            .build();
        let owners = IndexOptions::builder()
            .partial_filter_expression(doc! { "role": { "$exists": true } })
            .build();
        let open = IndexOptions::builder()
            .partial_filter_expression(doc! { "access": "open" })
            .build();
        // MongoDB deletes what is over by itself.
        let expiry = IndexOptions::builder().expire_after(Duration::ZERO).build();
        for (collection, indexes) in [
            (
                &self.users,
                vec![
                    unique("username_key", doc! { "username_key": 1 }),
                    unique("username_shape", doc! { "username_shape": 1 }),
                    unique("email_key", doc! { "email_key": 1 }),
                    // The names that somebody has had, too.
                    index(doc! { "names": 1 }, "names", names, true),
                    plain("erasing", doc! { "erasing": 1 }, sparse.clone()),
                ],
            ),
            (
                &self.sessions,
                vec![
                    index(doc! { "expires_at": 1 }, "expiry", expiry.clone(), false),
                    plain("user", doc! { "user": 1 }, IndexOptions::default()),
                ],
            ),
            (
                &self.resets,
                vec![
                    index(doc! { "expires_at": 1 }, "expiry", expiry.clone(), false),
                    plain("user", doc! { "user": 1 }, IndexOptions::default()),
                ],
            ),
            (
                &self.invites,
                vec![
                    index(doc! { "expires_at": 1 }, "expiry", expiry.clone(), false),
                    unique("secret", doc! { "secret_hash": 1 }),
                    plain("newest", doc! { "created_at": -1 }, IndexOptions::default()),
                ],
            ),
            (
                &self.blocks,
                vec![
                    plain("user", doc! { "user": 1 }, IndexOptions::default()),
                    plain("blocked", doc! { "blocked": 1 }, IndexOptions::default()),
                ],
            ),
            (
                &self.reports,
                vec![unique("by_message", doc! { "by": 1, "room": 1, "seq": 1 })],
            ),
            (
                &self.limits,
                vec![index(doc! { "full_at": 1 }, "expiry", expiry, false)],
            ),
            (
                &self.presence,
                vec![index(
                    doc! { "_id.node": 1 },
                    "node",
                    IndexOptions::default(),
                    false,
                )],
            ),
            (
                &self.memberships,
                vec![
                    unique("user_room", doc! { "user": 1, "room": 1 }),
                    // In the order in which they joined.
                    plain(
                        "room_joined",
                        doc! { "room": 1, "joined": 1 },
                        IndexOptions::default(),
                    ),
                    plain("owners", doc! { "room": 1, "role": 1 }, owners),
                ],
            ),
            (
                &self.rooms,
                vec![
                    plain("open", doc! { "access": 1, "_id": 1 }, open),
                    plain("erasing", doc! { "erasing": 1 }, sparse),
                ],
            ),
            (
                &self.events,
                vec![
                    unique("room_seq", doc! { "room": 1, "seq": 1 }),
                    // Entries, which have no target, are found without looking through changes.
                    index(
                        doc! { "room": 1, "target": 1, "seq": 1 },
                        ENTRIES,
                        IndexOptions::default(),
                        false,
                    ),
                    index(
                        doc! { "room": 1, "author": 1, "nonce": 1 },
                        "room_author_nonce",
                        nonce,
                        true,
                    ),
                    // A user’s mentions in a room, by number, and in all rooms, by time.
                    plain(
                        "mentions_room_seq",
                        doc! { "mentions": 1, "room": 1, "seq": 1 },
                        mentions.clone(),
                    ),
                    plain(
                        "mentions_newest",
                        doc! { "mentions": 1, "at": 1, "room": 1, "seq": 1 },
                        mentions,
                    ),
                ],
            ),
        ] {
            retry("make indexes", || {
                collection.create_indexes(indexes.clone())
            })
            .await
            .with_context(|| format!("cannot make the indexes of {}", collection.name()))?;
        }
        Ok(())
    }

    pub(super) async fn epoch(&self) -> anyhow::Result<Epoch> {
        Ok(self.get_number(Meta::Epoch).await?.unwrap_or(0))
    }

    pub(super) async fn get(&self, what: Meta) -> Result<Option<Bson>, StoreError> {
        let find = || self.meta.find_one(doc! { "_id": what.name() });
        let found = retry("read what the database is", find).await?;
        Ok(found.and_then(|mut found| found.remove("value")))
    }

    /// A number, whichever kind of it somebody stored in a shell.
    pub(super) async fn get_number(&self, what: Meta) -> anyhow::Result<Option<u64>> {
        let number = match self.get(what).await? {
            None => return Ok(None),
            Some(Bson::Int64(number)) => u64::try_from(number).ok(),
            Some(Bson::Int32(number)) => u64::try_from(number).ok(),
            Some(Bson::Double(number)) if number.fract() == 0.0 && number >= 0.0 => {
                Some(number as u64)
            }
            Some(_) => None,
        };
        let number = number.with_context(|| {
            format!("the {} in the database is not a whole number", what.name())
        })?;
        Ok(Some(number))
    }

    pub(super) async fn set(&self, what: Meta, value: impl Into<Bson>) -> Result<(), StoreError> {
        let value = value.into();
        self.update(what, doc! { "$set": { "value": value } }).await
    }

    /// Sets a number, unless it is higher already: another node may know of more.
    pub(super) async fn raise(&self, what: Meta, value: i64) -> Result<(), StoreError> {
        self.update(what, doc! { "$max": { "value": value } }).await
    }

    async fn update(&self, what: Meta, update: Document) -> Result<(), StoreError> {
        retry("write what the database is", || {
            let by_name = doc! { "_id": what.name() };
            let set = self.meta.update_one(by_name, update.clone());
            set.upsert(true)
        })
        .await
        .map(drop)
    }

    pub(super) async fn unset(&self, what: Meta) -> Result<(), StoreError> {
        let delete = || self.meta.delete_one(doc! { "_id": what.name() });
        retry("write what the database is", delete).await.map(drop)
    }
}

/// The facts about the whole database.
#[derive(Debug, Clone, Copy)]
pub(super) enum Meta {
    /// Its [`Epoch`]; none is 0.
    Epoch,
    /// There while an import is under way, or did not finish.
    Importing,
    /// The schema's version; none is 1.
    Schema,
    /// The version of the program that wrote the schema.
    Parlor,
    /// The mark of the one who made the first account.
    FirstAdmin,
    /// Counts the changes of roles.
    RoleChanges,
    /// The policy of sign-ups that an admin has chosen: a word.
    SignUp,
}

impl Meta {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Epoch => "epoch",
            Self::Importing => "importing",
            Self::Schema => "schema",
            Self::Parlor => "parlor",
            Self::FirstAdmin => "first admin",
            Self::RoleChanges => "role changes",
            Self::SignUp => "sign-up",
        }
    }
}

fn index(keys: Document, name: &str, mut options: IndexOptions, unique: bool) -> IndexModel {
    options.name = Some(name.to_owned());
    options.unique = Some(unique);
    IndexModel::builder().keys(keys).options(options).build()
}

/// Whether a document has a field, for certain: see [`find_linearizable`].
pub(super) async fn has_field(
    operation: &'static str,
    collection: &Collection<Document>,
    id: &str,
    field: &str,
) -> Result<bool, StoreError> {
    let found = find_linearizable(operation, collection, doc! { "_id": id }).await?;
    Ok(found.is_some_and(|found| found.contains_key(field)))
}

/// The one document that `filter` finds, by a unique index. That there is none is certain: a
/// primary that has been replaced and does not know it may not have heard of it, so it is asked
/// to make sure ("linearizable", which is defined for one document).
/// Source: <https://www.mongodb.com/docs/manual/reference/read-concern-linearizable/>
pub(super) async fn find_linearizable(
    operation: &'static str,
    collection: &Collection<Document>,
    filter: Document,
) -> Result<Option<Document>, StoreError> {
    let found = retry(operation, || collection.find_one(filter.clone())).await?;
    if found.is_some() {
        return Ok(found);
    }
    retry(operation, || {
        collection
            .find_one(filter.clone())
            .read_concern(ReadConcern::linearizable())
            .max_time(ATTEMPT_MAX)
    })
    .await
}

/// Inserts a document, or finds it there: by an attempt whose answer was lost, or by somebody else.
/// Durable in either case: what is only there yet is waited for.
pub(super) async fn insert_once(
    operation: &'static str,
    into: &Collection<Document>,
    key: Document,
    new: Document,
) -> Result<(), StoreError> {
    let error = match retry(operation, || into.insert_one(&new)).await {
        Ok(_) => return Ok(()),
        Err(error) => error,
    };
    if duplicate_key(&error).is_none() {
        return Err(error);
    }
    match find_linearizable(operation, into, key).await? {
        Some(_) => Ok(()),
        None => Err(error),
    }
}
