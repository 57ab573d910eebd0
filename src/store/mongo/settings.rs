//! Rooms' settings, with the people of direct ones.

use std::collections::HashMap;
use std::sync::Arc;

use mongodb::bson::{Document, doc};
use tokio_stream::StreamExt;

use super::collections::Collections;
use super::retry::retry;
use super::room_deletion::DELETED;
use super::room_document::settings_from;
use crate::domain::{Author, RoomId, RoomSettings, UserId, Username};
use crate::store::{ROOMS_PER_USER_MAX, StoreError};

const OPERATION: &str = "look up rooms";

/// The settings of a room; `None` of one that is not there.
pub(super) async fn settings(
    collections: &Collections,
    room: &RoomId,
) -> Result<Option<RoomSettings>, StoreError> {
    let found = settings_of(collections, std::slice::from_ref(room)).await?;
    Ok(found.into_values().next().map(Arc::unwrap_or_clone))
}

/// The settings of some rooms, those that are there. They are read after their logs: what a log tells of is in
/// force by then.
pub(super) async fn settings_of(
    collections: &Collections,
    rooms: &[RoomId],
) -> Result<HashMap<RoomId, Arc<RoomSettings>>, StoreError> {
    let ids: Vec<&str> = rooms.iter().map(RoomId::as_str).collect();
    let found = retry(OPERATION, || async {
        let found = collections
            .rooms
            .find(doc! { "_id": { "$in": ids.clone() }, DELETED: { "$exists": false } });
        let found = found.batch_size(2 * ROOMS_PER_USER_MAX as u32 + 1).await?;
        found.collect::<Result<Vec<Document>, _>>().await
    });
    let mut people = people_of(collections, rooms).await?;
    let settings = |found: &Document| {
        let room = RoomId::known(found.get_str("_id").ok()?).ok()?;
        let mut settings = settings_from(found);
        settings.people = people.remove(&room).unwrap_or_default().into();
        Some((room, Arc::new(settings)))
    };
    Ok(found.await?.iter().filter_map(settings).collect())
}

/// The people of those rooms that are direct, by name.
async fn people_of(
    collections: &Collections,
    rooms: &[RoomId],
) -> Result<HashMap<RoomId, Vec<Author>>, StoreError> {
    let direct = rooms.iter().filter(|room| room.is_direct());
    let ids: Vec<&str> = direct.map(RoomId::as_str).collect();
    let mut people: HashMap<RoomId, Vec<Author>> = HashMap::new();
    if ids.is_empty() {
        return Ok(people);
    }
    // Also those who are about to be: they are there before the first of them is a member.
    let members = doc! { "room": { "$in": ids } };
    let found = retry(OPERATION, || async {
        let found = collections.memberships.find(members.clone());
        let found = found.projection(doc! { "_id": 0, "room": 1, "user": 1 });
        found.await?.collect::<Result<Vec<Document>, _>>().await
    });
    let member = |found: &Document| {
        let room = RoomId::known(found.get_str("room").ok()?).ok()?;
        Some((room, UserId::parse(found.get_str("user").ok()?).ok()?))
    };
    let members: Vec<(RoomId, UserId)> = found.await?.iter().filter_map(member).collect();
    let users = members.iter().map(|(_, user)| *user);
    let names = collections.states.names(users.collect()).await?;
    for (room, id) in members {
        if let Some(name) = names.get(&id) {
            let username = Arc::clone(name);
            people
                .entry(room)
                .or_default()
                .push(Author { id, username });
        }
    }
    for people in people.values_mut() {
        people.sort_by_cached_key(|one| Username::stored(&one.username).key());
    }
    Ok(people)
}
