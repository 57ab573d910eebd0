//! Presence: which people are in which rooms, on this node and on others.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::domain::{NodeId, RoomId, Roster, User, UserId};

/// How long somebody stays shown after their last stream closed: a reload, a switch of tabs or a
/// cut connection is nobody's business.
const GRACE: Duration = Duration::from_secs(12);

/// How many names a notice carries. In a crowd the count says more, and the notice, which every
/// stream gets, stays small.
const NAMES_MAX: usize = 30;

/// Presence: each open stream here is a reason to show its user in the room, and so is each other node
/// that shows them.
#[derive(Default)]
pub(super) struct Presence(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    rooms: HashMap<RoomId, People>,
    /// Where somebody may have come or gone since the last look.
    dirty: HashSet<RoomId>,
    /// Whether there may be other nodes to tell.
    has_others: bool,
    /// The people who were announced to the other nodes.
    announced: HashSet<(RoomId, UserId)>,
    /// The people about whom there may be something else to announce now.
    unannounced: HashSet<(RoomId, UserId)>,
    /// Goes up when earlier announcements are forgotten.
    generation: u64,
}

/// Arrivals and departures that the other nodes have not heard of.
pub(super) struct Unannounced {
    pub(super) here: Vec<(RoomId, UserId)>,
    pub(super) gone: Vec<(RoomId, UserId)>,
    generation: u64,
}

#[derive(Default)]
struct People {
    here: HashMap<UserId, Person>,
    shown: Arc<Roster>,
}

struct Person {
    user: User,
    streams: usize,
    /// When the last stream closed; of no meaning while there is one, `None` if there never was.
    left_at: Option<Instant>,
    /// The other nodes that show them.
    elsewhere: HashSet<NodeId>,
}

impl Person {
    fn new(user: User) -> Self {
        Self {
            user,
            streams: 0,
            left_at: None,
            elsewhere: HashSet::new(),
        }
    }

    fn is_here(&self, now: Instant) -> bool {
        let is_leaving = |at| now.saturating_duration_since(at) < GRACE;
        self.streams > 0 || self.left_at.is_some_and(is_leaving)
    }

    fn is_shown(&self, now: Instant) -> bool {
        self.is_here(now) || !self.elsewhere.is_empty()
    }
}

/// One reason to show somebody; gone when dropped.
pub struct PresenceGuard {
    presence: Arc<Mutex<State>>,
    room: RoomId,
    user: UserId,
}

impl Presence {
    pub(super) fn arrive(&self, room: &RoomId, user: &User) -> PresenceGuard {
        let mut rooms = locked(&self.0);
        rooms.person(room, user).streams += 1;
        rooms.may_have_to_tell(room, user.id);
        drop(rooms);
        PresenceGuard {
            presence: Arc::clone(&self.0),
            room: room.clone(),
            user: user.id,
        }
    }

    /// Another node shows somebody.
    pub(super) fn arrived(&self, node: NodeId, room: &RoomId, user: &User) {
        let mut rooms = locked(&self.0);
        rooms.person(room, user).elsewhere.insert(node);
    }

    /// Another node shows somebody no longer.
    pub(super) fn left(&self, node: NodeId, room: &RoomId, user: UserId) {
        let mut rooms = locked(&self.0);
        if let Some(person) = rooms
            .rooms
            .get_mut(room)
            .and_then(|people| people.here.get_mut(&user))
        {
            person.elsewhere.remove(&node);
        }
        rooms.dirty.insert(room.clone());
    }

    /// The other nodes show these, and nobody else.
    pub(super) fn remote_roster(&self, shown: &[(NodeId, RoomId, User)]) {
        let mut rooms = locked(&self.0);
        let mut touched = Vec::new();
        for (room, people) in &mut rooms.rooms {
            touched.push(room.clone());
            for person in people.here.values_mut() {
                person.elsewhere.clear();
            }
        }
        rooms.dirty.extend(touched);
        for (node, room, user) in shown {
            rooms.person(room, user).elsewhere.insert(*node);
        }
    }

    /// Somebody is called otherwise, wherever they are shown.
    pub(super) fn rename(&self, user: &User) {
        let mut state = locked(&self.0);
        let State { rooms, dirty, .. } = &mut *state;
        for (room, people) in rooms {
            if let Some(person) = people.here.get_mut(&user.id) {
                person.user = user.clone();
                people.shown = Arc::new(people.present());
                dirty.insert(room.clone());
            }
        }
    }

    /// From now on there are other nodes to tell.
    pub(super) fn announce_to_others(&self) {
        locked(&self.0).has_others = true;
    }

    /// Everything that the other nodes have to hear. To be confirmed with [`Self::mark_announced`].
    pub(super) fn unannounced(&self, now: Instant) -> Unannounced {
        let rooms = locked(&self.0);
        let mut unannounced = Unannounced {
            here: Vec::new(),
            gone: Vec::new(),
            generation: rooms.generation,
        };
        for (room, user) in &rooms.unannounced {
            let person = rooms.find(room, *user).filter(|person| person.is_here(now));
            let was_announced = rooms.announced.contains(&(room.clone(), *user));
            match person {
                Some(_) if !was_announced => unannounced.here.push((room.clone(), *user)),
                None if was_announced => unannounced.gone.push((room.clone(), *user)),
                _ => {}
            }
        }
        unannounced
    }

    /// The other nodes were told.
    pub(super) fn mark_announced(&self, told: Unannounced, now: Instant) {
        let mut rooms = locked(&self.0);
        if told.generation != rooms.generation {
            // Forgotten already.
            return;
        }
        rooms.announced.extend(told.here);
        for gone in told.gone {
            rooms.announced.remove(&gone);
        }
        // People who have come or gone meanwhile are announced next time.
        let mut unannounced = std::mem::take(&mut rooms.unannounced);
        unannounced.retain(|(room, user)| {
            let person = rooms.find(room, *user).filter(|person| person.is_here(now));
            let is_leaving = person.is_some_and(|person| person.streams == 0);
            is_leaving || person.is_some() != rooms.announced.contains(&(room.clone(), *user))
        });
        rooms.unannounced = unannounced;
    }

    /// Announces everybody anew: the other nodes have forgotten.
    pub(super) fn reannounce(&self) {
        let mut rooms = locked(&self.0);
        let told = std::mem::take(&mut rooms.announced);
        rooms.unannounced.extend(told);
        rooms.generation += 1;
    }

    /// Those of some people who are in the room.
    pub(super) fn among(&self, room: &RoomId, people: &[UserId]) -> HashSet<UserId> {
        let state = locked(&self.0);
        let Some(here) = state.rooms.get(room).map(|people| &people.here) else {
            return HashSet::new();
        };
        let is_here = |user: &&UserId| here.contains_key(*user);
        people.iter().filter(is_here).copied().collect()
    }

    pub(super) fn of(&self, room: &RoomId) -> Arc<Roster> {
        let rooms = locked(&self.0);
        let people = rooms.rooms.get(room);
        people
            .map(|people| Arc::clone(&people.shown))
            .unwrap_or_default()
    }

    /// The rooms in which others are shown now than at the last call.
    pub(super) fn changed(&self, now: Instant) -> Vec<(RoomId, Arc<Roster>)> {
        let mut changed = Vec::new();
        let mut rooms = locked(&self.0);
        for room in std::mem::take(&mut rooms.dirty) {
            let State { rooms, dirty, .. } = &mut *rooms;
            let Some(people) = rooms.get_mut(&room) else {
                continue;
            };
            people.here.retain(|_, person| person.is_shown(now));
            let present = people.present();
            if present != *people.shown {
                people.shown = Arc::new(present);
                changed.push((room.clone(), Arc::clone(&people.shown)));
            }
            let someone_is_leaving = people
                .here
                .values()
                .any(|person| person.streams == 0 && person.elsewhere.is_empty());
            if people.here.is_empty() {
                rooms.remove(&room);
            } else if someone_is_leaving {
                dirty.insert(room);
            }
        }
        changed
    }
}

impl State {
    fn find(&self, room: &RoomId, user: UserId) -> Option<&Person> {
        self.rooms.get(room)?.here.get(&user)
    }

    fn may_have_to_tell(&mut self, room: &RoomId, user: UserId) {
        if self.has_others {
            self.unannounced.insert((room.clone(), user));
        }
    }

    /// Somebody's entry in a room, which is looked over next.
    fn person(&mut self, room: &RoomId, user: &User) -> &mut Person {
        self.dirty.insert(room.clone());
        let people = self.rooms.entry(room.clone()).or_default();
        people
            .here
            .entry(user.id)
            .or_insert_with(|| Person::new(user.clone()))
    }
}

impl People {
    fn present(&self) -> Roster {
        let mut names: Vec<Arc<str>> = self
            .here
            .values()
            .map(|person| person.user.username.shared())
            .collect();
        names.sort_unstable();
        let count = names.len();
        names.truncate(NAMES_MAX);
        Roster { count, names }
    }
}

impl Drop for PresenceGuard {
    fn drop(&mut self) {
        let mut rooms = locked(&self.presence);
        if let Some(people) = rooms.rooms.get_mut(&self.room)
            && let Some(person) = people.here.get_mut(&self.user)
        {
            person.streams = person.streams.saturating_sub(1);
            person.left_at = Some(Instant::now());
        }
        rooms.dirty.insert(self.room.clone());
        rooms.may_have_to_tell(&self.room, self.user);
    }
}

fn locked(rooms: &Mutex<State>) -> MutexGuard<'_, State> {
    // Counts and entries change whole.
    rooms.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Username;

    fn user(name: &str) -> User {
        User {
            id: UserId::new(),
            username: Username::parse(name).unwrap(),
        }
    }

    fn tea() -> RoomId {
        RoomId::parse("tea").unwrap()
    }

    /// The names of each room's roster that has changed.
    fn changes(presence: &Presence, now: Instant) -> Vec<Vec<String>> {
        let names = |(_, roster): (RoomId, Arc<Roster>)| {
            roster.names.iter().map(|name| name.to_string()).collect()
        };
        presence.changed(now).into_iter().map(names).collect()
    }

    fn later(seconds: u64) -> Instant {
        Instant::now() + Duration::from_secs(seconds)
    }

    #[test]
    fn a_reload_is_nobodys_business_and_leaving_is_shown_after_a_while() {
        let presence = Presence::default();
        let (ana, ben) = (user("ana"), user("ben"));
        let anas = presence.arrive(&tea(), &ana);
        let tab = presence.arrive(&tea(), &ana);
        let bens = presence.arrive(&tea(), &ben);
        assert_eq!(changes(&presence, later(0)), [["ana", "ben"]]);
        assert_eq!(presence.of(&tea()).count, 2);
        drop(tab);
        assert_eq!(changes(&presence, later(60)), [[""; 0]; 0]);
        drop(bens);
        assert_eq!(
            changes(&presence, later(5)),
            [[""; 0]; 0],
            "perhaps a reload"
        );
        let bens = presence.arrive(&tea(), &ben);
        assert_eq!(changes(&presence, later(60)), [[""; 0]; 0]);
        drop(bens);
        // Looked at again without anybody moving.
        assert_eq!(changes(&presence, later(5)), [[""; 0]; 0]);
        assert_eq!(changes(&presence, later(13)), [["ana"]]);
        drop(anas);
        assert_eq!(changes(&presence, later(13)), [[""; 0]]);
        assert_eq!(presence.of(&tea()).count, 0);
    }

    #[test]
    fn other_nodes_reasons_count_and_end_with_them() {
        let presence = Presence::default();
        let (ana, node, other) = (user("ana"), NodeId::new(), NodeId::new());
        presence.arrived(node, &tea(), &ana);
        presence.arrived(other, &tea(), &ana);
        assert_eq!(changes(&presence, later(0)), [["ana"]]);
        presence.left(node, &tea(), ana.id);
        assert_eq!(changes(&presence, later(0)), [[""; 0]; 0]);
        presence.left(other, &tea(), ana.id);
        // There is no grace for others: their node has waited.
        assert_eq!(changes(&presence, later(0)), [[""; 0]]);
        presence.arrived(node, &tea(), &ana);
        presence.remote_roster(&[(node, tea(), user("ben"))]);
        assert_eq!(changes(&presence, later(0)), [["ben"]]);
    }

    #[test]
    fn everything_is_announced_once_and_anew_when_it_is_forgotten() {
        let presence = Presence::default();
        let ana = user("ana");
        let before = presence.arrive(&tea(), &user("nobody"));
        presence.announce_to_others();
        let guard = presence.arrive(&tea(), &ana);
        let announced = |presence: &Presence, now| {
            let unannounced = presence.unannounced(now);
            let counts = (unannounced.here.len(), unannounced.gone.len());
            presence.mark_announced(unannounced, now);
            counts
        };
        assert_eq!(announced(&presence, later(0)), (1, 0));
        assert_eq!(announced(&presence, later(0)), (0, 0));
        presence.reannounce();
        assert_eq!(announced(&presence, later(0)), (1, 0));
        // Forgotten while it was being said: said again.
        presence.reannounce();
        let saying = presence.unannounced(later(0));
        presence.reannounce();
        presence.mark_announced(saying, later(0));
        assert_eq!(announced(&presence, later(0)), (1, 0));
        drop(guard);
        assert_eq!(announced(&presence, later(5)), (0, 0));
        assert_eq!(announced(&presence, later(13)), (0, 1));
        assert_eq!(announced(&presence, later(13)), (0, 0));
        drop(before);
    }
}
