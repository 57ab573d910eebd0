//! The change stream over the deployment's oplog, by which a node hears of other nodes' writes.
//!
//! It is a wake-up and not the truth. Whenever it was interrupted, and every few seconds in any
//! case, the process is told [`Change::Resync`] and compares the heads of the logs it
//! follows, so a stream that fails in a way nobody thought of delays messages and loses none.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use mongodb::bson::{Document, doc};
use tokio::time::{Instant, sleep};

use super::accounts;
use super::collections::Collections;
use super::erasure::ERASING;
use super::errors::unreadable;
use super::event_document;
use super::liveness::Liveness;
use super::log_writer::Logs;
use super::membership_document::{JOINING, leveled};
use super::nodes::{Nodes, RemotePresence};
use super::read_marks::ReadMark;
use super::retry::Backoff;
use super::room_deletion::DELETED;
use super::tail::{Batch, Tail};
use crate::cluster::PeerChange;
use crate::domain::{Event, RoomId, SessionId, User, UserId};
use crate::metrics::Metrics;
use crate::store::cache::{Durable, ReadCache};
use crate::store::{Change, OnChange, StoreError};

/// How often the heads are compared whatever the stream says.
const SWEEP_EVERY: Duration = Duration::from_secs(5);

/// The same while the stream does not answer.
const SWEEP_EVERY_WHEN_LATE: Duration = Duration::from_millis(500);

/// How often it is looked whether the stream is late.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// The change stream and its followers. Cheap to clone.
#[derive(Clone)]
pub(super) struct ChangeStream {
    pub(super) collections: Collections,
    pub(super) nodes: Nodes,
    pub(super) logs: Logs,
    pub(super) cache: Arc<ReadCache>,
    pub(super) on_change: OnChange,
    pub(super) metrics: Metrics,
    pub(super) liveness: Arc<Liveness>,
}

/// A change, read from one document of the stream.
enum Heard {
    Store(Change),
    /// A change that only the cache has to hear of; and who has become a member with it.
    Cached(Durable, Option<UserId>),
    Peer(PeerChange),
    /// Another node shows somebody, who is still to be named.
    Arrived(RemotePresence),
    /// The same of somebody who is typing there.
    Typing(RoomId, UserId),
}

impl ChangeStream {
    /// Has the logs read now and then, whatever the stream says; oftener while it says nothing.
    pub(super) async fn sweep(self) {
        let mut was_stalled = false;
        let mut swept_at = Instant::now();
        let mut peers_read_at = Instant::now();
        loop {
            sleep(LOOK_EVERY).await;
            let is_stalled = self.liveness.check().is_err();
            if is_stalled && !was_stalled {
                tracing::warn!("the change stream has stalled: reading the logs instead");
                self.metrics.change_stream_up.set(0);
            } else if was_stalled && !is_stalled {
                tracing::info!("the change stream answers again");
            }
            was_stalled = is_stalled;
            let since = swept_at.elapsed();
            if since < SWEEP_EVERY_WHEN_LATE || (since < SWEEP_EVERY && !self.liveness.is_late()) {
                continue;
            }
            swept_at = Instant::now();
            if !is_stalled {
                (self.on_change)(Change::Resync);
                continue;
            }
            self.distrust();
            self.metrics.log_sweeps.inc();
            // Less urgent than sessions and logs, and not to hold them up when the database is slow.
            if peers_read_at.elapsed() >= SWEEP_EVERY {
                peers_read_at = Instant::now();
                let nodes = self.nodes.clone();
                tokio::spawn(async move {
                    if let Ok(elsewhere) = nodes.elsewhere().await {
                        nodes.heard(PeerChange::RemoteRoster(elsewhere));
                    }
                });
            }
        }
    }

    /// Follows one stream after another.
    pub(super) async fn follow(self) {
        // Where the last stream was, so that the next one goes on there.
        let mut place = None;
        let mut backoff = Backoff::new();
        loop {
            let began = Instant::now();
            let Err(ended) = self.follow_once(&mut place).await;
            tracing::warn!(
                error = ?ended,
                "the change stream ended: opening a new one, reading the logs meanwhile"
            );
            self.metrics.change_stream_up.set(0);
            self.metrics.change_stream_restarts.inc();
            self.metrics.log_sweeps.inc();
            (self.on_change)(Change::Resync);
            if began.elapsed() > SWEEP_EVERY {
                backoff = Backoff::new();
            }
            backoff.pause().await;
        }
    }

    /// Follows one stream to its end.
    async fn follow_once(&self, place: &mut Option<Document>) -> Result<Infallible, StoreError> {
        let ours = doc! { "$or": [
            { "ns.coll": "events", "operationType": "insert" },
            { "ns.coll": "sessions", "operationType": { "$in": ["update", "delete"] } },
            { "ns.coll": "memberships", "operationType": { "$ne": "insert" } },
            { "ns.coll": "rooms", "operationType": "update" },
            { "ns.coll": "users", "operationType": "update" },
            { "ns.coll": "presence", "operationType": { "$in": ["insert", "delete"] } },
            { "ns.coll": "typing", "operationType": { "$in": ["insert", "replace"] } },
        ] };
        // Taken: should it be what the stream cannot be opened at, the next try does without,
        // and the sweep finds what was missed.
        let (mut tail, batch) = Tail::open(&self.collections.database, ours, place.take()).await?;
        let ended = self.follow_tail(&mut tail, batch, place).await;
        tail.close().await;
        ended
    }

    async fn follow_tail(
        &self,
        tail: &mut Tail,
        batch: Batch,
        place: &mut Option<Document>,
    ) -> Result<Infallible, StoreError> {
        // First the stream, then what is read: what is written between the two is in both. What was
        // kept may be from a primary that had been replaced.
        self.distrust();
        let elsewhere = self.nodes.elsewhere().await?;
        self.nodes.heard(PeerChange::RemoteRoster(elsewhere));
        self.take_in(&batch).await;
        *place = batch.place;
        loop {
            let batch = tail.next().await?;
            self.take_in(&batch).await;
            self.metrics.change_stream_up.set(1);
            if let Some(moment) = batch.complete_since {
                self.liveness.has_heard_until(moment);
            }
            *place = batch.place;
        }
    }

    async fn take_in(&self, batch: &Batch) {
        let mut all = Vec::new();
        let mut is_whole = true;
        for change in &batch.changes {
            match self.changes_from(change) {
                Ok(changes) => all.extend(changes),
                Err(error) => {
                    tracing::error!(?error, "cannot read what the change stream tells");
                    is_whole = false;
                }
            }
        }
        if let Err(error) = self.complete(&mut all).await {
            tracing::warn!(?error, "cannot read what other nodes have changed");
            is_whole = false;
        }
        if !is_whole {
            self.distrust();
            // Before the rest is passed on, so that nothing older overtakes it.
            if let Ok(elsewhere) = self.nodes.elsewhere().await {
                self.nodes.heard(PeerChange::RemoteRoster(elsewhere));
            }
        }
        all.into_iter().for_each(|heard| self.pass_on(heard));
    }

    /// Reads what is told by id alone: the states of messages, and names.
    async fn complete(&self, all: &mut Vec<Heard>) -> Result<(), StoreError> {
        let named = self.name_peers(all).await;
        let is_bare = |heard: &Heard| matches!(heard, Heard::Store(Change::Appended(_)));
        let mut bare = Vec::new();
        for heard in all.iter().filter(|heard| is_bare(heard)) {
            if let Heard::Store(Change::Appended(event)) = heard {
                bare.push(Event::clone(event));
            }
        }
        if bare.is_empty() {
            return named;
        }
        match self.collections.states.complete(bare).await {
            Ok(complete) => {
                let places = all.iter_mut().filter(|heard| is_bare(heard));
                for (heard, event) in places.zip(complete) {
                    *heard = Heard::Store(Change::Appended(event));
                }
                named
            }
            Err(error) => {
                // They are missing then, and are read from the log.
                all.retain(|heard| !is_bare(heard));
                Err(error)
            }
        }
    }

    async fn name_peers(&self, all: &mut [Heard]) -> Result<(), StoreError> {
        let user = |heard: &Heard| match heard {
            Heard::Arrived(place) => Some(place.user),
            Heard::Typing(_, user) => Some(*user),
            _ => None,
        };
        let users = all.iter().filter_map(user).collect();
        let users = self.collections.states.users(users).await?;
        for heard in all {
            let Some(user) = user(heard).and_then(|user| users.get(&user)) else {
                continue;
            };
            *heard = Heard::Peer(match heard {
                Heard::Arrived(place) => {
                    PeerChange::Arrived(place.node, place.room.clone(), user.clone())
                }
                Heard::Typing(room, _) => PeerChange::Typing(room.clone(), user.clone()),
                _ => continue,
            });
        }
        Ok(())
    }

    /// Nothing that is kept is sure to be as it is now.
    fn distrust(&self) {
        self.collections.states.forget_name(None);
        self.cache.forget_all();
        (self.on_change)(Change::Distrust);
    }

    fn pass_on(&self, heard: Heard) {
        match heard {
            Heard::Store(change) => (self.on_change)(change),
            Heard::Cached(change, entered) => {
                self.cache.apply(&change);
                if let Some(user) = entered {
                    (self.on_change)(Change::Entered(user));
                }
                if matches!(change, Durable::Memberships) {
                    // One may be about to end: its streams end at once.
                    (self.on_change)(Change::Resync);
                }
            }
            Heard::Peer(change) => self.nodes.heard(change),
            // Nobody knows their name, so they are not shown.
            Heard::Arrived(_) | Heard::Typing(..) => {}
        }
    }

    fn changes_from(&self, change: &Document) -> Result<Vec<Heard>, StoreError> {
        let missing = unreadable("read a change");
        let namespace = change.get_document("ns").map_err(&missing)?;
        let change = match namespace.get_str("coll").map_err(&missing)? {
            "events" => {
                let document = change.get_document("fullDocument").map_err(&missing)?;
                let event = event_document::event_from(document)?;
                self.logs
                    .hear(&event.room, event_document::head_from(document, &event));
                Some(Heard::Store(Change::Appended(Arc::new(event))))
            }
            "memberships" => Some(membership_change(change)),
            "rooms" => {
                let key = change.get_document("documentKey").map_err(&missing)?;
                let room = RoomId::known(key.get_str("_id").map_err(&missing)?);
                let room = room.map_err(|error| StoreError::backend("read a change", error))?;
                Some(match was_deleted(change) {
                    true => Heard::Store(Change::RoomDeleted(room)),
                    false => Heard::Cached(Durable::Settings(room), None),
                })
            }
            "users" if has_erased(change) => {
                self.distrust();
                None
            }
            "users" => renamed(change).map(|user| {
                self.collections.states.forget_name(Some(user.id));
                Heard::Store(Change::Renamed(user))
            }),
            "presence" => match change.get_document("fullDocument") {
                Ok(shown) => self.nodes.place(shown)?.map(Heard::Arrived),
                Err(_) => {
                    let key = change.get_document("documentKey").map_err(&missing)?;
                    self.nodes.place(key)?.map(|place| {
                        Heard::Peer(PeerChange::Left(place.node, place.room, place.user))
                    })
                }
            },
            "typing" => {
                let told = change.get_document("fullDocument").map_err(&missing)?;
                let typing = self.nodes.typing(told)?;
                let typing = typing.into_iter();
                return Ok(typing
                    .map(|(room, user)| Heard::Typing(room, user))
                    .collect());
            }
            _ => revoked(change).map(|session| Heard::Store(Change::SessionRevoked(session))),
        };
        Ok(change.into_iter().collect())
    }
}

/// Reads the change that an update or deletion of a membership makes to the cache.
fn membership_change(change: &Document) -> Heard {
    let updated = change.get_document("updateDescription");
    let fields = updated.and_then(|updated| updated.get_document("updatedFields"));
    let Ok(fields) = fields else {
        return Heard::Cached(Durable::Memberships, None);
    };
    if let Some(user) = leveled(fields) {
        return Heard::Cached(Durable::Level(user), Some(user));
    }
    let durable = ReadMark::of(fields).map_or(Durable::Memberships, Durable::from);
    Heard::Cached(durable, has_entered(change))
}

/// The user whose membership has begun with an update of it.
fn has_entered(change: &Document) -> Option<UserId> {
    let updated = change.get_document("updateDescription").ok()?;
    let mut removed = updated.get_array("removedFields").ok()?.iter();
    removed.find(|field| field.as_str() == Some(JOINING))?;
    let mark = ReadMark::of(updated.get_document("updatedFields").ok()?)?;
    Some(mark.user)
}

/// Whether an update of a user is the end of an erasure, which has changed texts.
fn has_erased(change: &Document) -> bool {
    let updated = change.get_document("updateDescription");
    let removed = updated.and_then(|updated| updated.get_array("removedFields"));
    let is_it = |field: &mongodb::bson::Bson| field.as_str() == Some(ERASING);
    removed.is_ok_and(|removed| removed.iter().any(is_it))
}

/// The user whose name an update has changed.
fn renamed(change: &Document) -> Option<User> {
    let updated = change.get_document("updateDescription").ok()?;
    let fields = updated.get_document("updatedFields").ok()?;
    let username = fields.get_str("username").ok()?;
    let key = change.get_document("documentKey").ok()?;
    let id = UserId::parse(key.get_str("_id").ok()?).ok()?;
    Some(accounts::user_of(id, username))
}

/// Whether an update of a room is its deletion.
fn was_deleted(change: &Document) -> bool {
    let updated = change.get_document("updateDescription");
    let fields = updated.and_then(|updated| updated.get_document("updatedFields"));
    fields.is_ok_and(|fields| fields.contains_key(DELETED))
}

/// The session that an update of its document revoked, or that was deleted.
fn revoked(change: &Document) -> Option<SessionId> {
    if let Ok(updated) = change.get_document("updateDescription") {
        updated
            .get_document("updatedFields")
            .ok()?
            .get("revoked_at")?;
    }
    let key = change.get_document("documentKey").ok()?;
    SessionId::parse(key.get_str("_id").ok()?).ok()
}
