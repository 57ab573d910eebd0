//! The cluster: nodes tell each other who is where, and who is typing. Nothing of it is kept, and people are told of
//! by their ids, so that no name stays behind with one.

use std::sync::Arc;

use async_trait::async_trait;

use crate::domain::{NodeId, RoomId, User, UserId};
use crate::store::StoreError;

/// Something another node has said.
#[derive(Debug, Clone)]
pub enum PeerChange {
    /// It shows somebody in a room.
    Arrived(NodeId, RoomId, User),
    /// It no longer shows somebody in a room.
    Left(NodeId, RoomId, UserId),
    /// Everybody whom other nodes show: earlier arrivals no longer count.
    RemoteRoster(Vec<(NodeId, RoomId, User)>),
    /// Somebody is typing in a room.
    Typing(RoomId, User),
    /// The others have forgotten whom this node shows: it must announce them again.
    Reannounce,
}

/// Called for each [`PeerChange`]. It must be quick and must not wait.
pub type OnPeerChange = Arc<dyn Fn(PeerChange) + Send + Sync>;

/// The other nodes, where there may be some: with MongoDB.
///
/// # Errors
///
/// [`StoreError::Backend`] when the announcement could not be made.
#[async_trait]
pub trait Cluster: Send + Sync {
    /// Announces who has come here and who has gone, which the others hear as
    /// [`PeerChange::Arrived`] and [`PeerChange::Left`]. May be repeated.
    async fn announce(
        &self,
        here: &[(RoomId, UserId)],
        gone: &[(RoomId, UserId)],
    ) -> Result<(), StoreError>;

    /// Announces who is typing, which the others hear as [`PeerChange::Typing`].
    async fn announce_typing(&self, typing: &[(RoomId, UserId)]) -> Result<(), StoreError>;
}
