//! Room ids, and a room as the lobby lists it.

use std::fmt;
use std::sync::Arc;

use serde::{Serialize, Serializer};

use super::{Event, Invalid, RoomSettings, Seq};

/// A room's id, which people type to enter it: 1 to 64 of `a-z 0-9 - _`. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RoomId(Arc<str>);

impl RoomId {
    /// The most characters an id has: what fits a URL and a heading on a phone.
    pub const CHARS_MAX: usize = 64;

    /// Trims and lower-cases what was typed.
    ///
    /// # Errors
    ///
    /// [`Invalid`] when nothing, too much, or another character is left.
    pub fn parse(raw: &str) -> Result<Self, Invalid> {
        let id = raw.trim().to_ascii_lowercase();
        if id.is_empty() {
            return Err(Invalid("Type the room’s id."));
        }
        if !id
            .bytes()
            .all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_'))
        {
            return Err(Invalid(
                "A room’s id has only letters a–z, digits, “-” and “_”.",
            ));
        }
        if id.len() > Self::CHARS_MAX {
            return Err(Invalid("A room’s id has at most 64 characters."));
        }
        Ok(Self(id.into()))
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RoomId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for RoomId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

/// One line of the lobby.
#[derive(Debug, Clone, PartialEq)]
pub struct RoomSummary {
    /// Which room.
    pub room: RoomId,
    /// Its name, its topic, and who may enter.
    pub settings: Arc<RoomSettings>,
    /// Its newest event's number.
    pub head: Seq,
    /// Its newest message; `None` until somebody has said something.
    pub last: Option<Arc<Event>>,
    /// How many messages the reader has not read.
    pub unread: u64,
    /// How many of those are for the reader: named, answered, or everybody meant.
    pub mentions: usize,
}

/// A room that everybody may enter, as the lobby offers it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenRoom {
    /// Which room.
    pub room: RoomId,
    /// Its name and its topic.
    pub settings: RoomSettings,
    /// How many people are in it.
    pub people: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_what_people_type_and_refuses_the_rest() {
        for (typed, id) in [
            ("tea", "tea"),
            ("  Tea-Room_2 ", "tea-room_2"),
            (&"a".repeat(64), &"a".repeat(64)),
        ] {
            assert_eq!(RoomId::parse(typed).unwrap().as_str(), id);
        }
        for typed in [
            "", "   ", "tea room", "té", "tea/x", "tea\n", "..", "а", "a\0b",
        ] {
            let refused = typed.trim() != "tea";
            assert_eq!(RoomId::parse(typed).is_err(), refused, "{typed:?}");
        }
        assert!(RoomId::parse(&"a".repeat(65)).is_err());
    }
}
