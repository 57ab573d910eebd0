//! Resets: a link, once, to choose another password.

use super::{Timestamp, UserId};

/// A link by which a user may choose another password, once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reset {
    /// Its key in the store: the [`hash`](super::LinkSecret::hash) of the secret in its address.
    pub secret_hash: String,
    /// The account whose password it resets.
    pub user: UserId,
    /// The end of its life.
    pub expires_at: Timestamp,
}
