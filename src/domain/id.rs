//! Ids: UUIDs, a type for each thing that has one.

use std::fmt;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::Invalid;

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident, $new:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Uuid);

        impl $name {
            /// A new, unused id.
            #[expect(clippy::new_without_default, reason = "an id is never a default")]
            pub fn new() -> Self {
                Self(Uuid::$new())
            }

            /// Reads the hyphenated text form, as [`fmt::Display`] writes it.
            ///
            /// # Errors
            ///
            /// [`Invalid`] for anything that is not a UUID.
            pub fn parse(raw: &str) -> Result<Self, Invalid> {
                Uuid::try_parse(raw)
                    .map(Self)
                    .map_err(|_| Invalid("This is not an id."))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

uuid_id!(
    /// Names an account for ever. Version 7, so that rows made together lie together.
    UserId,
    now_v7
);
uuid_id!(
    /// Names one sign-in: the `sid` of its token. Version 4: it says nothing about when.
    SessionId,
    new_v4
);
uuid_id!(
    /// Names one time that somebody is a member of a room, from joining to leaving.
    MembershipId,
    new_v4
);
uuid_id!(
    /// Names one life of one node in a cluster.
    NodeId,
    new_v4
);
uuid_id!(
    /// Names an entry of the audit log. Version 7: later ones are greater.
    AuditId,
    now_v7
);
uuid_id!(
    /// Names a report. Version 7: later ones are greater.
    ReportId,
    now_v7
);
uuid_id!(
    /// Names an invitation where it is listed; it opens nothing. Version 7: later ones are greater.
    InviteId,
    now_v7
);
