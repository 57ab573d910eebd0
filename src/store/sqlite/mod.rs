//! The embedded store: one SQLite file, one thread that writes it, a few connections that read.
//!
//! A write is answered after its transaction's fsync (WAL, `synchronous=FULL`), and transactions
//! are shared: see `writer.rs`. Readers see a commit only after that fsync, because SQLite makes
//! it visible in the WAL index last.

mod accounts;
pub mod archive;
mod audit;
pub mod backup;
mod blocks;
mod connection;
mod epoch;
mod erasure;
mod event_row;
mod integrity;
mod invites;
mod limits;
mod lock;
mod log;
mod mark;
mod members;
mod memberships;
mod mentions;
mod migrations;
mod readers;
mod reports;
mod resets;
mod room_deletion;
mod room_row;
mod rooms;
mod schema;
mod sessions;
mod states;
mod writer;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use async_trait::async_trait;

use self::connection::{checkpointer, empty_wal, open_prepared, open_reader};
use self::lock::{Marking, Marks, ShutdownMarker, lock, log_beside};
use self::readers::Readers;
use self::writer::Writer;
use super::cache::{Durable, ReadCache};
use super::{OnChange, Store, StoreError};
use crate::domain::Epoch;
use crate::files;

/// The database's name in its directory.
const DATABASE: &str = "parlor.db";

/// The store in `DATA_DIR/parlor.db`.
pub struct SqliteStore {
    path: PathBuf,
    writer: Writer,
    readers: Readers,
    cache: Arc<ReadCache>,
    epoch: Epoch,
    /// Held for as long as the store is open; the kernel gives it back when the process dies.
    lock: File,
}

impl SqliteStore {
    /// Opens `parlor.db` in `dir`, made if it is not there. All of it is read first if it is not
    /// as an orderly end has left it.
    ///
    /// # Errors
    ///
    /// One line for the log: the directory cannot be used, another process has it open, or the
    /// file is of a later version or damaged.
    pub fn open(dir: &Path, on_change: OnChange) -> anyhow::Result<Self> {
        let path = dir.join(DATABASE);
        let cannot_use = || format!("cannot use the database {}", path.display());
        let (mut lock, marker) = lock(dir)?;
        marker.fits(&path)?;
        // Only an orderly end vouches for anything.
        let is_as_it_was_closed = matches!(marker, ShutdownMarker::Closed { .. })
            && marker == ShutdownMarker::of_closed(&path);
        let log_is_known =
            log_beside(&path).is_none() || matches!(marker, ShutdownMarker::InUse(Some(_)));
        let in_use = ShutdownMarker::InUse(log_is_known.then(|| Marks::of(&path)));
        // From here on the file may be another than an orderly end has left, so that must no longer
        // be said. Of one that is not there yet, not yet that it was.
        if marker != ShutdownMarker::New && marker != in_use {
            in_use.put(&mut lock, dir)?;
        }
        let connection = open_prepared(&path)?;
        if !is_as_it_was_closed {
            if marker != ShutdownMarker::New {
                tracing::info!("the database was not closed in order: reading all of it");
            }
            integrity::check(&connection, log_is_known)
                .and_then(|()| schema::has_ours(&connection))
                .with_context(cannot_use)?;
        }
        erasure::finish_all(&connection).with_context(cannot_use)?;
        room_deletion::finish_all(&connection)
            .and_then(|()| empty_wal(&connection))
            .with_context(cannot_use)?;
        let epoch = epoch::epoch(&connection).with_context(cannot_use)?;
        if marker == ShutdownMarker::New || !log_is_known {
            ShutdownMarker::InUse(Some(Marks::of(&path))).put(&mut lock, dir)?;
        }
        let marking = Marking::new(&path, &lock)?;

        let open_reader = || open_reader(&path);
        let cache = Arc::<ReadCache>::default();
        let applying = Arc::clone(&cache);
        let on_durable = Box::new(move |durable| {
            applying.apply(&durable);
            if let Durable::Change(change) = durable {
                on_change(change);
            }
        });
        Ok(Self {
            readers: Readers::open(open_reader).context("cannot open the database for reading")?,
            writer: Writer::start(connection, checkpointer(&path)?, on_durable, marking)
                .context("cannot start the writer")?,
            cache,
            path,
            epoch,
            lock,
        })
    }
}

/// Makes a directory only its owner may enter, unless it is there.
pub fn make_data_dir(dir: &Path) -> anyhow::Result<()> {
    let cannot = || {
        format!(
            "cannot make the data directory {} (DATA_DIR)",
            dir.display()
        )
    };
    files::make_dir(dir).with_context(cannot)
}

#[async_trait]
impl Store for SqliteStore {
    fn is_shared(&self) -> bool {
        false
    }

    async fn ready(&self) -> Result<(), StoreError> {
        self.writer.ready()?;
        self.readers
            .read("read the database", |connection| {
                connection.query_row("SELECT 1 FROM meta", [], |_| Ok(()))
            })
            .await
    }

    async fn shutdown(&self) -> Result<(), StoreError> {
        self.writer.close().await?;
        let mut lock = self
            .lock
            .try_clone()
            .map_err(|error| StoreError::backend("note the orderly end", error))?;
        ShutdownMarker::of_closed(&self.path)
            .put(&mut lock, &self.path)
            .map_err(|error| StoreError::backend("note the orderly end", error))
    }
}

#[cfg(test)]
mod tests;
