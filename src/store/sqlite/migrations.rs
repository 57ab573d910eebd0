//! Migrations: what brings a database file to the newest schema.

use anyhow::bail;
use rusqlite::Connection;

use super::{accounts, archive};

/// What brings an empty file, or one of an earlier version, to the newest form.
pub(super) const MIGRATIONS: [&str; 3] = [
    include_str!("schema.sql"),
    include_str!("schema_2.sql"),
    include_str!("schema_3.sql"),
];

pub(super) fn migrate(connection: &mut Connection) -> anyhow::Result<()> {
    migrate_to(connection, MIGRATIONS.len())
}

pub(super) fn migrate_to(connection: &mut Connection, newest: usize) -> anyhow::Result<()> {
    let version = archive::version(connection)?;
    if version as usize > MIGRATIONS.len() {
        bail!("it was written by a later version of parlor");
    }
    let migrations = MIGRATIONS.iter().take(newest);
    for (migration, version) in migrations.zip(1..).skip(version as usize) {
        let transaction = connection.transaction()?;
        transaction.execute_batch(migration)?;
        if version == 3 {
            accounts::renew_email_keys(&transaction)?;
        }
        transaction.pragma_update(None, "user_version", version)?;
        transaction.commit()?;
    }
    Ok(())
}
