//! New events: what is to be appended, and the nonces that make a retry safe.

use std::sync::Arc;

use serde::{Serialize, Serializer};

use super::{
    Author, EventKind, Invalid, MembershipId, Mentions, Message, MessageBody, NewChange, Seq,
    Setting,
};

/// An event that has not been appended yet: the store gives it its number and its time.
#[derive(Debug, Clone, PartialEq)]
pub struct NewEvent {
    /// Its author.
    pub author: Author,
    /// Its kind.
    pub kind: NewKind,
    /// Makes a retry safe: an author's second event with the same nonce in a room is the first.
    pub nonce: Option<Nonce>,
}

/// The kinds of new event.
#[derive(Debug, Clone, PartialEq)]
pub enum NewKind {
    /// A message.
    Message {
        /// The text.
        body: MessageBody,
        /// The number of the message it replies to.
        reply_to: Option<Seq>,
        /// The people whom it is for.
        mentions: Mentions,
    },
    /// The author has entered the room, or was added to it.
    Joined {
        /// The person who added the author; `None` when they came by themselves.
        by: Option<Author>,
    },
    /// The author has left it, or was removed.
    Left {
        /// The person who removed the author; `None` when they went by themselves.
        by: Option<Author>,
    },
    /// The author has changed a setting of the room.
    Set(Setting),
    /// A change to a message. It needs no nonce: made twice, it is made once.
    Change {
        /// The message's number.
        target: Seq,
        /// The change.
        change: NewChange,
    },
}

impl NewKind {
    /// The kind of its event; or the change, which has one only once its message was read, by the number of
    /// that.
    pub(crate) fn event_kind(&self) -> Result<EventKind, (Seq, &NewChange)> {
        match self {
            Self::Message {
                body,
                reply_to,
                mentions,
            } => Ok(EventKind::Message(Message {
                mentions: mentions.clone(),
                ..Message::new(body.clone(), *reply_to)
            })),
            Self::Joined { by } => Ok(EventKind::Joined { by: by.clone() }),
            Self::Left { by } => Ok(EventKind::Left { by: by.clone() }),
            Self::Set(setting) => Ok(EventKind::Set(setting.clone())),
            Self::Change { target, change } => Err((*target, change)),
        }
    }

    /// Whether it counts as a message.
    pub fn is_message(&self) -> bool {
        matches!(self, Self::Message { .. })
    }
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

    /// The nonce of the event with which it ends, likewise.
    pub fn left(membership: MembershipId) -> Self {
        Self(format!(" left-{membership}").into())
    }

    /// The nonce of the event that tells of a setting, by the id that the change was given.
    pub fn set(change: MembershipId) -> Self {
        Self(format!(" set-{change}").into())
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
    fn nobody_can_send_the_nonce_of_a_join() {
        assert!(Nonce::parse(Nonce::joined(MembershipId::new()).as_str()).is_err());
        assert!(Nonce::parse(Nonce::left(MembershipId::new()).as_str()).is_err());
        assert!(Nonce::parse("").is_err());
        assert!(Nonce::parse("a b").is_err());
        assert!(Nonce::parse(&"x".repeat(129)).is_err());
        assert!(Nonce::parse("\"6f1a\"").is_ok());
    }
}
