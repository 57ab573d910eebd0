//! Cached rooms: a user's list of them, and the end of each log.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::domain::{Event, EventKind, Level, Message, RoomId, RoomSettings, RoomSummary, Seq};
use crate::store::{History, newest_first};

/// How many bytes of texts and reactions a kept page has at most: 200 such pages are 26 MB. Usual ones have
/// a tenth of it or less, and those with ten reactions to each message have most of it.
pub(super) const PAGE_BYTES_MAX: usize = 128 * 1024;

/// How many entries the newest page has.
pub(in crate::store) const NEWEST_MAX: usize = 50;

/// A user's rooms, by id.
pub(super) struct UserRooms {
    pub(super) memberships: Vec<Member>,
    /// The list, as it was when each room was as [`Member::listed_at`] says.
    pub(super) list: Option<Arc<[RoomSummary]>>,
}

pub(super) struct Member {
    pub(super) membership: Membership,
    pub(super) room: Option<Arc<CachedRoom>>,
    pub(super) listed_at: u64,
}

/// A user's membership of a room.
#[derive(Debug, Clone)]
pub(in crate::store) struct Membership {
    pub(in crate::store) room: RoomId,
    /// How far they have read it, and how many messages that are.
    pub(in crate::store) read: Seq,
    pub(in crate::store) read_messages: u64,
    /// The numbers of later ones that mention the user, in their order: the last
    /// [`Mentions::UNREAD_MAX`](crate::domain::Mentions::UNREAD_MAX) of them.
    pub(in crate::store) mentions: Vec<Seq>,
    /// The level.
    pub(in crate::store) level: Level,
}

impl Membership {
    /// The room as lists have it, with the end of its log.
    pub(in crate::store) fn summary(&self, end: &LogEnd) -> RoomSummary {
        let unread = end.messages.saturating_sub(self.read_messages);
        let (unread, mentions) = self.level.counted(unread, self.mentions.len());
        RoomSummary {
            room: self.room.clone(),
            settings: Arc::clone(&end.settings),
            head: end.head,
            last: end.last_message.clone(),
            unread,
            mentions,
            level: self.level,
        }
    }
}

pub(super) struct CachedRoom {
    /// `None` when it must be read again: something between two events was not heard.
    pub(super) end: Mutex<Option<LogEnd>>,
    pub(super) version: AtomicU64,
}

/// The end of a room's log.
#[derive(Debug, Clone, Default)]
pub(in crate::store) struct LogEnd {
    pub(in crate::store) head: Seq,
    /// How many messages the log has.
    pub(in crate::store) messages: u64,
    pub(in crate::store) last_message: Option<Arc<Event>>,
    /// The room's settings.
    pub(in crate::store) settings: Arc<RoomSettings>,
    /// The newest entries, oldest first, if they were read.
    pub(in crate::store) newest: Option<VecDeque<Arc<Event>>>,
}

impl UserRooms {
    pub(super) fn member(&mut self, room: &RoomId) -> Option<&mut Member> {
        let at = self
            .memberships
            .binary_search_by(|member| member.membership.room.cmp(room));
        self.memberships.get_mut(at.ok()?)
    }

    /// The list, made of rooms that are all there.
    pub(super) fn list(&mut self) -> Arc<[RoomSummary]> {
        let mut list: Vec<RoomSummary> = Vec::with_capacity(self.memberships.len());
        for Member {
            membership,
            room,
            listed_at,
        } in &mut self.memberships
        {
            let Some(room) = room else { continue };
            *listed_at = room.version.load(Ordering::Relaxed);
            let end = room.end();
            let Some(end) = &*end else { continue };
            list.push(membership.summary(end));
        }
        newest_first(&mut list);
        let list: Arc<[RoomSummary]> = list.into();
        self.list = Some(Arc::clone(&list));
        list
    }
}

impl Member {
    pub(super) fn is_as_listed(&self) -> bool {
        let version = self.room.as_ref().map(|room| &room.version);
        version.is_some_and(|version| version.load(Ordering::Relaxed) == self.listed_at)
    }
}

impl CachedRoom {
    /// The end with its page, as somebody has read it: what is committed may not have been told
    /// yet, so it may be of another moment than ours. `false` when it is of an earlier one.
    pub(super) fn take_page(&self, read: LogEnd) -> bool {
        let mut end = self.end();
        let known = end.as_ref().map(|end| end.head);
        if known.is_some_and(|known| read.head < known) {
            return false;
        }
        if known != Some(read.head) {
            self.version.fetch_add(1, Ordering::Relaxed);
        }
        *end = Some(read);
        true
    }

    /// The end without its page, likewise: only one that is not known, or is of an earlier moment,
    /// makes way for it.
    pub(super) fn take_end(&self, read: LogEnd) {
        let mut end = self.end();
        if end.as_ref().is_none_or(|known| known.head < read.head) {
            *end = Some(read);
            self.version.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The log has grown by an event. What is between it and the head, if anything, is not known.
    pub(super) fn append(&self, event: &Arc<Event>) {
        let mut end = self.end();
        match &mut *end {
            // Settings may have changed again since, and a conversation's people are some: they are read.
            Some(known)
                if event.seq == known.head + 1
                    && !matches!(event.kind, EventKind::Set(_))
                    && !(event.room.is_direct() && event.kind.is_about_membership()) =>
            {
                known.append(event);
            }
            end => *end = None,
        }
        self.version.fetch_add(1, Ordering::Relaxed);
    }

    /// It must be read again.
    #[cfg(feature = "mongodb")]
    pub(super) fn forget(&self) {
        *self.end() = None;
        self.version.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether an event was in what was read, or was told before.
    pub(super) fn has(&self, event: &Event) -> bool {
        let end = self.end();
        end.as_ref().is_some_and(|end| event.seq <= end.head)
    }

    pub(super) fn is_known(&self) -> bool {
        self.end().is_some()
    }

    pub(super) fn end(&self) -> MutexGuard<'_, Option<LogEnd>> {
        // Changed under the lock of all, which sees to what a panic leaves.
        self.end.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LogEnd {
    /// The event after the head.
    fn append(&mut self, event: &Arc<Event>) {
        self.head = event.seq;
        self.messages = event.messages;
        if !event.kind.is_entry() {
            let kept = self
                .newest
                .iter_mut()
                .flatten()
                .chain(&mut self.last_message);
            for kept in kept {
                if let Some(renewed) = kept.renewed_by(event) {
                    *kept = renewed;
                }
            }
        }
        if event.kind.is_message() {
            self.last_message = Some(Arc::clone(event));
        }
        if let Some(newest) = &mut self.newest {
            if event.kind.is_entry() {
                newest.push_back(Arc::clone(event));
            }
            if newest.len() > NEWEST_MAX {
                newest.pop_front();
            }
            // Rather than count what fits a page: it is read again.
            if self.page_bytes() > PAGE_BYTES_MAX {
                self.newest = None;
            }
        }
    }

    /// The last so many of the newest entries; none where they were not read.
    pub(in crate::store) fn last(&self, limit: usize) -> History {
        let newest = self.newest.iter().flatten();
        let skip = newest.clone().count().saturating_sub(limit);
        History {
            entries: newest.skip(skip).cloned().collect(),
            head: self.head,
        }
    }

    pub(super) fn page_bytes(&self) -> usize {
        self.newest
            .iter()
            .flatten()
            .map(|event| body_bytes(event))
            .sum()
    }
}

fn body_bytes(event: &Event) -> usize {
    event.message().map_or(0, Message::weight)
}
