//! The audit log: what admins and owners have done, in words that are kept for good.

use serde::Serialize;

use super::{AuditId, RoomId, Timestamp, User};

/// The acts that are noted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// An account has got another role, which is the detail.
    SetRole,
    /// A link to choose another password was made.
    Reset,
    /// An account was closed.
    Close,
    /// A closed account was opened.
    Open,
    /// All sessions of somebody were ended.
    SignOut,
    /// An account was made at the command line.
    AddUser,
    /// A policy of sign-ups was chosen, which is the detail.
    SignUp,
    /// An invitation was made.
    Invite,
    /// An invitation was taken back.
    RevokeInvite,
    /// Somebody was added to a room.
    AddToRoom,
    /// Somebody was removed from a room.
    Remove,
    /// Somebody is kept out of a room.
    Ban,
    /// Somebody may enter a room again.
    Unban,
    /// A member has got another role, which is the detail.
    SetRoomRole,
    /// A setting of a room was changed: the detail says which.
    SetRoom,
    /// Somebody else’s message was deleted: the detail is its number.
    DeleteMessage,
    /// A room was deleted.
    DeleteRoom,
    /// A report of a message was closed.
    CloseReport,
    /// An account was deleted by an admin.
    DeleteAccount,
}

impl Act {
    const ALL: [Self; 19] = [
        Self::SetRole,
        Self::Reset,
        Self::Close,
        Self::Open,
        Self::SignOut,
        Self::AddUser,
        Self::SignUp,
        Self::Invite,
        Self::RevokeInvite,
        Self::AddToRoom,
        Self::Remove,
        Self::Ban,
        Self::Unban,
        Self::SetRoomRole,
        Self::SetRoom,
        Self::DeleteMessage,
        Self::DeleteRoom,
        Self::CloseReport,
        Self::DeleteAccount,
    ];

    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::SetRole => "role",
            Self::Reset => "reset",
            Self::Close => "close",
            Self::Open => "open",
            Self::SignOut => "sign-out",
            Self::AddUser => "add-user",
            Self::SignUp => "sign-up",
            Self::Invite => "invite",
            Self::RevokeInvite => "revoke-invite",
            Self::AddToRoom => "room-add",
            Self::Remove => "room-remove",
            Self::Ban => "room-ban",
            Self::Unban => "room-unban",
            Self::SetRoomRole => "room-role",
            Self::SetRoom => "room-set",
            Self::DeleteMessage => "message-delete",
            Self::DeleteRoom => "room-delete",
            Self::CloseReport => "close-report",
            Self::DeleteAccount => "delete-account",
        }
    }

    fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|act| act.as_str() == word)
    }
}

/// One entry. As JSON: `{"id","at","by","act","user","room","detail","failed"}`, null where there is none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AuditEntry {
    /// Names it. Later ones are greater.
    pub id: AuditId,
    /// The moment before it was done.
    pub at: Timestamp,
    /// The person who has done it; `None` for the operator, at the command line.
    pub by: Option<User>,
    /// [`Act::as_str`], or the word of another version.
    pub act: String,
    /// The person whom it is about.
    pub user: Option<User>,
    /// The room that it is about.
    pub room: Option<RoomId>,
    /// The rest.
    pub detail: Option<String>,
    /// Whether it did not come to it: the entry before with the same words is void.
    #[serde(rename = "failed")]
    pub has_failed: bool,
}

impl AuditEntry {
    /// An act that is about to be done.
    pub fn new(by: Option<&User>, act: Act) -> Self {
        Self {
            id: AuditId::new(),
            at: Timestamp::now(),
            by: by.cloned(),
            act: act.as_str().to_owned(),
            user: None,
            room: None,
            detail: None,
            has_failed: false,
        }
    }

    /// About somebody.
    #[must_use]
    pub fn about(self, user: &User) -> Self {
        let user = Some(user.clone());
        Self { user, ..self }
    }

    /// In a room.
    #[must_use]
    pub fn in_room(self, room: &RoomId) -> Self {
        let room = Some(room.clone());
        Self { room, ..self }
    }

    /// With the rest.
    #[must_use]
    pub fn with(self, detail: impl Into<String>) -> Self {
        let detail = Some(detail.into());
        Self { detail, ..self }
    }

    /// The entry that says that it did not come to this one.
    #[must_use]
    pub fn failed(self) -> Self {
        Self {
            id: AuditId::new(),
            at: Timestamp::now(),
            has_failed: true,
            ..self
        }
    }

    /// In words, after the name of the person who has done it: `made ben admin`.
    pub fn says(&self) -> String {
        let user = self.user.as_ref();
        let user = user.map_or("somebody", |user| user.username.as_str());
        let room = self.room.as_ref().map_or("this server", RoomId::as_str);
        let detail = self.detail.as_deref().unwrap_or("");
        let says = match Act::parse(&self.act) {
            Some(Act::SetRole) => format!("made {user} {detail}"),
            Some(Act::Reset) => format!("made a link to reset {user}’s password"),
            Some(Act::Close) => format!("closed {user}’s account"),
            Some(Act::Open) => format!("opened {user}’s account"),
            Some(Act::SignOut) => format!("signed {user} out everywhere"),
            Some(Act::AddUser) => format!("made an account for {user}"),
            Some(Act::SignUp) => format!("chose who may sign up: {detail}"),
            Some(Act::Invite) => format!("made a link to {room}"),
            Some(Act::RevokeInvite) => format!("took back a link to {room}"),
            Some(Act::AddToRoom) => format!("added {user} to {room}"),
            Some(Act::Remove) => format!("removed {user} from {room}"),
            Some(Act::Ban) => format!("keeps {user} out of {room}"),
            Some(Act::Unban) => format!("lets {user} into {room} again"),
            Some(Act::SetRoomRole) => format!("made {user} {detail} of {room}"),
            Some(Act::SetRoom) => format!("changed {room}: {detail}"),
            Some(Act::CloseReport) => format!("closed a report about message {detail} in {room}"),
            Some(Act::DeleteAccount) => format!("deleted {user}’s account"),
            Some(Act::DeleteRoom) => format!("deleted {room}"),
            Some(Act::DeleteMessage) => format!("deleted message {detail} in {room}"),
            None => self.act.clone(),
        };
        match self.has_failed {
            true => format!("{says}: it did not come to it"),
            false => says,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_act_has_a_word_of_its_own() {
        for act in Act::ALL {
            assert_eq!(Act::parse(act.as_str()), Some(act));
            let entry = AuditEntry::new(None, act);
            assert_ne!(entry.says(), entry.act);
        }
        let mut unknown = AuditEntry::new(None, Act::Open);
        unknown.act = "juggle".to_owned();
        assert_eq!(unknown.failed().says(), "juggle: it did not come to it");
    }
}
