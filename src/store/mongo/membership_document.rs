//! A membership as a document.

use mongodb::bson::{Document, doc};

use crate::domain::Seq;

/// A membership's field while its event is not in the log yet: its id. Its user is no member yet.
pub(super) const JOINING: &str = "joining";

/// A membership's field from when its end is certain until that is in the log: its id. Its user is no member
/// any more.
pub(super) const LEAVING: &str = "leaving";

/// Whether it has begun, and has not ended.
pub(super) fn is_member(membership: &Document) -> bool {
    !membership.contains_key(JOINING) && !membership.contains_key(LEAVING)
}

/// How far a member has read; nothing, where it was never noted.
pub(super) fn read_from(membership: &Document) -> Seq {
    membership.get_i64("read").map_or(0, i64::unsigned_abs)
}

/// A filter that finds the memberships of members alone.
pub(super) fn of_members(mut filter: Document) -> Document {
    for field in [JOINING, LEAVING] {
        filter.insert(field, doc! { "$exists": false });
    }
    filter
}
