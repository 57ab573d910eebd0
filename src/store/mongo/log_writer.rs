//! The log writers: one task per room this node is writing to, which carries out the steps of
//! `numbering.rs`.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mongodb::bson::oid::ObjectId;
use mongodb::bson::{Document, doc};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_stream::StreamExt;

use super::abandoned::{unblock, unblocked};
use super::changes::{self, Changed};
use super::collections::Collections;
use super::errors::{first_duplicate, is_number};
use super::event_document::{document_from, event_from, head_from};
use super::numbering::{Found, Head, Inserted, Numbering, Settled, Step, Waiting};
use super::retry::{Backoff, attempt};
use crate::domain::{Event, NewEvent, RoomId, Seq};
use crate::metrics::Metrics;
use crate::store::deadline;
use crate::store::{Appended, Change, OnChange, StoreError};

/// How many events may wait for one room's writer; past that the caller hears that it is busy.
const QUEUE_MAX: usize = 4_096;

/// How many events one insert takes: a few megabytes at most, far below MongoDB's limit.
const BATCH_MAX: usize = 500;

/// How long a writer waits for more before it ends. It keeps one small struct per room.
const IDLE_MAX: Duration = Duration::from_secs(60);

/// The least time a caller's append gets, however much of its deadline is gone.
const ATTEMPT_WORTH: Duration = Duration::from_secs(2);

/// How long a writer that lost a race waits to hear of the number it lost, before it reads.
const HEAR_WITHIN: Duration = Duration::from_millis(50);

/// The way to the writers of all rooms. Cheap to clone.
#[derive(Clone)]
pub(super) struct Logs(Arc<Shared>);

struct Shared {
    collections: Collections,
    on_change: OnChange,
    metrics: Metrics,
    /// One entry per running writer. Sending happens under this lock, and so does a writer's
    /// decision to end, so nothing is sent to one that has ended.
    writers: Mutex<HashMap<RoomId, RoomWriter>>,
}

struct RoomWriter {
    queue: mpsc::Sender<Waiting>,
    /// The newest event that the change stream told of: only majority-committed ones come there.
    heard: watch::Sender<Option<Head>>,
}

impl Logs {
    pub(super) fn new(collections: Collections, on_change: OnChange, metrics: Metrics) -> Self {
        Self(Arc::new(Shared {
            collections,
            on_change,
            metrics,
            writers: Mutex::default(),
        }))
    }

    /// Tells the process of a change that this store made.
    pub(super) fn tell(&self, change: Change) {
        (self.0.on_change)(change);
    }

    /// Hears of a durable event of any node's, which spares a writer that lost a race the reading.
    pub(super) fn hear(&self, room: &RoomId, head: Head) {
        if let Some(writer) = self.0.writers().get(room) {
            writer.heard.send_if_modified(|heard| {
                let is_newer = heard.is_none_or(|heard| heard.seq < head.seq);
                if is_newer {
                    *heard = Some(head);
                }
                is_newer
            });
        }
    }

    pub(super) async fn append(
        &self,
        room: &RoomId,
        event: NewEvent,
    ) -> Result<Appended, StoreError> {
        // Long enough for an attempt even at the end of a request that had to wait before: who is
        // told that it did not work out should find that it did not.
        let until = deadline::current().max(Instant::now() + ATTEMPT_WORTH);
        let (answer, answered) = oneshot::channel();
        self.send(
            room,
            Waiting {
                id: ObjectId::new(),
                event,
                until,
                answer,
            },
        )?;
        // An attempt may be under way when the time is over. Its outcome is unknown to the caller,
        // who may ask again with the nonce.
        timeout_at(until, answered)
            .await
            .map_err(|late| StoreError::backend("append an event in time", late))?
            .map_err(|lost| StoreError::backend("append an event", lost))?
    }

    fn send(&self, room: &RoomId, waiting: Waiting) -> Result<(), StoreError> {
        let mut writers = self.0.writers();
        let writer = writers.entry(room.clone()).or_insert_with(|| {
            let (queue, queued) = mpsc::channel(QUEUE_MAX);
            let (heard, hears) = watch::channel(None);
            tokio::spawn(write_room(Arc::clone(&self.0), room.clone(), queued, hears));
            RoomWriter { queue, heard }
        });
        match writer.queue.try_send(waiting) {
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
    fn writers(&self) -> MutexGuard<'_, HashMap<RoomId, RoomWriter>> {
        self.writers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A room's writer: one insert under way at a time, everything that waits in the next.
async fn write_room(
    shared: Arc<Shared>,
    room: RoomId,
    mut queue: mpsc::Receiver<Waiting>,
    hears: watch::Receiver<Option<Head>>,
) {
    let mut log = RoomLog {
        shared: Arc::clone(&shared),
        numbering: Numbering::new(room.clone()),
        hears,
    };
    let mut backoff = Backoff::new();
    // Why those who wait for long do.
    let mut trouble = String::new();
    let mut conflicts_since = None;
    loop {
        while log.numbering.waiting().len() < BATCH_MAX
            && let Ok(waiting) = queue.try_recv()
        {
            log.numbering.take(waiting);
        }
        // Before each step: whoever has been told that it did not work out must not be surprised.
        log.give_up_late(&trouble);
        match log.take_step().await {
            Ok(Did::Nothing) => match timeout(IDLE_MAX, queue.recv()).await {
                Ok(Some(waiting)) => log.numbering.take(waiting),
                Ok(None) => return,
                Err(_) => {
                    let mut writers = shared.writers();
                    if queue.is_empty() {
                        writers.remove(&room);
                        return;
                    }
                }
            },
            Ok(Did::Progress) => {
                backoff = Backoff::new();
                conflicts_since = None;
            }
            Ok(Did::ReadHead) => backoff = Backoff::new(),
            Ok(Did::LoseRace) => {
                shared.metrics.append_races_lost.inc();
                // Waiting to hear of the winner's events is pause enough.
                "other nodes were always faster".clone_into(&mut trouble);
            }
            Ok(Did::Conflict) => {
                shared.metrics.append_races_lost.inc();
                "other nodes were always faster".clone_into(&mut trouble);
                let since = conflicts_since.get_or_insert_with(Instant::now);
                unblock(&shared.collections, *since).await;
                backoff.pause().await;
            }
            Err(error) => {
                shared.metrics.append_retries.inc();
                tracing::warn!(%room, ?error, "appending again");
                trouble = format!("{error:?}");
                backoff.pause().await;
            }
        }
    }
}

struct RoomLog {
    shared: Arc<Shared>,
    numbering: Numbering,
    hears: watch::Receiver<Option<Head>>,
}

/// The outcome of a step.
enum Did {
    /// There was none to take.
    Nothing,
    Progress,
    ReadHead,
    LoseRace,
    /// Nothing, because another transaction was in the way.
    Conflict,
}

impl RoomLog {
    async fn take_step(&mut self) -> Result<Did, StoreError> {
        match self.numbering.step() {
            Step::Rest => return Ok(Did::Nothing),
            Step::LookUp => {
                let found = self.look_up().await?;
                let settled = self.numbering.looked_up(found);
                self.settle(settled).await;
            }
            Step::ReadHead { above } => {
                let head = match self.hear_head(above).await {
                    Some(head) => head,
                    None => self.read_head().await?,
                };
                self.numbering.read_head(head);
                return Ok(Did::ReadHead);
            }
            Step::Insert(events) => return self.insert(events).await,
            Step::Change => return self.change().await,
        }
        Ok(Did::Progress)
    }

    async fn insert(&mut self, events: Vec<Arc<Event>>) -> Result<Did, StoreError> {
        let mut last_message = self.numbering.last_message();
        let waiting = self.numbering.waiting().iter().zip(&events);
        let documents = waiting.map(|(waiting, event)| {
            let document = document_from(waiting, event, last_message);
            if event.kind.is_message() {
                last_message = Some(event.seq);
            }
            document
        });
        let documents: Vec<Document> = documents.collect();
        let insert = self
            .shared
            .collections
            .events
            .insert_many(documents)
            .ordered(true);
        let insert = attempt("append an event", insert);
        let (how, error) = inserted(unblocked(&self.shared.collections, insert).await);
        let settled = self.numbering.inserted(events, &how);
        let has_settled = !settled.is_empty();
        self.settle(settled).await;
        match (how, error) {
            (Inserted::Unknown, Some(error)) => Err(error),
            (Inserted::LostRace { .. }, _) if !has_settled => Ok(Did::LoseRace),
            _ => Ok(Did::Progress),
        }
    }

    async fn change(&mut self) -> Result<Did, StoreError> {
        let Changed {
            decided,
            how,
            error,
        } = changes::change(&self.shared.collections, &self.numbering).await;
        let settled = self.numbering.changed(decided, &how);
        self.settle(settled).await;
        match (how, error) {
            (Inserted::LostRace { .. }, _) => Ok(Did::LoseRace),
            (_, Some(error)) => Err(error),
            (Inserted::Conflict, None) => Ok(Did::Conflict),
            _ => Ok(Did::Progress),
        }
    }

    /// Publishes what is new and answers those who waited for it, in order.
    async fn settle(&self, mut settled: Vec<Settled>) {
        self.quote(&mut settled).await;
        self.name_authors(&mut settled).await;
        for Settled { answer, result } in settled {
            if let Ok(Appended::New(event)) = &result {
                self.shared.metrics.appends.inc();
                (self.shared.on_change)(Change::Appended(Arc::clone(event)));
            }
            let _ = answer.send(result);
        }
    }

    /// Gives new replies their quotes, and names whoever added or removed somebody. Without them they are durable all the same: they are read again.
    async fn quote(&self, settled: &mut [Settled]) {
        let replies = settled
            .iter_mut()
            .filter_map(|settled| match &mut settled.result {
                Ok(Appended::New(event))
                    if event.reply_to().is_some() || event.kind.by().is_some() =>
                {
                    Some(event)
                }
                _ => None,
            });
        let mut replies: Vec<&mut Arc<Event>> = replies.collect();
        if replies.is_empty() {
            return;
        }
        let bare = replies.iter().map(|event| Event::clone(event)).collect();
        match self.shared.collections.states.complete(bare).await {
            Ok(complete) => {
                for (reply, complete) in replies.iter_mut().zip(complete) {
                    **reply = complete;
                }
            }
            Err(error) => {
                tracing::warn!(room = %self.numbering.room(), ?error, "cannot read what is quoted");
                (self.shared.on_change)(Change::Distrust);
            }
        }
    }

    /// Calls authors as they are called now: one may have been renamed since they were asked who they are.
    async fn name_authors(&self, settled: &mut [Settled]) {
        let new = settled
            .iter_mut()
            .filter_map(|settled| match &mut settled.result {
                Ok(Appended::New(event)) => Some(event),
                _ => None,
            });
        let states = &self.shared.collections.states;
        if let Err(error) = states.name_authors(new.collect()).await {
            tracing::warn!(room = %self.numbering.room(), ?error, "cannot read names");
        }
    }

    fn give_up_late(&mut self, cause: &str) {
        for late in self.numbering.give_up_late(Instant::now()) {
            let error = StoreError::backend("append an event", cause);
            let _ = late.answer.send(Err(error));
        }
    }

    /// Waiting events that stand in the log already: an attempt of ours went through after all, or
    /// their nonce was used before.
    async fn look_up(&self) -> Result<Vec<Found>, StoreError> {
        let room = self.numbering.room().as_str();
        let same = self.numbering.waiting().iter().flat_map(|waiting| {
            let by_id = doc! { "_id": waiting.id };
            let by_nonce = waiting.event.nonce.as_ref().map(|nonce| {
                doc! {
                    "room": room,
                    "author": waiting.event.author.id.to_string(),
                    "nonce": nonce.as_str(),
                }
            });
            std::iter::once(by_id).chain(by_nonce)
        });
        let filter = doc! { "$or": same.collect::<Vec<_>>() };
        let find = async {
            let cursor = self
                .shared
                .collections
                .events
                .find(filter)
                .sort(doc! { "seq": 1 });
            cursor.await?.collect::<Result<Vec<_>, _>>().await
        };
        let found = attempt("look for an event", find).await?;
        let events = found.iter().map(event_from).collect::<Result<_, _>>()?;
        let events = self.shared.collections.states.complete(events).await?;
        let found = found.iter().zip(events).map(|(document, event)| Found {
            id: document.get_object_id("_id").ok(),
            nonce: document.get_str("nonce").ok().map(str::to_owned),
            event,
        });
        Ok(found.collect())
    }

    /// The head by hearsay, if it comes in time to be of use: after a lost race.
    async fn hear_head(&mut self, above: Seq) -> Option<Head> {
        if above == 0 {
            return None;
        }
        let reaches = |heard: &Option<Head>| heard.is_some_and(|head| head.seq >= above);
        let heard = timeout(HEAR_WITHIN, self.hears.wait_for(reaches)).await;
        *heard.ok()?.ok()?
    }

    async fn read_head(&self) -> Result<Head, StoreError> {
        let room = doc! { "room": self.numbering.room().as_str() };
        let find = self
            .shared
            .collections
            .events
            .find_one(room)
            .sort(doc! { "seq": -1 });
        let newest = attempt("read a log’s head", find).await?;
        newest.map_or(Ok(Head::EMPTY), |newest| {
            Ok(head_from(&newest, &event_from(&newest)?))
        })
    }
}

/// Reads the driver's answer. MongoDB waits for the majority also when an insert stops early, and
/// reports it beside the write error when that wait failed.
fn inserted<T>(result: Result<T, StoreError>) -> (Inserted, Option<StoreError>) {
    let error = match result {
        Ok(_) => return (Inserted::All, None),
        Err(error) => error,
    };
    let how = match first_duplicate(&error) {
        // Told apart to save a look-up. Taking one for the other costs only a turn more.
        Some((durable, message)) if is_number(message) => Inserted::LostRace { durable },
        Some((durable, _)) => Inserted::Repeated { durable },
        None => Inserted::Unknown,
    };
    (how, Some(error))
}
