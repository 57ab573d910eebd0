//! Rate limits: how often somebody may do what costs others something.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use ipnet::IpNet;
use sha2::{Digest, Sha256};

use crate::domain::{Rate, UserId};
use crate::store::{Bucket, Buckets, StoreError};

/// The limited actions, and for whom.
#[derive(Debug, Clone)]
pub enum Limited {
    /// Failed sign-ins from one network, of any of [`networks`].
    SignInsFrom(IpNet),
    /// Failed sign-ins to one account, by what was typed, from one network.
    SignInsToFrom(String, IpNet),
    /// Failed sign-ins to one account, by what was typed, from networks it was not signed in to from
    /// lately. It is what stops many networks guessing together, and cannot lock its owner out at
    /// home.
    SignInsToFromAfar(String),
    /// Failed sign-ins from one [`provider`]. Past this they are not refused, but come last.
    SignInsFromProvider(IpNet),
    /// Sessions of one user.
    SessionsOf(UserId),
    /// New accounts from one network, of any of [`networks`]; a class of thirty behind one address
    /// signs up in a minute.
    SignUpsFrom(IpNet),
    /// Rooms entered, and so perhaps made, by one user.
    JoinsOf(UserId),
    /// Letters to one address, by what was typed, by which somebody chooses another password.
    LettersTo(String),
    /// Renames of one user.
    RenamesOf(UserId),
    /// New conversations that somebody starts: each is there for its other people, too.
    DirectsOf(UserId),
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
            Self::SignInsFrom(network) if is_site(network) => (120, Duration::from_secs(1)),
            Self::SignInsFrom(_) => (60, Duration::from_secs(2)),
            Self::SignInsToFrom(..) => (10, Duration::from_secs(20)),
            Self::SignInsToFromAfar(_) => (100, Duration::from_secs(10)),
            Self::SignInsFromProvider(_) => (60, Duration::from_millis(500)),
            Self::SessionsOf(_) => (100, Duration::from_secs(5)),
            Self::SignUpsFrom(network) if is_site(network) => (120, Duration::from_secs(5)),
            Self::SignUpsFrom(_) => (40, Duration::from_secs(15)),
            Self::JoinsOf(_) => (60, Duration::from_secs(1)),
            Self::LettersTo(_) => (3, Duration::from_mins(20)),
            Self::RenamesOf(_) => (2, Duration::from_hours(15 * 24)),
            Self::DirectsOf(_) => (60, Duration::from_mins(2)),
            Self::MissesOf(_) => (60, Duration::from_secs(1)),
            Self::ReadingOf(_) => (30, Duration::from_millis(500)),
            Self::TypingOf(_) => (10, Duration::from_secs(2)),
            Self::PostsOf(_) => (30, Duration::from_millis(200)),
        };
        Rate { burst, every }
    }

    /// Guessing at three nodes must not be three times as fast, and a restart must not forgive it. The
    /// others limit what a node has to do, so each node counts its own, in memory.
    fn is_kept(&self) -> bool {
        matches!(
            self,
            Self::SignInsFrom(_)
                | Self::SignInsToFrom(..)
                | Self::SignInsToFromAfar(_)
                | Self::SignUpsFrom(_)
                | Self::RenamesOf(_)
                | Self::LettersTo(_)
        )
    }

    /// Which bucket it is. Typed text is not kept: its digest is.
    fn bucket(&self) -> Bucket {
        let key = match self {
            Self::SignInsFrom(network) => format!("sign-ins from {network}"),
            Self::SignInsToFrom(typed, network) => {
                format!("sign-ins from {network} to {}", digest(typed))
            }
            Self::SignInsToFromAfar(typed) => {
                format!("sign-ins from afar to {}", digest(typed))
            }
            Self::SignInsFromProvider(network) => format!("sign-ins from all of {network}"),
            Self::SessionsOf(user) => format!("sessions of {user}"),
            Self::SignUpsFrom(network) => format!("sign-ups from {network}"),
            Self::JoinsOf(user) => format!("entries of {user}"),
            Self::LettersTo(typed) => format!("letters to {}", digest(typed)),
            Self::RenamesOf(user) => format!("renames of {user}"),
            Self::DirectsOf(user) => format!("conversations of {user}"),
            Self::MissesOf(user) => format!("misses of {user}"),
            Self::ReadingOf(user) => format!("reading of {user}"),
            Self::TypingOf(user) => format!("typing of {user}"),
            Self::PostsOf(user) => format!("posts of {user}"),
        };
        let rate = self.rate();
        Bucket { key, rate }
    }
}

fn digest(typed: &str) -> String {
    let digest = Sha256::digest(typed);
    hex::encode(&digest[..16])
}

/// The networks that a client counts for: its address, or, with IPv6, its /64, which is what one
/// household gets, and its /48, the most that one site gets (RFC 6177). The narrowest comes first.
pub fn networks(address: IpAddr) -> Vec<IpNet> {
    match address {
        IpAddr::V4(_) => vec![network(address, 32)],
        IpAddr::V6(_) => vec![network(address, 64), network(address, SITE_BITS)],
    }
}

/// The network of a client's provider, or a part of it: too many share it to refuse it anything.
pub fn provider(address: IpAddr) -> IpNet {
    network(address, if address.is_ipv4() { 24 } else { 32 })
}

const SITE_BITS: u8 = 48;

fn is_site(network: &IpNet) -> bool {
    matches!(network, IpNet::V6(network) if network.prefix_len() <= SITE_BITS)
}

fn network(address: IpAddr, bits: u8) -> IpNet {
    let network = IpNet::new(address, bits).unwrap_or_else(|_| address.into());
    network.trunc()
}

/// Why something was not counted.
#[derive(Debug)]
pub enum RateLimited {
    /// There is room for one more after this.
    TooMany(Duration),
    /// The store that counts for all nodes did not say.
    Unknown(StoreError),
}

impl From<StoreError> for RateLimited {
    fn from(error: StoreError) -> Self {
        Self::Unknown(error)
    }
}

/// How many keys are remembered. Past that the ones that are full again are forgotten.
const KEYS_MAX: usize = 100_000;

/// All limits, as this process sees them.
pub struct Limits {
    is_on: bool,
    own: Memory,
    /// The buckets that all nodes share and a restart leaves.
    kept: Arc<dyn Buckets>,
    known_for: Duration,
}

impl Limits {
    /// Limits, or, when not `is_on`, none. A network counts as an account's own for `known_for` after
    /// it was signed in to from there.
    pub fn new(is_on: bool, kept: Arc<dyn Buckets>, known_for: Duration) -> Self {
        Self {
            is_on,
            own: Memory::default(),
            kept,
            known_for,
        }
    }

    /// Counts one.
    ///
    /// # Errors
    ///
    /// [`RateLimited`] when there is no room for one more; nothing was counted then.
    pub async fn take(&self, limited: &Limited) -> Result<(), RateLimited> {
        self.take_all(std::slice::from_ref(limited)).await
    }

    /// Counts one of each.
    ///
    /// # Errors
    ///
    /// [`RateLimited`] when there is no room for one more of one of them; others may have been counted.
    pub async fn take_all(&self, all: &[Limited]) -> Result<(), RateLimited> {
        for (buckets, limited) in self.split(all) {
            buckets
                .take(&limited)
                .await?
                .map_err(RateLimited::TooMany)?;
        }
        Ok(())
    }

    /// Counts one less of each: it turned out not to be what is limited.
    ///
    /// # Errors
    ///
    /// When the store that keeps them does not do it.
    pub async fn refund(&self, all: &[Limited]) -> Result<(), StoreError> {
        for (buckets, limited) in self.split(all) {
            buckets.refund(&limited).await?;
        }
        Ok(())
    }

    /// Sorts into the store's and this process's, each in one piece; none when limits are off.
    fn split(&self, all: &[Limited]) -> Vec<(&dyn Buckets, Vec<Bucket>)> {
        if !self.is_on {
            return Vec::new();
        }
        let (kept, own): (Vec<_>, Vec<_>) = all.iter().partition(|limited| limited.is_kept());
        let buckets = |limited: Vec<&Limited>| limited.into_iter().map(Limited::bucket).collect();
        let mut split: Vec<(&dyn Buckets, Vec<Bucket>)> =
            vec![(&*self.kept, buckets(kept)), (&self.own, buckets(own))];
        split.retain(|(_, buckets)| !buckets.is_empty());
        split
    }

    /// Remembers that an account was signed in to from an address's network.
    ///
    /// # Errors
    ///
    /// When the store that remembers does not do it.
    pub async fn trust_network(&self, user: UserId, address: IpAddr) -> Result<(), StoreError> {
        self.kept
            .remember(&known(user, address), self.known_for)
            .await
    }

    /// Whether an account was signed in to from an address's network lately.
    ///
    /// # Errors
    ///
    /// When the store that remembers does not say.
    pub async fn is_trusted_network(
        &self,
        user: UserId,
        address: IpAddr,
    ) -> Result<bool, StoreError> {
        self.kept.is_remembered(&known(user, address)).await
    }
}

fn known(user: UserId, address: IpAddr) -> String {
    let bits = if address.is_ipv4() { 32 } else { 64 };
    let network = network(address, bits);
    format!("known {user} from {}", network.addr())
}

/// Buckets of this process. A restart forgives.
#[derive(Default)]
pub struct Memory {
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
    async fn take(&self, buckets: &[Bucket]) -> Result<Result<(), Duration>, StoreError> {
        let now = Instant::now();
        let mut full_at = pruned(&self.full_at);
        let taken = buckets.iter().map(|Bucket { key, rate }| {
            let at = full_at.get(key).copied().unwrap_or(now).max(now) + rate.every;
            let room_at = at - rate.every * rate.burst;
            match room_at > now {
                true => Err(room_at - now),
                false => Ok((key, at)),
            }
        });
        match taken.collect::<Result<Vec<_>, _>>() {
            Err(wait) => Ok(Err(wait)),
            Ok(taken) => {
                for (key, at) in taken {
                    full_at.insert(key.clone(), at);
                }
                Ok(Ok(()))
            }
        }
    }

    async fn refund(&self, buckets: &[Bucket]) -> Result<(), StoreError> {
        let mut full_at = pruned(&self.full_at);
        for Bucket { key, rate } in buckets {
            if let Some(at) = full_at.get_mut(key) {
                *at -= rate.every;
            }
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

    fn limits(is_on: bool) -> Limits {
        Limits::new(is_on, Arc::new(Memory::default()), Duration::from_secs(60))
    }

    #[test]
    fn a_client_counts_for_its_household_and_its_site() {
        let of = |address: &str| {
            let address: IpAddr = address.parse().unwrap();
            let mut all = networks(address);
            all.push(provider(address));
            all.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(of("192.0.2.7"), ["192.0.2.7/32", "192.0.2.0/24"]);
        assert_eq!(
            of("2001:db8:1:2:3::4"),
            ["2001:db8:1:2::/64", "2001:db8:1::/48", "2001:db8::/32"]
        );
    }

    #[tokio::test]
    async fn many_networks_of_one_site_are_one() {
        let limits = limits(true);
        let mut taken = 0;
        for number in 0..500 {
            let address = format!("2001:db8:1:{number:x}::1").parse().unwrap();
            let all: Vec<Limited> = networks(address)
                .into_iter()
                .map(Limited::SignInsFrom)
                .collect();
            taken += usize::from(limits.take_all(&all).await.is_ok());
        }
        assert!((120..=125).contains(&taken), "{taken}");
    }

    #[tokio::test]
    async fn a_burst_passes_and_then_it_is_one_at_a_time() {
        let limits = limits(true);
        let ana = Limited::PostsOf(UserId::new());
        for _ in 0..30 {
            limits.take(&ana).await.unwrap();
        }
        let Err(RateLimited::TooMany(wait)) = limits.take(&ana).await else {
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
        let on = limits(true);
        let key = [Limited::SignInsToFromAfar("ana".to_owned())];
        for _ in 0..1_000 {
            on.take_all(&key).await.unwrap();
            on.refund(&key).await.unwrap();
        }
        let off = limits(false);
        for _ in 0..1_000 {
            off.take_all(&key).await.unwrap();
        }
    }
}
