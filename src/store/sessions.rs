//! Sessions: who is signed in.

use std::collections::HashSet;

use async_trait::async_trait;

#[cfg(doc)]
use super::Change;
use super::StoreError;
use crate::domain::{PasswordChange, SeenSession, Session, SessionId, SignIn, User, UserId};

/// The sessions. A caller that goes away does not stop a revocation.
///
/// # Errors
///
/// [`StoreError::Backend`] from any method; the others where a method says so.
#[async_trait]
pub trait Sessions: Send + Sync {
    /// Keeps a new session; `false`, and nothing is kept, when the password has been changed since it was checked, or the
    /// account is deactivated.
    async fn add_session(&self, sign_in: SignIn) -> Result<bool, StoreError>;

    /// The sessions of a user that are neither revoked nor over, those used last first.
    async fn sessions_of(&self, user: UserId) -> Result<Vec<SeenSession>, StoreError>;

    /// Notes that a session is used now, from this address.
    async fn note_seen(&self, id: SessionId, address: &str) -> Result<(), StoreError>;

    /// Ends all sessions of a user, or all but one; [`Change::SessionRevoked`] follows for each.
    async fn revoke_sessions(&self, user: UserId, but: Option<SessionId>)
    -> Result<(), StoreError>;

    /// Changes a password, and ends what was begun with the one before: the resets, and the sessions but one.
    /// False, and nothing done, where it is no more the one that was checked.
    async fn set_password(&self, change: PasswordChange) -> Result<bool, StoreError>;

    /// A session that is neither revoked nor over, with its user. One that was revoked elsewhere may be
    /// found for up to two seconds.
    async fn find_session(&self, id: SessionId) -> Result<Option<(Session, User)>, StoreError>;

    /// The sessions among `ids` that are neither revoked nor over.
    async fn live_sessions(&self, ids: &[SessionId]) -> Result<HashSet<SessionId>, StoreError>;

    /// Ends a session for ever; [`Change::SessionRevoked`] follows. Unknown ids are ignored.
    async fn revoke_session(&self, id: SessionId) -> Result<(), StoreError>;
}
