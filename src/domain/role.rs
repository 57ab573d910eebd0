//! Roles: the rights of a room's members.

use serde::Serialize;

use super::{Invalid, Timestamp, User};

/// A member's role in a room. A room without an owner is owned by the member who has been in it longest.
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
    /// The member.
    pub user: User,
    /// The moment they became a member.
    pub joined_at: Timestamp,
}
