//! Blocks: people whom somebody does not want to hear from.

use async_trait::async_trait;

use super::StoreError;
use crate::domain::{User, UserId};

/// The most people that one user blocks.
pub const BLOCKS_PER_USER_MAX: usize = 1_000;

/// The blocks.
///
/// # Errors
///
/// [`StoreError::Backend`] from any method.
#[async_trait]
pub trait Blocks: Send + Sync {
    /// Has `by` block somebody, or block them no longer.
    async fn set_block(&self, by: UserId, whom: UserId, is_on: bool) -> Result<(), StoreError>;

    /// The people whom `by` blocks, by name: the first [`BLOCKS_PER_USER_MAX`].
    async fn blocked_by(&self, by: UserId) -> Result<Vec<User>, StoreError>;

    /// Those of some people who block `whom`.
    async fn blocking(&self, people: &[UserId], whom: UserId) -> Result<Vec<UserId>, StoreError>;
}
