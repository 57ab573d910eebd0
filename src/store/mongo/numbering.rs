//! How a room's log is numbered without a counter and without a lock: the rules, without any I/O.
//! `log_writer.rs` carries out the steps; `model.rs` tries them against every failure it can think of.
//!
//! Each node has one of these per room it is writing to. It knows the log's head h, and has what
//! waits inserted at h+1, h+2, … in one ordered insert. The unique index on (room, seq) lets one of
//! several nodes have a number; the others learn the new head and insert again. So:
//!
//! - A number is written only by somebody who knew the one before it to be majority-committed,
//!   or wrote it just before in the same ordered insert. The log has no gap, and a failover,
//!   which keeps a prefix of the oplog, keeps a prefix of each log.
//! - Nothing is published or acknowledged before it is majority-committed.
//! - An insert whose outcome is unknown (a network error, an election) is looked up by its `_id`
//!   with a majority read, and tried again with the same `_id` if it is not there: should the
//!   first attempt still arrive, it meets its own `_id`, its own nonce, or a number that is taken.
//! - A change to a message is an event like others, written in a transaction with the message's new state.
//!   If it was not committed, nothing of it is there; if nobody knows, its event tells for both.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use mongodb::bson::oid::ObjectId;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::domain::{
    ChangeKind, Changed, Event, EventKind, NewChange, NewEvent, Refusal, RoomId, Seq, Timestamp,
};
use crate::store::{Appended, StoreError, repeated};

/// An event that somebody waits for.
pub(super) struct Waiting {
    /// The document's, the same for every attempt: how an attempt of ours is known again.
    pub(super) id: ObjectId,
    pub(super) event: NewEvent,
    /// When its caller is told that it did not work out, whatever became of it.
    pub(super) until: Instant,
    pub(super) answer: oneshot::Sender<Result<Appended, StoreError>>,
}

/// The head that the next event builds on; majority-committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) seq: Seq,
    pub(super) messages: u64,
    pub(super) at: Timestamp,
    /// The number of the last message up to it; `None` when there is none, or nobody knows.
    pub(super) last_message: Option<Seq>,
}

impl Head {
    /// Of a log in which nothing stands.
    pub(super) const EMPTY: Self = Self {
        seq: 0,
        messages: 0,
        at: Timestamp::from_millis(0),
        last_message: None,
    };

    /// The head once this event stands after it.
    pub(super) fn with(self, event: &Event) -> Self {
        let is_message = event.kind.is_message();
        Self {
            seq: event.seq,
            messages: event.messages,
            at: event.at,
            last_message: if is_message {
                Some(event.seq)
            } else {
                self.last_message
            },
        }
    }
}

impl From<&Event> for Head {
    fn from(event: &Event) -> Self {
        Self {
            last_message: event.kind.is_message().then_some(event.seq),
            seq: event.seq,
            messages: event.messages,
            at: event.at,
        }
    }
}

/// The next step, whose outcome is reported with the method of the same name.
pub(super) enum Step {
    /// Nothing: everything is settled.
    Rest,
    /// Find those who wait in the log, by `_id` and by nonce, with a majority read.
    LookUp,
    /// Learn the head, from a majority read or from an event known to be majority-committed.
    /// After a lost race there is no use in one below `above`, unless it stays like that.
    ReadHead {
        /// The number that somebody else has taken.
        above: Seq,
    },
    /// Insert these, in order, stopping at the first that fails, to a majority's journals. There is
    /// one for each of the first who wait.
    Insert(Vec<Arc<Event>>),
    /// Make the changes that wait in front, all or none: in one transaction read their messages, decide
    /// ([`Numbering::decide`]), and write the new states and the events.
    Change,
}

/// The outcome of a change, once its message was read.
pub(super) enum Decided {
    /// This event.
    New(Arc<Event>),
    /// Nothing: the message is so already.
    Unchanged(Arc<Event>),
    /// Nothing: it may not be made.
    Refused(Refusal),
}

/// How an ordered insert ended.
pub(super) enum Inserted {
    /// All are durable.
    All,
    /// The first `durable` are durable; the number of the next is another's.
    LostRace { durable: usize },
    /// The first `durable` are durable; the next met its own `_id` or its nonce.
    Repeated { durable: usize },
    /// Some may be there, some may still come.
    Unknown,
    /// None is there, nor will one come: a transaction that was not committed.
    Conflict,
}

/// An event that stands in the log, durable.
pub(super) struct Found {
    pub(super) id: Option<ObjectId>,
    pub(super) nonce: Option<String>,
    pub(super) event: Arc<Event>,
}

/// Somebody who need not wait any longer.
pub(super) struct Settled {
    pub(super) answer: oneshot::Sender<Result<Appended, StoreError>>,
    pub(super) result: Result<Appended, StoreError>,
}

/// One room's, on one node.
pub(super) struct Numbering {
    room: RoomId,
    /// `None` when another node may have appended, or the outcome of an insert is unknown.
    head: Option<Head>,
    waiting: VecDeque<Waiting>,
    /// Whether some of those who wait may stand in the log already.
    is_unsure: bool,
    /// The highest number that another node was seen to have taken.
    taken: Seq,
}

impl Numbering {
    pub(super) fn new(room: RoomId) -> Self {
        Self {
            room,
            head: None,
            waiting: VecDeque::new(),
            is_unsure: false,
            taken: 0,
        }
    }

    pub(super) fn room(&self) -> &RoomId {
        &self.room
    }

    /// One more waits.
    pub(super) fn take(&mut self, waiting: Waiting) {
        self.waiting.push_back(waiting);
    }

    /// The last message before those that [`Step::Insert`] names.
    pub(super) fn last_message(&self) -> Option<Seq> {
        self.head?.last_message
    }

    /// The waiting events, first come first.
    pub(super) fn waiting(&self) -> &VecDeque<Waiting> {
        &self.waiting
    }

    /// The next step. Asking again changes nothing.
    pub(super) fn step(&self) -> Step {
        match self.head {
            _ if self.waiting.is_empty() => Step::Rest,
            _ if self.is_unsure => Step::LookUp,
            None => Step::ReadHead { above: self.taken },
            Some(head) => match self.number(head) {
                events if events.is_empty() => Step::Change,
                events => Step::Insert(events),
            },
        }
    }

    /// The events of those who wait, up to the first change.
    fn number(&self, head: Head) -> Vec<Arc<Event>> {
        let at = Timestamp::following(head.at);
        let mut messages = head.messages;
        self.waiting
            .iter()
            .map_while(|waiting| Some((waiting, waiting.event.kind.event_kind().ok()?)))
            .zip(head.seq + 1..)
            .map(|((waiting, kind), seq)| {
                messages += u64::from(kind.is_message());
                Arc::new(Event {
                    room: self.room.clone(),
                    seq,
                    messages,
                    at,
                    author: waiting.event.author.clone(),
                    kind,
                })
            })
            .collect()
    }

    /// The changes that wait in front.
    fn changes(&self) -> impl Iterator<Item = (&Waiting, Seq, &NewChange)> {
        let changes = self.waiting.iter();
        changes.map_while(|waiting| {
            let (target, change) = waiting.event.kind.event_kind().err()?;
            Some((waiting, target, change))
        })
    }

    /// The messages that those change.
    pub(super) fn targets(&self) -> HashSet<Seq> {
        self.changes().map(|(_, target, _)| target).collect()
    }

    /// Decides each change that waits in front, given the states of their messages. The states after that
    /// are answered, too.
    pub(super) fn decide(
        &self,
        mut states: HashMap<Seq, Arc<Event>>,
    ) -> (Vec<Decided>, HashMap<Seq, Arc<Event>>) {
        let head = self.head.unwrap_or(Head::EMPTY);
        let at = Timestamp::following(head.at);
        let (mut seq, mut decided) = (head.seq, Vec::new());
        let mut changed = HashMap::new();
        for (waiting, target, change) in self.changes() {
            let by = &waiting.event.author;
            let Some(state) = states.get(&target) else {
                decided.push(Decided::Refused(Refusal::NoMessage));
                continue;
            };
            decided.push(match state.after_change(change, by.id, seq + 1, at) {
                Err(refusal) => Decided::Refused(refusal),
                Ok(None) => Decided::Unchanged(Arc::clone(state)),
                Ok(Some(after)) => {
                    seq += 1;
                    let after = Arc::new(after);
                    states.insert(target, Arc::clone(&after));
                    changed.insert(target, Arc::clone(&after));
                    Decided::New(Arc::new(Event {
                        room: self.room.clone(),
                        seq,
                        messages: head.messages,
                        at,
                        author: by.clone(),
                        kind: EventKind::Changed(Changed {
                            target,
                            what: ChangeKind::from(change),
                            message: Some(after),
                        }),
                    }))
                }
            });
        }
        (decided, changed)
    }

    /// The transaction that was to do what was decided ended like this.
    pub(super) fn changed(&mut self, decided: Vec<Decided>, how: &Inserted) -> Vec<Settled> {
        let new = decided.iter().filter_map(|decided| match decided {
            Decided::New(event) => Some(Arc::clone(event)),
            Decided::Unchanged(_) | Decided::Refused(_) => None,
        });
        let new: Vec<Arc<Event>> = new.collect();
        if !self.learn(&new, how) {
            return Vec::new();
        }
        let front = self.waiting.drain(..decided.len().min(self.waiting.len()));
        let settled = front.zip(decided).map(|(waiting, decided)| Settled {
            answer: waiting.answer,
            result: match decided {
                Decided::New(event) => Ok(Appended::New(event)),
                Decided::Unchanged(message) => Ok(Appended::Unchanged(message)),
                Decided::Refused(refusal) => Err(StoreError::Refused(refusal)),
            },
        });
        settled.collect()
    }

    /// The log's head is, or was a moment ago, this.
    pub(super) fn read_head(&mut self, head: Head) {
        self.head = Some(head);
        // Events above it may have been rolled back.
        self.taken = 0;
    }

    /// The insert of `events` ended like this.
    pub(super) fn inserted(&mut self, events: Vec<Arc<Event>>, how: &Inserted) -> Vec<Settled> {
        self.learn(&events, how);
        let durable = match how {
            Inserted::All => events.len(),
            Inserted::LostRace { durable } | Inserted::Repeated { durable } => *durable,
            Inserted::Unknown | Inserted::Conflict => 0,
        };
        let settled = |(waiting, event): (Waiting, Arc<Event>)| Settled {
            answer: waiting.answer,
            result: Ok(Appended::New(event)),
        };
        let front = self.waiting.drain(..durable.min(self.waiting.len()));
        front.zip(events).map(settled).collect()
    }

    /// Takes in how writing these events ended, and answers whether all of them are there.
    fn learn(&mut self, events: &[Arc<Event>], how: &Inserted) -> bool {
        // Until proven otherwise.
        let head = self.head.take();
        match how {
            Inserted::All => {
                let with = |head: Head, event: &Arc<Event>| head.with(event);
                self.head = head.map(|head| events.iter().fold(head, with));
            }
            Inserted::LostRace { durable } => {
                let first = head.map_or(0, |head| head.seq + 1);
                self.taken = first + *durable as u64;
            }
            Inserted::Repeated { .. } | Inserted::Unknown => self.is_unsure = true,
            Inserted::Conflict => {}
        }
        matches!(how, Inserted::All)
    }

    /// These, and no others of those who wait, stand in the log.
    pub(super) fn looked_up(&mut self, found: Vec<Found>) -> Vec<Settled> {
        self.is_unsure = false;
        let mut settled = Vec::new();
        for Found { id, nonce, event } in found {
            let is_own = |waiting: &Waiting| Some(waiting.id) == id;
            if let Some(own) = self.waiting.iter().position(is_own)
                && let Some(own) = self.waiting.remove(own)
            {
                // An attempt that went through after all.
                settled.push(Settled {
                    answer: own.answer,
                    result: Ok(Appended::New(Arc::clone(&event))),
                });
            }
            let repeats = |waiting: &Waiting| {
                let same = waiting.event.nonce.as_ref().map(|nonce| nonce.as_str());
                same.is_some()
                    && same == nonce.as_deref()
                    && waiting.event.author.id == event.author.id
            };
            while let Some(repeat) = self.waiting.iter().position(repeats)
                && let Some(repeat) = self.waiting.remove(repeat)
            {
                settled.push(Settled {
                    result: repeated(Arc::clone(&event), &repeat.event),
                    answer: repeat.answer,
                });
            }
        }
        settled
    }

    /// Lets go of those whose time is over at `now`. They came in order, so they stand in front.
    pub(super) fn give_up_late(&mut self, now: Instant) -> Vec<Waiting> {
        let mut late = Vec::new();
        while let Some(waiting) = self.waiting.pop_front_if(|waiting| waiting.until <= now) {
            late.push(waiting);
        }
        late
    }
}
