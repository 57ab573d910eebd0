//! The hub: which rooms have subscribers in this process, and what wakes them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, mpsc, watch};
use tokio::time::{MissedTickBehavior, interval};

use super::log_wait::{LogWait, LogWaiters};
use super::presence::Presence;
use super::renderer::Renderer;
use super::room::{Accepted, Following, Room};
use super::streams::Streams;
use super::{Format, PresenceGuard, Subscriber};
use crate::cluster::{Cluster, OnPeerChange, PeerChange};
use crate::domain::{Event, RoomId, Roster, Seq, Session, SessionId, User, UserId};
use crate::lasting;
use crate::metrics::Metrics;
use crate::store::{Change, Log, OnChange, PAGE_MAX, Sessions, StoreError};

/// How often every stream says that it is alive: twice within the 30 to 60 seconds after which
/// proxies cut silent connections.
const HEARTBEAT_EVERY: Duration = Duration::from_secs(15);

/// How often presence and typing are looked over, which gathers what several people do into one
/// notice.
const PRESENCE_EVERY: Duration = Duration::from_secs(1);

/// How long a typing notice holds, unless a message of the typist comes or it is sent again. There is
/// no notice that somebody has stopped.
pub const TYPING_LASTS: Duration = Duration::from_secs(5);

/// How many typists are announced to other nodes at a time; the rest is not that important.
const TYPISTS_MAX: usize = 500;

/// A hub before there is a store: it takes changes, which the store needs to be opened, and reads
/// nothing. [`Self::start`] makes it a [`Hub`].
pub struct HubBuilder {
    shared: Arc<Shared>,
    /// Rooms that miss events.
    gaps: mpsc::UnboundedReceiver<Arc<Room>>,
    renderer: Renderer,
}

/// The part of a process that wakes streams when a log grows. Cheap to clone.
#[derive(Clone)]
pub struct Hub(Arc<Inner>);

struct Inner {
    log: Arc<dyn Log>,
    sessions: Arc<dyn Sessions>,
    /// `None` where there is one node.
    cluster: Option<Arc<dyn Cluster>>,
    renderer: Renderer,
    shared: Arc<Shared>,
}

/// The hub's state, which changes from the store reach before there is a hub.
struct Shared {
    rooms: Mutex<HashMap<RoomId, Arc<Room>>>,
    presence: Presence,
    /// Typists here since the last announcement to the other nodes.
    typing: Mutex<HashMap<(RoomId, UserId), User>>,
    waiters: LogWaiters,
    streams: Streams,
    heartbeat: watch::Sender<()>,
    /// Notified when changes may have been missed.
    resync: Notify,
    gaps: mpsc::UnboundedSender<Arc<Room>>,
}

impl HubBuilder {
    /// A hub that shows events and people on pages with `renderer`.
    pub fn new(streams_per_user: usize, metrics: &Metrics, renderer: Renderer) -> Self {
        let (gaps, found) = mpsc::unbounded_channel();
        let shared = Shared {
            rooms: Mutex::default(),
            presence: Presence::default(),
            typing: Mutex::default(),
            waiters: LogWaiters::default(),
            streams: Streams::new(streams_per_user, metrics.streams.clone()),
            heartbeat: watch::Sender::new(()),
            resync: Notify::new(),
            gaps,
        };
        Self {
            shared: Arc::new(shared),
            gaps: found,
            renderer,
        }
    }

    /// For the store to call.
    pub fn on_change(&self) -> OnChange {
        let shared = Arc::clone(&self.shared);
        Arc::new(move |change| shared.on_change(change))
    }

    /// For the cluster to call.
    pub fn on_peer_change(&self) -> OnPeerChange {
        let shared = Arc::clone(&self.shared);
        Arc::new(move |change| shared.on_peer_change(change))
    }

    /// Starts the hub's tasks. Call it inside the runtime.
    pub fn start(
        self,
        log: Arc<dyn Log>,
        sessions: Arc<dyn Sessions>,
        cluster: Option<Arc<dyn Cluster>>,
    ) -> Hub {
        let hub = Hub(Arc::new(Inner {
            log,
            sessions,
            cluster,
            renderer: self.renderer,
            shared: self.shared,
        }));
        if let Some(cluster) = &hub.0.cluster {
            hub.0.shared.presence.announce_to_others();
            let (hub, cluster) = (hub.clone(), Arc::clone(cluster));
            tokio::spawn(lasting::task("announcing presence", move || {
                hub.clone().announce_loop(Arc::clone(&cluster))
            }));
        }
        let (task, gaps) = (hub.clone(), Arc::new(tokio::sync::Mutex::new(self.gaps)));
        tokio::spawn(lasting::task("filling gaps", move || {
            task.clone().gap_loop(Arc::clone(&gaps))
        }));
        let task = hub.clone();
        tokio::spawn(lasting::task("resync", move || task.clone().resync_loop()));
        let task = hub.clone();
        tokio::spawn(lasting::task("the heartbeat", move || {
            task.clone().heartbeat_loop()
        }));
        let task = hub.clone();
        tokio::spawn(lasting::task("presence", move || {
            task.clone().presence_loop()
        }));
        hub
    }
}

impl Shared {
    fn on_change(&self, change: Change) {
        match change {
            Change::Appended(event) => self.accept(event),
            Change::SessionRevoked(session) => self.streams.end_session(session),
            Change::Resync => self.resync.notify_one(),
        }
    }

    fn on_peer_change(&self, change: PeerChange) {
        match change {
            PeerChange::Typing(room, user) => self.show_typing(&room, &user),
            PeerChange::Arrived(node, room, user) => self.presence.arrived(node, &room, &user),
            PeerChange::Left(node, room, user) => self.presence.left(node, &room, user),
            PeerChange::RemoteRoster(shown) => self.presence.remote_roster(&shown),
            PeerChange::Reannounce => self.presence.reannounce(),
        }
    }

    fn accept(&self, event: Arc<Event>) {
        self.waiters.wake(&event.room);
        // Without subscribers nothing is kept: the next one reads the head from the store.
        let room = self.rooms().get(&event.room).cloned();
        if let Some(room) = room
            && room.accept(event) == Accepted::Gap
        {
            let _ = self.gaps.send(room);
        }
    }

    fn reaches(&self, room: &Arc<Room>, head: Seq) {
        if room.reaches(head) == Accepted::Gap {
            let _ = self.gaps.send(Arc::clone(room));
        }
    }

    fn show_typing(&self, room: &RoomId, user: &User) {
        let room = self.rooms().get(room).cloned();
        if let Some(room) = room {
            room.types(&user.username.shared());
        }
    }

    fn typing(&self) -> MutexGuard<'_, HashMap<(RoomId, UserId), User>> {
        self.typing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn rooms(&self) -> MutexGuard<'_, HashMap<RoomId, Arc<Room>>> {
        // Entries are put in and taken out whole.
        self.rooms.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Hub {
    /// The streams that are open in this process.
    pub fn streams(&self) -> &Streams {
        &self.0.shared.streams
    }

    /// The roster of a room.
    pub fn present(&self, room: &RoomId) -> Arc<Roster> {
        self.0.shared.presence.of(room)
    }

    /// Shows `user` in the room for as long as the guard lives, and a little longer.
    pub fn arrive(&self, room: &RoomId, user: &User) -> PresenceGuard {
        self.0.shared.presence.arrive(room, user)
    }

    /// `user` is typing in the room. Its subscribers hear of it within a second.
    pub fn types(&self, room: &RoomId, user: &User) {
        self.0.shared.show_typing(room, user);
        let mut typing = self.0.shared.typing();
        if self.0.cluster.is_some() && typing.len() < TYPISTS_MAX {
            typing.insert((room.clone(), user.id), user.clone());
        }
    }

    /// Changes when it is time for all streams to show that they are alive.
    pub fn heartbeat(&self) -> watch::Receiver<()> {
        self.0.shared.heartbeat.subscribe()
    }

    /// Waits, for a session, until one of these logs grows. The session and the logs must be looked up
    /// once more after this: earlier changes are not waited for.
    pub fn watch_logs(&self, rooms: Vec<RoomId>, session: &Session) -> LogWait {
        let shared = &self.0.shared;
        shared.waiters.watch(shared.streams.open(session), rooms)
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
        // From here on an append wakes the subscriber; whatever was before is read.
        let following = self.following(room);
        let room = following.room();
        if room.head().is_none() {
            let heads = self.0.log.heads(std::slice::from_ref(&room.id)).await?;
            let head = heads.first().copied().unwrap_or(0);
            self.0.shared.reaches(room, head);
        }
        let stream = self.0.shared.streams.open(session);
        let guard = self.arrive(&room.id, user);
        let log = Arc::clone(&self.0.log);
        Ok(Subscriber::new(log, stream, guard, following, format))
    }

    /// The room, with one more subscriber. Counted before the lock is given back, so that the room is
    /// not forgotten in between.
    fn following(&self, id: &RoomId) -> Following {
        let mut rooms = self.0.shared.rooms();
        let room = rooms.entry(id.clone()).or_insert_with(|| {
            let room = Room::new(id.clone(), self.0.log.epoch(), self.0.renderer);
            room.show(self.0.shared.presence.of(id));
            Arc::new(room)
        });
        Following::new(Arc::clone(room))
    }

    /// Starts a task for each room that misses events.
    async fn gap_loop(self, gaps: Arc<tokio::sync::Mutex<mpsc::UnboundedReceiver<Arc<Room>>>>) {
        let mut gaps = gaps.lock().await;
        while let Some(room) = gaps.recv().await {
            tokio::spawn(self.clone().catch_up(room));
        }
    }

    /// Reads the events that a room misses, once for all its subscribers.
    async fn catch_up(self, room: Arc<Room>) {
        while let Some(after) = room.missing_after() {
            match self.0.log.page_after(&room.id, after, PAGE_MAX).await {
                Ok(events) if !events.is_empty() => {
                    for event in events {
                        room.accept(event);
                    }
                }
                // The event that told of a gap is not in the log: then nothing is missing.
                Ok(_) => return room.give_up_catching_up(),
                Err(error) => {
                    tracing::warn!(room = %room.id, ?error, "cannot read what a room missed");
                    return room.give_up_catching_up();
                }
            }
        }
    }

    /// Finds out by reading what the store may have missed telling. One task: a resync asked for while
    /// one is under way is done once more after it.
    async fn resync_loop(self) {
        loop {
            self.0.shared.resync.notified().await;
            tokio::join!(self.compare_heads(), self.check_sessions());
        }
    }

    /// Ends the streams of sessions whose revocation was missed.
    async fn check_sessions(&self) {
        let open = self.0.shared.streams.sessions();
        if open.is_empty() {
            return;
        }
        match self.0.sessions.live_sessions(&open).await {
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
        match self.0.sessions.find_session(session).await {
            Ok(None) => self.0.shared.streams.end_session(session),
            Ok(Some(_)) => {}
            Err(error) => tracing::warn!(?error, "cannot check a stream’s session"),
        }
    }

    async fn compare_heads(&self) {
        let rooms: Vec<Arc<Room>> = self.0.shared.rooms().values().cloned().collect();
        let ids: Vec<RoomId> = rooms.iter().map(|room| room.id.clone()).collect();
        if ids.is_empty() {
            return;
        }
        match self.0.log.heads(&ids).await {
            Ok(heads) => {
                for (room, head) in rooms.iter().zip(heads) {
                    self.0.shared.reaches(room, head);
                }
            }
            Err(error) => tracing::warn!(?error, "cannot compare the logs’ heads"),
        }
    }

    /// The one timer of all heartbeats.
    async fn heartbeat_loop(self) {
        let mut due = every(HEARTBEAT_EVERY);
        loop {
            due.tick().await;
            self.0.shared.heartbeat.send_replace(());
        }
    }

    /// Announces to the other nodes who is here, and who is typing.
    async fn announce_loop(self, cluster: Arc<dyn Cluster>) {
        let shared = &self.0.shared;
        let mut due = every(PRESENCE_EVERY);
        loop {
            due.tick().await;
            let unannounced = shared.presence.unannounced(Instant::now());
            match cluster.announce(&unannounced.here, &unannounced.gone).await {
                Ok(()) => shared.presence.mark_announced(unannounced, Instant::now()),
                Err(error) => tracing::warn!(?error, "cannot tell other nodes who is here"),
            }
            let typing = std::mem::take(&mut *shared.typing());
            if typing.is_empty() {
                continue;
            }
            let typing = typing.into_iter().map(|((room, _), user)| (room, user));
            let typing: Vec<_> = typing.collect();
            if let Err(error) = cluster.announce_typing(&typing).await {
                // It is over before it could be announced again.
                tracing::debug!(?error, "cannot tell other nodes who is typing");
            }
        }
    }

    async fn presence_loop(self) {
        let shared = &self.0.shared;
        let mut due = every(PRESENCE_EVERY);
        loop {
            due.tick().await;
            for (id, roster) in shared.presence.changed(Instant::now()) {
                let room = shared.rooms().get(&id).cloned();
                if let Some(room) = room {
                    room.show(roster);
                }
            }
            // A room without subscribers is forgotten; the lock keeps new ones out meanwhile.
            shared.rooms().retain(|_, room| {
                room.show_typing();
                room.subscribers() > 0
            });
        }
    }
}

fn every(period: Duration) -> tokio::time::Interval {
    let mut due = interval(period);
    due.set_missed_tick_behavior(MissedTickBehavior::Delay);
    due
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use async_trait::async_trait;
    use tokio::time::timeout;
    use tokio_stream::StreamExt;

    use super::*;
    use crate::domain::{Epoch, NewEvent, Timestamp, Username};
    use crate::live::ByteStream;
    use crate::live::room::tests::{event, renderer};
    use crate::store::Appended;

    /// A log of which not everything is told, and sessions that end.
    #[derive(Default)]
    struct Fake {
        head: Mutex<Seq>,
        reads: Mutex<usize>,
        has_ended: Mutex<bool>,
    }

    #[async_trait]
    impl Log for Fake {
        fn epoch(&self) -> Epoch {
            0
        }

        async fn append(&self, _: &RoomId, _: NewEvent) -> Result<Appended, StoreError> {
            Err(StoreError::Busy)
        }

        async fn reaches(&self, _: &RoomId, seq: Seq) -> Result<bool, StoreError> {
            Ok(seq <= *self.head.lock().unwrap())
        }

        async fn heads(&self, rooms: &[RoomId]) -> Result<Vec<Seq>, StoreError> {
            Ok(vec![*self.head.lock().unwrap(); rooms.len()])
        }

        async fn page_after(
            &self,
            _: &RoomId,
            after: Seq,
            limit: usize,
        ) -> Result<Vec<Arc<Event>>, StoreError> {
            *self.reads.lock().unwrap() += 1;
            let head = *self.head.lock().unwrap();
            Ok((after + 1..=head).take(limit).map(event).collect())
        }

        async fn page_before(
            &self,
            _: &RoomId,
            _: Seq,
            _: usize,
        ) -> Result<Vec<Arc<Event>>, StoreError> {
            Ok(Vec::new())
        }
    }

    #[async_trait]
    impl Sessions for Fake {
        async fn add_session(&self, _: Session) -> Result<(), StoreError> {
            Ok(())
        }

        async fn find_session(&self, _: SessionId) -> Result<Option<(Session, User)>, StoreError> {
            let has_ended = *self.has_ended.lock().unwrap();
            Ok((!has_ended).then(|| (session(), ana())))
        }

        async fn live_sessions(&self, ids: &[SessionId]) -> Result<HashSet<SessionId>, StoreError> {
            let has_ended = *self.has_ended.lock().unwrap();
            Ok(ids.iter().copied().filter(|_| !has_ended).collect())
        }

        async fn revoke_session(&self, _: SessionId) -> Result<(), StoreError> {
            Ok(())
        }
    }

    fn ana() -> User {
        User {
            id: UserId::new(),
            username: Username::parse("ana").unwrap(),
        }
    }

    fn session() -> Session {
        Session {
            id: SessionId::new(),
            user: UserId::new(),
            created_at: Timestamp::now(),
            expires_at: Timestamp::now().after(Duration::from_secs(600)),
        }
    }

    struct Started {
        log: Arc<Fake>,
        hub: Hub,
        on_change: OnChange,
    }

    fn start(head: Seq) -> Started {
        let log = Arc::new(Fake {
            head: Mutex::new(head),
            ..Fake::default()
        });
        let builder = HubBuilder::new(10, &Metrics::default(), renderer());
        let on_change = builder.on_change();
        let hub = builder.start(log.clone(), log.clone(), None);
        Started {
            log,
            hub,
            on_change,
        }
    }

    impl Started {
        async fn stream(&self) -> ByteStream {
            let tea = RoomId::parse("tea").unwrap();
            let subscriber = self
                .hub
                .follow(&tea, Format::Text, &ana(), &session())
                .await;
            ByteStream::new(subscriber.unwrap(), &self.hub)
        }

        /// Appends up to `head`, and tells of it only.
        fn appends_telling(&self, head: Seq, told: &[Seq]) {
            *self.log.head.lock().unwrap() = head;
            for seq in told {
                (self.on_change)(Change::Appended(event(*seq)));
            }
        }
    }

    /// The numbers that a stream brings until it has brought `last`.
    async fn numbers(stream: &mut ByteStream, last: Seq) -> Vec<Seq> {
        let mut numbers = Vec::new();
        while numbers.last() != Some(&last) {
            let next = timeout(Duration::from_secs(5), stream.next()).await;
            let bytes = next.expect("it comes soon").expect("it goes on");
            let text = std::str::from_utf8(&bytes).unwrap();
            numbers.extend(text.lines().map(|line| {
                let (_, number) = line.rsplit_once(' ').unwrap();
                number.parse::<Seq>().unwrap()
            }));
        }
        numbers
    }

    #[tokio::test]
    async fn a_stream_brings_what_comes_after_it_was_opened() {
        let started = start(7);
        let mut stream = started.stream().await;
        started.appends_telling(9, &[8, 8, 9, 8]);
        assert_eq!(numbers(&mut stream, 9).await, [8, 9]);
        assert_eq!(*started.log.reads.lock().unwrap(), 0);
    }

    #[tokio::test]
    async fn what_nobody_told_of_is_read_once_for_all() {
        let started = start(0);
        let mut streams = Vec::new();
        for _ in 0..5 {
            streams.push(started.stream().await);
        }
        started.appends_telling(5, &[1, 4, 5]);
        for stream in &mut streams {
            assert_eq!(numbers(stream, 5).await, [1, 2, 3, 4, 5]);
        }
        assert_eq!(*started.log.reads.lock().unwrap(), 1);
    }

    #[tokio::test]
    async fn a_resync_finds_what_was_missed() {
        let started = start(0);
        let mut stream = started.stream().await;
        started.appends_telling(3, &[]);
        (started.on_change)(Change::Resync);
        assert_eq!(numbers(&mut stream, 3).await, [1, 2, 3]);
        *started.log.has_ended.lock().unwrap() = true;
        (started.on_change)(Change::Resync);
        let ended = timeout(Duration::from_secs(5), stream.next()).await;
        assert!(ended.unwrap().is_none(), "its session was revoked");
    }

    #[tokio::test]
    async fn at_the_end_a_stream_brings_what_was_acknowledged_before() {
        let started = start(0);
        let mut stream = started.stream().await;
        started.appends_telling(2, &[1, 2]);
        started.hub.streams().shut_down();
        assert_eq!(numbers(&mut stream, 2).await, [1, 2]);
        assert!(stream.next().await.is_none());
    }

    #[tokio::test]
    async fn a_room_without_subscribers_is_forgotten() {
        let started = start(0);
        let stream = started.stream().await;
        assert_eq!(started.hub.0.shared.rooms().len(), 1);
        drop(stream);
        tokio::time::sleep(PRESENCE_EVERY * 2).await;
        assert_eq!(started.hub.0.shared.rooms().len(), 0);
    }
}
