use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{Notify, watch};
use tokio::time::{MissedTickBehavior, interval};

use super::log_wait::{LogWait, LogWaiters};
use super::presence::Presence;
use super::room::{Accepted, Room, Signal};
use super::streams::Streams;
use super::{Format, PresenceGuard, Roster, Subscriber};
use crate::domain::{Event, RoomId, Seq, Session, SessionId, User, UserId};
use crate::lasting;
use crate::metrics::Metrics;
use crate::store::{Change, OnChange, PAGE_MAX, Store, StoreError};

/// How often every stream says that it is alive: twice within the 30 to 60 seconds after which
/// proxies cut silent connections.
const HEARTBEAT_EVERY: Duration = Duration::from_secs(15);

/// How often presence and typing are looked over, which gathers what several people do into one
/// notice.
const PRESENCE_EVERY: Duration = Duration::from_secs(1);

/// How long somebody who was said to be typing is taken to be, unless a message of theirs comes or
/// it is said again. There is no notice that they have stopped.
pub const TYPING_LASTS: Duration = Duration::from_secs(5);

/// Of how many people who are typing the other nodes are told at a time; the rest is not that
/// important.
const TELL_TYPING_MAX: usize = 500;

/// The part of a process that wakes streams when a log grows. Cheap to clone.
#[derive(Clone)]
pub struct Hub(Arc<Inner>);

struct Inner {
    /// Set right after the store was opened; the store needs the hub to be opened.
    store: OnceLock<Arc<dyn Store>>,
    /// A store tells of changes from threads of its own, where there is no runtime to be found.
    runtime: Handle,
    rooms: Mutex<HashMap<RoomId, Arc<Room>>>,
    presence: Presence,
    /// Who has been typing here since the other nodes were last told.
    typing: Mutex<HashMap<(RoomId, UserId), User>>,
    waiters: LogWaiters,
    streams: Streams,
    heartbeat: watch::Sender<()>,
    /// Set when the store may have missed telling something.
    resync: Notify,
}

impl Hub {
    /// A hub for a store that is still to be opened with [`Self::on_change`]. Call it inside the
    /// runtime.
    pub fn new(streams_per_user: usize, metrics: Metrics) -> Self {
        Self(Arc::new(Inner {
            store: OnceLock::new(),
            runtime: Handle::current(),
            rooms: Mutex::default(),
            presence: Presence::default(),
            typing: Mutex::default(),
            waiters: LogWaiters::default(),
            streams: Streams::new(streams_per_user, metrics.streams),
            heartbeat: watch::Sender::new(()),
            resync: Notify::new(),
        }))
    }

    /// What the store calls for each change.
    pub fn on_change(&self) -> OnChange {
        let hub = self.clone();
        Arc::new(move |change| hub.take(change))
    }

    /// Starts reading from `store` and the timers. Call it once, inside the runtime.
    pub fn start(&self, store: Arc<dyn Store>) {
        if store.has_other_nodes() {
            self.0.presence.announce_to_others();
            let hub = self.clone();
            tokio::spawn(lasting::task("telling of presence", move || {
                hub.clone().announce_loop()
            }));
        }
        let _ = self.0.store.set(store);
        let hub = self.clone();
        tokio::spawn(lasting::task("looking again", move || {
            hub.clone().resync_loop()
        }));
        let hub = self.clone();
        tokio::spawn(lasting::task("the heartbeat", move || {
            hub.clone().heartbeat_loop()
        }));
        let hub = self.clone();
        tokio::spawn(lasting::task("presence", move || {
            hub.clone().presence_loop()
        }));
    }

    /// The streams that are open in this process.
    pub fn streams(&self) -> &Streams {
        &self.0.streams
    }

    /// Who is in the room now.
    pub fn present(&self, room: &RoomId) -> Arc<Roster> {
        self.0.presence.of(room)
    }

    /// Shows `user` in the room for as long as the guard lives, and a little longer.
    pub fn arrive(&self, room: &RoomId, user: &User) -> PresenceGuard {
        self.0.presence.arrive(room, user)
    }

    /// `user` is typing in the room. Its subscribers are told within a second.
    pub fn types(&self, room: &RoomId, user: &User) {
        self.show_typing(room, user);
        let has_others = self.store().is_ok_and(|store| store.has_other_nodes());
        let mut typing = self.typing();
        if has_others && typing.len() < TELL_TYPING_MAX {
            typing.insert((room.clone(), user.id), user.clone());
        }
    }

    fn show_typing(&self, room: &RoomId, user: &User) {
        let room = self.rooms().get(room).cloned();
        if let Some(room) = room {
            room.types(&user.username.shared());
        }
    }

    /// Changes when it is time for all streams to show that they are alive.
    pub fn heartbeat(&self) -> watch::Receiver<()> {
        self.0.heartbeat.subscribe()
    }

    /// Waits, for a session, until one of these logs grows. It must be looked up once more after
    /// this, and so must the logs: what was before is not waited for.
    pub fn watch_logs(&self, rooms: Vec<RoomId>, session: &Session) -> LogWait {
        self.0.waiters.watch(self.0.streams.open(session), rooms)
    }

    /// Opens a stream of the room for a session. Where it starts is still to be said.
    ///
    /// # Errors
    ///
    /// When the store does not tell the log's head.
    pub async fn follow(
        &self,
        room: &RoomId,
        format: Format,
        user: &User,
        session: &Session,
    ) -> Result<Subscriber, StoreError> {
        // From here on an append wakes us; whatever was before is read.
        let (room, signal) = self.watch(room);
        if room.head().is_none() {
            let head = self.read_head(&room.id).await?;
            self.reaches(&room, head);
        }
        Ok(Subscriber::new(
            self.clone(),
            self.0.streams.open(session),
            self.arrive(&room.id, user),
            self.heartbeat(),
            room,
            signal,
            format,
        ))
    }

    fn take(&self, change: Change) {
        match change {
            Change::Appended(event) => self.accept(event),
            Change::SessionRevoked(session) => self.0.streams.end_session(session),
            Change::Resync => self.0.resync.notify_one(),
            Change::Typing(room, user) => self.show_typing(&room, &user),
            Change::Arrived(node, room, user) => self.0.presence.arrived(node, &room, &user),
            Change::Left(node, room, user) => self.0.presence.left(node, &room, user),
            Change::RemoteRoster(shown) => self.0.presence.remote_roster(&shown),
            Change::Reannounce => self.0.presence.reannounce(),
        }
    }

    fn accept(&self, event: Arc<Event>) {
        self.0.waiters.wake(&event.room);
        // Nobody follows: who comes reads the head from the store, where the event is.
        let room = self.rooms().get(&event.room).cloned();
        if let Some(room) = room
            && room.accept(event) == Accepted::Gap
        {
            self.0.runtime.spawn(self.clone().catch_up(room));
        }
    }

    fn reaches(&self, room: &Arc<Room>, head: Seq) {
        if room.reaches(head) == Accepted::Gap {
            tokio::spawn(self.clone().catch_up(Arc::clone(room)));
        }
    }

    /// Reads what a room misses from the log, once for all its subscribers.
    async fn catch_up(self, room: Arc<Room>) {
        while let Some(after) = room.missing_after() {
            let page = match self.store() {
                Ok(store) => store.page_after(&room.id, after, PAGE_MAX).await,
                Err(error) => Err(error),
            };
            match page {
                Ok(events) if !events.is_empty() => {
                    for event in events {
                        room.accept(event);
                    }
                }
                // Told of an event that is not there: then nothing is missing.
                Ok(_) => return room.give_up_catching_up(),
                Err(error) => {
                    tracing::warn!(room = %room.id, ?error, "cannot read what a room missed");
                    return room.give_up_catching_up();
                }
            }
        }
    }

    /// Finds out by reading what the store may have missed telling. One task: what is told to
    /// look again while it looks, looks once more after that.
    async fn resync_loop(self) {
        loop {
            self.0.resync.notified().await;
            tokio::join!(self.compare_heads(), self.check_sessions());
        }
    }

    /// Ends the streams of sessions that were revoked without our hearing of it.
    async fn check_sessions(&self) {
        let open = self.0.streams.sessions();
        if open.is_empty() {
            return;
        }
        let live = match self.store() {
            Ok(store) => store.live_sessions(&open).await,
            Err(error) => Err(error),
        };
        match live {
            Ok(live) => {
                for session in open.into_iter().filter(|session| !live.contains(session)) {
                    self.end_if_over(session).await;
                }
            }
            Err(error) => tracing::warn!(?error, "cannot check the streams’ sessions"),
        }
    }

    /// Asked once more, alone: a client that hears that its session is over forgets it.
    async fn end_if_over(&self, session: SessionId) {
        let found = match self.store() {
            Ok(store) => store.find_session(session).await,
            Err(error) => Err(error),
        };
        match found {
            Ok(None) => self.0.streams.end_session(session),
            Ok(Some(_)) => {}
            Err(error) => tracing::warn!(?error, "cannot check a stream’s session"),
        }
    }

    async fn compare_heads(&self) {
        let rooms: Vec<Arc<Room>> = self.rooms().values().cloned().collect();
        let ids: Vec<RoomId> = rooms.iter().map(|room| room.id.clone()).collect();
        if ids.is_empty() {
            return;
        }
        let heads = match self.store() {
            Ok(store) => store.heads(&ids).await,
            Err(error) => Err(error),
        };
        match heads {
            Ok(heads) => {
                for (room, head) in rooms.iter().zip(heads) {
                    self.reaches(room, head);
                }
            }
            Err(error) => tracing::warn!(?error, "cannot compare the logs’ heads"),
        }
    }

    /// The one timer of all heartbeats.
    async fn heartbeat_loop(self) {
        let mut due = interval(HEARTBEAT_EVERY);
        due.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            due.tick().await;
            self.0.heartbeat.send_replace(());
        }
    }

    /// Tells the other nodes who is here, and who is typing.
    async fn announce_loop(self) {
        let mut due = interval(PRESENCE_EVERY);
        due.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            due.tick().await;
            let unannounced = self.0.presence.unannounced();
            let told = match self.store() {
                Ok(store) => {
                    store
                        .show_present(&unannounced.here, &unannounced.gone)
                        .await
                }
                Err(error) => Err(error),
            };
            match told {
                Ok(()) => self.0.presence.mark_announced(unannounced),
                Err(error) => tracing::warn!(?error, "cannot tell other nodes who is here"),
            }
            let typing = std::mem::take(&mut *self.typing());
            if typing.is_empty() {
                continue;
            }
            let typing: Vec<_> = typing
                .into_iter()
                .map(|((room, _), user)| (room, user))
                .collect();
            let told = match self.store() {
                Ok(store) => store.tell_typing(&typing).await,
                Err(error) => Err(error),
            };
            if let Err(error) = told {
                // It is over before it could be told again.
                tracing::debug!(?error, "cannot tell other nodes who is typing");
            }
        }
    }

    async fn presence_loop(self) {
        let mut due = interval(PRESENCE_EVERY);
        due.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            due.tick().await;
            for (id, present) in self.0.presence.changed() {
                let room = self.rooms().get(&id).cloned();
                if let Some(room) = room {
                    room.show(present);
                }
            }
            // A room nobody follows is forgotten; the lock keeps subscribers from coming meanwhile.
            self.rooms().retain(|_, room| {
                room.show_typing();
                room.subscribers() > 0
            });
        }
    }

    /// The room, followed from now on if it was not. Watched before the lock is given back, so
    /// that it cannot be forgotten in between.
    fn watch(&self, id: &RoomId) -> (Arc<Room>, watch::Receiver<Signal>) {
        let mut rooms = self.rooms();
        let room = rooms.entry(id.clone()).or_insert_with(|| {
            let epoch = self.0.store.get().map_or(0, |store| store.epoch());
            let room = Room::new(id.clone(), epoch);
            room.show(self.0.presence.of(id));
            Arc::new(room)
        });
        (Arc::clone(room), room.watch())
    }

    async fn read_head(&self, room: &RoomId) -> Result<Seq, StoreError> {
        let heads = self.store()?.heads(std::slice::from_ref(room)).await?;
        Ok(heads.first().copied().unwrap_or(0))
    }

    pub(super) fn store(&self) -> Result<&Arc<dyn Store>, StoreError> {
        let store = self.0.store.get();
        store.ok_or_else(|| StoreError::backend("read the store", "it is still being opened"))
    }

    fn typing(&self) -> MutexGuard<'_, HashMap<(RoomId, UserId), User>> {
        self.0.typing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn rooms(&self) -> MutexGuard<'_, HashMap<RoomId, Arc<Room>>> {
        // Entries are put in and taken out whole.
        self.0.rooms.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
