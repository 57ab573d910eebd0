//! The writer: one thread that commits whatever waits in one transaction.
//!
//! It takes everything that waits, runs each piece of work in a savepoint of its own, commits all
//! of it in one transaction, and only then tells the process what changed and answers the
//! waiting callers. So the cost of the fsync is shared, one failing write fails alone, and what
//! is told and answered is durable. A caller that went away changes nothing of this, and neither
//! does a panic: the thread goes on with what it has ([`lasting`]).
//!
//! After a deletion it also empties the write-ahead log, where the deleted text may stand, before it
//! answers. Where a long read, a backup say, is in the way, it tries again until that is over.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver as StdReceiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

use super::lock::Marking;
use crate::lasting;
use crate::store::StoreError;
use crate::store::cache::Durable;

/// How many writes may wait. One waits for a few milliseconds at most, so a full queue means a
/// disk that hangs; it is better to say so than to let memory grow.
const QUEUE_MAX: usize = 4_096;

/// How many writes share a transaction. Past a few hundred the fsync's share is nothing, and the
/// first in line only waits longer.
const BATCH_MAX: usize = 512;

/// After this many writes the log of the database is copied into its file.
const CHECKPOINT_EVERY: usize = 1_000;

/// Pages in the write-ahead log past which the writer stops to have it emptied: readers always
/// being somewhere in it keep the ordinary checkpoint from ever reaching its end.
const WAL_PAGES_MAX: i64 = 16_000;

/// How long a write waits for another process that opens the database, as a backup does.
const BUSY_MAX: Duration = Duration::from_secs(5);

/// How long emptying the write-ahead log after a deletion waits for readers, which are done in less unless
/// they copy all of it; and when it is tried again.
const SCRUB_WAITS: Duration = Duration::from_millis(20);
const SCRUB_AGAIN_IN: Duration = Duration::from_millis(100);

/// Called for each change, in order, after it is durable and before its write is answered.
pub(super) type OnDurable = Box<dyn Fn(Durable) + Send>;

/// Runs inside the transaction; what it returns runs after it, told whether it committed.
type Job = Box<dyn FnOnce(&Connection, &mut Vec<Durable>) -> Done + Send>;

struct Done {
    /// Whether there was no room for it.
    was_full: bool,
    answer: Answer,
}

type Answer = Box<dyn FnOnce(Result<(), &NotCommitted>)>;

/// Why a transaction was not committed.
#[derive(Debug, thiserror::Error)]
enum NotCommitted {
    #[error("the disk is full")]
    Full,
    #[error("{0}")]
    Otherwise(String),
}

impl From<rusqlite::Error> for NotCommitted {
    fn from(error: rusqlite::Error) -> Self {
        match is_full(&error) {
            true => Self::Full,
            false => Self::Otherwise(error.to_string()),
        }
    }
}

fn is_full(error: &rusqlite::Error) -> bool {
    error.sqlite_error_code() == Some(rusqlite::ErrorCode::DiskFull)
}

/// The way to the writer thread, which ends when all of these are dropped, or it is closed. Cheap to clone.
#[derive(Clone)]
pub(super) struct Writer {
    jobs: mpsc::Sender<Job>,
    /// The caller that waits for it to close.
    closing: Arc<Mutex<Option<oneshot::Sender<()>>>>,
}

impl Writer {
    pub(super) fn start(
        connection: Connection,
        checkpointing: Connection,
        on_durable: OnDurable,
        marking: Marking,
    ) -> io::Result<Self> {
        let (jobs, mut waiting) = mpsc::channel(QUEUE_MAX);
        let closing = Arc::<Mutex<Option<oneshot::Sender<()>>>>::default();
        let (due, is_due) = sync_channel(1);
        let wal_is_long = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&wal_is_long);
        let mut marked = None;
        lasting::thread("checkpointer", move || {
            checkpoint_when_due(&checkpointing, &is_due, &told, &mut marked);
        })?;
        let is_closing = Arc::clone(&closing);
        let mut writing = Writing {
            connection,
            on_durable,
            checkpoint_due: due,
            wal_is_long,
            since_checkpoint: 0,
            marking: Some(marking),
            scrub_at: None,
        };
        lasting::thread("writer", move || {
            writing.mark();
            while writing.write_what_waits(&mut waiting) {
                let closing = is_closing.lock().map_or(None, |mut who| who.take());
                if let Some(closing) = closing {
                    writing.empty_wal("TRUNCATE", Duration::ZERO);
                    let _ = closing.send(());
                    return;
                }
            }
        })?;
        Ok(Self { jobs, closing })
    }

    /// Brings everything into the one file, once what waits is written, and writes no more.
    pub(super) async fn close(&self) -> Result<(), StoreError> {
        let (closing, closed) = oneshot::channel();
        if let Ok(mut who) = self.closing.lock() {
            *who = Some(closing);
        }
        // Wakes it, unless it was up from the write before, and has heard and ended already.
        let woken = self.write("close the database", |_, _| Ok(())).await;
        match closed.await {
            Ok(()) => Ok(()),
            Err(lost) => woken.and(Err(StoreError::backend("close the database", lost))),
        }
    }

    /// Fails when the writer has been closed.
    pub(super) fn ready(&self) -> Result<(), StoreError> {
        match self.jobs.is_closed() {
            false => Ok(()),
            true => Err(StoreError::backend("write", "the writer has stopped")),
        }
    }

    /// Runs `work` in a transaction and answers when that is durable. Changes it pushes are told
    /// to the process just before.
    pub(super) async fn write<T: Send + 'static>(
        &self,
        operation: &'static str,
        work: impl FnOnce(&Connection, &mut Vec<Durable>) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (answer, answered) = oneshot::channel();
        let job: Job = Box::new(move |connection, changes| {
            let result = in_savepoint(operation, connection, changes, work);
            Done {
                was_full: matches!(result, Err(StoreError::StorageFull)),
                answer: Box::new(move |committed| {
                    let result = match committed {
                        Ok(()) => result,
                        Err(NotCommitted::Full) => Err(StoreError::StorageFull),
                        Err(NotCommitted::Otherwise(cause)) => {
                            Err(StoreError::backend(operation, cause.clone()))
                        }
                    };
                    // The caller may have gone; the write stands.
                    let _ = answer.send(result);
                }),
            }
        });
        self.jobs.try_send(job).map_err(|refused| match refused {
            mpsc::error::TrySendError::Full(_) => StoreError::Busy,
            mpsc::error::TrySendError::Closed(_) => {
                StoreError::backend(operation, "the writer has stopped")
            }
        })?;
        answered
            .await
            .map_err(|lost| StoreError::backend(operation, lost))?
    }
}

/// Runs one piece of work so that its failure, or panic, undoes its own writes and no others.
fn in_savepoint<T>(
    operation: &'static str,
    connection: &Connection,
    changes: &mut Vec<Durable>,
    work: impl FnOnce(&Connection, &mut Vec<Durable>) -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    let failed = |error: rusqlite::Error| StoreError::backend(operation, error);
    let told = changes.len();
    connection.execute_batch("SAVEPOINT work").map_err(failed)?;
    let result = catch_unwind(AssertUnwindSafe(|| work(connection, changes)))
        .unwrap_or_else(|_| Err(StoreError::backend(operation, "the write panicked")));
    let result = result.and_then(|value| {
        connection
            .execute_batch("RELEASE work")
            .map_err(failed)
            .map(|()| value)
    });
    let result = result.map_err(|error| match &error {
        StoreError::Backend { source, .. } if source.downcast_ref().is_some_and(is_full) => {
            StoreError::StorageFull
        }
        _ => error,
    });
    if result.is_err() {
        changes.truncate(told);
        // Fails when SQLite has already rolled everything back (a full disk); `run` sees that.
        let _ = connection.execute_batch("ROLLBACK TO work; RELEASE work");
    }
    result
}

/// The state of the writer's thread.
struct Writing {
    connection: Connection,
    on_durable: OnDurable,
    checkpoint_due: SyncSender<Option<Marking>>,
    wal_is_long: Arc<AtomicBool>,
    since_checkpoint: usize,
    /// Until it has begun.
    marking: Option<Marking>,
    /// When the write-ahead log is to be emptied, where a deleted text may still stand.
    scrub_at: Option<Instant>,
}

impl Writing {
    /// Waits for work and does what there is then; `false` when there will be no more.
    fn write_what_waits(&mut self, waiting: &mut mpsc::Receiver<Job>) -> bool {
        if self.scrub_at.is_some() && waiting.is_empty() {
            sleep(SCRUB_AGAIN_IN / 10);
        }
        if self.scrub_at.is_some_and(|at| at <= Instant::now()) {
            self.scrub();
        }
        if self.scrub_at.is_some() && waiting.is_empty() {
            return true;
        }
        let mut batch = Vec::with_capacity(BATCH_MAX);
        if waiting.blocking_recv_many(&mut batch, BATCH_MAX) == 0 {
            return false;
        }
        if !self.connection.is_autocommit() {
            // Of a batch that panicked: whoever waited for it has heard that it failed.
            let _ = self.connection.execute_batch("ROLLBACK");
        }
        self.since_checkpoint += batch.len();
        let mut jobs = batch.into_iter();
        while jobs.len() > 0 {
            let committed = commit_together(&self.connection, &mut jobs, &self.on_durable);
            if committed.has_deleted {
                self.scrub();
            }
            committed.answer();
        }

        if self.wal_is_long.swap(false, Ordering::Relaxed) {
            self.empty_wal("RESTART", Duration::ZERO);
        } else if self.since_checkpoint >= CHECKPOINT_EVERY {
            self.since_checkpoint = 0;
            // Full means that one is due already.
            let _ = self.checkpoint_due.try_send(None);
        }
        true
    }

    fn mark(&mut self) {
        let Some(mut marking) = self.marking.take() else {
            return;
        };
        match marking.begin(&self.connection) {
            Ok(()) => drop(self.checkpoint_due.try_send(Some(marking))),
            Err(error) => tracing::warn!("cannot mark the database: {error:#}"),
        }
    }

    /// Leaves nothing of a deleted text in the write-ahead log.
    fn scrub(&mut self) {
        let is_empty = self.empty_wal("TRUNCATE", SCRUB_WAITS);
        self.scrub_at = (!is_empty).then(|| Instant::now() + SCRUB_AGAIN_IN);
    }

    /// Says whether it is empty.
    fn empty_wal(&self, how: &str, waits: Duration) -> bool {
        let checkpoint = format!("PRAGMA wal_checkpoint({how})");
        // A long read, of a backup say, must not hold up the writer. The checkpoint is tried again.
        let is_busy = self.connection.busy_timeout(waits).and_then(|()| {
            self.connection
                .query_row(&checkpoint, [], |row| row.get::<_, bool>(0))
        });
        let _ = self.connection.busy_timeout(BUSY_MAX);
        match is_busy {
            Ok(is_busy) => !is_busy,
            Err(error) => {
                tracing::warn!(%error, "cannot empty the write-ahead log");
                false
            }
        }
    }
}

/// A transaction that was tried, whose callers are still to be answered.
struct Committed {
    has_deleted: bool,
    done: Vec<Done>,
    outcome: Result<(), NotCommitted>,
}

impl Committed {
    fn answer(self) {
        for done in self.done {
            (done.answer)(self.outcome.as_ref().copied());
        }
    }
}

/// Commits as many of `jobs` as one transaction holds: all, unless it breaks on the way.
fn commit_together(
    connection: &Connection,
    jobs: &mut impl Iterator<Item = Job>,
    on_durable: &OnDurable,
) -> Committed {
    let mut changes = Vec::new();
    let mut done: Vec<Done> = Vec::new();
    let statement = |sql| connection.execute_batch(sql).map_err(NotCommitted::from);
    let mut outcome = statement("BEGIN IMMEDIATE");
    if outcome.is_ok() {
        for job in jobs {
            done.push(job(connection, &mut changes));
            if connection.is_autocommit() {
                // SQLite rolled the transaction back by itself. The next write would commit
                // alone; it gets a transaction of its own instead.
                break;
            }
        }
        outcome = match connection.is_autocommit() {
            true if done.iter().any(|done| done.was_full) => Err(NotCommitted::Full),
            true => Err(NotCommitted::Otherwise(
                "the database rolled the transaction back".to_owned(),
            )),
            false => statement("COMMIT"),
        };
    } else {
        // Without a transaction it must not run. Dropped, it answers its caller with an error.
        drop(jobs.next());
    }

    let has_deleted = outcome.is_ok() && changes.iter().any(Durable::is_deletion);
    match &outcome {
        Ok(()) => {
            // It is there, and answered so whatever comes of telling it.
            let telling = || changes.into_iter().for_each(on_durable);
            if catch_unwind(AssertUnwindSafe(telling)).is_err() {
                tracing::error!("telling what was written panicked, which is a bug");
            }
        }
        Err(cause) => {
            if !connection.is_autocommit() {
                let _ = statement("ROLLBACK");
            }
            tracing::error!(%cause, writes = done.len(), "a transaction failed");
        }
    }
    Committed {
        has_deleted,
        done,
        outcome,
    }
}

fn checkpoint_when_due(
    connection: &Connection,
    is_due: &StdReceiver<Option<Marking>>,
    wal_is_long: &AtomicBool,
    marking: &mut Option<Marking>,
) {
    while let Ok(begun) = is_due.recv() {
        if begun.is_some() {
            *marking = begun;
        }
        // (was it busy, pages in the log, pages copied)
        let pages = connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |row| {
            Ok((row.get::<_, i64>(1)?, row.get::<_, i64>(2)?))
        });
        match pages {
            Ok((in_log, _)) if in_log > WAL_PAGES_MAX => {
                wal_is_long.store(true, Ordering::Relaxed);
            }
            Ok(_) => {}
            Err(error) => tracing::warn!(%error, "cannot checkpoint the database"),
        }
        match marking.as_mut().map(Marking::is_done) {
            Some(Ok(true)) => *marking = None,
            Some(Err(error)) => tracing::warn!("cannot mark the database: {error:#}"),
            Some(Ok(false)) | None => {}
        }
    }
}

#[cfg(test)]
mod tests;
