//! The schema as a file has it, against the one that our migrations make. A database file is a
//! program too: its triggers, views, defaults and expressions run inside whoever opens it.
//! Source: <https://www.sqlite.org/security.html>

use std::collections::BTreeSet;

use anyhow::ensure;
use rusqlite::Connection;
use rusqlite::config::DbConfig;

use super::migrations::{migrate_to, version};

/// Has a connection run nothing that a file brings along.
pub(super) fn distrust(connection: &Connection) -> rusqlite::Result<()> {
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, false)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_VIEW, false)?;
    connection.pragma_update(None, "trusted_schema", false)
}

/// A thing of a schema: its kind, its name, its table, and the statement that made it.
type Thing = (String, String, String, String);

fn things(connection: &Connection) -> anyhow::Result<BTreeSet<Thing>> {
    let mut select = connection
        .prepare("SELECT type, name, tbl_name, coalesce(sql, '') FROM main.sqlite_schema")?;
    let things = select.query_map([], |row| {
        Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
    })?;
    Ok(things.collect::<Result<_, _>>()?)
}

fn ours(version: u32) -> anyhow::Result<BTreeSet<Thing>> {
    let mut memory = Connection::open_in_memory()?;
    migrate_to(&mut memory, version)?;
    things(&memory)
}

/// Fails when something of ours is missing or altered. An administrator's addition, an index
/// say, is only logged: nothing of it runs.
pub(super) fn has_ours(connection: &Connection) -> anyhow::Result<()> {
    let ours = ours(version(connection)?)?;
    let there = things(connection)?;
    if let Some((kind, name, ..)) = ours.difference(&there).next() {
        anyhow::bail!("its {kind} {name} is missing or not as parlor makes it");
    }
    for (kind, name, ..) in there.difference(&ours) {
        tracing::warn!(
            kind,
            name,
            "the database holds something that is not parlor’s"
        );
    }
    Ok(())
}

/// Fails when a schema is not exactly the one of its version.
pub(super) fn is_ours(connection: &Connection) -> anyhow::Result<()> {
    let ours = ours(version(connection)?)?;
    let there = things(connection)?;
    let mut differing = there.symmetric_difference(&ours);
    if let Some((kind, name, ..)) = differing.next() {
        let name: String = name.chars().take(64).collect();
        ensure!(
            ours.iter().any(|(_, our, ..)| *our == name),
            "it holds a {kind} that is not parlor’s: {name}"
        );
        anyhow::bail!("its {kind} {name} is missing or not as parlor makes it");
    }
    Ok(())
}
