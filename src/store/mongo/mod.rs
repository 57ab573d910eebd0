//! The store on a MongoDB replica set, for one node or several.
//!
//! What is assumed of MongoDB: a write acknowledged with `w: majority, j: true` survives a
//! failover; a read with `readConcern: majority` sees only such writes, and on the primary all of
//! them that were acknowledged before; a unique index lets one of two equal keys in. Nothing here
//! uses transactions or counters. How a log is numbered: `log.rs`; how other nodes hear: `feed.rs`.

mod feed;
mod log;
mod rooms;
mod sessions;
mod users;

use std::collections::HashSet;
use std::future::{Future, IntoFuture};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use async_trait::async_trait;
use mongodb::bson::{Bson, Document, doc};
use mongodb::error::{Error, ErrorKind, WriteFailure};
use mongodb::options::{
    Acknowledgment, ClientOptions, IndexOptions, ReadConcern, SelectionCriteria, WriteConcern,
};
use mongodb::{Client, Collection, Database, IndexModel};

use self::feed::Feed;
use self::log::Logs;
use super::{Access, Appended, OnChange, Store, StoreError};
use crate::domain::{
    Account, Epoch, Event, Login, NewEvent, NewUser, RoomId, RoomSummary, Seq, Session, SessionId,
    User,
};

/// How long one operation may take before the caller hears that the database does not answer.
/// An election takes a few seconds; the driver has no limit of its own.
const OPERATION_MAX: Duration = Duration::from_secs(10);

/// How long finding a primary may take: less, so that what is tried again has time to.
const SELECTION_MAX: Duration = Duration::from_secs(5);

/// The error code of a write that met an equal key in a unique index.
const DUPLICATE_KEY: i32 = 11_000;

/// The store in one database of a MongoDB deployment.
pub struct MongoStore {
    collections: Collections,
    logs: Logs,
    feed: Feed,
    epoch: Epoch,
}

/// The collections, each with majority reads and writes.
#[derive(Clone)]
struct Collections {
    database: Database,
    users: Collection<Document>,
    sessions: Collection<Document>,
    rooms: Collection<Document>,
    memberships: Collection<Document>,
    events: Collection<Document>,
}

impl MongoStore {
    /// Connects to `uri` and makes what is missing there: any number of nodes may do so at once.
    ///
    /// # Errors
    ///
    /// One line for the log: the address is wrong, nothing answers, or an index cannot be made.
    pub async fn open(uri: &str, on_change: OnChange) -> anyhow::Result<Self> {
        // Neither error is passed on with its source: it may quote the address, password and all.
        let mut options = ClientOptions::parse(uri)
            .await
            .map_err(|_| anyhow::anyhow!("MONGODB_URI is not a MongoDB connection string"))?;
        options.app_name.get_or_insert_with(|| "parlor".to_owned());
        options.server_selection_timeout = Some(SELECTION_MAX);
        options.connect_timeout.get_or_insert(SELECTION_MAX);
        // The driver's ten are too few once a fan-out of page loads meets a slow disk.
        options.max_pool_size.get_or_insert(64);
        options.selection_criteria = Some(SelectionCriteria::ReadPreference(
            mongodb::options::ReadPreference::Primary,
        ));
        options.read_concern = Some(ReadConcern::majority());
        options.write_concern = Some(
            WriteConcern::builder()
                .w(Acknowledgment::Majority)
                .journal(true)
                .w_timeout(OPERATION_MAX)
                .build(),
        );
        let name = options
            .default_database
            .clone()
            .unwrap_or_else(|| "parlor".to_owned());
        let database = Client::with_options(options)
            .context("cannot use MONGODB_URI")?
            .database(&name);

        let hello = bounded("greet MongoDB", database.run_command(doc! { "hello": 1 }))
            .await
            .context("no MongoDB primary answers at MONGODB_URI")?;
        // A member of a replica set, or the router of a sharded cluster.
        let has_oplog = hello.contains_key("setName") || hello.contains_key("msg");
        if !has_oplog {
            tracing::warn!(
                "this mongod is not a member of a replica set: it serves one parlor only, and \
                 keeps what it acknowledges on one machine"
            );
        }

        let collections = Collections::of(database);
        collections.make_indexes().await?;
        let epoch = collections.epoch().await?;
        Ok(Self {
            feed: Feed::start(&collections, has_oplog, Arc::clone(&on_change)),
            logs: Logs::new(collections.events.clone(), on_change),
            collections,
            epoch,
        })
    }
}

impl Collections {
    fn of(database: Database) -> Self {
        Self {
            users: database.collection("users"),
            sessions: database.collection("sessions"),
            rooms: database.collection("rooms"),
            memberships: database.collection("memberships"),
            events: database.collection("events"),
            database,
        }
    }

    /// Named, so that a later version can tell them apart. Making one that is there does nothing;
    /// nodes that start together join one build.
    async fn make_indexes(&self) -> anyhow::Result<()> {
        let unique = |name: &str, keys: Document| index(keys, name, IndexOptions::default(), true);
        let nonce = IndexOptions::builder()
            .partial_filter_expression(doc! { "nonce": { "$exists": true } })
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
                ],
            ),
            (
                &self.sessions,
                vec![index(doc! { "expires_at": 1 }, "expiry", expiry, false)],
            ),
            (
                &self.memberships,
                vec![unique("user_room", doc! { "user": 1, "room": 1 })],
            ),
            (
                &self.events,
                vec![
                    unique("room_seq", doc! { "room": 1, "seq": 1 }),
                    index(
                        doc! { "room": 1, "author": 1, "nonce": 1 },
                        "room_author_nonce",
                        nonce,
                        true,
                    ),
                ],
            ),
        ] {
            collection
                .create_indexes(indexes)
                .await
                .with_context(|| format!("cannot make the indexes of {}", collection.name()))?;
        }
        Ok(())
    }

    async fn epoch(&self) -> anyhow::Result<Epoch> {
        let meta: Collection<Document> = self.database.collection("meta");
        let epoch = bounded("read the epoch", meta.find_one(doc! { "_id": "epoch" })).await?;
        let Some(epoch) = epoch else {
            return Ok(0);
        };
        // Whoever set it in a shell may have stored another kind of number.
        let value = match epoch.get("value") {
            Some(Bson::Int64(value)) => u64::try_from(*value).ok(),
            Some(Bson::Int32(value)) => u64::try_from(*value).ok(),
            Some(Bson::Double(value)) if value.fract() == 0.0 && *value >= 0.0 => {
                Some(*value as u64)
            }
            _ => None,
        };
        value.context("the epoch in the database is not a whole number")
    }
}

fn index(keys: Document, name: &str, mut options: IndexOptions, unique: bool) -> IndexModel {
    options.name = Some(name.to_owned());
    options.unique = Some(unique);
    IndexModel::builder().keys(keys).options(options).build()
}

/// Waits for an operation, but not for ever. The driver closes the connection of one given up on.
async fn bounded<T>(
    operation: &'static str,
    work: impl IntoFuture<IntoFuture: Future<Output = Result<T, Error>>>,
) -> Result<T, StoreError> {
    match tokio::time::timeout(OPERATION_MAX, work.into_future()).await {
        Ok(result) => result.map_err(|error| StoreError::backend(operation, error)),
        Err(late) => Err(StoreError::backend(operation, late)),
    }
}

/// The message of a duplicate key error of a single write, which names the index.
fn duplicate_key(error: &StoreError) -> Option<&str> {
    let StoreError::Backend { source, .. } = error else {
        return None;
    };
    match &*source.downcast_ref::<Error>()?.kind {
        ErrorKind::Write(WriteFailure::WriteError(error)) if error.code == DUPLICATE_KEY => {
            Some(&error.message)
        }
        _ => None,
    }
}

/// What a document lacks that one of ours has.
fn unreadable(operation: &'static str) -> impl Fn(mongodb::bson::error::Error) -> StoreError {
    move |error| StoreError::backend(operation, error)
}

#[async_trait]
impl Store for MongoStore {
    fn epoch(&self) -> Epoch {
        self.epoch
    }

    async fn ready(&self) -> Result<(), StoreError> {
        self.feed.ready()?;
        let ping = self.collections.database.run_command(doc! { "ping": 1 });
        bounded("reach MongoDB", ping).await.map(drop)
    }

    async fn add_user(&self, user: NewUser) -> Result<(), StoreError> {
        users::add(&self.collections, &user).await
    }

    async fn find_account(&self, login: &Login) -> Result<Option<Account>, StoreError> {
        users::find_account(&self.collections, login).await
    }

    async fn add_session(&self, session: Session) -> Result<(), StoreError> {
        sessions::add(&self.collections, session).await
    }

    async fn find_session(&self, id: SessionId) -> Result<Option<(Session, User)>, StoreError> {
        sessions::find(&self.collections, id).await
    }

    async fn live_sessions(&self, ids: &[SessionId]) -> Result<HashSet<SessionId>, StoreError> {
        sessions::live(&self.collections, ids).await
    }

    async fn revoke_session(&self, id: SessionId) -> Result<(), StoreError> {
        sessions::revoke(&self.collections, id).await?;
        // The feed tells the other nodes, and this one again, which does no harm.
        self.logs.tell(super::Change::SessionRevoked(id));
        Ok(())
    }

    async fn enter(&self, room: &RoomId, user: &User) -> Result<(), StoreError> {
        rooms::enter(&self.collections, &self.logs, room, user).await
    }

    async fn access(&self, room: &RoomId, user: &User) -> Result<Access, StoreError> {
        rooms::access(&self.collections, room, user).await
    }

    async fn rooms_of(&self, user: &User) -> Result<Vec<RoomSummary>, StoreError> {
        rooms::of(&self.collections, user).await
    }

    async fn append(&self, room: &RoomId, event: NewEvent) -> Result<Appended, StoreError> {
        self.logs.append(room, event).await
    }

    async fn heads(&self, rooms: &[RoomId]) -> Result<Vec<Seq>, StoreError> {
        rooms::heads(&self.collections, rooms).await
    }

    async fn page_after(
        &self,
        room: &RoomId,
        after: Seq,
        limit: usize,
    ) -> Result<Vec<Arc<Event>>, StoreError> {
        log::page_after(&self.collections.events, room, after, limit).await
    }

    async fn page_before(
        &self,
        room: &RoomId,
        before: Seq,
        limit: usize,
    ) -> Result<Vec<Arc<Event>>, StoreError> {
        log::page_before(&self.collections.events, room, before, limit).await
    }
}
