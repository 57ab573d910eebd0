//! Rate limits: how often somebody may do what costs others something.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::domain::UserId;

/// What is limited, and for whom.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Limited {
    /// Failed sign-ins from one network.
    SignInsFrom(IpAddr),
    /// Failed sign-ins to one account from one network.
    SignInsToFrom(String, IpAddr),
    /// Failed sign-ins to one account from anywhere. Wide, so that a stranger who guesses slows
    /// the owner down only in the extreme.
    SignInsTo(String),
    /// New accounts from one network; a class of thirty behind one address signs up in a minute.
    SignUpsFrom(IpAddr),
    /// Rooms entered, and so perhaps made, by one user.
    EntriesOf(UserId),
    /// Messages of one user. Nobody types five a second for long.
    PostsOf(UserId),
}

impl Limited {
    /// How many at once, and how long until there is room for one more.
    fn rate(&self) -> (u32, Duration) {
        match self {
            Self::SignInsFrom(_) => (60, Duration::from_secs(2)),
            Self::SignInsToFrom(..) => (10, Duration::from_secs(20)),
            Self::SignInsTo(_) => (100, Duration::from_secs(10)),
            Self::SignUpsFrom(_) => (40, Duration::from_secs(15)),
            Self::EntriesOf(_) => (60, Duration::from_secs(1)),
            Self::PostsOf(_) => (30, Duration::from_millis(200)),
        }
    }
}

/// How many keys are remembered. Past that the ones that are full again are forgotten.
const KEYS_MAX: usize = 100_000;

/// All limits of this process. In memory: a restart forgives.
pub struct Limits {
    is_on: bool,
    /// For each key the moment at which its bucket would be full again (the "theoretical arrival
    /// time" of the generic cell rate algorithm).
    full_at: Mutex<HashMap<Limited, Instant>>,
}

impl Limits {
    /// Limits, or, when not `is_on`, none.
    pub fn new(is_on: bool) -> Self {
        Self {
            is_on,
            full_at: Mutex::default(),
        }
    }

    /// Counts one.
    ///
    /// # Errors
    ///
    /// How long until there is room for one more; nothing was counted then.
    pub fn take(&self, key: Limited) -> Result<(), Duration> {
        if !self.is_on {
            return Ok(());
        }
        let (burst, every) = key.rate();
        let now = Instant::now();
        let mut full_at = self.full_at.lock().unwrap_or_else(PoisonError::into_inner);
        if full_at.len() >= KEYS_MAX {
            full_at.retain(|_, at| *at > now);
        }
        let at = full_at.get(&key).copied().unwrap_or(now).max(now) + every;
        let room_at = at - every * burst;
        if room_at > now {
            return Err(room_at - now);
        }
        full_at.insert(key, at);
        Ok(())
    }

    /// Counts one less: it turned out not to be what is limited.
    pub fn give_back(&self, key: &Limited) {
        let (_, every) = key.rate();
        let mut full_at = self.full_at.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = full_at.get_mut(key) {
            *at -= every;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_and_then_it_is_one_at_a_time() {
        let limits = Limits::new(true);
        let ana = UserId::new();
        let post = || limits.take(Limited::PostsOf(ana));
        for _ in 0..30 {
            post().unwrap();
        }
        let wait = post().unwrap_err();
        assert!(wait <= Duration::from_millis(200), "{wait:?}");
        assert!(limits.take(Limited::PostsOf(UserId::new())).is_ok());
        std::thread::sleep(wait);
        post().unwrap();
        assert!(post().is_err());
    }

    #[test]
    fn what_is_given_back_was_not_taken() {
        let limits = Limits::new(true);
        let key = Limited::SignInsTo("ana".to_owned());
        for _ in 0..1_000 {
            limits.take(key.clone()).unwrap();
            limits.give_back(&key);
        }
        let off = Limits::new(false);
        assert!((0..1_000).all(|_| off.take(key.clone()).is_ok()));
    }
}
