//! Sessions: who is signed in.

use std::collections::HashSet;

use async_trait::async_trait;

#[cfg(doc)]
use super::Change;
use super::StoreError;
use crate::domain::{Session, SessionId, User};

/// The sessions. A caller that goes away does not stop a revocation.
///
/// # Errors
///
/// [`StoreError::Backend`] from any method; the others where a method says so.
#[async_trait]
pub trait Sessions: Send + Sync {
    /// Keeps a new session.
    async fn add_session(&self, session: Session) -> Result<(), StoreError>;

    /// A session that is neither revoked nor over, with its user. One that was revoked elsewhere may be
    /// found for up to two seconds.
    async fn find_session(&self, id: SessionId) -> Result<Option<(Session, User)>, StoreError>;

    /// The sessions among `ids` that are neither revoked nor over.
    async fn live_sessions(&self, ids: &[SessionId]) -> Result<HashSet<SessionId>, StoreError>;

    /// Ends a session for ever; [`Change::SessionRevoked`] follows. Unknown ids are ignored.
    async fn revoke_session(&self, id: SessionId) -> Result<(), StoreError>;
}
