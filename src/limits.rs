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
    SignInsToFrom(Target, IpAddr),
    /// Failed sign-ins to one account from networks it was not signed in to from lately. It is
    /// what stops many networks guessing together, and cannot lock its owner out at home.
    SignInsToFromAfar(Target),
    /// Sessions of one user.
    SessionsOf(UserId),
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
            Self::SignInsToFromAfar(_) => (100, Duration::from_secs(10)),
            Self::SessionsOf(_) => (100, Duration::from_secs(5)),
            Self::SignUpsFrom(_) => (40, Duration::from_secs(15)),
            Self::EntriesOf(_) => (60, Duration::from_secs(1)),
            Self::PostsOf(_) => (30, Duration::from_millis(200)),
        }
    }
}

/// Whose password is tried, however the name was spelled.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Target {
    /// An account's.
    Account(UserId),
    /// One that does not exist, by its name as it would be looked up; empty when none could be.
    Nobody(String),
}

/// How long a network counts as an account's own after it was signed in to from there.
const KNOWN_FOR: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// How many keys are remembered. Past that the ones that are full again are forgotten.
const KEYS_MAX: usize = 100_000;

/// All limits of this process. In memory: a restart forgives.
pub struct Limits {
    is_on: bool,
    /// For each key the moment at which its bucket would be full again (the "theoretical arrival
    /// time" of the generic cell rate algorithm).
    full_at: Mutex<HashMap<Limited, Instant>>,
    /// From where an account was signed in to, and when.
    known: Mutex<HashMap<(UserId, IpAddr), Instant>>,
}

impl Limits {
    /// Limits, or, when not `is_on`, none.
    pub fn new(is_on: bool) -> Self {
        Self {
            is_on,
            full_at: Mutex::default(),
            known: Mutex::default(),
        }
    }

    /// Remembers that an account was signed in to from a network.
    pub fn know(&self, user: UserId, network: IpAddr) {
        let now = Instant::now();
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= KEYS_MAX {
            known.retain(|_, at| now.duration_since(*at) < KNOWN_FOR);
        }
        if known.len() < KEYS_MAX {
            known.insert((user, network), now);
        }
    }

    /// Whether it was, lately.
    pub fn is_known(&self, user: UserId, network: IpAddr) -> bool {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let at = known.get(&(user, network));
        at.is_some_and(|at| at.elapsed() < KNOWN_FOR)
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
            if full_at.len() >= KEYS_MAX {
                // More networks than anybody has but an attacker. Memory comes first; hashing,
                // which is what guessing costs us, has a cap of its own.
                full_at.clear();
            }
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
        let key = Limited::SignInsToFromAfar(Target::Nobody("ana".to_owned()));
        for _ in 0..1_000 {
            limits.take(key.clone()).unwrap();
            limits.give_back(&key);
        }
        let off = Limits::new(false);
        assert!((0..1_000).all(|_| off.take(key.clone()).is_ok()));
    }
}
