//! Links that let people in: their secrets, and the hashes by which a store knows them.

use std::fmt;

use sha2::{Digest, Sha256};
use uuid::Uuid;

/// The secret in the address of such a link. It is shown once and kept nowhere.
pub struct LinkSecret(String);

impl LinkSecret {
    /// One that nobody can guess.
    #[expect(clippy::new_without_default, reason = "a secret is never a default")]
    pub fn new() -> Self {
        let half = || Uuid::new_v4().simple();
        Self(format!("{}{}", half(), half()))
    }

    /// Hashes a secret for the store. It is as long as a key, so nobody finds it by trying, and a quick hash will do.
    pub fn hash(secret: &str) -> String {
        hex::encode(Sha256::digest(secret))
    }

    /// This one's hash.
    pub fn own_hash(&self) -> String {
        Self::hash(&self.0)
    }
}

impl fmt::Display for LinkSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
