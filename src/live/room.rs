//! A followed room: the end of its log, encoded and ready, and what wakes its subscribers.

use std::collections::{BTreeSet, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::{Bytes, BytesMut};
use tokio::sync::watch;

use super::encode::{Encoded, Format};
use super::renderer::Renderer;
use crate::domain::{Epoch, Event, RoomId, Roster, Seq};

/// How many events, and about how many bytes of them, a room keeps ready: enough for readers who
/// come back from another tab, little enough for a thousand busy rooms.
const RING_EVENTS_MAX: usize = 256;
const RING_BYTES_MAX: usize = 512 * 1024;

/// How much goes out in one write. More would only lie in the socket's buffer.
const WRITE_BYTES_MAX: usize = 64 * 1024;

/// How many of those who are typing are named. Of three a page says "several people".
const TYPISTS_MAX: usize = 3;

/// With more subscribers than that nobody is told who is typing: it would be told all the time, to
/// everybody, and help nobody.
const CROWD: usize = 200;

/// The names of people.
pub(super) type Names = Arc<[Arc<str>]>;

/// One followed room in this process.
pub(super) struct Room {
    pub(super) id: RoomId,
    epoch: Epoch,
    pub(super) renderer: Renderer,
    tail: Mutex<Tail>,
    /// How many streams follow it.
    subscribers: AtomicUsize,
    /// People who have typed since the last notice, and have not sent it.
    typists: Mutex<BTreeSet<Arc<str>>>,
    /// Wakes the subscribers.
    signal: watch::Sender<Signal>,
}

/// The state that subscribers are woken for, besides events. Not a queue: a late one sees the newest.
#[derive(Clone, Default)]
pub(super) struct Signal {
    /// The roster; `None` before anybody was here.
    pub(super) roster: Option<Arc<Roster>>,
    /// The typists of the last notice.
    pub(super) typing: Option<Names>,
}

/// The end of the log, without gaps, as far as this process knows it.
#[derive(Default)]
struct Tail {
    /// `None` until the head was read from the store, or an event came first.
    head: Option<Seq>,
    ring: VecDeque<Arc<Encoded>>,
    ring_bytes: usize,
    /// Numbers up to this one are known to be in the store.
    wanted: Seq,
    /// Whether somebody is reading what is missing.
    is_catching_up: bool,
    /// How many deletions there were: what was read or taken before one must not be sent.
    deletions: u64,
    /// Up to where rows of the page are sent. Reactions wait there for up to a second, so that a burst of
    /// them is one row.
    shown_upto: Seq,
    /// Whether reactions were shown since the last [`Room::show_reactions`].
    has_shown_reactions: bool,
}

/// The moment before a read or a take: see [`Room::is_current`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ReadToken(u64);

/// The outcome of [`Room::accept`].
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Accepted {
    /// Taken, or known already.
    Done,
    /// There is a gap, and the caller is the one to read what is missing from the store.
    Gap,
}

/// A room, counted as followed for as long as this lives.
pub(super) struct Following(Arc<Room>);

impl Following {
    pub(super) fn new(room: Arc<Room>) -> Self {
        room.subscribers.fetch_add(1, Ordering::Relaxed);
        Self(room)
    }

    pub(super) fn room(&self) -> &Arc<Room> {
        &self.0
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        self.0.subscribers.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The events after a cursor.
pub(super) enum Taken {
    /// Nothing new.
    Nothing,
    /// Bytes of the events up to this one.
    Events(Bytes, Seq),
    /// The next event is no longer kept ready: read it from the store.
    Behind,
}

impl Room {
    pub(super) fn new(id: RoomId, epoch: Epoch, renderer: Renderer) -> Self {
        Self {
            id,
            epoch,
            renderer,
            tail: Mutex::default(),
            subscribers: AtomicUsize::new(0),
            typists: Mutex::default(),
            signal: watch::Sender::new(Signal::default()),
        }
    }

    fn tail(&self) -> MutexGuard<'_, Tail> {
        // Each change to the tail is a few assignments that cannot panic half-way.
        self.tail.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn watch(&self) -> watch::Receiver<Signal> {
        self.signal.subscribe()
    }

    /// The signal as the subscribers see it now.
    pub(super) fn signal(&self) -> Signal {
        self.signal.borrow().clone()
    }

    pub(super) fn subscribers(&self) -> usize {
        self.subscribers.load(Ordering::Relaxed)
    }

    /// The highest number known here, once it is known.
    pub(super) fn head(&self) -> Option<Seq> {
        self.tail().head
    }

    /// The one rule of delivery: the event after the head is taken, an earlier one is ignored, a
    /// later one means that something must be read from the store first.
    pub(super) fn accept(&self, event: Arc<Event>) -> Accepted {
        let mut tail = self.tail();
        if event.kind.is_deletion() && tail.head.is_none_or(|head| event.seq > head) {
            tail.deletions += 1;
        }
        let is_taken = match tail.head {
            Some(head) if event.seq > head + 1 => return tail.want(event.seq),
            _ => self.take_in(&mut tail, event),
        };
        drop(tail);
        if is_taken {
            self.has_grown();
        }
        Accepted::Done
    }

    /// The same for events that were read from the store, with the token from before: unless one of them
    /// may have been deleted since. Then they are still missing.
    pub(super) fn accept_read(&self, events: Vec<Arc<Event>>, token: ReadToken) {
        let mut tail = self.tail();
        if tail.token() != token {
            return;
        }
        for event in events {
            let is_next = tail.head.is_none_or(|head| event.seq <= head + 1);
            if is_next {
                self.take_in(&mut tail, event);
            }
        }
        drop(tail);
        self.has_grown();
    }

    /// The next event, or one that was taken before. Before the head was read, any durable event will do as
    /// one: those before it are in the store, and a cursor that needs them reads them there.
    fn take_in(&self, tail: &mut Tail, event: Arc<Event>) -> bool {
        if tail.head.is_some_and(|head| event.seq <= head) {
            return false;
        }
        self.typists().remove(&event.author.username);
        tail.renew(&event, self.epoch);
        tail.push(Arc::new(Encoded::new(event, self.epoch)));
        true
    }

    fn has_grown(&self) {
        self.signal.send_modify(|signal| {
            // A typing notice after the message itself would be wrong. Somebody who goes on typing
            // says so again.
            signal.typing = None;
        });
    }

    /// Whether a message after `from` was changed after `cursor`, as far as that is kept ready.
    pub(super) fn has_changed(&self, cursor: Seq, from: Seq) -> bool {
        let tail = self.tail();
        let newer = tail.ring.iter().rev().map(|kept| kept.event());
        let mut newer = newer.take_while(|event| event.seq > cursor);
        newer.any(|event| event.target().is_some_and(|target| target > from))
    }

    /// To be called before something is read from the store, or taken to be sent later.
    pub(super) fn token(&self) -> ReadToken {
        self.tail().token()
    }

    /// Whether no message was deleted since.
    pub(super) fn is_current(&self, token: ReadToken) -> bool {
        self.token() == token
    }

    /// What is kept ready may be out of date: it is read again.
    pub(super) fn forget(&self) {
        let mut tail = self.tail();
        tail.ring.clear();
        tail.ring_bytes = 0;
        tail.deletions += 1;
    }

    /// The highest number that streams of a format are sent.
    pub(super) fn head_of(&self, format: Format) -> Seq {
        let tail = self.tail();
        match format {
            Format::Html | Format::Page => tail.shown_upto,
            Format::Json | Format::Text | Format::TextWithIds | Format::Ndjson => {
                tail.head.unwrap_or(0)
            }
        }
    }

    /// Has the rows sent that wait. To be called once a second.
    pub(super) fn show_reactions(&self) {
        let mut tail = self.tail();
        let head = tail.head.unwrap_or(0);
        let wait = tail.shown_upto < head;
        tail.shown_upto = head;
        tail.has_shown_reactions = wait;
        drop(tail);
        if wait {
            self.signal.send_modify(|_| {});
        }
    }

    /// The log reaches at least to `head`, whoever says so.
    pub(super) fn reaches(&self, head: Seq) -> Accepted {
        let mut tail = self.tail();
        match tail.head {
            Some(known) if head > known => tail.want(head),
            Some(_) => Accepted::Done,
            None => {
                tail.head = Some(head);
                tail.shown_upto = head;
                drop(tail);
                self.signal.send_modify(|_| {});
                Accepted::Done
            }
        }
    }

    /// For who was told [`Accepted::Gap`]: where to read on, or `None` when nothing is missing
    /// any more, and somebody else will be told of the next gap.
    pub(super) fn missing_after(&self) -> Option<Seq> {
        let mut tail = self.tail();
        let head = tail.head.unwrap_or(0);
        if head < tail.wanted {
            return Some(head);
        }
        tail.is_catching_up = false;
        None
    }

    /// For who was told [`Accepted::Gap`] and could not read: the next gap, or sweep, tries again.
    pub(super) fn give_up_catching_up(&self) {
        let mut tail = self.tail();
        tail.is_catching_up = false;
        tail.wanted = 0;
    }

    /// Tells the subscribers who is here.
    pub(super) fn show(&self, roster: Arc<Roster>) {
        self.signal
            .send_modify(|signal| signal.roster = Some(roster));
    }

    /// Somebody is typing.
    pub(super) fn types(&self, name: &Arc<str>) {
        let mut typists = self.typists();
        if typists.len() < TYPISTS_MAX {
            typists.insert(Arc::clone(name));
        }
    }

    /// Tells the subscribers who has been typing since the last call, if anybody has.
    pub(super) fn show_typing(&self) {
        let typists = std::mem::take(&mut *self.typists());
        if !typists.is_empty() && self.subscribers() <= CROWD {
            let names = typists.into_iter().collect();
            self.signal
                .send_modify(|signal| signal.typing = Some(names));
        }
    }

    fn typists(&self) -> MutexGuard<'_, BTreeSet<Arc<str>>> {
        self.typists.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The events after `cursor`, several in one piece. They are copied out under the lock, which
    /// the store's writer takes too, and encoded after it.
    pub(super) fn take(&self, cursor: Seq, format: Format) -> Taken {
        let next = match self.tail().after(cursor) {
            After::Events(next) => next,
            After::Nothing => return Taken::Nothing,
            After::Behind => return Taken::Behind,
        };
        match self.write(&next, format) {
            Some((bytes, upto)) => Taken::Events(bytes, upto),
            None => Taken::Behind,
        }
    }

    /// Encodes events that were read from the store for a cursor that is behind: as many as one
    /// write takes, at least one. `None` when there are none.
    pub(super) fn encode(&self, events: Vec<Arc<Event>>, format: Format) -> Option<(Bytes, Seq)> {
        let encoded = |event| Arc::new(Encoded::new(event, self.epoch));
        let events: Vec<_> = events.into_iter().map(encoded).collect();
        self.write(&events, format)
    }

    /// The bytes of as many of these events as one write takes, and the last of them.
    fn write(&self, events: &[Arc<Encoded>], format: Format) -> Option<(Bytes, Seq)> {
        let bytes = |event: &Encoded| event.bytes(format, self.renderer);
        let (first, rest) = match events {
            // The usual case: one event, the same bytes for everybody.
            [one] => return Some((bytes(one), one.seq())),
            [first, rest @ ..] => (first, rest),
            [] => return None,
        };
        // Of several changes to a message only the last shows it.
        let is_last = |event: &Encoded, later: &[Arc<Encoded>]| {
            let target = event.event().target();
            target.is_none() || later.iter().all(|later| later.event().target() != target)
        };
        let bytes = |event: &Encoded, later: &[Arc<Encoded>]| match event.passed_over(format) {
            Some(passed_over) if !is_last(event, later) => passed_over,
            _ => bytes(event),
        };
        let mut several = BytesMut::from(bytes(first, rest));
        let mut upto = first.seq();
        let mut rest = rest;
        while let [event, later @ ..] = rest {
            let bytes = bytes(event, later);
            if several.len() + bytes.len() > WRITE_BYTES_MAX {
                break;
            }
            several.extend_from_slice(&bytes);
            upto = event.seq();
            rest = later;
        }
        Some((several.freeze(), upto))
    }
}

/// The part of a tail after a cursor.
enum After {
    Nothing,
    Events(Vec<Arc<Encoded>>),
    Behind,
}

impl Tail {
    fn after(&self, cursor: Seq) -> After {
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

    fn token(&self) -> ReadToken {
        ReadToken(self.deletions)
    }

    /// Puts in the new state of a message, wherever the ring shows it.
    fn renew(&mut self, change: &Event, epoch: Epoch) {
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

    fn push(&mut self, event: Arc<Encoded>) {
        self.head = Some(event.seq());
        let is_reaction = event.event().kind.is_reaction();
        if !is_reaction || !self.has_shown_reactions {
            self.shown_upto = event.seq();
            self.has_shown_reactions |= is_reaction;
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

    fn want(&mut self, seq: Seq) -> Accepted {
        self.wanted = self.wanted.max(seq);
        if std::mem::replace(&mut self.is_catching_up, true) {
            Accepted::Done
        } else {
            Accepted::Gap
        }
    }
}

#[cfg(test)]
pub(super) mod tests;
