//! Unread mentions in the cache: their numbers, with each membership.

use super::State;
use super::rooms::{Member, UserRooms};
use crate::domain::{ChangeKind, Event, EventKind, Mentions, RoomId, Seq, UserId};

impl State {
    /// Counts a message with those whom it is for, or no longer when it is deleted. One that the log is known
    /// to have, because it was told before or read by somebody, may be deleted by now.
    pub(super) fn mention(&mut self, event: &Event, is_known: bool) {
        let Event { room, seq, .. } = event;
        let mut unsure: Vec<UserId> = Vec::new();
        match &event.kind {
            EventKind::Message(message) if message.mentions.room() => {
                self.memberships_have_changed();
                for (user, rooms) in &mut self.users {
                    if *user != event.author.id && !rooms.mention(room, *seq, is_known) {
                        unsure.push(*user);
                    }
                }
            }
            EventKind::Message(message) => {
                for user in message.mentions.users() {
                    self.has_changed(&user.id);
                    if let Some(rooms) = self.users.peek_mut(&user.id)
                        && !rooms.mention(room, *seq, is_known)
                    {
                        unsure.push(user.id);
                    }
                }
            }
            EventKind::Changed(changed) if changed.what == ChangeKind::Deleted => {
                self.memberships_have_changed();
                for (user, rooms) in &mut self.users {
                    if !rooms.unmention(room, changed.target) {
                        unsure.push(*user);
                    }
                }
            }
            _ => {}
        }
        for user in &unsure {
            self.forget_user(user);
        }
    }
}

impl UserRooms {
    /// Takes in a message that mentions the user. Says whether it is sure what is so now.
    fn mention(&mut self, room: &RoomId, seq: Seq, is_known: bool) -> bool {
        let Some(Member { membership, .. }) = self.member(room) else {
            return true;
        };
        let Err(at) = membership.mentions.binary_search(&seq) else {
            return true;
        };
        if seq <= membership.read {
            return true;
        }
        if is_known {
            return false;
        }
        membership.mentions.insert(at, seq);
        if membership.mentions.len() > Mentions::UNREAD_MAX {
            membership.mentions.remove(0);
        }
        self.list = None;
        true
    }

    /// Takes out a message that is deleted, likewise: of more than are counted nobody knows the next.
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
