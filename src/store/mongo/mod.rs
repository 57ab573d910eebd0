//! The store on a MongoDB replica set, for one node or several.
//!
//! What is assumed of MongoDB: a write acknowledged with `w: majority, j: true` survives a
//! failover; a read with `readConcern: majority` sees only such writes, and on the primary all of
//! them that were acknowledged before; a unique index lets one of two equal keys in. Nothing here
//! uses transactions or counters. How a log is numbered: `log.rs`; how other nodes hear: `change_stream.rs`.

pub mod archive;
mod batch_loader;
mod change_stream;
mod limits;
mod log;
#[cfg(test)]
mod model;
mod nodes;
mod numbering;
mod refusal;
mod retry;
mod rooms;
mod sessions;
mod users;

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use async_trait::async_trait;
use mongodb::bson::{Bson, Document, doc};
use mongodb::error::{Error, ErrorKind, WriteFailure};
use mongodb::options::{
    Acknowledgment, ClientOptions, CollectionOptions, IndexOptions, ReadConcern, SelectionCriteria,
    WriteConcern,
};
use mongodb::{Client, Collection, Database, IndexModel};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout, timeout_at};

use self::batch_loader::BatchLoader;
use self::change_stream::{ChangeStream, Liveness};
use self::log::Logs;
use self::nodes::Nodes;
use self::retry::{ATTEMPT_MAX, Backoff, attempt, is_transient, retry};
use super::{Access, Appended, OnChange, Store, StoreError};
use crate::domain::{
    Account, Epoch, Event, Login, NewEvent, NewUser, RoomId, RoomSummary, Seq, Session, SessionId,
    User, UserId,
};
use crate::lasting;
use crate::metrics::Metrics;

/// How long being ready may take to find out.
const READY_WITHIN: Duration = Duration::from_secs(3);

/// How soon the log says that nobody answers at the start; the driver goes on looking.
const GREET_WITHIN: Duration = Duration::from_secs(2);

/// The error code of a write that met an equal key in a unique index.
const DUPLICATE_KEY: i32 = 11_000;

/// The store in one database of a MongoDB deployment.
pub struct MongoStore {
    collections: Collections,
    logs: Logs,
    /// `None` on a standalone `mongod`, which has no oplog and serves one node.
    cluster: Option<Cluster>,
    /// End when this is dropped, or at an orderly end.
    tasks: Mutex<JoinSet<()>>,
    epoch: Epoch,
    live_sessions: BatchLoader<SessionId, (Session, User)>,
    members: BatchLoader<(UserId, RoomId), Seq>,
}

/// What there is only where there may be other nodes.
struct Cluster {
    nodes: Nodes,
    liveness: Arc<Liveness>,
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
    meta: Collection<Document>,
    limits: Collection<Document>,
    nodes: Collection<Document>,
    presence: Collection<Document>,
    typing: Collection<Document>,
    /// Whether this is a replica set or a sharded cluster.
    is_replicated: bool,
}

impl MongoStore {
    /// Connects to `uri` and makes what is missing there: any number of nodes may do so at once.
    /// While nothing answers it tries again, for as long as `wait`.
    ///
    /// # Errors
    ///
    /// One line for the log: the address is wrong, nothing answers, or an index cannot be made.
    pub async fn open(
        uri: &str,
        wait: Duration,
        on_change: OnChange,
        metrics: Metrics,
    ) -> anyhow::Result<Self> {
        let opened = Self::open_with(uri, wait, on_change, metrics).await;
        opened.map_err(refusal::plainly)
    }

    async fn open_with(
        uri: &str,
        wait: Duration,
        on_change: OnChange,
        metrics: Metrics,
    ) -> anyhow::Result<Self> {
        let (database, hello) = connect(uri, wait).await?;
        let is_replicated = is_replicated(&hello);
        if !is_replicated {
            tracing::warn!(
                "this mongod is not a member of a replica set: it serves one parlor only, and \
                 what it acknowledges is on one machine only; start it with --replSet and run \
                 rs.initiate() for more"
            );
        }

        let collections = Collections::of(database, is_replicated);
        collections.make_indexes().await?;
        users::renew_email_keys(&collections).await?;
        if collections.get(Meta::Importing).await?.is_some() {
            bail!(
                "an import into the database {} did not finish: drop it and import again",
                collections.database.name()
            );
        }
        let epoch = collections.epoch().await?;
        let logs = Logs::new(
            collections.events.clone(),
            Arc::clone(&on_change),
            metrics.clone(),
        );
        let mut tasks = JoinSet::new();
        let cluster = if is_replicated {
            let nodes = Nodes::join(&collections, Arc::clone(&on_change)).await?;
            let change_stream = ChangeStream::new(
                collections.database.clone(),
                nodes.clone(),
                logs.clone(),
                on_change,
                metrics,
            );
            let liveness = change_stream.liveness();
            let sweeping = change_stream.clone();
            tasks.spawn(lasting::task("the sweep", move || sweeping.clone().sweep()));
            tasks.spawn(lasting::task("the change_stream", move || {
                change_stream.clone().follow()
            }));
            let living = nodes.clone();
            tasks.spawn(lasting::task("the beat", move || living.clone().live()));
            Some(Cluster { nodes, liveness })
        } else {
            tasks.spawn(lasting::task("the sweep", move || {
                change_stream::sweep_alone(Arc::clone(&on_change))
            }));
            None
        };
        let of = collections.clone();
        let find_sessions = move |ids| sessions::find_some(of.clone(), ids);
        let of = collections.clone();
        let find_members = move |asked| rooms::find_members(of.clone(), asked);
        Ok(Self {
            cluster,
            logs,
            collections,
            live_sessions: BatchLoader::start(&mut tasks, find_sessions),
            members: BatchLoader::start(&mut tasks, find_members),
            tasks: Mutex::new(tasks),
            epoch,
        })
    }
}

/// The database that `uri` names, and what its primary says of itself.
async fn connect(uri: &str, wait: Duration) -> anyhow::Result<(Database, Document)> {
    let until = Instant::now() + wait;
    let mut backoff = Backoff::new();
    // No error is passed on with its source: it may quote the address, password and all.
    let mut options = loop {
        match ClientOptions::parse(uri).await {
            Ok(options) => break options,
            Err(error) if !matches!(*error.kind, ErrorKind::DnsResolve { .. }) => {
                bail!(
                    "MONGODB_URI is not a MongoDB connection string that the driver takes: check its \
                     options, and that the user and the password are %-encoded"
                );
            }
            Err(_) if Instant::now() >= until => {
                bail!("the DNS does not know the hosts that MONGODB_URI names");
            }
            Err(_) => backoff.pause().await,
        }
    };
    options.app_name.get_or_insert_with(|| "parlor".to_owned());
    options.server_selection_timeout = Some(ATTEMPT_MAX);
    options.connect_timeout.get_or_insert(ATTEMPT_MAX);
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
            .w_timeout(ATTEMPT_MAX)
            .build(),
    );
    let name = options
        .default_database
        .clone()
        .unwrap_or_else(|| "parlor".to_owned());
    let client = Client::with_options(options.clone()).context("cannot use MONGODB_URI")?;
    let database = client.database(&name);
    let hello = wait_for_primary(&database, &options, wait).await?;
    Ok((database, hello))
}

/// Waits for a primary.
async fn wait_for_primary(
    database: &Database,
    options: &ClientOptions,
    wait: Duration,
) -> anyhow::Result<Document> {
    let until = Instant::now() + wait.max(Duration::from_secs(1));
    let mut backoff = Backoff::new();
    loop {
        let hello = attempt(
            "wait_for_primary MongoDB",
            database.run_command(doc! { "hello": 1 }),
        );
        match timeout_at(until.min(Instant::now() + GREET_WITHIN), hello).await {
            Ok(Ok(hello)) => return Ok(hello),
            Ok(Err(refused)) if !is_transient(&refused) => {
                return Err(refused).context("MongoDB at MONGODB_URI refuses us");
            }
            Ok(Err(_)) | Err(_) => {}
        }
        let left = until.saturating_duration_since(Instant::now());
        let why = refusal::why_no_primary(options).await;
        ensure!(
            !left.is_zero(),
            "no MongoDB primary answered at MONGODB_URI within {} seconds (STARTUP_WAIT): {why}",
            wait.as_secs()
        );
        let seconds_left = left.as_secs();
        tracing::warn!(
            seconds_left,
            why,
            "no MongoDB primary answers; trying again"
        );
        backoff.pause().await;
    }
}

impl Collections {
    fn of(database: Database, is_replicated: bool) -> Self {
        // A try that a failover forgets is forgiven.
        let quick = WriteConcern::builder().w(Acknowledgment::Nodes(1)).build();
        let quick = CollectionOptions::builder().write_concern(quick).build();
        Self {
            limits: database.collection_with_options("limits", quick),
            nodes: database.collection("nodes"),
            presence: database.collection("presence"),
            typing: database.collection("typing"),
            is_replicated,
            users: database.collection("users"),
            sessions: database.collection("sessions"),
            rooms: database.collection("rooms"),
            memberships: database.collection("memberships"),
            events: database.collection("events"),
            meta: database.collection("meta"),
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
                vec![index(
                    doc! { "expires_at": 1 },
                    "expiry",
                    expiry.clone(),
                    false,
                )],
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
            retry("make indexes", || {
                collection.create_indexes(indexes.clone())
            })
            .await
            .with_context(|| format!("cannot make the indexes of {}", collection.name()))?;
        }
        Ok(())
    }

    async fn epoch(&self) -> anyhow::Result<Epoch> {
        let Some(epoch) = self.get(Meta::Epoch).await? else {
            return Ok(0);
        };
        // Whoever set it in a shell may have stored another kind of number.
        let value = match epoch {
            Bson::Int64(value) => u64::try_from(value).ok(),
            Bson::Int32(value) => u64::try_from(value).ok(),
            Bson::Double(value) if value.fract() == 0.0 && value >= 0.0 => Some(value as u64),
            _ => None,
        };
        value.context("the epoch in the database is not a whole number")
    }

    async fn get(&self, what: Meta) -> Result<Option<Bson>, StoreError> {
        let find = || self.meta.find_one(doc! { "_id": what.name() });
        let found = retry("read what the database is", find).await?;
        Ok(found.and_then(|mut found| found.remove("value")))
    }

    async fn set(&self, what: Meta, value: i64) -> Result<(), StoreError> {
        retry("write what the database is", || {
            let update = doc! { "$set": { "value": value } };
            let set = self.meta.update_one(doc! { "_id": what.name() }, update);
            set.upsert(true)
        })
        .await
        .map(drop)
    }

    async fn unset(&self, what: Meta) -> Result<(), StoreError> {
        let delete = || self.meta.delete_one(doc! { "_id": what.name() });
        retry("write what the database is", delete).await.map(drop)
    }
}

/// What there is to know of the whole database.
#[derive(Debug, Clone, Copy)]
enum Meta {
    /// Its [`Epoch`]; none is 0.
    Epoch,
    /// There while an import is under way, or did not finish.
    Importing,
}

impl Meta {
    fn name(self) -> &'static str {
        match self {
            Self::Epoch => "epoch",
            Self::Importing => "importing",
        }
    }
}

/// A member of a replica set says so, or the router of a sharded cluster.
fn is_replicated(hello: &Document) -> bool {
    hello.contains_key("setName") || hello.contains_key("msg")
}

fn index(keys: Document, name: &str, mut options: IndexOptions, unique: bool) -> IndexModel {
    options.name = Some(name.to_owned());
    options.unique = Some(unique);
    IndexModel::builder().keys(keys).options(options).build()
}

/// The one document that `filter` finds, by a unique index. That there is none is certain: a
/// primary that has been replaced and does not know it may not have heard of it, so it is asked
/// to make sure ("linearizable", which is defined for one document).
/// Source: <https://www.mongodb.com/docs/manual/reference/read-concern-linearizable/>
async fn find_linearizable(
    operation: &'static str,
    collections: &Collections,
    collection: &Collection<Document>,
    filter: Document,
) -> Result<Option<Document>, StoreError> {
    let found = retry(operation, || collection.find_one(filter.clone())).await?;
    if found.is_some() || !collections.is_replicated {
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
async fn insert_once(
    operation: &'static str,
    collections: &Collections,
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
    match find_linearizable(operation, collections, into, key).await? {
        Some(_) => Ok(()),
        None => Err(error),
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

/// Whether everything that an unordered insert refused was there already, in this index.
fn is_only_repeated(error: &StoreError, index: &str) -> bool {
    let StoreError::Backend { source, .. } = error else {
        return false;
    };
    let Some(ErrorKind::InsertMany(failure)) =
        source.downcast_ref::<Error>().map(|error| &*error.kind)
    else {
        return false;
    };
    let index = format!("index: {index} ");
    let mut refused = failure.write_errors.iter().flatten();
    failure.write_concern_error.is_none()
        && refused.all(|refused| refused.code == DUPLICATE_KEY && refused.message.contains(&index))
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
        if let Some(cluster) = &self.cluster {
            cluster.liveness.check()?;
        }
        let primary = self.collections.database.run_command(doc! { "ping": 1 });
        match timeout(READY_WITHIN, primary).await {
            Ok(pong) => pong
                .map(drop)
                .map_err(|error| StoreError::backend("reach MongoDB", error)),
            Err(late) => Err(StoreError::backend("reach MongoDB", late)),
        }
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
        match self.live_sessions.find(id).await {
            Some(found) => Ok(Some(found)),
            None => sessions::find(&self.collections, id).await,
        }
    }

    async fn live_sessions(&self, ids: &[SessionId]) -> Result<HashSet<SessionId>, StoreError> {
        sessions::live(&self.collections, ids).await
    }

    async fn revoke_session(&self, id: SessionId) -> Result<(), StoreError> {
        // A task, because a client that hangs up drops its handler, not what it began.
        let (collections, logs) = (self.collections.clone(), self.logs.clone());
        let revoking = tokio::spawn(async move {
            sessions::revoke(&collections, id).await?;
            // The change_stream tells the other nodes, and this one again, which does no harm.
            logs.tell(super::Change::SessionRevoked(id));
            Ok(())
        });
        revoking
            .await
            .map_err(|panicked| StoreError::backend("revoke a session", panicked))?
    }

    async fn join(&self, room: &RoomId, user: &User) -> Result<(), StoreError> {
        rooms::join(&self.collections, &self.logs, room, user).await
    }

    async fn access(&self, room: &RoomId, user: &User) -> Result<Access, StoreError> {
        match self.members.find((user.id, room.clone())).await {
            Some(read) => Ok(Access::Member { read }),
            None => rooms::access(&self.collections, room, user).await,
        }
    }

    async fn rooms_of(&self, user: &User) -> Result<Arc<[RoomSummary]>, StoreError> {
        rooms::of(&self.collections, user).await
    }

    async fn mark_read(&self, room: &RoomId, user: &User, seq: Seq) -> Result<(), StoreError> {
        rooms::mark_read(&self.collections, room, user, seq).await
    }

    async fn append(&self, room: &RoomId, event: NewEvent) -> Result<Appended, StoreError> {
        self.logs.append(room, event).await
    }

    async fn reaches(&self, room: &RoomId, seq: Seq) -> Result<bool, StoreError> {
        let event = log::place(room, seq);
        let events = &self.collections.events;
        let found =
            find_linearizable("look for an event", &self.collections, events, event).await?;
        Ok(found.is_some())
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

    fn has_other_nodes(&self) -> bool {
        self.cluster.is_some()
    }

    async fn show_present(
        &self,
        here: &[(RoomId, User)],
        gone: &[(RoomId, UserId)],
    ) -> Result<(), StoreError> {
        match &self.cluster {
            Some(cluster) => cluster.nodes.show(here, gone).await,
            None => Ok(()),
        }
    }

    async fn tell_typing(&self, typing: &[(RoomId, User)]) -> Result<(), StoreError> {
        match &self.cluster {
            Some(cluster) => cluster.nodes.tell_typing(typing).await,
            None => Ok(()),
        }
    }

    async fn shutdown(&self) -> Result<(), StoreError> {
        // A beat that finds us gone would have us join again.
        let tasks = match self.tasks.lock() {
            Ok(mut tasks) => std::mem::take(&mut *tasks),
            Err(_) => JoinSet::new(),
        };
        drop(tasks);
        match &self.cluster {
            Some(cluster) => cluster.nodes.shutdown().await,
            None => Ok(()),
        }
    }
}
