//! Retries: attempts with backoff, through an election or a cut connection.

use std::time::Duration;

use mongodb::error::{Error, ErrorKind, WriteFailure};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use crate::store::StoreError;
use crate::store::deadline;

/// How long one attempt may take. The driver has no limit of its own on an answer that never
/// comes; it closes the connection of an attempt given up on.
pub(super) const ATTEMPT_MAX: Duration = Duration::from_secs(5);

/// The longest pause after a first failure, and after many.
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_millis(500);

/// How long an attempt gets in any case, however little of the caller's time is left.
const ATTEMPT_MIN: Duration = Duration::from_secs(1);

/// Server errors that pass.
const PASSING_CODES: [i32; 18] = [
    6, 7, 43, 50, 89, 91, 133, 134, 189, 237, 262, 9_001, 10_058, 10_107, 11_600, 11_602, 13_435,
    13_436,
];

/// Does something that may be repeated until it is done or refused, or the caller's time is over.
/// It gets one attempt in any case.
pub(super) async fn retry<T, A>(
    operation: &'static str,
    command: impl Fn() -> A,
) -> Result<T, StoreError>
where
    A: IntoFuture<Output = Result<T, Error>>,
{
    let until = deadline::current();
    let mut backoff = Backoff::new();
    loop {
        let longest = until.max(Instant::now() + ATTEMPT_MIN);
        let failed = match timeout_at(longest, attempt(operation, command())).await {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(failed)) => failed,
            Err(late) => StoreError::backend(operation, late),
        };
        if !is_transient(&failed) || Instant::now() >= until {
            return Err(failed);
        }
        tracing::debug!(operation, error = ?failed, "trying again");
        backoff.pause().await;
    }
}

/// One attempt.
pub(super) async fn attempt<T>(
    operation: &'static str,
    command: impl IntoFuture<Output = Result<T, Error>>,
) -> Result<T, StoreError> {
    match timeout(ATTEMPT_MAX, command.into_future()).await {
        Ok(result) => result.map_err(|error| StoreError::backend(operation, error)),
        Err(late) => Err(StoreError::backend(operation, late)),
    }
}

/// Whether the same may work in a moment: there was no primary, or no answer.
pub(super) fn is_transient(error: &StoreError) -> bool {
    let StoreError::Backend { source, .. } = error else {
        return false;
    };
    let Some(error) = source.downcast_ref::<Error>() else {
        return source.is::<tokio::time::error::Elapsed>();
    };
    match &*error.kind {
        _ if error.contains_label("RetryableWriteError") => true,
        ErrorKind::Io(_)
        | ErrorKind::ServerSelection { .. }
        | ErrorKind::ConnectionPoolCleared { .. }
        | ErrorKind::DnsResolve { .. }
        | ErrorKind::Write(WriteFailure::WriteConcernError(_)) => true,
        // The codes that drivers retry reads on, and those of a read that came before there was a
        // majority to read from (50) or whose cursor went with its primary (43, 237).
        // Source: the drivers' "Retryable Reads" specification.
        ErrorKind::Command(refused) => PASSING_CODES.contains(&refused.code),
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
