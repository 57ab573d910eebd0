//! Timestamps: milliseconds since 1970, in UTC.

use std::fmt;
use std::time::Duration;

use serde::{Serialize, Serializer};
use time::OffsetDateTime;
use time::macros::format_description;

/// A moment, to the millisecond (what BSON dates hold), written as RFC 3339 in UTC:
/// `2026-11-22T09:00:00.123Z`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timestamp(i64);

impl Timestamp {
    /// This moment by the system's clock.
    pub fn now() -> Self {
        let now = OffsetDateTime::now_utc().unix_timestamp_nanos() / 1_000_000;
        Self(i64::try_from(now).unwrap_or(i64::MAX))
    }

    /// The time of an event that follows one of time `previous`: now, or `previous` when the clock
    /// was set back by a little. A clock that was far ahead once does not date what comes after it:
    /// order is the number's, not the time's.
    pub fn following(previous: Self) -> Self {
        const AHEAD_MAX: Duration = Duration::from_secs(5);
        let now = Self::now();
        match previous <= now.after(AHEAD_MAX) {
            true => now.max(previous),
            false => now,
        }
    }

    /// From milliseconds since 1970-01-01T00:00:00Z.
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis)
    }

    /// Milliseconds since 1970-01-01T00:00:00Z.
    pub fn as_millis(self) -> i64 {
        self.0
    }

    /// Whole seconds since 1970-01-01T00:00:00Z, as JWT claims count.
    pub fn as_secs(self) -> i64 {
        self.0.div_euclid(1000)
    }

    /// The moment `span` later.
    #[must_use]
    pub fn after(self, span: Duration) -> Self {
        let span = i64::try_from(span.as_millis()).unwrap_or(i64::MAX);
        Self(self.0.saturating_add(span))
    }

    /// The time of day in UTC, `09:00:00`: how plain-text lines begin.
    pub fn time_of_day(self) -> String {
        self.format(format_description!("[hour]:[minute]:[second]"))
    }

    /// Hour and minute in UTC, `09:00`: what a page shows before a script localises it.
    pub fn minute(self) -> String {
        self.format(format_description!("[hour]:[minute]"))
    }

    /// The day in UTC, `22 November 2026`.
    pub fn day(self) -> String {
        self.format(format_description!(
            "[day padding:none] [month repr:long] [year]"
        ))
    }

    /// Day and minute in UTC, `2026-11-22 09:00`: what a page shows before a script localises it.
    pub fn day_and_minute(self) -> String {
        self.format(format_description!("[year]-[month]-[day] [hour]:[minute]"))
    }

    fn format(self, description: &(impl time::formatting::Formattable + ?Sized)) -> String {
        OffsetDateTime::from_unix_timestamp_nanos(i128::from(self.0) * 1_000_000)
            .ok()
            .and_then(|moment| moment.format(description).ok())
            // Only for years past 9999, which no clock of ours makes.
            .unwrap_or_default()
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.format(format_description!(
            "[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z"
        )))
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_was_wrong_once_is_not_followed() {
        let a_day = Duration::from_secs(86_400);
        let now = Timestamp::now();
        let fast = now.after(a_day);
        assert!(Timestamp::following(fast) < now.after(Duration::from_secs(60)));
        let slightly_ahead = now.after(Duration::from_secs(2));
        assert_eq!(Timestamp::following(slightly_ahead), slightly_ahead);
        assert!(Timestamp::following(Timestamp::from_millis(0)) >= now);
    }

    #[test]
    fn is_written_as_rfc_3339_with_milliseconds() {
        let moment = Timestamp::from_millis(1_795_338_000_007);
        assert_eq!(moment.to_string(), "2026-11-22T09:00:00.007Z");
        assert_eq!(moment.time_of_day(), "09:00:00");
        assert_eq!(moment.day_and_minute(), "2026-11-22 09:00");
    }
}
