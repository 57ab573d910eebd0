//! The epoch of the store.

use anyhow::Context;
use rusqlite::Connection;

use crate::domain::Epoch;

pub(super) fn epoch(connection: &Connection) -> anyhow::Result<Epoch> {
    connection
        .query_row("SELECT value FROM meta WHERE key = 'epoch'", [], |row| {
            row.get(0).map(unsigned)
        })
        .context("it has no epoch")
}

pub(super) fn set_epoch(connection: &Connection, to: Epoch) -> anyhow::Result<()> {
    connection.execute(
        "UPDATE meta SET value = ?1 WHERE key = 'epoch'",
        [to.cast_signed()],
    )?;
    Ok(())
}

/// A number as we store them. A negative one, which we never do, becomes one that no check takes.
pub(super) fn unsigned(stored: i64) -> u64 {
    u64::try_from(stored).unwrap_or(u64::MAX)
}
