//! Rate limits: how often somebody may do what costs others something.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;

use crate::domain::{Rate, UserId};
use crate::store::{Buckets, StoreError};

/// What is limited, and for whom.
#[derive(Debug, Clone)]
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
    /// Rooms that one user asked for and is not in: guesses at what rooms there are.
    MissesOf(UserId),
    /// How often one user says how far they have read.
    ReadingOf(UserId),
    /// How often one user says that they are typing.
    TypingOf(UserId),
    /// Messages of one user. Nobody types five a second for long.
    PostsOf(UserId),
}

impl Limited {
    fn rate(&self) -> Rate {
        let (burst, every) = match self {
            Self::SignInsFrom(_) => (60, Duration::from_secs(2)),
            Self::SignInsToFrom(..) => (10, Duration::from_secs(20)),
            Self::SignInsToFromAfar(_) => (100, Duration::from_secs(10)),
            Self::SessionsOf(_) => (100, Duration::from_secs(5)),
            Self::SignUpsFrom(_) => (40, Duration::from_secs(15)),
            Self::EntriesOf(_) => (60, Duration::from_secs(1)),
            Self::MissesOf(_) => (60, Duration::from_secs(1)),
            Self::ReadingOf(_) => (30, Duration::from_millis(500)),
            Self::TypingOf(_) => (10, Duration::from_secs(2)),
            Self::PostsOf(_) => (30, Duration::from_millis(200)),
        };
        Rate { burst, every }
    }

    /// Guessing at three nodes must not be three times as fast. The others limit what a node has
    /// to do, so each node counts its own.
    fn is_shared(&self) -> bool {
        matches!(
            self,
            Self::SignInsFrom(_) | Self::SignInsToFrom(..) | Self::SignInsToFromAfar(_)
        )
    }

    /// Which bucket it is. What somebody typed stands last, so that it cannot pass for another.
    fn key(&self) -> String {
        match self {
            Self::SignInsFrom(network) => format!("sign-ins from {network}"),
            Self::SignInsToFrom(target, network) => format!("sign-ins from {network} to {target}"),
            Self::SignInsToFromAfar(target) => format!("sign-ins from afar to {target}"),
            Self::SessionsOf(user) => format!("sessions of {user}"),
            Self::SignUpsFrom(network) => format!("sign-ups from {network}"),
            Self::EntriesOf(user) => format!("entries of {user}"),
            Self::MissesOf(user) => format!("misses of {user}"),
            Self::ReadingOf(user) => format!("reading of {user}"),
            Self::TypingOf(user) => format!("typing of {user}"),
            Self::PostsOf(user) => format!("posts of {user}"),
        }
    }
}

/// Whose password is tried, however the name was spelled.
#[derive(Debug, Clone)]
pub enum Target {
    /// An account's.
    Account(UserId),
    /// One that does not exist, by its name as it would be looked up; empty when none could be.
    Nobody(String),
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Account(user) => write!(f, "account {user}"),
            Self::Nobody(name) => write!(f, "nobody {name}"),
        }
    }
}

/// Why something was not counted.
#[derive(Debug)]
pub enum NotCounted {
    /// There is room for one more after this.
    TooMany(Duration),
    /// The store that counts for all nodes did not say.
    Unknown(StoreError),
}

impl From<StoreError> for NotCounted {
    fn from(error: StoreError) -> Self {
        Self::Unknown(error)
    }
}

/// How long a network counts as an account's own after it was signed in to from there.
const KNOWN_FOR: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// How many keys are remembered. Past that the ones that are full again are forgotten.
const KEYS_MAX: usize = 100_000;

/// All limits, as this process sees them.
pub struct Limits {
    is_on: bool,
    own: Memory,
    /// Those that all nodes share, where there may be other nodes.
    shared: Option<Arc<dyn Buckets>>,
}

impl Limits {
    /// Limits, or, when not `is_on`, none.
    pub fn new(is_on: bool, shared: Option<Arc<dyn Buckets>>) -> Self {
        Self {
            is_on,
            own: Memory::default(),
            shared,
        }
    }

    /// Counts one.
    ///
    /// # Errors
    ///
    /// [`NotCounted`] when there is no room for one more; nothing was counted then.
    pub async fn take(&self, limited: &Limited) -> Result<(), NotCounted> {
        if !self.is_on {
            return Ok(());
        }
        let taken = self.buckets(limited.is_shared());
        let taken = taken.take(&limited.key(), limited.rate()).await?;
        taken.map_err(NotCounted::TooMany)
    }

    /// Counts one less: it turned out not to be what is limited.
    ///
    /// # Errors
    ///
    /// When the store that counts for all nodes does not do it.
    pub async fn give_back(&self, limited: &Limited) -> Result<(), StoreError> {
        if !self.is_on {
            return Ok(());
        }
        let buckets = self.buckets(limited.is_shared());
        buckets.give_back(&limited.key(), limited.rate()).await
    }

    /// Remembers that an account was signed in to from a network.
    ///
    /// # Errors
    ///
    /// When the store that remembers for all nodes does not do it.
    pub async fn know(&self, user: UserId, network: IpAddr) -> Result<(), StoreError> {
        let buckets = self.buckets(true);
        buckets.remember(&known(user, network), KNOWN_FOR).await
    }

    /// Whether it was, lately.
    ///
    /// # Errors
    ///
    /// When the store that remembers for all nodes does not say.
    pub async fn is_known(&self, user: UserId, network: IpAddr) -> Result<bool, StoreError> {
        self.buckets(true)
            .is_remembered(&known(user, network))
            .await
    }

    fn buckets(&self, is_shared: bool) -> &dyn Buckets {
        match &self.shared {
            Some(shared) if is_shared => &**shared,
            _ => &self.own,
        }
    }
}

fn known(user: UserId, network: IpAddr) -> String {
    format!("known {user} from {network}")
}

/// Buckets of this process. A restart forgives.
#[derive(Default)]
struct Memory {
    /// For each key the moment at which its bucket would be full again (the "theoretical arrival
    /// time" of the generic cell rate algorithm).
    full_at: Mutex<HashMap<String, Instant>>,
    remembered: Mutex<HashMap<String, Instant>>,
}

/// The map, with what has passed thrown out if it has grown too large.
fn pruned(map: &Mutex<HashMap<String, Instant>>) -> MutexGuard<'_, HashMap<String, Instant>> {
    let mut map = map.lock().unwrap_or_else(PoisonError::into_inner);
    if map.len() >= KEYS_MAX {
        let now = Instant::now();
        map.retain(|_, at| *at > now);
        if map.len() >= KEYS_MAX {
            // More networks than anybody has but an attacker. Memory comes first; hashing, which
            // is what guessing costs us, has a cap of its own.
            map.clear();
        }
    }
    map
}

#[async_trait]
impl Buckets for Memory {
    async fn take(&self, key: &str, rate: Rate) -> Result<Result<(), Duration>, StoreError> {
        let now = Instant::now();
        let mut full_at = pruned(&self.full_at);
        let at = full_at.get(key).copied().unwrap_or(now).max(now) + rate.every;
        let room_at = at - rate.every * rate.burst;
        if room_at > now {
            return Ok(Err(room_at - now));
        }
        full_at.insert(key.to_owned(), at);
        Ok(Ok(()))
    }

    async fn give_back(&self, key: &str, rate: Rate) -> Result<(), StoreError> {
        if let Some(at) = pruned(&self.full_at).get_mut(key) {
            *at -= rate.every;
        }
        Ok(())
    }

    async fn remember(&self, key: &str, lasts: Duration) -> Result<(), StoreError> {
        pruned(&self.remembered).insert(key.to_owned(), Instant::now() + lasts);
        Ok(())
    }

    async fn is_remembered(&self, key: &str) -> Result<bool, StoreError> {
        let until = pruned(&self.remembered).get(key).copied();
        Ok(until.is_some_and(|until| until > Instant::now()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_burst_passes_and_then_it_is_one_at_a_time() {
        let limits = Limits::new(true, None);
        let ana = Limited::PostsOf(UserId::new());
        for _ in 0..30 {
            limits.take(&ana).await.unwrap();
        }
        let Err(NotCounted::TooMany(wait)) = limits.take(&ana).await else {
            panic!("taken");
        };
        assert!(wait <= Duration::from_millis(200), "{wait:?}");
        let other = Limited::PostsOf(UserId::new());
        assert!(limits.take(&other).await.is_ok());
        tokio::time::sleep(wait).await;
        limits.take(&ana).await.unwrap();
        assert!(limits.take(&ana).await.is_err());
    }

    #[tokio::test]
    async fn what_is_given_back_was_not_taken() {
        let limits = Limits::new(true, None);
        let key = Limited::SignInsToFromAfar(Target::Nobody("ana".to_owned()));
        for _ in 0..1_000 {
            limits.take(&key).await.unwrap();
            limits.give_back(&key).await.unwrap();
        }
        let off = Limits::new(false, None);
        for _ in 0..1_000 {
            off.take(&key).await.unwrap();
        }
    }
}
