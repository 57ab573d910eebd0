//! Plain data with its rules: what a name, a message, an event is. No I/O, nothing async.
//!
//! A type with a rule has a private field and a `parse` as the only way in, so that whoever holds
//! a [`RoomId`] holds a valid one.

mod account;
mod audit;
pub(crate) mod characters;
mod email;
mod erasure;
mod event;
mod event_json;
mod id;
mod invite;
mod level;
mod link;
mod mention;
mod message;
mod message_body;
mod new_event;
mod reaction;
mod report;
mod reset;
mod role;
mod room;
mod room_settings;
mod roster;
mod session;
mod stored_kind;
#[cfg(test)]
pub(crate) mod testing;
mod timestamp;
mod username;

pub use account::{Account, AccountRole, Login, NewUser, User};
pub use audit::{Act, AuditEntry};
pub use email::Email;
pub use erasure::KeptMessages;
pub use event::{Author, Epoch, Event, EventId, EventKind, Seq};
pub use id::{AuditId, InviteId, MembershipId, NodeId, ReportId, SessionId, UserId};
pub use invite::{Guest, Invite, SignUpPolicy};
pub use level::Level;
pub use link::LinkSecret;
pub use mention::{Mentioned, Mentions};
pub use message::{ChangeKind, Changed, Edit, Message, NewChange, Quote, Refusal, Reply};
pub use message_body::MessageBody;
pub use new_event::{NewEvent, NewKind, Nonce};
pub use reaction::{Emoji, Reaction, ReactionKind, Reactions};
pub use report::Report;
pub use reset::Reset;
pub use role::{Person, Role};
pub use room::{ListedRoom, RoomId, RoomSummary};
pub use room_settings::{Access, Label, Posting, RoomSettings, Setting, id_from_name};
pub use roster::Roster;
pub use session::{PasswordChange, ProfileChange, SeenSession, Session, SignIn};
pub(crate) use stored_kind::StoredKind;
pub use timestamp::Timestamp;
pub use username::Username;

/// How often something may be done.
#[derive(Debug, Clone, Copy)]
pub struct Rate {
    /// How many at once.
    pub burst: u32,
    /// How long until there is room for one more.
    pub every: std::time::Duration,
}

/// Why an input was refused: one sentence that tells the person what to do instead.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Invalid(pub &'static str);
