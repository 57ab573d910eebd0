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
mod schema;
mod sessions;
mod users;
mod writer;

use std::collections::HashSet;
use std::fs::{self, File, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use anyhow::{Context, bail, ensure};
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
use crate::files::{self, with_suffix};

/// What brings an empty file, or one of an earlier version, to the newest form.
const MIGRATIONS: [&str; 3] = [
    include_str!("schema.sql"),
    include_str!("schema_2.sql"),
    include_str!("schema_3.sql"),
];

/// The database's name in its directory.
const DATABASE: &str = "parlor.db";

/// What keeps a second process out, and what the last one left: see [`ShutdownMarker`].
const LOCK: &str = "parlor.lock";

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
        let cannot_use = || format!("cannot use the database {}", path.display());
        let (mut lock, seal) = lock(dir)?;
        seal.fits(&path)?;
        // Only an orderly end vouches for anything.
        let is_as_it_was_closed = matches!(seal, ShutdownMarker::Closed { .. })
            && seal == ShutdownMarker::of_closed(&path);
        let log_is_known =
            log_beside(&path).is_none() || matches!(seal, ShutdownMarker::InUse(Some(_)));
        let in_use = ShutdownMarker::InUse(log_is_known.then(|| Marks::of(&path)));
        // From here on the file may be another than an orderly end has left, so that must no longer
        // be said. Of one that is not there yet, not yet that it was.
        if seal != ShutdownMarker::New && seal != in_use {
            in_use.put(&mut lock, dir)?;
        }
        let connection = open_prepared(&path)?;
        if !is_as_it_was_closed {
            if seal != ShutdownMarker::New {
                tracing::info!("the database was not closed in order: reading all of it");
            }
            archive::check(&connection, log_is_known)
                .and_then(|()| schema::has_ours(&connection))
                .with_context(cannot_use)?;
        }
        let epoch = archive::epoch(&connection).with_context(cannot_use)?;
        if seal == ShutdownMarker::New || !log_is_known {
            ShutdownMarker::InUse(Some(Marks::of(&path))).put(&mut lock, dir)?;
        }
        let marking = Marking::new(&path, &lock)?;

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
            writer: Writer::start(connection, checkpointer(&path)?, on_durable, marking)
                .context("cannot start the writer")?,
            recent,
            path,
            epoch,
            lock,
        })
    }
}

fn cannot_write_in(dir: &Path) -> String {
    let dir = dir.display();
    format!("cannot write in the data directory {dir} (DATA_DIR)")
}

/// What the lock file says of the database beside it.
#[derive(Debug, PartialEq, Eq)]
enum ShutdownMarker {
    /// There was none yet.
    New,
    /// It is in use, or was when its process died. The log beside it belongs to a file with one of
    /// these marks; to which file is not known without them.
    InUse(Option<Marks>),
    /// An orderly end left one file of so many bytes, changed at this moment.
    Closed { bytes: u64, changed_ns: u128 },
}

impl ShutdownMarker {
    /// What an orderly end says of the file now; nothing, if there is more than the file.
    fn of_closed(path: &Path) -> Self {
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

    fn parse(text: &str) -> Self {
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
    fn fits(&self, path: &Path) -> anyhow::Result<()> {
        if *self == Self::New || archive::has_content(path) {
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
    fn owns_log(&self, path: &Path) -> anyhow::Result<()> {
        let Some(log) = log_beside(path) else {
            return Ok(());
        };
        let is_own = match self {
            // There is nothing to tell it by. All of it is read, and is whole or refused.
            Self::New | Self::InUse(None) => true,
            Self::InUse(Some(Marks(one, other))) => {
                archive::mark_of(path).is_some_and(|mark| mark == *one || mark == *other)
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

    /// What the lock file says to a process that does not lock it.
    fn read(dir: &Path) -> Self {
        Self::parse(&fs::read_to_string(dir.join(LOCK)).unwrap_or_default())
    }

    /// Durable when it returns: after a power cut it must not say more than is so.
    fn put(&self, lock: &mut File, dir: &Path) -> anyhow::Result<()> {
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

/// What tells a database file from copies of itself: a random number in its head, another one each
/// time it is opened. Two, while one replaces the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Marks(u32, u32);

impl Marks {
    fn of(path: &Path) -> Self {
        let mark = archive::mark_of(path).unwrap_or(0);
        Self(mark, mark)
    }
}

/// Gives a file that was opened a new mark, once it is in use: nobody has to wait for that.
struct Marking {
    path: PathBuf,
    lock: File,
    new: u32,
}

impl Marking {
    fn new(path: &Path, lock: &File) -> anyhow::Result<Self> {
        Ok(Self {
            path: path.to_owned(),
            lock: lock.try_clone().context("cannot keep the lock")?,
            new: archive::new_mark()?,
        })
    }

    /// Writes it, which is to the log.
    fn begin(&mut self, connection: &Connection) -> anyhow::Result<()> {
        let Marks(old, _) = Marks::of(&self.path);
        ShutdownMarker::InUse(Some(Marks(old, self.new))).put(&mut self.lock, &self.path)?;
        archive::set_mark(connection, self.new)
    }

    /// After the log was copied into the file; `true` once that has the mark.
    fn is_done(&mut self) -> anyhow::Result<bool> {
        if archive::mark_of(&self.path) != Some(self.new) {
            return Ok(false);
        }
        ShutdownMarker::InUse(Some(Marks(self.new, self.new))).put(&mut self.lock, &self.path)?;
        Ok(true)
    }
}

/// What SQLite would write into a database when it is opened, if there is such.
fn log_beside(path: &Path) -> Option<PathBuf> {
    let beside = ["-wal", "-journal"].map(|suffix| with_suffix(path, suffix));
    beside.into_iter().find(|log| archive::has_content(log))
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
fn lock(dir: &Path) -> anyhow::Result<(File, ShutdownMarker)> {
    let path = dir.join(LOCK);
    let mut file = files::open_or_create(&path).with_context(|| cannot_write_in(dir))?;
    match file.try_lock() {
        Ok(()) => {
            let mut seal = String::new();
            // What cannot be read says that there was something.
            if file.read_to_string(&mut seal).is_err() {
                seal = "?".to_owned();
            }
            Ok((file, ShutdownMarker::parse(&seal)))
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

/// Makes an empty file only its folder's owner may read, unless it is there. SQLite gives the files
/// beside it the same owner and rights.
fn make_private(path: &Path) -> std::io::Result<()> {
    match files::create_for_folder(path) {
        Ok(_) => Ok(()),
        Err(taken) if taken.kind() == std::io::ErrorKind::AlreadyExists => {
            File::options().append(true).open(path).map(drop)
        }
        Err(error) => Err(error),
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

/// Pragmas belong to a connection, not to the file, so every connection sets them.
fn configure(connection: &Connection) -> anyhow::Result<()> {
    schema::distrust(connection)?;
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
    migrate_to(connection, MIGRATIONS.len())
}

fn migrate_to(connection: &mut Connection, newest: usize) -> anyhow::Result<()> {
    let version = archive::version(connection)?;
    if version as usize > MIGRATIONS.len() {
        bail!("it was written by a later version of parlor");
    }
    let migrations = MIGRATIONS.iter().take(newest);
    for (migration, version) in migrations.zip(1..).skip(version as usize) {
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
    schema::distrust(&connection)?;
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

    async fn join(&self, room: &RoomId, user: &User) -> Result<(), StoreError> {
        let (room, user) = (room.clone(), user.clone());
        self.writer
            .write("join a room", move |connection, changes| {
                rooms::join(connection, changes, &room, &user)
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
