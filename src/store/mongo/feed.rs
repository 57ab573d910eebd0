//! How a node hears of what other nodes did: one change stream over the deployment's oplog.
//!
//! It is a wake-up and not the truth. Whenever it was interrupted, and every few seconds in any
//! case, the process is told [`Change::MaybeMissed`] and compares the heads of the logs it
//! follows, so a stream that fails in a way nobody thought of delays messages and loses none.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use mongodb::Database;
use mongodb::bson::{Document, doc};
use mongodb::change_stream::event::ResumeToken;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};

use super::{Collections, log};
use crate::domain::SessionId;
use crate::store::{Change, OnChange, StoreError};

/// How often the heads are compared whatever the stream says.
const SWEEP_EVERY: Duration = Duration::from_secs(5);

/// How long MongoDB holds an empty answer back. It is what shows that the stream is alive.
const AWAIT_MAX: Duration = Duration::from_secs(1);

/// A stream that has not even said "nothing new" for so long has stalled.
const STALLED_AFTER: Duration = Duration::from_secs(8);

/// The change stream's task, which ends when this is dropped.
pub(super) struct Feed {
    /// `None` on a standalone `mongod`, which has no oplog and serves one node.
    pulse: Option<Arc<Pulse>>,
    _tasks: JoinSet<()>,
}

/// When the stream last answered.
struct Pulse {
    epoch: Instant,
    beat_ms: AtomicU64,
}

impl Feed {
    pub(super) fn start(collections: &Collections, has_oplog: bool, on_change: OnChange) -> Self {
        let mut tasks = JoinSet::new();
        let pulse = has_oplog.then(|| {
            let pulse = Arc::new(Pulse {
                epoch: Instant::now(),
                beat_ms: AtomicU64::new(0),
            });
            tasks.spawn(sweep(Arc::clone(&on_change)));
            tasks.spawn(follow(
                collections.database.clone(),
                on_change,
                Arc::clone(&pulse),
            ));
            pulse
        });
        Self {
            pulse,
            _tasks: tasks,
        }
    }

    /// Fails while other nodes' messages come only with the sweep.
    pub(super) fn ready(&self) -> Result<(), StoreError> {
        match &self.pulse {
            Some(pulse) if pulse.age() > STALLED_AFTER => Err(StoreError::backend(
                "follow the change stream",
                "it has stalled",
            )),
            _ => Ok(()),
        }
    }
}

impl Pulse {
    fn beat(&self) {
        let now = u64::try_from(self.epoch.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.beat_ms.store(now, Ordering::Relaxed);
    }

    fn age(&self) -> Duration {
        let beat = Duration::from_millis(self.beat_ms.load(Ordering::Relaxed));
        self.epoch.elapsed().saturating_sub(beat)
    }
}

async fn sweep(on_change: OnChange) {
    let mut due = interval(SWEEP_EVERY);
    due.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        due.tick().await;
        on_change(Change::MaybeMissed);
    }
}

async fn follow(database: Database, on_change: OnChange, pulse: Arc<Pulse>) {
    // Where the last stream was, so that the next one goes on there.
    let mut place = None;
    loop {
        let ended = follow_once(&database, &on_change, &pulse, &mut place).await;
        tracing::warn!(
            error = ?ended,
            "the change stream ended; opening a new one, reading the logs meanwhile"
        );
        on_change(Change::MaybeMissed);
        sleep(AWAIT_MAX).await;
    }
}

/// Follows one stream to its end, and says why it ended.
async fn follow_once(
    database: &Database,
    on_change: &OnChange,
    pulse: &Pulse,
    place: &mut Option<ResumeToken>,
) -> Box<dyn std::error::Error + Send + Sync> {
    let ours = doc! { "$match": { "$or": [
        { "ns.coll": "events", "operationType": "insert" },
        { "ns.coll": "sessions", "operationType": "update" },
    ] } };
    let watch = database
        .watch()
        .pipeline([ours])
        .max_await_time(AWAIT_MAX)
        // Taken: should it be what the stream cannot be opened at, the next try does without, and
        // the sweep finds what was missed.
        .resume_after(place.take());
    let mut stream = match timeout(STALLED_AFTER, watch).await {
        // Untyped: a document that cannot be read must not take the stream with it.
        Ok(Ok(stream)) => stream.with_type::<Document>(),
        Ok(Err(error)) => return error.into(),
        Err(late) => return late.into(),
    };
    // First the stream, then the logs: what is appended between the two is in both.
    on_change(Change::MaybeMissed);
    loop {
        pulse.beat();
        // Also after an answer without changes: a quiet night's token stays young.
        *place = stream.resume_token();
        match timeout(STALLED_AFTER, stream.next_if_any()).await {
            Ok(Ok(Some(change))) => {
                if let Some(change) = change_from(&change) {
                    on_change(change);
                }
            }
            Ok(Ok(None)) => {}
            Ok(Err(error)) => return error.into(),
            // The future of a stream given up on must not be polled again: drop it all.
            Err(late) => return late.into(),
        }
    }
}

fn change_from(change: &Document) -> Option<Change> {
    if let Ok(document) = change.get_document("fullDocument") {
        return match log::event_from(document) {
            Ok(event) => Some(Change::Appended(Arc::new(event))),
            Err(error) => {
                tracing::error!(?error, "cannot read an event from the change stream");
                Some(Change::MaybeMissed)
            }
        };
    }
    let updated = change.get_document("updateDescription").ok()?;
    let fields = updated.get_document("updatedFields").ok()?;
    fields.get("revoked_at")?;
    let id = change
        .get_document("documentKey")
        .ok()?
        .get_str("_id")
        .ok()?;
    SessionId::parse(id).ok().map(Change::SessionRevoked)
}
