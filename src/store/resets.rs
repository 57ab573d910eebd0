//! Resets: links by which somebody who has forgotten their password chooses another, once.

use async_trait::async_trait;

use super::StoreError;
use crate::domain::{Reset, User};

/// The resets. A secret is known by its hash alone.
///
/// # Errors
///
/// [`StoreError::Backend`] from any method.
#[async_trait]
pub trait Resets: Send + Sync {
    /// Keeps a reset, in the place of those there are for its user.
    async fn add_reset(&self, reset: Reset) -> Result<(), StoreError>;

    /// The user whose password this secret resets; `None` when it is unknown, used or over.
    async fn reset_for(&self, secret_hash: &str) -> Result<Option<User>, StoreError>;

    /// Spends a reset: gives its user another password and ends all their sessions. `None` when it is spent, over or
    /// none; of those who try at once, one succeeds.
    async fn spend_reset(
        &self,
        secret_hash: &str,
        password_hash: &str,
    ) -> Result<Option<User>, StoreError>;
}
