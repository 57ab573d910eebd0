//! The scheduler of an event loop: which room's turn it is, and how far its round has come.
//!
//! A room with something new is queued, and its members are served in rounds, a batch a turn, so a
//! room of thousands does not hold up a small one. Events that arrive during a round begin another,
//! after a pause that lets several be gathered into one write. No I/O and no clock in here: the caller
//! says what time it is.

use std::collections::{BTreeSet, VecDeque};
use std::ops::Range;
use std::time::{Duration, Instant};

use slab::Slab;

/// The longest pause between two rounds through a room: too short for anybody to notice.
pub(super) const PAUSE_MAX: Duration = Duration::from_millis(20);

/// Rooms with their members, each with whatever else the caller keeps of a room.
pub(super) struct Rounds<R> {
    rooms: Slab<Members<R>>,
    /// The rooms whose round goes on, in turn.
    due: VecDeque<usize>,
    /// The rooms that pause, by the end of the pause.
    paused: BTreeSet<(Instant, usize)>,
}

struct Members<R> {
    room: R,
    /// The streams in it, by their places.
    members: Vec<usize>,
    /// How many members this round has served.
    served: usize,
    /// Whether it is due or paused.
    is_queued: bool,
    round_began: Instant,
    /// Whether there is more to send than when the round began.
    has_more: bool,
    /// Whether the round may have passed over a member, because another left.
    has_gap: bool,
}

/// A batch of a room's members, by their slots.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Turn {
    pub(super) room: usize,
    pub(super) slots: Range<usize>,
}

impl<R> Rounds<R> {
    pub(super) fn new() -> Self {
        Self {
            rooms: Slab::new(),
            due: VecDeque::new(),
            paused: BTreeSet::new(),
        }
    }

    /// Where [`Self::add`] will put the next room.
    pub(super) fn vacant(&self) -> usize {
        self.rooms.vacant_key()
    }

    /// Adds a room without members.
    pub(super) fn add(&mut self, room: R, now: Instant) -> usize {
        self.rooms.insert(Members {
            room,
            members: Vec::new(),
            served: 0,
            is_queued: false,
            round_began: now,
            has_more: false,
            has_gap: false,
        })
    }

    pub(super) fn room(&mut self, at: usize) -> Option<&mut R> {
        self.rooms.get_mut(at).map(|room| &mut room.room)
    }

    /// Adds a member, and returns its slot.
    pub(super) fn join(&mut self, at: usize, stream: usize) -> usize {
        let Some(room) = self.rooms.get_mut(at) else {
            return 0;
        };
        room.members.push(stream);
        room.members.len() - 1
    }

    /// The stream in a slot of a room.
    pub(super) fn member(&self, at: usize, slot: usize) -> Option<usize> {
        self.rooms.get(at)?.members.get(slot).copied()
    }

    /// Removes the member in a slot. The last member moves into it: the caller must note that, if
    /// [`Self::member`] has somebody there. Returns the room if that was its last member.
    pub(super) fn leave(&mut self, at: usize, slot: usize) -> Option<R> {
        let room = self.rooms.get_mut(at)?;
        if slot < room.members.len() {
            room.members.swap_remove(slot);
            // The stream that moved into the slot may not have had its turn.
            room.has_gap |= room.is_queued;
        }
        if !room.members.is_empty() {
            return None;
        }
        if room.is_queued {
            // The next room to take the place must not take over the turns as well.
            self.due.retain(|due| *due != at);
            self.paused.retain(|(_, paused)| *paused != at);
        }
        Some(self.rooms.remove(at).room)
    }

    /// Notes that there is something to send to a room.
    pub(super) fn queue(&mut self, at: usize, now: Instant) {
        let Some(room) = self.rooms.get_mut(at) else {
            return;
        };
        if room.is_queued {
            room.has_more = true;
        } else {
            room.begin_round(now);
            self.due.push_back(at);
        }
    }

    /// How long there is nothing to do; `None` until something is queued.
    pub(super) fn idle_for(&self, now: Instant) -> Option<Duration> {
        if !self.due.is_empty() {
            return Some(Duration::ZERO);
        }
        let (until, _) = self.paused.first()?;
        Some(until.saturating_duration_since(now))
    }

    /// Begins the rounds of the rooms whose pause is over.
    pub(super) fn end_pauses(&mut self, now: Instant) {
        while let Some((until, at)) = self.paused.first().copied()
            && until <= now
        {
            self.paused.pop_first();
            if let Some(room) = self.rooms.get_mut(at) {
                room.begin_round(now);
                self.due.push_back(at);
            }
        }
    }

    /// The next batch to serve, of at most `most` members. [`Self::end_turn`] must follow.
    pub(super) fn next_turn(&mut self, most: usize) -> Option<Turn> {
        let at = self.due.pop_front()?;
        let room = self.rooms.get_mut(at)?;
        // Members may have left since the last turn.
        let from = room.served.min(room.members.len());
        room.served = room.members.len().min(from + most);
        Some(Turn {
            room: at,
            slots: from..room.served,
        })
    }

    /// Decides what follows a turn: the rest of the round, another round, or nothing.
    pub(super) fn end_turn(&mut self, at: usize, now: Instant) {
        let Some(room) = self.rooms.get_mut(at) else {
            return;
        };
        if room.served < room.members.len() {
            self.due.push_back(at);
        } else if std::mem::take(&mut room.has_gap) {
            room.served = 0;
            self.due.push_back(at);
        } else if std::mem::take(&mut room.has_more) {
            // Events come faster than they can be sent: a pause gathers several into one write.
            let round_took = now.saturating_duration_since(room.round_began);
            self.paused
                .insert((now + (round_took / 2).min(PAUSE_MAX), at));
        } else {
            room.is_queued = false;
        }
    }
}

impl<R> Members<R> {
    fn begin_round(&mut self, now: Instant) {
        self.is_queued = true;
        self.served = 0;
        self.round_began = now;
        // This round sends everything that has arrived until now.
        self.has_more = false;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;

    use super::*;

    fn with_members(members: &[usize]) -> (Rounds<()>, Vec<usize>, Instant) {
        let (mut rounds, now) = (Rounds::new(), Instant::now());
        let rooms = members.iter().map(|members| {
            let room = rounds.add((), now);
            for stream in 0..*members {
                rounds.join(room, stream);
            }
            room
        });
        let rooms = rooms.collect();
        (rounds, rooms, now)
    }

    #[test]
    fn a_large_room_does_not_hold_up_a_small_one() {
        let (mut rounds, rooms, now) = with_members(&[1_000, 1]);
        rounds.queue(rooms[0], now);
        rounds.queue(rooms[1], now);
        let mut order = Vec::new();
        while let Some(Turn { room, slots }) = rounds.next_turn(400) {
            order.push((room, slots));
            rounds.end_turn(room, now);
        }
        let (large, small) = (rooms[0], rooms[1]);
        let turns = [
            (large, 0..400),
            (small, 0..1),
            (large, 400..800),
            (large, 800..1_000),
        ];
        assert_eq!(order, turns);
        assert_eq!(rounds.idle_for(now), None);
    }

    #[test]
    fn news_during_a_round_waits_for_a_pause_that_is_short() {
        let (mut rounds, rooms, began) = with_members(&[1]);
        for (round_took, pause) in [
            (Duration::from_millis(10), Duration::from_millis(5)),
            (Duration::from_secs(9), PAUSE_MAX),
        ] {
            rounds.queue(rooms[0], began);
            rounds.next_turn(9).unwrap();
            rounds.queue(rooms[0], began);
            let ended = began + round_took;
            rounds.end_turn(rooms[0], ended);
            assert_eq!(rounds.next_turn(9), None);
            assert_eq!(rounds.idle_for(ended), Some(pause));
            rounds.end_pauses(ended + pause);
            let turn = rounds.next_turn(9).unwrap();
            assert_eq!(turn.slots, 0..1);
            rounds.end_turn(turn.room, ended + pause);
            assert_eq!(rounds.idle_for(ended), None, "nothing more has come");
        }
    }

    #[test]
    fn a_member_that_moved_into_a_gap_is_not_passed_over() {
        let (mut rounds, rooms, now) = with_members(&[3]);
        rounds.queue(rooms[0], now);
        assert_eq!(rounds.next_turn(1).unwrap().slots, 0..1);
        // Slot 0 was served; the last member takes it.
        assert!(rounds.leave(rooms[0], 0).is_none());
        assert_eq!(rounds.member(rooms[0], 0), Some(2));
        let mut served = BTreeSet::new();
        rounds.end_turn(rooms[0], now);
        while let Some(turn) = rounds.next_turn(1) {
            served.extend(turn.slots.filter_map(|slot| rounds.member(turn.room, slot)));
            rounds.end_turn(turn.room, now);
        }
        assert_eq!(served, BTreeSet::from([1, 2]));
    }

    #[test]
    fn a_room_without_members_is_gone_from_all_queues() {
        let (mut rounds, rooms, now) = with_members(&[1, 1]);
        rounds.queue(rooms[0], now);
        assert!(rounds.leave(rooms[0], 0).is_some());
        // Its place is taken by a room that nobody has queued.
        let again = rounds.add((), now);
        assert_eq!(again, rooms[0]);
        rounds.join(again, 7);
        assert_eq!(rounds.next_turn(9), None);
    }

    #[derive(Debug, Clone)]
    enum Action {
        Join(usize),
        Leave(usize),
        News(usize),
        Turn(usize),
    }

    fn actions() -> impl Strategy<Value = Vec<Action>> {
        let action = prop_oneof![
            (0..3usize).prop_map(Action::Join),
            any::<usize>().prop_map(Action::Leave),
            (0..3usize).prop_map(Action::News),
            (1..4usize).prop_map(Action::Turn),
        ];
        proptest::collection::vec(action, 0..200)
    }

    proptest! {
        /// Each member that stays is served after the last news, whatever comes and goes meanwhile.
        #[test]
        fn everybody_hears_the_last_news(actions in actions()) {
            let mut rounds = Rounds::<usize>::new();
            let mut now = Instant::now();
            let mut rooms = BTreeMap::new();
            // Of each stream: its room, its slot, and the news it has seen.
            let mut streams: Vec<Option<(usize, usize, u64)>> = Vec::new();
            let mut news = [0_u64; 3];
            let turn = |rounds: &mut Rounds<usize>, streams: &mut Vec<Option<(usize, usize, u64)>>, news: &[u64; 3], most, now| {
                let Some(Turn { room, slots }) = rounds.next_turn(most) else { return false };
                let name = *rounds.room(room).unwrap();
                for slot in slots {
                    let stream = rounds.member(room, slot).unwrap();
                    streams[stream].as_mut().unwrap().2 = news[name];
                }
                rounds.end_turn(room, now);
                true
            };
            for action in actions {
                now += Duration::from_millis(1);
                match action {
                    Action::Join(name) => {
                        let room = *rooms.entry(name).or_insert_with(|| rounds.add(name, now));
                        let slot = rounds.join(room, streams.len());
                        streams.push(Some((room, slot, news[name])));
                    }
                    Action::Leave(which) => {
                        let at = which % streams.len().max(1);
                        if let Some((room, slot, _)) = streams.get_mut(at).and_then(Option::take) {
                            if let Some(name) = rounds.leave(room, slot) {
                                rooms.remove(&name);
                            } else if let Some(moved) = rounds.member(room, slot) {
                                streams[moved].as_mut().unwrap().1 = slot;
                            }
                        }
                    }
                    Action::News(name) => {
                        news[name] += 1;
                        if let Some(room) = rooms.get(&name) {
                            rounds.queue(*room, now);
                        }
                    }
                    Action::Turn(most) => {
                        rounds.end_pauses(now);
                        turn(&mut rounds, &mut streams, &news, most, now);
                    }
                }
            }
            while let Some(idle) = rounds.idle_for(now) {
                now += idle;
                rounds.end_pauses(now);
                turn(&mut rounds, &mut streams, &news, 3, now);
            }
            for (room, slot, seen) in streams.into_iter().flatten() {
                let name = *rounds.room(room).unwrap();
                prop_assert_eq!(seen, news[name]);
                prop_assert!(rounds.member(room, slot).is_some());
            }
        }
    }
}
