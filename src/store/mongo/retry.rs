//! Trying again through an election or a cut connection.

use std::time::Duration;

use mongodb::error::{Error, ErrorKind, WriteFailure};
use tokio::time::{Instant, sleep, timeout};

use crate::store::StoreError;
use crate::store::patience::deadline;

/// How long one attempt may take. The driver has no limit of its own on an answer that never
/// comes; it closes the connection of an attempt given up on.
pub(super) const ATTEMPT_MAX: Duration = Duration::from_secs(5);

/// The longest pause after a first failure, and after many.
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_millis(500);

/// Does something that may be repeated until it is done or refused, or the caller's time is over.
/// It gets one attempt in any case.
pub(super) async fn trying<T, A>(
    operation: &'static str,
    attempt: impl Fn() -> A,
) -> Result<T, StoreError>
where
    A: IntoFuture<Output = Result<T, Error>>,
{
    let until = deadline();
    let mut backoff = Backoff::new();
    loop {
        let failed = match once(operation, attempt()).await {
            Ok(value) => return Ok(value),
            Err(failed) => failed,
        };
        if !is_passing(&failed) || Instant::now() >= until {
            return Err(failed);
        }
        tracing::debug!(operation, error = ?failed, "trying again");
        backoff.pause().await;
    }
}

/// One attempt.
pub(super) async fn once<T>(
    operation: &'static str,
    attempt: impl IntoFuture<Output = Result<T, Error>>,
) -> Result<T, StoreError> {
    match timeout(ATTEMPT_MAX, attempt.into_future()).await {
        Ok(result) => result.map_err(|error| StoreError::backend(operation, error)),
        Err(late) => Err(StoreError::backend(operation, late)),
    }
}

/// Whether the same may work in a moment: there was no primary, or no answer.
pub(super) fn is_passing(error: &StoreError) -> bool {
    let StoreError::Backend { source, .. } = error else {
        return false;
    };
    let Some(error) = source.downcast_ref::<Error>() else {
        return source.is::<tokio::time::error::Elapsed>();
    };
    match &*error.kind {
        ErrorKind::Io(_)
        | ErrorKind::ServerSelection { .. }
        | ErrorKind::ConnectionPoolCleared { .. }
        | ErrorKind::DnsResolve { .. }
        | ErrorKind::Write(WriteFailure::WriteConcernError(_)) => true,
        // The codes of the driver specifications' "retryable errors", and of reads that came
        // before there was a majority to read from: ReadConcernMajorityNotAvailableYet, MaxTimeMSExpired.
        ErrorKind::Command(refused) => matches!(
            refused.code,
            6 | 7
                | 50
                | 89
                | 91
                | 134
                | 189
                | 262
                | 9_001
                | 10_107
                | 11_600
                | 11_602
                | 13_435
                | 13_436
        ),
        _ => false,
    }
}

/// Growing pauses with jitter, so that racing nodes do not race again in step.
pub(super) struct Backoff {
    attempt: u32,
}

impl Backoff {
    pub(super) fn new() -> Self {
        Self { attempt: 0 }
    }

    /// Up to half a second.
    pub(super) async fn pause(&mut self) {
        let longest = PAUSE_MIN
            .saturating_mul(1 << self.attempt.min(10))
            .min(PAUSE_MAX);
        self.attempt += 1;
        let fraction = f64::from(getrandom::u32().unwrap_or(u32::MAX)) / f64::from(u32::MAX);
        sleep(longest.mul_f64(fraction)).await;
    }
}
