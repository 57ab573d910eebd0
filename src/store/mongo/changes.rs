//! Changes to messages: a batch of them is one transaction, which writes the messages' new states and the
//! events that say so.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use mongodb::bson::{Bson, Document, doc};
use mongodb::error::{Error, TRANSIENT_TRANSACTION_ERROR};
use mongodb::{ClientSession, Database};
use tokio_stream::StreamExt;

use super::abandoned::unblocked;
use super::collections::Collections;
use super::errors::{first_duplicate, is_number};
use super::event_document::{document_from, event_from, place, signed, state_fields};
use super::numbering::{Decided, Inserted, Numbering};
use super::retry::attempt;
use super::transaction::begin;
use crate::domain::{Event, RoomId, Seq};
use crate::store::StoreError;

/// How a transaction ended, and what it decided of each change.
pub(super) struct Changed {
    pub(super) decided: Vec<Decided>,
    pub(super) how: Inserted,
    pub(super) error: Option<StoreError>,
}

/// Makes the changes that wait in front.
pub(super) async fn change(collections: &Collections, numbering: &Numbering) -> Changed {
    let (room, targets) = (numbering.room(), numbering.targets());
    let nothing = |how, error| Changed {
        decided: Vec::new(),
        how,
        error: Some(error),
    };
    let begun = attempt("begin to change messages", async {
        let mut session = begin(collections).await?;
        let states = states(collections, room, &targets, &mut session).await?;
        Ok::<_, Error>((session, states))
    });
    let (mut session, states) = match begun.await {
        Ok(begun) => begun,
        // Nothing was written.
        Err(error) => return nothing(Inserted::Conflict, error),
    };
    let completed = match complete(collections, states).await {
        Ok(states) => states,
        Err(error) => return nothing(Inserted::Conflict, error),
    };
    let (mut decided, states) = numbering.decide(completed);
    let documents = documents(numbering, &decided);
    if !documents.is_empty() {
        let written = attempt("change messages", async {
            update(&collections.database, states.values(), &mut session).await?;
            let insert = collections.events.insert_many(documents).ordered(true);
            insert.session(&mut session).await.map(drop)
        });
        if let Err(error) = unblocked(collections, written).await {
            let how = refused(&error);
            let error = matches!(how, Inserted::Conflict).then_some(error);
            return Changed {
                decided: Vec::new(),
                how,
                error: error.filter(|error| !is_conflict(error)),
            };
        }
    }
    // Also of one that wrote nothing: what it has read is durable then.
    if let Err(error) = attempt("change messages", session.commit_transaction()).await {
        return nothing(Inserted::Unknown, error);
    }
    // The names of those who have reacted just now, and whom nobody knew here.
    let new = decided.iter_mut().filter_map(|decided| match decided {
        Decided::New(event) => Some(event),
        Decided::Unchanged(_) | Decided::Refused(_) => None,
    });
    let named = collections.states.name_people_of(new).await;
    Changed {
        decided,
        how: Inserted::All,
        error: named.err(),
    }
}

async fn states(
    collections: &Collections,
    room: &RoomId,
    targets: &HashSet<Seq>,
    session: &mut ClientSession,
) -> Result<Vec<Document>, Error> {
    let targets: Vec<i64> = targets.iter().map(|seq| signed(*seq)).collect();
    let find = doc! { "room": room.as_str(), "seq": { "$in": targets } };
    let mut found = collections.events.find(find).session(&mut *session).await?;
    found.stream(session).collect().await
}

async fn complete(
    collections: &Collections,
    states: Vec<Document>,
) -> Result<HashMap<Seq, Arc<Event>>, StoreError> {
    let states = states.iter().map(event_from).collect::<Result<_, _>>()?;
    let states = collections.states.complete(states).await?;
    Ok(states.into_iter().map(|event| (event.seq, event)).collect())
}

fn documents(numbering: &Numbering, decided: &[Decided]) -> Vec<Document> {
    let last_message = numbering.last_message();
    let waiting = numbering.waiting().iter().zip(decided);
    let new = waiting.filter_map(|(waiting, decided)| match decided {
        Decided::New(event) => Some(document_from(waiting, event, last_message)),
        Decided::Unchanged(_) | Decided::Refused(_) => None,
    });
    new.collect()
}

async fn update(
    database: &Database,
    states: impl Iterator<Item = &Arc<Event>>,
    session: &mut ClientSession,
) -> Result<(), Error> {
    let updates = states.map(|state| {
        let (set, unset) = state_fields(state);
        let mut update = doc! { "$set": set };
        if !unset.is_empty() {
            update.insert("$unset", unset);
        }
        Bson::from(doc! { "q": place(&state.room, state.seq), "u": update })
    });
    let update = doc! { "update": "events", "updates": updates.collect::<Vec<_>>() };
    let answer = database.run_command(update).session(session).await?;
    match answer.get_array("writeErrors") {
        Err(_) => Ok(()),
        Ok(errors) => Err(Error::custom(format!(
            "a message does not take its state: {errors:?}"
        ))),
    }
}

/// Reads an error within the transaction. It is aborted, so nothing is there.
fn refused(error: &StoreError) -> Inserted {
    match first_duplicate(error) {
        Some((_, message)) if is_number(message) => Inserted::LostRace { durable: 0 },
        Some(_) => Inserted::Repeated { durable: 0 },
        None => Inserted::Conflict,
    }
}

/// Whether another transaction was in the way.
fn is_conflict(error: &StoreError) -> bool {
    let StoreError::Backend { source, .. } = error else {
        return false;
    };
    let error = source.downcast_ref::<Error>();
    error.is_some_and(|error| error.contains_label(TRANSIENT_TRANSACTION_ERROR))
}
