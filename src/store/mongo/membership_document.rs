//! A membership as a document.

use mongodb::bson::Document;

use crate::domain::Seq;

/// A membership's field while its event is not in the log yet: its id. Its user is no member yet.
pub(super) const JOINING: &str = "joining";

/// Whether it has begun.
pub(super) fn has_joined(membership: &Document) -> bool {
    !membership.contains_key(JOINING)
}

/// How far a member has read; nothing, where it was never noted.
pub(super) fn read_from(membership: &Document) -> Seq {
    membership.get_i64("read").map_or(0, i64::unsigned_abs)
}
