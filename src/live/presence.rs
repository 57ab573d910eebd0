use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::domain::{RoomId, User, UserId};

/// How long somebody stays shown after their last stream closed: a reload, a switch of tabs or a
/// cut connection is nobody's business.
const GRACE: Duration = Duration::from_secs(12);

/// How many names a notice carries. In a crowd the count says more, and the notice, which every
/// stream gets, stays small.
const NAMES_MAX: usize = 30;

/// Who is in a room now.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Present {
    /// How many people.
    pub count: usize,
    /// Their names in alphabetical order, or the first of them.
    pub names: Vec<Arc<str>>,
}

/// Who is where. Each open stream is a reason to be shown.
#[derive(Default)]
pub(super) struct Presence(Arc<Mutex<Rooms>>);

#[derive(Default)]
struct Rooms {
    rooms: HashMap<RoomId, People>,
    /// Where somebody may have come or gone since the last look.
    dirty: HashSet<RoomId>,
}

#[derive(Default)]
struct People {
    here: HashMap<UserId, Person>,
    shown: Arc<Present>,
}

struct Person {
    name: Arc<str>,
    streams: usize,
    /// When the last stream closed; of no meaning while there is one.
    left_at: Instant,
}

/// One reason to show somebody; gone when dropped.
pub struct Here {
    presence: Arc<Mutex<Rooms>>,
    room: RoomId,
    user: UserId,
}

impl Presence {
    pub(super) fn arrive(&self, room: &RoomId, user: &User) -> Here {
        let mut rooms = locked(&self.0);
        let people = rooms.rooms.entry(room.clone()).or_default();
        let person = people.here.entry(user.id).or_insert_with(|| Person {
            name: user.username.as_str().into(),
            streams: 0,
            left_at: Instant::now(),
        });
        person.streams += 1;
        rooms.dirty.insert(room.clone());
        drop(rooms);
        Here {
            presence: Arc::clone(&self.0),
            room: room.clone(),
            user: user.id,
        }
    }

    /// Who was last shown to be in the room.
    pub(super) fn of(&self, room: &RoomId) -> Arc<Present> {
        let rooms = locked(&self.0);
        let people = rooms.rooms.get(room);
        people
            .map(|people| Arc::clone(&people.shown))
            .unwrap_or_default()
    }

    /// The rooms in which others are shown now than at the last call.
    pub(super) fn changed(&self) -> Vec<(RoomId, Arc<Present>)> {
        let mut changed = Vec::new();
        let mut rooms = locked(&self.0);
        for room in std::mem::take(&mut rooms.dirty) {
            let Some(people) = rooms.rooms.get_mut(&room) else {
                continue;
            };
            people
                .here
                .retain(|_, person| person.streams > 0 || person.left_at.elapsed() < GRACE);
            let present = people.present();
            if present != *people.shown {
                people.shown = Arc::new(present);
                changed.push((room.clone(), Arc::clone(&people.shown)));
            }
            let someone_is_leaving = people.here.values().any(|person| person.streams == 0);
            if people.here.is_empty() {
                rooms.rooms.remove(&room);
            } else if someone_is_leaving {
                rooms.dirty.insert(room);
            }
        }
        changed
    }
}

impl People {
    fn present(&self) -> Present {
        let mut names: Vec<Arc<str>> = self
            .here
            .values()
            .map(|person| Arc::clone(&person.name))
            .collect();
        names.sort_unstable();
        let count = names.len();
        names.truncate(NAMES_MAX);
        Present { count, names }
    }
}

impl Drop for Here {
    fn drop(&mut self) {
        let mut rooms = locked(&self.presence);
        if let Some(people) = rooms.rooms.get_mut(&self.room)
            && let Some(person) = people.here.get_mut(&self.user)
        {
            person.streams = person.streams.saturating_sub(1);
            person.left_at = Instant::now();
        }
        rooms.dirty.insert(self.room.clone());
    }
}

fn locked(rooms: &Mutex<Rooms>) -> MutexGuard<'_, Rooms> {
    // Counts and entries change whole.
    rooms.lock().unwrap_or_else(PoisonError::into_inner)
}
