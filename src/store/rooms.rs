//! Rooms: their settings, and the lists of them.

use std::sync::Arc;

use async_trait::async_trait;

#[cfg(doc)]
use super::Change;
use super::{Freshness, StoreError};
use crate::domain::{
    Label, ListedRoom, RoomId, RoomSettings, RoomSummary, Seq, Setting, Timestamp, User,
};

/// So many open rooms are offered.
pub(super) const OPEN_ROOMS_MAX: usize = 2_000;

/// The rooms. A caller that goes away does not stop a change.
///
/// # Errors
///
/// [`StoreError::Backend`] from any method.
#[async_trait]
pub trait Rooms: Send + Sync {
    /// A room's settings as they are now; `None` of a room that is not there.
    async fn settings(&self, room: &RoomId) -> Result<Option<RoomSettings>, StoreError>;

    /// A room's settings as they were two seconds ago, or later.
    async fn kept_settings(&self, room: &RoomId) -> Result<Arc<RoomSettings>, StoreError>;

    /// Gives a setting of a room that is there another value, and appends an event that says so; nothing
    /// where it is so already. How far one must see the room to see it is answered, 0 for nothing.
    async fn set(&self, room: &RoomId, by: &User, setting: Setting) -> Result<Seq, StoreError>;

    /// Deletes a room that is no conversation: everybody in it is out, and all that was written there is gone.
    /// [`Change::RoomDeleted`] follows, at once and when it is done. The id is nobody's from then on. `false` when
    /// there is no such room.
    async fn delete_room(&self, room: &RoomId) -> Result<bool, StoreError>;

    /// The open rooms that are not archived and have people in them, by name: the first two thousand, as they were
    /// two seconds ago, or later.
    async fn open_rooms(&self) -> Result<Arc<[ListedRoom]>, StoreError>;

    /// The rooms that have a word, which is in lower case, in their id, name or topic, by id: at most `limit` of those
    /// after this one. No conversations.
    async fn all_rooms(
        &self,
        word: String,
        after: String,
        limit: usize,
    ) -> Result<Vec<ListedRoom>, StoreError>;

    /// The rooms `user` is a member of, those with the newest message first.
    async fn rooms_of(
        &self,
        user: &User,
        freshness: &Freshness,
    ) -> Result<Arc<[RoomSummary]>, StoreError>;
}

/// The lobby's order: the room with the newest message first, silent rooms last, by name. A message
/// dated by a clock that was ahead counts as one of this moment.
pub(super) fn newest_first(rooms: &mut [RoomSummary]) {
    let now = Timestamp::now();
    rooms.sort_by(|a, b| {
        let newest = |room: &RoomSummary| room.last.as_ref().map(|event| event.at.min(now));
        newest(b).cmp(&newest(a)).then_with(|| a.room.cmp(&b.room))
    });
}

/// In the order of their names.
pub(super) fn by_name(mut rooms: Vec<ListedRoom>) -> Arc<[ListedRoom]> {
    rooms.sort_by_cached_key(|open| {
        let name = open.settings.name.as_ref().map(Label::as_str);
        name.unwrap_or(open.room.as_str()).to_lowercase()
    });
    rooms.into()
}
