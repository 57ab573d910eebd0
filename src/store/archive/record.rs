//! The records of an export, a line each.

use serde::{Deserialize, Serialize};

use crate::domain::{Epoch, EventKind, Seq, StoredKind, Timestamp};

/// The format's number in [`Record::Parlor`]: one more for each change.
pub const VERSION: u32 = 4;

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
        /// The policy of sign-ups that an admin has chosen.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        sign_up: Option<String>,
    },
    /// Somebody is in a room.
    Membership {
        /// The person.
        user: String,
        /// Where.
        room: String,
        /// The moment it began.
        joined_at: i64,
        /// The last event they have read.
        #[serde(default)]
        read: Seq,
        /// The event with which it began; 0 when nobody noted it.
        #[serde(skip_serializing_if = "is_zero", default)]
        joined: Seq,
        /// `owner`, of who is one.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        role: Option<String>,
        /// The level; all, where nothing is said.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        level: Option<String>,
    },
    /// Somebody is kept out of a room.
    Ban {
        /// The person.
        user: String,
        /// Where.
        room: String,
        /// The moment it began.
        at: i64,
        /// By whom.
        by: String,
    },
    /// Somebody does not want to hear from somebody.
    Block {
        /// The person.
        user: String,
        /// From whom.
        blocked: String,
        /// The moment it began.
        at: i64,
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
    /// An entry of the audit log.
    Audit {
        /// Its id.
        id: String,
        /// When it was made.
        at: i64,
        /// The id of the person who did it; none for the operator.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        by: Option<String>,
        /// The act.
        act: String,
        /// The person whom it is about: an id.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        user: Option<String>,
        /// The room that it is about.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        room: Option<String>,
        /// The rest.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        detail: Option<String>,
        /// Whether it did not come to it.
        #[serde(skip_serializing_if = "std::ops::Not::not", default)]
        failed: bool,
    },
    /// A room.
    Room {
        /// Its id.
        id: String,
        /// When it was made.
        created_at: i64,
        /// The room's access; unlisted, where nothing is said.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        access: Option<String>,
        /// Its name.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        name: Option<String>,
        /// Its topic.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        topic: Option<String>,
        /// The right to write; everybody's, where nothing is said.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        posting: Option<String>,
        /// Whether it is kept to be read.
        #[serde(skip_serializing_if = "std::ops::Not::not", default)]
        archived: bool,
    },
    /// A room that was deleted, whose id is nobody's.
    DeletedRoom {
        /// Its id.
        id: String,
    },
    /// An event of a room's log.
    Event(Box<EventRecord>),
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
        /// `admin`, of who is one.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        role: Option<String>,
        /// The hashes of all names that its user has had.
        #[serde(skip_serializing_if = "Vec::is_empty", default)]
        names: Vec<String>,
        /// The moment it was closed: nobody may sign in to it.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        deactivated_at: Option<i64>,
        /// Whether it was deleted: it has neither name nor address nor password.
        #[serde(skip_serializing_if = "std::ops::Not::not", default)]
        erased: bool,
        /// `keep` or `delete`, while that is still to be done with its messages and the names in texts.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        erasing: Option<String>,
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
    /// Their name then. Of an export before version 4; nobody keeps it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub author_name: Option<String>,
    /// The text, or a setting's value.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub body: Option<String>,
    /// Of a membership: the person who added or removed the author.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub actor: Option<String>,
    /// The nonce, which makes repeating it safe.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub nonce: Option<String>,
    /// Of a change: the number of the message.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub target: Option<Seq>,
    /// Of a reaction: which.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub emoji: Option<String>,
    /// Of a reaction: whether it was put there or taken off.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub on: Option<bool>,
    /// Of a message, as of here: the message it replies to.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reply_to: Option<Seq>,
    /// Its newest change.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub changed: Option<Seq>,
    /// Its newest edit.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub rev: Option<Seq>,
    /// When that was made.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub edited_at: Option<i64>,
    /// When it was deleted.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub deleted_at: Option<i64>,
    /// The people it is for: ids, and `room` for everybody.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub mentions: Vec<String>,
    /// The reactions to it, in their order.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub reactions: Vec<ReactionRecord>,
    /// How many messages the log holds up to here. Not written: it follows from the log.
    #[serde(skip)]
    pub messages: u64,
}

/// A reaction to a message.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReactionRecord {
    /// The number of the event that put it there.
    pub seq: Seq,
    /// Which.
    pub emoji: String,
    /// Whose: an id.
    pub user: String,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
fn is_zero(seq: &Seq) -> bool {
    *seq == 0
}

impl EventRecord {
    /// The kind that a store would read.
    pub(in crate::store) fn kind(&self) -> EventKind {
        StoredKind {
            name: &self.r#type,
            body: self.body.as_deref(),
            actor: self.actor.as_deref().map(Into::into),
            target: self.target,
            emoji: self.emoji.as_deref(),
            is_on: self.on,
            reply_to: self.reply_to,
            changed: self.changed,
            rev: self.rev,
            edited_at: self.edited_at.map(Timestamp::from_millis),
            deleted_at: self.deleted_at.map(Timestamp::from_millis),
            mentions: self
                .mentions
                .iter()
                .map(|key| key.as_str().into())
                .collect(),
        }
        .read()
    }
}

/// How many there are of each.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Counts {
    pub memberships: u64,
    #[serde(default)]
    pub bans: u64,
    #[serde(default)]
    pub blocks: u64,
    pub sessions: u64,
    #[serde(default)]
    pub audit: u64,
    pub rooms: u64,
    #[serde(default)]
    pub deleted_rooms: u64,
    pub events: u64,
    pub users: u64,
}

impl Counts {
    pub(super) fn count(&mut self, record: &Record) {
        match record {
            Record::Parlor { .. } | Record::End(_) => {}
            Record::Ban { .. } => self.bans += 1,
            Record::Block { .. } => self.blocks += 1,
            Record::Membership { .. } => self.memberships += 1,
            Record::Session { .. } => self.sessions += 1,
            Record::Audit { .. } => self.audit += 1,
            Record::Room { .. } => self.rooms += 1,
            Record::DeletedRoom { .. } => self.deleted_rooms += 1,
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
