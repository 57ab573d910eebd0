//! Messages: the state of one, and the changes to it.

use std::sync::Arc;

use super::{
    Author, Emoji, Event, EventKind, Mentions, MessageBody, Reactions, Seq, Timestamp, UserId,
};

/// The state of a message: what it is now, whatever it has been. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Message {
    /// The text; `None` once the message is deleted.
    pub body: Option<MessageBody>,
    /// The number of the newest change to it; 0 while there is none.
    pub changed: Seq,
    /// Its newest edit.
    pub edited: Option<Edit>,
    /// When it was deleted.
    pub deleted_at: Option<Timestamp>,
    /// The message it replies to.
    pub reply: Option<Reply>,
    /// The people whom it is for.
    pub mentions: Mentions,
    /// The reactions to it.
    pub reactions: Reactions,
}

/// The newest edit of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Edit {
    /// Its number in the log: a message's `rev`.
    pub seq: Seq,
    /// When it was made.
    pub at: Timestamp,
}

/// A reply's reference to the message above it. It holds no text of its own: the quote is made from the
/// state of that message whenever the reply is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// That message's number.
    pub to: Seq,
    /// The quote; `None` where that message was not read.
    pub quote: Option<Quote>,
}

/// The part of a message that its replies show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quote {
    /// Its author.
    pub author: Author,
    /// How its text begins; `None` when it is deleted.
    pub excerpt: Option<MessageBody>,
    /// [`Message::changed`] of what it was made from.
    changed: Seq,
}

/// Something to be done to a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NewChange {
    /// Give it another text.
    Edit {
        /// The text.
        body: MessageBody,
        /// The edit that its editor has seen, 0 for none; without it, whichever it is.
        rev: Option<Seq>,
    },
    /// Delete it.
    Delete {
        /// Whether it is deleted by an owner of the room, whosever it is.
        as_owner: bool,
    },
    /// Put a reaction on it, or take it off. Doing either twice is doing it once.
    React {
        /// Which.
        emoji: Emoji,
        /// On or off.
        on: bool,
    },
}

/// Why a change is not made.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Refusal {
    /// There is no message of this number.
    #[error("there is no such message")]
    NoMessage,
    /// It is somebody else's.
    #[error("it is somebody else’s message")]
    NotAuthor,
    /// It is deleted.
    #[error("the message is deleted")]
    Deleted,
    /// It was edited after its editor has seen it; here it is as it is now.
    #[error("the message was edited meanwhile")]
    EditedSince(Arc<Event>),
    /// It has [`Reactions::KINDS_MAX`] kinds of reaction.
    #[error("the message has too many kinds of reaction")]
    TooManyKinds,
}

/// A change as it stands in the log: it holds nothing of the message itself, whose state is read
/// whenever the change is.
#[derive(Debug, Clone, PartialEq)]
pub struct Changed {
    /// The message's number.
    pub target: Seq,
    /// The kind of change.
    pub what: ChangeKind,
    /// The message as it is when this was read; `None` where there is none of that number.
    pub message: Option<Arc<Event>>,
}

/// The kinds of change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChangeKind {
    /// It got another text.
    Edited,
    /// It was deleted.
    Deleted,
    /// A reaction was put on it or taken off.
    Reacted {
        /// Which.
        emoji: Emoji,
        /// On or off.
        on: bool,
    },
}

impl From<&NewChange> for ChangeKind {
    fn from(change: &NewChange) -> Self {
        match change {
            NewChange::Edit { .. } => Self::Edited,
            NewChange::Delete { .. } => Self::Deleted,
            NewChange::React { emoji, on } => Self::Reacted {
                emoji: emoji.clone(),
                on: *on,
            },
        }
    }
}

impl ChangeKind {
    /// The field's word for it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Edited => "edited",
            Self::Deleted => "deleted",
            Self::Reacted { .. } => "reacted",
        }
    }
}

impl Message {
    /// A new one.
    pub fn new(body: MessageBody, reply_to: Option<Seq>) -> Self {
        Self {
            body: Some(body),
            reply: reply_to.map(|to| Reply { to, quote: None }),
            ..Self::default()
        }
    }

    /// The number of its newest edit, 0 for none.
    pub fn rev(&self) -> Seq {
        self.edited.map_or(0, |edit| edit.seq)
    }

    /// About how much memory its parts of no fixed size take, in bytes.
    pub fn weight(&self) -> usize {
        self.body.as_ref().map_or(0, |body| body.as_str().len())
            + self.mentions.bytes_max()
            + self.reactions.weight()
    }

    /// The most bytes it takes in an answer, like [`MessageBody::escaped_bytes_max`].
    fn escaped_bytes_max(&self) -> usize {
        let body = self.body.as_ref().map_or(0, MessageBody::escaped_bytes_max);
        let quote = self.reply.as_ref().and_then(|reply| reply.quote.as_ref());
        let quote = quote.and_then(|quote| quote.excerpt.as_ref());
        let quote = quote.map_or(0, MessageBody::escaped_bytes_max);
        body + quote + self.mentions.bytes_max() + self.reactions.escaped_bytes_max()
    }

    /// Whether a post that repeats the nonce of this one is the same post. What was posted is known
    /// only until it is changed; from then on the nonce alone decides.
    pub(crate) fn is_repeated_by(&self, post: &Self) -> bool {
        let to = |message: &Self| message.reply.as_ref().map(|reply| reply.to);
        self.deleted_at.is_some()
            || self.edited.is_some()
            || (self.body == post.body && to(self) == to(post))
    }
}

impl Event {
    /// This message after a change that has the number `seq`; `None` when it is so already. The names of
    /// those who reacted are still to be filled in.
    ///
    /// # Errors
    ///
    /// The [`Refusal`], when it may not be made.
    pub(crate) fn after_change(
        self: &Arc<Self>,
        change: &NewChange,
        by: UserId,
        seq: Seq,
        at: Timestamp,
    ) -> Result<Option<Self>, Refusal> {
        let EventKind::Message(message) = &self.kind else {
            return Err(Refusal::NoMessage);
        };
        let is_author = self.author.id == by;
        let mut changed = Message {
            changed: seq,
            ..message.clone()
        };
        match change {
            NewChange::Edit { .. } | NewChange::Delete { as_owner: false } if !is_author => {
                return Err(Refusal::NotAuthor);
            }
            NewChange::Delete { .. } if message.deleted_at.is_some() => return Ok(None),
            NewChange::Delete { .. } => {
                changed = Message {
                    changed: seq,
                    deleted_at: Some(at),
                    ..Message::default()
                };
            }
            _ if message.deleted_at.is_some() => return Err(Refusal::Deleted),
            NewChange::Edit { body, .. } if message.body.as_ref() == Some(body) => return Ok(None),
            NewChange::Edit { rev, .. } if rev.is_some_and(|rev| rev != message.rev()) => {
                return Err(Refusal::EditedSince(Arc::clone(self)));
            }
            NewChange::Edit { body, .. } => {
                changed.body = Some(body.clone());
                changed.edited = Some(Edit { seq, at });
            }
            NewChange::React { emoji, on } => match message.reactions.with(emoji, *on, by, seq)? {
                Some(reactions) => changed.reactions = reactions,
                None => return Ok(None),
            },
        }
        Ok(Some(Self {
            kind: EventKind::Message(changed),
            ..Self::clone(self)
        }))
    }

    /// The most bytes that it and what it shows of other messages take in an answer.
    pub(crate) fn escaped_bytes_max(&self) -> usize {
        self.message().map_or(0, Message::escaped_bytes_max)
    }

    /// The state of a message: this event's, or that of the message which it changes.
    pub fn message(&self) -> Option<&Message> {
        match &self.kind {
            EventKind::Message(message) => Some(message),
            EventKind::Changed(changed) => changed.message.as_deref()?.message(),
            _ => None,
        }
    }

    /// The number of the message above this one, if it is a reply.
    pub fn reply_to(&self) -> Option<Seq> {
        match &self.kind {
            EventKind::Message(message) => message.reply.as_ref().map(|reply| reply.to),
            _ => None,
        }
    }

    /// The number of the message that this changes.
    pub fn target(&self) -> Option<Seq> {
        match &self.kind {
            EventKind::Changed(changed) => Some(changed.target),
            _ => None,
        }
    }

    /// Whether it shows more than stands in the log with it: another message, or people's names.
    pub(crate) fn shows_more(&self) -> bool {
        let message = match &self.kind {
            EventKind::Message(message) => message,
            EventKind::Changed(_) => return true,
            other => return other.by().is_some(),
        };
        message.reply.is_some() || !message.mentions.is_empty() || !message.reactions.is_empty()
    }

    /// This event with the state of another message put in where it shows it: as the target of a change,
    /// or as the quote of a reply.
    pub(crate) fn show(&mut self, other: &Arc<Self>) {
        match &mut self.kind {
            EventKind::Changed(changed) if changed.target == other.seq => {
                changed.message = Some(Arc::clone(other));
            }
            EventKind::Message(Message {
                reply: Some(reply), ..
            }) if reply.to == other.seq => {
                reply.quote = Quote::of(other);
            }
            _ => {}
        }
    }

    /// This event after a change to a message that it is, quotes or changes itself; `None` when it looks
    /// as before.
    #[must_use]
    pub(crate) fn renewed_by(self: &Arc<Self>, change: &Self) -> Option<Arc<Self>> {
        match &change.kind {
            EventKind::Changed(changed) => self.renewed(changed.message.as_ref()?),
            _ => None,
        }
    }

    /// The same, with the message as it is now. What is kept may have been read later than that.
    fn renewed(self: &Arc<Self>, now: &Arc<Self>) -> Option<Arc<Self>> {
        let changed = now.message()?.changed;
        if self.seq == now.seq {
            return (self.message()?.changed < changed).then(|| Arc::clone(now));
        }
        let mut event = Self::clone(self);
        match (&self.kind, &mut event.kind) {
            (
                EventKind::Changed(Changed {
                    message: Some(kept),
                    ..
                }),
                EventKind::Changed(renewed),
            ) => {
                renewed.message = Some(kept.renewed(now)?);
            }
            (
                EventKind::Message(Message {
                    reply: Some(reply), ..
                }),
                _,
            ) if reply.to == now.seq => {
                let shown = reply.quote.as_ref().map(|quote| quote.changed);
                if shown.is_some_and(|shown| shown >= changed) {
                    return None;
                }
                event.show(now);
            }
            _ => return None,
        }
        Some(Arc::new(event))
    }
}

impl Quote {
    /// The quote of a message; `None` of anything else.
    fn of(event: &Event) -> Option<Self> {
        let EventKind::Message(message) = &event.kind else {
            return None;
        };
        Some(Self {
            author: event.author.clone(),
            excerpt: message.body.as_ref().map(MessageBody::excerpt),
            changed: message.changed,
        })
    }
}
