//! Connections to the database file, and their pragmas.

use std::fs::File;
use std::path::Path;

use anyhow::{Context, bail};
use rusqlite::{Connection, OpenFlags};

use super::migrations::migrate;
use super::schema;
use crate::files;

/// Enough for every statement we have, so that none is compiled twice. (The default is 16.)
const STATEMENTS_CACHED: usize = 64;

/// Opens a database for writing, made or brought to the newest form where it is not.
pub(super) fn open_prepared(path: &Path) -> anyhow::Result<Connection> {
    make_private(path).with_context(|| format!("cannot make the database {}", path.display()))?;
    let mut connection = Connection::open(path)
        .with_context(|| format!("cannot open the database {}", path.display()))?;
    configure(&connection)
        .and_then(|()| migrate(&mut connection))
        .with_context(|| format!("cannot use the database {}", path.display()))?;
    Ok(connection)
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

pub(super) fn checkpointer(path: &Path) -> anyhow::Result<Connection> {
    let connection = Connection::open(path).context("cannot open the database")?;
    configure(&connection)?;
    Ok(connection)
}
