//! Password hashing: argon2id, off the async threads, a few at a time.

use std::collections::{BTreeMap, VecDeque};
use std::num::NonZero;
use std::ops::Bound;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use argon2::{Algorithm, Argon2, Params, Version};
use tokio::sync::oneshot;
use unicode_normalization::UnicodeNormalization;

use crate::domain::Invalid;
use crate::lasting;

/// OWASP's recommendation: 19 MiB, 2 passes, 1 lane.
/// Source: OWASP Password Storage Cheat Sheet, "Argon2id".
const MEMORY_KIB: u32 = 19 * 1024;
const PASSES: u32 = 2;
const LANES: u32 = 1;

/// The hash that an unknown name is checked against, so that it costs as much as a wrong password. No
/// password has it.
const NOBODYS_HASH: &str = "$argon2id$v=19$m=19456,t=2,p=1$bm9ib2R5IGF0IGFsbCBoZXJl$\
                            AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

/// How many may wait for their turn. A hash takes some 20 ms, so this is about a second.
const WAITING_MAX: usize = 64;

/// One per line, of 10 characters and more, lower case. Source: the list of Django 5.2
/// (`contrib/auth/common-passwords.txt.gz`, made by Royce Williams from breaches).
const COMMON: &str = include_str!("common_passwords.txt");

/// A password somebody chose: 10 to 256 characters, not a common one. Never printed.
pub struct NewPassword(String);

impl NewPassword {
    /// The fewest characters.
    pub const CHARS_MIN: usize = 10;
    /// The most characters; hashing more would only help who wants to keep the server busy.
    pub const CHARS_MAX: usize = 256;

    /// # Errors
    ///
    /// [`Invalid`] for a short, long or common one. There are no other rules, as NIST SP 800-63B
    /// advises.
    pub fn parse(raw: &str) -> Result<Self, Invalid> {
        let password = normal(raw);
        let chars = password.chars().count();
        if chars < Self::CHARS_MIN {
            return Err(Invalid(
                "Use at least 10 characters. Four or five words are good.",
            ));
        }
        if chars > Self::CHARS_MAX {
            return Err(Invalid("A password has at most 256 characters."));
        }
        let folded = password.to_lowercase();
        if COMMON.lines().any(|common| common == folded) {
            return Err(Invalid(
                "This password is on lists that are tried first. Choose another.",
            ));
        }
        Ok(Self(password))
    }
}

/// The same text however its accents were typed.
fn normal(raw: &str) -> String {
    raw.nfc().collect()
}

/// The hasher cannot take more work soon: try again in a moment.
#[derive(Debug, thiserror::Error)]
pub enum HashError {
    /// Too many wait already.
    #[error("too many passwords are waiting to be hashed")]
    Busy,
    /// It did not work, which only a bug explains.
    #[error("could not hash a password: {0}")]
    Failed(String),
}

/// The order in which passwords are hashed when more wait than can be hashed soon, first to last. When
/// too many wait, the last of them is sent away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Turn {
    /// A sign-in from a network that the account is known from.
    KnownSignIn,
    /// Any other sign-in.
    SignIn,
    /// A new account.
    SignUp,
    /// A sign-in from a network where many fail.
    SuspectSignIn,
}

type Job = Box<dyn FnOnce(&Argon2<'_>) + Send>;

/// Hashes and verifies on threads of its own, half as many as there are cores: each hash takes a
/// core and 19 MiB, which an allocator keeps for the thread that used it. Cheap to clone.
#[derive(Clone)]
pub struct Hasher(Arc<Threads>);

/// The threads end when this is dropped.
struct Threads(Arc<Queue>);

impl Drop for Threads {
    fn drop(&mut self) {
        self.0.waiting().is_closed = true;
        self.0.changed.notify_all();
    }
}

/// The work that waits for a thread.
#[derive(Default)]
struct Queue {
    waiting: Mutex<Waiting>,
    changed: Condvar,
}

#[derive(Default)]
struct Waiting {
    jobs: BTreeMap<Turn, VecDeque<Job>>,
    is_closed: bool,
}

impl Queue {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        // Jobs are put in and taken out whole.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has a job wait. Where too many do, the newest of those whose turn comes last makes place, or
    /// else the job itself. One that is dropped tells its caller so.
    fn push(&self, turn: Turn, job: Job) {
        let mut waiting = self.waiting();
        let count: usize = waiting.jobs.values().map(VecDeque::len).sum();
        if count >= WAITING_MAX {
            let later = waiting
                .jobs
                .range_mut((Bound::Excluded(turn), Bound::Unbounded));
            let Some((_, last)) = later.rev().find(|(_, jobs)| !jobs.is_empty()) else {
                return;
            };
            last.pop_back();
        }
        waiting.jobs.entry(turn).or_default().push_back(job);
        drop(waiting);
        self.changed.notify_one();
    }

    /// Waits for the next job; `None` when there will be no more.
    fn pop(&self) -> Option<Job> {
        let mut waiting = self.waiting();
        loop {
            if waiting.is_closed {
                return None;
            }
            if let Some(job) = waiting.jobs.values_mut().find_map(VecDeque::pop_front) {
                return Some(job);
            }
            waiting = self
                .changed
                .wait(waiting)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Hasher {
    /// For this machine's cores.
    ///
    /// # Errors
    ///
    /// The system gives no thread; otherwise only for a bug.
    pub fn start() -> Result<Self, HashError> {
        let argon2 = argon2()?;
        let queue = Arc::<Queue>::default();
        let cores = thread::available_parallelism().map_or(1, NonZero::get);
        for _ in 0..(cores / 2).max(1) {
            let (argon2, queue) = (argon2.clone(), Arc::clone(&queue));
            let hashing = move || {
                while let Some(job) = queue.pop() {
                    job(&argon2);
                }
            };
            lasting::thread("hasher", hashing)
                .map_err(|error| HashError::Failed(format!("there is no thread: {error}")))?;
        }
        Ok(Self(Arc::new(Threads(queue))))
    }

    /// The PHC string of a new password, with a new salt.
    ///
    /// # Errors
    ///
    /// [`HashError::Busy`] when too many wait.
    pub async fn hash(&self, password: NewPassword) -> Result<String, HashError> {
        self.run(Turn::SignUp, move |argon2| {
            let hash: PasswordHash = argon2
                .hash_password(password.0.as_bytes())
                .map_err(|error| HashError::Failed(error.to_string()))?;
            Ok(hash.to_string())
        })
        .await
    }

    /// Whether `password` is the one of `hash`. `None`, for an unknown account, takes as long
    /// and is never true.
    ///
    /// # Errors
    ///
    /// [`HashError::Busy`] when too many wait.
    pub async fn verify(
        &self,
        turn: Turn,
        password: &str,
        hash: Option<&str>,
    ) -> Result<bool, HashError> {
        let is_known = hash.is_some();
        // A longer password cannot be right, and must not cost more.
        let password: String = normal(password)
            .chars()
            .take(NewPassword::CHARS_MAX + 1)
            .collect();
        let hash = hash.unwrap_or(NOBODYS_HASH).to_owned();
        self.run(turn, move |argon2| {
            let hash =
                PasswordHash::new(&hash).map_err(|error| HashError::Failed(error.to_string()))?;
            let fits = argon2.verify_password(password.as_bytes(), &hash).is_ok();
            Ok(fits && is_known)
        })
        .await
    }

    async fn run<T: Send + 'static>(
        &self,
        turn: Turn,
        work: impl FnOnce(&Argon2<'_>) -> Result<T, HashError> + Send + 'static,
    ) -> Result<T, HashError> {
        let (answer, answered) = oneshot::channel();
        let job: Job = Box::new(move |argon2| {
            // The caller has gone: nobody needs the answer.
            if !answer.is_closed() {
                let _ = answer.send(work(argon2));
            }
        });
        self.0.0.push(turn, job);
        answered.await.map_err(|_| HashError::Busy)?
    }
}

fn argon2() -> Result<Argon2<'static>, HashError> {
    let params = Params::new(MEMORY_KIB, PASSES, LANES, None)
        .map_err(|error| HashError::Failed(error.to_string()))?;
    Ok(Argon2::new(Algorithm::Argon2id, Version::V0x13, params))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_long_and_uncommon_and_nothing_else() {
        for good in [
            "correct horse",
            "ten chars!",
            "пароль-пароль",
            &"x y".repeat(85),
        ] {
            assert!(NewPassword::parse(good).is_ok(), "{good:?}");
        }
        for bad in [
            "",
            "short",
            "nine char",
            "1234567890",
            "QwertyUiop",
            &"x".repeat(257),
        ] {
            assert!(NewPassword::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[tokio::test]
    async fn a_hash_fits_its_password_however_it_is_typed() {
        let hasher = Hasher::start().unwrap();
        let password = NewPassword::parse("caf\u{e9} cr\u{e8}me").unwrap();
        let hash = hasher.hash(password).await.unwrap();
        assert!(
            hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"),
            "{hash}"
        );
        let verify = async |typed| {
            hasher
                .verify(Turn::SignIn, typed, Some(&hash))
                .await
                .unwrap()
        };
        assert!(verify("cafe\u{301} cre\u{300}me").await);
        assert!(!verify("cafe creme").await);
        assert!(!hasher.verify(Turn::SignIn, "anything", None).await.unwrap());

        // 400 code points as typed, 200 as kept.
        let long = "e\u{301}".repeat(200);
        let hash = hasher
            .hash(NewPassword::parse(&long).unwrap())
            .await
            .unwrap();
        assert!(
            hasher
                .verify(Turn::SignIn, &long, Some(&hash))
                .await
                .unwrap()
        );
    }

    #[test]
    fn known_sign_ins_come_first_and_new_accounts_make_place() {
        let queue = Queue::default();
        let done = Arc::new(Mutex::new(Vec::new()));
        let push = |turn: Turn, number: usize| {
            let done = Arc::clone(&done);
            let job: Job = Box::new(move |_| done.lock().unwrap().push((turn, number)));
            queue.push(turn, job);
        };
        for number in 0..WAITING_MAX {
            push(Turn::SignUp, number);
        }
        push(Turn::SignUp, 1_000); // no place
        push(Turn::SuspectSignIn, 1_001); // nor here
        push(Turn::SignIn, 1); // in the place of the newest sign-up
        push(Turn::KnownSignIn, 2);
        let argon2 = argon2().unwrap();
        for _ in 0..WAITING_MAX {
            queue.pop().unwrap()(&argon2);
        }
        let done = done.lock().unwrap();
        assert_eq!(done[0], (Turn::KnownSignIn, 2));
        assert_eq!(done[1], (Turn::SignIn, 1));
        assert_eq!(done[2], (Turn::SignUp, 0));
        assert_eq!(done.last(), Some(&(Turn::SignUp, WAITING_MAX - 3)));
    }

    /// Each thread meets more bugs than there are threads.
    #[tokio::test]
    async fn a_job_that_panics_ends_no_thread() {
        let hasher = Hasher::start().unwrap();
        for _ in 0..2 * thread::available_parallelism().unwrap().get() {
            let panicking = hasher.run(Turn::SignIn, |_| -> Result<(), HashError> {
                panic!("a bug")
            });
            assert!(panicking.await.is_err());
        }
        assert!(hasher.run(Turn::SignIn, |_| Ok(true)).await.unwrap());
    }

    #[test]
    fn nobodys_hash_costs_what_a_real_one_costs() {
        let hash = PasswordHash::new(NOBODYS_HASH).unwrap();
        let params = Params::try_from(&hash).unwrap();
        assert_eq!(params.m_cost(), MEMORY_KIB);
        assert_eq!(params.t_cost(), PASSES);
        assert_eq!(params.p_cost(), LANES);
    }
}
