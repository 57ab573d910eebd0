//! Log waits: requests that are answered when a log grows.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::streams::StreamGuard;
use crate::domain::{RoomId, UserId};

/// With more waiters than that nobody is woken for a room: each would read all of their rooms for
/// each of its messages. They hear of it when their wait is over.
const CROWD: usize = 200;

/// Requests that wait for any of several logs to grow, or for their user to be in one more room, without reading
/// them: for unread counts.
#[derive(Clone, Default)]
pub(super) struct LogWaiters(Arc<Mutex<Waits>>);

#[derive(Default)]
struct Waits {
    last_number: u64,
    by_room: HashMap<RoomId, HashMap<u64, Arc<Notify>>>,
    by_user: HashMap<UserId, HashMap<u64, Arc<Notify>>>,
}

/// One wait for any of several logs to grow. It ends with its session, as a stream does.
pub struct LogWait {
    stream: StreamGuard,
    rooms: Vec<RoomId>,
    number: u64,
    has_grown: Arc<Notify>,
    waiters: LogWaiters,
}

impl LogWaiters {
    /// Waits for what is appended from now on.
    pub(super) fn watch(&self, stream: StreamGuard, rooms: Vec<RoomId>) -> LogWait {
        let has_grown = Arc::new(Notify::new());
        let mut waits = self.waits();
        waits.last_number += 1;
        let number = waits.last_number;
        for room in &rooms {
            let of_room = waits.by_room.entry(room.clone()).or_default();
            of_room.insert(number, Arc::clone(&has_grown));
        }
        let of_user = waits.by_user.entry(stream.session.user).or_default();
        of_user.insert(number, Arc::clone(&has_grown));
        drop(waits);
        LogWait {
            stream,
            rooms,
            number,
            has_grown,
            waiters: self.clone(),
        }
    }

    /// The room's log has grown.
    pub(super) fn wake(&self, room: &RoomId) {
        if let Some(of_room) = self.waits().by_room.get(room)
            && of_room.len() <= CROWD
        {
            // Kept for who does not wait yet, so that nothing falls in between.
            of_room.values().for_each(|waiter| waiter.notify_one());
        }
    }

    /// The user is in another room.
    pub(super) fn wake_user(&self, user: UserId) {
        for waiter in self.waits().by_user.get(&user).into_iter().flatten() {
            waiter.1.notify_one();
        }
    }

    fn waits(&self) -> MutexGuard<'_, Waits> {
        // Entries are put in and taken out whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LogWait {
    /// Waits until one of the logs has grown since this was made, or the session is over.
    pub async fn changed(&mut self) {
        tokio::select! {
            _ = self.stream.ended() => {}
            () = self.has_grown.notified() => {}
        }
    }
}

impl Drop for LogWait {
    fn drop(&mut self) {
        let mut waits = self.waiters.waits();
        for room in &self.rooms {
            if let Some(of_room) = waits.by_room.get_mut(room) {
                of_room.remove(&self.number);
                if of_room.is_empty() {
                    waits.by_room.remove(room);
                }
            }
        }
        let user = self.stream.session.user;
        if let Some(of_user) = waits.by_user.get_mut(&user) {
            of_user.remove(&self.number);
            if of_user.is_empty() {
                waits.by_user.remove(&user);
            }
        }
    }
}
