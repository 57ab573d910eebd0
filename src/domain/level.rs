//! Levels: how much of a room its member is told of.

use serde::Serialize;

use super::Invalid;

/// The messages of a room that count as unread to a member: in lists, in a page's title and in notifications.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Every message.
    #[default]
    All,
    /// Messages that are for them.
    Mentions,
    /// None.
    Nothing,
}

impl Level {
    /// All, from the widest.
    pub const ALL: [Self; 3] = [Self::All, Self::Mentions, Self::Nothing];

    /// # Errors
    ///
    /// [`Invalid`] for any other word.
    pub fn parse(raw: &str) -> Result<Self, Invalid> {
        let word = raw.trim();
        let found = Self::ALL.into_iter().find(|one| one.as_str() == word);
        found.ok_or(Invalid("level is all, mentions or nothing."))
    }

    /// Reads the stored word. A word of another version is as if none was chosen.
    pub(crate) fn stored(word: &str) -> Self {
        Self::parse(word).unwrap_or_default()
    }

    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Mentions => "mentions",
            Self::Nothing => "nothing",
        }
    }

    /// The numbers shown to a member who has so many unread messages and so many mentions among them.
    pub fn counted(self, unread: u64, mentions: usize) -> (u64, usize) {
        match self {
            Self::All => (unread, mentions),
            Self::Mentions => (mentions as u64, mentions),
            Self::Nothing => (0, 0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_says_what_counts() {
        for level in Level::ALL {
            assert_eq!(Level::parse(level.as_str()), Ok(level));
        }
        assert_eq!(Level::All.counted(5, 2), (5, 2));
        assert_eq!(Level::Mentions.counted(5, 2), (2, 2));
        assert_eq!(Level::Nothing.counted(5, 2), (0, 0));
        assert_eq!(Level::stored("loudly"), Level::All);
    }
}
