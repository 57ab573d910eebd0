//! Moving the embedded store: out as an export and in again, and as a copy of the file.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use percent_encoding::{NON_ALPHANUMERIC, percent_encode};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, OptionalExtension, Row, params};

use super::connection::open_prepared;
use super::lock::{ShutdownMarker, lock, log_beside};
use super::migrations::{MIGRATIONS, migrate};
use super::{DATABASE, make_data_dir, schema};
use crate::domain::{Email, Epoch, Timestamp, Username};
use crate::files::{Part, is_new, sync_folder_of, with_suffix};
use crate::store::archive::{
    Checker, Counts, EPOCH_MAX, EventRecord, Exporter, Importer, Record, newer_epoch,
    seconds_since_1970,
};

/// Writes everything in `dir`'s database, as it is at this moment; a server may be using it.
pub fn export(dir: &Path, exporter: Exporter<'_>) -> anyhow::Result<Counts> {
    let mut connection = open_existing(dir)?;
    if version(&connection)? as usize == MIGRATIONS.len() {
        return export_from(&mut connection, exporter);
    }
    // Of an earlier version: a copy is brought to this one, where there is room for such.
    let name = format!("parlor-export-{}.db", std::process::id());
    let part = Part::beside(&std::env::temp_dir().join(name))?;
    copy_into(&connection, &part).context("cannot copy the database to TMPDIR")?;
    let mut copy = open(&part.path)?;
    migrate(&mut copy)?;
    export_from(&mut copy, exporter)
}

fn export_from(connection: &mut Connection, mut exporter: Exporter<'_>) -> anyhow::Result<Counts> {
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
            read: unsigned(row.get("read_seq")?),
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
            seq: unsigned(row.get("seq")?),
            at: row.get("at")?,
            r#type: row.get("kind")?,
            author: row.get("author")?,
            author_name: row.get("author_name")?,
            body: row.get("body")?,
            nonce: row.get("nonce")?,
            messages: unsigned(row.get("messages")?),
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

/// A number as we store them. A negative one, which we never do, becomes one that no check takes.
fn unsigned(stored: i64) -> u64 {
    u64::try_from(stored).unwrap_or(u64::MAX)
}

/// Reads an export into `dir`'s database, which must be empty and not in use: all of it, or none.
/// With `new_epoch` the store gets a new epoch, and everybody has to sign in.
pub fn import(dir: &Path, mut importer: Importer<'_>, new_epoch: bool) -> anyhow::Result<Counts> {
    make_data_dir(dir)?;
    let (mut lock, seal) = lock(dir)?;
    let path = dir.join(DATABASE);
    seal.fits(&path)?;
    if seal != ShutdownMarker::New {
        ShutdownMarker::InUse(None).put(&mut lock, dir)?;
    }
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
        if new_epoch { newer_epoch(epoch) } else { epoch },
    )?;
    while let Some(record) = importer.next()? {
        if !(new_epoch && matches!(record, Record::Session { .. })) {
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
    let connection = open_existing(dir)?;
    is_new(file)?;
    // Whoever finds the file under its name finds all of it.
    let part = Part::beside(file)?;
    copy_into(&connection, &part)
        .and_then(|()| part.becomes_new(file))
        .with_context(|| format!("cannot copy the database to {}", file.display()))
}

/// A consistent copy under one reading transaction.
/// Source: <https://www.sqlite.org/lang_vacuum.html#vacuuminto>
fn copy_into(connection: &Connection, part: &Part) -> anyhow::Result<()> {
    let name = part.path.to_str().context("its name is not UTF-8")?;
    connection.execute("VACUUM INTO ?1", [name])?;
    // A copy is not the file that its original's log belongs to.
    set_mark(&open(&part.path)?, new_mark()?)
}

/// Puts a backup in the place of `dir`'s database, which must not be in use. What was there is
/// kept beside it; the answer says where. The store gets a new epoch, so that who has seen more
/// than the backup holds hears of it, and everybody has to sign in: who signed out since then
/// stays signed out.
pub fn restore(dir: &Path, file: &Path) -> anyhow::Result<Option<PathBuf>> {
    ensure!(file.is_file(), "there is no backup {}", file.display());
    if let Some(log) = log_beside(file) {
        bail!(
            "{} is not a backup but a database in use, or a copy of one: it has a {}",
            file.display(),
            log.display()
        );
    }
    make_data_dir(dir)?;
    let (_lock, seal) = lock(dir)?;
    let path = dir.join(DATABASE);
    let mut part = Part::beside_for_folder(&path)?;
    let owns_log = seal.owns_log(&path).is_ok();
    // SQLite would write another file's log into this one as soon as it is opened.
    let old = if owns_log { open } else { open_immutable };
    let newest = old(&path).and_then(|old| epoch(&old)).unwrap_or(0);
    prepare(&mut part, file, newest)
        .with_context(|| format!("{} cannot be restored", file.display()))?;
    let cannot_write = || format!("cannot write {}", path.display());
    part.looks_like(&path).with_context(cannot_write)?;
    let replaced = set_aside(&path, owns_log)?;
    part.becomes(&path).with_context(cannot_write)?;
    Ok(replaced)
}

/// Copies a backup, checks it, and makes it a store that goes back in time from `newest`. The file
/// may come from anywhere, so nothing in it is taken for what only we would write.
fn prepare(part: &mut Part, file: &Path, newest: Epoch) -> anyhow::Result<()> {
    io::copy(&mut File::open(file)?, &mut part.file)?;
    let mut copy = open(&part.path)?;
    let version = version(&copy).context("it is damaged or not a database")?;
    ensure!(version > 0, "it is not a database of parlor’s");
    ensure!(
        version as usize <= MIGRATIONS.len(),
        "it was written by a later version of parlor"
    );
    schema::is_ours(&copy)?;
    check(&copy, false)?;
    migrate(&mut copy)?;
    has_what_can_be_typed(&mut copy)?;
    rekey(&copy)?;
    go_back(&copy, newest)?;
    set_mark(&copy, new_mark()?)?;
    close(copy)
}

/// Every row must be one that an import would take.
fn has_what_can_be_typed(connection: &mut Connection) -> anyhow::Result<()> {
    let mut checker = Checker::default();
    let mut take = |record: &Record, _: &Counts| {
        checker.check(record)?;
        if let Record::Event(event) = record {
            ensure!(
                event.messages == checker.messages(),
                "the messages of {} are counted wrong at {}",
                event.room,
                event.seq
            );
        }
        Ok(())
    };
    export_from(connection, Exporter::new(&mut take)).map(drop)
}

/// Makes the keys that accounts are found by anew, as an import does.
fn rekey(connection: &Connection) -> anyhow::Result<()> {
    let mut select = connection.prepare("SELECT id, username, email FROM users")?;
    let mut users = select.query([])?;
    let mut update = connection.prepare(
        "UPDATE users SET username_key = ?2, username_shape = ?3, email_key = ?4
         WHERE id = ?1 AND (username_key, username_shape, email_key) IS NOT (?2, ?3, ?4)",
    )?;
    while let Some(user) = users.next()? {
        let name = Username::stored(&user.get::<_, String>("username")?);
        let email = Email::stored(&user.get::<_, String>("email")?);
        let id: String = user.get("id")?;
        update.execute(params![id, name.key(), name.shape(), email.key()])?;
    }
    Ok(())
}

/// Makes an embedded store one that has gone back in time: after its file was put back by hand.
pub fn start_new_epoch(dir: &Path) -> anyhow::Result<()> {
    let (mut lock, seal) = lock(dir)?;
    let mut connection = open_existing(dir)?;
    if seal != ShutdownMarker::New {
        ShutdownMarker::InUse(None).put(&mut lock, dir)?;
    }
    migrate(&mut connection)?;
    go_back(&connection, 0)
}

/// A new epoch, and nobody signed in.
fn go_back(connection: &Connection, newest: Epoch) -> anyhow::Result<()> {
    let newest = epoch(connection)?.max(newest);
    ensure!(newest <= EPOCH_MAX, "its epoch is no number we gave");
    connection.execute("DELETE FROM sessions", [])?;
    set_epoch(connection, newer_epoch(newest))
}

/// Links a database that is to be replaced to another name, so that at no moment there is none.
fn set_aside(path: &Path, owns_log: bool) -> anyhow::Result<Option<PathBuf>> {
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
        if owns_log && let Ok(connection) = open(path) {
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
    for suffix in ["-wal", "-shm", "-journal"] {
        let (from, to) = (with_suffix(path, suffix), with_suffix(&aside, suffix));
        if from.try_exists()? {
            fs::rename(&from, &to).with_context(|| format!("cannot move {}", from.display()))?;
        }
    }
    sync_folder_of(path)?;
    Ok(is_there.then_some(aside))
}

fn open(path: &Path) -> anyhow::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    prepared(Connection::open_with_flags(path, flags)?)
}

/// Opens a file that nobody can write, as on a read-only mount, and that has no log beside it.
fn open_immutable(path: &Path) -> anyhow::Result<Connection> {
    let name = percent_encode(path.as_os_str().as_encoded_bytes(), NON_ALPHANUMERIC);
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY
        | OpenFlags::SQLITE_OPEN_NO_MUTEX
        | OpenFlags::SQLITE_OPEN_URI;
    let name = format!("file:{name}?immutable=1");
    prepared(Connection::open_with_flags(name, flags)?)
}

fn prepared(connection: Connection) -> anyhow::Result<Connection> {
    schema::distrust(&connection)?;
    connection.pragma_update(None, "cell_size_check", true)?;
    Ok(connection)
}

/// Opens a database, of this version or an earlier one, that is there. A server may be using it.
fn open_existing(dir: &Path) -> anyhow::Result<Connection> {
    let path = dir.join(DATABASE);
    ensure!(
        path.is_file(),
        "there is no database {} (DATA_DIR says where it is)",
        path.display()
    );
    // A server that is just starting changes both in turn.
    let owns_log = || ShutdownMarker::read(dir).owns_log(&path);
    owns_log().or_else(|_| {
        sleep(Duration::from_millis(300));
        owns_log()
    })?;
    let opened = open(&path).and_then(|connection| Ok((version(&connection)?, connection)));
    let opened = match opened {
        // Reading takes files beside it, which cannot be made there.
        Err(_) if !has_content(&with_suffix(&path, "-wal")) => {
            open_immutable(&path).and_then(|connection| Ok((version(&connection)?, connection)))
        }
        opened => opened,
    };
    let (version, connection) =
        opened.with_context(|| format!("cannot read the database {}", path.display()))?;
    if version as usize > MIGRATIONS.len() || version == 0 {
        bail!(
            "the database {} was written by a later version of parlor, or not by parlor",
            path.display()
        );
    }
    Ok(connection)
}

/// The number of the migration it was brought to last; 0, of none of ours.
pub(super) fn version(connection: &Connection) -> anyhow::Result<u32> {
    let version: i32 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    Ok(u32::try_from(version).unwrap_or(0))
}

/// Where a database file keeps its application id, in big-endian order.
/// Source: <https://www.sqlite.org/fileformat.html#the_database_header>
const MARK_AT: u64 = 68;

/// A mark that no other file has. 0 is that of a file of an earlier version.
pub(super) fn new_mark() -> anyhow::Result<u32> {
    let random = getrandom::u32().context("the system gives no random numbers")?;
    Ok(random >> 1 | 1)
}

/// Sets the application id, which SQLite makes no use of and keeps at a fixed place.
pub(super) fn set_mark(connection: &Connection, mark: u32) -> anyhow::Result<()> {
    Ok(connection.pragma_update(None, "application_id", mark.cast_signed())?)
}

/// The mark that the file has, whatever its log says.
pub(super) fn mark_of(path: &Path) -> Option<u32> {
    let mut file = File::open(path).ok()?;
    let mut mark = [0; 4];
    file.seek(SeekFrom::Start(MARK_AT)).ok()?;
    file.read_exact(&mut mark).ok()?;
    Some(u32::from_be_bytes(mark))
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

/// Reads all of a database and says whether it hangs together. What may be of two files is looked
/// at more closely: whether each index agrees with its table.
pub(super) fn check(connection: &Connection, is_of_one: bool) -> anyhow::Result<()> {
    let check = if is_of_one {
        "quick_check"
    } else {
        "integrity_check"
    };
    // Until it is known to be whole the log stays out of the file, also when we end here.
    let keep_log = DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE;
    connection.set_db_config(keep_log, true)?;
    let says: String = connection
        .query_row(&format!("PRAGMA {check}(1)"), [], |row| row.get(0))
        .context("it is damaged or not a database")?;
    ensure!(says == "ok", "it is damaged: {}", says.replace('\n', " "));
    let broken = connection.query_row(BROKEN_LOG, [], |row| row.get::<_, String>(0));
    if let Some(room) = broken.optional().context("it is damaged")? {
        bail!("it is damaged: the log of {room} is not whole");
    }
    connection.set_db_config(keep_log, false)?;
    Ok(())
}

/// A log that lacks an event, or has a message with a NUL, which nobody can send: a long one goes on
/// in pages of its own, and a zeroed one of those is all text to SQLite.
const BROKEN_LOG: &str = "
    SELECT room FROM events GROUP BY room
    HAVING min(seq) <> 1 OR max(seq) <> count(*) OR max(instr(CAST(body AS BLOB), x'00')) > 0
    LIMIT 1";

pub(super) fn epoch(connection: &Connection) -> anyhow::Result<Epoch> {
    connection
        .query_row("SELECT value FROM meta WHERE key = 'epoch'", [], |row| {
            row.get(0).map(unsigned)
        })
        .context("it has no epoch")
}

fn set_epoch(connection: &Connection, to: Epoch) -> anyhow::Result<()> {
    connection.execute(
        "UPDATE meta SET value = ?1 WHERE key = 'epoch'",
        [to.cast_signed()],
    )?;
    Ok(())
}
