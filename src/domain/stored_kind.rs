//! Event kinds as the stores keep them.

use std::borrow::Cow;
use std::sync::Arc;

use super::{
    Author, ChangeKind, Changed, Edit, Emoji, EventKind, Mentions, Message, MessageBody, Reactions,
    Reply, Seq, Setting, Timestamp, UserId,
};

/// An event's kind and state as the stores keep them, in columns or fields of these names.
#[derive(Debug, Clone, Default)]
pub(crate) struct StoredKind<'a> {
    pub(crate) name: &'a str,
    /// A message's text, or a setting's value.
    pub(crate) body: Option<&'a str>,
    /// The id of who added or removed the author.
    pub(crate) actor: Option<Cow<'a, str>>,
    pub(crate) target: Option<Seq>,
    pub(crate) emoji: Option<&'a str>,
    pub(crate) is_on: Option<bool>,
    pub(crate) reply_to: Option<Seq>,
    pub(crate) changed: Option<Seq>,
    pub(crate) rev: Option<Seq>,
    pub(crate) edited_at: Option<Timestamp>,
    pub(crate) deleted_at: Option<Timestamp>,
    /// [`Mentions::keys`].
    pub(crate) mentions: Vec<Cow<'a, str>>,
}

impl StoredKind<'_> {
    /// The kind, of which the states of other messages, reactions and people's names are still missing.
    pub(crate) fn read(self) -> EventKind {
        let has_no_text = self.body.is_none();
        let what = match (self.name, self.emoji, self.is_on) {
            ("edited", None, None) => Some(ChangeKind::Edited),
            ("deleted", None, None) => Some(ChangeKind::Deleted),
            ("reacted", Some(emoji), Some(on)) => {
                let emoji = Emoji::stored(emoji);
                Some(ChangeKind::Reacted { emoji, on })
            }
            _ => None,
        };
        match (self.name, self.target, what) {
            ("message", None, _) if has_no_text == self.deleted_at.is_some() => {
                let edited = self.rev.zip(self.edited_at);
                // An earlier version deletes a message and leaves whom it was for.
                let mentions = self.mentions.iter().filter(|_| !has_no_text);
                EventKind::Message(Message {
                    body: self.body.map(MessageBody::stored),
                    changed: self.changed.unwrap_or(0),
                    edited: edited.map(|(seq, at)| Edit { seq, at }),
                    deleted_at: self.deleted_at,
                    reply: self.reply_to.map(|to| Reply { to, quote: None }),
                    mentions: Mentions::stored(mentions.map(|key| &**key)),
                    reactions: Reactions::default(),
                })
            }
            ("joined", None, _) if has_no_text => EventKind::Joined { by: self.by() },
            ("left", None, _) if has_no_text => EventKind::Left { by: self.by() },
            (_, Some(target), Some(what)) if has_no_text => EventKind::Changed(Changed {
                target,
                what,
                message: None,
            }),
            _ => match Setting::stored(self.name, self.body) {
                Some(setting) => EventKind::Set(setting),
                None => EventKind::Unknown {
                    name: self.name.into(),
                    body: self.body.map(Arc::from),
                },
            },
        }
    }

    /// The person who added or removed the author; their name is still missing.
    fn by(&self) -> Option<Author> {
        let id = UserId::parse(self.actor.as_deref()?).ok()?;
        let username = "".into();
        Some(Author { id, username })
    }
}

impl<'a> From<&'a EventKind> for StoredKind<'a> {
    fn from(kind: &'a EventKind) -> Self {
        let name = kind.name();
        match kind {
            EventKind::Message(message) => Self {
                name,
                body: message.body.as_ref().map(MessageBody::as_str),
                reply_to: message.reply.as_ref().map(|reply| reply.to),
                changed: (message.changed > 0).then_some(message.changed),
                rev: message.edited.map(|edit| edit.seq),
                edited_at: message.edited.map(|edit| edit.at),
                deleted_at: message.deleted_at,
                mentions: message.mentions.keys().map(Cow::Owned).collect(),
                ..Self::default()
            },
            EventKind::Joined { by } | EventKind::Left { by } => Self {
                name,
                actor: by.as_ref().map(|by| by.id.to_string().into()),
                ..Self::default()
            },
            EventKind::Set(setting) => Self {
                name,
                body: setting.value(),
                ..Self::default()
            },
            EventKind::Changed(changed) => {
                let (emoji, is_on) = match &changed.what {
                    ChangeKind::Reacted { emoji, on } => (Some(emoji.as_str()), Some(*on)),
                    ChangeKind::Edited | ChangeKind::Deleted => (None, None),
                };
                Self {
                    name,
                    target: Some(changed.target),
                    emoji,
                    is_on,
                    ..Self::default()
                }
            }
            EventKind::Unknown { body, .. } => Self {
                name,
                body: body.as_deref(),
                ..Self::default()
            },
        }
    }
}
