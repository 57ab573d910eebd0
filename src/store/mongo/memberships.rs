//! How memberships begin and end, and whether there is one.

use std::collections::HashMap;

use async_trait::async_trait;
use mongodb::bson::{DateTime, Document, doc};
use tokio_stream::StreamExt;

use super::batch_loader::BATCH_MAX;
use super::collections::{Collections, find_linearizable, insert_once};
use super::event_document;
use super::log_writer::Logs;
use super::membership_document::{
    BANNED, BY, JOINING, LEAVING, ROLE, by_from, is_member, of_members, read_from,
};
use super::read_marks::{ReadMark, mark_read};
use super::retry::{attempt, retry};
use super::room_document::{MAKING, settings_fields, settings_from};
use super::settings::settings;
use super::{MongoStore, members, rooms};
use crate::domain::{
    Access, Author, MembershipId, NewEvent, NewKind, Nonce, Role, RoomId, RoomSettings, Seq, User,
    UserId,
};
use crate::store::{Change, Memberships, ROOMS_PER_USER_MAX, Relation, StoreError};

/// The operations' names in errors.
const JOIN: &str = "join a room";
const LEAVE: &str = "leave a room";

/// One user's membership of one room, to be begun or ended. Each is done in several writes, which may be repeated,
/// in an order that leaves nothing half done that doing it again would not finish.
#[derive(Clone)]
struct Changing {
    collections: Collections,
    logs: Logs,
    room: RoomId,
    user: User,
}

/// What somebody has to do with the room besides being its member.
enum End {
    Leaves,
    Removed(UserId),
    Banned(UserId),
}

impl Changing {
    fn key(&self) -> Document {
        doc! { "user": self.user.id.to_string(), "room": self.room.as_str() }
    }

    fn no_mark(&self) -> ReadMark {
        ReadMark {
            user: self.user.id,
            room: self.room.clone(),
            seq: 0,
            messages: 0,
        }
    }

    async fn found(&self) -> Result<Option<Document>, StoreError> {
        find_linearizable(JOIN, &self.collections.memberships, self.key()).await
    }

    /// The room, made if there is none, then [`Self::begin`]. Who makes a room stands in it until they are a
    /// member: it is theirs also when they are cut off.
    async fn join(&self, made: Option<RoomSettings>) -> Result<ReadMark, StoreError> {
        let (rooms, by_id) = (&self.collections.rooms, doc! { "_id": self.room.as_str() });
        let maker = self.user.id.to_string();
        let mut new = by_id.clone();
        new.insert("created_at", DateTime::now());
        new.insert(MAKING, &maker);
        new.extend(settings_fields(&made.clone().unwrap_or_default()));
        insert_once("make a room", rooms, by_id.clone(), new).await?;
        let room = find_linearizable("look up a room", rooms, by_id.clone()).await?;
        let room = room.unwrap_or_default();
        let settings = settings_from(&room);
        let is_making = room.get_str(MAKING).is_ok_and(|making| making == maker);
        let is_other = made.as_ref().is_some_and(|made| *made != settings);
        if is_other || made.is_some() && !is_making {
            return Err(StoreError::RoomTaken);
        }
        if !is_making {
            let membership = self.found().await?;
            let has = |field| { membership.as_ref() }.is_some_and(|it| it.contains_key(field));
            let is_private = settings.access.is_hidden();
            // Of whoever was added, somebody was cut off.
            if has(BANNED) || is_private && !has(JOINING) {
                return Err(match is_private {
                    true => StoreError::RoomTaken,
                    false => StoreError::Banned,
                });
            }
        }
        let role = if is_making { Role::Owner } else { Role::Member };
        let mark = self.begin(role, None).await?;
        if is_making {
            let unset = doc! { "$unset": { MAKING: "" } };
            let made = || rooms.update_one(by_id.clone(), unset.clone());
            retry("make a room", made).await?;
        }
        Ok(mark)
    }

    /// A membership that is still [`JOINING`], its event, and the membership as it stays. Nodes that do this at
    /// the same time share the membership's id, so they append one event. Answers how far the user has read the
    /// room by having joined it: nothing, who was a member.
    async fn begin(&self, role: Role, by: Option<&User>) -> Result<ReadMark, StoreError> {
        loop {
            self.reserve(role, by).await?;
            let Some(begun) = self.found().await? else {
                // Another node has finished it, and they have left already.
                return Ok(self.no_mark());
            };
            if begun.contains_key(LEAVING) {
                self.finish_end(&begun).await?;
            } else if begun.contains_key(BANNED) {
                return Err(StoreError::Banned);
            } else {
                return self.finish_begin(&begun).await;
            }
        }
    }

    /// Writes a membership that is still [`JOINING`], unless there is one.
    async fn reserve(&self, role: Role, by: Option<&User>) -> Result<(), StoreError> {
        let mut new = self.key();
        new.insert(JOINING, MembershipId::new().to_string());
        if role == Role::Owner {
            new.insert(ROLE, role.as_str());
        }
        if let Some(by) = by {
            new.insert(BY, by.id.to_string());
        }
        insert_once(JOIN, &self.collections.memberships, self.key(), new).await
    }

    /// Appends the event of a membership that is [`JOINING`], and has it stay; nothing of one that does.
    async fn finish_begin(&self, begun: &Document) -> Result<ReadMark, StoreError> {
        let mut mark = self.no_mark();
        let Ok(id) = begun.get_str(JOINING) else {
            return Ok(mark);
        };
        let mut joining = self.key();
        joining.insert(JOINING, id);
        let id = MembershipId::parse(id).map_err(|error| StoreError::backend(JOIN, error))?;
        let joined = NewEvent {
            author: Author::from(&self.user),
            kind: NewKind::Joined { by: by_from(begun) },
            nonce: Some(Nonce::joined(id)),
        };
        let joined = self.logs.append(&self.room, joined).await?;
        // Earlier messages are history to them.
        (mark.seq, mark.messages) = (joined.event().seq, joined.event().messages);
        let mut fields = mark.fields();
        fields.insert("joined_at", DateTime::now());
        fields.insert("joined", event_document::signed(mark.seq));
        let finish = doc! { "$set": fields, "$unset": { JOINING: "", BY: "" } };
        let memberships = &self.collections.memberships;
        retry(JOIN, || {
            memberships.update_one(joining.clone(), finish.clone())
        })
        .await
        .map(|_| mark)
    }

    /// The membership that is [`LEAVING`], its event, and the membership's end.
    async fn end(&self, end: End) -> Result<Seq, StoreError> {
        let memberships = &self.collections.memberships;
        let mut fields = doc! { LEAVING: MembershipId::new().to_string() };
        if let End::Removed(by) | End::Banned(by) = end {
            fields.insert(BY, by.to_string());
        }
        let ban = match end {
            End::Banned(by) => Some(doc! { "at": DateTime::now(), "by": by.to_string() }),
            End::Leaves | End::Removed(_) => None,
        };
        fields.extend(ban.iter().map(|ban| (BANNED.to_owned(), ban.into())));
        let (members, mark) = (of_members(self.key()), doc! { "$set": fields });
        // Whoever has made the room and was cut off then makes it no more.
        let made = doc! { "_id": self.room.as_str(), MAKING: self.user.id.to_string() };
        let no_maker = doc! { "$unset": { MAKING: "" } };
        let rooms = &self.collections.rooms;
        retry(LEAVE, || rooms.update_one(made.clone(), no_maker.clone())).await?;
        let mut seq = 0;
        loop {
            if let Some(ban) = &ban {
                let mut new = self.key();
                new.insert(BANNED, ban);
                insert_once(LEAVE, memberships, self.key(), new).await?;
            }
            retry(LEAVE, || {
                memberships.update_one(members.clone(), mark.clone())
            })
            .await?;
            match self.found().await? {
                Some(found) if found.contains_key(LEAVING) => {
                    seq = self.finish_end(&found).await?;
                    if ban.is_none() || found.contains_key(BANNED) {
                        return Ok(seq);
                    }
                }
                // They are about to enter, or somebody was cut off who added them.
                Some(found) if found.contains_key(JOINING) => {
                    self.finish_begin(&found).await?;
                }
                // They left at the same time.
                None if ban.is_some() => {}
                // They were no member, or another node has finished it.
                _ => return Ok(seq),
            }
        }
    }

    /// Appends the event of a membership that is [`LEAVING`], and ends it.
    async fn finish_end(&self, leaving: &Document) -> Result<Seq, StoreError> {
        let id = leaving.get_str(LEAVING).unwrap_or_default();
        let mut ended = self.key();
        ended.insert(LEAVING, id);
        let id = MembershipId::parse(id).map_err(|error| StoreError::backend(LEAVE, error))?;
        let left = NewEvent {
            author: Author::from(&self.user),
            kind: NewKind::Left {
                by: by_from(leaving),
            },
            nonce: Some(Nonce::left(id)),
        };
        let left = self.logs.append(&self.room, left).await?;
        let memberships = &self.collections.memberships;
        if leaving.contains_key(BANNED) {
            let mut rest = self.key();
            rest.insert(BANNED, leaving.get(BANNED).cloned().unwrap_or_default());
            let replace = || memberships.replace_one(ended.clone(), &rest);
            retry(LEAVE, replace).await?;
        } else {
            let delete = || memberships.delete_one(ended.clone());
            retry(LEAVE, delete).await?;
        }
        Ok(left.event().seq)
    }
}

async fn count(collections: &Collections, filter: Document) -> Result<u64, StoreError> {
    let count = || collections.memberships.count_documents(filter.clone());
    retry("count memberships", count).await
}

/// Whether somebody may be in one more room of the kind of this one.
async fn may_have_one_more(
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

/// Whoever was made an owner.
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

async fn relation(
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

/// The pairs that are memberships, each with how far its member has read the room.
pub(super) async fn find_members(
    collections: Collections,
    asked: Vec<(UserId, RoomId)>,
) -> Result<HashMap<(UserId, RoomId), Seq>, StoreError> {
    let any: Vec<Document> = { asked.iter() }
        .map(|(user, room)| doc! { "user": user.to_string(), "room": room.as_str() })
        .collect();
    let found = attempt("look up memberships", async {
        let found = collections.memberships.find(doc! { "$or": any });
        let found = found.batch_size(BATCH_MAX).await?;
        found.collect::<Result<Vec<_>, _>>().await
    })
    .await?;
    // An unreadable document is nobody else's concern: its owner looks alone, and hears why.
    let member = |membership: &Document| {
        if !is_member(membership) {
            return None;
        }
        let user = UserId::parse(membership.get_str("user").ok()?).ok()?;
        let room = RoomId::known(membership.get_str("room").ok()?).ok()?;
        Some(((user, room), read_from(membership)))
    };
    Ok(found.iter().filter_map(member).collect())
}

impl MongoStore {
    fn changing(&self, room: &RoomId, user: &User) -> Changing {
        Changing {
            collections: self.collections.clone(),
            logs: self.logs.clone(),
            room: room.clone(),
            user: user.clone(),
        }
    }

    fn has_begun(&self, mark: ReadMark) -> Seq {
        let (user, seq) = (mark.user, mark.seq);
        self.cache.apply(&mark.into());
        self.logs.tell(Change::Entered(user));
        seq
    }

    async fn end(&self, room: &RoomId, user: &User, end: End) -> Result<Seq, StoreError> {
        let changing = self.changing(room, user);
        let left = in_task(LEAVE, async move { changing.end(end).await }).await?;
        // Another node may have done it, of which this one hears later.
        self.cache.forget_user(user.id);
        self.logs.tell(Change::Resync);
        Ok(left)
    }
}

/// A task, because a client that hangs up drops its handler, not what it began.
async fn in_task<T: Send + 'static>(
    operation: &'static str,
    work: impl Future<Output = Result<T, StoreError>> + Send + 'static,
) -> Result<T, StoreError> {
    let done = tokio::spawn(work).await;
    done.map_err(|panicked| StoreError::backend(operation, panicked))?
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
        const OPERATION: &str = "lift a ban";
        let changing = self.changing(room, user);
        let lifting = async move {
            if let Some(found) = changing.found().await?
                && found.contains_key(LEAVING)
            {
                changing.finish_end(&found).await?;
            }
            let mut banned = changing.key();
            banned.insert(BANNED, doc! { "$exists": true });
            let memberships = &changing.collections.memberships;
            retry(OPERATION, || memberships.delete_one(banned.clone())).await
        };
        in_task(OPERATION, lifting).await.map(drop)
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
