//! The tail of a followed room: the end of its log without gaps, its newest events encoded and ready.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Accepted, Heads};
use crate::domain::{Epoch, Event, Seq};
use crate::live::encode::Encoded;

/// How many events, and about how many bytes of them, a room keeps ready: enough for readers who
/// come back from another tab, little enough for a thousand busy rooms.
const RING_EVENTS_MAX: usize = 256;
const RING_BYTES_MAX: usize = 512 * 1024;

/// How long reactions wait for each other, so that a burst of them is one row. A little less than the second
/// after which they are asked for.
const REACTIONS_EVERY: Duration = Duration::from_millis(950);

/// The end of the log, without gaps, as far as this process knows it.
#[derive(Default)]
pub(super) struct Tail {
    /// `None` until the head was read from the store, or an event came first.
    pub(super) head: Option<Seq>,
    ring: VecDeque<Arc<Encoded>>,
    ring_bytes: usize,
    /// Numbers up to this one are known to be in the store.
    pub(super) wanted: Seq,
    /// Whether somebody is reading what is missing.
    pub(super) is_catching_up: bool,
    /// Up to where streams of rows are sent: reactions wait beyond it, until something else comes.
    shown_upto: Seq,
    /// Whether some do.
    reactions_wait: bool,
    /// When reactions were shown last.
    reactions_shown_at: Option<Instant>,
}

/// The part of a tail after a cursor.
pub(super) enum After {
    Nothing,
    Events(Vec<Arc<Encoded>>),
    Behind,
}

impl Tail {
    /// The log reaches to `head`; earlier events are in the store, and a cursor that needs them reads them
    /// there.
    pub(super) fn begin_at(&mut self, head: Seq) {
        self.head = Some(head);
        self.shown_upto = head;
    }

    pub(super) fn heads(&self) -> Heads {
        Heads {
            head: self.head.unwrap_or(0),
            shown_upto: self.shown_upto,
        }
    }

    /// Whether an event was taken before.
    pub(super) fn has(&self, event: &Event) -> bool {
        self.head.is_some_and(|head| event.seq <= head)
    }

    /// Whether another is missing before an event. Before the head was read, any durable one will do as it.
    pub(super) fn is_after(&self, event: &Event) -> bool {
        self.head.is_some_and(|head| event.seq > head + 1)
    }

    pub(super) fn after(&self, cursor: Seq) -> After {
        let Some(head) = self.head.filter(|head| *head > cursor) else {
            return After::Nothing;
        };
        let first = self.ring.front().map_or(head + 1, |event| event.seq());
        let Some(skip) = (cursor + 1).checked_sub(first) else {
            return After::Behind;
        };
        let skip = usize::try_from(skip).unwrap_or(usize::MAX);
        let next: Vec<_> = self.ring.iter().skip(skip).cloned().collect();
        match next.is_empty() {
            true => After::Behind,
            false => After::Events(next),
        }
    }

    /// Whether a message after `from` was changed after `cursor`, as far as the ring has it.
    pub(super) fn has_changed(&self, cursor: Seq, from: Seq) -> bool {
        let newer = self.ring.iter().rev().map(|kept| kept.event());
        let mut newer = newer.take_while(|event| event.seq > cursor);
        newer.any(|event| event.target().is_some_and(|target| target > from))
    }

    /// Puts in the new state of a message, wherever the ring shows it.
    pub(super) fn renew(&mut self, change: &Event, epoch: Epoch) {
        if change.kind.is_entry() {
            return;
        }
        for kept in &mut self.ring {
            if let Some(renewed) = kept.event().renewed_by(change) {
                self.ring_bytes -= kept.weight();
                *kept = Arc::new(Encoded::new(renewed, epoch));
                self.ring_bytes += kept.weight();
            }
        }
    }

    pub(super) fn push(&mut self, event: Arc<Encoded>, now: Instant) {
        self.head = Some(event.seq());
        let is_reaction = event.event().kind.is_reaction();
        self.reactions_wait |= is_reaction;
        if !is_reaction || self.may_show_reactions(now) {
            self.show_all(now);
        }
        self.ring_bytes += event.weight();
        self.ring.push_back(event);
        while self.ring.len() > RING_EVENTS_MAX || self.ring_bytes > RING_BYTES_MAX {
            let Some(oldest) = self.ring.pop_front() else {
                break;
            };
            self.ring_bytes -= oldest.weight();
        }
    }

    /// Lets streams of rows have the reactions that wait, and says whether there are any.
    pub(super) fn show_reactions(&mut self, now: Instant) -> bool {
        let shows = self.reactions_wait && self.may_show_reactions(now);
        if shows {
            self.show_all(now);
        }
        shows
    }

    fn may_show_reactions(&self, now: Instant) -> bool {
        self.reactions_shown_at
            .is_none_or(|at| now.duration_since(at) >= REACTIONS_EVERY)
    }

    fn show_all(&mut self, now: Instant) {
        self.shown_upto = self.head.unwrap_or(0);
        // A message takes reactions along that waited.
        if std::mem::take(&mut self.reactions_wait) {
            self.reactions_shown_at = Some(now);
        }
    }

    pub(super) fn forget(&mut self) {
        self.ring.clear();
        self.ring_bytes = 0;
    }

    pub(super) fn want(&mut self, seq: Seq) -> Accepted {
        self.wanted = self.wanted.max(seq);
        if std::mem::replace(&mut self.is_catching_up, true) {
            Accepted::Done
        } else {
            Accepted::Gap
        }
    }
}
