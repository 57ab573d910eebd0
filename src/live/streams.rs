//! The registry of open streams, by user and session, and what ends them.

use std::collections::{HashMap, HashSet, VecDeque};
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::{oneshot, watch};

use crate::domain::{RoomId, Session, SessionId, UserId};

/// Why a stream ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CloseReason {
    /// Its session was revoked or is over: coming back needs a new one.
    SignedOut,
    /// Its user is no member of the room any more.
    Removed,
    /// Its user opened one more than they may; it can come back where it was.
    Evicted,
    /// It cannot show a change to what it has shown; the next one begins with that.
    Changed,
    /// The process is shutting down; it can come back where it was.
    ShutDown,
}

/// The open streams, by user, and what may end them. Cheap to clone.
#[derive(Clone)]
pub struct Streams(Arc<Shared>);

struct Shared {
    per_user_max: usize,
    open: Mutex<Open>,
    has_shut_down: watch::Sender<bool>,
    gauge: Gauge,
}

#[derive(Default)]
struct Open {
    last_number: u64,
    /// Oldest first.
    by_user: HashMap<UserId, VecDeque<Handle>>,
}

struct Handle {
    number: u64,
    session: SessionId,
    /// `None` for a wait for all of a user's rooms.
    room: Option<RoomId>,
    end: oneshot::Sender<CloseReason>,
}

/// One open stream; closed when dropped.
pub(super) struct StreamGuard {
    pub(super) session: Session,
    number: u64,
    end: oneshot::Receiver<CloseReason>,
    streams: Streams,
}

impl Streams {
    pub(super) fn new(per_user_max: usize, gauge: Gauge) -> Self {
        Self(Arc::new(Shared {
            per_user_max,
            open: Mutex::default(),
            has_shut_down: watch::Sender::default(),
            gauge,
        }))
    }

    /// How many are open.
    pub fn count(&self) -> usize {
        self.open_streams()
            .by_user
            .values()
            .map(VecDeque::len)
            .sum()
    }

    /// The sessions that have streams open, each once.
    pub(super) fn sessions(&self) -> Vec<SessionId> {
        let open = self.open_streams();
        let handles = open.by_user.values().flatten();
        let mut sessions: Vec<SessionId> = handles.map(|handle| handle.session).collect();
        sessions.sort_unstable();
        sessions.dedup();
        sessions
    }

    /// The memberships by which streams are open, each once.
    pub(super) fn members(&self) -> Vec<(RoomId, UserId)> {
        let mut members = HashSet::new();
        for (user, streams) in &self.open_streams().by_user {
            let rooms = streams.iter().filter_map(|handle| handle.room.clone());
            members.extend(rooms.map(|room| (room, *user)));
        }
        members.into_iter().collect()
    }

    /// Whether a stream of the room is open by this membership.
    pub(super) fn has_member(&self, room: &RoomId, user: UserId) -> bool {
        let open = self.open_streams();
        let mut streams = open.by_user.get(&user).into_iter().flatten();
        streams.any(|handle| handle.room.as_ref() == Some(room))
    }

    /// Registers a stream of the session's user, ending their oldest if they have too many. The
    /// session, and the membership if it is of a room, must be looked up once more after this: an end
    /// from before is not heard.
    pub(super) fn open(&self, session: &Session, room: Option<&RoomId>) -> StreamGuard {
        let (end, ended) = oneshot::channel();
        let mut open = self.open_streams();
        open.last_number += 1;
        let number = open.last_number;
        if *self.0.has_shut_down.borrow() {
            let _ = end.send(CloseReason::ShutDown);
        } else {
            let streams = open.by_user.entry(session.user).or_default();
            if streams.len() >= self.0.per_user_max
                && let Some(oldest) = streams.pop_front()
            {
                let _ = oldest.end.send(CloseReason::Evicted);
            }
            streams.push_back(Handle {
                number,
                session: session.id,
                room: room.cloned(),
                end,
            });
        }
        drop(open);
        self.0.gauge.inc();
        StreamGuard {
            session: *session,
            number,
            end: ended,
            streams: self.clone(),
        }
    }

    /// Ends the streams of a session.
    pub(super) fn end_session(&self, session: SessionId) {
        self.end_where(CloseReason::SignedOut, |_, handle| {
            handle.session == session
        });
    }

    /// Ends a user's streams of a room.
    pub(super) fn end_membership(&self, room: &RoomId, user: UserId) {
        self.end_where(CloseReason::Removed, |of, handle| {
            of == user && handle.room.as_ref() == Some(room)
        });
    }

    /// Ends all streams of a room.
    pub(super) fn end_room(&self, room: &RoomId) {
        self.end_where(CloseReason::Removed, |_, handle| {
            handle.room.as_ref() == Some(room)
        });
    }

    /// Ends all streams, and each that is opened from now on.
    pub fn shut_down(&self) {
        // Before the list is gone through: who opens one waits for the list and sees this then.
        self.0.has_shut_down.send_replace(true);
        self.end_where(CloseReason::ShutDown, |_, _| true);
    }

    /// Waits for that.
    pub async fn have_shut_down(&self) {
        let _ = self.0.has_shut_down.subscribe().wait_for(|has| *has).await;
    }

    fn end_where(&self, ending: CloseReason, ends: impl Fn(UserId, &Handle) -> bool) {
        let mut open = self.open_streams();
        for (user, streams) in &mut open.by_user {
            let ends = |handle: &Handle| ends(*user, handle);
            let (ending_now, staying) = streams.drain(..).partition(ends);
            *streams = staying;
            for handle in Vec::<Handle>::from(ending_now) {
                let _ = handle.end.send(ending);
            }
        }
    }

    fn open_streams(&self) -> MutexGuard<'_, Open> {
        // Handles are put in and taken out whole.
        self.0.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl StreamGuard {
    /// Waits until it is. Not to be called again afterwards.
    pub(super) async fn ended(&mut self) -> CloseReason {
        poll_fn(|cx| self.poll_ended(cx)).await
    }

    pub(super) fn poll_ended(&mut self, cx: &mut Context<'_>) -> Poll<CloseReason> {
        // A handle leaves the list only with a reason, or when this is dropped.
        let end = Pin::new(&mut self.end).poll(cx);
        end.map(|ending| ending.unwrap_or(CloseReason::ShutDown))
    }
}

impl Drop for StreamGuard {
    fn drop(&mut self) {
        self.streams.0.gauge.dec();
        let mut open = self.streams.open_streams();
        if let Some(streams) = open.by_user.get_mut(&self.session.user) {
            streams.retain(|handle| handle.number != self.number);
            if streams.is_empty() {
                open.by_user.remove(&self.session.user);
            }
        }
    }
}
