//! Events as JSON, as programs get them.

use serde::{Serialize, Serializer};

use super::{
    Access, Author, ChangeKind, Changed, Emoji, Event, EventKind, Label, Message, MessageBody,
    Posting, Reactions, RoomId, Seq, Setting, Timestamp,
};

impl Serialize for Event {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Shape<'a> {
            room: &'a RoomId,
            seq: Seq,
            r#type: &'a str,
            at: Timestamp,
            author: &'a Author,
            #[serde(flatten)]
            message: Option<MessageShape<'a>>,
            #[serde(flatten)]
            change: Option<ChangeShape<'a>>,
            #[serde(skip_serializing_if = "Option::is_none")]
            by: Option<&'a Author>,
            #[serde(flatten)]
            setting: Option<SettingShape<'a>>,
        }
        Shape {
            room: &self.room,
            seq: self.seq,
            r#type: self.kind.name(),
            at: self.at,
            author: &self.author,
            message: match &self.kind {
                EventKind::Message(message) => Some(message.into()),
                _ => None,
            },
            change: match &self.kind {
                EventKind::Changed(changed) => Some(changed.into()),
                _ => None,
            },
            by: self.kind.by(),
            setting: match &self.kind {
                EventKind::Set(setting) => Some(setting.into()),
                _ => None,
            },
        }
        .serialize(serializer)
    }
}

/// The fields of a message in JSON.
#[derive(Serialize)]
struct MessageShape<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<&'a MessageBody>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rev: Option<Seq>,
    #[serde(skip_serializing_if = "Option::is_none")]
    edited_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    deleted_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reply_to: Option<Seq>,
    #[serde(skip_serializing_if = "<[Author]>::is_empty")]
    mentions: &'a [Author],
    /// Whether it is for everybody.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    mentions_room: bool,
    #[serde(skip_serializing_if = "Reactions::is_empty")]
    reactions: &'a Reactions,
}

impl<'a> From<&'a Message> for MessageShape<'a> {
    fn from(message: &'a Message) -> Self {
        Self {
            body: message.body.as_ref(),
            rev: message.edited.map(|edit| edit.seq),
            edited_at: message.edited.map(|edit| edit.at),
            deleted_at: message.deleted_at,
            reply_to: message.reply.as_ref().map(|reply| reply.to),
            mentions: message.mentions.users(),
            mentions_room: message.mentions.room(),
            reactions: &message.reactions,
        }
    }
}

/// The fields of a change in JSON.
#[derive(Serialize)]
struct ChangeShape<'a> {
    target: Seq,
    #[serde(skip_serializing_if = "Option::is_none")]
    emoji: Option<&'a Emoji>,
    #[serde(skip_serializing_if = "Option::is_none")]
    on: Option<bool>,
    message: Option<&'a Event>,
}

impl<'a> From<&'a Changed> for ChangeShape<'a> {
    fn from(changed: &'a Changed) -> Self {
        let (emoji, on) = match &changed.what {
            ChangeKind::Reacted { emoji, on } => (Some(emoji), Some(*on)),
            ChangeKind::Edited | ChangeKind::Deleted => (None, None),
        };
        Self {
            target: changed.target,
            emoji,
            on,
            message: changed.message.as_deref(),
        }
    }
}

/// A setting in JSON: one field, which is null when it was taken away.
#[derive(Serialize)]
#[serde(rename_all = "lowercase")]
enum SettingShape<'a> {
    Name(Option<&'a Label>),
    Topic(Option<&'a Label>),
    Access(Access),
    Posting(Posting),
    Archived(bool),
}

impl<'a> From<&'a Setting> for SettingShape<'a> {
    fn from(setting: &'a Setting) -> Self {
        match setting {
            Setting::Name(name) => Self::Name(name.as_ref()),
            Setting::Topic(topic) => Self::Topic(topic.as_ref()),
            Setting::Access(access) => Self::Access(*access),
            Setting::Posting(posting) => Self::Posting(*posting),
            Setting::Archived(is_archived) => Self::Archived(*is_archived),
        }
    }
}
