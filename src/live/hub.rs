//! The hub: which rooms have subscribers in this process, and what wakes them.

mod builder;
mod resync;

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, mpsc, watch};
use tokio::time::{MissedTickBehavior, interval};

pub use self::builder::HubBuilder;
use super::log_wait::{LogWait, LogWaiters};
use super::presence::Presence;
use super::renderer::Renderer;
use super::room::{Accepted, Following, Room};
use super::streams::Streams;
use super::{Format, PresenceGuard, Subscriber};
use crate::cluster::{Cluster, PeerChange};
use crate::domain::{Event, EventKind, RoomId, Roster, Seq, Session, User, UserId};
use crate::store::{Change, Log, Members, Sessions, StoreError};

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

/// The part of a process that wakes streams when a log grows. Cheap to clone.
#[derive(Clone)]
pub struct Hub(Arc<Inner>);

struct Inner {
    log: Arc<dyn Log>,
    sessions: Arc<dyn Sessions>,
    members: Arc<dyn Members>,
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
    typing: Mutex<HashSet<(RoomId, UserId)>>,
    waiters: LogWaiters,
    streams: Streams,
    heartbeat: watch::Sender<()>,
    /// Notified when changes may have been missed.
    resync: Notify,
    gaps: mpsc::UnboundedSender<Arc<Room>>,
    /// Members who have left, as it seems.
    left: mpsc::UnboundedSender<(RoomId, UserId)>,
}

impl Shared {
    fn on_change(&self, change: Change) {
        match change {
            Change::Appended(event) => self.accept(event),
            Change::Entered(user) => self.waiters.wake_user(user),
            Change::SessionRevoked(session) => self.streams.end_session(session),
            Change::Renamed(user) => {
                self.rooms().values().for_each(|room| room.forget());
                self.presence.rename(&user);
            }
            Change::RoomDeleted(room) => self.forget_room(&room),
            Change::Resync => self.resync.notify_one(),
            Change::Distrust => {
                self.rooms().values().for_each(|room| room.forget());
                self.resync.notify_one();
            }
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
        let has_left = self.has_left(&event);
        if has_left {
            let _ = self.left.send((event.room.clone(), event.author.id));
        }
        // Events after the end of a membership wait until the streams by it have ended.
        let Some(room) = room else { return };
        let accepted = match has_left {
            true => room.reaches(event.seq),
            false => room.accept(event),
        };
        if accepted == Accepted::Gap {
            let _ = self.gaps.send(room);
        }
    }

    /// Whether somebody leaves who listens here. They may have come back since, as this may be told late or
    /// twice, so it is asked before their streams end.
    fn has_left(&self, event: &Event) -> bool {
        matches!(event.kind, EventKind::Left { .. })
            && self.streams.has_member(&event.room, event.author.id)
    }

    /// Ends the streams of a room that is no more, with what was kept for them.
    fn forget_room(&self, id: &RoomId) {
        let room = self.rooms().remove(id);
        room.iter().for_each(|room| room.forget());
        self.streams.end_room(id);
        self.waiters.wake(id);
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

    fn typing(&self) -> MutexGuard<'_, HashSet<(RoomId, UserId)>> {
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

    /// Those of some people who are in the room now.
    pub fn present_among(&self, room: &RoomId, people: &[UserId]) -> HashSet<UserId> {
        self.0.shared.presence.among(room, people)
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
            typing.insert((room.clone(), user.id));
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
        shared
            .waiters
            .watch(shared.streams.open(session, None), rooms)
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
        let stream = self.0.shared.streams.open(session, Some(&room.id));
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
            let typing: Vec<_> = typing.into_iter().collect();
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
                room.show_reactions();
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
mod tests;
