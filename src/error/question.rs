//! Questions before a request is carried out, and rooms that are only read.

use crate::domain::Mentions;

/// The reason why somebody may not write in a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadOnly {
    /// It is archived.
    Archived,
    /// Only its owners may.
    OwnersWrite,
}

impl ReadOnly {
    /// A sentence.
    pub fn says(self) -> &'static str {
        match self {
            Self::Archived => {
                "This room is archived. It can be read, and nobody writes here any more."
            }
            Self::OwnersWrite => "Only the owners of this room write here.",
        }
    }
}

/// A question that must be answered before a request is carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Question {
    /// Whether they mean everybody in a room.
    TellsAll {
        /// The number of others.
        others: u64,
    },
    /// Whether a private room is to be opened.
    Opens {
        /// The number of messages written there.
        messages: u64,
    },
}

impl Question {
    /// The value of `confirm` that says yes.
    pub fn confirm(self) -> &'static str {
        match self {
            Self::TellsAll { .. } => Mentions::ROOM,
            Self::Opens { .. } => "open",
        }
    }

    /// A sentence about what is done then.
    pub fn says(self) -> String {
        match self {
            Self::TellsAll { others: 1 } => {
                "@room tells everybody else in this room: one person.".to_owned()
            }
            Self::TellsAll { others } => {
                format!("@room tells everybody else in this room: {others} people.")
            }
            Self::Opens { messages: 0 } => {
                "This room is private. More people can enter it then.".to_owned()
            }
            Self::Opens { messages: 1 } => {
                "This room is private. People who enter it then can read the one message that was written here."
                    .to_owned()
            }
            Self::Opens { messages } => format!(
                "This room is private. People who enter it then can read all {messages} messages that were \
                 written here."
            ),
        }
    }
}
