//! Remembers which sessions were noted as used a moment ago, so that not every request is a write.

use std::num::NonZero;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use lru::LruCache;

use crate::domain::SessionId;

/// The least time between two notes that a session is used.
const NOTE_EVERY: Duration = Duration::from_secs(10 * 60);

/// The most sessions remembered: a large server's.
const NOTED_MAX: NonZero<usize> = NonZero::new(10_000).expect("not zero");

/// The moment each session was last noted by this process.
pub struct NotedSessions(Mutex<LruCache<SessionId, Instant>>);

impl Default for NotedSessions {
    fn default() -> Self {
        let mut noted = LruCache::unbounded();
        noted.resize(NOTED_MAX);
        Self(Mutex::new(noted))
    }
}

impl NotedSessions {
    /// Whether it is time to note that a session is used; it counts as noted then.
    pub fn is_due(&self, session: SessionId, now: Instant) -> bool {
        let mut noted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_noted = |at: &Instant| now.saturating_duration_since(*at) < NOTE_EVERY;
        if noted.get(&session).is_some_and(is_noted) {
            return false;
        }
        noted.put(session, now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_noted_now_and_then() {
        let (noted, session) = (NotedSessions::default(), SessionId::new());
        let now = Instant::now();
        assert!(noted.is_due(session, now));
        assert!(!noted.is_due(session, now + NOTE_EVERY / 2));
        assert!(noted.is_due(session, now + NOTE_EVERY));
        assert!(noted.is_due(SessionId::new(), now));
    }
}
