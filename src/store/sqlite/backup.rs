//! Backups: a copy of the file, and one put back in its place.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use rusqlite::{Connection, params};

use super::archive::export_from;
use super::connection::{
    Checkpoint, checkpoint, close, copy_into, open, open_existing, open_immutable,
};
use super::epoch::{epoch, set_epoch};
use super::integrity::check;
use super::lock::{ShutdownMarker, lock, log_beside};
use super::mark::{new_mark, set_mark};
use super::migrations::{migrate, refuse_newer, version};
use super::{DATABASE, make_data_dir, reports, schema};
use crate::domain::{Email, Epoch, Report, Username};
use crate::files::{Part, is_new, sync_folder_of, with_suffix};
use crate::store::archive::{
    Checker, Counts, EPOCH_MAX, Exporter, Record, newer_epoch, seconds_since_1970,
};

/// Copies `dir`'s database into a new file, as it is at this moment; a server may be using it.
pub fn backup(dir: &Path, file: &Path) -> anyhow::Result<()> {
    let connection = open_existing(dir)?;
    is_new(file)?;
    // Under its name the file is always whole.
    let part = Part::beside(file)?;
    copy_into(&connection, &part)
        .and_then(|()| part.becomes_new(file))
        .with_context(|| format!("cannot copy the database to {}", file.display()))
}

/// Puts a backup in the place of `dir`'s database, which must not be in use. The old
/// database is kept beside it; the answer says where. The store gets a new epoch, so that readers who
/// have seen more than the backup holds hear of it, and everybody has to sign in: a session that was
/// revoked since then stays revoked.
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
    let (_lock, marker) = lock(dir)?;
    let path = dir.join(DATABASE);
    let mut part = Part::beside_for_folder(&path)?;
    let owns_log = marker.owns_log(&path).is_ok();
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
    refuse_newer(&copy)?;
    schema::is_ours(&copy)?;
    check(&copy, false)?;
    migrate(&mut copy)?;
    has_what_can_be_typed(&mut copy)?;
    rekey(&copy)?;
    has_reports_that_can_be_typed(&copy)?;
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

/// The same of reports, which are in no export.
fn has_reports_that_can_be_typed(connection: &Connection) -> anyhow::Result<()> {
    for report in reports::list(connection, None, usize::MAX >> 1)? {
        let typed = Report::parse_reason(&report.reason);
        ensure!(
            typed.is_ok_and(|typed| typed == report.reason),
            "the reason of the report {} is none",
            report.id
        );
    }
    Ok(())
}

/// Makes the keys that accounts are found by anew, as an import does. Nobody finds one that was deleted.
fn rekey(connection: &Connection) -> anyhow::Result<()> {
    let mut select =
        connection.prepare("SELECT id, username, email FROM users WHERE erased IS NULL")?;
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
    let (mut lock, marker) = lock(dir)?;
    let mut connection = open_existing(dir)?;
    if marker != ShutdownMarker::New {
        ShutdownMarker::InUse(None).put(&mut lock, dir)?;
    }
    migrate(&mut connection)?;
    go_back(&connection, 0)
}

/// A new epoch, nobody signed in, and no link that lets anybody in.
fn go_back(connection: &Connection, newest: Epoch) -> anyhow::Result<()> {
    let newest = epoch(connection)?.max(newest);
    ensure!(newest <= EPOCH_MAX, "its epoch is no number we gave");
    connection.execute("DELETE FROM sessions", [])?;
    // A link that was spent since must not open again.
    connection.execute("DELETE FROM resets", [])?;
    connection.execute("DELETE FROM invites", [])?;
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
