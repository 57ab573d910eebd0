//! The lock file beside the database: it keeps a second process out, and says how the last one ended.

use std::fs::{self, File, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use anyhow::{Context, bail, ensure};
use rusqlite::Connection;

use super::mark::{has_content, mark_of, new_mark, set_mark};
use crate::files::{self, with_suffix};

/// Its name in the database's directory.
const LOCK: &str = "parlor.lock";

/// Refuses a second process: two would number the same log and not hear of each other. Says what
/// the last one has left.
pub(super) fn lock(dir: &Path) -> anyhow::Result<(File, ShutdownMarker)> {
    let path = dir.join(LOCK);
    let mut file = files::open_or_create(&path).with_context(|| cannot_write_in(dir))?;
    match file.try_lock() {
        Ok(()) => {
            let mut marker = String::new();
            // A marker that cannot be read says that there was one.
            if file.read_to_string(&mut marker).is_err() {
                marker = "?".to_owned();
            }
            Ok((file, ShutdownMarker::parse(&marker)))
        }
        Err(TryLockError::WouldBlock) => bail!(
            "another parlor is using {}: stop it first, or set another DATA_DIR",
            dir.display()
        ),
        Err(TryLockError::Error(error)) => {
            Err(error).with_context(|| format!("cannot lock {} (DATA_DIR)", path.display()))
        }
    }
}

pub(super) fn cannot_write_in(dir: &Path) -> String {
    let dir = dir.display();
    format!("cannot write in the data directory {dir} (DATA_DIR)")
}

/// The lock file's content: how the last process left the database beside it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum ShutdownMarker {
    /// There was none yet.
    New,
    /// It is in use, or was when its process died. The log beside it belongs to a file with one of
    /// these marks; to which file is not known without them.
    InUse(Option<Marks>),
    /// An orderly end left one file of so many bytes, changed at this moment.
    Closed { bytes: u64, changed_ns: u128 },
}

impl ShutdownMarker {
    /// The marker of an orderly end now; in use, if there is a log beside the file.
    pub(super) fn of_closed(path: &Path) -> Self {
        let closed = || {
            let file = fs::metadata(path).ok()?;
            let changed = file.modified().ok()?.duration_since(UNIX_EPOCH).ok()?;
            log_beside(path).is_none().then_some(Self::Closed {
                bytes: file.len(),
                changed_ns: changed.as_nanos(),
            })
        };
        closed().unwrap_or(Self::InUse(None))
    }

    pub(super) fn parse(text: &str) -> Self {
        let closed = || {
            let (bytes, changed_ns) = text.strip_prefix("closed ")?.trim_end().split_once(' ')?;
            Some(Self::Closed {
                bytes: bytes.parse().ok()?,
                changed_ns: changed_ns.parse().ok()?,
            })
        };
        let marks = || {
            let (first, second) = text.strip_prefix("open ")?.trim_end().split_once(' ')?;
            Some(Marks(first.parse().ok()?, second.parse().ok()?))
        };
        match text {
            "" => Self::New,
            _ => closed().unwrap_or_else(|| Self::InUse(marks())),
        }
    }

    /// Fails when there was a database and it is gone: an empty one in its place would look to
    /// everybody as if all was lost.
    pub(super) fn fits(&self, path: &Path) -> anyhow::Result<()> {
        if *self == Self::New || has_content(path) {
            return self.owns_log(path);
        }
        bail!(
            "the database {} is gone or empty: put it back (parlor restore), or remove parlor.lock \
             beside it to start anew",
            path.display()
        )
    }

    /// Fails when a log lies beside the database that belongs to another file, as when an older
    /// one was put back by hand. SQLite would write it into this one.
    pub(super) fn owns_log(&self, path: &Path) -> anyhow::Result<()> {
        let Some(log) = log_beside(path) else {
            return Ok(());
        };
        let is_own = match self {
            // There is nothing to tell it by. All of it is read, and is whole or refused.
            Self::New | Self::InUse(None) => true,
            Self::InUse(Some(Marks(one, other))) => {
                mark_of(path).is_some_and(|mark| mark == *one || mark == *other)
            }
            Self::Closed { .. } => false,
        };
        ensure!(
            is_own,
            "cannot use the database {}: {} beside it is another database’s, or it is damaged; move \
             that away to go on without it, or put back the database that it belongs to",
            path.display(),
            log.display()
        );
        Ok(())
    }

    /// The marker, for a process that does not lock it.
    pub(super) fn read(dir: &Path) -> Self {
        Self::parse(&fs::read_to_string(dir.join(LOCK)).unwrap_or_default())
    }

    /// Durable when it returns: after a power cut it must not say more than is so.
    pub(super) fn put(&self, lock: &mut File, dir: &Path) -> anyhow::Result<()> {
        let text = match self {
            Self::New => String::new(),
            Self::InUse(None) => "open\n".to_owned(),
            Self::InUse(Some(Marks(one, other))) => format!("open {one} {other}\n"),
            Self::Closed { bytes, changed_ns } => format!("closed {bytes} {changed_ns}\n"),
        };
        let mut put = || {
            lock.rewind()?;
            lock.write_all(text.as_bytes())?;
            lock.set_len(text.len() as u64)?;
            lock.sync_data()
        };
        put().with_context(|| cannot_write_in(dir))
    }
}

/// The marks of a database file, which tell it from copies of itself: a random number in its header, a
/// new one each time it is opened. Two, while one replaces the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Marks(u32, u32);

impl Marks {
    pub(super) fn of(path: &Path) -> Self {
        let mark = mark_of(path).unwrap_or(0);
        Self(mark, mark)
    }
}

/// Gives a file that was opened a new mark, once it is in use: nobody has to wait for that.
pub(super) struct Marking {
    path: PathBuf,
    lock: File,
    new: u32,
}

impl Marking {
    pub(super) fn new(path: &Path, lock: &File) -> anyhow::Result<Self> {
        Ok(Self {
            path: path.to_owned(),
            lock: lock.try_clone().context("cannot keep the lock")?,
            new: new_mark()?,
        })
    }

    /// Writes it, which is to the log.
    pub(super) fn begin(&mut self, connection: &Connection) -> anyhow::Result<()> {
        let Marks(old, _) = Marks::of(&self.path);
        ShutdownMarker::InUse(Some(Marks(old, self.new))).put(&mut self.lock, &self.path)?;
        set_mark(connection, self.new)
    }

    /// After the log was copied into the file; `true` once that has the mark.
    pub(super) fn is_done(&mut self) -> anyhow::Result<bool> {
        if mark_of(&self.path) != Some(self.new) {
            return Ok(false);
        }
        ShutdownMarker::InUse(Some(Marks(self.new, self.new))).put(&mut self.lock, &self.path)?;
        Ok(true)
    }
}

/// The log that SQLite would write into a database when it is opened, if there is one.
pub(super) fn log_beside(path: &Path) -> Option<PathBuf> {
    let beside = ["-wal", "-journal"].map(|suffix| with_suffix(path, suffix));
    beside.into_iter().find(|log| has_content(log))
}
