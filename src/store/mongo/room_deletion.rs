//! The deletion of a room: it is out of reach at once, and erased event by event.
//!
//! The room's document stays with its id alone, which nobody gets again. Another node may write something a moment
//! later that it was asked for before; so what is left is erased once more a little after.

use std::time::Duration;

use mongodb::bson::{Document, doc};
use tokio::time::sleep;
use tokio_stream::StreamExt;

use super::MongoStore;
use super::collections::{Collections, find_linearizable};
use super::retry::retry;
use super::room_document::{MAKING, SETTING, settings_fields};
use super::task::in_task;
use crate::domain::{Access, RoomId, RoomSettings};
use crate::store::{Change, StoreError};

/// The field of a room that was deleted.
pub(super) const DELETED: &str = "deleted";

/// The field of one of which something may be left.
const ERASING: &str = "erasing";

const DELETE: &str = "delete a room";

/// How many events are erased by one command.
const AT_ONCE: u64 = 2_000;

/// How long until a failure is followed by another try.
const AGAIN_IN: Duration = Duration::from_secs(5);

/// How long after a deletion something may still be written that another node was asked for before.
const LATE_WRITES: Duration = Duration::from_secs(30);

/// Puts a room out of everybody's reach; `false` when there is none.
async fn begin(collections: &Collections, room: &RoomId) -> Result<bool, StoreError> {
    let live = doc! {
        "_id": room.as_str(), DELETED: { "$exists": false }, "access": { "$ne": Access::Direct.as_str() },
    };
    let mut fields = nothing();
    fields.insert(ERASING, true);
    let update = doc! { "$set": fields, "$unset": { MAKING: "", SETTING: "" } };
    let rooms = &collections.rooms;
    let update = || rooms.update_one(live.clone(), update.clone());
    if retry(DELETE, update).await?.matched_count > 0 {
        return Ok(true);
    }
    // An attempt whose answer was lost, or another who did the same.
    let by_id = doc! { "_id": room.as_str() };
    let found = find_linearizable(DELETE, rooms, by_id).await?;
    Ok(found.is_some_and(|found| found.contains_key(DELETED)))
}

/// The document of a room that was deleted elsewhere.
pub(super) fn deleted_document(id: &str) -> Document {
    let mut document = nothing();
    document.insert("_id", id);
    document
}

/// What is left of a room, beside its id.
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

/// Erases what is left of all rooms that were deleted: also of those whose node died meanwhile. What may still be
/// written late is erased again, until `is_last`.
async fn erase_all(collections: &Collections, is_last: bool) -> Result<(), StoreError> {
    let begun = doc! { ERASING: true };
    let found = retry(DELETE, || async {
        let found = collections.rooms.find(begun.clone()).await?;
        found.collect::<Result<Vec<Document>, _>>().await
    });
    let rooms = found.await?;
    let ids = rooms.iter().filter_map(|room| room.get_str("_id").ok());
    for room in ids.filter_map(|id| RoomId::known(id).ok()) {
        erase(collections, &room).await?;
        if !is_last {
            continue;
        }
        let by_id = doc! { "_id": room.as_str() };
        let erased = doc! { "$unset": { ERASING: "" } };
        let rooms = &collections.rooms;
        retry(DELETE, || rooms.update_one(by_id.clone(), erased.clone())).await?;
    }
    Ok(())
}

/// The same now, and once nothing is written late any more; again where the database fails.
pub(super) async fn erase_late(collections: Collections) {
    for (pause, is_last) in [(Duration::ZERO, false), (LATE_WRITES, true)] {
        sleep(pause).await;
        while let Err(error) = erase_all(&collections, is_last).await {
            tracing::warn!(?error, "cannot erase a room that was deleted: trying again");
            sleep(AGAIN_IN).await;
        }
    }
}

impl MongoStore {
    pub(super) async fn delete(&self, room: &RoomId) -> Result<bool, StoreError> {
        let (collections, logs) = (self.collections.clone(), self.logs.clone());
        let room = room.clone();
        in_task(DELETE, async move {
            if !begin(&collections, &room).await? {
                return Ok(false);
            }
            show_out(&collections, &room).await?;
            let deleted = Change::RoomDeleted(room.clone());
            logs.tell(deleted.clone());
            erase(&collections, &room).await?;
            logs.tell(deleted);
            tokio::spawn(erase_late(collections));
            Ok(true)
        })
        .await
    }
}
