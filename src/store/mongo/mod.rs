//! The store on a MongoDB replica set, for one node or several.
//!
//! Assumptions about MongoDB: a write acknowledged with `w: majority, j: true` survives a
//! failover; a read with `readConcern: majority` sees only such writes, and on the primary all of
//! them that were acknowledged before; a unique index lets one of two equal keys in. Nothing here
//! uses counters, and only changes to messages use transactions. How a log is numbered: `numbering.rs`; how
//! other nodes hear: `change_stream.rs`.

mod abandoned;
mod accounts;
pub mod archive;
mod audit;
mod batch_loader;
mod blocks;
mod change_stream;
mod changes;
mod collections;
mod connect;
mod erasure;
mod errors;
mod event_document;
mod invites;
mod limits;
mod liveness;
mod log;
mod log_ends;
mod log_writer;
mod members;
mod membership_changes;
mod membership_document;
mod memberships;
mod mentions;
mod migrations;
#[cfg(test)]
mod model;
mod nodes;
mod numbering;
mod read_marks;
mod refusal;
mod reports;
mod resets;
mod retry;
mod room_deletion;
mod room_document;
mod rooms;
mod sessions;
mod settings;
mod states;
mod tail;
mod transaction;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::bail;
use async_trait::async_trait;
use mongodb::bson::doc;
use tokio::task::JoinSet;
use tokio::time::timeout;

use self::batch_loader::BatchLoader;
use self::change_stream::ChangeStream;
use self::collections::{Collections, Meta};
use self::connect::{connect, ensure_replicated, is_router};
use self::liveness::Liveness;
use self::log_writer::Logs;
use self::nodes::Nodes;
use super::cache::{Durable, ReadCache};
use super::{OnChange, Store, StoreError};
use crate::cluster::{Cluster, OnPeerChange};
use crate::domain::{Epoch, RoomId, Seq, Session, SessionId, User, UserId};
use crate::lasting;
use crate::metrics::Metrics;

/// How long being ready may take to find out.
const READY_WITHIN: Duration = Duration::from_secs(3);

/// The store in one database of a MongoDB deployment.
pub struct MongoStore {
    collections: Collections,
    logs: Logs,
    cache: Arc<ReadCache>,
    /// The other nodes, and whether the change stream that tells of them is near.
    nodes: Nodes,
    liveness: Arc<Liveness>,
    /// End when this is dropped, or at an orderly end.
    tasks: Mutex<JoinSet<()>>,
    epoch: Epoch,
    live_sessions: BatchLoader<SessionId, (Session, User)>,
    members: BatchLoader<(UserId, RoomId), Seq>,
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
        on_peer_change: OnPeerChange,
        metrics: Metrics,
    ) -> anyhow::Result<Self> {
        let opened = Self::open_with(uri, wait, on_change, on_peer_change, metrics).await;
        opened.map_err(refusal::plainly)
    }

    async fn open_with(
        uri: &str,
        wait: Duration,
        on_change: OnChange,
        on_peer_change: OnPeerChange,
        metrics: Metrics,
    ) -> anyhow::Result<Self> {
        let connected = connect(uri, wait).await?;
        ensure_replicated(&connected.hello)?;
        let collections = Collections::of(&connected);
        migrations::refuse_newer(&collections).await?;
        collections.make_indexes().await?;
        migrations::migrate(&collections).await?;
        if collections.get(Meta::Importing).await?.is_some() {
            bail!(
                "an import into the database {} did not finish: drop it and import again",
                collections.database.name()
            );
        }
        let epoch = collections.epoch().await?;
        let cache = Arc::<ReadCache>::default();
        let applying = Arc::clone(&cache);
        // First the cache, so that whoever is woken finds what woke them.
        let on_change: OnChange = Arc::new(move |change| {
            let durable = Durable::Change(change.clone());
            applying.apply(&durable);
            on_change(change);
        });
        let logs = Logs::new(collections.clone(), Arc::clone(&on_change), metrics.clone());
        let mut tasks = JoinSet::new();
        let nodes = Nodes::join(&collections, on_peer_change).await?;
        let liveness = Arc::new(Liveness::new(!is_router(&connected.hello)));
        let change_stream = ChangeStream {
            collections: collections.clone(),
            nodes: nodes.clone(),
            logs: logs.clone(),
            cache: Arc::clone(&cache),
            on_change,
            metrics,
            liveness: Arc::clone(&liveness),
        };
        let sweeping = change_stream.clone();
        tasks.spawn(lasting::task("the sweep", move || sweeping.clone().sweep()));
        tasks.spawn(lasting::task("the change stream", move || {
            change_stream.clone().follow()
        }));
        let living = nodes.clone();
        tasks.spawn(lasting::task("the beat", move || living.clone().live()));
        // Of nodes that died in the midst of it.
        tasks.spawn(room_deletion::erase_now_and_then(collections.clone()));
        tasks.spawn(erasure::finish_all(
            collections.clone(),
            logs.clone(),
            Arc::clone(&cache),
        ));
        let of = collections.clone();
        let find_sessions = move |ids| sessions::find_some(of.clone(), ids);
        let of = collections.clone();
        let find_members = move |asked| members::find_members(of.clone(), asked);
        Ok(Self {
            nodes,
            liveness,
            logs,
            cache,
            collections,
            live_sessions: BatchLoader::start(&mut tasks, find_sessions),
            members: BatchLoader::start(&mut tasks, find_members),
            tasks: Mutex::new(tasks),
            epoch,
        })
    }

    /// The read cache, if it is new enough to be answered from.
    fn trusted_cache(&self) -> Option<&ReadCache> {
        self.liveness.is_trusted().then_some(&*self.cache)
    }

    /// The other nodes.
    pub fn cluster(&self) -> Arc<dyn Cluster> {
        Arc::new(self.nodes.clone())
    }
}

#[async_trait]
impl Store for MongoStore {
    fn is_shared(&self) -> bool {
        true
    }

    async fn ready(&self) -> Result<(), StoreError> {
        self.liveness.check()?;
        let primary = self.collections.database.run_command(doc! { "ping": 1 });
        match timeout(READY_WITHIN, primary).await {
            Ok(pong) => pong
                .map(drop)
                .map_err(|error| StoreError::backend("reach MongoDB", error)),
            Err(late) => Err(StoreError::backend("reach MongoDB", late)),
        }
    }

    async fn shutdown(&self) -> Result<(), StoreError> {
        // A beat that finds us gone would have us join again.
        let tasks = match self.tasks.lock() {
            Ok(mut tasks) => std::mem::take(&mut *tasks),
            Err(_) => JoinSet::new(),
        };
        drop(tasks);
        self.nodes.shutdown().await
    }
}
