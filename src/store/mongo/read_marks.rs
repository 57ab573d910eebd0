//! Read marks: how far somebody has read a room.

use mongodb::bson::{Document, doc};

use super::collections::Collections;
use super::event_document;
use super::retry::retry;
use crate::domain::{RoomId, Seq, User, UserId};
use crate::store::StoreError;
use crate::store::cache::Durable;

/// How far somebody has read a room: the field of a membership that is written whenever `read` is. Of an
/// update the change stream tells what was set, so this says whose it is; and it saves looking up how many
/// messages that are.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ReadMark {
    pub(super) user: UserId,
    pub(super) room: RoomId,
    pub(super) seq: Seq,
    pub(super) messages: u64,
}

impl ReadMark {
    pub(super) const FIELD: &str = "read_mark";

    /// The one among these fields.
    pub(super) fn of(fields: &Document) -> Option<Self> {
        let mut parts = fields.get_str(Self::FIELD).ok()?.split(' ');
        Some(Self {
            user: UserId::parse(parts.next()?).ok()?,
            room: RoomId::known(parts.next()?).ok()?,
            seq: parts.next()?.parse().ok()?,
            messages: parts.next()?.parse().ok()?,
        })
    }

    pub(super) fn fields(&self) -> Document {
        let Self {
            user,
            room,
            seq,
            messages,
        } = self;
        doc! {
            "read": event_document::signed(*seq),
            Self::FIELD: format!("{user} {room} {seq} {messages}"),
        }
    }
}

impl From<ReadMark> for Durable {
    fn from(mark: ReadMark) -> Self {
        Self::Read {
            room: mark.room,
            user: mark.user,
            seq: mark.seq,
            messages: mark.messages,
        }
    }
}

/// Answers what is so now, if that is more than it was.
pub(super) async fn mark_read(
    collections: &Collections,
    room: &RoomId,
    user: &User,
    seq: Seq,
) -> Result<Option<Durable>, StoreError> {
    let up_to = doc! { "room": room.as_str(), "seq": { "$lte": event_document::signed(seq) } };
    let find = || {
        let newest = collections.events.find_one(up_to.clone());
        newest
            .sort(doc! { "seq": -1 })
            .projection(doc! { "_id": 0, "seq": 1, "messages": 1 })
    };
    let Some(event) = retry("mark as read", find).await? else {
        return Ok(None);
    };
    let mark = ReadMark {
        user: user.id,
        room: room.clone(),
        seq: event_document::seq_from(&event)?,
        messages: event.get_i64("messages").map_or(0, i64::unsigned_abs),
    };
    // It never goes back.
    let own = doc! {
        "user": user.id.to_string(),
        "room": room.as_str(),
        "read": { "$not": { "$gte": event_document::signed(mark.seq) } },
    };
    let read = doc! { "$set": mark.fields() };
    let update = || {
        collections
            .memberships
            .update_one(own.clone(), read.clone())
    };
    let updated = retry("mark as read", update).await?;
    Ok((updated.modified_count > 0).then(|| mark.into()))
}
