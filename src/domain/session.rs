//! Sessions.

use super::{SessionId, Timestamp, UserId};

/// One sign-in of one user, until it is revoked or `expires_at` has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Session {
    /// The `sid` of its token.
    pub id: SessionId,
    /// The `sub` of its token.
    pub user: UserId,
    /// When it was made: the token's `iat`.
    pub created_at: Timestamp,
    /// When it ends by itself: the token's `exp`.
    pub expires_at: Timestamp,
}
