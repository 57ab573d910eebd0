//! Tokens: a JWT says which session is asking. The session's record decides whether it may.

use std::io::Write;
use std::path::Path;

use anyhow::{Context, ensure};
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::hs256;
use crate::config::{SECRET_BYTES_MIN, Secret};
use crate::domain::{Session, SessionId, UserId};
use crate::files::Part;

/// A token's claims (RFC 7519). Times are seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// The user whose session it is.
    pub sub: UserId,
    /// Which session.
    pub sid: SessionId,
    /// When it was issued.
    pub iat: i64,
    /// When it ends.
    pub exp: i64,
}

/// The keys that sign and check tokens: HS256 and nothing else, whatever a token's header says.
pub struct Keys {
    current: Key,
    previous: Option<Key>,
    validation: Validation,
    first_invite: String,
}

/// The outcome of checking a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verified {
    /// Ours, and not over.
    Live(Claims),
    /// Ours, and its time is over.
    Over,
    /// Somebody else's, or nobody's.
    NotOurs,
}

struct Key {
    /// Says which key signed, and nothing about it: the start of its hash.
    kid: String,
    encoding: EncodingKey,
    decoding: DecodingKey,
}

impl Keys {
    /// `current` signs; `previous`, from before a rotation, is still accepted.
    pub fn new(current: &Secret, previous: Option<&Secret>) -> Self {
        hs256::install();
        let mut validation = Validation::new(Algorithm::HS256);
        // The session's record is checked by the same clock, so there is nothing to forgive.
        validation.leeway = 0;
        // "On or after" the moment it is over (RFC 7519, 4.1.4); the library takes "after".
        validation.reject_tokens_expiring_in_less_than = 1;
        validation.set_required_spec_claims(&["exp", "sub"]);
        Self {
            current: Key::new(current),
            previous: previous.map(Key::new),
            validation,
            first_invite: first_invite(current),
        }
    }

    /// The secret of the link by which the first account is made, the same at every node.
    pub fn first_invite(&self) -> &str {
        &self.first_invite
    }

    /// The token of a session.
    ///
    /// # Errors
    ///
    /// Only for a bug: the claims always serialize.
    pub fn sign(&self, session: &Session) -> Result<String, jsonwebtoken::errors::Error> {
        let mut header = Header::new(Algorithm::HS256);
        header.kid = Some(self.current.kid.clone());
        let claims = Claims {
            sub: session.user,
            sid: session.id,
            iat: session.created_at.as_secs(),
            exp: session.expires_at.as_secs(),
        };
        jsonwebtoken::encode(&header, &claims, &self.current.encoding)
    }

    /// Whether one of our keys signed a token, and what it claims.
    pub fn verify(&self, token: &str) -> Verified {
        let kid = jsonwebtoken::decode_header(token).map(|header| header.kid);
        let key = [Some(&self.current), self.previous.as_ref()]
            .into_iter()
            .flatten()
            .find(|key| matches!(&kid, Ok(Some(kid)) if key.kid == *kid));
        let Some(key) = key else {
            return Verified::NotOurs;
        };
        match jsonwebtoken::decode(token, &key.decoding, &self.validation) {
            Ok(token) => Verified::Live(token.claims),
            // Its signature was checked before its time.
            Err(error) if *error.kind() == ErrorKind::ExpiredSignature => Verified::Over,
            Err(_) => Verified::NotOurs,
        }
    }
}

/// Made of the key, which is as secret, and says nothing of it.
fn first_invite(key: &Secret) -> String {
    let digest = Sha256::new_with_prefix(b"first account\0")
        .chain_update(key.expose())
        .finalize();
    hex::encode(&digest[..16])
}

impl Key {
    fn new(secret: &Secret) -> Self {
        let secret = secret.expose().as_bytes();
        let hash = Sha256::digest(secret);
        Self {
            kid: hex::encode(&hash[..4]),
            encoding: EncodingKey::from_secret(secret),
            decoding: DecodingKey::from_secret(secret),
        }
    }
}

/// The key kept in `dir`, made the first time: 32 random bytes in hexadecimal, readable by the
/// folder's owner only.
///
/// # Errors
///
/// One line for the log, when the file cannot be read, made, or is too short.
pub fn kept_secret(dir: &Path) -> anyhow::Result<Secret> {
    let path = dir.join("jwt-secret");
    if !path.exists() {
        let mut bytes = [0; SECRET_BYTES_MIN];
        getrandom::fill(&mut bytes).context("the system gives no random numbers")?;
        let text = hex::encode(bytes);
        keep(&path, &text)
            .with_context(|| format!("cannot write {} (DATA_DIR)", path.display()))?;
    }
    let text = std::fs::read_to_string(&path)
        .with_context(|| format!("cannot read {} (DATA_DIR)", path.display()))?;
    let text = text.trim();
    ensure!(
        text.len() >= SECRET_BYTES_MIN,
        "{} (DATA_DIR) is too short: delete it for a new one, which signs everybody out",
        path.display()
    );
    Ok(Secret::new(text.to_owned()))
}

/// Writes beside, then renames: a crash leaves a whole file or none.
fn keep(path: &Path, text: &str) -> anyhow::Result<()> {
    let mut part = Part::beside_for_folder(path)?;
    part.file.write_all(text.as_bytes())?;
    part.becomes(path)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use base64::Engine;
    use base64::prelude::BASE64_URL_SAFE_NO_PAD as URL_SAFE_NO_PAD;
    use hmac::{Hmac, KeyInit, Mac};
    use sha2::Sha512;

    use super::*;
    use crate::domain::Timestamp;

    fn secret(byte: char) -> Secret {
        Secret::new(byte.to_string().repeat(32))
    }

    fn session(lasting: Duration) -> Session {
        Session {
            id: SessionId::new(),
            user: UserId::new(),
            created_at: Timestamp::now(),
            expires_at: Timestamp::now().after(lasting),
        }
    }

    fn live(keys: &Keys, token: &str) -> Claims {
        match keys.verify(token) {
            Verified::Live(claims) => claims,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_token_names_its_session_over_a_rotation() {
        let before = Keys::new(&secret('a'), None);
        let session = session(Duration::from_secs(60));
        let token = before.sign(&session).unwrap();
        assert_eq!(live(&before, &token).sid, session.id);

        let rotated = Keys::new(&secret('b'), Some(&secret('a')));
        assert_eq!(live(&rotated, &token).sub, session.user);
        let forgotten = Keys::new(&secret('b'), None);
        assert_eq!(forgotten.verify(&token), Verified::NotOurs);
    }

    #[test]
    fn other_tokens_are_refused() {
        let keys = Keys::new(&secret('a'), None);
        let token = keys.sign(&session(Duration::from_secs(60))).unwrap();
        let over = keys.sign(&session(Duration::ZERO)).unwrap();
        assert_eq!(keys.verify(&over), Verified::Over);
        let forged = format!("{}x", over);
        assert_eq!(keys.verify(&forged), Verified::NotOurs);

        let [header, claims, signature] = token.split('.').collect::<Vec<_>>()[..] else {
            panic!("{token}");
        };
        // {"alg":"none"}, with and without a kid, and a signature of another algorithm's length.
        for header in ["eyJhbGciOiJub25lIn0", header] {
            for signature in ["", "AAAA", &signature[1..]] {
                let forged = format!("{header}.{claims}.{signature}");
                assert_eq!(keys.verify(&forged), Verified::NotOurs, "{forged}");
            }
        }
        // By our own key, with another algorithm.
        let mut header = Header::new(Algorithm::HS512);
        header.kid = Some(keys.current.kid.clone());
        let header = URL_SAFE_NO_PAD.encode(serde_json::to_vec(&header).unwrap());
        let signed = format!("{header}.{claims}");
        let mut mac = Hmac::<Sha512>::new_from_slice(secret('a').expose().as_bytes()).unwrap();
        mac.update(signed.as_bytes());
        let signature = URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes());
        assert_eq!(
            keys.verify(&format!("{signed}.{signature}")),
            Verified::NotOurs
        );
        assert_eq!(keys.verify(""), Verified::NotOurs);
    }

    #[test]
    fn a_generated_key_is_kept_for_this_user_only() {
        let dir = tempfile::tempdir().unwrap();
        let first = kept_secret(dir.path()).unwrap();
        assert_eq!(first, kept_secret(dir.path()).unwrap());
        assert_eq!(first.expose().len(), 64);
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let file = std::fs::metadata(dir.path().join("jwt-secret")).unwrap();
            assert_eq!(file.permissions().mode() & 0o777, 0o600);
        }
    }
}
