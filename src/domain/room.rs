//! Room ids, and a room as the lobby lists it.

use std::fmt;
use std::sync::Arc;

use serde::{Serialize, Serializer};
use sha2::{Digest, Sha256};

use super::{Event, Invalid, Level, RoomSettings, Seq, UserId};

/// A room's id, which people type to enter it: 1 to 64 of `a-z 0-9 - _`. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RoomId(Arc<str>);

impl RoomId {
    /// The most characters an id has: what fits a URL and a heading on a phone.
    pub const CHARS_MAX: usize = 64;

    /// The mark that direct rooms' ids begin with, and the number of digits after it: enough that no two sets of
    /// people share them.
    const DIRECT: char = '@';
    const DIGITS: usize = 32;

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

    /// An id as it stands in an address or a store: one that was typed, or a direct room's.
    ///
    /// # Errors
    ///
    /// [`Invalid`] for anything else.
    pub fn known(raw: &str) -> Result<Self, Invalid> {
        let is_direct = raw.strip_prefix(Self::DIRECT).is_some_and(|digits| {
            let is_digit = |b: u8| matches!(b, b'0'..=b'9' | b'a'..=b'f');
            digits.len() == Self::DIGITS && digits.bytes().all(is_digit)
        });
        match is_direct {
            true => Ok(Self(raw.into())),
            false => Self::parse(raw),
        }
    }

    /// The one direct room of these people, in whichever order and however often they are named. Nobody can
    /// type it.
    pub fn direct(people: &[UserId]) -> Self {
        let mut ids: Vec<String> = people.iter().map(UserId::to_string).collect();
        ids.sort_unstable();
        ids.dedup();
        let digest = Sha256::digest(ids.join(" "));
        let digits = hex::encode(&digest[..Self::DIGITS / 2]);
        Self(format!("{}{digits}", Self::DIRECT).into())
    }

    /// Whether it is a direct room's.
    pub fn is_direct(&self) -> bool {
        self.0.starts_with(Self::DIRECT)
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
    /// The number of unread messages, as far as the level counts them.
    pub unread: u64,
    /// How many of those are for the reader: named, answered, or everybody meant.
    pub mentions: usize,
    /// The reader's level.
    pub level: Level,
}

impl RoomSummary {
    /// Whether lists show it: a direct room once something was said there.
    pub fn is_listed(&self) -> bool {
        !self.room.is_direct() || self.last.is_some()
    }
}

/// A room as lists for those who are not in it have it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedRoom {
    /// The room.
    pub room: RoomId,
    /// Its name and its topic.
    pub settings: RoomSettings,
    /// The number of people in it.
    pub people: u64,
}

impl ListedRoom {
    /// Whether its id, its name or its topic has a word, which is in lower case.
    pub fn has(&self, word: &str) -> bool {
        let labels = [&self.settings.name, &self.settings.topic];
        let mut labels = labels.into_iter().flatten();
        self.room.as_str().contains(word)
            || labels.any(|label| label.as_str().to_lowercase().contains(word))
    }
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

    #[test]
    fn a_direct_room_is_of_its_people_and_cannot_be_typed() {
        let [ana, ben, cleo] = [UserId::new(), UserId::new(), UserId::new()];
        let direct = RoomId::direct(&[ana, ben]);
        assert_eq!(direct, RoomId::direct(&[ben, ana, ben]));
        for others in [&[ana, cleo][..], &[ana], &[ana, ben, cleo]] {
            assert_ne!(direct, RoomId::direct(others));
        }
        assert!(direct.is_direct());
        assert!(RoomId::parse(direct.as_str()).is_err());
        assert_eq!(RoomId::known(direct.as_str()), Ok(direct.clone()));
        assert!(!RoomId::known("tea").unwrap().is_direct());
        for raw in ["@", "@tea", &direct.as_str()[..32], &format!("{direct}0")] {
            assert!(RoomId::known(raw).is_err(), "{raw}");
        }
    }
}
