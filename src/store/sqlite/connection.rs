//! Connections to the database file, and their pragmas.

use std::fs::File;
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use percent_encoding::{NON_ALPHANUMERIC, percent_encode};
use rusqlite::{Connection, OpenFlags};

use super::lock::ShutdownMarker;
use super::mark::{has_content, new_mark, set_mark};
use super::migrations::{NEWEST, migrate, refuse_newer, version};
use super::{DATABASE, schema};
use crate::files::{self, Part, with_suffix};

/// Enough for every statement we have, so that none is compiled twice. (The default is 16.)
const STATEMENTS_CACHED: usize = 64;

/// Opens a database for writing, made or brought to the newest form where it is not.
pub(super) fn open_prepared(path: &Path) -> anyhow::Result<Connection> {
    make_private(path).with_context(|| format!("cannot make the database {}", path.display()))?;
    let mut connection = Connection::open(path)
        .with_context(|| format!("cannot open the database {}", path.display()))?;
    configure(&connection)
        .and_then(|()| copy_before_migration(&connection, path))
        .and_then(|()| migrate(&mut connection))
        .with_context(|| format!("cannot use the database {}", path.display()))?;
    Ok(connection)
}

/// Copies a database of an earlier version to a file beside it: the way back, should its migration go
/// wrong.
fn copy_before_migration(connection: &Connection, path: &Path) -> anyhow::Result<()> {
    let version = version(connection)?;
    if !(1..NEWEST).contains(&version) {
        return Ok(());
    }
    let copy = with_suffix(path, format!(".version-{version}"));
    let made = Part::beside_for_folder(&copy).and_then(|part| {
        copy_into(connection, &part)?;
        // One that an earlier start left says the same or less.
        part.becomes(&copy)
    });
    made.with_context(|| format!("cannot copy it to {} before moving it", copy.display()))?;
    let copy = copy.display();
    tracing::info!(from = version, to = NEWEST, %copy, "moving the database to a newer schema");
    Ok(())
}

/// Makes an empty file only its folder's owner may read, unless it is there. SQLite gives the files
/// beside it the same owner and rights.
pub(super) fn make_private(path: &Path) -> std::io::Result<()> {
    match files::create_for_folder(path) {
        Ok(_) => Ok(()),
        Err(taken) if taken.kind() == std::io::ErrorKind::AlreadyExists => {
            File::options().append(true).open(path).map(drop)
        }
        Err(error) => Err(error),
    }
}

/// Pragmas belong to a connection, not to the file, so every connection sets them.
pub(super) fn configure(connection: &Connection) -> anyhow::Result<()> {
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
    // Deleted rows are overwritten, and no other file gets a copy of them: see `states.rs`.
    connection.pragma_update(None, "secure_delete", true)?;
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    // The checkpointer does it, off the path of a post.
    connection.pragma_update(None, "wal_autocheckpoint", 0)?;
    let synchronous: i64 = connection.pragma_query_value(None, "synchronous", |row| row.get(0))?;
    if synchronous != 2 {
        bail!("the database does not take synchronous=FULL");
    }
    Ok(())
}

pub(super) fn open_reader(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    schema::distrust(&connection)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS_CACHED);
    connection.pragma_update(None, "query_only", true)?;
    Ok(connection)
}

/// Empties the write-ahead log, where a text may still stand whose deletion was cut off by a kill. A reader that is in
/// the way, a backup say, is left alone.
pub(super) fn empty_wal(connection: &Connection) -> rusqlite::Result<()> {
    connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
}

pub(super) fn checkpointer(path: &Path) -> anyhow::Result<Connection> {
    let connection = Connection::open(path).context("cannot open the database")?;
    configure(&connection)?;
    Ok(connection)
}

pub(super) fn open(path: &Path) -> anyhow::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    prepared(Connection::open_with_flags(path, flags)?)
}

/// Opens a file that nobody can write, as on a read-only mount, and that has no log beside it.
pub(super) fn open_immutable(path: &Path) -> anyhow::Result<Connection> {
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
pub(super) fn open_existing(dir: &Path) -> anyhow::Result<Connection> {
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
    ensure!(
        version > 0,
        "the database {} was not written by parlor",
        path.display()
    );
    refuse_newer(&connection)
        .with_context(|| format!("cannot read the database {}", path.display()))?;
    Ok(connection)
}

/// How bringing everything into the one file went.
pub(super) enum Checkpoint {
    Done,
    Busy,
}

pub(super) fn checkpoint(connection: &Connection) -> anyhow::Result<Checkpoint> {
    let is_busy = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))?;
    Ok(match is_busy {
        true => Checkpoint::Busy,
        false => Checkpoint::Done,
    })
}

/// Brings everything into the one file and closes it.
pub(super) fn close(connection: Connection) -> anyhow::Result<()> {
    checkpoint(&connection)?;
    connection.close().map_err(|(_, error)| error)?;
    Ok(())
}

/// A consistent copy under one reading transaction.
/// Source: <https://www.sqlite.org/lang_vacuum.html#vacuuminto>
pub(super) fn copy_into(connection: &Connection, part: &Part) -> anyhow::Result<()> {
    let name = part.path.to_str().context("its name is not UTF-8")?;
    connection.execute("VACUUM INTO ?1", [name])?;
    // A copy is not the file that its original's log belongs to.
    set_mark(&open(&part.path)?, new_mark()?)
}
