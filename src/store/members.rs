//! The members of a room, as people.

use std::collections::HashSet;

use async_trait::async_trait;

use super::StoreError;
use crate::domain::{Person, RoomId, User, UserId};

/// So many people are looked through for a name: a room's, if it has no more, or else the first of those who
/// are called so in whichever room.
pub const LOOKED_THROUGH: usize = 2_000;

/// Looks members up.
///
/// # Errors
///
/// [`StoreError::Backend`] from any method.
#[async_trait]
pub trait Members: Send + Sync {
    /// The members who go by these keys ([`Username::key`](crate::domain::Username::key)).
    async fn members_named(
        &self,
        room: &RoomId,
        keys: Vec<String>,
    ) -> Result<Vec<User>, StoreError>;

    /// The members whose keys begin so, in the order of these: at most `limit`, of the [`LOOKED_THROUGH`].
    async fn members_called(
        &self,
        room: &RoomId,
        prefix: String,
        limit: usize,
    ) -> Result<Vec<User>, StoreError>;

    /// The same with when they joined, and only those whose keys come after this one.
    async fn people(
        &self,
        room: &RoomId,
        prefix: String,
        after: String,
        limit: usize,
    ) -> Result<Vec<Person>, StoreError>;

    /// The pairs that are memberships now.
    async fn members_among(
        &self,
        pairs: &[(RoomId, UserId)],
    ) -> Result<HashSet<(RoomId, UserId)>, StoreError>;

    /// How many members there are.
    async fn count_members(&self, room: &RoomId) -> Result<u64, StoreError>;
}
