//! Where everything durable is kept: one interface, and two databases behind it.
//!
//! [`Store`] has a method for each thing the product does. The same tests
//! (`tests/it/store_contract.rs`) hold both implementations to it. A store knows nothing of HTTP
//! or of open streams; what became durable it tells through the [`OnChange`] it was opened with.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::domain::{
    Account, Epoch, Event, Login, MessageBody, NewEvent, NewUser, NodeId, Rate, RoomId,
    RoomSummary, Seq, Session, SessionId, Timestamp, User, UserId,
};

pub mod archive;
pub(crate) mod deadline;
pub mod mongo;
pub mod sqlite;

/// What the process must hear of, from its own writes and from other nodes'.
#[derive(Debug, Clone)]
pub enum Change {
    /// An event is durable. Each room's come in the order of their numbers, some perhaps twice;
    /// a gap means that there is more to read in the log.
    Appended(Arc<Event>),
    /// A session was revoked: its streams must end.
    SessionRevoked(SessionId),
    /// Whoever watches this store may have missed something, and should read the logs it follows.
    Resync,
    /// Another node shows somebody in a room.
    Arrived(NodeId, RoomId, User),
    /// Another node no longer shows somebody in a room.
    Left(NodeId, RoomId, UserId),
    /// Those whom other nodes show, all of them: what was known before is no longer so.
    RemoteRoster(Vec<(NodeId, RoomId, User)>),
    /// Somebody is typing in a room on another node.
    Typing(RoomId, User),
    /// What this node told of the people here was taken back, and should be told again.
    Reannounce,
}

/// Called from the store's writer for each [`Change`], in order, after it is durable and before
/// the write is answered. It must be quick and must not wait.
pub type OnChange = Arc<dyn Fn(Change) + Send + Sync>;

/// What can go wrong in a store, whichever database is behind it.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Somebody has this name or address, or one that looks like it.
    #[error("{0:?} is taken")]
    Taken(UserField),
    /// The author's nonce already stands in this room, with another content.
    #[error("the nonce was used for another event")]
    NonceReused,
    /// The user is in [`ROOMS_PER_USER_MAX`] rooms already.
    #[error("the user is in too many rooms")]
    TooManyRooms,
    /// More waits to be written than can be written soon.
    #[error("too many writes are waiting")]
    Busy,
    /// The disk is full. Nothing was written; reading goes on.
    #[error("the disk is full")]
    StorageFull,
    /// The database failed while doing `operation`. What it was doing may have been done.
    #[error("could not {operation}")]
    Backend {
        /// What was being done, as in "could not …".
        operation: &'static str,
        /// What the database said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl StoreError {
    /// A [`Self::Backend`] from whatever the database said.
    pub fn backend(
        operation: &'static str,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self::Backend {
            operation,
            source: source.into(),
        }
    }
}

/// What must be unique about an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UserField {
    /// By key and by shape: case and look-alikes don't count.
    Username,
    /// Case doesn't count.
    Email,
}

/// How an append ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Appended {
    /// The event is new, and durable now.
    New(Arc<Event>),
    /// This author had appended it before, with this nonce: here is the first one.
    Repeated(Arc<Event>),
}

impl Appended {
    /// The durable event, new or not.
    pub fn event(&self) -> &Arc<Event> {
        match self {
            Self::New(event) | Self::Repeated(event) => event,
        }
    }
}

/// What somebody is to a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// There is no such room.
    NoRoom,
    /// There is, and they have not entered it.
    NotMember,
    /// They are in it, and have read it up to this number.
    Member {
        /// 0 when they have read nothing.
        read: Seq,
    },
}

/// The most rooms one user is in, so that nobody's lobby grows without end.
pub const ROOMS_PER_USER_MAX: usize = 1_000;

/// The most events one page holds.
pub const PAGE_MAX: usize = 200;

/// About how many bytes one page's texts take once they are escaped: the page ends early when that
/// is reached. Two hundred messages of 4,000 characters would be megabytes in the memory of a server
/// whose client reads slowly.
const PAGE_BYTES_MAX: usize = 512 * 1024;

/// Keeps as many of a page's first events as [`PAGE_BYTES_MAX`] allows, at least one.
fn within_bytes<E>(
    events: impl Iterator<Item = Result<Arc<Event>, E>>,
) -> Result<Vec<Arc<Event>>, E> {
    let mut bytes = 0;
    let mut page = Vec::new();
    for event in events {
        let event = event?;
        bytes += event.kind.body().map_or(0, MessageBody::escaped_bytes_max);
        if bytes > PAGE_BYTES_MAX && !page.is_empty() {
            break;
        }
        page.push(event);
    }
    Ok(page)
}

/// Everything the product keeps. All methods may be called at once from anywhere; each is one
/// transaction, or one document, or safe to repeat. A caller that goes away does not stop an append,
/// an entry or a revocation.
///
/// # Errors
///
/// [`StoreError::Backend`] from any method; the others where a method says so.
#[async_trait]
pub trait Store: Buckets {
    /// Which life of the data this is; see [`Epoch`]. Fixed while the process runs.
    fn epoch(&self) -> Epoch;

    /// Answers if the database does.
    async fn ready(&self) -> Result<(), StoreError>;

    /// Makes an account.
    ///
    /// # Errors
    ///
    /// [`StoreError::Taken`] when another has its name or address; of two racing for one, one.
    async fn add_user(&self, user: NewUser) -> Result<(), StoreError>;

    /// The account somebody signs in to.
    async fn find_account(&self, login: &Login) -> Result<Option<Account>, StoreError>;

    /// Keeps a new session.
    async fn add_session(&self, session: Session) -> Result<(), StoreError>;

    /// A session that is neither revoked nor over, with its user.
    async fn find_session(&self, id: SessionId) -> Result<Option<(Session, User)>, StoreError>;

    /// Those of these sessions that are neither revoked nor over.
    async fn live_sessions(&self, ids: &[SessionId]) -> Result<HashSet<SessionId>, StoreError>;

    /// Ends a session for ever; [`Change::SessionRevoked`] follows. Unknown ids are ignored.
    async fn revoke_session(&self, id: SessionId) -> Result<(), StoreError>;

    /// Makes the room if there is none, and `user` a member; the first time, a `joined` event is
    /// appended, once however often and wherever this is called.
    ///
    /// # Errors
    ///
    /// [`StoreError::TooManyRooms`] when the user would be in one too many.
    async fn join(&self, room: &RoomId, user: &User) -> Result<(), StoreError>;

    /// What `user` is to `room`.
    async fn access(&self, room: &RoomId, user: &User) -> Result<Access, StoreError>;

    /// The rooms `user` is a member of, those with the newest message first.
    async fn rooms_of(&self, user: &User) -> Result<Arc<[RoomSummary]>, StoreError>;

    /// Notes that `user`, a member, has read the room's log up to `seq`, or its head if that is
    /// lower. It never goes back.
    async fn mark_read(&self, room: &RoomId, user: &User, seq: Seq) -> Result<(), StoreError>;

    /// The only way into a log: gives the event the next number and answers when it is durable.
    /// An earlier event of this author with the same nonce and kind is answered instead.
    ///
    /// # Errors
    ///
    /// [`StoreError::NonceReused`] when that earlier event says something else,
    /// [`StoreError::Busy`] when too much waits; in both nothing was appended.
    async fn append(&self, room: &RoomId, event: NewEvent) -> Result<Appended, StoreError>;

    /// Whether the log has an event of this number, asked so that the answer is no older than the
    /// question: a client that hears that it is ahead of the log starts over.
    async fn reaches(&self, room: &RoomId, seq: Seq) -> Result<bool, StoreError>;

    /// The highest durable number of each of these logs, 0 for an empty or unknown one.
    async fn heads(&self, rooms: &[RoomId]) -> Result<Vec<Seq>, StoreError>;

    /// The events `after + 1`, `after + 2`, …, at most `limit` and [`PAGE_MAX`]; fewer when they
    /// are long, but never none while there are some.
    async fn page_after(
        &self,
        room: &RoomId,
        after: Seq,
        limit: usize,
    ) -> Result<Vec<Arc<Event>>, StoreError>;

    /// The last events before number `before`, oldest first, at most `limit` and [`PAGE_MAX`];
    /// fewer when they are long.
    async fn page_before(
        &self,
        room: &RoomId,
        before: Seq,
        limit: usize,
    ) -> Result<Vec<Arc<Event>>, StoreError>;

    /// Whether other nodes may show people in the same rooms.
    fn has_other_nodes(&self) -> bool {
        false
    }

    /// Tells the other nodes who has come here and who has gone, which they hear as
    /// [`Change::Arrived`] and [`Change::Left`]. May be repeated.
    async fn show_present(
        &self,
        here: &[(RoomId, User)],
        gone: &[(RoomId, UserId)],
    ) -> Result<(), StoreError> {
        let _ = (here, gone);
        Ok(())
    }

    /// Tells the other nodes who is typing, which they hear as [`Change::Typing`].
    async fn tell_typing(&self, typing: &[(RoomId, User)]) -> Result<(), StoreError> {
        let _ = typing;
        Ok(())
    }

    /// Takes leave of the other nodes, at an orderly end.
    async fn shutdown(&self) -> Result<(), StoreError> {
        Ok(())
    }
}

/// A bucket of a rate limit, by its key: it holds `rate.burst` at most, and one more comes every
/// `rate.every`.
#[derive(Debug, Clone)]
pub struct Bucket {
    /// Which one.
    pub key: String,
    /// How large it is, and how fast it fills.
    pub rate: Rate,
}

/// What is counted for all nodes together and outlives a restart: rate limits by the generic cell rate
/// algorithm, and facts that are true for a while.
#[async_trait]
pub trait Buckets: Send + Sync {
    /// Takes one from each of these buckets; a new one is full. If one of them is empty, says how long
    /// until it is not; some of the others may have been taken from then.
    async fn take(&self, buckets: &[Bucket]) -> Result<Result<(), Duration>, StoreError>;

    /// Puts one back into each.
    async fn refund(&self, buckets: &[Bucket]) -> Result<(), StoreError>;

    /// Remembers a fact for a while.
    async fn remember(&self, key: &str, lasts: Duration) -> Result<(), StoreError>;

    /// Whether the fact is remembered.
    async fn is_remembered(&self, key: &str) -> Result<bool, StoreError>;
}

/// Decides what a nonce that stands in the log already means for `event`.
fn repeated(first: Arc<Event>, event: &NewEvent) -> Result<Appended, StoreError> {
    if first.kind == event.kind {
        Ok(Appended::Repeated(first))
    } else {
        Err(StoreError::NonceReused)
    }
}

/// The lobby's order: the room with the newest message first, silent rooms last, by name. A message
/// dated by a clock that was ahead counts as one of this moment.
fn newest_first(rooms: &mut [RoomSummary]) {
    let now = Timestamp::now();
    rooms.sort_by(|a, b| {
        let newest = |room: &RoomSummary| room.last.as_ref().map(|event| event.at.min(now));
        newest(b).cmp(&newest(a)).then_with(|| a.room.cmp(&b.room))
    });
}
