//! Rooms, and who is a member of them.

use std::sync::Arc;

use async_trait::async_trait;

use super::{Freshness, StoreError};
use crate::domain::{RoomId, RoomSummary, Seq, Timestamp, User};

/// The most rooms one user is in, so that nobody's lobby grows without end.
pub const ROOMS_PER_USER_MAX: usize = 1_000;

/// A user's relation to a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// There is no such room.
    NoRoom,
    /// There is, and they have not entered it.
    NotMember,
    /// They are in it, and have read it up to this number.
    Member {
        /// 0 when they have read nothing.
        read: Seq,
    },
}

/// The rooms and their members. A caller that goes away does not stop a join.
///
/// # Errors
///
/// [`StoreError::Backend`] from any method; the others where a method says so.
#[async_trait]
pub trait Rooms: Send + Sync {
    /// Makes the room if there is none, and `user` a member; the first time, a `joined` event is
    /// appended, once however often and wherever this is called. How far one must see the room to see
    /// it is answered; 0 for who was a member.
    ///
    /// # Errors
    ///
    /// [`StoreError::TooManyRooms`] when the user would be in one too many.
    async fn join(&self, room: &RoomId, user: &User) -> Result<Seq, StoreError>;

    /// Ends the membership of `user` and appends a `left` event, once however often and wherever this is
    /// called. How far one must see the room to see it is answered; 0 for who was no member.
    async fn leave(&self, room: &RoomId, user: &User) -> Result<Seq, StoreError>;

    /// The relation of `user` to `room`. A membership that has ended elsewhere may hold for up to two
    /// seconds; one that has begun is there at once.
    async fn access(&self, room: &RoomId, user: &User) -> Result<Access, StoreError>;

    /// The rooms `user` is a member of, those with the newest message first.
    async fn rooms_of(
        &self,
        user: &User,
        freshness: &Freshness,
    ) -> Result<Arc<[RoomSummary]>, StoreError>;

    /// Notes that `user`, a member, has read the room's log up to `seq`, or its head if that is
    /// lower. It never goes back.
    async fn mark_read(&self, room: &RoomId, user: &User, seq: Seq) -> Result<(), StoreError>;
}

/// The lobby's order: the room with the newest message first, silent rooms last, by name. A message
/// dated by a clock that was ahead counts as one of this moment.
pub(super) fn newest_first(rooms: &mut [RoomSummary]) {
    let now = Timestamp::now();
    rooms.sort_by(|a, b| {
        let newest = |room: &RoomSummary| room.last.as_ref().map(|event| event.at.min(now));
        newest(b).cmp(&newest(a)).then_with(|| a.room.cmp(&b.room))
    });
}
