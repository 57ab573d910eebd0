//! Rooms: their settings, and the lists of them.

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use mongodb::bson::{Document, doc};
use tokio_stream::StreamExt;

use super::collections::{Collections, find_linearizable};
use super::errors::unreadable;
use super::log_writer::Logs;
use super::membership_document::{
    BANNED, JOINING, LEAVING, LEVEL, is_member, of_members, read_from,
};
use super::read_marks::ReadMark;
use super::retry::retry;
use super::room_deletion::DELETED;
use super::room_document::{SETTING, settings_fields, settings_from};
use super::settings::settings;
use super::{MongoStore, event_document, log_ends, mentions};
use crate::domain::{
    Access, Author, Level, ListedRoom, MembershipId, NewEvent, NewKind, Nonce, RoomId,
    RoomSettings, RoomSummary, Seq, Setting, User, UserId,
};
use crate::store::cache::{CachedList, Durable, LogEnd, Membership, NEWEST_MAX, ReadCache};
use crate::store::task::in_task;
use crate::store::{
    Freshness, Log, OPEN_ROOMS_MAX, ROOMS_PER_USER_MAX, Rooms, Seen, StoreError, by_name,
    newest_first,
};

/// The memberships of `user`, by room.
pub(super) async fn memberships(
    collections: &Collections,
    user: UserId,
) -> Result<Vec<Membership>, StoreError> {
    const OPERATION: &str = "list the rooms";
    let own = doc! { "user": user.to_string() };
    let fields = doc! { "_id": 0, "room": 1, "read": 1, ReadMark::FIELD: 1, LEVEL: 1, JOINING: 1, LEAVING: 1, BANNED: 1 };
    let found = retry(OPERATION, || async {
        let found = collections.memberships.find(own.clone());
        let found = found
            .sort(doc! { "user": 1, "room": 1 })
            .projection(fields.clone());
        let found = found.batch_size(ROOMS_PER_USER_MAX as u32).await?;
        found.collect::<Result<Vec<Document>, _>>().await
    });
    let mut memberships = Vec::new();
    // Read to a place whose messages nobody has noted: by a version before this one.
    let mut uncounted = Vec::new();
    for membership in found.await?.iter().filter(|found| is_member(found)) {
        let room = membership.get_str("room").map_err(unreadable(OPERATION))?;
        let room = RoomId::known(room).map_err(|error| StoreError::backend(OPERATION, error))?;
        let read = read_from(membership);
        let mark = ReadMark::of(membership).filter(|mark| mark.seq == read);
        if mark.is_none() && read > 0 {
            uncounted.push((room.clone(), read));
        }
        memberships.push(Membership {
            room,
            read,
            read_messages: mark.map_or(0, |mark| mark.messages),
            mentions: Vec::new(),
            level: membership.get_str(LEVEL).map_or(Level::All, Level::stored),
        });
    }
    let counted = log_ends::events_at(collections, &uncounted).await?;
    for membership in &mut memberships {
        if let Some(event) = counted.get(&membership.room) {
            membership.read_messages = event.messages;
        }
    }
    let mut unread: HashMap<RoomId, Vec<Seq>> = HashMap::new();
    for place in mentions::unread(collections, user, None).await? {
        unread.entry(place.room).or_default().push(place.seq);
    }
    for membership in &mut memberships {
        if let Some(mut mentions) = unread.remove(&membership.room) {
            mentions.sort_unstable();
            membership.mentions = mentions;
        }
    }
    Ok(memberships)
}

/// The lobby, read all at once.
pub(super) async fn of(
    collections: &Collections,
    user: UserId,
) -> Result<Vec<RoomSummary>, StoreError> {
    let memberships = memberships(collections, user).await?;
    let rooms: Vec<RoomId> = { memberships.iter() }
        .map(|membership| membership.room.clone())
        .collect();
    let mut ends: HashMap<RoomId, LogEnd> = { log_ends::ends(collections, &rooms).await? }
        .into_iter()
        .collect();
    let mut summaries: Vec<RoomSummary> = { memberships.into_iter() }
        .map(|membership| {
            let end = ends.remove(&membership.room).unwrap_or_default();
            membership.summary(&end)
        })
        .collect();
    newest_first(&mut summaries);
    Ok(summaries)
}

const SET: &str = "change a setting";

/// The setting, with a note that its event is missing; the event; and the end of the note. Where a node dies
/// between them, the next change finishes it.
async fn set(
    collections: &Collections,
    logs: &Logs,
    cache: &ReadCache,
    room: &RoomId,
    by: &User,
    setting: &Setting,
) -> Result<Seq, StoreError> {
    let by_id = doc! { "_id": room.as_str() };
    let id = MembershipId::new();
    let note = doc! {
        "id": id.to_string(),
        "kind": setting.event_name(),
        "value": setting.value(),
        "by": by.id.to_string(),
        "by_name": by.username.as_str(),
    };
    let mut seq = 0;
    loop {
        let found = find_linearizable(SET, &collections.rooms, by_id.clone()).await?;
        let Some(found) = found.filter(|found| !found.contains_key(DELETED)) else {
            return Ok(0);
        };
        if let Ok(other) = found.get_document(SETTING) {
            seq = finish_set(collections, logs, room, other).await?;
            if other.get("id") == note.get("id") {
                return Ok(seq);
            }
            continue;
        }
        // Its answer was lost, and another has finished it: whatever is set by now was set later.
        if let Some(told) = told(collections, room, by, id).await? {
            return Ok(told);
        }
        let Some(settings) = settings_from(&found).with(setting) else {
            return Ok(seq);
        };
        let mut fields = settings_fields(&settings);
        fields.insert(SETTING, note.clone());
        let mut as_found = by_id.clone();
        as_found.insert(SETTING, doc! { "$exists": false });
        as_found.insert(DELETED, doc! { "$exists": false });
        // Another may have been made and told since; null is found where there is nothing.
        for key in settings_fields(&settings).keys() {
            as_found.insert(key, found.get(key).cloned().unwrap_or_default());
        }
        let set = doc! { "$set": fields };
        let update = || collections.rooms.update_one(as_found.clone(), set.clone());
        retry(SET, update).await?;
        cache.apply(&Durable::Settings(room.clone()));
    }
}

/// The number of the event that tells of a change, if it is in the log.
async fn told(
    collections: &Collections,
    room: &RoomId,
    by: &User,
    id: MembershipId,
) -> Result<Option<Seq>, StoreError> {
    let event = doc! {
        "room": room.as_str(),
        "author": by.id.to_string(),
        "nonce": Nonce::set(id).as_str(),
    };
    let find = || collections.events.find_one(event.clone());
    let found = retry(SET, find).await?;
    found.as_ref().map(event_document::seq_from).transpose()
}

/// Appends the event of a setting, and ends the note that it is missing.
async fn finish_set(
    collections: &Collections,
    logs: &Logs,
    room: &RoomId,
    note: &Document,
) -> Result<Seq, StoreError> {
    let text = |key| note.get_str(key).map_err(unreadable(SET));
    let id = MembershipId::parse(text("id")?).map_err(|error| StoreError::backend(SET, error))?;
    let by = UserId::parse(text("by")?).map_err(|error| StoreError::backend(SET, error))?;
    let mut seq = 0;
    // One of a kind that another version knows is in force, and nobody here can tell of it.
    if let Some(setting) = Setting::stored(text("kind")?, note.get_str("value").ok()) {
        let event = NewEvent {
            author: Author {
                id: by,
                username: text("by_name")?.into(),
            },
            kind: NewKind::Set(setting),
            nonce: Some(Nonce::set(id)),
        };
        seq = logs.append(room, event).await?.event().seq;
    }
    let noted = doc! { "_id": room.as_str(), "setting.id": id.to_string() };
    let unset = doc! { "$unset": { SETTING: "" } };
    retry(SET, || {
        collections.rooms.update_one(noted.clone(), unset.clone())
    })
    .await?;
    Ok(seq)
}

const OPEN: &str = "list open rooms";

async fn open_rooms(collections: &Collections) -> Result<Arc<[ListedRoom]>, StoreError> {
    let mut rooms: Vec<ListedRoom> = Vec::new();
    let mut after = String::new();
    // Once, unless many of them are empty.
    loop {
        let found = open_after(collections, &after).await?;
        let Some((last, _)) = found.last() else {
            break;
        };
        last.as_str().clone_into(&mut after);
        let is_all = found.len() < OPEN_ROOMS_MAX;
        rooms.extend(with_people(collections, found).await?);
        if is_all || rooms.len() >= OPEN_ROOMS_MAX {
            break;
        }
    }
    rooms.truncate(OPEN_ROOMS_MAX);
    Ok(by_name(rooms))
}

async fn open_after(
    collections: &Collections,
    after: &str,
) -> Result<Vec<(RoomId, RoomSettings)>, StoreError> {
    let open = doc! {
        "access": Access::Open.as_str(), "archived": { "$ne": true }, "_id": { "$gt": after },
    };
    let found = retry(OPEN, || async {
        let found = collections.rooms.find(open.clone()).sort(doc! { "_id": 1 });
        let found = found.limit(OPEN_ROOMS_MAX as i64);
        found
            .batch_size(OPEN_ROOMS_MAX as u32 + 1)
            .await?
            .collect::<Result<Vec<Document>, _>>()
            .await
    });
    let room = |found: &Document| {
        let id = found.get_str("_id").map_err(unreadable(OPEN))?;
        let id = RoomId::known(id).map_err(|error| StoreError::backend(OPEN, error))?;
        Ok((id, settings_from(found)))
    };
    found.await?.iter().map(room).collect()
}

const ALL: &str = "list all rooms";

async fn all_rooms(
    collections: &Collections,
    word: &str,
    after: &str,
    limit: usize,
) -> Result<Vec<ListedRoom>, StoreError> {
    let later = doc! {
        "_id": { "$gt": after }, "access": { "$ne": Access::Direct.as_str() },
        DELETED: { "$exists": false },
    };
    let found = retry(ALL, || async {
        let rooms = collections.rooms.find(later.clone());
        let mut rooms = rooms.sort(doc! { "_id": 1 }).await?;
        let mut found = Vec::new();
        while found.len() < limit
            && let Some(room) = rooms.try_next().await?
        {
            let Some(id) = room
                .get_str("_id")
                .ok()
                .and_then(|id| RoomId::known(id).ok())
            else {
                continue;
            };
            let listed = ListedRoom {
                room: id,
                settings: settings_from(&room),
                people: 0,
            };
            if listed.has(word) {
                found.push(listed);
            }
        }
        Ok(found)
    });
    let mut rooms = found.await?;
    let people = count_people(collections, rooms.iter().map(|room| &room.room)).await?;
    for room in &mut rooms {
        room.people = people.get(&room.room).copied().unwrap_or(0);
    }
    Ok(rooms)
}

/// Those with people in them: where nobody is, there is nobody to meet.
async fn with_people(
    collections: &Collections,
    rooms: Vec<(RoomId, RoomSettings)>,
) -> Result<Vec<ListedRoom>, StoreError> {
    let people = count_people(collections, rooms.iter().map(|(room, _)| room)).await?;
    let open = rooms.into_iter().filter_map(|(room, settings)| {
        Some(ListedRoom {
            people: people.get(&room).copied()?,
            room,
            settings,
        })
    });
    Ok(open.collect())
}

/// The number of people in each of these rooms where there are any.
async fn count_people(
    collections: &Collections,
    rooms: impl Iterator<Item = &RoomId>,
) -> Result<HashMap<RoomId, u64>, StoreError> {
    let ids: Vec<&str> = rooms.map(RoomId::as_str).collect();
    let pipeline = [
        doc! { "$match": of_members(doc! { "room": { "$in": ids } }) },
        doc! { "$group": { "_id": "$room", "people": { "$sum": 1_i64 } } },
    ];
    let counted = retry(OPEN, || async {
        let counted = collections.memberships.aggregate(pipeline.clone()).await?;
        counted.collect::<Result<Vec<Document>, _>>().await
    });
    let counted = counted.await?;
    let people = counted.iter().filter_map(|counted| {
        let room = RoomId::known(counted.get_str("_id").ok()?).ok()?;
        Some((room, counted.get_i64("people").ok()?.unsigned_abs()))
    });
    Ok(people.collect())
}

/// Whether a list is new enough.
fn has_seen(list: &[RoomSummary], freshness: &Freshness) -> bool {
    let Freshness::Seen(seen) = freshness else {
        return false;
    };
    let mut rooms = seen.rooms();
    rooms.all(|seen| {
        let listed = list.iter().find(|listed| listed.room == *seen);
        listed.is_some_and(|listed| freshness.allows(seen, listed.head))
    })
}

#[async_trait]
impl Rooms for MongoStore {
    async fn settings(&self, room: &RoomId) -> Result<Option<RoomSettings>, StoreError> {
        settings(&self.collections, room).await
    }

    async fn kept_settings(&self, room: &RoomId) -> Result<Arc<RoomSettings>, StoreError> {
        let kept = || self.trusted_cache().and_then(|cache| cache.settings(room));
        if let Some(settings) = kept() {
            return Ok(settings);
        }
        // They are kept with the newest page, so that a post reads nothing but once.
        if self.trusted_cache().is_some() {
            let seen = Freshness::Seen(Seen::default());
            self.newest(room, NEWEST_MAX, &seen).await?;
        }
        match kept() {
            Some(settings) => Ok(settings),
            None => Ok(self.settings(room).await?.unwrap_or_default().into()),
        }
    }

    async fn set(&self, room: &RoomId, by: &User, setting: Setting) -> Result<Seq, StoreError> {
        let (collections, logs) = (self.collections.clone(), self.logs.clone());
        let (cache, room, by) = (Arc::clone(&self.cache), room.clone(), by.clone());
        in_task(SET, async move {
            set(&collections, &logs, &cache, &room, &by, &setting).await
        })
        .await
    }

    async fn delete_room(&self, room: &RoomId) -> Result<bool, StoreError> {
        self.delete(room).await
    }

    async fn open_rooms(&self) -> Result<Arc<[ListedRoom]>, StoreError> {
        if let Some(kept) = self.trusted_cache().and_then(ReadCache::open_rooms) {
            return Ok(kept);
        }
        let token = self.cache.token();
        let rooms = open_rooms(&self.collections).await?;
        self.cache.keep_open_rooms(&token, &rooms);
        Ok(rooms)
    }

    async fn all_rooms(
        &self,
        word: String,
        after: String,
        limit: usize,
    ) -> Result<Vec<ListedRoom>, StoreError> {
        all_rooms(&self.collections, &word, &after, limit).await
    }

    async fn rooms_of(
        &self,
        user: &User,
        freshness: &Freshness,
    ) -> Result<Arc<[RoomSummary]>, StoreError> {
        if let Some(cache) = self.trusted_cache() {
            // Once to know which, once to know their ends, and once more if one of them has changed.
            for _ in 0..4 {
                let token = cache.token();
                match cache.rooms_of(user.id) {
                    CachedList::List(list) => {
                        if has_seen(&list, freshness) {
                            return Ok(list);
                        }
                        break;
                    }
                    CachedList::Nothing => {
                        let read = memberships(&self.collections, user.id).await?;
                        cache.keep_memberships(&token, user.id, read);
                    }
                    CachedList::AllBut(rooms) => {
                        let ends = log_ends::ends(&self.collections, &rooms).await?;
                        cache.keep_ends(&token, user.id, ends);
                    }
                }
            }
        }
        Ok(of(&self.collections, user.id).await?.into())
    }
}
