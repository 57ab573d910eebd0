//! A membership as a document: one for each user and room that have to do with each other.

use mongodb::bson::{Document, doc};

use crate::domain::{Author, Level, Seq, UserId};

/// A membership's field while its event is not in the log yet: its id. Its user is no member yet.
pub(super) const JOINING: &str = "joining";

/// A membership's field from when its end is certain until that is in the log: its id. Its user is no member
/// any more.
pub(super) const LEAVING: &str = "leaving";

/// The field of who is kept out of a room: since when, and by whom. It stays when the membership has ended, and is
/// all there is of who never was a member.
pub(super) const BANNED: &str = "banned";

/// The field that says who adds or removes the user, while it is [`JOINING`] or [`LEAVING`]: an id.
pub(super) const BY: &str = "by";

/// The field of an owner.
pub(super) const ROLE: &str = "role";

/// The field of what counts as unread to a member who has chosen something else than all.
pub(super) const LEVEL: &str = "level";

/// The field that is written with it: whose level it is, and the level. See [`super::read_marks::ReadMark`].
const LEVEL_MARK: &str = "level_mark";

/// The update that gives a member a level.
pub(super) fn set_level(user: UserId, level: Level) -> Document {
    let mark = format!("{user} {}", level.as_str());
    match level {
        Level::All => doc! { "$set": { LEVEL_MARK: mark }, "$unset": { LEVEL: "" } },
        level => doc! { "$set": { LEVEL_MARK: mark, LEVEL: level.as_str() } },
    }
}

/// The user whose level is among these fields.
pub(super) fn leveled(fields: &Document) -> Option<UserId> {
    let mark = fields.get_str(LEVEL_MARK).ok()?;
    UserId::parse(mark.split(' ').next()?).ok()
}

const NO_MEMBERS: [&str; 3] = [JOINING, LEAVING, BANNED];

/// Whether it has begun, and has not ended.
pub(super) fn is_member(membership: &Document) -> bool {
    NO_MEMBERS
        .iter()
        .all(|field| !membership.contains_key(field))
}

/// How far a member has read; nothing, where it was never noted.
pub(super) fn read_from(membership: &Document) -> Seq {
    membership.get_i64("read").map_or(0, i64::unsigned_abs)
}

/// The person who adds or removes the user; their name is still missing.
pub(super) fn by_from(membership: &Document) -> Option<Author> {
    let id = UserId::parse(membership.get_str(BY).ok()?).ok()?;
    let username = "".into();
    Some(Author { id, username })
}

/// A filter that finds the memberships of members alone.
pub(super) fn of_members(mut filter: Document) -> Document {
    for field in NO_MEMBERS {
        filter.insert(field, doc! { "$exists": false });
    }
    filter
}
