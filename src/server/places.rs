//! The places for connections: a bound on how many there are, and on how many of them one network holds
//! without having a request answered. A connection that only waits makes place for a newer one.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use ipnet::IpNet;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use crate::limits;

/// One network holds at most so large a part of all places, streams apart. A class, a company or a
/// carrier behind one address needs a few for each of its people, and only for moments.
const NETWORKS_PART: usize = 4;

/// Fewer are not worth sharing out.
const PER_NETWORK_MIN: usize = 32;

/// All places. Cheap to clone.
#[derive(Clone)]
pub(super) struct Places(Arc<Shared>);

struct Shared {
    free: Arc<Semaphore>,
    per_network: usize,
    /// Their connections stand for many clients.
    trusted: Vec<IpNet>,
    taken: Mutex<Taken>,
}

#[derive(Default)]
struct Taken {
    last_number: u64,
    /// The oldest first.
    networks: HashMap<IpNet, BTreeMap<u64, Arc<Doing>>>,
}

/// The state of a connection: written by the connection, and read when places are scarce.
pub(super) struct Doing {
    began: Instant,
    /// [`BUSY`], [`IDLE`], or the millisecond after `began` at which a head began to arrive.
    state: AtomicU64,
    /// Its place is needed.
    evicted: Notify,
}

/// A request is being answered.
const BUSY: u64 = u64::MAX;

/// The last one was answered, and no other has begun.
const IDLE: u64 = u64::MAX - 1;

impl Default for Doing {
    /// A head is awaited from the first moment on.
    fn default() -> Self {
        Self {
            began: Instant::now(),
            state: AtomicU64::new(0),
            evicted: Notify::new(),
        }
    }
}

impl Doing {
    /// Something was received.
    pub(super) fn received(&self) {
        let now = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(0);
        let _ = self
            .state
            .compare_exchange(IDLE, now, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// A request's head is complete.
    pub(super) fn answers(&self) {
        self.state.store(BUSY, Ordering::Relaxed);
    }

    /// Its answer is complete.
    pub(super) fn has_answered(&self) {
        self.state.store(IDLE, Ordering::Relaxed);
    }

    /// Since when a head has been arriving; `None` while none is.
    pub(super) fn head_since(&self) -> Option<Instant> {
        match self.state.load(Ordering::Relaxed) {
            BUSY | IDLE => None,
            after_ms => Some(self.began + std::time::Duration::from_millis(after_ms)),
        }
    }

    /// Resolves when the connection is to make place.
    pub(super) async fn evicted(&self) {
        self.evicted.notified().await;
    }

    fn only_waits(&self) -> bool {
        self.state.load(Ordering::Relaxed) != BUSY
    }
}

/// A place that a connection holds.
pub(super) struct Place {
    _permit: OwnedSemaphorePermit,
    counted: Option<Counted>,
}

/// Counts for its network, until it is dropped.
struct Counted {
    places: Places,
    network: IpNet,
    number: u64,
    doing: Arc<Doing>,
}

impl Place {
    /// The state that the connection keeps up to date.
    pub(super) fn doing(&self) -> Option<&Arc<Doing>> {
        self.counted.as_ref().map(|counted| &counted.doing)
    }

    /// A stream is what the place was for: it counts for its user, and no longer for its network.
    pub(super) fn is_a_stream(&mut self) {
        self.counted = None;
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut taken = self.places.taken();
        if let Some(network) = taken.networks.get_mut(&self.network) {
            network.remove(&self.number);
            if network.is_empty() {
                taken.networks.remove(&self.network);
            }
        }
    }
}

impl Places {
    pub(super) fn new(count: usize, trusted: Vec<IpNet>) -> Self {
        Self(Arc::new(Shared {
            free: Arc::new(Semaphore::new(count)),
            per_network: (count / NETWORKS_PART).max(PER_NETWORK_MIN),
            trusted,
            taken: Mutex::default(),
        }))
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        // Entries are put in and taken out whole.
        self.0.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a free place. If there is none, somebody who only waits makes one: of the network that
    /// holds most.
    pub(super) async fn free(&self) -> Option<OwnedSemaphorePermit> {
        let free = Arc::clone(&self.0.free);
        if let Ok(permit) = Arc::clone(&free).try_acquire_owned() {
            return Some(permit);
        }
        self.taken().evict_from_largest();
        free.acquire_owned().await.ok()
    }

    /// Gives a free place to a connection from an address. `None` if its network has its part, and is
    /// busy with all of it.
    pub(super) fn give(&self, permit: OwnedSemaphorePermit, address: IpAddr) -> Option<Place> {
        let address = address.to_canonical();
        let is_trusted = self.0.trusted.iter().any(|net| net.contains(&address));
        let network = limits::networks(address).into_iter().next();
        let Some(network) = network.filter(|_| !is_trusted) else {
            return Some(Place {
                _permit: permit,
                counted: None,
            });
        };
        let mut taken = self.taken();
        taken.last_number += 1;
        let number = taken.last_number;
        let doing = Arc::<Doing>::default();
        let of_network = taken.networks.entry(network).or_default();
        if of_network.len() >= self.0.per_network && !evict_oldest(of_network) {
            return None;
        }
        of_network.insert(number, Arc::clone(&doing));
        drop(taken);
        Some(Place {
            _permit: permit,
            counted: Some(Counted {
                places: self.clone(),
                network,
                number,
                doing,
            }),
        })
    }
}

impl Taken {
    fn evict_from_largest(&mut self) {
        let largest = self
            .networks
            .values_mut()
            .max_by_key(|network| network.len());
        if let Some(largest) = largest {
            evict_oldest(largest);
        }
    }
}

/// Has the oldest that only waits make place; `false` if all are busy.
fn evict_oldest(network: &mut BTreeMap<u64, Arc<Doing>>) -> bool {
    let waiting = network.iter().find(|(_, doing)| doing.only_waits());
    let Some(number) = waiting.map(|(number, _)| *number) else {
        return false;
    };
    if let Some(doing) = network.remove(&number) {
        doing.evicted.notify_one();
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn takes(places: &Places, from: &str) -> Option<Place> {
        let permit = places.free().await.unwrap();
        places.give(permit, from.parse().unwrap())
    }

    #[tokio::test]
    async fn one_network_holds_its_part_and_who_waits_makes_place() {
        let places = Places::new(400, vec!["10.0.0.0/8".parse().unwrap()]);
        let mut held = Vec::new();
        for _ in 0..100 {
            held.push(takes(&places, "192.0.2.1").await.unwrap());
        }
        // The oldest that waits is told to go, and the newest gets in.
        held[0].doing().unwrap().answers();
        let newest = takes(&places, "192.0.2.1").await.unwrap();
        let told = held[1].doing().unwrap().evicted();
        tokio::time::timeout(std::time::Duration::from_secs(1), told)
            .await
            .unwrap();
        // Where all are busy there is no place for another of them, but for others there is.
        for place in held.iter().chain([&newest]) {
            place.doing().unwrap().answers();
        }
        assert!(takes(&places, "192.0.2.1").await.is_none());
        assert!(takes(&places, "192.0.2.2").await.is_some());
        assert!(takes(&places, "10.1.2.3").await.is_some());
        // A stream is no longer counted, nor is who has gone.
        newest.doing().unwrap().has_answered();
        let mut newest = newest;
        newest.is_a_stream();
        assert!(takes(&places, "192.0.2.1").await.is_some());
        drop(held);
        assert!(
            !places
                .taken()
                .networks
                .contains_key(&"192.0.2.1/32".parse().unwrap())
        );
    }

    #[tokio::test]
    async fn when_all_places_are_taken_the_largest_network_makes_one() {
        let places = Places::new(64, Vec::new());
        let mut held = Vec::new();
        for number in 0..64 {
            let from = if number < 32 {
                "192.0.2.1"
            } else {
                "192.0.2.2"
            };
            held.push(takes(&places, from).await.unwrap());
        }
        let victim = Arc::clone(held[0].doing().unwrap());
        let other = Arc::clone(held[32].doing().unwrap());
        held[1].doing().unwrap().answers();
        let asking = places.clone();
        let asked = tokio::spawn(async move { takes(&asking, "192.0.2.3").await.is_some() });
        tokio::select! {
            () = victim.evicted() => drop(held.remove(0)),
            () = other.evicted() => drop(held.remove(32)),
        }
        assert!(asked.await.unwrap());
    }
}
