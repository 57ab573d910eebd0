//! A followed room: the end of its log, encoded and ready, and what wakes its subscribers.

mod tail;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use tokio::sync::watch;

use self::tail::{After, Tail};
use super::encode::{Encoded, Format};
use super::renderer::Renderer;
use crate::domain::{Epoch, Event, RoomId, Roster, Seq};

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
    /// How many deletions there were: what was read or taken before one must not be sent.
    deletions: AtomicU64,
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

/// The moment before a read or a take: see [`Room::is_current`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ReadToken(u64);

/// How far the log reaches, for streams of programs and for those of rows.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Heads {
    head: Seq,
    shown_upto: Seq,
}

impl Heads {
    /// The highest number that streams of a format are sent.
    pub(super) fn of(self, format: Format) -> Seq {
        match format {
            Format::Html | Format::Page => self.shown_upto,
            Format::Json | Format::Text | Format::TextWithIds | Format::Ndjson => self.head,
        }
    }
}

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
            deletions: AtomicU64::new(0),
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
        if tail.is_after(&event) {
            self.note_deletion(&event, &tail);
            return tail.want(event.seq);
        }
        let is_taken = self.take_in(&mut tail, event);
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
        if !self.is_current(token) {
            return;
        }
        for event in events {
            if !tail.is_after(&event) {
                self.take_in(&mut tail, event);
            }
        }
        drop(tail);
        self.has_grown();
    }

    /// Takes the next event, and answers `false` for one that was taken before.
    fn take_in(&self, tail: &mut Tail, event: Arc<Event>) -> bool {
        if tail.has(&event) {
            return false;
        }
        self.note_deletion(&event, tail);
        self.typists().remove(&event.author.username);
        tail.renew(&event, self.epoch);
        tail.push(Arc::new(Encoded::new(event, self.epoch)), Instant::now());
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
        self.tail().has_changed(cursor, from)
    }

    /// To be called before something is read from the store, or taken to be sent later. It takes no lock.
    pub(super) fn token(&self) -> ReadToken {
        ReadToken(self.deletions.load(Ordering::Acquire))
    }

    /// Whether no message was deleted since.
    pub(super) fn is_current(&self, token: ReadToken) -> bool {
        self.token() == token
    }

    /// From here on nothing that was read or taken before is sent. The tail is locked, so that nothing is
    /// put into it meanwhile.
    fn note_deletion(&self, event: &Event, _: &Tail) {
        if event.kind.is_deletion() {
            self.deletions.fetch_add(1, Ordering::AcqRel);
        }
    }

    /// Drops the events that are kept ready: they may be out of date, and are read again.
    pub(super) fn forget(&self) {
        let mut tail = self.tail();
        tail.forget();
        self.deletions.fetch_add(1, Ordering::AcqRel);
    }

    pub(super) fn heads(&self) -> Heads {
        self.tail().heads()
    }

    /// Has the rows of reactions sent that wait. To be called once a second.
    pub(super) fn show_reactions(&self) {
        if self.tail().show_reactions(Instant::now()) {
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
                tail.begin_at(head);
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
        match self.write(&next, format, Heads::default()) {
            Some((bytes, upto)) => Taken::Events(bytes, upto),
            None => Taken::Behind,
        }
    }

    /// Encodes events that were read from the store for a cursor that is behind: as many as one
    /// write takes, at least one. `None` when there are none.
    pub(super) fn encode(&self, events: Vec<Arc<Event>>, format: Format) -> Option<(Bytes, Seq)> {
        let encoded = |event| Arc::new(Encoded::new(event, self.epoch));
        let events: Vec<_> = events.into_iter().map(encoded).collect();
        // Changes that are still to come show the messages, as well.
        self.write(&events, format, self.heads())
    }

    /// The bytes of as many of these events as one write takes, and the last of them. Others up to `heads` are
    /// sent next.
    fn write(&self, events: &[Arc<Encoded>], format: Format, heads: Heads) -> Option<(Bytes, Seq)> {
        let last = events.last().map_or(0, |last| last.seq());
        let goes_on = last < heads.of(format);
        let shows_later = |event: &Encoded| {
            let event = event.event();
            let state = event.message().filter(|_| event.target().is_some());
            goes_on
                && state.is_some_and(|message| (last + 1..=heads.head).contains(&message.changed))
        };
        let bytes = |event: &Encoded| {
            let passed_over = shows_later(event).then(|| event.passed_over(format));
            let passed_over = passed_over.flatten();
            passed_over.unwrap_or_else(|| event.bytes(format, self.renderer))
        };
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

#[cfg(test)]
pub(super) mod tests;
