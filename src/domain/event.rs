//! Events: what stands in a room's log, and the ids of places in it.

use std::fmt;
use std::sync::Arc;

use serde::{Serialize, Serializer};

use super::{Invalid, MembershipId, MessageBody, RoomId, Timestamp, User, UserId};

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

/// One entry of a room's log: durable, numbered, never changed. As JSON:
/// `{"room","seq","type","at","author":{"id","username"}}` and, for a message, `"body"`.
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
    /// The same event with the start of a long text and an ellipsis: what lists of rooms carry.
    #[must_use]
    pub fn abridged(&self) -> Self {
        let mut event = self.clone();
        if let EventKind::Message { body } = &self.kind {
            event.kind = EventKind::Message {
                body: body.excerpt(),
            };
        }
        event
    }
}

impl Serialize for Event {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Shape<'a> {
            room: &'a RoomId,
            seq: Seq,
            r#type: &'a str,
            at: Timestamp,
            author: &'a Author,
            #[serde(skip_serializing_if = "Option::is_none")]
            body: Option<&'a MessageBody>,
        }
        Shape {
            room: &self.room,
            seq: self.seq,
            r#type: self.kind.name(),
            at: self.at,
            author: &self.author,
            body: self.kind.body(),
        }
        .serialize(serializer)
    }
}

/// The kinds of event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EventKind {
    /// Somebody said something.
    Message {
        /// The text.
        body: MessageBody,
    },
    /// Somebody entered the room for the first time.
    Joined,
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
            Self::Message { .. } => "message",
            Self::Joined => "joined",
            Self::Unknown { name, .. } => name,
        }
    }

    /// The text, if this is a message.
    pub fn body(&self) -> Option<&MessageBody> {
        match self {
            Self::Message { body } => Some(body),
            Self::Joined | Self::Unknown { .. } => None,
        }
    }

    /// Whether it counts as a message.
    pub fn is_message(&self) -> bool {
        self.body().is_some()
    }

    /// Whether pages and lines of text show it.
    pub fn is_shown(&self) -> bool {
        !matches!(self, Self::Unknown { .. })
    }

    /// How a store's row becomes a kind again.
    pub(crate) fn stored(name: &str, body: Option<&str>) -> Self {
        match (name, body) {
            ("message", Some(body)) => Self::Message {
                body: MessageBody::stored(body),
            },
            ("joined", None) => Self::Joined,
            _ => Self::Unknown {
                name: name.into(),
                body: body.map(Arc::from),
            },
        }
    }
}

/// An event that has not been appended yet: the store gives it its number and its time.
#[derive(Debug, Clone, PartialEq)]
pub struct NewEvent {
    /// Its author.
    pub author: Author,
    /// Its kind.
    pub kind: EventKind,
    /// Makes a retry safe: an author's second event with the same nonce in a room is the first.
    pub nonce: Option<Nonce>,
}

/// A client's name for one post, which makes sending it again safe: 1 to [`Self::CHARS_MAX`] visible
/// ASCII characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nonce(Arc<str>);

impl Nonce {
    /// Room for a UUID in quotes or a hash in hexadecimal.
    pub const CHARS_MAX: usize = 128;

    /// # Errors
    ///
    /// [`Invalid`] for an empty, long or unprintable one.
    pub fn parse(raw: &str) -> Result<Self, Invalid> {
        let visible = !raw.is_empty() && raw.bytes().all(|b| b.is_ascii_graphic());
        if visible && raw.len() <= Self::CHARS_MAX {
            Ok(Self(raw.into()))
        } else {
            Err(Invalid(
                "A nonce (or Idempotency-Key) has 1 to 128 visible ASCII characters.",
            ))
        }
    }

    /// The nonce of the event with which a membership begins: one event for one membership, however
    /// often the join is tried again. The space keeps it out of what [`Self::parse`] takes.
    pub fn joined(membership: MembershipId) -> Self {
        Self(format!(" joined-{membership}").into())
    }

    /// The nonce as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Serialize for Nonce {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
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

    #[test]
    fn nobody_can_send_the_nonce_of_a_join() {
        assert!(Nonce::parse(Nonce::joined(MembershipId::new()).as_str()).is_err());
        assert!(Nonce::parse("").is_err());
        assert!(Nonce::parse("a b").is_err());
        assert!(Nonce::parse(&"x".repeat(129)).is_err());
        assert!(Nonce::parse("\"6f1a\"").is_ok());
    }
}
