use std::sync::Arc;

use email_address::{EmailAddress, Options};
use serde::{Serialize, Serializer};
use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::is_combining_mark;
use unicode_security::{GeneralSecurityProfile, MixedScript, skeleton};

use super::{Invalid, SessionId, Timestamp, UserId};

/// What others see: 2 to 32 letters, digits, `-`, `_` and `.` of one script, as it was typed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Username(Arc<str>);

impl Username {
    /// The fewest characters a name has.
    pub const CHARS_MIN: usize = 2;
    /// The most characters a name has: what fits beside a time on a phone.
    pub const CHARS_MAX: usize = 32;

    /// Trims, brings compatibility forms (`ａｎａ`) to the plain ones (NFKC), and checks.
    ///
    /// # Errors
    ///
    /// [`Invalid`] for the wrong length, for characters other than letters and digits (invisible
    /// and bidirectional ones with them), and for scripts mixed so that they could pass for one.
    /// Source: Unicode Technical Standard 39, identifier status and single script.
    pub fn parse(raw: &str) -> Result<Self, Invalid> {
        let name: String = raw.trim().nfkc().collect();
        let chars = name.chars().count();
        if chars < Self::CHARS_MIN {
            return Err(Invalid("Choose a name of at least 2 characters."));
        }
        if chars > Self::CHARS_MAX {
            return Err(Invalid("A name has at most 32 characters."));
        }
        let is_letter_or_digit = |c: char| {
            (c.is_alphanumeric() || is_combining_mark(c))
                && GeneralSecurityProfile::identifier_allowed(c)
        };
        let fits = |c: char| matches!(c, '-' | '_' | '.') || is_letter_or_digit(c);
        if !name.chars().all(fits) {
            return Err(Invalid(
                "A name has only letters, digits, “-”, “_” and “.”.",
            ));
        }
        if !name.starts_with(|c: char| c.is_alphanumeric()) {
            return Err(Invalid("A name begins with a letter or a digit."));
        }
        if has_misleading_marks(&name) {
            return Err(Invalid(
                "This name has marks that can hide in others. Leave some of them out.",
            ));
        }
        if !name.as_str().is_single_script() {
            return Err(Invalid(
                "Use the letters of one alphabet: mixed ones can look like another name.",
            ));
        }
        Ok(Self(name.into()))
    }

    /// A name that [`Self::parse`] took before it was stored.
    pub(crate) fn stored(name: &str) -> Self {
        Self(name.into())
    }

    /// The name as typed.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name as typed, for whoever keeps it.
    pub(crate) fn shared(&self) -> Arc<str> {
        Arc::clone(&self.0)
    }

    /// The same for every spelling of a name by case and by look-alike letters: no two accounts
    /// share it, and signing in finds an account by it.
    pub fn key(&self) -> String {
        let folded = self.0.to_lowercase();
        // Some skeletons are capitals: that of 0 is O.
        skeleton(&folded).collect::<String>().to_lowercase()
    }

    /// Like [`Self::key`], but looks first and folds case second, so that `PauI` (a capital i)
    /// cannot stand beside `Paul`. No two accounts share this either.
    pub fn shape(&self) -> String {
        skeleton(&self.0).collect::<String>().to_lowercase()
    }
}

/// Marks that are not seen, or are drawn out of line: the same one twice, more than two on a letter
/// (Vietnamese has two), and a dot above that is not part of a letter, which an i already has.
/// Source: Unicode Technical Standard 39, 5.4, optional detection.
fn has_misleading_marks(name: &str) -> bool {
    let decomposed: Vec<char> = name.nfd().collect();
    let is_repeated = decomposed
        .windows(2)
        .any(|two| two[0] == two[1] && is_combining_mark(two[0]));
    let is_piled = decomposed
        .windows(3)
        .any(|three| three.iter().all(|c| is_combining_mark(*c)));
    is_repeated || is_piled || name.contains('\u{307}')
}

impl Serialize for Username {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

/// A valid address, as typed; unique without regard to case. Nothing is sent to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Email(Arc<str>);

impl Email {
    /// # Errors
    ///
    /// [`Invalid`] for what RFC 5321 would not take as a mailbox (no display name, no address
    /// in brackets).
    pub fn parse(raw: &str) -> Result<Self, Invalid> {
        let options = Options::default()
            .without_display_text()
            .without_domain_literal();
        let email = raw.trim();
        match EmailAddress::parse_with_options(email, options) {
            Ok(_) if !email.chars().any(char::is_control) => Ok(Self(email.into())),
            _ => Err(Invalid("Type an email address, like ana@example.org.")),
        }
    }

    /// An address that [`Self::parse`] took before it was stored.
    pub(crate) fn stored(email: &str) -> Self {
        Self(email.into())
    }

    /// The address as typed.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The same for every spelling by case.
    pub fn key(&self) -> String {
        self.0.to_lowercase()
    }
}

/// What somebody signs in with. Neither form says whether there is such an account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Login {
    /// By [`Email::key`].
    Email(String),
    /// By [`Username::key`].
    Username(String),
}

impl Login {
    /// `None` when no account can have such a name or address.
    pub fn parse(raw: &str) -> Option<Self> {
        if raw.contains('@') {
            Email::parse(raw).ok().map(|email| Self::Email(email.key()))
        } else {
            let name = Username::parse(raw).ok()?;
            Some(Self::Username(name.key()))
        }
    }
}

/// An account, as others see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct User {
    /// Names it for ever.
    pub id: UserId,
    /// What others see.
    pub username: Username,
}

/// An account to be made.
#[derive(Clone)]
pub struct NewUser {
    /// Id and name.
    pub user: User,
    /// The address.
    pub email: Email,
    /// A PHC string.
    pub password_hash: String,
}

/// An account, with what signing in checks against.
#[derive(Clone)]
pub struct Account {
    /// Id and name.
    pub user: User,
    /// A PHC string.
    pub password_hash: String,
}

/// One sign-in of one user, until it is revoked or `expires_at` has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Session {
    /// The `sid` of its token.
    pub id: SessionId,
    /// The `sub` of its token.
    pub user: UserId,
    /// When it was made: the token's `iat`.
    pub created_at: Timestamp,
    /// When it ends by itself: the token's `exp`.
    pub expires_at: Timestamp,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(raw: &str) -> Username {
        Username::parse(raw).unwrap_or_else(|refused| panic!("{raw:?}: {refused}"))
    }

    #[test]
    fn names_of_one_script_are_taken() {
        for raw in [
            "ana",
            "Ana-Maria_2",
            "j.r.r",
            "Øyvind",
            "José",
            "Nguyễn",
            "Żaneta",
            "Анна",
            "李小龙",
            "ひらカナ漢",
            "मोहन",
            "محمد",
            "42",
        ] {
            assert_eq!(name(raw).as_str(), raw.nfkc().collect::<String>());
        }
        assert_eq!(name(" ａｎａ ").as_str(), "ana");
    }

    #[test]
    fn names_that_could_deceive_are_refused() {
        for raw in [
            "",
            "a",
            &"a".repeat(33),
            "two words",
            "a\u{200b}na",
            "a\u{200d}na",
            "\u{202e}ana",
            "ana\u{2066}",
            "аna",
            "pаypal",
            "ana!",
            "-ana",
            ".ana",
            "<b>",
            "a\0na",
            "a\nna",
            "💥💥",
            "a\u{ad}na",
            "mi\u{307}a",
            "jose\u{301}\u{301}",
            "a\u{327}\u{327}b",
            "a\u{301}\u{302}\u{303}",
            "a@b",
        ] {
            assert!(Username::parse(raw).is_err(), "{raw:?}");
        }
    }

    #[test]
    fn one_name_has_one_key_and_look_alikes_share_a_shape() {
        for (a, b) in [("ana", "ANA"), ("José", "JOSÉ"), ("Ana", "aNa")] {
            assert_eq!(name(a).key(), name(b).key());
        }
        // All Cyrillic, and still drawn like the Latin one.
        assert_eq!(name("аса").key(), name("aca").key());
        assert_eq!(name("PauI").shape(), name("Paul").shape());
        assert_eq!(name("b0b").key(), name("bob").key());
        assert_ne!(name("ana").key(), name("anna").key());
    }

    #[test]
    fn emails_are_addresses() {
        for raw in [
            "ana@example.org",
            "a.b+c@sub.example.org",
            "ana@home",
            " a@b.c ",
        ] {
            assert!(Email::parse(raw).is_ok(), "{raw:?}");
        }
        for raw in [
            "",
            "ana",
            "@b.c",
            "a@",
            "Ana <a@b.c>",
            "a@b.c\r\nBcc: x@y.z",
            "a b@c.d",
        ] {
            assert!(Email::parse(raw).is_err(), "{raw:?}");
        }
        let key = |raw| Email::parse(raw).unwrap().key();
        assert_eq!(key("Ana@Example.ORG"), key("ana@example.org"));
    }
}
