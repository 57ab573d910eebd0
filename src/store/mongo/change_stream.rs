//! The change stream over the deployment's oplog, by which a node hears of other nodes' writes.
//!
//! It is a wake-up and not the truth. Whenever it was interrupted, and every few seconds in any
//! case, the process is told [`Change::Resync`] and compares the heads of the logs it
//! follows, so a stream that fails in a way nobody thought of delays messages and loses none.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use mongodb::Database;
use mongodb::bson::{Document, doc};
use mongodb::change_stream::event::ResumeToken;
use tokio::time::{Instant, sleep, timeout};

use super::errors::unreadable;
use super::log;
use super::log_writer::Logs;
use super::nodes::Nodes;
use crate::cluster::PeerChange;
use crate::domain::SessionId;
use crate::metrics::Metrics;
use crate::store::{Change, OnChange, StoreError};

/// How often the heads are compared whatever the stream says.
const SWEEP_EVERY: Duration = Duration::from_secs(5);

/// The same while the stream does not answer.
const SWEEP_EVERY_WHEN_STALLED: Duration = Duration::from_secs(1);

/// How long MongoDB holds an empty answer back. It is what shows that the stream is alive.
const AWAIT_MAX: Duration = Duration::from_secs(1);

/// A stream that is late with saying "nothing new". Revocations are to be heard within two seconds.
const LATE_AFTER: Duration = Duration::from_secs(2);

/// A stream that has not even said that for so long has stalled.
const STALLED_AFTER: Duration = Duration::from_secs(8);

/// The change stream and its followers. Cheap to clone.
#[derive(Clone)]
pub(super) struct ChangeStream {
    database: Database,
    nodes: Nodes,
    logs: Logs,
    on_change: OnChange,
    metrics: Metrics,
    liveness: Arc<Liveness>,
}

/// A change, read from one document of the stream.
enum Heard {
    Store(Change),
    Peer(PeerChange),
}

/// When the stream last answered.
pub(super) struct Liveness {
    epoch: Instant,
    beat_ms: AtomicU64,
}

impl Liveness {
    /// Fails while other nodes' messages come only with the sweep.
    pub(super) fn check(&self) -> Result<(), StoreError> {
        match self.age() > STALLED_AFTER {
            true => Err(StoreError::backend(
                "follow the change stream",
                "it has stalled",
            )),
            false => Ok(()),
        }
    }

    fn age(&self) -> Duration {
        let beat = Duration::from_millis(self.beat_ms.load(Ordering::Relaxed));
        self.epoch.elapsed().saturating_sub(beat)
    }

    fn beat(&self) {
        let now = u64::try_from(self.epoch.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.beat_ms.store(now, Ordering::Relaxed);
    }
}

impl ChangeStream {
    pub(super) fn new(
        database: Database,
        nodes: Nodes,
        logs: Logs,
        on_change: OnChange,
        metrics: Metrics,
    ) -> Self {
        Self {
            database,
            nodes,
            logs,
            on_change,
            metrics,
            liveness: Arc::new(Liveness {
                epoch: Instant::now(),
                beat_ms: AtomicU64::new(0),
            }),
        }
    }

    pub(super) fn liveness(&self) -> Arc<Liveness> {
        Arc::clone(&self.liveness)
    }

    /// Has the logs read now and then, whatever the stream says; oftener while it says nothing.
    pub(super) async fn sweep(self) {
        let mut was_stalled = false;
        let mut swept_at = Instant::now();
        loop {
            sleep(SWEEP_EVERY_WHEN_STALLED).await;
            let is_stalled = self.liveness.check().is_err();
            if is_stalled && !was_stalled {
                tracing::warn!("the change stream has stalled: reading the logs instead");
                self.metrics.change_stream_up.set(0);
            } else if was_stalled && !is_stalled {
                tracing::info!("the change stream answers again");
            }
            was_stalled = is_stalled;
            if is_stalled {
                self.metrics.log_sweeps.inc();
            }
            let is_due = swept_at.elapsed() >= SWEEP_EVERY;
            if is_due {
                swept_at = Instant::now();
            }
            if is_due || self.liveness.age() > LATE_AFTER {
                (self.on_change)(Change::Resync);
            }
            if is_due
                && is_stalled
                && let Ok(elsewhere) = self.nodes.elsewhere().await
            {
                self.nodes.heard(PeerChange::RemoteRoster(elsewhere));
            }
        }
    }

    /// Follows one stream after another.
    pub(super) async fn follow(self) {
        // Where the last stream was, so that the next one goes on there.
        let mut place = None;
        loop {
            let ended = self.follow_once(&mut place).await;
            tracing::warn!(
                error = ?ended,
                "the change stream ended: opening a new one, reading the logs meanwhile"
            );
            self.metrics.change_stream_up.set(0);
            self.metrics.change_stream_restarts.inc();
            self.metrics.log_sweeps.inc();
            (self.on_change)(Change::Resync);
            sleep(AWAIT_MAX).await;
        }
    }

    /// Follows one stream to its end, and says why it ended.
    async fn follow_once(
        &self,
        place: &mut Option<ResumeToken>,
    ) -> Box<dyn std::error::Error + Send + Sync> {
        let ours = doc! { "$match": { "$or": [
            { "ns.coll": "events", "operationType": "insert" },
            { "ns.coll": "sessions", "operationType": "update" },
            { "ns.coll": "presence", "operationType": { "$in": ["insert", "delete"] } },
            { "ns.coll": "typing", "operationType": { "$in": ["insert", "replace"] } },
        ] } };
        let watch = self
            .database
            .watch()
            .pipeline([ours])
            .max_await_time(AWAIT_MAX)
            // Taken: should it be what the stream cannot be opened at, the next try does without,
            // and the sweep finds what was missed.
            .resume_after(place.take());
        let mut stream = match timeout(STALLED_AFTER, watch).await {
            // Untyped: a document that cannot be read must not take the stream with it.
            Ok(Ok(stream)) => stream.with_type::<Document>(),
            Ok(Err(error)) => return error.into(),
            Err(late) => return late.into(),
        };
        // First the stream, then the logs: what is appended between the two is in both.
        (self.on_change)(Change::Resync);
        match self.nodes.elsewhere().await {
            Ok(elsewhere) => self.nodes.heard(PeerChange::RemoteRoster(elsewhere)),
            Err(error) => return error.into(),
        }
        loop {
            let next = match timeout(STALLED_AFTER, stream.next_if_any()).await {
                Ok(Ok(next)) => next,
                Ok(Err(error)) => return error.into(),
                // The future of a stream given up on must not be polled again: drop it all.
                Err(late) => return late.into(),
            };
            if !stream.is_alive() {
                // Its database was dropped, say. There is no going on from there.
                *place = None;
                return "the server closed it".into();
            }
            self.liveness.beat();
            self.metrics.change_stream_up.set(1);
            // Also after an answer without changes: a quiet night's token stays young.
            *place = stream.resume_token();
            match next.map(|change| self.changes_from(&change)).transpose() {
                Ok(changes) => {
                    for heard in changes.unwrap_or_default() {
                        self.pass_on(heard);
                    }
                }
                Err(error) => {
                    tracing::error!(?error, "cannot read what the change stream tells");
                    (self.on_change)(Change::Resync);
                }
            }
        }
    }

    fn pass_on(&self, heard: Heard) {
        match heard {
            Heard::Store(change) => {
                if let Change::Appended(event) = &change {
                    self.logs.hear(event);
                }
                (self.on_change)(change);
            }
            Heard::Peer(change) => self.nodes.heard(change),
        }
    }

    fn changes_from(&self, change: &Document) -> Result<Vec<Heard>, StoreError> {
        let missing = unreadable("read a change");
        let namespace = change.get_document("ns").map_err(&missing)?;
        let change = match namespace.get_str("coll").map_err(&missing)? {
            "events" => {
                let event =
                    log::event_from(change.get_document("fullDocument").map_err(&missing)?)?;
                Some(Heard::Store(Change::Appended(Arc::new(event))))
            }
            "presence" => match change.get_document("fullDocument") {
                Ok(shown) => {
                    let arrived = self.nodes.arrived(shown)?;
                    arrived.map(|(place, user)| {
                        Heard::Peer(PeerChange::Arrived(place.node, place.room, user))
                    })
                }
                Err(_) => {
                    let key = change.get_document("documentKey").map_err(&missing)?;
                    let left = self
                        .nodes
                        .place(key.get_document("_id").map_err(&missing)?)?;
                    left.map(|place| {
                        Heard::Peer(PeerChange::Left(place.node, place.room, place.user))
                    })
                }
            },
            "typing" => {
                let told = change.get_document("fullDocument").map_err(&missing)?;
                let typing = self.nodes.typing(told)?;
                let changes = typing.into_iter();
                return Ok(changes
                    .map(|(room, user)| Heard::Peer(PeerChange::Typing(room, user)))
                    .collect());
            }
            _ => revoked(change).map(|session| Heard::Store(Change::SessionRevoked(session))),
        };
        Ok(change.into_iter().collect())
    }
}

/// Has the logs read now and then where there is no stream: an event whose insert was given up on
/// may have come after all.
pub(super) async fn sweep_alone(on_change: OnChange) {
    loop {
        sleep(SWEEP_EVERY).await;
        on_change(Change::Resync);
    }
}

/// The session that an update of its document revoked.
fn revoked(change: &Document) -> Option<SessionId> {
    let updated = change.get_document("updateDescription").ok()?;
    let fields = updated.get_document("updatedFields").ok()?;
    fields.get("revoked_at")?;
    let key = change.get_document("documentKey").ok()?;
    SessionId::parse(key.get_str("_id").ok()?).ok()
}
