//! How near a node is to what the others have written: until when it has heard everything.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use super::tail::STALLED_AFTER;
use crate::store::StoreError;

/// How old what a node keeps may be for it to be answered: two seconds, less what an answer may take.
const TRUSTED_FOR: Duration = Duration::from_millis(1_600);

/// A stream that is late with saying "nothing new". Revocations end streams within two seconds.
const LATE_AFTER: Duration = Duration::from_millis(1_200);

/// Until when everything was heard.
pub(super) struct Liveness {
    epoch: Instant,
    /// Milliseconds after `epoch`; 0 before anything was heard.
    heard_ms: AtomicU64,
    /// Whether "everything" can be said at all: the router of a sharded cluster tells of some shards
    /// before others.
    is_provable: bool,
}

impl Liveness {
    pub(super) fn new(is_provable: bool) -> Self {
        Self {
            epoch: Instant::now(),
            heard_ms: AtomicU64::new(0),
            is_provable,
        }
    }

    /// Everything that was durable at `moment` has been heard and taken in.
    pub(super) fn has_heard_until(&self, moment: Instant) {
        let moment = moment.saturating_duration_since(self.epoch).as_millis();
        let moment = u64::try_from(moment).unwrap_or(u64::MAX);
        self.heard_ms.fetch_max(moment, Ordering::Relaxed);
    }

    /// Fails while other nodes' messages come only with the sweep.
    pub(super) fn check(&self) -> Result<(), StoreError> {
        match self.age(Instant::now()) > STALLED_AFTER {
            true => Err(StoreError::backend(
                "follow the change stream",
                "it has stalled",
            )),
            false => Ok(()),
        }
    }

    /// Whether what the node keeps is new enough to be answered.
    pub(super) fn is_trusted(&self) -> bool {
        self.is_trusted_at(Instant::now())
    }

    fn is_trusted_at(&self, now: Instant) -> bool {
        self.is_provable && self.has_heard() && self.age(now) <= TRUSTED_FOR
    }

    pub(super) fn is_late(&self) -> bool {
        self.age(Instant::now()) > LATE_AFTER
    }

    fn has_heard(&self) -> bool {
        self.heard_ms.load(Ordering::Relaxed) > 0
    }

    fn age(&self, now: Instant) -> Duration {
        let heard = Duration::from_millis(self.heard_ms.load(Ordering::Relaxed));
        now.saturating_duration_since(self.epoch)
            .saturating_sub(heard)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_trusted_for_less_than_two_seconds() {
        let liveness = Liveness::new(true);
        let after = |ms| liveness.epoch + Duration::from_millis(ms);
        assert!(!liveness.is_trusted_at(after(0)), "nothing was heard yet");
        // Asked for at 1,000 and answered later.
        liveness.has_heard_until(after(1_000));
        assert!(liveness.is_trusted_at(after(1_000)) && liveness.is_trusted_at(after(2_500)));
        assert!(!liveness.is_trusted_at(after(2_700)));
        // An answer that was overtaken.
        liveness.has_heard_until(after(3_000));
        liveness.has_heard_until(after(2_000));
        assert!(liveness.is_trusted_at(after(4_500)));
        let router = Liveness::new(false);
        router.has_heard_until(router.epoch + Duration::from_secs(1));
        assert!(!router.is_trusted());
    }
}
