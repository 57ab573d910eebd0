//! Freshness: how new an answer has to be where a node may answer from what it has read before.
//!
//! A node hears of the others' writes a moment late. Whoever has written, or has seen something, at
//! one node must find it at the next, so requests carry what they have seen; the embedded store, which is
//! always up to date, does not look at it.

use crate::domain::{RoomId, Seq};

/// How many rooms are carried: tabs that somebody looks at within the same seconds.
const ROOMS_MAX: usize = 8;

/// How new an answer has to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Freshness {
    /// As the question: what was durable anywhere when it was asked is in it.
    Now,
    /// It may lag behind what other nodes have just written, apart from what was seen.
    Seen(Seen),
}

impl Freshness {
    /// How far a room was seen, if that is known.
    pub fn seen_in(&self, room: &RoomId) -> Option<Seq> {
        match self {
            Self::Now => None,
            Self::Seen(seen) => seen.in_room(room),
        }
    }

    /// Whether what is known of a room up to `head` is new enough.
    pub fn allows(&self, room: &RoomId, head: Seq) -> bool {
        match self {
            Self::Now => false,
            Self::Seen(seen) => seen.in_room(room).is_none_or(|seen| seen <= head),
        }
    }
}

/// How far somebody has seen the rooms they were in a moment ago.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seen(Vec<(RoomId, Seq)>);

impl Seen {
    /// Reads what its `Display` wrote. What cannot be read is left out: it is the client's.
    pub fn parse(raw: &str) -> Self {
        let rooms = raw.split('~').take(ROOMS_MAX).filter_map(|seen| {
            let (room, seq) = seen.split_once('.')?;
            Some((RoomId::known(room).ok()?, seq.parse().ok()?))
        });
        Self(rooms.collect())
    }

    /// How far they have seen this one; `None` when it is not among them.
    pub fn in_room(&self, room: &RoomId) -> Option<Seq> {
        let seen = self.0.iter().find(|(seen, _)| seen == room);
        seen.map(|(_, seq)| *seq)
    }

    /// The rooms, the last one first.
    pub fn rooms(&self) -> impl Iterator<Item = &RoomId> {
        self.0.iter().map(|(room, _)| room)
    }

    /// Notes that they have seen a room up to `seq`, or further.
    pub fn note(&mut self, room: &RoomId, seq: Seq) {
        let seq = self.in_room(room).map_or(seq, |seen| seen.max(seq));
        self.0.retain(|(seen, _)| seen != room);
        self.0.insert(0, (room.clone(), seq));
        self.0.truncate(ROOMS_MAX);
    }
}

impl std::fmt::Display for Seen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (number, (room, seq)) in self.0.iter().enumerate() {
            let between = if number == 0 { "" } else { "~" };
            write!(f, "{between}{room}.{seq}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn room(id: &str) -> RoomId {
        RoomId::parse(id).unwrap()
    }

    #[test]
    fn what_was_seen_is_carried() {
        let mut seen = Seen::default();
        seen.note(&room("tea"), 7);
        seen.note(&room("den-2_x"), 3);
        seen.note(&room("tea"), 5);
        assert_eq!(seen.to_string(), "tea.7~den-2_x.3");
        assert_eq!(Seen::parse(&seen.to_string()), seen);
        for number in 0..20 {
            seen.note(&room(&format!("room-{number}")), number);
        }
        assert_eq!(seen.rooms().count(), ROOMS_MAX);
        let fresh = Freshness::Seen(seen);
        assert!(fresh.allows(&room("room-19"), 19) && !fresh.allows(&room("room-19"), 18));
        assert!(fresh.allows(&room("elsewhere"), 0) && !Freshness::Now.allows(&room("tea"), 9));
    }

    #[test]
    fn what_a_client_made_up_is_left_out() {
        for nothing in [
            "",
            "~",
            "tea",
            "tea.",
            ".4",
            "tea.-1",
            "a b.3",
            "té.1",
            "tea.99999999999999999999",
        ] {
            assert_eq!(Seen::parse(nothing), Seen::default(), "{nothing}");
        }
        assert_eq!(
            Seen::parse("x.y~tea.4~tea.5").in_room(&room("tea")),
            Some(4)
        );
        assert!(Seen::parse(&"a.1~".repeat(10_000)).rooms().count() <= ROOMS_MAX);
    }
}
