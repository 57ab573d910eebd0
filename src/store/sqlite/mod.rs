//! The embedded store: one SQLite file, one thread that writes it, a few connections that read.
//!
//! A write is answered after its transaction's fsync (WAL, `synchronous=FULL`), and transactions
//! are shared: see `writer.rs`. Readers see a commit only after that fsync, because SQLite makes
//! it visible in the WAL index last.

pub mod archive;
mod limits;
mod log;
mod readers;
mod recent;
mod rooms;
mod sessions;
mod users;
mod writer;

use std::collections::HashSet;
use std::fs::{self, File, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use anyhow::{Context, bail};
use async_trait::async_trait;
use rusqlite::{Connection, OpenFlags};

use self::readers::Readers;
use self::recent::{Durable, Known, NEWEST_MAX, Recent};
use self::writer::Writer;
use super::{Access, Appended, OnChange, Store, StoreError};
use crate::domain::{
    Account, Epoch, Event, Login, NewEvent, NewUser, RoomId, RoomSummary, Seq, Session, SessionId,
    User,
};

/// What brings an empty file, or one of an earlier version, to the newest form.
const MIGRATIONS: [&str; 3] = [
    include_str!("schema.sql"),
    include_str!("schema_2.sql"),
    include_str!("schema_3.sql"),
];

/// The database's name in its directory.
const DATABASE: &str = "parlor.db";

/// Enough for every statement we have, so that none is compiled twice. (The default is 16.)
const STATEMENTS_CACHED: usize = 64;

/// The store in `DATA_DIR/parlor.db`.
pub struct SqliteStore {
    path: PathBuf,
    writer: Writer,
    readers: Readers,
    recent: Arc<Recent>,
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
        let (mut lock, seal) = lock(dir)?;
        seal.fits(&path)?;
        let is_as_it_was_closed = seal == Seal::of(&path);

        let connection = open_prepared(&path)?;
        if !is_as_it_was_closed {
            if seal != Seal::New {
                tracing::info!("the database was not closed in order: reading all of it");
            }
            archive::check(&connection)
                .with_context(|| format!("cannot use the database {}", path.display()))?;
        }
        Seal::Open
            .put(&mut lock)
            .with_context(|| format!("cannot write in the data directory {}", dir.display()))?;
        let epoch = archive::epoch(&connection)
            .with_context(|| format!("cannot use the database {}", path.display()))?;

        let open_reader = || open_reader(&path);
        let recent = Arc::<Recent>::default();
        let noting = Arc::clone(&recent);
        let on_durable = Box::new(move |durable| {
            noting.note(&durable);
            if let Durable::Change(change) = durable {
                on_change(change);
            }
        });
        Ok(Self {
            readers: Readers::open(open_reader).context("cannot open the database for reading")?,
            writer: Writer::start(connection, checkpointer(&path)?, on_durable)
                .context("cannot start the writer")?,
            recent,
            path,
            epoch,
            lock,
        })
    }
}

/// What the lock file says of the database beside it.
#[derive(Debug, PartialEq, Eq)]
enum Seal {
    /// There was none yet.
    New,
    /// It is in use, or was when its process died.
    Open,
    /// An orderly end left one file of so many bytes, changed at this moment.
    Closed { bytes: u64, changed_ns: u128 },
}

impl Seal {
    /// What an orderly end would say of the file now.
    fn of(path: &Path) -> Self {
        let closed = || {
            let file = fs::metadata(path).ok()?;
            let changed = file.modified().ok()?.duration_since(UNIX_EPOCH).ok()?;
            let is_all = !archive::has_content(&path.with_extension("db-wal"));
            is_all.then_some(Self::Closed {
                bytes: file.len(),
                changed_ns: changed.as_nanos(),
            })
        };
        closed().unwrap_or(Self::Open)
    }

    fn parse(text: &str) -> Self {
        let closed = || {
            let (bytes, changed_ns) = text.strip_prefix("closed ")?.trim_end().split_once(' ')?;
            Some(Self::Closed {
                bytes: bytes.parse().ok()?,
                changed_ns: changed_ns.parse().ok()?,
            })
        };
        match text {
            "" => Self::New,
            _ => closed().unwrap_or(Self::Open),
        }
    }

    /// Fails when there was a database and it is gone: an empty one in its place would look to
    /// everybody as if all was lost.
    fn fits(&self, path: &Path) -> anyhow::Result<()> {
        if *self == Self::New || archive::has_content(path) {
            return Ok(());
        }
        bail!(
            "the database {} is gone or empty: put it back (parlor restore), or remove parlor.lock \
             beside it to start anew",
            path.display()
        )
    }

    fn put(&self, lock: &mut File) -> std::io::Result<()> {
        let text = match self {
            Self::New => String::new(),
            Self::Open => "open\n".to_owned(),
            Self::Closed { bytes, changed_ns } => format!("closed {bytes} {changed_ns}\n"),
        };
        lock.set_len(0)?;
        lock.rewind()?;
        lock.write_all(text.as_bytes())
    }
}

/// Opens a database for writing, made or brought to the newest form where it is not.
fn open_prepared(path: &Path) -> anyhow::Result<Connection> {
    make_private(path).with_context(|| format!("cannot make the database {}", path.display()))?;
    let mut connection = Connection::open(path)
        .with_context(|| format!("cannot open the database {}", path.display()))?;
    configure(&connection)
        .and_then(|()| migrate(&mut connection))
        .with_context(|| format!("cannot use the database {}", path.display()))?;
    Ok(connection)
}

/// Refuses a second process: two would number the same log and not hear of each other. Says what
/// the last one has left.
fn lock(dir: &Path) -> anyhow::Result<(File, Seal)> {
    let path = dir.join("parlor.lock");
    let mut file = File::options()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .open(&path)
        .with_context(|| format!("cannot write in the data directory {}", dir.display()))?;
    match file.try_lock() {
        Ok(()) => {
            let mut seal = String::new();
            // What cannot be read says that there was something.
            if file.read_to_string(&mut seal).is_err() {
                seal = "?".to_owned();
            }
            Ok((file, Seal::parse(&seal)))
        }
        Err(TryLockError::WouldBlock) => bail!(
            "another parlor is using {}: stop it first, or set another DATA_DIR",
            dir.display()
        ),
        Err(TryLockError::Error(error)) => {
            Err(error).with_context(|| format!("cannot lock {}", path.display()))
        }
    }
}

/// Makes an empty file only this user may read, unless it is there. SQLite gives the files beside
/// it the same rights.
fn make_private(path: &Path) -> std::io::Result<()> {
    let mut options = File::options();
    options.create(true).append(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path).map(drop)
}

/// Makes a directory only this user may enter, unless it is there.
pub fn make_data_dir(dir: &Path) -> anyhow::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder
        .create(dir)
        .with_context(|| format!("cannot make the data directory {}", dir.display()))
}

/// Pragmas belong to a connection, not to the file, so every connection sets them.
fn configure(connection: &Connection) -> anyhow::Result<()> {
    connection.set_prepared_statement_cache_capacity(STATEMENTS_CACHED);
    let mode: String =
        connection.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0))?;
    if mode != "wal" {
        bail!("this file system cannot hold a write-ahead log (it gave {mode})");
    }
    // A commit is an fsync: an acknowledged message survives a power cut.
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "fullfsync", true)?;
    connection.pragma_update(None, "foreign_keys", true)?;
    // The checkpointer does it, off the path of a post.
    connection.pragma_update(None, "wal_autocheckpoint", 0)?;
    let synchronous: i64 = connection.pragma_query_value(None, "synchronous", |row| row.get(0))?;
    if synchronous != 2 {
        bail!("the database does not take synchronous=FULL");
    }
    Ok(())
}

fn migrate(connection: &mut Connection) -> anyhow::Result<()> {
    let version: u32 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    if version as usize > MIGRATIONS.len() {
        bail!("it was written by a later version of parlor");
    }
    for (migration, version) in MIGRATIONS.iter().zip(1..).skip(version as usize) {
        let transaction = connection.transaction()?;
        transaction.execute_batch(migration)?;
        if version == 3 {
            users::renew_email_keys(&transaction)?;
        }
        transaction.pragma_update(None, "user_version", version)?;
        transaction.commit()?;
    }
    Ok(())
}

fn open_reader(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS_CACHED);
    connection.pragma_update(None, "query_only", true)?;
    Ok(connection)
}

fn checkpointer(path: &PathBuf) -> anyhow::Result<Connection> {
    let connection = Connection::open(path).context("cannot open the database")?;
    configure(&connection)?;
    Ok(connection)
}

#[async_trait]
impl Store for SqliteStore {
    fn epoch(&self) -> Epoch {
        self.epoch
    }

    async fn ready(&self) -> Result<(), StoreError> {
        self.writer.ready()?;
        self.readers
            .read("read the database", |connection| {
                connection.query_row("SELECT 1 FROM meta", [], |_| Ok(()))
            })
            .await
    }

    async fn add_user(&self, user: NewUser) -> Result<(), StoreError> {
        self.writer
            .write("add a user", move |connection, _| {
                users::add(connection, &user)
            })
            .await
    }

    async fn find_account(&self, login: &Login) -> Result<Option<Account>, StoreError> {
        let login = login.clone();
        self.readers
            .read("find an account", move |connection| {
                users::find_account(connection, &login)
            })
            .await
    }

    async fn add_session(&self, session: Session) -> Result<(), StoreError> {
        self.writer
            .write("add a session", move |connection, _| {
                sessions::add(connection, session)
            })
            .await
    }

    async fn find_session(&self, id: SessionId) -> Result<Option<(Session, User)>, StoreError> {
        if let Some(found) = self.recent.session(id) {
            return Ok(Some(found));
        }
        let began = self.recent.began();
        let found = self
            .readers
            .read("find a session", move |connection| {
                sessions::find(connection, id)
            })
            .await?;
        if let Some((session, user)) = &found {
            self.recent.keep_session(&began, *session, user.clone());
        }
        Ok(found)
    }

    async fn live_sessions(&self, ids: &[SessionId]) -> Result<HashSet<SessionId>, StoreError> {
        let ids = ids.to_vec();
        self.readers
            .read("check sessions", move |connection| {
                sessions::live(connection, ids)
            })
            .await
    }

    async fn revoke_session(&self, id: SessionId) -> Result<(), StoreError> {
        self.writer
            .write("revoke a session", move |connection, changes| {
                sessions::revoke(connection, changes, id)
            })
            .await
    }

    async fn enter(&self, room: &RoomId, user: &User) -> Result<(), StoreError> {
        let (room, user) = (room.clone(), user.clone());
        self.writer
            .write("enter a room", move |connection, changes| {
                rooms::enter(connection, changes, &room, &user)
            })
            .await
    }

    async fn access(&self, room: &RoomId, user: &User) -> Result<Access, StoreError> {
        if let Some(read) = self.recent.read_by(user.id, room) {
            return Ok(Access::Member { read });
        }
        let began = self.recent.began();
        let is_known = self.recent.knows(user.id);
        let (room, id) = (room.clone(), user.id);
        let (access, memberships) = self
            .readers
            .read("look up a membership", move |connection| {
                let access = rooms::access(connection, &room, id)?;
                let is_worth_it = !is_known && matches!(access, Access::Member { .. });
                let memberships = is_worth_it.then(|| rooms::memberships(connection, id));
                Ok((access, memberships.transpose()?))
            })
            .await?;
        if let Some(memberships) = memberships {
            self.recent.keep_memberships(&began, user.id, memberships);
        }
        Ok(access)
    }

    async fn rooms_of(&self, user: &User) -> Result<Arc<[RoomSummary]>, StoreError> {
        let id = user.id;
        // Once to know which, once to know their ends, and once more if one of them has changed.
        for _ in 0..4 {
            let began = self.recent.began();
            match self.recent.rooms_of(id) {
                Known::List(list) => return Ok(list),
                Known::Nothing => {
                    let read = self.readers.read("list the rooms", move |connection| {
                        rooms::memberships(connection, id)
                    });
                    self.recent.keep_memberships(&began, id, read.await?);
                }
                Known::AllBut(rooms) => {
                    let read = self.readers.read("list the rooms", move |connection| {
                        let end = |room: RoomId| Ok((room.clone(), log::end(connection, &room)?));
                        rooms.into_iter().map(end).collect()
                    });
                    self.recent.keep_ends(&began, id, read.await?);
                }
            }
        }
        let list = self
            .readers
            .read("list the rooms", move |connection| {
                rooms::of(connection, id)
            })
            .await?;
        Ok(list.into())
    }

    async fn mark_read(&self, room: &RoomId, user: &User, seq: Seq) -> Result<(), StoreError> {
        let (room, user) = (room.clone(), user.id);
        self.writer
            .write("mark as read", move |connection, changes| {
                rooms::mark_read(connection, changes, &room, user, seq)
            })
            .await
    }

    async fn append(&self, room: &RoomId, event: NewEvent) -> Result<Appended, StoreError> {
        let room = room.clone();
        self.writer
            .write("append an event", move |connection, changes| {
                log::append(connection, changes, &room, event)
            })
            .await
    }

    async fn reaches(&self, room: &RoomId, seq: Seq) -> Result<bool, StoreError> {
        let heads = self.heads(std::slice::from_ref(room)).await?;
        Ok(heads.first().is_some_and(|head| seq <= *head))
    }

    async fn heads(&self, rooms: &[RoomId]) -> Result<Vec<Seq>, StoreError> {
        let rooms = rooms.to_vec();
        self.readers
            .read("read the logs’ heads", move |connection| {
                let head = |room| log::head(connection, room).map(|head| head.seq);
                rooms.iter().map(head).collect()
            })
            .await
    }

    async fn page_after(
        &self,
        room: &RoomId,
        after: Seq,
        limit: usize,
    ) -> Result<Vec<Arc<Event>>, StoreError> {
        let room = room.clone();
        self.readers
            .read("read a log", move |connection| {
                log::page_after(connection, &room, after, limit)
            })
            .await
    }

    async fn page_before(
        &self,
        room: &RoomId,
        before: Seq,
        limit: usize,
    ) -> Result<Vec<Arc<Event>>, StoreError> {
        let id = room.clone();
        if before < Seq::MAX || limit > NEWEST_MAX {
            return self
                .readers
                .read("read a log", move |connection| {
                    log::page_before(connection, &id, before, limit)
                })
                .await;
        }
        if let Some(newest) = self.recent.newest(room, limit) {
            return Ok(newest);
        }
        let began = self.recent.began();
        let end = self
            .readers
            .read("read a log", move |connection| {
                log::end_with_page(connection, &id)
            })
            .await?;
        let newest = end.newest.iter().flatten();
        let skip = newest.clone().count().saturating_sub(limit);
        let newest = newest.skip(skip).cloned().collect();
        self.recent.keep_page(&began, room, end);
        Ok(newest)
    }

    async fn leave(&self) -> Result<(), StoreError> {
        self.writer.close().await?;
        let mut lock = self
            .lock
            .try_clone()
            .map_err(|error| StoreError::backend("note the orderly end", error))?;
        Seal::of(&self.path)
            .put(&mut lock)
            .map_err(|error| StoreError::backend("note the orderly end", error))
    }
}
