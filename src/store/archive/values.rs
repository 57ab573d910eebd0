//! The values of records: whether this program or an earlier version could have written them.

use anyhow::ensure;
use argon2::password_hash::phc::PasswordHash;
use argon2::{ARGON2ID_IDENT, Params};
use unicode_normalization::char::is_combining_mark;
use unicode_security::GeneralSecurityProfile;

use crate::domain::{Emoji, Epoch, Invalid, Label, MessageBody, Nonce, Username};

/// The latest moment that can be written as RFC 3339: the end of 9999, in milliseconds since 1970.
const MOMENT_MAX: i64 = 253_402_300_799_999;

/// The highest epoch: they are seconds since 1970, or count up from 0.
pub(in crate::store) const EPOCH_MAX: Epoch = MOMENT_MAX as u64 / 1_000;

/// The longest address there is, in bytes (RFC 5321, 4.5.3.1).
const EMAIL_BYTES_MAX: usize = 254;

/// The longest text of an entry in the audit log.
const DETAIL_CHARS_MAX: usize = 200;

/// The dearest password hash that is taken, some six times as dear as ours: of memory in KiB, of
/// passes, of lanes. Each sign-in pays it.
const HASH_COST_MAX: (u32, u32, u32) = (64 * 1024, 4, 4);

/// An id in another spelling would be kept and never found.
pub(super) fn is_written_like(id: &str, parsed: &impl ToString) -> anyhow::Result<()> {
    ensure!(parsed.to_string() == id, "{id:?} is no id");
    Ok(())
}

pub(super) fn is_moment(millis: i64) -> anyhow::Result<()> {
    ensure!(
        (0..=MOMENT_MAX).contains(&millis),
        "its time is none of 1970 to 9999"
    );
    Ok(())
}

/// Whether somebody may be called this. An earlier version took other scripts and lengths than this
/// one may, but nothing except letters and digits, their marks, and a few others.
pub(super) fn is_name(name: &str) -> bool {
    let is_plain = |c: char| {
        matches!(c, '-' | '_' | '.')
            || (c.is_alphanumeric() || is_combining_mark(c))
                && GeneralSecurityProfile::identifier_allowed(c)
    };
    let was_taken =
        (1..=Username::CHARS_MAX).contains(&name.chars().count()) && name.chars().all(is_plain);
    was_taken || Username::parse(name).is_ok_and(|parsed| parsed.as_str() == name)
}

/// Whether it is the hash of a name.
pub(super) fn is_claim(hash: &str) -> bool {
    hash.len() == 32 && hash.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// Whether an act or its detail may be written so: words, ids and numbers.
pub(super) fn are_words(text: &str) -> bool {
    let is_plain = |c: char| matches!(c, ' '..='~');
    (1..=DETAIL_CHARS_MAX).contains(&text.len()) && text.chars().all(is_plain)
}

/// Whether an account may have this address: an earlier version may have taken more than this one.
pub(super) fn is_email(email: &str) -> bool {
    let is_odd = |c: char| {
        c.is_control()
            || c.is_whitespace()
            || matches!(c, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff0}'..='\u{fffd}')
    };
    let is_address = email
        .split_once('@')
        .is_some_and(|(user, host)| !user.is_empty() && !host.is_empty());
    is_address && email.len() <= EMAIL_BYTES_MAX && !email.contains(is_odd)
}

pub(super) fn is_label(
    label: &Option<String>,
    parse: fn(&str) -> Result<Option<Label>, Invalid>,
) -> bool {
    let parsed = label.as_deref().map(|label| (label, parse(label)));
    parsed.is_none_or(|(label, parsed)| {
        parsed.is_ok_and(|parsed| parsed.is_some_and(|parsed| parsed.as_str() == label))
    })
}

/// Whether a message may say this. An earlier version may have taken one that shows nothing.
pub(super) fn is_body(body: &str) -> bool {
    let has_chars = (1..=MessageBody::CHARS_MAX).contains(&body.chars().count());
    has_chars && !body.contains(['\0', '\r'])
}

/// Whether a reaction may be this. A later Unicode has others than the one we know.
pub(super) fn is_emoji(emoji: &str) -> bool {
    Emoji::parse(emoji).is_ok()
        || ((1..=64).contains(&emoji.len())
            && !emoji.is_ascii()
            && !emoji.contains(char::is_control))
}

/// Whether a nonce is one that a client sent, or that a version of ours made, which begin with a space.
pub(super) fn is_nonce(nonce: &str) -> bool {
    Nonce::parse(nonce.strip_prefix(' ').unwrap_or(nonce)).is_ok()
}

pub(super) fn is_password_hash(hash: &str) -> bool {
    let costs = PasswordHash::new(hash)
        .ok()
        .filter(|hash| hash.algorithm == ARGON2ID_IDENT && hash.salt.is_some())
        .filter(|hash| hash.hash.is_some_and(|output| output.len() >= 16))
        .and_then(|hash| Params::try_from(&hash).ok());
    let (memory, passes, lanes) = HASH_COST_MAX;
    costs.is_some_and(|costs| {
        costs.m_cost() <= memory && costs.t_cost() <= passes && costs.p_cost() <= lanes
    })
}
