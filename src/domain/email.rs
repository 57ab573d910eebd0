//! Email addresses, one key for all spellings of one.

use std::sync::Arc;

use email_address::{EmailAddress, Options};
use unicode_normalization::UnicodeNormalization;

use super::Invalid;

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
        // As keyboards for East Asian scripts write it.
        let email: String = raw.trim().replace('＠', "@").nfc().collect();
        match EmailAddress::parse_with_options(&email, options) {
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

    /// The same for every spelling: by case, by how accents are typed, and of the domain, which some
    /// browsers send in its ASCII form (`müller.example` as `xn--mller-kva.example`).
    pub fn key(&self) -> String {
        let (local, domain) = self.0.rsplit_once('@').unwrap_or((&self.0, ""));
        let local: String = local.to_lowercase().nfc().collect();
        let ascii = idna::domain_to_ascii(domain);
        let domain = ascii.unwrap_or_else(|_| domain.to_lowercase());
        format!("{local}@{domain}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        assert_eq!(key("Ana@Example.ORG"), "ana@example.org");
        for (a, b) in [
            ("jorg@müller.example", "jorg@xn--mller-kva.example"),
            ("jorg@MÜLLER.example", "Jorg@XN--MLLER-KVA.example"),
            ("ana@mu\u{308}ller.example", "ana@m\u{fc}ller.example"),
            ("jose\u{301}@example.org", "jos\u{e9}@example.org"),
            ("ana＠example.org", "ana@example.org"),
            ("ana@例え.jp", "ana@xn--r8jz45g.jp"),
        ] {
            assert_eq!(key(a), key(b), "{a}");
        }
        assert_ne!(key("ana@müller.example"), key("ana@muller.example"));
    }
}
