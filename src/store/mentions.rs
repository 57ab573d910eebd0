//! Mentions of a user, in all rooms they are in.

use std::sync::Arc;

use async_trait::async_trait;

use super::StoreError;
use crate::domain::{Event, RoomId, Seq, Timestamp, User};

/// A place among a user's mentions, which are ordered by time.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct MentionPlace {
    /// When it was posted.
    pub at: Timestamp,
    /// In which room.
    pub room: RoomId,
    /// Its number there.
    pub seq: Seq,
}

impl MentionPlace {
    /// The place of a message.
    pub fn of(event: &Event) -> Self {
        Self {
            at: event.at,
            room: event.room.clone(),
            seq: event.seq,
        }
    }
}

/// A page of a user's mentions.
#[derive(Debug, Clone, PartialEq)]
pub struct MentionsPage {
    /// The newest first.
    pub events: Vec<Arc<Event>>,
    /// Whether there are no older ones.
    pub is_last: bool,
}

/// The messages that are for a user: those that name them, answer them, or are for everybody in a room they
/// are in, since they are. Not their own.
///
/// # Errors
///
/// [`StoreError::Backend`] from any method.
#[async_trait]
pub trait Mentions: Send + Sync {
    /// The mentions that they have not read, the newest first: at most `limit` before a place, and fewer when they
    /// are long, but never none while there are some.
    async fn unread_mentions(
        &self,
        user: &User,
        before: Option<MentionPlace>,
        limit: usize,
    ) -> Result<MentionsPage, StoreError>;

    /// The mentions that they have read, likewise.
    async fn read_mentions(
        &self,
        user: &User,
        before: Option<MentionPlace>,
        limit: usize,
    ) -> Result<MentionsPage, StoreError>;
}
