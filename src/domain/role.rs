//! Roles: what somebody may do in a room.

use serde::Serialize;

use super::{Invalid, Timestamp, User};

/// What a member may do in a room. A room without an owner is owned by whoever has been in it longest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Read, and write.
    #[default]
    Member,
    /// Also decide who is in the room, and what is kept there.
    Owner,
}

impl Role {
    /// # Errors
    ///
    /// [`Invalid`] for any other word.
    pub fn parse(raw: &str) -> Result<Self, Invalid> {
        match raw.trim() {
            "owner" => Ok(Self::Owner),
            "member" => Ok(Self::Member),
            _ => Err(Invalid("role is owner or member.")),
        }
    }

    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Owner => "owner",
            Self::Member => "member",
        }
    }
}

/// Somebody in a room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Person {
    /// Who.
    pub user: User,
    /// Since when.
    pub joined_at: Timestamp,
}
