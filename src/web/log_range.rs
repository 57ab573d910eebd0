//! The range of a log that a request asks for.

use std::time::Duration;

use super::query::{self, Query};
use crate::domain::{Epoch, EventId, Invalid, Seq};
use crate::store::PAGE_MAX;

/// How many events a page of the log holds when nobody says.
pub(super) const PAGE: usize = 50;

/// Where in the log, and how much.
pub(super) struct Range {
    pub(super) end: End,
    pub(super) limit: usize,
    pub(super) wait: Duration,
}

#[derive(Clone, Copy)]
pub(super) enum End {
    Newest,
    Before(Seq),
    After(Seq),
}

impl Range {
    /// From `before=N` or `after=N`, `limit=1..200` and `wait=0..30`; the newest events without.
    pub(super) fn parse(query: &Query, epoch: Epoch) -> Result<Self, Invalid> {
        let place = |raw: &str| {
            EventId::parse(raw)?.within(epoch).ok_or(Invalid(
                "This place is from before the store was restored. Read from the start or the end.",
            ))
        };
        let mut range = Self {
            end: End::Newest,
            limit: PAGE,
            wait: Duration::ZERO,
        };
        if let Some(before) = query.find("before") {
            range.end = End::Before(place(before)?);
        }
        if let Some(after) = query.find("after") {
            range.end = End::After(place(after)?);
        }
        if let Some(limit) = limit(query)? {
            range.limit = limit;
        }
        range.wait = query::wait(query)?;
        Ok(range)
    }
}

/// How many events are asked for: `limit=1..200`.
pub(super) fn limit(query: &Query) -> Result<Option<usize>, Invalid> {
    const SAYS: Invalid = Invalid("limit takes a whole number from 1 to 200.");
    let limit = query.find("limit");
    let number = |limit| query::number(limit, 1..=PAGE_MAX).ok_or(SAYS);
    limit.map(number).transpose()
}
