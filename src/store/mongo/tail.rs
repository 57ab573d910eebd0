//! One open change stream, read batch by batch.
//!
//! The driver's own stream gives one change after the other and resumes by itself, so one cannot tell
//! when it last asked and was told everything. That moment is what a node's cache stands on, so the
//! cursor is read with plain commands.

use std::time::Duration;

use mongodb::bson::{Document, Timestamp, doc};
use mongodb::{ClientSession, Database};
use tokio::time::{Instant, timeout};

use super::errors::unreadable;
use super::retry::attempt;
use crate::store::StoreError;

/// How long MongoDB holds an answer back while there is nothing to tell. It is what shows that the stream
/// is alive, and bounds how old what a node keeps may be.
pub(super) const AWAIT_MAX: Duration = Duration::from_millis(500);

/// A stream that does not answer for so long has stalled.
pub(super) const STALLED_AFTER: Duration = Duration::from_secs(8);

/// The most changes in one batch: of the largest events they are below what an answer may hold, so a
/// batch that is smaller has everything.
const BATCH_MAX: usize = 500;

const FOLLOW: &str = "follow the change stream";

/// An open stream. It has to be given back with [`Self::close`]; MongoDB closes it by itself after ten
/// idle minutes.
pub(super) struct Tail {
    database: Database,
    /// A cursor belongs to the session that opened it.
    session: ClientSession,
    cursor: i64,
    collection: String,
}

/// The moment up to which a majority has everything. Without one, a stream begins after the newest write
/// of the primary, which reads with majority do not show until it is a majority's: one that is read just
/// then would be kept without the write, and the stream would never tell of it. A router knows no such moment.
async fn committed(database: &Database) -> Result<Option<Timestamp>, StoreError> {
    let hello = attempt(FOLLOW, database.run_command(doc! { "hello": 1 })).await?;
    let last = hello.get_document("lastWrite");
    let last = last.and_then(|last| last.get_document("majorityOpTime"));
    Ok(last.and_then(|last| last.get_timestamp("ts")).ok())
}

/// The changes of one answer.
pub(super) struct Batch {
    pub(super) changes: Vec<Document>,
    /// Where to go on, should the stream end.
    pub(super) place: Option<Document>,
    /// When it was asked for, if everything that was durable then is in this batch or those before.
    pub(super) complete_since: Option<Instant>,
}

impl Tail {
    /// Opens a stream of the changes that `matching` takes, behind `place` or from now on. Its first
    /// batch may be cut off anywhere.
    pub(super) async fn open(
        database: &Database,
        matching: Document,
        place: Option<Document>,
    ) -> Result<(Self, Batch), StoreError> {
        let mut from = Document::new();
        if let Some(place) = place {
            from.insert("resumeAfter", place);
        } else if let Some(committed) = committed(database).await? {
            from.insert("startAtOperationTime", committed);
        }
        let session = database.client().start_session();
        let session = attempt(FOLLOW, session).await?;
        let mut tail = Self {
            database: database.clone(),
            session,
            cursor: 0,
            collection: String::new(),
        };
        let answer = tail.ask(doc! {
            "aggregate": 1,
            "pipeline": [ { "$changeStream": from }, { "$match": matching } ],
            "cursor": {},
            "readConcern": { "level": "majority" },
        });
        let mut answer = answer.await?;
        let cursor = answer
            .get_document("cursor")
            .map_err(unreadable(FOLLOW))?
            .get_str("ns")
            .map_err(unreadable(FOLLOW))?;
        let (_, collection) = cursor.split_once('.').unwrap_or_default();
        tail.collection = collection.to_owned();
        let batch = tail.take_batch(&mut answer, "firstBatch")?;
        Ok((tail, batch))
    }

    /// Waits for changes, [`AWAIT_MAX`] at most.
    pub(super) async fn next(&mut self) -> Result<Batch, StoreError> {
        let asked_at = Instant::now();
        let more = doc! {
            "getMore": self.cursor,
            "collection": &self.collection,
            "batchSize": BATCH_MAX as i32,
            "maxTimeMS": AWAIT_MAX.as_millis() as i64,
        };
        let mut answer = self.ask(more).await?;
        let mut batch = self.take_batch(&mut answer, "nextBatch")?;
        batch.complete_since = (batch.changes.len() < BATCH_MAX).then_some(asked_at);
        Ok(batch)
    }

    /// Gives the cursor back, if that is possible.
    pub(super) async fn close(mut self) {
        let kill = doc! { "killCursors": &self.collection, "cursors": [self.cursor] };
        let _ = timeout(AWAIT_MAX, self.ask(kill)).await;
    }

    async fn ask(&mut self, command: Document) -> Result<Document, StoreError> {
        let command = self.database.run_command(command);
        match timeout(STALLED_AFTER, command.session(&mut self.session)).await {
            Ok(answer) => answer.map_err(|error| StoreError::backend(FOLLOW, error)),
            Err(late) => Err(StoreError::backend(FOLLOW, late)),
        }
    }

    fn take_batch(&mut self, answer: &mut Document, name: &str) -> Result<Batch, StoreError> {
        let missing = unreadable(FOLLOW);
        let cursor = answer.get_document_mut("cursor").map_err(&missing)?;
        self.cursor = cursor.get_i64("id").map_err(&missing)?;
        if self.cursor == 0 {
            // Its database was dropped, say.
            return Err(StoreError::backend(FOLLOW, "the server closed it"));
        }
        let changes = std::mem::take(cursor.get_array_mut(name).map_err(&missing)?);
        let changes = changes.into_iter();
        Ok(Batch {
            changes: changes
                .filter_map(|change| match change {
                    mongodb::bson::Bson::Document(change) => Some(change),
                    _ => None,
                })
                .collect(),
            // Also of an answer without changes: a quiet night's place stays young.
            place: cursor.get_document("postBatchResumeToken").ok().cloned(),
            complete_since: None,
        })
    }
}
