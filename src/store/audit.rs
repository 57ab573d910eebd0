//! The audit log: acts of admins, owners and the operator.

use async_trait::async_trait;

use super::{Store, StoreError};
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

/// Does something, after it was noted: nothing is done without an entry. Where it fails another entry says so.
///
/// # Errors
///
/// An error of the act, or of noting it: then it was not done.
pub async fn audited<T, E: From<StoreError>>(
    store: &dyn Store,
    entry: AuditEntry,
    act: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    store.add_audit(&entry).await?;
    let done = act.await;
    if done.is_err() {
        // It may fail for the same reason.
        let _ = store.add_audit(&entry.failed()).await;
    }
    done
}
