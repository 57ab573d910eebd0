//! What was read lately, kept in memory: for as long as it is what the file says.
//!
//! One process has the file, and its one writer tells of each change after its commit and before the
//! write is answered. So what is kept is changed with the file, and whoever was answered finds their
//! write here. A reader may bring something from before a change that was told meanwhile: it says
//! when it [began](Recent::began), and what has changed since then is not kept.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, Hash, RandomState};
use std::num::NonZero;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use lru::LruCache;

use crate::domain::{
    Event, EventKind, RoomId, RoomSummary, Seq, Session, SessionId, Timestamp, User, UserId,
};
use crate::store::{Change, newest_first};

/// How many sessions are kept: everybody who is here on a large server, in a few megabytes.
const SESSIONS_MAX: NonZero<usize> = NonZero::new(10_000).expect("not zero");

/// For how many users, and how many memberships of theirs, the rooms are kept, each with its last
/// message: a few megabytes, some hundred if all wrote as much as they may in rooms of their own.
const USERS_MAX: NonZero<usize> = NonZero::new(2_000).expect("not zero");
const MEMBERSHIPS_MAX: usize = 20_000;

/// Of how many rooms the newest page is kept, and how much text it may have at most: megabytes in
/// all. What people usually write is a tenth of it.
const PAGES_MAX: NonZero<usize> = NonZero::new(200).expect("not zero");
const KEPT_BYTES_MAX: usize = 32 * 1024;

/// How many events the newest page has.
pub(super) const NEWEST_MAX: usize = 50;

/// What a write has changed, once it is durable.
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
}

pub(super) struct Recent(Mutex<Kept>);

struct Kept {
    sessions: LruCache<SessionId, (Session, User)>,
    users: LruCache<UserId, Rooms>,
    memberships: usize,
    /// All rooms that somebody below holds, each once, so that a change reaches all.
    rooms: HashMap<RoomId, Weak<Room>>,
    /// The rooms whose newest page is kept.
    pages: LruCache<RoomId, Arc<Room>>,
    hasher: RandomState,
    changes: Changes,
}

/// How often something has changed, counted by its hash: what shares a number with it is only read
/// once more.
type Changes = [u32; 256];

/// When somebody began to read.
pub(super) struct Began(Changes);

/// A user's rooms, by id.
struct Rooms {
    memberships: Vec<Member>,
    /// The list, as it was when each room was as [`Member::listed_at`] says.
    list: Option<Arc<[RoomSummary]>>,
}

struct Member {
    membership: Membership,
    room: Option<Arc<Room>>,
    listed_at: u64,
}

/// That a user is in a room.
#[derive(Debug, Clone)]
pub(super) struct Membership {
    pub(super) room: RoomId,
    /// How far they have read it, and how many messages that are.
    pub(super) read: Seq,
    pub(super) read_messages: u64,
}

struct Room {
    end: Mutex<End>,
    version: AtomicU64,
}

/// The end of a room's log.
#[derive(Debug, Clone, Default)]
pub(super) struct End {
    pub(super) head: Seq,
    /// How many messages the log has.
    pub(super) messages: u64,
    pub(super) last_message: Option<Arc<Event>>,
    /// The newest events, oldest first, if they were read.
    pub(super) newest: Option<VecDeque<Arc<Event>>>,
}

/// What is known of a user's rooms.
pub(super) enum Known {
    /// All of it.
    List(Arc<[RoomSummary]>),
    /// Which they are, but not the ends of these.
    AllBut(Vec<RoomId>),
    /// Nothing.
    Nothing,
}

impl Default for Recent {
    fn default() -> Self {
        Self(Mutex::new(Kept {
            sessions: at_most(SESSIONS_MAX),
            users: at_most(USERS_MAX),
            memberships: 0,
            rooms: HashMap::new(),
            pages: at_most(PAGES_MAX),
            hasher: RandomState::new(),
            changes: [0; 256],
        }))
    }
}

/// Made small: its own constructor takes memory for all at once.
fn at_most<K: Hash + Eq, V>(entries: NonZero<usize>) -> LruCache<K, V> {
    let mut cache = LruCache::unbounded();
    cache.resize(entries);
    cache
}

impl Recent {
    /// To be called before something is read that may be kept.
    pub(super) fn began(&self) -> Began {
        Began(self.kept().changes)
    }

    /// Takes note of what the writer has written.
    pub(super) fn note(&self, durable: &Durable) {
        let mut kept = self.kept();
        match durable {
            Durable::Change(Change::Appended(event)) => kept.append(event),
            Durable::Change(Change::SessionRevoked(id)) => {
                kept.has_changed(id);
                kept.sessions.pop(id);
            }
            Durable::Change(_) => {}
            Durable::Read {
                room,
                user,
                seq,
                messages,
            } => kept.read(room, *user, *seq, *messages),
        }
    }

    /// A session that is neither revoked nor over, with its user; `None` when it must be read.
    pub(super) fn session(&self, id: SessionId) -> Option<(Session, User)> {
        let mut kept = self.kept();
        let found = kept.sessions.get(&id)?;
        (found.0.expires_at > Timestamp::now()).then(|| found.clone())
    }

    pub(super) fn keep_session(&self, began: &Began, session: Session, user: User) {
        let mut kept = self.kept();
        if kept.is_as_at(began, &session.id) {
            kept.sessions.put(session.id, (session, user));
        }
    }

    /// How far a member has read a room; `None` when it must be read whether they are one.
    pub(super) fn read_by(&self, user: UserId, room: &RoomId) -> Option<Seq> {
        let mut kept = self.kept();
        let member = kept.users.get_mut(&user)?.member(room)?;
        Some(member.membership.read)
    }

    /// Whether the user's memberships are kept.
    pub(super) fn knows(&self, user: UserId) -> bool {
        self.kept().users.contains(&user)
    }

    /// `memberships` are all of a user's, by room.
    pub(super) fn keep_memberships(
        &self,
        began: &Began,
        user: UserId,
        memberships: Vec<Membership>,
    ) {
        let mut kept = self.kept();
        if !kept.is_as_at(began, &user) {
            return;
        }
        kept.forget_user(&user);
        kept.memberships += memberships.len();
        let members = memberships.into_iter().map(|membership| Member {
            room: kept.room(&membership.room),
            membership,
            listed_at: 0,
        });
        let memberships = members.collect();
        let rooms = Rooms {
            memberships,
            list: None,
        };
        if let Some((_, pushed_out)) = kept.users.push(user, rooms) {
            kept.memberships -= pushed_out.memberships.len();
        }
        while kept.memberships > MEMBERSHIPS_MAX
            && kept.users.len() > 1
            && let Some((_, pushed_out)) = kept.users.pop_lru()
        {
            kept.memberships -= pushed_out.memberships.len();
        }
    }

    /// A user's rooms, as the lobby lists them.
    pub(super) fn rooms_of(&self, user: UserId) -> Known {
        let mut kept = self.kept();
        let kept = &mut *kept;
        let Some(rooms) = kept.users.get_mut(&user) else {
            return Known::Nothing;
        };
        if let Some(list) = &rooms.list
            && rooms.memberships.iter().all(Member::is_as_listed)
        {
            return Known::List(Arc::clone(list));
        }
        let mut missing = Vec::new();
        for member in &mut rooms.memberships {
            let id = &member.membership.room;
            if member.room.is_none() {
                member.room = kept.rooms.get(id).and_then(Weak::upgrade);
            }
            if member.room.is_none() {
                missing.push(id.clone());
            }
        }
        if !missing.is_empty() {
            return Known::AllBut(missing);
        }
        Known::List(rooms.list())
    }

    /// The last `limit` events of a room, or all; `None` when they must be read.
    pub(super) fn newest(&self, room: &RoomId, limit: usize) -> Option<Vec<Arc<Event>>> {
        let mut kept = self.kept();
        let end = kept.pages.get(room)?.end();
        let newest = end.newest.as_ref()?;
        Some(last(newest, limit))
    }

    /// How the logs of some of a user's rooms end.
    pub(super) fn keep_ends(&self, began: &Began, user: UserId, ends: Vec<(RoomId, End)>) {
        let mut kept = self.kept();
        let kept = &mut *kept;
        for (id, end) in ends {
            if !kept.is_as_at(began, &id) {
                continue;
            }
            let room = match kept.room(&id) {
                Some(room) => room,
                None => kept.add_room(&id, end),
            };
            if let Some(member) = kept.users.get_mut(&user).and_then(|user| user.member(&id)) {
                member.room = Some(room);
            }
        }
    }

    /// How a room's log ends, with its newest page.
    pub(super) fn keep_page(&self, began: &Began, id: &RoomId, end: End) {
        let mut kept = self.kept();
        if !kept.is_as_at(began, id) || end.page_bytes() > KEPT_BYTES_MAX {
            return;
        }
        let room = match kept.room(id) {
            Some(room) => {
                if !room.take_page(end) {
                    return;
                }
                room
            }
            None => kept.add_room(id, end),
        };
        // Somebody else may hold the one that must make place, without its page.
        if let Some((other, pushed_out)) = kept.pages.push(id.clone(), room)
            && other != *id
        {
            pushed_out.end().newest = None;
        }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        // A panic half-way through a change could leave what is no longer so: nothing is kept then.
        self.0.lock().unwrap_or_else(|poisoned| {
            let mut kept = poisoned.into_inner();
            kept.forget_all();
            self.0.clear_poison();
            kept
        })
    }
}

impl Kept {
    fn bucket(&mut self, of: &impl Hash) -> usize {
        usize::try_from(self.hasher.hash_one(of) % self.changes.len() as u64).unwrap_or(0)
    }

    fn has_changed(&mut self, what: &impl Hash) {
        let at = self.bucket(what);
        if let Some(times) = self.changes.get_mut(at) {
            *times = times.wrapping_add(1);
        }
    }

    fn is_as_at(&mut self, Began(changes): &Began, what: &impl Hash) -> bool {
        let at = self.bucket(what);
        self.changes.get(at) == changes.get(at)
    }

    fn append(&mut self, event: &Arc<Event>) {
        self.has_changed(&event.room);
        if let Some(room) = self.room(&event.room) {
            room.end().append(event);
            room.version.fetch_add(1, Ordering::Relaxed);
        }
        // With it somebody became a member.
        if event.kind == EventKind::Joined {
            self.has_changed(&event.author.id);
            self.forget_user(&event.author.id);
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
            }
            Some(_) => {}
            // They have entered it, though their `joined` stood in the log before.
            None => self.forget_user(&user),
        }
    }

    fn room(&self, id: &RoomId) -> Option<Arc<Room>> {
        self.rooms.get(id).and_then(Weak::upgrade)
    }

    fn add_room(&mut self, id: &RoomId, end: End) -> Arc<Room> {
        let room = Arc::new(Room {
            end: Mutex::new(end),
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

    fn forget_all(&mut self) {
        self.sessions.clear();
        self.users.clear();
        self.memberships = 0;
        self.pages.clear();
        self.rooms.clear();
    }
}

impl Rooms {
    fn member(&mut self, room: &RoomId) -> Option<&mut Member> {
        let at = self
            .memberships
            .binary_search_by(|member| member.membership.room.cmp(room));
        self.memberships.get_mut(at.ok()?)
    }

    /// The list, made of rooms that are all there.
    fn list(&mut self) -> Arc<[RoomSummary]> {
        let mut list: Vec<RoomSummary> = Vec::with_capacity(self.memberships.len());
        for Member {
            membership,
            room,
            listed_at,
        } in &mut self.memberships
        {
            let Some(room) = room else { continue };
            *listed_at = room.version.load(Ordering::Relaxed);
            let end = room.end();
            list.push(RoomSummary {
                room: membership.room.clone(),
                head: end.head,
                last: end.last_message.clone(),
                unread: end.messages.saturating_sub(membership.read_messages),
            });
        }
        newest_first(&mut list);
        let list: Arc<[RoomSummary]> = list.into();
        self.list = Some(Arc::clone(&list));
        list
    }
}

impl Member {
    fn is_as_listed(&self) -> bool {
        let version = self.room.as_ref().map(|room| &room.version);
        version.is_some_and(|version| version.load(Ordering::Relaxed) == self.listed_at)
    }
}

impl Room {
    /// The end with its page, as somebody has read it: what is committed may not have been told
    /// yet, so it may be of another moment than ours. `false` when it is of an earlier one.
    fn take_page(&self, read: End) -> bool {
        let mut end = self.end();
        if read.head < end.head {
            return false;
        }
        if read.head > end.head {
            self.version.fetch_add(1, Ordering::Relaxed);
        }
        *end = read;
        true
    }

    fn end(&self) -> MutexGuard<'_, End> {
        // Changed under the lock of all, which sees to what a panic leaves.
        self.end.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl End {
    /// The event after the head; an earlier one was in what was read.
    fn append(&mut self, event: &Arc<Event>) {
        if event.seq <= self.head {
            return;
        }
        self.head = event.seq;
        self.messages = event.messages;
        if event.kind.is_message() {
            self.last_message = Some(Arc::clone(event));
        }
        if let Some(newest) = &mut self.newest {
            newest.push_back(Arc::clone(event));
            if newest.len() > NEWEST_MAX {
                newest.pop_front();
            }
            // Rather than count what fits a page: it is read again.
            if self.page_bytes() > KEPT_BYTES_MAX {
                self.newest = None;
            }
        }
    }

    fn page_bytes(&self) -> usize {
        self.newest
            .iter()
            .flatten()
            .map(|event| body_bytes(event))
            .sum()
    }
}

fn body_bytes(event: &Event) -> usize {
    event.kind.body().map_or(0, |body| body.as_str().len())
}

/// The last so many of the newest events.
pub(super) fn last(newest: &VecDeque<Arc<Event>>, limit: usize) -> Vec<Arc<Event>> {
    let from = newest.len().saturating_sub(limit);
    newest.range(from..).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::super::{SqliteStore, log, rooms};
    use super::*;
    use crate::domain::{Author, Email, MessageBody, NewEvent, NewUser, Username};
    use crate::store::{Access, Store};

    async fn somebody(store: &SqliteStore, name: &str) -> User {
        let user = User {
            id: UserId::new(),
            username: Username::parse(name).unwrap(),
        };
        let new = NewUser {
            user: user.clone(),
            email: Email::parse(&format!("{name}@example.org")).unwrap(),
            password_hash: "none".to_owned(),
        };
        store.add_user(new).await.unwrap();
        user
    }

    fn says(user: &User, text: &str) -> NewEvent {
        NewEvent {
            author: Author::from(user),
            kind: EventKind::Message {
                body: MessageBody::parse(text).unwrap(),
            },
            nonce: None,
        }
    }

    /// Invariant: whatever is read while whatever is written, what is kept afterwards is in the
    /// file; and who has written reads it.
    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn what_is_kept_is_what_the_file_says() {
        let dir = tempfile::tempdir().unwrap();
        let store = Arc::new(SqliteStore::open(dir.path(), Arc::new(|_| {})).unwrap());
        let mut users = Vec::new();
        for name in ["ana", "ben", "cleo"] {
            users.push(somebody(&store, name).await);
        }
        let rooms: Vec<RoomId> = (0..12)
            .map(|n| RoomId::parse(&format!("room-{n}")).unwrap())
            .collect();
        for round in 0..150 {
            let mut tasks = tokio::task::JoinSet::new();
            for (number, user) in users.iter().enumerate() {
                // More and more rooms, and each is entered in the midst of it.
                let room = rooms[(round / 12 + number) % rooms.len()].clone();
                let (writes, reads, user) = (Arc::clone(&store), Arc::clone(&store), user.clone());
                let (there, reader) = (room.clone(), user.clone());
                tasks.spawn(async move {
                    writes.join(&room, &user).await.unwrap();
                    let said = says(&user, &format!("round {round}"));
                    let said = writes.append(&room, said).await.unwrap();
                    let seq = said.event().seq;
                    let page = writes.page_before(&room, Seq::MAX, 50).await.unwrap();
                    assert!(
                        page.iter().any(|event| event.seq == seq),
                        "it reads its own"
                    );
                    writes.mark_read(&room, &user, seq).await.unwrap();
                    let access = writes.access(&room, &user).await.unwrap();
                    assert_eq!(access, Access::Member { read: seq });
                });
                tasks.spawn(async move {
                    for _ in 0..4 {
                        reads.rooms_of(&reader).await.unwrap();
                        reads.page_before(&there, Seq::MAX, 50).await.unwrap();
                        reads.access(&there, &reader).await.unwrap();
                    }
                });
            }
            while let Some(done) = tasks.join_next().await {
                done.unwrap();
            }
            for user in &users {
                let id = user.id;
                let kept = store.rooms_of(user).await.unwrap();
                let file = store.readers.read("", move |file| rooms::of(file, id));
                assert_eq!(*kept, file.await.unwrap(), "round {round}");
            }
            for room in &rooms {
                let id = room.clone();
                let kept = store.page_before(room, Seq::MAX, 20).await.unwrap();
                let file = store
                    .readers
                    .read("", move |file| log::page_before(file, &id, Seq::MAX, 20));
                assert_eq!(kept, file.await.unwrap(), "round {round}");
            }
        }
    }

    fn event(seq: Seq) -> Arc<Event> {
        Arc::new(Event {
            room: RoomId::parse("tea").unwrap(),
            seq,
            messages: seq,
            at: Timestamp::from_millis(0),
            author: Author {
                id: UserId::new(),
                username: "ana".into(),
            },
            kind: EventKind::Message {
                body: MessageBody::parse("hello").unwrap(),
            },
        })
    }

    fn end(head: Seq) -> End {
        End {
            head,
            messages: head,
            last_message: Some(event(head)),
            newest: Some((1..=head).map(event).collect()),
        }
    }

    /// A commit can be read a moment before it is told.
    #[test]
    fn an_event_is_in_a_page_once_whoever_read_it_before_it_was_told() {
        let tea = RoomId::parse("tea").unwrap();
        let ana = UserId::new();
        let membership = Membership {
            room: tea.clone(),
            read: 1,
            read_messages: 1,
        };
        let appended = |seq| Durable::Change(Change::Appended(event(seq)));
        // What two have read: first an end for somebody's list, then a page.
        for (of_list, of_page) in [(5, 5), (5, 6), (6, 5), (6, 6)] {
            let recent = Recent::default();
            let began = recent.began();
            recent.keep_memberships(&began, ana, vec![membership.clone()]);
            let listed = End {
                newest: None,
                ..end(of_list)
            };
            recent.keep_ends(&began, ana, vec![(tea.clone(), listed)]);
            recent.keep_page(&began, &tea, end(of_page));
            recent.note(&appended(6));
            recent.note(&appended(7));
            if let Some(page) = recent.newest(&tea, 50) {
                let seqs: Vec<Seq> = page.iter().map(|event| event.seq).collect();
                assert_eq!(seqs, [1, 2, 3, 4, 5, 6, 7], "{of_list} {of_page}");
            }
            let Known::List(list) = recent.rooms_of(ana) else {
                panic!("the list is kept");
            };
            assert_eq!(
                (list[0].head, list[0].unread),
                (7, 6),
                "{of_list} {of_page}"
            );
        }
    }

    #[test]
    fn who_has_entered_is_known_even_if_they_joined_before() {
        let recent = Recent::default();
        let (ana, began) = (UserId::new(), recent.began());
        recent.keep_memberships(&began, ana, Vec::new());
        recent.note(&Durable::Read {
            room: RoomId::parse("tea").unwrap(),
            user: ana,
            seq: 1,
            messages: 0,
        });
        assert!(!recent.knows(ana), "it is read again");
    }

    #[test]
    fn a_page_that_makes_place_is_forgotten_whoever_holds_its_room() {
        let recent = Recent::default();
        let (ana, began) = (UserId::new(), recent.began());
        let rooms: Vec<RoomId> = (0..PAGES_MAX.get() + 50)
            .map(|n| RoomId::parse(&format!("room-{n:04}")).unwrap())
            .collect();
        let membership = |room: &RoomId| Membership {
            room: room.clone(),
            read: 0,
            read_messages: 0,
        };
        recent.keep_memberships(&began, ana, rooms.iter().map(membership).collect());
        let listed = |room: &RoomId| {
            let end = End {
                newest: None,
                ..end(3)
            };
            (room.clone(), end)
        };
        recent.keep_ends(&began, ana, rooms.iter().map(listed).collect());
        for room in &rooms {
            recent.keep_page(&began, room, end(3));
        }
        let kept = recent.kept();
        let pages = kept.rooms.values().filter_map(Weak::upgrade);
        let pages = pages.filter(|room| room.end().newest.is_some()).count();
        assert_eq!(pages, PAGES_MAX.get());
    }

    #[tokio::test]
    async fn a_session_is_kept_until_it_is_revoked_or_over() {
        let dir = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(dir.path(), Arc::new(|_| {})).unwrap();
        let ana = somebody(&store, "ana").await;
        let session = |lasts_ms: i64| Session {
            id: SessionId::new(),
            user: ana.id,
            created_at: Timestamp::now(),
            expires_at: Timestamp::from_millis(Timestamp::now().as_millis() + lasts_ms),
        };
        let (long, short) = (session(60_000), session(300));
        for session in [long, short] {
            store.add_session(session).await.unwrap();
            store.find_session(session.id).await.unwrap().unwrap();
            assert!(store.recent.session(session.id).is_some(), "it is kept");
        }
        let began = store.recent.began();
        store.revoke_session(long.id).await.unwrap();
        assert!(store.find_session(long.id).await.unwrap().is_none());
        // Who had read it before that brings it too late.
        store.recent.keep_session(&began, long, ana.clone());
        assert!(store.find_session(long.id).await.unwrap().is_none());
        tokio::time::sleep(std::time::Duration::from_millis(400)).await;
        assert!(store.find_session(short.id).await.unwrap().is_none());
    }
}
