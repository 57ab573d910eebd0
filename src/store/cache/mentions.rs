//! Unread mentions in the cache: their numbers, with each membership.

use super::State;
use super::rooms::{Member, Membership, UserRooms};
use crate::domain::{ChangeKind, Event, EventKind, Mentions, RoomId, Seq};

impl State {
    /// Counts a message with those whom it is for, or no longer when it is deleted.
    pub(super) fn mention(&mut self, event: &Event) {
        match &event.kind {
            EventKind::Message(message) if message.mentions.room() => {
                self.memberships_have_changed();
                for (user, rooms) in &mut self.users {
                    if *user != event.author.id {
                        rooms.mention(&event.room, event.seq);
                    }
                }
            }
            EventKind::Message(message) => {
                for user in message.mentions.users() {
                    self.has_changed(&user.id);
                    if let Some(rooms) = self.users.peek_mut(&user.id) {
                        rooms.mention(&event.room, event.seq);
                    }
                }
            }
            EventKind::Changed(changed) if changed.what == ChangeKind::Deleted => {
                self.memberships_have_changed();
                let mut unknown = Vec::new();
                for (user, rooms) in &mut self.users {
                    if !rooms.unmention(&event.room, changed.target) {
                        unknown.push(*user);
                    }
                }
                for user in &unknown {
                    self.forget_user(user);
                }
            }
            _ => {}
        }
    }
}

impl UserRooms {
    /// Takes in a message that mentions the user, perhaps not for the first time.
    fn mention(&mut self, room: &RoomId, seq: Seq) {
        if self
            .member(room)
            .is_some_and(|member| member.membership.mention(seq))
        {
            self.list = None;
        }
    }

    /// Forgets a message that is deleted. Says whether it is known what is left.
    fn unmention(&mut self, room: &RoomId, seq: Seq) -> bool {
        let Some(Member { membership, .. }) = self.member(room) else {
            return true;
        };
        let Ok(at) = membership.mentions.binary_search(&seq) else {
            return true;
        };
        let is_all = membership.mentions.len() < Mentions::UNREAD_MAX;
        membership.mentions.remove(at);
        self.list = None;
        is_all
    }
}

impl Membership {
    /// Takes in a message that mentions the user, perhaps not for the first time. Says whether that is new.
    fn mention(&mut self, seq: Seq) -> bool {
        let Err(at) = self.mentions.binary_search(&seq) else {
            return false;
        };
        if seq <= self.read {
            return false;
        }
        self.mentions.insert(at, seq);
        if self.mentions.len() > Mentions::UNREAD_MAX {
            self.mentions.remove(0);
        }
        true
    }
}
