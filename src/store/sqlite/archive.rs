//! Moving the embedded store: out as an export and in again, and as a copy of the file.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use rusqlite::{Connection, OpenFlags, Row, params};

use super::{DATABASE, lock, make_data_dir, make_private, migrate, open_prepared};
use crate::domain::{Email, Epoch, Timestamp, Username};
use crate::store::archive::{
    Counts, EventRecord, Exporter, Importer, Record, newer_epoch, seconds_since_1970,
};

/// Writes everything in `dir`'s database, as it is at this moment; a server may be using it.
pub fn export(dir: &Path, mut exporter: Exporter<'_>) -> anyhow::Result<Counts> {
    let mut connection = open_existing(&dir.join(DATABASE))?;
    // One reading transaction: all of it is of one moment.
    let snapshot = connection.transaction()?;
    exporter.begin(epoch(&snapshot)?)?;
    let now = Timestamp::now().as_millis();
    let mut put = |select: &str, record: fn(&Row<'_>) -> rusqlite::Result<Record>| {
        let mut select = snapshot.prepare(select)?;
        // Only the sessions' takes the time.
        let takes_now = select.parameter_count() == 1;
        let mut rows = match takes_now {
            true => select.query([now])?,
            false => select.query([])?,
        };
        while let Some(row) = rows.next()? {
            exporter.put(&record(row)?)?;
        }
        anyhow::Ok(())
    };
    put("SELECT * FROM memberships ORDER BY user, room", |row| {
        Ok(Record::Membership {
            user: row.get("user")?,
            room: row.get("room")?,
            joined_at: row.get("joined_at")?,
            read: row.get::<_, i64>("read_seq")?.unsigned_abs(),
        })
    })?;
    put(
        "SELECT * FROM sessions WHERE revoked_at IS NULL AND expires_at > ?1 ORDER BY id",
        |row| {
            Ok(Record::Session {
                id: row.get("id")?,
                user: row.get("user")?,
                created_at: row.get("created_at")?,
                expires_at: row.get("expires_at")?,
            })
        },
    )?;
    put("SELECT * FROM rooms ORDER BY id", |row| {
        Ok(Record::Room {
            id: row.get("id")?,
            created_at: row.get("created_at")?,
        })
    })?;
    put("SELECT * FROM events ORDER BY room, seq", |row| {
        Ok(Record::Event(EventRecord {
            room: row.get("room")?,
            seq: row.get::<_, i64>("seq")?.unsigned_abs(),
            at: row.get("at")?,
            r#type: row.get("kind")?,
            author: row.get("author")?,
            author_name: row.get("author_name")?,
            body: row.get("body")?,
            nonce: row.get("nonce")?,
            messages: row.get::<_, i64>("messages")?.unsigned_abs(),
        }))
    })?;
    put("SELECT * FROM users ORDER BY id", |row| {
        Ok(Record::User {
            id: row.get("id")?,
            username: row.get("username")?,
            email: row.get("email")?,
            password_hash: row.get("password_hash")?,
            created_at: row.get("created_at")?,
        })
    })?;
    exporter.end()
}

/// Reads an export into `dir`'s database, which must be empty and not in use: all of it, or none.
/// With `is_older` the store gets a new epoch, and everybody has to sign in.
pub fn import(dir: &Path, mut importer: Importer<'_>, is_older: bool) -> anyhow::Result<Counts> {
    make_data_dir(dir)?;
    let (_lock, seal) = lock(dir)?;
    let path = dir.join(DATABASE);
    seal.fits(&path)?;
    let mut connection = open_prepared(&path)?;
    let epoch = importer.begin()?;
    // What comes first refers to what comes later, and the importer sees to it that it does come.
    // SQLite would look through all of the first for each of the later.
    connection.pragma_update(None, "foreign_keys", false)?;
    let transaction = connection.transaction()?;
    let is_empty: bool = transaction.query_row(
        "SELECT NOT EXISTS (SELECT 1 FROM users) AND NOT EXISTS (SELECT 1 FROM rooms)",
        [],
        |row| row.get(0),
    )?;
    ensure!(
        is_empty,
        "{} is not empty: import into another DATA_DIR, or move the file away",
        path.display()
    );
    set_epoch(
        &transaction,
        if is_older { newer_epoch(epoch) } else { epoch },
    )?;
    while let Some(record) = importer.next()? {
        if !(is_older && matches!(record, Record::Session { .. })) {
            put(&transaction, &record)?;
        }
    }
    transaction
        .commit()
        .context("the database does not take the import")?;
    Ok(importer.counts())
}

fn put(connection: &Connection, record: &Record) -> anyhow::Result<()> {
    let insert = |statement: &str, values: &[&dyn rusqlite::ToSql]| {
        connection
            .prepare_cached(statement)?
            .execute(values)
            .context("the database does not take a record")
    };
    match record {
        Record::Parlor { .. } | Record::End(_) => Ok(0),
        Record::Membership {
            user,
            room,
            joined_at,
            read,
        } => insert(
            "INSERT INTO memberships (user, room, joined_at, read_seq) VALUES (?1, ?2, ?3, ?4)",
            params![user, room, joined_at, read.cast_signed()],
        ),
        Record::Session {
            id,
            user,
            created_at,
            expires_at,
        } => insert(
            "INSERT INTO sessions (id, user, created_at, expires_at) VALUES (?1, ?2, ?3, ?4)",
            params![id, user, created_at, expires_at],
        ),
        Record::Room { id, created_at } => insert(
            "INSERT INTO rooms (id, created_at) VALUES (?1, ?2)",
            params![id, created_at],
        ),
        Record::Event(event) => insert(
            "INSERT INTO events (room, seq, messages, at, kind, author, author_name, body, nonce)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
            params![
                event.room,
                event.seq.cast_signed(),
                event.messages.cast_signed(),
                event.at,
                event.r#type,
                event.author,
                event.author_name,
                event.body,
                event.nonce,
            ],
        ),
        Record::User {
            id,
            username,
            email,
            password_hash,
            created_at,
        } => {
            let (name, address) = (Username::stored(username), Email::stored(email));
            insert(
                "INSERT INTO users (id, username, username_key, username_shape, email, email_key,
                                    password_hash, created_at)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
                params![
                    id,
                    username,
                    name.key(),
                    name.shape(),
                    email,
                    address.key(),
                    password_hash,
                    created_at,
                ],
            )
        }
    }
    .map(drop)
}

/// Copies `dir`'s database into a new file, as it is at this moment; a server may be using it.
pub fn backup(dir: &Path, file: &Path) -> anyhow::Result<()> {
    let path = dir.join(DATABASE);
    let connection = open_existing(&path)?;
    ensure!(
        !file.try_exists().unwrap_or(true),
        "{} is there already: name another file, or remove it first",
        file.display()
    );
    // Whoever finds the file under its name finds all of it.
    let part = Part::beside(file)?;
    let name = part.path.to_str().context("its name is not UTF-8")?;
    // A consistent copy under one reading transaction.
    // Source: <https://www.sqlite.org/lang_vacuum.html#vacuuminto>
    connection
        .execute("VACUUM INTO ?1", [name])
        .map_err(anyhow::Error::from)
        .and_then(|_| part.becomes(file))
        .with_context(|| format!("cannot copy the database to {}", file.display()))
}

/// Puts a backup in the place of `dir`'s database, which must not be in use. What was there is
/// kept beside it; the answer says where. The store gets a new epoch, so that who has seen more
/// than the backup holds hears of it, and everybody has to sign in: who signed out since then
/// stays signed out.
pub fn restore(dir: &Path, file: &Path) -> anyhow::Result<Option<PathBuf>> {
    ensure!(file.is_file(), "there is no backup {}", file.display());
    ensure!(
        !has_content(&with_suffix(file, "-wal")),
        "{0} is not a backup but a database in use, or a copy of one: it has a {0}-wal",
        file.display()
    );
    make_data_dir(dir)?;
    let (_lock, _) = lock(dir)?;
    let path = dir.join(DATABASE);
    let mut part = Part::beside(&path)?;
    let newest = epoch_of(&path).unwrap_or(0);
    prepare(&mut part, file, newest)
        .with_context(|| format!("{} cannot be restored", file.display()))?;
    let replaced = set_aside(&path)?;
    part.becomes(&path)
        .with_context(|| format!("cannot write {}", path.display()))?;
    Ok(replaced)
}

/// Copies a backup, checks it, and makes it a store that goes back in time from `newest`.
fn prepare(part: &mut Part, file: &Path, newest: Epoch) -> anyhow::Result<()> {
    io::copy(&mut File::open(file)?, &mut part.file)?;
    let mut copy = open(&part.path)?;
    check(&copy)?;
    ensure!(version(&copy)? > 0, "it is not a database of parlor’s");
    migrate(&mut copy)?;
    go_back(&copy, newest)?;
    close(copy)
}

/// Makes an embedded store one that has gone back in time: after its file was put back by hand.
pub fn has_gone_back(dir: &Path) -> anyhow::Result<()> {
    let (_lock, _) = lock(dir)?;
    let path = dir.join(DATABASE);
    let connection = open_existing(&path)?;
    go_back(&connection, 0)
}

/// A new epoch, and nobody signed in.
fn go_back(connection: &Connection, newest: Epoch) -> anyhow::Result<()> {
    let newest = epoch(connection)?.max(newest);
    connection.execute("DELETE FROM sessions", [])?;
    set_epoch(connection, newer_epoch(newest))
}

/// A file that is being written beside the one it is to become; removed if it never does.
struct Part {
    path: PathBuf,
    /// Locked, so that two don't write the same one.
    file: File,
}

impl Part {
    fn beside(file: &Path) -> anyhow::Result<Self> {
        let path = with_suffix(file, ".part");
        let make = || {
            make_private(&path)?;
            File::options().write(true).open(&path)
        };
        let part = make().with_context(|| format!("cannot write {}", path.display()))?;
        ensure!(
            part.try_lock().is_ok(),
            "another parlor is writing {}",
            path.display()
        );
        // What one that was killed has left.
        part.set_len(0)?;
        remove_side_files(&path);
        Ok(Self { path, file: part })
    }

    /// Gives the finished file its name, durably.
    fn becomes(self, file: &Path) -> anyhow::Result<()> {
        self.file.sync_all()?;
        fs::rename(&self.path, file)?;
        sync_directory_of(file)
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        // It has another name by now, or is of no use.
        let _ = fs::remove_file(&self.path);
        remove_side_files(&self.path);
    }
}

/// SQLite would take them for the file's own.
fn remove_side_files(path: &Path) {
    for suffix in ["-journal", "-wal", "-shm"] {
        let _ = fs::remove_file(with_suffix(path, suffix));
    }
}

fn sync_directory_of(file: &Path) -> anyhow::Result<()> {
    let parent = file
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    File::open(parent.unwrap_or(Path::new(".")))?.sync_all()?;
    Ok(())
}

/// Links a database that is to be replaced to another name, so that at no moment there is none.
fn set_aside(path: &Path) -> anyhow::Result<Option<PathBuf>> {
    let name = |number| {
        let suffix = format!(".replaced-{}-{number}", seconds_since_1970());
        with_suffix(path, &suffix)
    };
    let is_free = |aside: &PathBuf| !aside.try_exists().unwrap_or(true);
    let aside = (1..1_000).map(name).find(is_free);
    let aside = aside.with_context(|| format!("cannot keep {}", path.display()))?;
    let is_there = path.try_exists()?;
    if is_there {
        // Brings its write-ahead log into it, unless it is too damaged for that.
        if let Ok(connection) = open(path) {
            connection.busy_timeout(Duration::ZERO)?;
            ensure!(
                !matches!(checkpoint(&connection), Ok(Checkpoint::Busy)),
                "somebody is reading {}, perhaps an export or a backup: wait for it to end",
                path.display()
            );
        }
        fs::hard_link(path, &aside).with_context(|| format!("cannot keep {}", path.display()))?;
    }
    // A log that is still there belongs to the old file, and must not meet the new one.
    for suffix in ["-wal", "-shm"] {
        let (from, to) = (with_suffix(path, suffix), with_suffix(&aside, suffix));
        if from.try_exists()? {
            fs::rename(&from, &to).with_context(|| format!("cannot move {}", from.display()))?;
        }
    }
    sync_directory_of(path)?;
    Ok(is_there.then_some(aside))
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

fn open(path: &Path) -> anyhow::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    Ok(Connection::open_with_flags(path, flags)?)
}

/// Opens a database of this version that is there.
fn open_existing(path: &Path) -> anyhow::Result<Connection> {
    ensure!(
        path.is_file(),
        "there is no database {} (DATA_DIR says where it is)",
        path.display()
    );
    let connection =
        open(path).with_context(|| format!("cannot open the database {}", path.display()))?;
    let version =
        version(&connection).with_context(|| format!("cannot read {}", path.display()))?;
    if version as usize != super::MIGRATIONS.len() {
        bail!(
            "the database {} was written by another version of parlor",
            path.display()
        );
    }
    Ok(connection)
}

fn version(connection: &Connection) -> anyhow::Result<u32> {
    Ok(connection.pragma_query_value(None, "user_version", |row| row.get(0))?)
}

/// Whether there is such a file, with something in it.
pub(super) fn has_content(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|file| file.len() > 0)
}

/// How bringing everything into the one file went.
enum Checkpoint {
    Done,
    Busy,
}

fn checkpoint(connection: &Connection) -> anyhow::Result<Checkpoint> {
    let is_busy = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))?;
    Ok(match is_busy {
        true => Checkpoint::Busy,
        false => Checkpoint::Done,
    })
}

/// Brings everything into the one file and closes it.
fn close(connection: Connection) -> anyhow::Result<()> {
    checkpoint(&connection)?;
    connection.close().map_err(|(_, error)| error)?;
    Ok(())
}

/// Reads all of a database and says whether it hangs together.
pub(super) fn check(connection: &Connection) -> anyhow::Result<()> {
    let says: String = connection
        .query_row("PRAGMA quick_check(1)", [], |row| row.get(0))
        .context("it is damaged or not a database")?;
    ensure!(says == "ok", "it is damaged: {}", says.replace('\n', " "));
    Ok(())
}

pub(super) fn epoch(connection: &Connection) -> anyhow::Result<Epoch> {
    connection
        .query_row("SELECT value FROM meta WHERE key = 'epoch'", [], |row| {
            row.get::<_, i64>(0).map(i64::unsigned_abs)
        })
        .context("it has no epoch")
}

fn epoch_of(path: &Path) -> anyhow::Result<Epoch> {
    epoch(&open(path)?)
}

fn set_epoch(connection: &Connection, to: Epoch) -> anyhow::Result<()> {
    connection.execute(
        "UPDATE meta SET value = ?1 WHERE key = 'epoch'",
        [to.cast_signed()],
    )?;
    Ok(())
}
