//! How a room's log is numbered without a counter and without a lock.
//!
//! Each node has one writer task per room it is writing to. It knows the log's head h, and
//! inserts what waits at h+1, h+2, … in one ordered insert. The unique index on (room, seq) lets
//! one of several nodes have a number; the others learn the new head and insert again. So:
//!
//! - A number is written only by somebody who knew the one before it to be majority-committed,
//!   or wrote it just before in the same ordered insert. The log has no gap, and a failover,
//!   which keeps a prefix of the oplog, keeps a prefix of each log.
//! - Nothing is published or acknowledged before it is majority-committed.
//! - An insert whose outcome is unknown (a network error, an election) is looked up by its `_id`
//!   with a majority read, and tried again with the same `_id` if it is not there: should the
//!   first attempt still arrive, it meets either its own `_id` or its own nonce.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::TryStreamExt;
use mongodb::Collection;
use mongodb::bson::oid::ObjectId;
use mongodb::bson::{DateTime, Document, doc};
use mongodb::error::{Error, ErrorKind};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::{DUPLICATE_KEY, OPERATION_MAX, bounded, unreadable};
use crate::domain::{Author, Event, EventKind, NewEvent, RoomId, Seq, Timestamp, UserId};
use crate::store::{Appended, Change, OnChange, PAGE_MAX, StoreError, repeated, within_bytes};

/// How many events may wait for one room's writer; past that the caller hears that it is busy.
const QUEUE_MAX: usize = 4_096;

/// How many events one insert takes: a few megabytes at most, far below MongoDB's limit.
const BATCH_MAX: usize = 500;

/// How long an event is tried: through an election, which takes up to 12 seconds by default.
const TRY_FOR: Duration = Duration::from_secs(15);

/// How long a writer waits for more before it ends. It keeps one small struct per room.
const IDLE_MAX: Duration = Duration::from_secs(60);

/// The way to the writers of all rooms. Cheap to clone.
#[derive(Clone)]
pub(super) struct Logs(Arc<Shared>);

struct Shared {
    events: Collection<Document>,
    on_change: OnChange,
    /// One entry per running writer. Sending happens under this lock, and so does a writer's
    /// decision to end, so nothing is sent to one that has ended.
    writers: Mutex<HashMap<RoomId, mpsc::Sender<Waiting>>>,
}

/// An event that somebody waits for.
struct Waiting {
    /// The document's, the same for every attempt: how an attempt of ours is known again.
    id: ObjectId,
    event: NewEvent,
    /// When its caller is told that it did not work out, whatever became of it.
    until: Instant,
    answer: oneshot::Sender<Result<Appended, StoreError>>,
}

/// What the next event builds on; majority-committed.
#[derive(Clone, Copy)]
struct Head {
    seq: Seq,
    messages: u64,
    at: Timestamp,
}

impl Logs {
    pub(super) fn new(events: Collection<Document>, on_change: OnChange) -> Self {
        Self(Arc::new(Shared {
            events,
            on_change,
            writers: Mutex::default(),
        }))
    }

    /// Tells the process of a change that this store made.
    pub(super) fn tell(&self, change: Change) {
        (self.0.on_change)(change);
    }

    pub(super) async fn append(
        &self,
        room: &RoomId,
        event: NewEvent,
    ) -> Result<Appended, StoreError> {
        let (answer, answered) = oneshot::channel();
        self.send(
            room,
            Waiting {
                id: ObjectId::new(),
                event,
                until: Instant::now() + TRY_FOR,
                answer,
            },
        )?;
        // An attempt under way when its time is over may take as long as an operation takes.
        tokio::time::timeout(TRY_FOR + OPERATION_MAX, answered)
            .await
            .map_err(|late| StoreError::backend("append an event", late))?
            .map_err(|lost| StoreError::backend("append an event", lost))?
    }

    fn send(&self, room: &RoomId, waiting: Waiting) -> Result<(), StoreError> {
        let mut writers = self.0.locked_writers();
        let writer = writers.entry(room.clone()).or_insert_with(|| {
            let (writer, queue) = mpsc::channel(QUEUE_MAX);
            tokio::spawn(write_room(Arc::clone(&self.0), room.clone(), queue));
            writer
        });
        match writer.try_send(waiting) {
            Ok(()) => Ok(()),
            Err(mpsc::error::TrySendError::Full(_)) => Err(StoreError::Busy),
            Err(mpsc::error::TrySendError::Closed(_)) => {
                // It panicked. The next event gets a new one.
                writers.remove(room);
                Err(StoreError::backend(
                    "append an event",
                    "the writer has stopped",
                ))
            }
        }
    }
}

impl Shared {
    fn locked_writers(&self) -> std::sync::MutexGuard<'_, HashMap<RoomId, mpsc::Sender<Waiting>>> {
        self.writers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A room's writer: one insert under way at a time, everything that waits in the next.
async fn write_room(shared: Arc<Shared>, room: RoomId, mut queue: mpsc::Receiver<Waiting>) {
    let mut log = RoomLog {
        events: shared.events.clone(),
        on_change: Arc::clone(&shared.on_change),
        room,
        head: None,
    };
    loop {
        let mut batch = Vec::new();
        let receive = queue.recv_many(&mut batch, BATCH_MAX);
        if tokio::time::timeout(IDLE_MAX, receive).await.is_err() {
            let mut writers = shared.locked_writers();
            if queue.is_empty() {
                writers.remove(&log.room);
                return;
            }
            continue;
        }
        log.append_all(batch.into()).await;
    }
}

struct RoomLog {
    events: Collection<Document>,
    on_change: OnChange,
    room: RoomId,
    /// `None` when another node may have appended, or the outcome of an insert is unknown.
    head: Option<Head>,
}

/// How an ordered insert ended.
enum Inserted {
    All,
    /// This many are durable; the next one met an equal key.
    UpTo(usize),
    /// Some may be there, some may still come.
    Unknown(StoreError),
}

impl RoomLog {
    /// Answers each of `waiting`, having appended it if it was not there.
    async fn append_all(&mut self, mut waiting: VecDeque<Waiting>) {
        let mut pause = Backoff::new();
        loop {
            let failed = match self.try_append(&mut waiting).await {
                Ok(()) if waiting.is_empty() => return,
                Ok(()) => None,
                Err(error) => Some(error),
            };
            give_up_late(&mut waiting, failed.as_ref());
            match failed {
                Some(error) => {
                    tracing::warn!(room = %self.room, ?error, "appending again");
                    pause.long().await;
                }
                None => pause.short().await,
            }
        }
    }

    /// One attempt; takes what is settled off the front of `waiting`.
    async fn try_append(&mut self, waiting: &mut VecDeque<Waiting>) -> Result<(), StoreError> {
        let head = match self.head {
            Some(head) => head,
            None => self.read_head().await?,
        };
        // Taken back below if the insert goes through: until then it is not known.
        self.head = None;

        let events = self.number(head, waiting);
        let documents = waiting.iter().zip(&events).map(document_from);
        let insert = self.events.insert_many(documents).ordered(true);
        match inserted(bounded("append an event", insert).await) {
            Inserted::All => {
                self.head = events.last().map(|last| Head {
                    seq: last.seq,
                    messages: last.messages,
                    at: last.at,
                });
                self.settle_front(waiting, events);
                Ok(())
            }
            Inserted::UpTo(durable) => {
                self.settle_front(waiting, events.into_iter().take(durable));
                self.settle_found(waiting).await
            }
            Inserted::Unknown(error) => {
                self.settle_found(waiting).await?;
                Err(error)
            }
        }
    }

    fn number(&self, head: Head, waiting: &VecDeque<Waiting>) -> Vec<Arc<Event>> {
        let at = Timestamp::now().max(head.at);
        let mut messages = head.messages;
        waiting
            .iter()
            .zip(head.seq + 1..)
            .map(|(waiting, seq)| {
                messages += u64::from(waiting.event.kind.body().is_some());
                Arc::new(Event {
                    room: self.room.clone(),
                    seq,
                    messages,
                    at,
                    author: waiting.event.author.clone(),
                    kind: waiting.event.kind.clone(),
                })
            })
            .collect()
    }

    /// Publishes these durable events and answers those who wait for them, in order.
    fn settle_front(
        &self,
        waiting: &mut VecDeque<Waiting>,
        events: impl IntoIterator<Item = Arc<Event>>,
    ) {
        for event in events {
            (self.on_change)(Change::Appended(Arc::clone(&event)));
            if let Some(waiting) = waiting.pop_front() {
                let _ = waiting.answer.send(Ok(Appended::New(event)));
            }
        }
    }

    /// Answers those whose event stands in the log already: from an attempt of ours that went
    /// through after all, or because their nonce was used before.
    async fn settle_found(&self, waiting: &mut VecDeque<Waiting>) -> Result<(), StoreError> {
        let same = waiting.iter().flat_map(|waiting| {
            let by_id = doc! { "_id": waiting.id };
            let by_nonce = waiting.event.nonce.as_ref().map(|nonce| {
                doc! {
                    "room": self.room.as_str(),
                    "author": waiting.event.author.id.to_string(),
                    "nonce": nonce.as_str(),
                }
            });
            std::iter::once(by_id).chain(by_nonce)
        });
        let filter = doc! { "$or": same.collect::<Vec<_>>() };
        let find = async {
            let cursor = self.events.find(filter).sort(doc! { "seq": 1 }).await?;
            cursor.try_collect::<Vec<_>>().await
        };
        for document in bounded("look for an event", find).await? {
            let event = Arc::new(event_from(&document)?);
            let id = document.get_object_id("_id").ok();
            let nonce = document.get_str("nonce").ok();
            if let Some(own) = waiting.iter().position(|waiting| Some(waiting.id) == id)
                && let Some(own) = waiting.remove(own)
            {
                (self.on_change)(Change::Appended(Arc::clone(&event)));
                let _ = own.answer.send(Ok(Appended::New(event)));
                continue;
            }
            let repeats = |waiting: &Waiting| {
                let same = waiting.event.nonce.as_ref().map(|nonce| nonce.as_str());
                same.is_some() && same == nonce && waiting.event.author.id == event.author.id
            };
            while let Some(repeat) = waiting.iter().position(repeats)
                && let Some(repeat) = waiting.remove(repeat)
            {
                let appended = repeated(Arc::clone(&event), &repeat.event);
                let _ = repeat.answer.send(appended);
            }
        }
        Ok(())
    }

    async fn read_head(&self) -> Result<Head, StoreError> {
        let find = self
            .events
            .find_one(doc! { "room": self.room.as_str() })
            .sort(doc! { "seq": -1 });
        let newest = bounded("read a log’s head", find).await?;
        newest.map_or(
            Ok(Head {
                seq: 0,
                messages: 0,
                at: Timestamp::from_millis(0),
            }),
            |newest| {
                let event = event_from(&newest)?;
                Ok(Head {
                    seq: event.seq,
                    messages: event.messages,
                    at: event.at,
                })
            },
        )
    }
}

/// Answers those whose time is over. They came in order, so they stand in front.
fn give_up_late(waiting: &mut VecDeque<Waiting>, failed: Option<&StoreError>) {
    let now = Instant::now();
    while let Some(late) = waiting.pop_front_if(|waiting| waiting.until <= now) {
        let cause = match failed {
            Some(error) => format!("{error:?}"),
            None => "other nodes were always faster".to_owned(),
        };
        let _ = late
            .answer
            .send(Err(StoreError::backend("append an event", cause)));
    }
}

/// Reads the driver's answer. MongoDB waits for the majority also when an insert stops early, and
/// reports it beside the write error when that wait failed.
fn inserted<T>(result: Result<T, StoreError>) -> Inserted {
    let error = match result {
        Ok(_) => return Inserted::All,
        Err(error) => error,
    };
    let stopped_at = || {
        let StoreError::Backend { source, .. } = &error else {
            return None;
        };
        let ErrorKind::InsertMany(failure) = &*source.downcast_ref::<Error>()?.kind else {
            return None;
        };
        match (
            &failure.write_concern_error,
            failure.write_errors.as_deref(),
        ) {
            (None, Some([first, ..])) if first.code == DUPLICATE_KEY => Some(first.index),
            _ => None,
        }
    };
    match stopped_at() {
        Some(durable) => Inserted::UpTo(durable),
        None => Inserted::Unknown(error),
    }
}

/// Growing pauses with jitter, so that racing nodes do not race again in step.
struct Backoff {
    attempt: u32,
}

impl Backoff {
    fn new() -> Self {
        Self { attempt: 0 }
    }

    /// After losing a race: a few milliseconds.
    async fn short(&mut self) {
        self.pause(Duration::from_millis(1), Duration::from_millis(20))
            .await;
    }

    /// After a failure: up to a second.
    async fn long(&mut self) {
        self.pause(Duration::from_millis(50), OPERATION_MAX / 10)
            .await;
    }

    async fn pause(&mut self, base: Duration, max: Duration) {
        let longest = base.saturating_mul(1 << self.attempt.min(10)).min(max);
        self.attempt += 1;
        let fraction = f64::from(getrandom::u32().unwrap_or(u32::MAX)) / f64::from(u32::MAX);
        tokio::time::sleep(longest.mul_f64(fraction)).await;
    }
}

pub(super) async fn page_after(
    events: &Collection<Document>,
    room: &RoomId,
    after: Seq,
    limit: usize,
) -> Result<Vec<Arc<Event>>, StoreError> {
    page(events, room, doc! { "$gt": signed(after) }, 1, limit).await
}

pub(super) async fn page_before(
    events: &Collection<Document>,
    room: &RoomId,
    before: Seq,
    limit: usize,
) -> Result<Vec<Arc<Event>>, StoreError> {
    let mut page = page(events, room, doc! { "$lt": signed(before) }, -1, limit).await?;
    page.reverse();
    Ok(page)
}

async fn page(
    events: &Collection<Document>,
    room: &RoomId,
    seq: Document,
    order: i32,
    limit: usize,
) -> Result<Vec<Arc<Event>>, StoreError> {
    if limit == 0 {
        // To MongoDB, no limit at all.
        return Ok(Vec::new());
    }
    let find = async {
        events
            .find(doc! { "room": room.as_str(), "seq": seq })
            .sort(doc! { "seq": order })
            .limit(limit.min(PAGE_MAX).cast_signed() as i64)
            .await?
            .try_collect::<Vec<_>>()
            .await
    };
    let documents = bounded("read a log", find).await?;
    within_bytes(
        documents
            .iter()
            .map(|document| event_from(document).map(Arc::new)),
    )
}

/// BSON has no unsigned integers. What is past the signed ones is past every event.
fn signed(seq: Seq) -> i64 {
    i64::try_from(seq).unwrap_or(i64::MAX)
}

fn document_from((waiting, event): (&Waiting, &Arc<Event>)) -> Document {
    let mut document = doc! {
        "_id": waiting.id,
        "room": event.room.as_str(),
        "seq": signed(event.seq),
        "messages": signed(event.messages),
        "at": DateTime::from_millis(event.at.as_millis()),
        "kind": event.kind.name(),
        "author": event.author.id.to_string(),
        "author_name": &*event.author.username,
    };
    if let Some(body) = event.kind.body() {
        document.insert("body", body.as_str());
    }
    if let Some(nonce) = &waiting.event.nonce {
        document.insert("nonce", nonce.as_str());
    }
    document
}

pub(super) fn event_from(document: &Document) -> Result<Event, StoreError> {
    const OPERATION: &str = "read an event";
    let missing = unreadable(OPERATION);
    let text = |key| document.get_str(key).map_err(&missing);
    let kind = EventKind::stored(text("kind")?, document.get_str("body").ok());
    Ok(Event {
        room: RoomId::parse(text("room")?)
            .map_err(|error| StoreError::backend(OPERATION, error))?,
        seq: seq_from(document)?,
        messages: document
            .get_i64("messages")
            .map_err(&missing)?
            .unsigned_abs(),
        at: Timestamp::from_millis(
            document
                .get_datetime("at")
                .map_err(&missing)?
                .timestamp_millis(),
        ),
        author: Author {
            id: UserId::parse(text("author")?)
                .map_err(|error| StoreError::backend(OPERATION, error))?,
            username: text("author_name")?.into(),
        },
        kind: kind.ok_or_else(|| {
            StoreError::backend(OPERATION, "it is of a kind this version does not know")
        })?,
    })
}

pub(super) fn seq_from(document: &Document) -> Result<Seq, StoreError> {
    document
        .get_i64("seq")
        .map(i64::unsigned_abs)
        .map_err(unreadable("read an event’s number"))
}
