//! Exports of the embedded store, and imports.

use std::path::Path;

use anyhow::{Context, ensure};
use rusqlite::{Connection, Row, params};

use super::connection::{copy_into, open, open_existing, open_prepared};
use super::epoch::{epoch, set_epoch, unsigned};
use super::event_row::select_events;
use super::lock::{ShutdownMarker, lock};
use super::migrations::{NEWEST, migrate, version};
use super::{DATABASE, accounts, invites, make_data_dir, states};
use crate::domain::{
    Access, AccountRole, Email, EventKind, Level, Posting, Role, Seq, Timestamp, Username,
};
use crate::files::Part;
use crate::store::archive::{
    Counts, EventRecord, Exporter, Importer, ReactionRecord, Record, newer_epoch,
};

/// Writes everything in `dir`'s database, as it is at this moment; a server may be using it.
pub fn export(dir: &Path, exporter: Exporter<'_>) -> anyhow::Result<Counts> {
    let mut connection = open_existing(dir)?;
    if version(&connection)? == NEWEST {
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

pub(super) fn export_from(
    connection: &mut Connection,
    mut exporter: Exporter<'_>,
) -> anyhow::Result<Counts> {
    // One reading transaction: all of it is of one moment.
    let snapshot = connection.transaction()?;
    exporter.begin(epoch(&snapshot)?, invites::sign_up_policy(&snapshot)?)?;
    let now = Timestamp::now().as_millis();
    let mut put = |select: &str, record: &mut dyn FnMut(&Row<'_>) -> rusqlite::Result<Record>| {
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
    put(
        "SELECT * FROM memberships ORDER BY user, room",
        &mut |row| {
            Ok(Record::Membership {
                user: row.get("user")?,
                room: row.get("room")?,
                joined_at: row.get("joined_at")?,
                read: unsigned(row.get("read_seq")?),
                joined: unsigned(row.get("joined_seq")?),
                role: Some(row.get("role")?).filter(|role: &String| role != Role::Member.as_str()),
                level: Some(row.get("level")?).filter(|it: &String| it != Level::All.as_str()),
            })
        },
    )?;
    put("SELECT * FROM bans ORDER BY room, user", &mut |row| {
        Ok(Record::Ban {
            user: row.get("user")?,
            room: row.get("room")?,
            at: row.get("at")?,
            by: row.get("by")?,
        })
    })?;
    put("SELECT * FROM blocks ORDER BY user, blocked", &mut |row| {
        Ok(Record::Block {
            user: row.get("user")?,
            blocked: row.get("blocked")?,
            at: row.get("at")?,
        })
    })?;
    put(
        "SELECT * FROM sessions WHERE revoked_at IS NULL AND expires_at > ?1 ORDER BY id",
        &mut |row| {
            Ok(Record::Session {
                id: row.get("id")?,
                user: row.get("user")?,
                created_at: row.get("created_at")?,
                expires_at: row.get("expires_at")?,
            })
        },
    )?;
    put("SELECT * FROM audit ORDER BY id", &mut |row| {
        Ok(Record::Audit {
            id: row.get("id")?,
            at: row.get("at")?,
            by: row.get("by")?,
            act: row.get("act")?,
            user: row.get("user")?,
            room: row.get("room")?,
            detail: row.get("detail")?,
            failed: row.get("failed")?,
        })
    })?;
    put(
        "SELECT * FROM rooms WHERE id NOT IN (SELECT id FROM deleted_rooms) ORDER BY id",
        &mut |row| {
            Ok(Record::Room {
                id: row.get("id")?,
                created_at: row.get("created_at")?,
                access: Some(row.get("access")?)
                    .filter(|access: &String| access != Access::default().as_str()),
                name: row.get("name")?,
                topic: row.get("topic")?,
                posting: Some(row.get("posting")?)
                    .filter(|posting: &String| posting != Posting::default().as_str()),
                archived: row.get("archived")?,
            })
        },
    )?;
    put("SELECT * FROM deleted_rooms ORDER BY id", &mut |row| {
        Ok(Record::DeletedRoom { id: row.get("id")? })
    })?;
    let mut reactions = snapshot.prepare(
        "SELECT seq, emoji, user FROM reactions WHERE room = ?1 AND message = ?2 ORDER BY seq",
    )?;
    let mut reactions_to = |room: &str, message: Seq| {
        let rows = reactions.query_map(params![room, message.cast_signed()], |row| {
            Ok(ReactionRecord {
                seq: unsigned(row.get("seq")?),
                emoji: row.get("emoji")?,
                user: row.get("user")?,
            })
        });
        rows?.collect::<rusqlite::Result<Vec<_>>>()
    };
    put(
        select_events!(
            "events",
            "WHERE room NOT IN (SELECT id FROM deleted_rooms) ORDER BY room, seq"
        ),
        &mut |row| {
            let (room, seq) = (row.get::<_, String>("room")?, unsigned(row.get("seq")?));
            let number = |column| row.get::<_, Option<i64>>(column).map(|it| it.map(unsigned));
            let changed = number("changed")?;
            let mentions = row
                .get::<_, Option<String>>("mentions")?
                .unwrap_or_default();
            Ok(Record::Event(Box::new(EventRecord {
                reactions: match changed {
                    Some(_) => reactions_to(&room, seq)?,
                    None => Vec::new(),
                },
                target: number("target")?,
                emoji: row.get("emoji")?,
                on: row.get("is_on")?,
                reply_to: number("reply_to")?,
                rev: number("rev")?,
                edited_at: row.get("edited_at")?,
                deleted_at: row.get("deleted_at")?,
                mentions: mentions.split_terminator(' ').map(str::to_owned).collect(),
                changed,
                room,
                seq,
                at: row.get("at")?,
                r#type: row.get("kind")?,
                author: row.get("author")?,
                author_name: None,
                body: row.get("body")?,
                actor: row.get("actor")?,
                nonce: row.get("nonce")?,
                messages: unsigned(row.get("messages")?),
            })))
        },
    )?;
    put("SELECT * FROM users ORDER BY id", &mut |row| {
        Ok(Record::User {
            id: row.get("id")?,
            username: row.get("username")?,
            email: row.get("email")?,
            password_hash: row.get("password_hash")?,
            created_at: row.get("created_at")?,
            role: Some(row.get("role")?)
                .filter(|role: &String| role != AccountRole::Member.as_str()),
            names: claims_of(&snapshot, &row.get::<_, String>("id")?)?,
            deactivated_at: row.get("deactivated_at")?,
            erased: row.get::<_, Option<String>>("erased")?.is_some(),
            erasing: row
                .get::<_, Option<String>>("erased")?
                .filter(|word| word != "done"),
        })
    })?;
    exporter.end()
}

/// The hashes of the names that somebody has had.
fn claims_of(connection: &Connection, user: &str) -> rusqlite::Result<Vec<String>> {
    connection
        .prepare_cached("SELECT hash FROM names WHERE user = ?1 ORDER BY hash")?
        .query_map([user], |row| row.get(0))?
        .collect()
}

/// Reads an export into `dir`'s database, which must be empty and not in use: all of it, or none.
/// With `new_epoch` the store gets a new epoch, and everybody has to sign in.
pub fn import(dir: &Path, mut importer: Importer<'_>, new_epoch: bool) -> anyhow::Result<Counts> {
    make_data_dir(dir)?;
    let (mut lock, marker) = lock(dir)?;
    let path = dir.join(DATABASE);
    marker.fits(&path)?;
    if marker != ShutdownMarker::New {
        ShutdownMarker::InUse(None).put(&mut lock, dir)?;
    }
    let mut connection = open_prepared(&path)?;
    let (epoch, sign_up) = importer.begin()?;
    // Records refer to later ones; the importer sees to it that those do come.
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
    if let Some(policy) = sign_up {
        invites::set_sign_up_policy(&transaction, policy)?;
    }
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

const TAKES_NOT: &str = "the database does not take a record";

fn put(connection: &Connection, record: &Record) -> anyhow::Result<()> {
    let insert = |statement: &str, values: &[&dyn rusqlite::ToSql]| {
        connection
            .prepare_cached(statement)?
            .execute(values)
            .context(TAKES_NOT)
    };
    match record {
        Record::Parlor { .. } | Record::End(_) => Ok(0),
        Record::Membership {
            user,
            room,
            joined_at,
            read,
            joined,
            role,
            level,
        } => insert(
            "INSERT INTO memberships (user, room, joined_at, read_seq, joined_seq, role, level)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            params![
                user,
                room,
                joined_at,
                read.cast_signed(),
                joined.cast_signed(),
                role.as_deref().unwrap_or(Role::Member.as_str()),
                level.as_deref().unwrap_or(Level::All.as_str()),
            ],
        ),
        // An export of a store in use may have read a membership before that ended with the ban.
        Record::Ban { user, room, at, by } => insert(
            "DELETE FROM memberships WHERE user = ?1 AND room = ?2",
            params![user, room],
        )
        .and_then(|_| {
            insert(
                "INSERT INTO bans (user, room, at, by) VALUES (?1, ?2, ?3, ?4)",
                params![user, room, at, by],
            )
        }),
        Record::Block { user, blocked, at } => insert(
            "INSERT INTO blocks (user, blocked, at) VALUES (?1, ?2, ?3)",
            params![user, blocked, at],
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
        Record::Audit {
            id,
            at,
            by,
            act,
            user,
            room,
            detail,
            failed,
        } => insert(
            "INSERT INTO audit (id, at, by, act, user, room, detail, failed)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
            params![id, at, by, act, user, room, detail, failed],
        ),
        Record::Room {
            id,
            created_at,
            access,
            name,
            topic,
            posting,
            archived,
        } => insert(
            "INSERT INTO rooms (id, created_at, access, name, topic, posting, archived)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            params![
                id,
                created_at,
                access.as_deref().unwrap_or(Access::default().as_str()),
                name,
                topic,
                posting.as_deref().unwrap_or(Posting::default().as_str()),
                archived,
            ],
        ),
        Record::DeletedRoom { id } => {
            insert("DELETE FROM memberships WHERE room = ?1", params![id])
                .and_then(|_| insert("DELETE FROM bans WHERE room = ?1", params![id]))
                .and_then(|_| insert("INSERT INTO deleted_rooms (id) VALUES (?1)", params![id]))
        }
        Record::Event(event) => put_event(connection, event)
            .and_then(|put| end_membership(connection, event).map(|()| put))
            .context(TAKES_NOT),
        Record::User {
            id,
            username,
            email,
            password_hash,
            created_at,
            role,
            names,
            deactivated_at,
            erased,
            erasing,
        } => {
            let (name, address) = (Username::stored(username), Email::stored(email));
            let nobody = Username::former_key(id);
            let unless_erased = |key: String| if *erased { nobody.clone() } else { key };
            let inserted = insert(
                "INSERT INTO users (id, username, username_key, username_shape, email, email_key,
                                    password_hash, created_at, role, deactivated_at, erased)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
                params![
                    id,
                    username,
                    unless_erased(name.key()),
                    unless_erased(name.shape()),
                    email,
                    unless_erased(address.key()),
                    password_hash,
                    created_at,
                    role.as_deref().unwrap_or(AccountRole::Member.as_str()),
                    deactivated_at,
                    erased.then(|| erasing.as_deref().unwrap_or("done")),
                ],
            )?;
            if !erased {
                accounts::put_claims(connection, id, &name.claims()).context(TAKES_NOT)?;
            }
            accounts::put_claims(connection, id, names).context(TAKES_NOT)?;
            Ok(inserted)
        }
    }
    .map(drop)
}

/// An export of a store in use may have read a membership that ended before its log was read.
fn end_membership(connection: &Connection, event: &EventRecord) -> rusqlite::Result<()> {
    if !matches!(event.kind(), EventKind::Left { .. }) {
        return Ok(());
    }
    connection
        .prepare_cached(
            "DELETE FROM memberships WHERE user = ?1 AND room = ?2 AND joined_seq < ?3",
        )?
        .execute(params![event.author, event.room, event.seq.cast_signed()])
        .map(drop)
}

fn put_event(connection: &Connection, event: &EventRecord) -> rusqlite::Result<usize> {
    let body = event.body.as_deref();
    let text = body.map(|body| states::add_text(connection, body));
    let seq = event.seq.cast_signed();
    let inserted = connection
        .prepare_cached(
            "INSERT INTO events (room, seq, messages, at, kind, author, text, nonce, target, emoji, is_on,
                                  reply_to, changed, rev, edited_at, deleted_at, mentions,
                                 actor)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18)",
        )?
        .execute(params![
            event.room,
            seq,
            event.messages.cast_signed(),
            event.at,
            event.r#type,
            event.author,
            text.transpose()?,
            event.nonce,
            event.target.map(Seq::cast_signed),
            event.emoji,
            event.on,
            event.reply_to.map(Seq::cast_signed),
            event.changed.map(Seq::cast_signed),
            event.rev.map(Seq::cast_signed),
            event.edited_at,
            event.deleted_at,
            (!event.mentions.is_empty()).then(|| event.mentions.join(" ")),
            event.actor,
        ])?;
    let keys = event.mentions.iter().map(String::as_str);
    states::add_mentions(
        connection,
        keys,
        (&event.room, seq, event.at),
        &event.author,
    )?;
    for reaction in &event.reactions {
        let put = reaction.seq.cast_signed();
        states::add_reaction(
            connection,
            &event.room,
            seq,
            put,
            &reaction.emoji,
            &reaction.user,
        )?;
    }
    Ok(inserted)
}
