//! Reports of messages.

use async_trait::async_trait;

use super::StoreError;
use crate::domain::{Report, ReportId};

/// The reports that nobody has closed.
///
/// # Errors
///
/// [`StoreError::Backend`] from any method.
#[async_trait]
pub trait Reports: Send + Sync {
    /// Keeps a report, in the place of one by the same person about the same message.
    async fn add_report(&self, report: Report) -> Result<(), StoreError>;

    /// The reports, the newest first: at most `limit`.
    async fn reports(&self, limit: usize) -> Result<Vec<Report>, StoreError>;

    /// How many there are.
    async fn count_reports(&self) -> Result<u64, StoreError>;

    /// Ends a report; `false` when there is none.
    async fn close_report(&self, id: ReportId) -> Result<bool, StoreError>;
}
