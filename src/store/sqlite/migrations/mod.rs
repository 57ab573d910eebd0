//! Migrations: what brings a database file to the newest schema, one step at a time.
//!
//! A step is a transaction: SQL, code where SQL is not enough, and the new version's number. A released
//! step never changes. Before the first step a server copies the file: see `connection.rs`.

use anyhow::bail;
use rusqlite::{Connection, OptionalExtension};

use super::accounts;
use crate::store::ParlorVersion;

/// One step.
struct Migration {
    sql: &'static str,
    code: Option<fn(&Connection) -> anyhow::Result<()>>,
}

const MIGRATIONS: [Migration; 8] = [
    Migration {
        sql: include_str!("1_first.sql"),
        code: None,
    },
    Migration {
        sql: include_str!("2_read_marks.sql"),
        code: None,
    },
    Migration {
        sql: include_str!("3_limits.sql"),
        code: Some(|connection| Ok(accounts::renew_email_keys(connection)?)),
    },
    Migration {
        sql: include_str!("4_changes.sql"),
        code: None,
    },
    Migration {
        sql: include_str!("5_mentions.sql"),
        code: None,
    },
    Migration {
        sql: include_str!("6_access.sql"),
        code: None,
    },
    Migration {
        sql: include_str!("7_accounts.sql"),
        code: None,
    },
    Migration {
        sql: include_str!("8_invites.sql"),
        code: Some(|connection| Ok(accounts::claim_names(connection)?)),
    },
];

/// The schema's version that this program writes.
pub(super) const NEWEST: u32 = MIGRATIONS.len() as u32;

/// Brings a database to the newest schema.
pub(super) fn migrate(connection: &mut Connection) -> anyhow::Result<()> {
    refuse_newer(connection)?;
    migrate_to(connection, NEWEST)?;
    vacuum(connection)
}

/// Leaves no copy of what a step has moved, also of one that was cut off before this.
fn vacuum(connection: &Connection) -> anyhow::Result<()> {
    let is_due: bool = connection.query_row(
        "SELECT EXISTS (SELECT 1 FROM meta WHERE key = 'to be vacuumed')",
        [],
        |row| row.get(0),
    )?;
    if is_due {
        connection.execute_batch("VACUUM")?;
        connection.execute("DELETE FROM meta WHERE key = 'to be vacuumed'", [])?;
    }
    Ok(())
}

/// Takes the steps up to `newest`.
pub(super) fn migrate_to(connection: &mut Connection, newest: u32) -> anyhow::Result<()> {
    let version = version(connection)?;
    let steps = (1..=newest).zip(&MIGRATIONS).skip(version as usize);
    for (version, migration) in steps {
        let transaction = connection.transaction()?;
        transaction.execute_batch(migration.sql)?;
        if let Some(code) = migration.code {
            code(&transaction)?;
        }
        transaction.pragma_update(None, "user_version", version)?;
        transaction.execute(
            "INSERT OR REPLACE INTO meta (key, value) VALUES ('parlor', ?1)",
            [ParlorVersion::OWN.to_number()],
        )?;
        transaction.commit()?;
    }
    Ok(())
}

/// Fails, saying which parlor wrote it, when a database has a newer schema than this program's.
pub(super) fn refuse_newer(connection: &Connection) -> anyhow::Result<()> {
    let version = version(connection)?;
    if version <= NEWEST {
        return Ok(());
    }
    let by = connection
        .query_row("SELECT value FROM meta WHERE key = 'parlor'", [], |row| {
            row.get(0)
        })
        .optional();
    let by = ParlorVersion::from_number(by.ok().flatten().unwrap_or(0));
    bail!(
        "it was written by a later version of parlor, {by} (its schema is {version}, this program’s is \
         {NEWEST}): start that version"
    )
}

/// The version of a database's schema: the number of its last step, 0 if it has none of ours.
pub(super) fn version(connection: &Connection) -> anyhow::Result<u32> {
    let version: i32 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    Ok(u32::try_from(version).unwrap_or(0))
}
