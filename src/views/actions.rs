//! The forms on a message's page, which do everything that can be done to it: for browsers without scripts, and
//! for everybody who came by its link.

use crate::domain::{
    Epoch, Event, EventId, EventKind, Message, MessageBody, ReactionKind, Reactions, RoomId, UserId,
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
    /// Why the last one was refused.
    pub(super) error: Option<&'a str>,
}

impl<'a> MessageActions<'a> {
    /// The reactions that are offered first.
    pub const QUICK: [&'static str; 6] = ["👍", "❤️", "😂", "🎉", "😮", "😢"];

    /// To a message; `refused` is the text of an edit, and why it was not taken. Nothing can be done to
    /// what is no message, or deleted.
    pub fn to(
        event: &'a Event,
        viewer: UserId,
        may_delete: bool,
        epoch: Epoch,
        nonce: String,
        refused: Option<(&'a str, &'a str)>,
    ) -> Option<Self> {
        let EventKind::Message(message) = &event.kind else {
            return None;
        };
        let seq = event.seq;
        let text = message.body.as_ref().map(MessageBody::as_str);
        let refused_text = refused.map(|(text, _)| text);
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
            error: refused.map(|(_, why)| why),
        })
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
