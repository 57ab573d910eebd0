//! Catching up: events between two that it was told of, and ends of sessions and memberships. They
//! are found by reading.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::{Hub, Room};
use crate::domain::{RoomId, SessionId, UserId};
use crate::store::{PAGE_MAX, StoreError};

impl Hub {
    /// Starts a task for each room that misses events.
    pub(super) async fn gap_loop(
        self,
        gaps: Arc<tokio::sync::Mutex<mpsc::UnboundedReceiver<Arc<Room>>>>,
    ) {
        let mut gaps = gaps.lock().await;
        while let Some(room) = gaps.recv().await {
            tokio::spawn(self.clone().catch_up(room));
        }
    }

    /// Reads the events that a room misses, once for all its subscribers. Whoever leaves by one of them is sent
    /// none of those after it: their streams end before any is taken.
    async fn catch_up(self, room: Arc<Room>) {
        while let Some(after) = room.missing_after() {
            let token = room.token();
            match self.0.log.page_after(&room.id, after, PAGE_MAX).await {
                Ok(events) if !events.is_empty() => {
                    let left = events.iter().filter(|event| self.0.shared.has_left(event));
                    let left = left.map(|event| (event.room.clone(), event.author.id));
                    if let Err(error) = self.end_memberships(left.collect()).await {
                        tracing::warn!(room = %room.id, ?error, "cannot check who has left");
                        return room.give_up_catching_up();
                    }
                    room.accept_read(events, token);
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
    pub(super) async fn resync_loop(self) {
        loop {
            self.0.shared.resync.notified().await;
            tokio::join!(
                self.compare_heads(),
                self.check_sessions(),
                self.check_memberships()
            );
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

    /// Ends the streams of memberships whose end was missed.
    async fn check_memberships(&self) {
        let open = self.0.shared.streams.members();
        if let Err(error) = self.end_memberships(open).await {
            tracing::warn!(?error, "cannot check the streams’ memberships");
        }
    }

    /// Ends the streams by memberships that there are no longer.
    async fn end_memberships(&self, open: Vec<(RoomId, UserId)>) -> Result<(), StoreError> {
        if open.is_empty() {
            return Ok(());
        }
        let members = self.0.members.members_among(&open).await?;
        for (room, user) in open.iter().filter(|one| !members.contains(*one)) {
            self.0.shared.streams.end_membership(room, *user);
        }
        Ok(())
    }

    /// Ends the streams of members who have left.
    pub(super) async fn left_loop(
        self,
        left: Arc<tokio::sync::Mutex<mpsc::UnboundedReceiver<(RoomId, UserId)>>>,
    ) {
        const AT_ONCE: usize = 256;
        let mut left = left.lock().await;
        let mut some = Vec::new();
        while left.recv_many(&mut some, AT_ONCE).await > 0 {
            if let Err(error) = self.end_memberships(std::mem::take(&mut some)).await {
                tracing::warn!(?error, "cannot check who has left");
                // All of them are asked about then.
                self.0.shared.resync.notify_one();
            }
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
}
