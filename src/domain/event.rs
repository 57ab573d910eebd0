//! Events: what stands in a room's log, and the ids of places in it.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use serde::Serialize;

use super::{
    Access, ChangeKind, Changed, Invalid, Mentions, Message, MessageBody, Posting, Reactions,
    RoomId, Setting, Timestamp, User, UserId,
};

/// An event's number in its room's log: 1, 2, 3 … without gaps. 0 stands before the first.
pub type Seq = u64;

/// Which life of the store an id belongs to: 0, and another, higher one after each restore of a
/// backup, which takes back events somebody may have seen.
pub type Epoch = u64;

/// Where a reader is: `42`, or `1-42` in a store that was restored. A stream's `id:` says it,
/// and `Last-Event-ID` brings it back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventId {
    /// The store's life in which the number was given.
    pub epoch: Epoch,
    /// The event's number.
    pub seq: Seq,
}

impl EventId {
    /// The number that a reader of a store of this epoch is at; `None` when it was given in another
    /// life of the store. Before the first event is the same place in all of them.
    pub fn within(self, epoch: Epoch) -> Option<Seq> {
        (self.epoch == epoch || self.seq == 0).then_some(self.seq)
    }

    /// # Errors
    ///
    /// [`Invalid`] for anything but digits with at most one `-` between them.
    pub fn parse(raw: &str) -> Result<Self, Invalid> {
        let number = |digits: &str| {
            digits
                .bytes()
                .all(|b| b.is_ascii_digit())
                .then(|| digits.parse::<u64>().ok())
                .flatten()
                // The databases hold signed integers.
                .filter(|n| i64::try_from(*n).is_ok())
                .ok_or(Invalid(
                    "A place in the log is a whole number, like 42: the id of an event.",
                ))
        };
        Ok(match raw.split_once('-') {
            Some((epoch, seq)) => Self {
                epoch: number(epoch)?,
                seq: number(seq)?,
            },
            None => Self {
                epoch: 0,
                seq: number(raw)?,
            },
        })
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.epoch {
            0 => write!(f, "{}", self.seq),
            epoch => write!(f, "{epoch}-{}", self.seq),
        }
    }
}

/// The author of an event, as they were called when it happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Author {
    /// The account.
    pub id: UserId,
    /// Its name then.
    pub username: Arc<str>,
}

impl From<&User> for Author {
    fn from(user: &User) -> Self {
        Self {
            id: user.id,
            username: user.username.as_str().into(),
        }
    }
}

/// One event of a room's log: durable, numbered, there for good. As JSON:
/// `{"room","seq","type","at","author":{"id","username"}}`; of a message also `"body"` and, where they
/// apply, `"rev","edited_at","deleted_at","reply_to","mentions","mentions_room","reactions"`; of a change
/// `"target"`, `"message"` as it is now and, of a reaction, `"emoji","on"`; of somebody who was added or removed
/// `"by"`; of a setting its new value as `"name"`, `"topic"`, `"access"`, `"posting"` or
/// `"archived"`.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// Which room's log.
    pub room: RoomId,
    /// Its number there.
    pub seq: Seq,
    /// How many messages the log holds up to and with this event: what is unread is the
    /// difference of two of these.
    pub messages: u64,
    /// When it was appended.
    pub at: Timestamp,
    /// Its author.
    pub author: Author,
    /// Its kind.
    pub kind: EventKind,
}

impl Event {
    /// The same event with the start of a long text and an ellipsis, without mentions and reactions: as lists of
    /// rooms carry it.
    #[must_use]
    pub fn abridged(&self) -> Self {
        let mut event = self.clone();
        if let EventKind::Message(message) = &mut event.kind {
            message.body = message.body.as_ref().map(MessageBody::excerpt);
            message.mentions = Mentions::default();
            message.reactions = Reactions::default();
        }
        event
    }
}

/// The kinds of event.
#[derive(Debug, Clone, PartialEq)]
pub enum EventKind {
    /// Somebody said something.
    Message(Message),
    /// Somebody entered the room, and is in it from here on.
    Joined {
        /// The person who added the author; `None` when they came by themselves.
        by: Option<Author>,
    },
    /// Somebody left it.
    Left {
        /// The person who removed the author; `None` when they went by themselves.
        by: Option<Author>,
    },
    /// Somebody changed a setting of the room.
    Set(Setting),
    /// Somebody changed a message.
    Changed(Changed),
    /// An event of another version of Parlor. It keeps its place in the log, and is passed over
    /// where events are shown to people.
    Unknown {
        /// Its name in the other version.
        name: Arc<str>,
        /// The text that version stored with it.
        body: Option<Arc<str>>,
    },
}

impl EventKind {
    /// The field's word for it: the `type` in JSON, the `event:` of a stream, the stores' column.
    pub fn name(&self) -> &str {
        match self {
            Self::Message(_) => "message",
            Self::Joined { .. } => "joined",
            Self::Left { .. } => "left",
            Self::Set(setting) => setting.event_name(),
            Self::Changed(changed) => changed.what.name(),
            Self::Unknown { name, .. } => name,
        }
    }

    /// The text, if this is a message that has not been deleted.
    pub fn body(&self) -> Option<&MessageBody> {
        match self {
            Self::Message(message) => message.body.as_ref(),
            _ => None,
        }
    }

    /// The person who added or removed the event's author; `None` when they came or went by themselves.
    pub fn by(&self) -> Option<&Author> {
        match self {
            Self::Joined { by } | Self::Left { by } => by.as_ref(),
            _ => None,
        }
    }

    /// Fills in the name of that person.
    pub(crate) fn name_by(&mut self, names: &HashMap<UserId, Arc<str>>) {
        if let Self::Joined { by: Some(by) } | Self::Left { by: Some(by) } = self
            && let Some(name) = names.get(&by.id)
        {
            by.username = Arc::clone(name);
        }
    }

    /// Whether the membership of its author begins or ends with it.
    pub fn is_about_membership(&self) -> bool {
        matches!(self, Self::Joined { .. } | Self::Left { .. })
    }

    /// A line in words for quiet events, as in `ana joined`; `None` for messages and their changes.
    pub fn deed(&self) -> Option<String> {
        Some(match self {
            Self::Joined { by: None } => "joined".to_owned(),
            Self::Joined { by: Some(by) } => format!("was added by {}", by.username),
            Self::Left { by: None } => "left".to_owned(),
            Self::Left { by: Some(by) } => format!("was removed by {}", by.username),
            Self::Set(Setting::Name(Some(name))) => format!("named this room “{name}”"),
            Self::Set(Setting::Name(None)) => "took this room’s name away".to_owned(),
            Self::Set(Setting::Topic(Some(topic))) => format!("set the topic: {topic}"),
            Self::Set(Setting::Topic(None)) => "took the topic away".to_owned(),
            Self::Set(Setting::Access(Access::Open)) => {
                "made this room open: everybody on this server can enter".to_owned()
            }
            Self::Set(Setting::Access(Access::Unlisted)) => {
                "made this room unlisted: whoever knows its id can enter".to_owned()
            }
            Self::Set(Setting::Access(Access::Private | Access::Direct)) => {
                "made this room private: only who was added can enter".to_owned()
            }
            Self::Set(Setting::Posting(Posting::Everybody)) => {
                "lets everybody here write".to_owned()
            }
            Self::Set(Setting::Posting(Posting::Owners)) => "lets only the owners write".to_owned(),
            Self::Set(Setting::Archived(true)) => {
                "archived this room: it can be read, and nobody writes here".to_owned()
            }
            Self::Set(Setting::Archived(false)) => "took this room out of the archive".to_owned(),
            Self::Message(_) | Self::Changed(_) | Self::Unknown { .. } => return None,
        })
    }

    /// Whether it counts as a message, deleted or not.
    pub fn is_message(&self) -> bool {
        matches!(self, Self::Message(_))
    }

    /// Whether it stands in the room's history, in a place of its own: all but changes.
    pub fn is_entry(&self) -> bool {
        !matches!(self, Self::Changed(_))
    }

    /// Whether it is about a reaction, which may come in bursts.
    pub fn is_reaction(&self) -> bool {
        matches!(self, Self::Changed(changed) if matches!(changed.what, ChangeKind::Reacted { .. }))
    }

    /// Whether it is about a deletion.
    pub fn is_deletion(&self) -> bool {
        matches!(self, Self::Changed(changed) if changed.what == ChangeKind::Deleted)
    }

    /// Whether pages show it in a place of its own.
    pub fn is_shown(&self) -> bool {
        !matches!(self, Self::Changed(_) | Self::Unknown { .. })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_id_is_a_number_or_two() {
        for (text, epoch, seq) in [("0", 0, 0), ("42", 0, 42), ("3-7", 3, 7)] {
            let id = EventId::parse(text).unwrap();
            assert_eq!((id.epoch, id.seq), (epoch, seq));
            assert_eq!(id.to_string(), text);
        }
        for text in [
            "",
            "-",
            "-1",
            "1-",
            "+1",
            "1 ",
            "a",
            "1-2-3",
            "½",
            "9223372036854775808",
            "99999999999999999999",
        ] {
            assert!(EventId::parse(text).is_err(), "{text:?}");
        }
    }
}
