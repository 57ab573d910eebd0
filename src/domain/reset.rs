//! Resets: a link, once, to choose another password.

use sha2::{Digest, Sha256};

use super::{Timestamp, UserId};

/// A link by which a user may choose another password, once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reset {
    /// Its key in the store: the [`hash`](Self::hash) of the secret in its address.
    pub secret_hash: String,
    /// The account whose password it resets.
    pub user: UserId,
    /// The end of its life.
    pub expires_at: Timestamp,
}

impl Reset {
    /// Hashes a secret for the store. It is as long as a key, so nobody finds it by trying, and a quick hash will do.
    pub fn hash(secret: &str) -> String {
        let digest = Sha256::digest(secret);
        digest.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}
