//! Tries the rules of `numbering.rs` against a replica set that does everything a real one may:
//! writes that are lost, late, done twice or rolled back, primaries that have been replaced and do
//! not know it, nodes that crash. Also shows that it would notice: two plausible wrong ways of
//! learning the head are found out.

use std::collections::HashMap;
use std::sync::Arc;

use mongodb::bson::oid::ObjectId;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestError, TestRunner};
use tokio::sync::oneshot::{self, error::TryRecvError};
use tokio::time::Instant;

use super::numbering::{Decided, Found, Head, Inserted, Numbering, Settled, Step, Waiting};
use crate::domain::{
    Author, ChangeKind, Emoji, Event, EventKind, Mentions, Message, MessageBody, NewChange,
    NewEvent, NewKind, Nonce, Reaction, RoomId, Seq, UserId,
};
use crate::store::{Appended, StoreError};

const NODES: usize = 3;
const AUTHORS: usize = 2;

/// The possible next actions.
#[derive(Debug, Clone)]
enum Happening {
    /// Somebody posts at a node; with a nonce, perhaps not for the first time.
    Post {
        node: usize,
        author: usize,
        nonce: Option<u8>,
        body: u8,
    },
    /// Somebody changes a message at a node, if there is one of that number: puts a reaction there, takes
    /// it off, or deletes it.
    Change {
        node: usize,
        author: usize,
        target: Seq,
        how: u8,
    },
    /// A node takes its next step.
    Step { node: usize, fate: Fate },
    /// A write that was on its way arrives.
    Arrive { which: usize },
    /// A majority has some more of what the primary has.
    Commit { more: usize },
    /// Another member becomes primary; it has what is committed and some of the rest. The old one
    /// does not know yet.
    Elect { keeps: usize },
    /// The old primary learns that it is none.
    StepDown,
    /// A node dies and comes back.
    Crash { node: usize },
    /// The first who waits at a node is told that it did not work out.
    GiveUp { node: usize },
}

/// The fate of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// It is done, by a majority, and answered.
    Done,
    /// It never arrives.
    Lost,
    /// It is done by the primary; the answer is lost.
    AnswerLost,
    /// It is given up on, and arrives later.
    Late,
    /// It is done and answered, and a copy arrives later.
    Twice,
    /// It goes to the old primary, if there is one.
    ToOldPrimary,
}

fn happenings() -> impl Strategy<Value = Vec<Happening>> {
    let fate = prop_oneof![
        6 => Just(Fate::Done),
        1 => Just(Fate::Lost),
        2 => Just(Fate::AnswerLost),
        2 => Just(Fate::Late),
        1 => Just(Fate::Twice),
        2 => Just(Fate::ToOldPrimary),
    ];
    let happening = prop_oneof![
        6 => (0..NODES, 0..AUTHORS, prop::option::of(0..4_u8), 0..2_u8)
            .prop_map(|(node, author, nonce, body)| Happening::Post { node, author, nonce, body }),
        6 => (0..NODES, 0..AUTHORS, 1..4_u64, 0..5_u8)
            .prop_map(|(node, author, target, how)| Happening::Change { node, author, target, how }),
        16 => (0..NODES, fate).prop_map(|(node, fate)| Happening::Step { node, fate }),
        2 => (0..8_usize).prop_map(|which| Happening::Arrive { which }),
        2 => (1..3_usize).prop_map(|more| Happening::Commit { more }),
        2 => (0..3_usize).prop_map(|keeps| Happening::Elect { keeps }),
        1 => Just(Happening::StepDown),
        1 => (0..NODES).prop_map(|node| Happening::Crash { node }),
        1 => (0..NODES).prop_map(|node| Happening::GiveUp { node }),
    ];
    prop::collection::vec(happening, 1..80)
}

/// Where a node learns the head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum HeadFrom {
    /// As it should be.
    MajorityRead,
    /// Wrong: what the primary has may be rolled back.
    LocalRead,
    /// Wrong: who took a number may never write it.
    Counter,
}

#[derive(Debug, Clone)]
struct Document {
    id: ObjectId,
    nonce: Option<String>,
    event: Arc<Event>,
}

impl Document {
    /// The state that a message gets with this: its first, or that after a change.
    fn state(&self) -> Option<&Arc<Event>> {
        match &self.event.kind {
            EventKind::Changed(changed) => changed.message.as_ref(),
            _ => Some(&self.event),
        }
    }
}

/// One member's log, and how much of it the member knows to be committed.
#[derive(Debug, Clone, Default)]
struct Member {
    log: Vec<Document>,
    committed: usize,
}

impl Member {
    /// An ordered insert.
    fn insert(&mut self, documents: &[Document]) -> Inserted {
        for (durable, new) in documents.iter().enumerate() {
            let is =
                |same: fn(&Document, &Document) -> bool| self.log.iter().any(|old| same(old, new));
            if is(|old, new| old.event.seq == new.event.seq) {
                return Inserted::LostRace { durable };
            }
            let same_nonce = |old: &Document, new: &Document| {
                old.nonce.is_some()
                    && old.nonce == new.nonce
                    && old.event.author.id == new.event.author.id
            };
            if is(|old, new| old.id == new.id) || is(same_nonce) {
                return Inserted::Repeated { durable };
            }
            self.log.push(new.clone());
        }
        Inserted::All
    }

    fn write(&mut self, is_change: bool, documents: &[Document]) -> Inserted {
        match is_change {
            true => self.change(documents),
            false => self.insert(documents),
        }
    }

    /// A transaction: all or none.
    fn change(&mut self, documents: &[Document]) -> Inserted {
        let mut after = self.clone();
        match after.insert(documents) {
            Inserted::All => {
                *self = after;
                Inserted::All
            }
            Inserted::Repeated { .. } => Inserted::Repeated { durable: 0 },
            _ => Inserted::LostRace { durable: 0 },
        }
    }

    /// The states of all messages.
    fn states(&self) -> HashMap<Seq, Arc<Event>> {
        let states = self.log.iter().filter_map(Document::state);
        states.map(|state| (state.seq, Arc::clone(state))).collect()
    }

    fn majority_read(&self) -> &[Document] {
        &self.log[..self.committed]
    }
}

type Answer = oneshot::Receiver<Result<Appended, StoreError>>;

struct World {
    head_from: HeadFrom,
    counter: u64,
    primary: Member,
    old_primary: Option<Member>,
    /// Ordered inserts, and transactions.
    on_their_way: Vec<(bool, Vec<Document>)>,
    nodes: Vec<Numbering>,
    callers: Vec<(NewEvent, Answer)>,
    /// The answers given, each with its question.
    told: Vec<(NewEvent, Appended)>,
    authors: Vec<UserId>,
}

fn numbering() -> Numbering {
    Numbering::new(RoomId::parse("tea").unwrap())
}

impl World {
    fn new(head_from: HeadFrom) -> Self {
        Self {
            head_from,
            counter: 0,
            primary: Member::default(),
            old_primary: None,
            on_their_way: Vec::new(),
            nodes: (0..NODES).map(|_| numbering()).collect(),
            callers: Vec::new(),
            told: Vec::new(),
            authors: (0..AUTHORS).map(|_| UserId::new()).collect(),
        }
    }

    fn run(head_from: HeadFrom, happenings: &[Happening]) -> Result<(), TestCaseError> {
        let mut world = Self::new(head_from);
        for happening in happenings {
            world.happens(happening);
            world.check()?;
        }
        world.calm_down()?;
        world.check()
    }

    fn happens(&mut self, happening: &Happening) {
        match *happening {
            Happening::Post {
                node,
                author,
                nonce,
                body,
            } => self.post(node, author, nonce, body),
            Happening::Change {
                node,
                author,
                target,
                how,
            } => self.change(node, author, target, how),
            Happening::Step { node, fate } => self.step(node, fate),
            Happening::Arrive { which } => {
                if which < self.on_their_way.len() {
                    let (is_change, documents) = self.on_their_way.remove(which);
                    self.primary.write(is_change, &documents);
                }
            }
            Happening::Commit { more } => {
                let committed = self.primary.committed + more;
                self.primary.committed = committed.min(self.primary.log.len());
            }
            Happening::Elect { keeps } => {
                let mut next = self.primary.clone();
                next.log.truncate(next.committed + keeps);
                // A transaction is its primary's: another one knows nothing of it, and commits nothing.
                self.on_their_way.retain(|(is_change, _)| !is_change);
                self.old_primary = Some(std::mem::replace(&mut self.primary, next));
            }
            Happening::StepDown => self.old_primary = None,
            Happening::Crash { node } => self.nodes[node] = numbering(),
            Happening::GiveUp { node } => {
                // All who wait have the same time here; the first is enough.
                let waiting = self.nodes[node].waiting().front();
                if let Some(until) = waiting.map(|waiting| waiting.until) {
                    drop(self.nodes[node].give_up_late(until));
                }
            }
        }
    }

    fn change(&mut self, node: usize, author: usize, target: Seq, how: u8) {
        let react = |emoji: &str, on| NewChange::React {
            emoji: Emoji::parse(emoji).unwrap(),
            on,
        };
        let change = match how {
            0 => react("👍", true),
            1 => react("👍", false),
            2 => react("🎉", true),
            3 => NewChange::Edit {
                body: MessageBody::parse(&format!("edited by {author}")).unwrap(),
                rev: None,
            },
            _ => NewChange::Delete { as_owner: false },
        };
        self.ask(
            node,
            NewEvent {
                author: Author {
                    id: self.authors[author],
                    username: "ana".into(),
                },
                kind: NewKind::Change { target, change },
                nonce: None,
            },
        );
    }

    fn post(&mut self, node: usize, author: usize, nonce: Option<u8>, body: u8) {
        let event = NewEvent {
            author: Author {
                id: self.authors[author],
                username: "ana".into(),
            },
            kind: NewKind::Message {
                body: MessageBody::parse(&format!("body {body}")).unwrap(),
                reply_to: None,
                mentions: Mentions::default(),
            },
            nonce: nonce.map(|nonce| Nonce::parse(&format!("nonce-{nonce}")).unwrap()),
        };
        self.ask(node, event);
    }

    fn ask(&mut self, node: usize, event: NewEvent) {
        let (answer, answered) = oneshot::channel();
        self.nodes[node].take(Waiting {
            id: ObjectId::new(),
            event: event.clone(),
            until: Instant::now(),
            answer,
        });
        self.callers.push((event, answered));
    }

    fn step(&mut self, node: usize, fate: Fate) {
        let to_old = fate == Fate::ToOldPrimary && self.old_primary.is_some();
        match self.nodes[node].step() {
            Step::Rest => {}
            // A caller whose answer does not come simply asks again.
            Step::LookUp | Step::ReadHead { .. }
                if matches!(fate, Fate::Lost | Fate::AnswerLost | Fate::Late) => {}
            Step::LookUp => {
                let asked = if to_old {
                    self.old_primary.as_ref()
                } else {
                    None
                };
                let found = self.look_up(node, asked.unwrap_or(&self.primary));
                Self::answer(self.nodes[node].looked_up(found));
            }
            Step::ReadHead { .. } => {
                let asked = if to_old {
                    self.old_primary.as_ref()
                } else {
                    None
                };
                let asked = asked.unwrap_or(&self.primary);
                let newest = match self.head_from {
                    HeadFrom::MajorityRead => asked.majority_read().last(),
                    HeadFrom::LocalRead | HeadFrom::Counter => asked.log.last(),
                };
                let mut head = newest.map_or(Head::EMPTY, |newest| Head::from(&*newest.event));
                if self.head_from == HeadFrom::Counter {
                    head.seq = self.counter;
                    self.counter += self.nodes[node].waiting().len() as u64;
                }
                self.nodes[node].read_head(head);
            }
            Step::Insert(events) => {
                let documents = self.documents(node, &events);
                let how = self.write(fate, false, documents);
                let settled = self.nodes[node].inserted(events, &how);
                Self::answer(settled);
            }
            Step::Change => {
                let old = self.old_primary.as_ref().filter(|_| to_old);
                let states = old.unwrap_or(&self.primary).states();
                let (decided, _) = self.nodes[node].decide(states);
                let waiting = self.nodes[node].waiting().iter().zip(&decided);
                let new = waiting.filter_map(|(waiting, decided)| match decided {
                    Decided::New(event) => Some(Self::document(waiting, event)),
                    Decided::Unchanged(_) | Decided::Refused(_) => None,
                });
                let how = self.write(fate, true, new.collect());
                let settled = self.nodes[node].changed(decided, &how);
                Self::answer(settled);
            }
        }
    }

    fn answer(settled: Vec<Settled>) {
        for settled in settled {
            let _ = settled.answer.send(settled.result);
        }
    }

    fn document(waiting: &Waiting, event: &Arc<Event>) -> Document {
        let nonce = waiting.event.nonce.as_ref();
        Document {
            id: waiting.id,
            nonce: nonce.map(|nonce| nonce.as_str().to_owned()),
            event: Arc::clone(event),
        }
    }

    fn documents(&self, node: usize, events: &[Arc<Event>]) -> Vec<Document> {
        let waiting = self.nodes[node].waiting().iter().zip(events);
        waiting
            .map(|(waiting, event)| Self::document(waiting, event))
            .collect()
    }

    fn look_up(&self, node: usize, asked: &Member) -> Vec<Found> {
        let waiting = self.nodes[node].waiting();
        let is_asked_for = |document: &&Document| {
            waiting.iter().any(|waiting| {
                let nonce = waiting.event.nonce.as_ref().map(Nonce::as_str);
                let is_repeat = nonce.is_some()
                    && nonce == document.nonce.as_deref()
                    && waiting.event.author.id == document.event.author.id;
                waiting.id == document.id || is_repeat
            })
        };
        let found = asked.majority_read().iter().filter(is_asked_for);
        found
            .map(|document| Found {
                id: Some(document.id),
                nonce: document.nonce.clone(),
                event: Arc::clone(&document.event),
            })
            .collect()
    }

    fn write(&mut self, fate: Fate, is_change: bool, documents: Vec<Document>) -> Inserted {
        match fate {
            Fate::Done | Fate::Twice => {
                let how = self.primary.write(is_change, &documents);
                let durable = match how {
                    Inserted::All => documents.len(),
                    Inserted::LostRace { durable } | Inserted::Repeated { durable } => durable,
                    Inserted::Unknown | Inserted::Conflict => 0,
                };
                // The answer waited for a majority to have what it says is there; of a transaction, also
                // what it has read.
                if durable > 0 || (is_change && matches!(how, Inserted::All)) {
                    self.primary.committed = self.primary.log.len();
                }
                if fate == Fate::Twice {
                    self.on_their_way.push((is_change, documents));
                }
                how
            }
            Fate::AnswerLost => {
                self.primary.write(is_change, &documents);
                Inserted::Unknown
            }
            Fate::Late => {
                self.on_their_way.push((is_change, documents));
                Inserted::Unknown
            }
            // Before it was committed.
            Fate::Lost if is_change => Inserted::Conflict,
            Fate::Lost => Inserted::Unknown,
            Fate::ToOldPrimary => {
                // It has no majority any more, so it never says that it is done.
                if let Some(old) = &mut self.old_primary {
                    old.write(is_change, &documents);
                }
                Inserted::Unknown
            }
        }
    }

    /// The promises.
    fn check(&mut self) -> Result<(), TestCaseError> {
        let log = self.primary.majority_read();
        let (mut messages, mut states) = (0, HashMap::new());
        for (document, seq) in log.iter().zip(1..) {
            let event = &document.event;
            messages += u64::from(event.kind.is_message());
            prop_assert_eq!(event.seq, seq, "the log has a gap");
            prop_assert_eq!(event.messages, messages, "the messages are miscounted");
            self.check_state(document, &mut states)?;
        }
        let told = &mut self.told;
        self.callers
            .retain_mut(|(asked, answer)| match answer.try_recv() {
                Ok(Ok(appended)) => {
                    told.push((asked.clone(), appended));
                    false
                }
                // Told that it did not work out, or gone with its node.
                Ok(Err(_)) | Err(TryRecvError::Closed) => false,
                Err(TryRecvError::Empty) => true,
            });
        for (asked, appended) in &self.told {
            let event = appended.event();
            let stands = log.iter().find(|document| document.event.seq == event.seq);
            let Some(stands) = stands else {
                return Err(TestCaseError::fail("acknowledged and not there"));
            };
            if matches!(appended, Appended::Unchanged(_)) {
                continue;
            }
            prop_assert_eq!(
                &*stands.event,
                &**event,
                "acknowledged, and another stands there"
            );
            let is_asked_for = match (&event.kind, &asked.kind) {
                (EventKind::Message(message), NewKind::Message { body, .. }) => {
                    message.body.as_ref() == Some(body)
                }
                (EventKind::Changed(changed), NewKind::Change { target, change }) => {
                    changed.target == *target && changed.what == ChangeKind::from(change)
                }
                _ => false,
            };
            prop_assert!(is_asked_for, "acknowledged, and another was made");
            prop_assert_eq!(&event.author, &asked.author);
            if let Some(nonce) = &asked.nonce {
                prop_assert_eq!(stands.nonce.as_deref(), Some(nonce.as_str()));
            }
        }
        let mut new: Vec<_> = self
            .told
            .iter()
            .filter(|(_, appended)| matches!(appended, Appended::New(_)))
            .map(|(_, appended)| appended.event().seq)
            .collect();
        let count = new.len();
        new.sort_unstable();
        new.dedup();
        prop_assert_eq!(new.len(), count, "two were told that one event is theirs");
        Ok(())
    }

    /// A message's state after a change is what the change makes of the state before it: none is lost
    /// between two nodes.
    fn check_state(
        &self,
        document: &Document,
        states: &mut HashMap<Seq, Arc<Event>>,
    ) -> Result<(), TestCaseError> {
        let event = &document.event;
        if let EventKind::Changed(changed) = &event.kind {
            let Some(before) = states.get(&changed.target) else {
                return Err(TestCaseError::fail("what is not there was changed"));
            };
            let after = changed.message.as_ref().and_then(|after| after.message());
            let before = before.message();
            let (Some(before), Some(after)) = (before, after) else {
                return Err(TestCaseError::fail("a change without a message"));
            };
            prop_assert!(before.deleted_at.is_none(), "changed after its deletion");
            prop_assert_eq!(after.changed, event.seq);
            let others = |message: &Message| {
                let all = message.reactions.all().iter().cloned();
                all.filter(|one| one.user != event.author.id)
                    .collect::<Vec<_>>()
            };
            match &changed.what {
                ChangeKind::Deleted => {
                    prop_assert!(after.body.is_none() && after.reactions.is_empty())
                }
                ChangeKind::Edited => prop_assert_eq!(&after.reactions, &before.reactions),
                ChangeKind::Reacted { emoji, on } => {
                    prop_assert_eq!(others(after), others(before), "a reaction was lost");
                    let is_own =
                        |one: &Reaction| one.user == event.author.id && one.emoji == *emoji;
                    prop_assert_eq!(after.reactions.all().iter().any(is_own), *on);
                    prop_assert_eq!(before.reactions.all().iter().any(is_own), !*on);
                    prop_assert_eq!(&after.body, &before.body, "an edit was lost");
                }
            }
        }
        if let Some(state) = document.state() {
            states.insert(state.seq, Arc::clone(state));
        }
        Ok(())
    }

    /// Once everything works again, everybody who waits is answered.
    fn calm_down(&mut self) -> Result<(), TestCaseError> {
        self.old_primary = None;
        self.primary.committed = self.primary.log.len();
        for _ in 0..100 {
            for node in 0..NODES {
                self.step(node, Fate::Done);
                self.check()?;
            }
        }
        prop_assert!(self.callers.is_empty(), "somebody waits for ever");
        prop_assert!(self.nodes.iter().all(|node| node.waiting().is_empty()));
        Ok(())
    }
}

fn try_to_break(head_from: HeadFrom) -> Result<(), TestError<Vec<Happening>>> {
    let config = Config {
        cases: 3_000,
        failure_persistence: None,
        ..Config::default()
    };
    TestRunner::new(config).run(&happenings(), |happenings| {
        World::run(head_from, &happenings)
    })
}

#[test]
fn no_failure_breaks_the_promises() {
    if let Err(broken) = try_to_break(HeadFrom::MajorityRead) {
        panic!("{broken}");
    }
}

#[test]
fn a_head_that_may_be_rolled_back_is_found_out() {
    assert!(matches!(
        try_to_break(HeadFrom::LocalRead),
        Err(TestError::Fail(..))
    ));
}

#[test]
fn a_counter_first_and_the_write_later_is_found_out() {
    assert!(matches!(
        try_to_break(HeadFrom::Counter),
        Err(TestError::Fail(..))
    ));
}
