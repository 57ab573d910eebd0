//! The one thread that writes.
//!
//! It takes everything that waits, runs each piece of work in a savepoint of its own, commits all
//! of it in one transaction, and only then tells the process what changed and answers the
//! waiting callers. So the cost of the fsync is shared, one failing write fails alone, and what
//! is told and answered is durable. A caller that went away changes nothing of this.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver as StdReceiver, SyncSender, sync_channel};
use std::thread;

use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

use crate::store::{Change, OnChange, StoreError};

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

/// Runs inside the transaction; what it returns runs after it, told whether it committed.
type Job = Box<dyn FnOnce(&Connection, &mut Vec<Change>) -> Answer + Send>;
type Answer = Box<dyn FnOnce(Result<(), &str>)>;

/// The way to the writer thread, which ends when this is dropped.
pub(super) struct Writer {
    jobs: mpsc::Sender<Job>,
}

impl Writer {
    pub(super) fn start(
        connection: Connection,
        checkpointing: Connection,
        on_change: OnChange,
    ) -> Self {
        let (jobs, waiting) = mpsc::channel(QUEUE_MAX);
        let (due, is_due) = sync_channel(1);
        let wal_is_long = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&wal_is_long);
        thread::spawn(move || checkpoint_when_due(&checkpointing, &is_due, &told));
        thread::spawn(move || run(&connection, waiting, &on_change, &due, &wal_is_long));
        Self { jobs }
    }

    /// Fails when the writer has stopped, which only a bug explains.
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
        work: impl FnOnce(&Connection, &mut Vec<Change>) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (answer, answered) = oneshot::channel();
        let job: Job = Box::new(move |connection, changes| {
            let result = in_savepoint(operation, connection, changes, work);
            Box::new(move |committed| {
                let result = match committed {
                    Ok(()) => result,
                    Err(cause) => Err(StoreError::backend(operation, cause)),
                };
                // The caller may have gone; the write stands.
                let _ = answer.send(result);
            })
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
    changes: &mut Vec<Change>,
    work: impl FnOnce(&Connection, &mut Vec<Change>) -> Result<T, StoreError>,
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
    if result.is_err() {
        changes.truncate(told);
        // Fails when SQLite has already rolled everything back (a full disk); `run` sees that.
        let _ = connection.execute_batch("ROLLBACK TO work; RELEASE work");
    }
    result
}

fn run(
    connection: &Connection,
    mut waiting: mpsc::Receiver<Job>,
    on_change: &OnChange,
    checkpoint_due: &SyncSender<()>,
    wal_is_long: &AtomicBool,
) {
    let mut since_checkpoint = 0;
    let mut batch = Vec::with_capacity(BATCH_MAX);
    while waiting.blocking_recv_many(&mut batch, BATCH_MAX) > 0 {
        since_checkpoint += batch.len();
        let mut jobs = batch.drain(..);
        while jobs.len() > 0 {
            commit_together(connection, &mut jobs, on_change);
        }
        drop(jobs);

        if wal_is_long.swap(false, Ordering::Relaxed) {
            let emptied = connection.query_row("PRAGMA wal_checkpoint(RESTART)", [], |_| Ok(()));
            if let Err(error) = emptied {
                tracing::warn!(%error, "cannot empty the write-ahead log");
            }
        } else if since_checkpoint >= CHECKPOINT_EVERY {
            since_checkpoint = 0;
            // Full means that one is due already.
            let _ = checkpoint_due.try_send(());
        }
    }
}

/// Commits as many of `jobs` as one transaction holds: all, unless it breaks on the way.
fn commit_together(
    connection: &Connection,
    jobs: &mut impl Iterator<Item = Job>,
    on_change: &OnChange,
) {
    let mut changes = Vec::new();
    let mut answers = Vec::new();
    let statement = |sql| connection.execute_batch(sql).map_err(|e| e.to_string());
    let mut outcome = statement("BEGIN IMMEDIATE");
    if outcome.is_ok() {
        for job in jobs {
            answers.push(job(connection, &mut changes));
            if connection.is_autocommit() {
                // SQLite rolled the transaction back by itself. Whatever ran next would commit
                // alone; it gets a transaction of its own instead.
                break;
            }
        }
        outcome = match connection.is_autocommit() {
            true => Err("the database rolled the transaction back".to_owned()),
            false => statement("COMMIT"),
        };
    } else {
        // Without a transaction it must not run. Dropped, it answers its caller with an error.
        drop(jobs.next());
    }

    match outcome {
        Ok(()) => {
            changes.into_iter().for_each(|change| on_change(change));
            answers.into_iter().for_each(|answer| answer(Ok(())));
        }
        Err(cause) => {
            if !connection.is_autocommit() {
                let _ = statement("ROLLBACK");
            }
            tracing::error!(cause, writes = answers.len(), "a transaction failed");
            answers.into_iter().for_each(|answer| answer(Err(&cause)));
        }
    }
}

fn checkpoint_when_due(
    connection: &Connection,
    is_due: &StdReceiver<()>,
    wal_is_long: &AtomicBool,
) {
    while is_due.recv().is_ok() {
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
    }
}
