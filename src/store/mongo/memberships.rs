//! Memberships: whether there is one, who owns a room, and what is done about them.

use std::sync::Arc;

use async_trait::async_trait;
use mongodb::bson::{DateTime, Document, doc};
use tokio_stream::StreamExt;

use super::collections::{Collections, insert_once};
use super::membership_changes::{Changing, End, JOIN, LEAVE};
use super::membership_document::{BANNED, ROLE, is_member, of_members, read_from, set_level};
use super::read_marks::{ReadMark, mark_read};
use super::retry::retry;
use super::room_document::settings_fields;
use super::settings::settings;
use super::{MongoStore, members, rooms};
use crate::domain::{Access, Level, Role, RoomId, RoomSettings, Seq, User, UserId};
use crate::store::cache::Durable;
use crate::store::task::in_task;
use crate::store::{Change, Memberships, ROOMS_PER_USER_MAX, Relation, StoreError};

async fn count(collections: &Collections, filter: Document) -> Result<u64, StoreError> {
    let count = || collections.memberships.count_documents(filter.clone());
    retry("count memberships", count).await
}

/// Whether somebody may be in one more room of the kind of this one.
pub(super) async fn may_have_one_more(
    collections: &Collections,
    room: &RoomId,
    user: &User,
) -> Result<(), StoreError> {
    let own = doc! { "user": user.id.to_string() };
    let mut direct = own.clone();
    direct.insert("room", doc! { "$gte": "@", "$lt": "A" });
    // Each counted by one run of an index.
    let how_many = async |only: fn(Document) -> Document| {
        let directs = count(collections, only(direct.clone())).await?;
        match room.is_direct() {
            true => Ok(directs),
            false => Ok(count(collections, only(own.clone()))
                .await?
                .saturating_sub(directs)),
        }
    };
    if how_many(|all| all).await? < ROOMS_PER_USER_MAX as u64 {
        return Ok(());
    }
    // Some may be none. The keys alone, which are counted first, don't say that.
    match how_many(of_members).await? < ROOMS_PER_USER_MAX as u64 {
        true => Ok(()),
        false => Err(StoreError::TooManyRooms),
    }
}

/// Whether a room that a member would make is the one they have made.
async fn is_made(
    collections: &Collections,
    room: &RoomId,
    user: UserId,
    made: &RoomSettings,
) -> Result<bool, StoreError> {
    let settings = settings(collections, room).await?;
    Ok(settings.as_ref() == Some(made) && owners(collections, room).await?.contains(&user))
}

/// The members who were made owners.
async fn made_owners(collections: &Collections, room: &RoomId) -> Result<Vec<UserId>, StoreError> {
    let mut made = of_members(doc! { "room": room.as_str() });
    made.insert(ROLE, Role::Owner.as_str());
    let found = retry(OWNERS, || async {
        let found = collections.memberships.find(made.clone());
        let found = found.projection(doc! { "_id": 0, "user": 1 }).await?;
        found.collect::<Result<Vec<_>, _>>().await
    });
    Ok(found.await?.iter().filter_map(user_of).collect())
}

const OWNERS: &str = "look up owners";

fn user_of(membership: &Document) -> Option<UserId> {
    UserId::parse(membership.get_str("user").ok()?).ok()
}

async fn owners(collections: &Collections, room: &RoomId) -> Result<Vec<UserId>, StoreError> {
    if room.is_direct() {
        return Ok(Vec::new());
    }
    let made = made_owners(collections, room).await?;
    if !made.is_empty() {
        return Ok(made);
    }
    let members = of_members(doc! { "room": room.as_str() });
    let find = || {
        let oldest = collections.memberships.find_one(members.clone());
        oldest.sort(doc! { "joined": 1, "joined_at": 1, "user": 1 })
    };
    let oldest = retry(OWNERS, find).await?;
    Ok(oldest.iter().filter_map(user_of).collect())
}

async fn set_role(
    collections: &Collections,
    room: &RoomId,
    user: UserId,
    role: Role,
) -> Result<bool, StoreError> {
    let set = async |user: UserId, role: Role| {
        let member = of_members(doc! { "user": user.to_string(), "room": room.as_str() });
        let update = match role {
            Role::Owner => doc! { "$set": { ROLE: role.as_str() } },
            Role::Member => doc! { "$unset": { ROLE: "" } },
        };
        let update = || {
            collections
                .memberships
                .update_one(member.clone(), update.clone())
        };
        let updated = retry("give a role", update).await?;
        Ok(updated.matched_count > 0)
    };
    if role == Role::Owner && made_owners(collections, room).await?.is_empty() {
        for owner in owners(collections, room).await? {
            set(owner, Role::Owner).await?;
        }
    }
    set(user, role).await
}

pub(super) async fn relation(
    collections: &Collections,
    room: &RoomId,
    user: &User,
) -> Result<Relation, StoreError> {
    let membership = doc! { "user": user.id.to_string(), "room": room.as_str() };
    let find = || collections.memberships.find_one(membership.clone());
    let membership = retry("look up a membership", find).await?;
    if let Some(membership) = &membership
        && is_member(membership)
    {
        return Ok(Relation::Member {
            read: read_from(membership),
        });
    }
    let settings = settings(collections, room).await?;
    let is_banned = membership.is_some_and(|it| it.contains_key(BANNED));
    Ok(match settings.map(|settings| settings.access) {
        None => Relation::NoRoom,
        Some(access) if access.is_hidden() => Relation::NoRoom,
        Some(_) if is_banned => Relation::Banned,
        Some(_) => Relation::NotMember,
    })
}

impl MongoStore {
    pub(super) fn changing(&self, room: &RoomId, user: &User) -> Changing {
        Changing {
            collections: self.collections.clone(),
            logs: self.logs.clone(),
            room: room.clone(),
            user: user.clone(),
        }
    }

    pub(super) fn has_begun(&self, mark: ReadMark) -> Seq {
        let (user, seq) = (mark.user, mark.seq);
        self.cache.apply(&mark.into());
        self.logs.tell(Change::Entered(user));
        seq
    }

    async fn end(&self, room: &RoomId, user: &User, end: End) -> Result<Seq, StoreError> {
        let changing = self.changing(room, user);
        let cache = Arc::clone(&self.cache);
        in_task(LEAVE, async move { changing.end_told(end, &cache).await }).await
    }
}

#[async_trait]
impl Memberships for MongoStore {
    async fn join(
        &self,
        room: &RoomId,
        user: &User,
        made: Option<&RoomSettings>,
    ) -> Result<Seq, StoreError> {
        if let Relation::Member { .. } = relation(&self.collections, room, user).await? {
            return match made {
                Some(made) if !is_made(&self.collections, room, user.id, made).await? => {
                    Err(StoreError::RoomTaken)
                }
                _ => Ok(0),
            };
        }
        may_have_one_more(&self.collections, room, user).await?;
        let (changing, made) = (self.changing(room, user), made.cloned());
        let mark = in_task(JOIN, async move { changing.join(made).await }).await?;
        Ok(self.has_begun(mark))
    }

    async fn join_direct(&self, people: &[User]) -> Result<(RoomId, Seq), StoreError> {
        let ids: Vec<UserId> = people.iter().map(|user| user.id).collect();
        let room = RoomId::direct(&ids);
        let mut joining = Vec::new();
        for user in people {
            if let Relation::Member { .. } = relation(&self.collections, &room, user).await? {
                continue;
            }
            may_have_one_more(&self.collections, &room, user).await?;
            joining.push(self.changing(&room, user));
        }
        let (rooms, id) = (self.collections.rooms.clone(), room.clone());
        let direct = RoomSettings {
            access: Access::Direct,
            ..RoomSettings::default()
        };
        let entering = async move {
            let by_id = doc! { "_id": id.as_str() };
            let mut new = by_id.clone();
            new.insert("created_at", DateTime::now());
            new.extend(settings_fields(&direct));
            insert_once("make a room", &rooms, by_id, new).await?;
            let mut marks = Vec::new();
            // Whoever is a member sees all of them.
            for changing in &joining {
                changing.reserve(Role::Member, None).await?;
            }
            for changing in joining {
                marks.push(changing.begin(Role::Member, None).await?);
            }
            Ok(marks)
        };
        let marks = in_task(JOIN, entering).await?;
        let begun = marks.into_iter().map(|mark| self.has_begun(mark));
        Ok((room, begun.max().unwrap_or(0)))
    }

    async fn leave(&self, room: &RoomId, user: &User) -> Result<Seq, StoreError> {
        self.end(room, user, End::Leaves).await
    }

    async fn add(&self, room: &RoomId, by: &User, user: &User) -> Result<Seq, StoreError> {
        if let Relation::Member { .. } = relation(&self.collections, room, user).await? {
            return Ok(0);
        }
        may_have_one_more(&self.collections, room, user).await?;
        let (changing, by) = (self.changing(room, user), by.clone());
        let adding = async move { changing.begin(Role::Member, Some(&by)).await };
        let mark = in_task(JOIN, adding).await?;
        Ok(self.has_begun(mark))
    }

    async fn remove(&self, room: &RoomId, by: &User, user: &User) -> Result<Seq, StoreError> {
        self.end(room, user, End::Removed(by.id)).await
    }

    async fn ban(&self, room: &RoomId, by: &User, user: &User) -> Result<Seq, StoreError> {
        self.end(room, user, End::Banned(by.id)).await
    }

    async fn unban(&self, room: &RoomId, user: &User) -> Result<(), StoreError> {
        let changing = self.changing(room, user);
        in_task("lift a ban", async move { changing.unban().await }).await
    }

    async fn banned(&self, room: &RoomId, limit: usize) -> Result<Vec<User>, StoreError> {
        let banned = doc! { "room": room.as_str(), BANNED: { "$exists": true } };
        members::users_among(&self.collections, banned, limit).await
    }

    async fn owners(&self, room: &RoomId) -> Result<Vec<UserId>, StoreError> {
        owners(&self.collections, room).await
    }

    async fn set_role(&self, room: &RoomId, user: UserId, role: Role) -> Result<bool, StoreError> {
        set_role(&self.collections, room, user, role).await
    }

    async fn set_level(
        &self,
        room: &RoomId,
        user: UserId,
        level: Level,
    ) -> Result<bool, StoreError> {
        let member = of_members(doc! { "user": user.to_string(), "room": room.as_str() });
        let update = set_level(user, level);
        let memberships = &self.collections.memberships;
        let set = || memberships.update_one(member.clone(), update.clone());
        let set = retry("choose what counts as unread", set).await?;
        self.cache.apply(&Durable::Level(user));
        self.logs.tell(Change::Entered(user));
        Ok(set.matched_count > 0)
    }

    async fn relation(&self, room: &RoomId, user: &User) -> Result<Relation, StoreError> {
        if let Some(cache) = self.trusted_cache() {
            if let Some(read) = cache.read_by(user.id, room) {
                return Ok(Relation::Member { read });
            }
            if !cache.knows(user.id) {
                let token = cache.token();
                let memberships = rooms::memberships(&self.collections, user.id).await?;
                let member = memberships.iter().find(|member| member.room == *room);
                let read = member.map(|member| member.read);
                cache.keep_memberships(&token, user.id, memberships);
                if let Some(read) = read {
                    return Ok(Relation::Member { read });
                }
            }
        }
        // Somebody may have joined elsewhere a moment ago: that they are no member is read.
        match self.members.find((user.id, room.clone())).await {
            Some(read) => Ok(Relation::Member { read }),
            None => relation(&self.collections, room, user).await,
        }
    }

    async fn mark_read(&self, room: &RoomId, user: &User, seq: Seq) -> Result<(), StoreError> {
        if let Some(read) = mark_read(&self.collections, room, user, seq).await? {
            self.cache.apply(&read);
        }
        Ok(())
    }
}
