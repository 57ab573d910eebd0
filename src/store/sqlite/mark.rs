//! The mark of a database file: a random number in its header that tells it from its copies.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use anyhow::Context;
use rusqlite::Connection;

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
