//! Requests in flight, and the answers that wait for their clients to read them: bounded per user and
//! in all, so that clients which ask for much and read nothing cost a bounded amount of memory.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use crate::domain::UserId;
use crate::error::AppError;

/// The most bytes of one user's answers that wait to be sent: a dozen of the largest.
const USER_BYTES_MAX: usize = 8 * 1024 * 1024;

/// The same of everybody's.
const BYTES_MAX: usize = 64 * 1024 * 1024;

/// When to come back after a refusal: somebody reads by then, or has gone.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// The requests and answers in flight in this process. Cheap to clone.
#[derive(Clone)]
pub struct InFlight(Arc<Shared>);

struct Shared {
    requests_per_user: usize,
    counts: Mutex<Counts>,
}

#[derive(Default)]
struct Counts {
    bytes: usize,
    users: HashMap<UserId, OfUser>,
}

#[derive(Default)]
struct OfUser {
    requests: usize,
    bytes: usize,
}

impl InFlight {
    /// So many requests of one user at once, and no more.
    pub fn new(requests_per_user: usize) -> Self {
        Self(Arc::new(Shared {
            requests_per_user,
            counts: Mutex::default(),
        }))
    }

    /// A share for a request whose user is not known yet.
    pub(crate) fn ticket(&self) -> Ticket {
        Ticket(Arc::new(Share {
            in_flight: self.clone(),
            user: OnceLock::new(),
            bytes: OnceLock::new(),
        }))
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        // Changed by additions and subtractions, none of which panics.
        self.0.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One request's share. It stands among the request's extensions, and goes with the answer's body.
#[derive(Clone)]
pub(crate) struct Ticket(Arc<Share>);

struct Share {
    in_flight: InFlight,
    /// Known once the request turns out to be somebody's.
    user: OnceLock<UserId>,
    /// The answer's, once there is one.
    bytes: OnceLock<usize>,
}

impl Ticket {
    /// Counts the request for a user.
    pub(crate) fn admit(&self, user: UserId) -> Result<(), AppError> {
        let mut counts = self.0.in_flight.counts();
        if self.0.user.get().is_some() {
            return Ok(());
        }
        let of_user = counts.users.entry(user).or_default();
        if of_user.requests >= self.0.in_flight.0.requests_per_user {
            return Err(too_many());
        }
        of_user.requests += 1;
        let _ = self.0.user.set(user);
        Ok(())
    }

    /// Counts the answer.
    pub(crate) fn hold(&self, bytes: usize) -> Result<(), AppError> {
        let mut counts = self.0.in_flight.counts();
        if counts.bytes + bytes > BYTES_MAX {
            return Err(AppError::Busy);
        }
        let of_user = self
            .0
            .user
            .get()
            .and_then(|user| counts.users.get_mut(user));
        if let Some(of_user) = of_user {
            // One answer may always be sent, however large it is.
            if of_user.bytes > 0 && of_user.bytes + bytes > USER_BYTES_MAX {
                return Err(too_many());
            }
            of_user.bytes += bytes;
        }
        counts.bytes += bytes;
        let _ = self.0.bytes.set(bytes);
        Ok(())
    }
}

fn too_many() -> AppError {
    AppError::TooMany {
        retry_after: RETRY_AFTER,
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let bytes = self.bytes.get().copied().unwrap_or(0);
        let mut counts = self.in_flight.counts();
        counts.bytes -= bytes;
        if let Some(user) = self.user.get()
            && let Some(of_user) = counts.users.get_mut(user)
        {
            of_user.requests -= 1;
            of_user.bytes -= bytes;
            if of_user.requests == 0 {
                counts.users.remove(user);
            }
        }
    }
}
