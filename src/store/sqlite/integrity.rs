//! Integrity checks of a database file.

use anyhow::{Context, bail, ensure};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OptionalExtension};

use super::migrations::version;

/// Reads all of a database and says whether it hangs together. A file that may be a mix of two is
/// looked at more closely: whether each index agrees with its table.
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
    let broken_log = match version(connection)? {
        0..=3 => BROKEN_LOG_WITH_TEXTS,
        _ => BROKEN_LOG,
    };
    let broken = connection.query_row(broken_log, [], |row| row.get::<_, String>(0));
    if let Some(room) = broken.optional().context("it is damaged")? {
        bail!("it is damaged: the log of {room} is not whole");
    }
    connection.set_db_config(keep_log, false)?;
    Ok(())
}

/// A log that lacks an event or a text, or has a message with a NUL, which nobody can send: a long one
/// goes on in pages of its own, and a zeroed one of those is all text to SQLite.
const BROKEN_LOG: &str = "
    SELECT room FROM events LEFT JOIN texts ON id = text GROUP BY room
    HAVING min(seq) <> 1 OR max(seq) <> count(*) OR count(text) <> count(id)
           OR max(instr(CAST(body AS BLOB), x'00')) > 0
    LIMIT 1";

/// The same in earlier versions.
const BROKEN_LOG_WITH_TEXTS: &str = "
    SELECT room FROM events GROUP BY room
    HAVING min(seq) <> 1 OR max(seq) <> count(*) OR max(instr(CAST(body AS BLOB), x'00')) > 0
    LIMIT 1";
