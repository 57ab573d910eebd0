//! Rate limits' buckets, kept for all nodes together.

use std::time::Duration;

use async_trait::async_trait;

use super::StoreError;
use crate::domain::Rate;

/// A bucket of a rate limit, by its key: it holds `rate.burst` at most, and one more comes every
/// `rate.every`.
#[derive(Debug, Clone)]
pub struct Bucket {
    /// Which one.
    pub key: String,
    /// How large it is, and how fast it fills.
    pub rate: Rate,
}

/// Counts for all nodes together, which outlive a restart: rate limits by the generic cell rate
/// algorithm, and facts that are true for a while.
#[async_trait]
pub trait Buckets: Send + Sync {
    /// Takes one from each of these buckets; a new one is full. If one of them is empty, says how long
    /// until it is not; some of the others may have been taken from then.
    async fn take(&self, buckets: &[Bucket]) -> Result<Result<(), Duration>, StoreError>;

    /// Puts one back into each.
    async fn refund(&self, buckets: &[Bucket]) -> Result<(), StoreError>;

    /// Remembers a fact for a while.
    async fn remember(&self, key: &str, lasts: Duration) -> Result<(), StoreError>;

    /// Whether the fact is remembered.
    async fn is_remembered(&self, key: &str) -> Result<bool, StoreError>;
}
