//! A read cache over the database, the same for both.
//!
//! Every change is [applied](ReadCache::apply) here after it is durable, and this process's own before
//! they are answered, so a caller that was answered finds its own write. A reader may come back with a
//! row from before such a change: it takes a [`ReadToken`] before it reads, and an entry that changed since
//! then is not kept.
//!
//! To the embedded store every change is its own. To one of several nodes the change stream tells of the
//! others', a moment later and perhaps twice: every change says what is so now, so that repeating it does
//! no harm. Whether the stream is near enough for anything in here to be believed is asked before
//! (`mongo/liveness.rs`); what may have been missed is [forgotten](ReadCache::forget_all).

mod mentions;
mod rooms;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, RandomState};
use std::num::NonZero;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, Weak};

use lru::LruCache;

use self::rooms::{CachedRoom, Member, PAGE_BYTES_MAX, UserRooms};
pub(super) use self::rooms::{LogEnd, Membership, NEWEST_MAX};
use crate::domain::{
    Event, EventKind, ListedRoom, RoomId, RoomSettings, RoomSummary, Seq, Session, SessionId,
    Timestamp, User, UserId,
};
use crate::store::{Change, History};

/// How many sessions are kept: a large server's, in a few megabytes.
const SESSIONS_MAX: NonZero<usize> = NonZero::new(10_000).expect("not zero");

/// How many users' rooms are kept, and how many memberships in all, each with the room's last message:
/// a few megabytes, or some hundred if everybody wrote as much as they may in rooms of their own.
const USERS_MAX: NonZero<usize> = NonZero::new(2_000).expect("not zero");
const MEMBERSHIPS_MAX: usize = 20_000;

/// How many rooms' newest pages are kept.
const PAGES_MAX: NonZero<usize> = NonZero::new(200).expect("not zero");

/// Stands for the list of open rooms in the counts of changes.
const OPEN_ROOMS: &str = "open rooms";

/// A durable change.
pub(super) enum Durable {
    /// Something that the process hears of.
    Change(Change),
    /// `user` has read the room's log up to `seq`, where it has so many messages.
    Read {
        room: RoomId,
        user: UserId,
        seq: Seq,
        messages: u64,
    },
    /// Something about a user's membership has changed that only their lists show.
    Level(UserId),
    /// A setting of a room has changed, of which the log tells later.
    #[cfg(feature = "mongodb")]
    Settings(RoomId),
    /// Some membership has changed, nobody can tell whose.
    #[cfg(feature = "mongodb")]
    Memberships,
}

impl Durable {
    /// Whether texts were deleted.
    pub(super) fn is_deletion(&self) -> bool {
        match self {
            Self::Change(Change::Appended(event)) => event.kind.is_deletion(),
            Self::Change(Change::RoomDeleted(_) | Change::Distrust) => true,
            _ => false,
        }
    }
}

/// The cache.
pub(super) struct ReadCache(Mutex<State>);

struct State {
    sessions: LruCache<SessionId, (Session, User)>,
    users: LruCache<UserId, UserRooms>,
    memberships: usize,
    /// Every room that an entry below holds, once, so that a change reaches all of them.
    rooms: HashMap<RoomId, Weak<CachedRoom>>,
    /// The rooms whose newest page is kept.
    pages: LruCache<RoomId, Arc<CachedRoom>>,
    /// The open rooms, which every lobby offers.
    open_rooms: Option<Arc<[ListedRoom]>>,
    hasher: RandomState,
    changes: Changes,
    /// How often everything was forgotten.
    generation: u64,
}

/// Counts the changes to entries, by their hash. Entries that share a counter are only read once more.
type Changes = [u32; 256];

/// The moment before a read.
pub(super) struct ReadToken {
    changes: Changes,
    generation: u64,
}

/// How much of a user's list of rooms is in the cache.
pub(super) enum CachedList {
    /// All of it.
    List(Arc<[RoomSummary]>),
    /// The memberships, but not the ends of these logs.
    AllBut(Vec<RoomId>),
    /// Nothing.
    Nothing,
}

impl Default for ReadCache {
    fn default() -> Self {
        Self(Mutex::new(State {
            sessions: at_most(SESSIONS_MAX),
            users: at_most(USERS_MAX),
            memberships: 0,
            rooms: HashMap::new(),
            pages: at_most(PAGES_MAX),
            open_rooms: None,
            hasher: RandomState::new(),
            changes: [0; 256],
            generation: 0,
        }))
    }
}

/// Made small: `LruCache::new` takes the memory for all entries at once.
fn at_most<K: Hash + Eq, V>(entries: NonZero<usize>) -> LruCache<K, V> {
    let mut cache = LruCache::unbounded();
    cache.resize(entries);
    cache
}

impl ReadCache {
    /// To be called before something is read that may be kept.
    pub(super) fn token(&self) -> ReadToken {
        let state = self.state();
        ReadToken {
            changes: state.changes,
            generation: state.generation,
        }
    }

    /// Forgets everything, also what is being read.
    #[cfg(feature = "mongodb")]
    pub(super) fn forget_all(&self) {
        self.state().forget_all();
    }

    /// Forgets a user's memberships, also those that are being read.
    #[cfg(feature = "mongodb")]
    pub(super) fn forget_user(&self, user: UserId) {
        let mut state = self.state();
        state.has_changed(&user);
        state.forget_user(&user);
    }

    /// Takes in what has changed.
    pub(super) fn apply(&self, durable: &Durable) {
        let mut state = self.state();
        match durable {
            Durable::Change(Change::Appended(event)) => state.append(event),
            Durable::Change(Change::SessionRevoked(id)) => {
                state.has_changed(id);
                state.sessions.pop(id);
            }
            // Of a membership that its event was told of before.
            Durable::Change(Change::Entered(_)) => state.forget_open_rooms(),
            // Neither happens often.
            Durable::Change(Change::RoomDeleted(_) | Change::Renamed(_) | Change::Distrust) => {
                state.forget_all()
            }
            Durable::Change(_) => {}
            #[cfg(feature = "mongodb")]
            Durable::Memberships => {
                state.forget_memberships();
                state.forget_open_rooms();
            }
            #[cfg(feature = "mongodb")]
            Durable::Settings(id) => {
                state.has_changed(id);
                state.forget_open_rooms();
                if let Some(room) = state.room(id) {
                    room.forget();
                }
            }
            Durable::Level(user) => {
                state.has_changed(user);
                state.forget_user(user);
            }
            Durable::Read {
                room,
                user,
                seq,
                messages,
            } => state.read(room, *user, *seq, *messages),
        }
    }

    /// A session that is neither revoked nor over, with its user; `None` when it must be read.
    pub(super) fn session(&self, id: SessionId) -> Option<(Session, User)> {
        let mut state = self.state();
        let found = state.sessions.get(&id)?;
        (found.0.expires_at > Timestamp::now()).then(|| found.clone())
    }

    pub(super) fn keep_session(&self, token: &ReadToken, session: Session, user: User) {
        let mut state = self.state();
        if state.is_current(token, &session.id) {
            state.sessions.put(session.id, (session, user));
        }
    }

    /// How far a member has read a room; `None` when it must be read whether they are one.
    pub(super) fn read_by(&self, user: UserId, room: &RoomId) -> Option<Seq> {
        let mut state = self.state();
        let member = state.users.get_mut(&user)?.member(room)?;
        Some(member.membership.read)
    }

    /// Whether the user's memberships are kept.
    pub(super) fn knows(&self, user: UserId) -> bool {
        self.state().users.contains(&user)
    }

    /// `memberships` are all of a user's, by room.
    pub(super) fn keep_memberships(
        &self,
        token: &ReadToken,
        user: UserId,
        memberships: Vec<Membership>,
    ) {
        let mut state = self.state();
        if !state.is_current(token, &user) {
            return;
        }
        state.forget_user(&user);
        state.memberships += memberships.len();
        let members = memberships.into_iter().map(|membership| Member {
            room: state.room(&membership.room),
            membership,
            listed_at: 0,
        });
        let memberships = members.collect();
        let rooms = UserRooms {
            memberships,
            list: None,
        };
        if let Some((_, pushed_out)) = state.users.push(user, rooms) {
            state.memberships -= pushed_out.memberships.len();
        }
        while state.memberships > MEMBERSHIPS_MAX
            && state.users.len() > 1
            && let Some((_, pushed_out)) = state.users.pop_lru()
        {
            state.memberships -= pushed_out.memberships.len();
        }
    }

    /// A user's rooms, as the lobby lists them.
    pub(super) fn rooms_of(&self, user: UserId) -> CachedList {
        let mut state = self.state();
        let state = &mut *state;
        let Some(rooms) = state.users.get_mut(&user) else {
            return CachedList::Nothing;
        };
        if let Some(list) = &rooms.list
            && rooms.memberships.iter().all(Member::is_as_listed)
        {
            return CachedList::List(Arc::clone(list));
        }
        let mut missing = Vec::new();
        for member in &mut rooms.memberships {
            let id = &member.membership.room;
            if member.room.is_none() {
                member.room = state.rooms.get(id).and_then(Weak::upgrade);
            }
            if !member.room.as_ref().is_some_and(|room| room.is_known()) {
                missing.push(id.clone());
            }
        }
        if !missing.is_empty() {
            return CachedList::AllBut(missing);
        }
        CachedList::List(rooms.list())
    }

    /// A room's settings; `None` when they must be read.
    pub(super) fn settings(&self, room: &RoomId) -> Option<Arc<RoomSettings>> {
        let room = self.state().room(room)?;
        let end = room.end();
        Some(Arc::clone(&end.as_ref()?.settings))
    }

    /// The open rooms; `None` when they must be read.
    pub(super) fn open_rooms(&self) -> Option<Arc<[ListedRoom]>> {
        self.state().open_rooms.clone()
    }

    pub(super) fn keep_open_rooms(&self, token: &ReadToken, rooms: &Arc<[ListedRoom]>) {
        let mut state = self.state();
        if state.is_current(token, &OPEN_ROOMS) {
            state.open_rooms = Some(Arc::clone(rooms));
        }
    }

    /// The last `limit` entries of a room, or all; `None` when they must be read.
    pub(super) fn newest(&self, room: &RoomId, limit: usize) -> Option<History> {
        let mut state = self.state();
        let end = state.pages.get(room)?.end();
        let end = end.as_ref()?;
        end.newest.is_some().then(|| end.last(limit))
    }

    /// How the logs of some of a user's rooms end.
    pub(super) fn keep_ends(&self, token: &ReadToken, user: UserId, ends: Vec<(RoomId, LogEnd)>) {
        let mut state = self.state();
        let state = &mut *state;
        for (id, end) in ends {
            if !state.is_current(token, &id) {
                continue;
            }
            let room = match state.room(&id) {
                Some(room) => {
                    room.take_end(end);
                    room
                }
                None => state.add_room(&id, end),
            };
            if let Some(member) = state.users.get_mut(&user).and_then(|user| user.member(&id)) {
                member.room = Some(room);
            }
        }
    }

    /// Keeps the end of a room's log with its newest page, unless the page is too large.
    pub(super) fn keep_page(&self, token: &ReadToken, id: &RoomId, mut end: LogEnd) {
        let mut state = self.state();
        if !state.is_current(token, id) {
            return;
        }
        if end.page_bytes() > PAGE_BYTES_MAX {
            end.newest = None;
        }
        let room = match state.room(id) {
            Some(room) => {
                if !room.take_page(end) {
                    return;
                }
                room
            }
            None => state.add_room(id, end),
        };
        // Somebody else may hold the one that must make place, without its page.
        if let Some((other, pushed_out)) = state.pages.push(id.clone(), room)
            && other != *id
            && let Some(end) = pushed_out.end().as_mut()
        {
            end.newest = None;
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic half-way through a change could leave a stale entry: the cache is emptied.
        self.0.lock().unwrap_or_else(|poisoned| {
            let mut state = poisoned.into_inner();
            state.forget_all();
            self.0.clear_poison();
            state
        })
    }
}

impl State {
    fn bucket(&mut self, of: &impl Hash) -> usize {
        usize::try_from(self.hasher.hash_one(of) % self.changes.len() as u64).unwrap_or(0)
    }

    fn has_changed(&mut self, what: &impl Hash) {
        let at = self.bucket(what);
        if let Some(times) = self.changes.get_mut(at) {
            *times = times.wrapping_add(1);
        }
    }

    fn is_current(&mut self, token: &ReadToken, what: &impl Hash) -> bool {
        let at = self.bucket(what);
        self.generation == token.generation && self.changes.get(at) == token.changes.get(at)
    }

    fn append(&mut self, event: &Arc<Event>) {
        let room = self.room(&event.room);
        let is_known = room.as_ref().is_some_and(|room| room.has(event));
        self.mention(event, is_known);
        // With it somebody became a member, or is none any more, also where the log is known to have it.
        if event.kind.is_about_membership() {
            self.has_changed(&event.author.id);
            self.forget_user(&event.author.id);
        }
        let may_change =
            event.kind.is_about_membership() || matches!(event.kind, EventKind::Set(_));
        if may_change && !event.room.is_direct() {
            self.forget_open_rooms();
        }
        if is_known {
            return;
        }
        self.has_changed(&event.room);
        if let Some(room) = room {
            room.append(event);
        }
    }

    fn read(&mut self, room: &RoomId, user: UserId, seq: Seq, messages: u64) {
        self.has_changed(&user);
        let Some(rooms) = self.users.get_mut(&user) else {
            return;
        };
        rooms.list = None;
        match rooms.member(room) {
            Some(Member { membership, .. }) if membership.read < seq => {
                membership.read = seq;
                membership.read_messages = messages;
                membership.mentions.retain(|mention| *mention > seq);
            }
            Some(_) => {}
            // They have entered it, though their `joined` stood in the log before.
            None => self.forget_user(&user),
        }
    }

    fn room(&self, id: &RoomId) -> Option<Arc<CachedRoom>> {
        self.rooms.get(id).and_then(Weak::upgrade)
    }

    fn add_room(&mut self, id: &RoomId, end: LogEnd) -> Arc<CachedRoom> {
        let room = Arc::new(CachedRoom {
            end: Mutex::new(Some(end)),
            version: AtomicU64::new(0),
        });
        if self.rooms.len() == self.rooms.capacity() {
            // Before it grows: many may be held by nobody any more.
            self.rooms.retain(|_, room| room.strong_count() > 0);
        }
        self.rooms.insert(id.clone(), Arc::downgrade(&room));
        room
    }

    fn forget_user(&mut self, user: &UserId) {
        if let Some(rooms) = self.users.pop(user) {
            self.memberships -= rooms.memberships.len();
        }
    }

    fn forget_open_rooms(&mut self) {
        self.has_changed(&OPEN_ROOMS);
        self.open_rooms = None;
    }

    #[cfg(feature = "mongodb")]
    fn forget_memberships(&mut self) {
        self.users.clear();
        self.memberships = 0;
        self.memberships_have_changed();
    }

    /// Anybody's may have, also of users that are being read.
    fn memberships_have_changed(&mut self) {
        for times in &mut self.changes {
            *times = times.wrapping_add(1);
        }
    }

    fn forget_all(&mut self) {
        self.generation += 1;
        self.sessions.clear();
        self.users.clear();
        self.memberships = 0;
        self.pages.clear();
        self.open_rooms = None;
        self.rooms.clear();
    }
}
