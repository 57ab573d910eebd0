//! Exports of a MongoDB database, and imports.

use std::collections::HashSet;

use anyhow::{Context, ensure};
use mongodb::Collection;
use mongodb::bson::{Bson, DateTime, Document, doc};
use tokio_stream::StreamExt;

use super::collections::{Collections, Meta};
use super::connect::{connect, ensure_replicated};
use super::erasure::{ERASED, ERASING, nobody};
use super::errors::is_only_repeated;
use super::membership_document::{BANNED, LEVEL, ROLE, of_members};
use super::refusal::plainly;
use super::retry::retry;
use super::room_deletion::{DELETED, deleted_document};
use super::{blocks, event_document, log, migrations, nodes};
use crate::domain::{
    Access, AccountRole, Email, EventKind, Posting, RoomId, Seq, SignUpPolicy, Username,
};
use crate::store::PAGE_MAX;
use crate::store::archive::{
    Counts, EventRecord, Exporter, Importer, ReactionRecord, Record, newer_epoch,
};

/// How many documents one insert takes.
const BATCH_MAX: usize = 1_000;

/// Writes everything in the database; servers may be using it.
pub async fn export(
    uri: &str,
    wait: std::time::Duration,
    exporter: Exporter<'_>,
) -> anyhow::Result<Counts> {
    let exported = export_from(uri, wait, exporter).await;
    exported.map_err(plainly)
}

async fn export_from(
    uri: &str,
    wait: std::time::Duration,
    mut exporter: Exporter<'_>,
) -> anyhow::Result<Counts> {
    let collections = Collections::of(&connect(uri, wait).await?);
    migrations::refuse_newer(&collections).await?;
    let chosen = collections.get(Meta::SignUp).await?;
    let sign_up = chosen.as_ref().and_then(|chosen| chosen.as_str());
    let sign_up = sign_up.and_then(|word| SignUpPolicy::parse(word).ok());
    exporter.begin(collections.epoch().await?, sign_up)?;

    let erased = erased_users(&collections).await?;
    // In this order, so that what is read first mentions nothing that is not read later.
    let joined = of_members(doc! {});
    let by_user = doc! { "user": 1, "room": 1 };
    let mut memberships = all(&collections.memberships, joined, by_user).await?;
    while let Some(membership) = memberships.try_next().await? {
        exporter.put(&Record::Membership {
            user: text(&membership, "user")?,
            room: text(&membership, "room")?,
            joined_at: moment(&membership, "joined_at")?,
            read: membership.get_i64("read").map_or(0, i64::unsigned_abs),
            joined: membership.get_i64("joined").map_or(0, i64::unsigned_abs),
            role: membership.get_str(ROLE).ok().map(str::to_owned),
            level: membership.get_str(LEVEL).ok().map(str::to_owned),
        })?;
    }
    let banned = doc! { BANNED: { "$exists": true } };
    let by_room = doc! { "room": 1, "user": 1 };
    let mut bans = all(&collections.memberships, banned, by_room).await?;
    while let Some(banned) = bans.try_next().await? {
        let ban = banned.get_document(BANNED)?;
        exporter.put(&Record::Ban {
            user: text(&banned, "user")?,
            room: text(&banned, "room")?,
            at: moment(ban, "at")?,
            by: text(ban, "by")?,
        })?;
    }
    let mut blocks = all(&collections.blocks, doc! {}, doc! { "_id": 1 }).await?;
    while let Some(block) = blocks.try_next().await? {
        exporter.put(&Record::Block {
            user: text(&block, "user")?,
            blocked: text(&block, "blocked")?,
            at: moment(&block, "at")?,
        })?;
    }
    let live = doc! {
        "revoked_at": { "$exists": false },
        "expires_at": { "$gt": DateTime::now() },
    };
    let mut sessions = all(&collections.sessions, live, doc! { "_id": 1 }).await?;
    while let Some(session) = sessions.try_next().await? {
        exporter.put(&Record::Session {
            id: text(&session, "_id")?,
            user: text(&session, "user")?,
            created_at: moment(&session, "created_at")?,
            expires_at: moment(&session, "expires_at")?,
        })?;
    }
    let mut audit = all(&collections.audit, doc! {}, doc! { "_id": 1 }).await?;
    while let Some(entry) = audit.try_next().await? {
        let string = |key| entry.get_str(key).ok().map(str::to_owned);
        exporter.put(&Record::Audit {
            id: text(&entry, "_id")?,
            at: moment(&entry, "at")?,
            by: string("by"),
            act: text(&entry, "act")?,
            user: string("user"),
            room: string("room"),
            detail: string("detail"),
            failed: entry.get_bool("failed").unwrap_or(false),
        })?;
    }
    let mut ids = Vec::new();
    let live = doc! { DELETED: { "$exists": false } };
    let mut rooms = all(&collections.rooms, live, doc! { "_id": 1 }).await?;
    while let Some(room) = rooms.try_next().await? {
        let id = text(&room, "_id")?;
        let string = |key| room.get_str(key).ok().map(str::to_owned);
        exporter.put(&Record::Room {
            created_at: moment(&room, "created_at")?,
            access: string("access").filter(|access| access != Access::default().as_str()),
            name: string("name"),
            topic: string("topic"),
            posting: string("posting").filter(|posting| posting != Posting::default().as_str()),
            archived: room.get_bool("archived").unwrap_or(false),
            id: id.clone(),
        })?;
        ids.push(RoomId::known(&id)?);
    }
    let deleted = deleted_rooms(&collections).await?;
    let of_now = |id: &&String| !ids.iter().any(|room| room.as_str() == **id);
    for id in deleted.iter().filter(of_now) {
        exporter.put(&Record::DeletedRoom { id: id.clone() })?;
    }
    for room in &ids {
        export_log(&collections.events, room, &mut exporter).await?;
    }
    for id in deleted_rooms(&collections).await? {
        ensure!(
            ids.iter().all(|room| room.as_str() != id),
            "the room {id} was deleted meanwhile: export once more"
        );
    }
    let mut users = all(&collections.users, doc! {}, doc! { "_id": 1 }).await?;
    while let Some(user) = users.try_next().await? {
        // One of which something is left to do is finished where it is imported.
        let id = text(&user, "_id")?;
        let is_over = user.contains_key(ERASED) && !user.contains_key(ERASING);
        ensure!(
            !is_over || erased.contains(&id),
            "the account {id} was deleted meanwhile: export once more"
        );
        exporter.put(&Record::User {
            id: text(&user, "_id")?,
            username: text(&user, "username")?,
            email: text(&user, "email")?,
            password_hash: text(&user, "password_hash")?,
            created_at: moment(&user, "created_at")?,
            role: { user.get_str("role").ok().map(str::to_owned) }
                .filter(|role| role != AccountRole::Member.as_str()),
            names: names_of(&user),
            erased: user.contains_key(ERASED),
            erasing: user.get_str(ERASING).ok().map(str::to_owned),
            deactivated_at: { user.get_datetime("deactivated_at").ok() }
                .map(|at| at.timestamp_millis()),
        })?;
    }
    exporter.end()
}

/// The hashes of the names that somebody has had.
fn names_of(user: &Document) -> Vec<String> {
    let names = user.get_array("names").into_iter().flatten();
    let names = names.filter_map(|name| name.as_str().map(str::to_owned));
    let mut names: Vec<String> = names.collect();
    names.sort_unstable();
    names
}

/// Those of an export with the one they have now.
fn all_names(mut names: Vec<String>, now: &Username) -> Vec<String> {
    names.extend(now.claims());
    names.sort_unstable();
    names.dedup();
    names
}

/// The accounts of which nothing is left.
async fn erased_users(collections: &Collections) -> anyhow::Result<HashSet<String>> {
    let over = doc! { ERASED: { "$exists": true }, ERASING: { "$exists": false } };
    let mut found = all(&collections.users, over, doc! { "_id": 1 }).await?;
    let mut erased = HashSet::new();
    while let Some(user) = found.try_next().await? {
        erased.insert(text(&user, "_id")?);
    }
    Ok(erased)
}

/// The ids of the rooms that were deleted.
async fn deleted_rooms(collections: &Collections) -> anyhow::Result<Vec<String>> {
    let deleted = doc! { DELETED: true };
    let mut found = all(&collections.rooms, deleted, doc! { "_id": 1 }).await?;
    let mut ids = Vec::new();
    while let Some(room) = found.try_next().await? {
        ids.push(text(&room, "_id")?);
    }
    Ok(ids)
}

/// In pages of their own, so that no cursor grows old, and up to where the log was at first.
async fn export_log(
    events: &Collection<Document>,
    room: &RoomId,
    exporter: &mut Exporter<'_>,
) -> anyhow::Result<()> {
    let newest = || {
        let newest = events.find_one(doc! { "room": room.as_str() });
        newest.sort(doc! { "seq": -1 })
    };
    let newest = retry("read a log’s head", newest).await?;
    let head = newest.as_ref().map_or(Ok(0), event_document::seq_from)?;
    let mut after: Seq = 0;
    while after < head {
        for document in log::documents_after(events, room, after, PAGE_MAX).await? {
            let event = record_of(&document, head)?;
            ensure!(
                event.seq == after + 1,
                "the log of {room} has a gap at {}",
                after + 1
            );
            if event.seq > head {
                break;
            }
            after = event.seq;
            exporter.put(&Record::Event(Box::new(event)))?;
        }
    }
    Ok(())
}

/// A message's state may be of a later moment than `head`, where the exported log ends: what it says of
/// events beyond that is left out.
fn record_of(document: &Document, head: Seq) -> anyhow::Result<EventRecord> {
    let string = |key| document.get_str(key).ok().map(str::to_owned);
    let number = |key| document.get_i64(key).ok().map(i64::unsigned_abs);
    let at = |key| {
        document
            .get_datetime(key)
            .ok()
            .map(|at| at.timestamp_millis())
    };
    let reactions = document.get_array("reactions").into_iter().flatten();
    let reactions = reactions.filter_map(event_document::reaction_from);
    let reactions = reactions.filter(|reaction| reaction.seq <= head);
    let deleted_at = at("deleted_at");
    // A node of a version before this may have deleted it and have left them.
    let mentions = event_document::mentions_from(document).filter(|_| deleted_at.is_none());
    Ok(EventRecord {
        room: text(document, "room")?,
        seq: event_document::seq_from(document)?,
        at: moment(document, "at")?,
        r#type: text(document, "kind")?,
        author: text(document, "author")?,
        author_name: None,
        body: string("body"),
        actor: string("actor"),
        nonce: string("nonce"),
        target: number("target"),
        emoji: string("emoji"),
        on: document.get_bool("is_on").ok(),
        reply_to: number("reply_to"),
        changed: number("changed").map(|seq| seq.min(head)),
        rev: number("rev").map(|seq| seq.min(head)),
        edited_at: at("edited_at"),
        deleted_at,
        mentions: mentions.map(str::to_owned).collect(),
        reactions: reactions
            .map(|reaction| ReactionRecord {
                seq: reaction.seq,
                emoji: reaction.emoji.to_string(),
                user: reaction.user.to_string(),
            })
            .collect(),
        messages: 0,
    })
}

async fn all(
    collection: &Collection<Document>,
    filter: Document,
    sort: Document,
) -> anyhow::Result<mongodb::Cursor<Document>> {
    let find = || collection.find(filter.clone()).sort(sort.clone());
    Ok(retry("read for an export", find).await?)
}

fn text(document: &Document, key: &str) -> anyhow::Result<String> {
    Ok(document.get_str(key)?.to_owned())
}

fn moment(document: &Document, key: &str) -> anyhow::Result<i64> {
    Ok(document.get_datetime(key)?.timestamp_millis())
}

/// Reads an export into the database, which must be empty. One that stops half-way leaves a mark,
/// because of which no server uses the database. With `new_epoch` the store gets a new epoch, and
/// everybody has to sign in.
pub async fn import(
    uri: &str,
    wait: std::time::Duration,
    importer: Importer<'_>,
    new_epoch: bool,
) -> anyhow::Result<Counts> {
    let imported = import_into(uri, wait, importer, new_epoch).await;
    imported.map_err(plainly)
}

async fn import_into(
    uri: &str,
    wait: std::time::Duration,
    mut importer: Importer<'_>,
    new_epoch: bool,
) -> anyhow::Result<Counts> {
    let connected = connect(uri, wait).await?;
    ensure_replicated(&connected.hello)?;
    let collections = Collections::of(&connected);
    let (epoch, sign_up) = importer.begin()?;
    migrations::refuse_newer(&collections).await?;
    collections.make_indexes().await?;
    ensure!(
        collections.get(Meta::Importing).await?.is_none(),
        "an import into the database {} did not finish: drop it and import again",
        collections.database.name()
    );
    for collection in [
        &collections.users,
        &collections.rooms,
        &collections.events,
        &collections.memberships,
        &collections.sessions,
    ] {
        let any = retry("look for what is there", || collection.find_one(doc! {})).await?;
        ensure!(
            any.is_none(),
            "the database {} is not empty: name another in MONGODB_URI, or drop it",
            collections.database.name()
        );
    }
    ensure_unused(&collections).await?;
    collections.set(Meta::Importing, 1).await?;
    let epoch = match new_epoch {
        true => newer_epoch(epoch),
        false => epoch,
    };
    collections.set(Meta::Epoch, epoch.cast_signed()).await?;
    if let Some(policy) = sign_up {
        collections.set(Meta::SignUp, policy.as_str()).await?;
    }

    let mut batch = Batch::default();
    while let Some(record) = importer.next()? {
        if new_epoch && matches!(record, Record::Session { .. }) {
            continue;
        }
        if let Record::Event(event) = &record {
            end_membership(&collections, event).await?;
        }
        if let Record::Ban { user, room, at, by } = &record {
            batch.insert().await?;
            ban(&collections, user, room, *at, by).await?;
            continue;
        }
        if let Record::DeletedRoom { id } = &record {
            batch.insert().await?;
            let of_room = doc! { "room": id };
            let memberships = &collections.memberships;
            retry("import", || memberships.delete_many(of_room.clone())).await?;
        }
        let (collection, document) = document_of(&collections, record);
        if batch.documents.len() >= BATCH_MAX || batch.is_for_another(collection) {
            batch.insert().await?;
        }
        batch.collection = Some(collection.clone());
        batch.documents.push(document);
    }
    batch.insert().await?;
    collections.unset(Meta::Importing).await?;
    Ok(importer.counts())
}

/// Puts a ban in the place of the membership that an export of a store in use may have read before.
async fn ban(
    collections: &Collections,
    user: &str,
    room: &str,
    at: i64,
    by: &str,
) -> anyhow::Result<()> {
    let key = doc! { "user": user, "room": room };
    let mut banned = key.clone();
    banned.insert(BANNED, doc! { "at": DateTime::from_millis(at), "by": by });
    let replace = || {
        let replace = collections.memberships.replace_one(key.clone(), &banned);
        replace.upsert(true)
    };
    retry("import", replace).await?;
    Ok(())
}

/// An export of a store in use may have read a membership that ended before its log was read. All memberships
/// are there before the first event is.
async fn end_membership(collections: &Collections, event: &EventRecord) -> anyhow::Result<()> {
    if !matches!(event.kind(), EventKind::Left { .. }) {
        return Ok(());
    }
    let ended = doc! {
        "user": &event.author, "room": &event.room,
        "joined": { "$lt": event.seq.cast_signed() },
    };
    let delete = || collections.memberships.delete_many(ended.clone());
    retry("import", delete).await?;
    Ok(())
}

/// A running server would not hear of what is done here.
async fn ensure_unused(collections: &Collections) -> anyhow::Result<()> {
    ensure!(
        !nodes::is_any_alive(collections).await?,
        "a server is using the database {}: stop it; if it was killed, wait 20 seconds",
        collections.database.name()
    );
    Ok(())
}

/// Makes the database one that has gone back in time: a new epoch, nobody signed in, and no link that lets anybody in.
pub async fn start_new_epoch(uri: &str, wait: std::time::Duration) -> anyhow::Result<()> {
    go_back(uri, wait).await.map_err(plainly)
}

async fn go_back(uri: &str, wait: std::time::Duration) -> anyhow::Result<()> {
    let connected = connect(uri, wait).await?;
    ensure_replicated(&connected.hello)?;
    let collections = Collections::of(&connected);
    ensure_unused(&collections).await?;
    migrations::refuse_newer(&collections).await?;
    let newest = collections.epoch().await?;
    let delete = || collections.sessions.delete_many(doc! {});
    retry("end all sessions", delete).await?;
    // A link that was spent since must not open again.
    let delete = || collections.resets.delete_many(doc! {});
    retry("take back all resets", delete).await?;
    let delete = || collections.invites.delete_many(doc! {});
    retry("take back all invitations", delete).await?;
    let epoch = newer_epoch(newest).cast_signed();
    Ok(collections.set(Meta::Epoch, epoch).await?)
}

/// Documents for one collection.
#[derive(Default)]
struct Batch {
    collection: Option<Collection<Document>>,
    documents: Vec<Document>,
}

impl Batch {
    fn is_for_another(&self, collection: &Collection<Document>) -> bool {
        let own = self.collection.as_ref();
        own.is_some_and(|own| own.name() != collection.name())
    }

    async fn insert(&mut self) -> anyhow::Result<()> {
        let Some(collection) = self.collection.take() else {
            return Ok(());
        };
        // Unordered: tried again, it goes on past those that are there already.
        let insert = || collection.insert_many(&self.documents).ordered(false);
        let inserted = retry("import", insert).await;
        if let Err(error) = inserted
            && !is_only_repeated(&error, "_id_")
        {
            return Err(error).context("the database does not take the records");
        }
        self.documents.clear();
        Ok(())
    }
}

fn document_of(collections: &Collections, record: Record) -> (&Collection<Document>, Document) {
    let at = DateTime::from_millis;
    match record {
        // The importer keeps the first and the last for itself, and bans are not inserted.
        Record::Parlor { .. } | Record::Ban { .. } | Record::End(_) => {
            (&collections.rooms, Document::new())
        }
        Record::Membership {
            user,
            room,
            joined_at,
            read,
            joined,
            role,
            level,
        } => {
            // With an id of its own, by which a second attempt is known.
            let mut membership = doc! {
                "_id": mongodb::bson::oid::ObjectId::new(),
                "user": user, "room": room, "joined_at": at(joined_at),
                "read": event_document::signed(read), "joined": event_document::signed(joined),
            };
            membership.extend(role.map(|role| (ROLE.to_owned(), role.into())));
            membership.extend(level.map(|level| (LEVEL.to_owned(), level.into())));
            (&collections.memberships, membership)
        }
        Record::Block {
            user,
            blocked,
            at: moment,
        } => {
            let id = blocks::key(&user, &blocked);
            let block = doc! { "_id": id, "user": user, "blocked": blocked, "at": at(moment) };
            (&collections.blocks, block)
        }
        Record::Session {
            id,
            user,
            created_at,
            expires_at,
        } => (
            &collections.sessions,
            doc! {
                "_id": id, "user": user,
                "created_at": at(created_at), "expires_at": at(expires_at),
            },
        ),
        Record::Audit {
            id,
            at: moment,
            by,
            act,
            user,
            room,
            detail,
            failed,
        } => (
            &collections.audit,
            doc! {
                "_id": id, "at": at(moment), "by": by, "act": act, "user": user, "room": room,
                "detail": detail, "failed": failed,
            },
        ),
        Record::DeletedRoom { id } => (&collections.rooms, deleted_document(&id)),
        Record::Room {
            id,
            created_at,
            access,
            name,
            topic,
            posting,
            archived,
        } => (
            &collections.rooms,
            doc! {
                "_id": id, "created_at": at(created_at),
                "access": access.unwrap_or_else(|| Access::default().as_str().to_owned()),
                "name": name, "topic": topic, "archived": archived,
                "posting": posting.unwrap_or_else(|| Posting::default().as_str().to_owned()),
            },
        ),
        Record::Event(event) => (&collections.events, event_document(*event)),
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
            let (name, address) = (Username::stored(&username), Email::stored(&email));
            let nobody = erased.then(|| nobody(&id));
            let mut user = doc! {
                "_id": id,
                "username_key": name.key(),
                "username_shape": name.shape(),
                "names": if erased { names } else { all_names(names, &name) },
                "username": username,
                "email_key": address.key(),
                "email": email,
                "password_hash": password_hash,
                "role": role.unwrap_or_else(|| AccountRole::Member.as_str().to_owned()),
                "created_at": at(created_at),
            };
            user.extend(
                deactivated_at.map(|moment| ("deactivated_at".to_owned(), at(moment).into())),
            );
            user.extend(nobody.unwrap_or_default());
            user.extend(erasing.map(|word| (ERASING.to_owned(), word.into())));
            (&collections.users, user)
        }
    }
}

fn event_document(event: EventRecord) -> Document {
    let mut document = doc! {
        "_id": mongodb::bson::oid::ObjectId::new(),
        "room": event.room,
        "seq": event.seq.cast_signed(),
        "messages": event.messages.cast_signed(),
        "at": DateTime::from_millis(event.at),
        "kind": event.r#type,
        "author": event.author,
    };
    let number = |seq: Seq| Bson::from(seq.cast_signed());
    let moment = |at| Bson::from(DateTime::from_millis(at));
    let reaction = |one: &ReactionRecord| {
        Bson::from(doc! { "seq": one.seq.cast_signed(), "emoji": &one.emoji, "user": &one.user })
    };
    let reactions: Vec<Bson> = event.reactions.iter().map(reaction).collect();
    let mentions: Vec<Bson> = event.mentions.into_iter().map(Bson::from).collect();
    for (key, value) in [
        ("body", event.body.map(Bson::from)),
        ("actor", event.actor.map(Bson::from)),
        ("nonce", event.nonce.map(Bson::from)),
        ("target", event.target.map(number)),
        ("emoji", event.emoji.map(Bson::from)),
        ("is_on", event.on.map(Bson::from)),
        ("reply_to", event.reply_to.map(number)),
        ("changed", event.changed.map(number)),
        ("rev", event.rev.map(number)),
        ("edited_at", event.edited_at.map(moment)),
        ("deleted_at", event.deleted_at.map(moment)),
        (
            "mentions",
            (!mentions.is_empty()).then_some(mentions.into()),
        ),
        (
            "reactions",
            (!reactions.is_empty()).then_some(reactions.into()),
        ),
    ] {
        if let Some(value) = value {
            document.insert(key, value);
        }
    }
    document
}
