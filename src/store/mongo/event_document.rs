//! An event as a document: one collection holds those of all logs, by room and number.

use std::borrow::Cow;

use mongodb::bson::{Bson, DateTime, Document, doc};

use super::errors::unreadable;
use super::numbering::{Head, Waiting};
use crate::domain::{
    Author, Emoji, Event, EventKind, Reaction, Reactions, RoomId, Seq, StoredKind, Timestamp,
    UserId,
};
use crate::store::{LogPlace, MentionPlace, StoreError};

/// Where an event stands: what finds it, by the unique index.
pub(super) fn place(room: &RoomId, seq: Seq) -> Document {
    doc! { "room": room.as_str(), "seq": signed(seq) }
}

/// BSON has no unsigned integers. A number past the signed ones is past every event.
pub(super) fn signed(seq: Seq) -> i64 {
    i64::try_from(seq).unwrap_or(i64::MAX)
}

/// An event's document. `last_message` is the number of the last message before it.
pub(super) fn document_from(
    waiting: &Waiting,
    event: &Event,
    last_message: Option<Seq>,
) -> Document {
    let kind = StoredKind::from(&event.kind);
    let mut document = doc! {
        "_id": waiting.id,
        "room": event.room.as_str(),
        "seq": signed(event.seq),
        "messages": signed(event.messages),
        "at": DateTime::from_millis(event.at.as_millis()),
        "kind": kind.name,
        "author": event.author.id.to_string(),
    };
    let mut set = |key: &str, value: Option<Bson>| {
        if let Some(value) = value {
            document.insert(key, value);
        }
    };
    let nonce = waiting.event.nonce.as_ref();
    set("body", kind.body.map(Bson::from));
    set("actor", kind.actor.as_deref().map(Bson::from));
    set("nonce", nonce.map(|nonce| nonce.as_str().into()));
    set("target", kind.target.map(|seq| signed(seq).into()));
    set("emoji", kind.emoji.map(Bson::from));
    set("is_on", kind.is_on.map(Bson::from));
    set("reply_to", kind.reply_to.map(|seq| signed(seq).into()));
    set("mentions", mentions(&kind));
    if !event.kind.is_message() {
        set("last_message", last_message.map(|seq| signed(seq).into()));
    }
    document
}

/// The fields of a message's state, and those that it has no longer.
pub(super) fn state_fields(message: &Event) -> (Document, Document) {
    let kind = StoredKind::from(&message.kind);
    let moment = |at: Timestamp| Bson::from(DateTime::from_millis(at.as_millis()));
    let number = |seq: Seq| Bson::from(signed(seq));
    let reactions = message.message().map(|message| message.reactions.all());
    let reactions = reactions.filter(|all| !all.is_empty()).map(|all| {
        let reaction = |one: &Reaction| {
            let user = one.user.to_string();
            Bson::from(doc! { "seq": signed(one.seq), "emoji": one.emoji.as_str(), "user": user })
        };
        Bson::from(all.iter().map(reaction).collect::<Vec<_>>())
    });
    let (mut set, mut unset) = (Document::new(), Document::new());
    for (key, value) in [
        ("body", kind.body.map(Bson::from)),
        ("reply_to", kind.reply_to.map(number)),
        ("changed", kind.changed.map(number)),
        ("rev", kind.rev.map(number)),
        ("edited_at", kind.edited_at.map(moment)),
        ("deleted_at", kind.deleted_at.map(moment)),
        ("reactions", reactions),
    ] {
        match value {
            Some(value) => set.insert(key, value),
            None => unset.insert(key, ""),
        };
    }
    // Found once, when it was posted.
    if kind.mentions.is_empty() {
        unset.insert("mentions", "");
    }
    (set, unset)
}

/// The head of the log that ends with this event, whose document it is.
pub(super) fn head_from(document: &Document, event: &Event) -> Head {
    let last_message = document.get_i64("last_message").ok();
    Head {
        last_message: last_message.map(i64::unsigned_abs),
        ..Head::EMPTY
    }
    .with(event)
}

/// Where a message stands among mentions.
pub(super) fn mention_place_from(document: &Document) -> Result<MentionPlace, StoreError> {
    const OPERATION: &str = "read a mention";
    let missing = unreadable(OPERATION);
    let room = document.get_str("room").map_err(&missing)?;
    let at = document.get_datetime("at").map_err(&missing)?;
    Ok(MentionPlace {
        at: Timestamp::from_millis(at.timestamp_millis()),
        room: RoomId::known(room).map_err(|error| StoreError::backend(OPERATION, error))?,
        seq: seq_from(document)?,
    })
}

/// An event from its document alone, without anybody’s name: see [`super::states::States::complete`].
pub(super) fn event_from(document: &Document) -> Result<Event, StoreError> {
    const OPERATION: &str = "read an event";
    let missing = unreadable(OPERATION);
    let text = |key| document.get_str(key).map_err(&missing);
    Ok(Event {
        room: RoomId::known(text("room")?)
            .map_err(|error| StoreError::backend(OPERATION, error))?,
        seq: seq_from(document)?,
        messages: document
            .get_i64("messages")
            .map_err(&missing)?
            .unsigned_abs(),
        at: Timestamp::from_millis(
            document
                .get_datetime("at")
                .map_err(&missing)?
                .timestamp_millis(),
        ),
        author: Author {
            id: UserId::parse(text("author")?)
                .map_err(|error| StoreError::backend(OPERATION, error))?,
            username: "".into(),
        },
        kind: kind_from(text("kind")?, document),
    })
}

fn kind_from(name: &str, document: &Document) -> EventKind {
    let number = |key| document.get_i64(key).ok().map(i64::unsigned_abs);
    let moment = |key| {
        let at = document.get_datetime(key).ok()?;
        Some(Timestamp::from_millis(at.timestamp_millis()))
    };
    let stored = StoredKind {
        name,
        body: document.get_str("body").ok(),
        actor: document.get_str("actor").ok().map(Cow::Borrowed),
        target: number("target"),
        emoji: document.get_str("emoji").ok(),
        is_on: document.get_bool("is_on").ok(),
        reply_to: number("reply_to"),
        changed: number("changed"),
        rev: number("rev"),
        edited_at: moment("edited_at"),
        deleted_at: moment("deleted_at"),
        mentions: mentions_from(document).map(Cow::Borrowed).collect(),
    };
    let mut kind = stored.read();
    if let EventKind::Message(message) = &mut kind
        && let Ok(reactions) = document.get_array("reactions")
    {
        let all = reactions.iter().filter_map(reaction_from).collect();
        message.reactions = Reactions::new(all, |_| None);
    }
    kind
}

fn mentions(kind: &StoredKind<'_>) -> Option<Bson> {
    let keys: Vec<Bson> = kind.mentions.iter().map(|key| (&**key).into()).collect();
    (!keys.is_empty()).then_some(keys.into())
}

/// The keys of a message's mentions.
pub(super) fn mentions_from(document: &Document) -> impl Iterator<Item = &str> {
    let keys = document.get_array("mentions").into_iter().flatten();
    keys.filter_map(Bson::as_str)
}

pub(super) fn reaction_from(stored: &Bson) -> Option<Reaction> {
    let stored = stored.as_document()?;
    Some(Reaction {
        seq: stored.get_i64("seq").ok()?.unsigned_abs(),
        emoji: Emoji::stored(stored.get_str("emoji").ok()?),
        user: UserId::parse(stored.get_str("user").ok()?).ok()?,
    })
}

/// The place of an event, read from its document or a part of it.
pub(super) fn place_from(document: &Document) -> Result<LogPlace, StoreError> {
    const OPERATION: &str = "read an event’s place";
    let room = document.get_str("room").map_err(unreadable(OPERATION))?;
    let room = RoomId::known(room).map_err(|error| StoreError::backend(OPERATION, error))?;
    Ok((room, seq_from(document)?))
}

pub(super) fn seq_from(document: &Document) -> Result<Seq, StoreError> {
    document
        .get_i64("seq")
        .map(i64::unsigned_abs)
        .map_err(unreadable("read an event’s number"))
}
