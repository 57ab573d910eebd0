//! Begins and ends memberships.

use mongodb::bson::{DateTime, Document, doc};

use super::collections::{Collections, find_linearizable, insert_once};
use super::erasure::ERASED;
use super::event_document;
use super::log_writer::Logs;
use super::membership_document::{
    BANNED, BY, JOINING, LEAVING, ROLE, by_from, is_member, of_members,
};
use super::read_marks::ReadMark;
use super::retry::retry;
use super::room_deletion::{DELETED, erase, was_deleted};
use super::room_document::{MAKING, settings_fields, settings_from};
use crate::domain::{
    Author, MembershipId, NewEvent, NewKind, Nonce, Role, RoomId, RoomSettings, Seq, User, UserId,
};
use crate::store::cache::ReadCache;
use crate::store::{Change, StoreError};

/// The operations' names in errors.
pub(super) const JOIN: &str = "join a room";
pub(super) const LEAVE: &str = "leave a room";

/// One user's membership of one room, to be begun or ended. Each is done in several writes, which may be repeated,
/// in an order that leaves nothing half done that doing it again would not finish.
#[derive(Clone)]
pub(super) struct Changing {
    pub(super) collections: Collections,
    pub(super) logs: Logs,
    pub(super) room: RoomId,
    pub(super) user: User,
}

/// An end of a membership, and the person who brings it about.
pub(super) enum End {
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
    pub(super) async fn join(&self, made: Option<RoomSettings>) -> Result<ReadMark, StoreError> {
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
        if room.contains_key(DELETED) {
            return Err(StoreError::RoomTaken);
        }
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
    pub(super) async fn begin(
        &self,
        role: Role,
        by: Option<&User>,
    ) -> Result<ReadMark, StoreError> {
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
                let mark = self.finish_begin(&begun).await?;
                // A deletion ends memberships after the room is out of reach, so one of the two sees the other.
                if mark.seq > 0 && was_deleted(&self.collections, &self.room).await? {
                    erase(&self.collections, &self.room).await?;
                    return Err(StoreError::RoomTaken);
                }
                // Nor does one of an account begin that was deleted a moment ago; its deletion ends those it sees.
                if mark.seq > 0 && !self.room.is_direct() && self.is_of_nobody().await? {
                    Box::pin(self.end(End::Leaves)).await?;
                    return Ok(self.no_mark());
                }
                return Ok(mark);
            }
        }
    }

    async fn is_of_nobody(&self) -> Result<bool, StoreError> {
        let erased = doc! { "_id": self.user.id.to_string(), ERASED: { "$exists": true } };
        let find = || self.collections.users.find_one(erased.clone());
        Ok(retry(JOIN, find).await?.is_some())
    }

    /// Writes a membership that is still [`JOINING`], unless there is one.
    pub(super) async fn reserve(&self, role: Role, by: Option<&User>) -> Result<(), StoreError> {
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

    /// [`Self::end`], of which this process knows then: another node may have done it, of which it hears later.
    pub(super) async fn end_told(&self, end: End, cache: &ReadCache) -> Result<Seq, StoreError> {
        let left = self.end(end).await?;
        cache.forget_user(self.user.id);
        self.logs.tell(Change::Resync);
        Ok(left)
    }

    /// The membership that is [`LEAVING`], its event, and the membership's end.
    async fn end(&self, end: End) -> Result<Seq, StoreError> {
        let memberships = &self.collections.memberships;
        let mut fields = Document::new();
        if let End::Removed(by) | End::Banned(by) = end {
            fields.insert(BY, by.to_string());
        }
        let ban = match end {
            End::Banned(by) => Some(doc! { "at": DateTime::now(), "by": by.to_string() }),
            End::Leaves | End::Removed(_) => None,
        };
        fields.extend(ban.iter().map(|ban| (BANNED.to_owned(), ban.into())));
        // Somebody who has made the room and was cut off then makes it no more.
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
                // This one: a later membership, whose `left` is another, is another document.
                Some(found) if is_member(&found) => {
                    let by_id = doc! { "_id": found.get("_id").cloned().unwrap_or_default() };
                    let still = of_members(by_id);
                    fields.insert(LEAVING, MembershipId::new().to_string());
                    let mark = doc! { "$set": fields.clone() };
                    let update = || memberships.update_one(still.clone(), mark.clone());
                    retry(LEAVE, update).await?;
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

    /// The end of a ban; first that of the membership which it has ended, where somebody was cut off.
    pub(super) async fn unban(&self) -> Result<(), StoreError> {
        let mut banned = self.key();
        banned.insert(BANNED, doc! { "$exists": true });
        // Somebody may be banned between the two.
        banned.insert(LEAVING, doc! { "$exists": false });
        let memberships = &self.collections.memberships;
        while let Some(found) = self.found().await?
            && found.contains_key(BANNED)
        {
            if found.contains_key(LEAVING) {
                self.finish_end(&found).await?;
            }
            let lift = || memberships.delete_one(banned.clone());
            retry("lift a ban", lift).await?;
        }
        Ok(())
    }
}
