//! The deletion of a room: it is out of reach at once, and erased event by event.
//!
//! The room's document stays with its id alone, which nobody gets again. Another node may write something a moment
//! later that it was asked for before; so what is left is erased once more a little after.

use std::time::Duration;

use mongodb::bson::{Document, doc};
use tokio::time::sleep;
use tokio_stream::StreamExt;

use super::MongoStore;
use super::collections::{Collections, has_field};
use super::retry::retry;
use super::room_document::{MAKING, SETTING, settings_fields};
use crate::domain::{Access, RoomId, RoomSettings};
use crate::store::task::{finish, in_task};
use crate::store::{Change, StoreError};

/// The field of a room that was deleted.
pub(super) const DELETED: &str = "deleted";

/// The field of one of which something may be left: when it was deleted, by the database's clock.
const ERASING: &str = "erasing";

const DELETE: &str = "delete a room";

/// The number of events erased by one command.
const AT_ONCE: u64 = 2_000;

/// The longest after a deletion that a write may come which another node was asked for before.
const LATE_WRITES: Duration = Duration::from_secs(30);

/// The time between two looks for what a node has left that died in the midst of it.
const LOOK_EVERY: Duration = Duration::from_mins(5);

/// Puts a room out of everybody's reach; `false` when there is none.
async fn begin(collections: &Collections, room: &RoomId) -> Result<bool, StoreError> {
    let live = doc! {
        "_id": room.as_str(), DELETED: { "$exists": false }, "access": { "$ne": Access::Direct.as_str() },
    };
    let update = doc! {
        "$set": nothing(), "$unset": { MAKING: "", SETTING: "" },
        "$currentDate": { ERASING: true },
    };
    let rooms = &collections.rooms;
    let update = || rooms.update_one(live.clone(), update.clone());
    if retry(DELETE, update).await?.matched_count > 0 {
        return Ok(true);
    }
    // An attempt whose answer was lost, or another who did the same just now.
    is_begun(collections, room).await
}

async fn is_begun(collections: &Collections, room: &RoomId) -> Result<bool, StoreError> {
    has_field(DELETE, &collections.rooms, room.as_str(), ERASING).await
}

/// Whether a room was put out of reach just now; asked until somebody answers.
async fn has_begun(collections: &Collections, room: &RoomId) -> bool {
    finish(DELETE, || is_begun(collections, room)).await
}

/// The document of a room that was deleted elsewhere.
pub(super) fn deleted_document(id: &str) -> Document {
    let mut document = nothing();
    document.insert("_id", id);
    document
}

/// The fields left of a room, beside its id.
fn nothing() -> Document {
    let mut nothing = settings_fields(&RoomSettings {
        access: Access::Private,
        ..RoomSettings::default()
    });
    nothing.insert(DELETED, true);
    nothing
}

/// Whether a room was deleted.
pub(super) async fn was_deleted(
    collections: &Collections,
    room: &RoomId,
) -> Result<bool, StoreError> {
    let deleted = doc! { "_id": room.as_str(), DELETED: true };
    let find = || collections.rooms.find_one(deleted.clone());
    Ok(retry(DELETE, find).await?.is_some())
}

/// Ends all memberships of a room that is out of reach, and the invitations to it.
async fn show_out(collections: &Collections, room: &RoomId) -> Result<(), StoreError> {
    let of_room = doc! { "room": room.as_str() };
    let (memberships, invites) = (&collections.memberships, &collections.invites);
    for collection in [memberships, invites, &collections.reports] {
        retry(DELETE, || collection.delete_many(of_room.clone())).await?;
    }
    Ok(())
}

/// Erases all there is of a room that is out of reach.
pub(super) async fn erase(collections: &Collections, room: &RoomId) -> Result<(), StoreError> {
    show_out(collections, room).await?;
    let of_room = doc! { "room": room.as_str() };
    loop {
        let last = retry(DELETE, || {
            let events = collections.events.find_one(of_room.clone());
            events.sort(doc! { "seq": 1 }).skip(AT_ONCE - 1)
        });
        let mut some = of_room.clone();
        let last = last.await?;
        if let Some(seq) = last.as_ref().and_then(|last| last.get_i64("seq").ok()) {
            some.insert("seq", doc! { "$lte": seq });
        }
        let delete = || collections.events.delete_many(some.clone());
        retry(DELETE, delete).await?;
        if last.is_none() {
            return Ok(());
        }
    }
}

async fn begun(collections: &Collections, filter: Document) -> Result<Vec<RoomId>, StoreError> {
    let found = retry(DELETE, || async {
        let found = collections.rooms.find(filter.clone());
        let found = found.projection(doc! { "_id": 1 }).await?;
        found.collect::<Result<Vec<Document>, _>>().await
    });
    let id = |room: &Document| RoomId::known(room.get_str("_id").ok()?).ok();
    Ok(found.await?.iter().filter_map(id).collect())
}

/// Erases what is left of all rooms that were deleted: also of those whose node died meanwhile. What may still be
/// written late is erased again another time.
async fn erase_all(collections: &Collections) -> Result<(), StoreError> {
    let late = LATE_WRITES.as_millis() as i64;
    // By versions before this one it is no moment, which is less than any.
    let is_over = doc! { "$lt": ["$erasing", { "$subtract": ["$$NOW", late] }] };
    let some = doc! { ERASING: { "$exists": true } };
    let mut over = some.clone();
    over.insert("$expr", is_over);
    let over = begun(collections, over).await?;
    for room in begun(collections, some).await? {
        erase(collections, &room).await?;
        if !over.contains(&room) {
            continue;
        }
        let by_id = doc! { "_id": room.as_str() };
        let erased = doc! { "$unset": { ERASING: "" } };
        let rooms = &collections.rooms;
        retry(DELETE, || rooms.update_one(by_id.clone(), erased.clone())).await?;
    }
    Ok(())
}

/// The same now, and once nothing is written late any more.
pub(super) async fn erase_late(collections: Collections) {
    for pause in [Duration::ZERO, LATE_WRITES + Duration::from_secs(1)] {
        sleep(pause).await;
        finish(DELETE, || erase_all(&collections)).await;
    }
}

/// The same for ever: a node may have died in the midst of it before this one started, or since.
pub(super) async fn erase_now_and_then(collections: Collections) {
    loop {
        erase_late(collections.clone()).await;
        sleep(LOOK_EVERY).await;
    }
}

impl MongoStore {
    pub(super) async fn delete(&self, room: &RoomId) -> Result<bool, StoreError> {
        let (collections, logs) = (self.collections.clone(), self.logs.clone());
        let room = room.clone();
        in_task(DELETE, async move {
            let has_begun = match begin(&collections, &room).await {
                Ok(has_begun) => has_begun,
                // It may have been done all the same, and must be finished then.
                Err(error) if !has_begun(&collections, &room).await => return Err(error),
                Err(_) => true,
            };
            if !has_begun {
                return Ok(false);
            }
            finish(DELETE, || show_out(&collections, &room)).await;
            let deleted = Change::RoomDeleted(room.clone());
            logs.tell(deleted.clone());
            finish(DELETE, || erase(&collections, &room)).await;
            logs.tell(deleted);
            tokio::spawn(erase_late(collections));
            Ok(true)
        })
        .await
    }
}
