//! Password hashing: argon2id, off the async threads, a few at a time.

use std::num::NonZero;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use argon2::{Algorithm, Argon2, Params, Version};
use tokio::sync::{mpsc, oneshot};
use unicode_normalization::UnicodeNormalization;

use crate::domain::Invalid;

/// OWASP's recommendation: 19 MiB, 2 passes, 1 lane.
/// Source: OWASP Password Storage Cheat Sheet, "Argon2id".
const MEMORY_KIB: u32 = 19 * 1024;
const PASSES: u32 = 2;
const LANES: u32 = 1;

/// What an unknown name is checked against, so that it costs what a wrong password costs. No
/// password has this hash.
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

type Job = Box<dyn FnOnce(&Argon2<'_>) + Send>;

/// Hashes and verifies on threads of its own, half as many as there are cores: each hash takes a
/// core and 19 MiB, which an allocator keeps for the thread that used it. Cheap to clone.
#[derive(Clone)]
pub struct Hasher {
    jobs: mpsc::Sender<Job>,
}

impl Hasher {
    /// For this machine's cores.
    ///
    /// # Errors
    ///
    /// Only for a bug: the parameters are constants that the library takes.
    pub fn start() -> Result<Self, HashError> {
        let argon2 = argon2()?;
        let (jobs, waiting) = mpsc::channel::<Job>(WAITING_MAX);
        let waiting = Arc::new(Mutex::new(waiting));
        let cores = thread::available_parallelism().map_or(1, NonZero::get);
        for _ in 0..(cores / 2).max(1) {
            let (argon2, waiting) = (argon2.clone(), Arc::clone(&waiting));
            thread::spawn(move || {
                loop {
                    // Held only while waiting for the next job, which one thread at a time does.
                    let next = waiting
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .blocking_recv();
                    match next {
                        Some(job) => job(&argon2),
                        None => return,
                    }
                }
            });
        }
        Ok(Self { jobs })
    }

    /// The PHC string of a new password, with a new salt.
    ///
    /// # Errors
    ///
    /// [`HashError::Busy`] when too many wait.
    pub async fn hash(&self, password: NewPassword) -> Result<String, HashError> {
        self.run(move |argon2| {
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
    pub async fn verify(&self, password: &str, hash: Option<&str>) -> Result<bool, HashError> {
        let is_known = hash.is_some();
        // What is longer cannot be right, and must not cost more.
        let password: String = normal(password)
            .chars()
            .take(NewPassword::CHARS_MAX + 1)
            .collect();
        let hash = hash.unwrap_or(NOBODYS_HASH).to_owned();
        self.run(move |argon2| {
            let hash =
                PasswordHash::new(&hash).map_err(|error| HashError::Failed(error.to_string()))?;
            let fits = argon2.verify_password(password.as_bytes(), &hash).is_ok();
            Ok(fits && is_known)
        })
        .await
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Argon2<'_>) -> Result<T, HashError> + Send + 'static,
    ) -> Result<T, HashError> {
        let (answer, answered) = oneshot::channel();
        let job: Job = Box::new(move |argon2| {
            // Whoever asked has gone: nobody needs the answer.
            if !answer.is_closed() {
                let _ = answer.send(work(argon2));
            }
        });
        self.jobs.try_send(job).map_err(|_| HashError::Busy)?;
        answered
            .await
            .map_err(|lost| HashError::Failed(lost.to_string()))?
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
        let verify = async |typed| hasher.verify(typed, Some(&hash)).await.unwrap();
        assert!(verify("cafe\u{301} cre\u{300}me").await);
        assert!(!verify("cafe creme").await);
        assert!(!hasher.verify("anything", None).await.unwrap());

        // 400 code points as typed, 200 as kept.
        let long = "e\u{301}".repeat(200);
        let hash = hasher
            .hash(NewPassword::parse(&long).unwrap())
            .await
            .unwrap();
        assert!(hasher.verify(&long, Some(&hash)).await.unwrap());
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
