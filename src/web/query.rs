//! The query of an address, read field by field.

use std::convert::Infallible;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;

use crate::domain::Invalid;

/// The longest a poll may wait: within what proxies allow.
const WAIT_MAX_SECS: u64 = 30;

/// Names and values; any query reads as some.
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    /// The first value of that name.
    pub(super) fn find(&self, name: &str) -> Option<&str> {
        let pair = self.0.iter().find(|(key, _)| key == name);
        pair.map(|(_, value)| value.as_str())
    }
}

impl<S: Sync> FromRequestParts<S> for Query {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        let query = parts.uri.query().unwrap_or("");
        let pairs = form_urlencoded::parse(query.as_bytes());
        Ok(Self(pairs.into_owned().collect()))
    }
}

/// How long a poll holds its answer back: `wait=0..30` seconds, 0 when nobody says.
pub(super) fn wait(query: &Query) -> Result<Duration, Invalid> {
    let Some(wait) = query.find("wait") else {
        return Ok(Duration::ZERO);
    };
    let secs = number(wait, 0..=WAIT_MAX_SECS).ok_or(Invalid(
        "wait takes a whole number of seconds from 0 to 30.",
    ))?;
    Ok(Duration::from_secs(secs))
}

/// A number written in digits alone, if it is within the range.
pub(super) fn number<N: FromStr + PartialOrd>(raw: &str, within: RangeInclusive<N>) -> Option<N> {
    let digits = raw.bytes().all(|b| b.is_ascii_digit());
    let number = digits.then(|| raw.parse().ok()).flatten();
    number.filter(|number| within.contains(number))
}
