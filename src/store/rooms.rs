//! Rooms: their settings, and the lists of them.

use std::collections::HashSet;
use std::sync::Arc;

use async_trait::async_trait;

use super::{Freshness, StoreError};
use crate::domain::{
    Label, OpenRoom, RoomId, RoomSettings, RoomSummary, Seq, Setting, Timestamp, User,
};

/// So many open rooms are looked through for a word.
pub(super) const OPEN_LOOKED_THROUGH: usize = 2_000;

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

    /// Open rooms that are not archived and have people in them, without these, with a word in their ids, names or topics, by name: at most `limit`, of the
    /// first two thousand.
    async fn open_rooms(
        &self,
        but: &[RoomId],
        word: &str,
        limit: usize,
    ) -> Result<Vec<OpenRoom>, StoreError>;

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

/// Those with a word in them, by name.
pub(super) fn with_word(
    rooms: Vec<(RoomId, RoomSettings)>,
    but: &[RoomId],
    word: &str,
    limit: usize,
) -> Vec<(RoomId, RoomSettings)> {
    let word = word.trim().to_lowercase();
    let but: HashSet<&RoomId> = but.iter().collect();
    let has_word = |(room, settings): &(RoomId, RoomSettings)| {
        let labels = [&settings.name, &settings.topic].into_iter().flatten();
        let texts = labels.map(|label| label.as_str().to_lowercase());
        !but.contains(room)
            && (room.as_str().contains(&word) || texts.into_iter().any(|text| text.contains(&word)))
    };
    let mut rooms: Vec<_> = rooms.into_iter().filter(has_word).collect();
    let title = |room: &RoomId, name: &Option<Label>| {
        let name = name.as_ref().map(Label::as_str);
        name.unwrap_or(room.as_str()).to_lowercase()
    };
    rooms.sort_by_cached_key(|(room, settings)| title(room, &settings.name));
    rooms.truncate(limit);
    rooms
}
