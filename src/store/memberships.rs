//! Memberships: the people of a room, with their roles.

use async_trait::async_trait;

use super::StoreError;
use crate::domain::{Level, Role, RoomId, RoomSettings, Seq, User, UserId};

/// The most rooms one user is in, so that nobody's lobby grows without end; and as many direct ones, so that those
/// who start some keep nobody out of rooms.
pub const ROOMS_PER_USER_MAX: usize = 1_000;

/// A user's relation to a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Relation {
    /// There is no such room, or none that they may know of.
    NoRoom,
    /// There is, and they have not entered it.
    NotMember,
    /// There is, and its owners keep them out.
    Banned,
    /// They are in it, and have read it up to this number.
    Member {
        /// 0 when they have read nothing.
        read: Seq,
    },
}

/// The memberships. A caller that goes away does not stop a change.
///
/// Whoever begins or ends one has an event of it in the log, once however often and wherever it is asked for. Such
/// methods answer how far one must see the room to see it; 0 where nothing was to be done.
///
/// # Errors
///
/// [`StoreError::Backend`] from any method; the others where a method says so.
#[async_trait]
pub trait Memberships: Send + Sync {
    /// Makes `user` a member of the room, which is made if there is none: with these settings, or unlisted.
    /// Whoever makes a room owns it.
    ///
    /// # Errors
    ///
    /// [`StoreError::RoomTaken`] when there is one already and it was to be made, or is none that they may know
    /// of; [`StoreError::Banned`]; [`StoreError::TooManyRooms`] when the user would be in one too many.
    async fn join(
        &self,
        room: &RoomId,
        user: &User,
        made: Option<&RoomSettings>,
    ) -> Result<Seq, StoreError>;

    /// Makes the one direct room of these people, each of whom becomes a member, unless it is there.
    ///
    /// # Errors
    ///
    /// [`StoreError::TooManyRooms`] when one of them would be in one direct room too many.
    async fn join_direct(&self, people: &[User]) -> Result<(RoomId, Seq), StoreError>;

    /// Ends the membership of `user`.
    async fn leave(&self, room: &RoomId, user: &User) -> Result<Seq, StoreError>;

    /// Has `by` make `user` a member of a room that is there, whoever may enter it.
    ///
    /// # Errors
    ///
    /// [`StoreError::Banned`] when they were; [`StoreError::TooManyRooms`].
    async fn add(&self, room: &RoomId, by: &User, user: &User) -> Result<Seq, StoreError>;

    /// Has `by` end the membership of `user`.
    async fn remove(&self, room: &RoomId, by: &User, user: &User) -> Result<Seq, StoreError>;

    /// Has `by` keep `user` out from here on, whether they were a member or not.
    async fn ban(&self, room: &RoomId, by: &User, user: &User) -> Result<Seq, StoreError>;

    /// Lets `user` enter again.
    async fn unban(&self, room: &RoomId, user: &User) -> Result<(), StoreError>;

    /// The people who are kept out, by name: at most `limit`.
    async fn banned(&self, room: &RoomId, limit: usize) -> Result<Vec<User>, StoreError>;

    /// The owners of a room: whoever was made one, or else who has been in it longest. None of an empty room, nor
    /// of a direct one.
    async fn owners(&self, room: &RoomId) -> Result<Vec<UserId>, StoreError>;

    /// Gives a member a role; `false` of who is none. Who owned the room by having been in it longest goes on
    /// to own it when another is made an owner.
    async fn set_role(&self, room: &RoomId, user: UserId, role: Role) -> Result<bool, StoreError>;

    /// The relation of `user` to `room`. A membership that has ended elsewhere may hold for up to two
    /// seconds; one that has begun is there at once.
    async fn relation(&self, room: &RoomId, user: &User) -> Result<Relation, StoreError>;

    /// Chooses what counts as unread to `user`; `false` of who is no member.
    async fn set_level(
        &self,
        room: &RoomId,
        user: UserId,
        level: Level,
    ) -> Result<bool, StoreError>;

    /// Notes that `user`, a member, has read the room's log up to `seq`, or its head if that is
    /// lower. It never goes back.
    async fn mark_read(&self, room: &RoomId, user: &User, seq: Seq) -> Result<(), StoreError>;
}
