//! Moving the embedded store: out as an export and in again, and as a copy of the file.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

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
/// With `is_older` the store gets a new epoch.
pub fn import(dir: &Path, mut importer: Importer<'_>, is_older: bool) -> anyhow::Result<Counts> {
    make_data_dir(dir)?;
    let _lock = lock(dir)?;
    let path = dir.join(DATABASE);
    let mut connection = open_prepared(&path)?;
    let epoch = importer.begin()?;
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
    // What comes first refers to what comes later.
    transaction.pragma_update(None, "defer_foreign_keys", true)?;
    set_epoch(
        &transaction,
        if is_older { newer_epoch(epoch) } else { epoch },
    )?;
    while let Some(record) = importer.next()? {
        put(&transaction, &record)?;
    }
    transaction
        .commit()
        .context("this export mentions users or rooms that it does not have")?;
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
        } => insert(
            "INSERT INTO memberships (user, room, joined_at) VALUES (?1, ?2, ?3)",
            params![user, room, joined_at],
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
    let part = beside(file, "part");
    let _ = fs::remove_file(&part);
    let copied = make_private(&part)
        .map_err(anyhow::Error::from)
        .and_then(|()| {
            let part = part.to_str().context("its name is not UTF-8")?;
            // A consistent copy under one reading transaction.
            // Source: <https://www.sqlite.org/lang_vacuum.html#vacuuminto>
            connection.execute("VACUUM INTO ?1", [part])?;
            Ok(())
        })
        .and_then(|()| keep(&part, file));
    if copied.is_err() {
        let _ = fs::remove_file(&part);
    }
    copied.with_context(|| format!("cannot copy the database to {}", file.display()))
}

/// Puts a backup in the place of `dir`'s database, which must not be in use. What was there is
/// kept beside it; the answer says where. The store gets a new epoch: who has seen more than the
/// backup holds hears of it.
pub fn restore(dir: &Path, file: &Path) -> anyhow::Result<Option<PathBuf>> {
    make_data_dir(dir)?;
    let _lock = lock(dir)?;
    let path = dir.join(DATABASE);
    let part = beside(&path, "restored");
    let _ = fs::remove_file(&part);
    ensure!(file.is_file(), "there is no backup {}", file.display());
    let prepared = make_private(&part)
        .and_then(|()| fs::copy(file, &part).map(drop))
        .map_err(anyhow::Error::from)
        .and_then(|()| {
            let mut copy = open(&part)?;
            check(&copy)?;
            migrate(&mut copy)?;
            let newest = epoch(&copy)?.max(epoch_of(&path).unwrap_or(0));
            set_epoch(&copy, newer_epoch(newest))?;
            close(copy)
        });
    if let Err(error) = prepared {
        let _ = fs::remove_file(&part);
        return Err(error).with_context(|| format!("{} cannot be restored", file.display()));
    }

    let replaced = set_aside(&path)?;
    keep(&part, &path).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(replaced)
}

/// Links a database that is to be replaced to another name, so that at no moment there is none.
fn set_aside(path: &Path) -> anyhow::Result<Option<PathBuf>> {
    let name = |number| beside(path, &format!("replaced-{}-{number}", seconds_since_1970()));
    let is_free = |aside: &PathBuf| !aside.try_exists().unwrap_or(true);
    let aside = (1..1_000).map(name).find(is_free);
    let aside = aside.with_context(|| format!("cannot keep {}", path.display()))?;
    let is_there = path.try_exists()?;
    if is_there {
        // Brings its write-ahead log into it, unless it is too damaged for that.
        let _ = open(path).and_then(close);
        fs::hard_link(path, &aside).with_context(|| format!("cannot keep {}", path.display()))?;
    }
    // A log that is still there belongs to the old file, and must not meet the new one.
    for suffix in ["-wal", "-shm"] {
        let (from, to) = (with_suffix(path, suffix), with_suffix(&aside, suffix));
        if from.try_exists()? {
            fs::rename(&from, &to).with_context(|| format!("cannot move {}", from.display()))?;
        }
    }
    Ok(is_there.then_some(aside))
}

/// Gives a finished file its name, durably.
fn keep(part: &Path, file: &Path) -> anyhow::Result<()> {
    File::open(part)?.sync_all()?;
    fs::rename(part, file)?;
    let parent = file
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    File::open(parent.unwrap_or(Path::new(".")))?.sync_all()?;
    Ok(())
}

fn beside(path: &Path, what: &str) -> PathBuf {
    with_suffix(path, &format!(".{what}"))
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
    let version: u32 = connection
        .pragma_query_value(None, "user_version", |row| row.get(0))
        .with_context(|| format!("cannot read the database {}", path.display()))?;
    if version as usize != super::MIGRATIONS.len() {
        bail!(
            "the database {} was written by another version of parlor",
            path.display()
        );
    }
    Ok(connection)
}

/// Brings everything into the one file and closes it.
fn close(connection: Connection) -> anyhow::Result<()> {
    connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
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
