//! The end of an account that its user deletes.

use super::Invalid;

/// The fate of the messages of an account that is deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeptMessages {
    /// They stay, and are a former member's.
    Keep,
    /// They are deleted.
    Delete,
}

impl KeptMessages {
    /// # Errors
    ///
    /// [`Invalid`] for any other word.
    pub fn parse(raw: &str) -> Result<Self, Invalid> {
        match raw.trim() {
            "keep" => Ok(Self::Keep),
            "delete" => Ok(Self::Delete),
            _ => Err(Invalid("messages is keep or delete.")),
        }
    }

    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Keep => "keep",
            Self::Delete => "delete",
        }
    }
}
