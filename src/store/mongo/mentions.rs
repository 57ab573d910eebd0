//! Mentions: each message has whom it is for, in a list that is indexed.

use std::collections::HashMap;

use async_trait::async_trait;
use mongodb::bson::{DateTime, Document, doc};
use tokio_stream::StreamExt;

use super::MongoStore;
use super::collections::Collections;
use super::errors::unreadable;
use super::event_document::{mention_place_from, signed};
use super::membership_document::{of_members, read_from};
use super::retry::retry;
use crate::domain::{self, RoomId, Seq, User, UserId};
use crate::store::{
    MentionPlace, Mentions, MentionsPage, ROOMS_PER_USER_MAX, StoreError, shortened,
};

const OPERATION: &str = "list mentions";

/// A user's unread mentions before a place, in no order: of each room the last
/// [`domain::Mentions::UNREAD_MAX`].
pub(super) async fn unread(
    collections: &Collections,
    user: UserId,
    place: Option<&MentionPlace>,
) -> Result<Vec<MentionPlace>, StoreError> {
    let user = user.to_string();
    let mut matching = doc! {
        "mentions": { "$in": [&user, domain::Mentions::ROOM] },
        "author": { "$ne": &user },
        "deleted_at": { "$exists": false },
        "$expr": { "$gt": ["$seq", "$$read"] },
    };
    if let Some(place) = place {
        matching.extend(before(place));
    }
    let pipeline = [
        doc! { "$match": of_members(doc! { "user": &user }) },
        // A seek in the index for each room.
        doc! { "$lookup": {
            "from": "events",
            "localField": "room",
            "foreignField": "room",
            "let": { "read": { "$ifNull": ["$read", 0] } },
            "pipeline": [
                { "$match": matching },
                { "$sort": { "seq": -1 } },
                { "$limit": domain::Mentions::UNREAD_MAX as i64 },
                { "$project": { "_id": 0, "room": 1, "seq": 1, "at": 1 } },
            ],
            "as": "mention",
        } },
        doc! { "$unwind": "$mention" },
        doc! { "$replaceWith": "$mention" },
    ];
    let found = retry(OPERATION, || async {
        let found = collections.memberships.aggregate(pipeline.clone()).await?;
        found.collect::<Result<Vec<Document>, _>>().await
    });
    found.await?.iter().map(mention_place_from).collect()
}

/// A filter that finds the messages before a place.
fn before(MentionPlace { at, room, seq }: &MentionPlace) -> Document {
    let at = DateTime::from_millis(at.as_millis());
    let (room, seq) = (room.as_str(), signed(*seq));
    doc! {
        "at": { "$lte": at },
        "$or": [
            { "at": { "$lt": at } },
            { "at": at, "room": { "$lt": room } },
            { "at": at, "room": room, "seq": { "$lt": seq } },
        ],
    }
}

/// A user's memberships, as far as they matter here: how far they have read each room, and after which event
/// they are in it.
async fn memberships(
    collections: &Collections,
    user: UserId,
) -> Result<HashMap<RoomId, (Seq, Seq)>, StoreError> {
    let own = of_members(doc! { "user": user.to_string() });
    let fields = doc! { "_id": 0, "room": 1, "read": 1, "joined": 1 };
    let found = retry(OPERATION, || async {
        let found = collections.memberships.find(own.clone());
        let found = found.projection(fields.clone());
        let found = found.batch_size(ROOMS_PER_USER_MAX as u32 + 1).await?;
        found.collect::<Result<Vec<Document>, _>>().await
    });
    let membership = |found: &Document| {
        let room = found.get_str("room").map_err(unreadable(OPERATION))?;
        let room = RoomId::known(room).map_err(|error| StoreError::backend(OPERATION, error))?;
        let joined = found.get_i64("joined").map_or(0, i64::unsigned_abs);
        Ok((room, (read_from(found), joined)))
    };
    found.await?.iter().map(membership).collect()
}

/// The newest messages that a filter finds before a place, at most `limit` of those to be taken.
async fn newest(
    collections: &Collections,
    mut filter: Document,
    place: Option<&MentionPlace>,
    limit: usize,
    is_taken: impl Fn(&MentionPlace) -> bool,
) -> Result<Vec<MentionPlace>, StoreError> {
    filter.insert("deleted_at", doc! { "$exists": false });
    if let Some(place) = place {
        filter.extend(before(place));
    }
    retry(OPERATION, || async {
        let find = collections.events.find(filter.clone());
        let find = find.projection(doc! { "_id": 0, "room": 1, "seq": 1, "at": 1 });
        let mut found = find.sort(doc! { "at": -1, "room": -1, "seq": -1 }).await?;
        let mut taken = Vec::new();
        while taken.len() < limit
            && let Some(document) = found.try_next().await?
        {
            let place = mention_place_from(&document).map_err(mongodb::error::Error::custom)?;
            if is_taken(&place) {
                taken.push(place);
            }
        }
        Ok(taken)
    })
    .await
}

async fn read(
    collections: &Collections,
    user: UserId,
    before: Option<&MentionPlace>,
    limit: usize,
) -> Result<Vec<MentionPlace>, StoreError> {
    let memberships = memberships(collections, user).await?;
    let rooms: Vec<&str> = memberships.keys().map(RoomId::as_str).collect();
    let is_read = |place: &MentionPlace| {
        let membership = memberships.get(&place.room);
        membership.is_some_and(|(read, _)| place.seq <= *read)
    };
    let is_since_joined = |place: &MentionPlace| {
        let membership = memberships.get(&place.room);
        membership.is_some_and(|(_, joined)| place.seq > *joined)
    };
    let user = user.to_string();
    let by_name = doc! { "mentions": &user };
    let mut all = newest(collections, by_name, before, limit, is_read).await?;
    let to_room = doc! {
        "mentions": domain::Mentions::ROOM,
        "room": { "$in": rooms },
        "author": { "$ne": &user },
    };
    let to_room = newest(collections, to_room, before, limit, |place| {
        is_read(place) && is_since_joined(place)
    });
    all.extend(to_room.await?);
    Ok(all)
}

async fn page(
    collections: &Collections,
    mut places: Vec<MentionPlace>,
    limit: usize,
) -> Result<MentionsPage, StoreError> {
    places.sort_by(|one, other| other.cmp(one));
    places.dedup();
    let found = places.len();
    places.truncate(limit);
    let places = places.into_iter().map(|place| (place.room, place.seq));
    let events = shortened(collections.states.read(places.collect()).await?);
    let is_last = events.len() == found;
    Ok(MentionsPage { events, is_last })
}

#[async_trait]
impl Mentions for MongoStore {
    async fn unread_mentions(
        &self,
        user: &User,
        before: Option<MentionPlace>,
        limit: usize,
    ) -> Result<MentionsPage, StoreError> {
        let unread = unread(&self.collections, user.id, before.as_ref()).await?;
        page(&self.collections, unread, limit).await
    }

    async fn read_mentions(
        &self,
        user: &User,
        before: Option<MentionPlace>,
        limit: usize,
    ) -> Result<MentionsPage, StoreError> {
        let read = read(&self.collections, user.id, before.as_ref(), limit + 1).await?;
        page(&self.collections, read, limit).await
    }
}
