//! The audit log of what admins and owners do.

use async_trait::async_trait;

use super::StoreError;
use crate::domain::{AuditEntry, AuditId};

/// The audit log. What is in it stays.
///
/// # Errors
///
/// [`StoreError::Backend`] from any method.
#[async_trait]
pub trait Audit: Send + Sync {
    /// Adds an entry.
    async fn add_audit(&self, entry: &AuditEntry) -> Result<(), StoreError>;

    /// The entries before this one, the newest first: at most `limit`.
    async fn audit(
        &self,
        before: Option<AuditId>,
        limit: usize,
    ) -> Result<Vec<AuditEntry>, StoreError>;
}
