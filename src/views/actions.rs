//! The forms on a message's page, which do everything that can be done to it: for browsers without scripts, and
//! for everybody who came by its link.

use crate::domain::{
    Epoch, Event, EventId, EventKind, Message, MessageBody, ReactionKind, Reactions, RoomId,
    UserId, Username,
};

/// The forms below one message.
pub struct MessageActions<'a> {
    pub(super) room: &'a RoomId,
    pub(super) id: EventId,
    message: &'a Message,
    viewer: UserId,
    /// Whether it is the viewer's own.
    pub(super) is_own: bool,
    /// Whether the viewer may delete it.
    pub(super) may_delete: bool,
    /// The name of its author.
    pub(super) author: &'a str,
    /// For a reply.
    pub(super) nonce: String,
    /// The text in the form for an edit.
    pub(super) text: &'a str,
    /// The refused edit or report.
    refused: Option<Refused<'a>>,
}

/// A form that was refused, as typed.
#[derive(Debug, Clone, Copy)]
pub enum Refused<'a> {
    /// An edit.
    Edit {
        /// The text.
        text: &'a str,
        /// The refusal.
        why: &'a str,
    },
    /// A report.
    Report {
        /// The reason.
        reason: &'a str,
        /// The refusal.
        why: &'a str,
    },
}

impl<'a> MessageActions<'a> {
    /// The reactions that are offered first.
    pub const QUICK: [&'static str; 6] = ["👍", "❤️", "😂", "🎉", "😮", "😢"];

    /// To a message, with what was refused. Nothing can be done to what is no message, or deleted.
    pub fn to(
        event: &'a Event,
        viewer: UserId,
        may_delete: bool,
        epoch: Epoch,
        nonce: String,
        refused: Option<Refused<'a>>,
    ) -> Option<Self> {
        let EventKind::Message(message) = &event.kind else {
            return None;
        };
        let seq = event.seq;
        let text = message.body.as_ref().map(MessageBody::as_str);
        let refused_text = match refused {
            Some(Refused::Edit { text, .. }) => Some(text),
            _ => None,
        };
        Some(Self {
            room: &event.room,
            id: EventId { epoch, seq },
            message,
            viewer,
            is_own: event.author.id == viewer,
            may_delete,
            author: &event.author.username,
            nonce,
            // Given back also where there is nothing to edit any more.
            text: refused_text.or(text)?,
            refused,
        })
    }

    /// Why the last edit was refused.
    pub(super) fn edit_error(&self) -> Option<&'a str> {
        match self.refused {
            Some(Refused::Edit { why, .. }) => Some(why),
            _ => None,
        }
    }

    /// The reason of a report that was refused, and why it was.
    pub(super) fn refused_report(&self) -> Option<(&'a str, &'a str)> {
        match self.refused {
            Some(Refused::Report { reason, why }) => Some((reason, why)),
            _ => None,
        }
    }

    /// Whether its author is still here.
    pub(super) fn has_author(&self) -> bool {
        self.author != Username::FORMER
    }

    pub(super) fn rev(&self) -> EventId {
        let (epoch, seq) = (self.id.epoch, self.message.rev());
        EventId { epoch, seq }
    }

    pub(super) fn is_deleted(&self) -> bool {
        self.message.deleted_at.is_some()
    }

    /// The kinds of reaction there are, each with whether it is one of the viewer's.
    pub(super) fn reactions(&self) -> impl Iterator<Item = (&ReactionKind, bool)> {
        let reactions = &self.message.reactions;
        let is_own = |kind: &ReactionKind| {
            let mut all = reactions.all().iter();
            all.any(|one| one.user == self.viewer && one.emoji == kind.emoji)
        };
        reactions
            .kinds()
            .iter()
            .map(move |kind| (kind, is_own(kind)))
    }
}

/// How many of those who reacted a row names, a kind: it grows by a kilobyte at most. The message's page names
/// more of them.
pub(super) fn named_in_row(reactions: &Reactions) -> usize {
    match reactions.kinds().len() {
        0..=3 => 3,
        4..=6 => 2,
        7..=8 => 1,
        _ => 0,
    }
}

/// The names of those who put a reaction there: `ana, ben and 3 more`; nothing where nobody is to be named.
pub(super) fn reactors(kind: &ReactionKind, named: usize) -> String {
    if named == 0 {
        return String::new();
    }
    let names: Vec<&str> = { kind.users.iter().take(named) }
        .map(|user| &*user.username)
        .collect();
    match kind.count - names.len() {
        0 => names.join(", "),
        more => format!("{} and {more} more", names.join(", ")),
    }
}
