//! Where everything durable is kept: an interface for each noun, and two databases behind them.
//!
//! [`Store`] is the sum of [`Log`], [`Accounts`], [`Sessions`], [`Rooms`], [`Memberships`],
//! [`Members`], [`Mentions`], [`Resets`], [`Invites`], [`Blocks`], [`Reports`], [`Audit`] and
//! [`Buckets`]. The same tests (`tests/it/store_contract.rs`) hold both implementations to it. A store knows
//! nothing of HTTP or of open streams; once something is durable it calls the [`OnChange`] it was opened with.

use std::sync::Arc;

use async_trait::async_trait;

use crate::domain::{Event, RoomId, SessionId, User, UserId};

mod accounts;
pub mod archive;
mod audit;
mod blocks;
mod buckets;
mod cache;
pub(crate) mod deadline;
mod error;
mod freshness;
mod invites;
mod log;
mod members;
mod memberships;
mod mentions;
#[cfg(feature = "mongodb")]
pub mod mongo;
mod reports;
mod resets;
mod rooms;
mod sessions;
pub mod sqlite;
mod task;
mod version;

pub use accounts::{Accounts, UserField};
pub use audit::{Audit, audited};
pub use blocks::{BLOCKS_PER_USER_MAX, Blocks};
pub use buckets::{Bucket, Buckets};
pub use error::StoreError;
pub use freshness::{Freshness, Seen};
pub use invites::Invites;
pub use log::{Appended, History, Log, LogPlace, PAGE_MAX, Written};
use log::{repeated, shortened, within_bytes};
pub use members::{LOOKED_THROUGH, Members};
pub use memberships::{Memberships, ROOMS_PER_USER_MAX, Relation};
pub use mentions::{MentionPlace, Mentions, MentionsPage};
pub use reports::Reports;
pub use resets::Resets;
pub use rooms::Rooms;
use rooms::{OPEN_ROOMS_MAX, by_name, newest_first};
pub use sessions::Sessions;
use version::ParlorVersion;

/// A change that this process must hear of, made by itself or by another node.
#[derive(Debug, Clone)]
pub enum Change {
    /// An event is durable. Each room's come in the order of their numbers, some perhaps twice;
    /// a gap means that there is more to read in the log.
    Appended(Arc<Event>),
    /// Somebody has become a member of a room, and is found there from now on.
    Entered(UserId),
    /// A session was revoked: its streams must end.
    SessionRevoked(SessionId),
    /// A user is called so now: whatever keeps names must forget the one before.
    Renamed(User),
    /// A room was deleted: its streams must end, and nothing of it may be kept.
    RoomDeleted(RoomId),
    /// Changes may have been missed: whatever follows the logs should read them.
    Resync,
    /// The same, and messages may have been deleted meanwhile: whatever keeps some must forget them.
    Distrust,
}

/// Called from the store's writer for each [`Change`], in order, after it is durable and before
/// the write is answered. It must be quick and must not wait.
pub type OnChange = Arc<dyn Fn(Change) + Send + Sync>;

/// Everything the product keeps. All methods may be called at once from anywhere; each is one
/// transaction, or one document, or safe to repeat.
///
/// # Errors
///
/// [`StoreError::Backend`] from any method; the others where a method says so.
#[async_trait]
pub trait Store:
    Log
    + Accounts
    + Sessions
    + Rooms
    + Memberships
    + Members
    + Mentions
    + Resets
    + Invites
    + Blocks
    + Reports
    + Audit
    + Buckets
{
    /// Whether other processes may write too, so that answers may lag behind theirs; see [`Freshness`].
    fn is_shared(&self) -> bool;

    /// Answers if the database does.
    async fn ready(&self) -> Result<(), StoreError>;

    /// Notes an orderly end. Nothing may be called after this.
    async fn shutdown(&self) -> Result<(), StoreError>;
}
