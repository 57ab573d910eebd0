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
    /// Keeps a report. Of one person about one message there is one: another replaces its reason.
    async fn add_report(&self, report: Report) -> Result<(), StoreError>;

    /// The reports, the newest first: at most `limit` of those before this one.
    async fn reports(
        &self,
        before: Option<ReportId>,
        limit: usize,
    ) -> Result<Vec<Report>, StoreError>;

    /// The report of this id.
    async fn report(&self, id: ReportId) -> Result<Option<Report>, StoreError>;

    /// The number of reports.
    async fn count_reports(&self) -> Result<u64, StoreError>;

    /// Ends a report; `false` when there is none.
    async fn close_report(&self, id: ReportId) -> Result<bool, StoreError>;
}
