//! The records of an export, a line each.

use serde::{Deserialize, Serialize};

use crate::domain::{Epoch, Seq};

/// The format's number in [`Record::Parlor`]: one more for each change.
pub const VERSION: u32 = 1;

/// One line. Times are milliseconds since 1970.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "record", rename_all = "snake_case", deny_unknown_fields)]
pub enum Record {
    /// The head.
    Parlor {
        /// [`VERSION`].
        version: u32,
        /// The store's, so that readers' places in the logs stay good.
        epoch: Epoch,
    },
    /// Somebody is in a room.
    Membership {
        /// Who.
        user: String,
        /// Where.
        room: String,
        /// Since when.
        joined_at: i64,
        /// The last event they have read.
        #[serde(default)]
        read: Seq,
    },
    /// A sign-in that is neither revoked nor over.
    Session {
        /// Its id.
        id: String,
        /// Its user.
        user: String,
        /// When it was made.
        created_at: i64,
        /// When it ends by itself.
        expires_at: i64,
    },
    /// A room.
    Room {
        /// Its id.
        id: String,
        /// When it was made.
        created_at: i64,
    },
    /// An event of a room's log.
    Event(EventRecord),
    /// An account.
    User {
        /// Its id.
        id: String,
        /// As typed.
        username: String,
        /// As typed.
        email: String,
        /// A PHC string.
        password_hash: String,
        /// When it was made.
        created_at: i64,
    },
    /// The end: an export that was cut off has none.
    End(Counts),
}

/// An event as it is kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EventRecord {
    /// The room whose log it is in.
    pub room: String,
    /// Its number there.
    pub seq: Seq,
    /// When it was appended.
    pub at: i64,
    /// [`EventKind::name`](crate::domain::EventKind::name).
    pub r#type: String,
    /// Its author's id.
    pub author: String,
    /// Their name then.
    pub author_name: String,
    /// The text.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub body: Option<String>,
    /// The nonce, which makes repeating it safe.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub nonce: Option<String>,
    /// How many messages the log holds up to here. Not written: it follows from the log.
    #[serde(skip)]
    pub messages: u64,
}

/// How many there are of each.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Counts {
    pub memberships: u64,
    pub sessions: u64,
    pub rooms: u64,
    pub events: u64,
    pub users: u64,
}

impl Counts {
    pub(super) fn count(&mut self, record: &Record) {
        match record {
            Record::Parlor { .. } | Record::End(_) => {}
            Record::Membership { .. } => self.memberships += 1,
            Record::Session { .. } => self.sessions += 1,
            Record::Room { .. } => self.rooms += 1,
            Record::Event(_) => self.events += 1,
            Record::User { .. } => self.users += 1,
        }
    }
}

impl std::fmt::Display for Counts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} users, {} rooms, {} events",
            self.users, self.rooms, self.events
        )
    }
}
