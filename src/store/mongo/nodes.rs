//! The nodes that live, and who is where on each of them.
//!
//! A node says every few seconds that it lives. One that has not for [`LOST_AFTER`] is removed by
//! whichever node looks first, and with it those it showed; should it still live, it finds itself
//! removed, takes a new name, and says again who is there. All moments are MongoDB's clock's, so
//! the nodes' own clocks don't matter.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use mongodb::Collection;
use mongodb::bson::{Bson, DateTime, Document, doc};
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_stream::StreamExt;

use super::collections::Collections;
use super::errors::{is_only_repeated, unreadable};
use super::retry::{attempt, retry};
use super::states::States;
use crate::cluster::{Cluster, OnPeerChange, PeerChange};
use crate::domain::{NodeId, RoomId, User, UserId};
use crate::store::StoreError;

/// How often a node says that it lives.
const BEAT_EVERY: Duration = Duration::from_secs(5);

/// A node that has said nothing for so long is gone: its people disappear within this and one
/// [`BEAT_EVERY`].
const LOST_AFTER: Duration = Duration::from_secs(16);

/// How many of the people here are told of at once.
const TELL_MAX: usize = 1_000;

/// Somebody on another node.
pub(super) struct RemotePresence {
    pub(super) node: NodeId,
    pub(super) room: RoomId,
    pub(super) user: UserId,
}

/// Whether some node has said lately that it lives.
pub(super) async fn is_any_alive(collections: &Collections) -> Result<bool, StoreError> {
    let alive = doc! { "$expr": { "$gte": ["$beat_at", lost_before()] } };
    let find = || collections.nodes.find_one(alive.clone());
    Ok(retry("look for running servers", find).await?.is_some())
}

/// Nodes not heard of since then are lost.
fn lost_before() -> Document {
    doc! { "$subtract": ["$$NOW", LOST_AFTER.as_millis() as i64] }
}

/// This node among the others. Cheap to clone.
#[derive(Clone)]
pub(super) struct Nodes(Arc<Shared>);

struct Shared {
    nodes: Collection<Document>,
    presence: Collection<Document>,
    /// One document a node: the people who typed there at its last announcement. Others need only the
    /// change.
    typing: Collection<Document>,
    states: States,
    on_peer_change: OnPeerChange,
    /// Our names, the present one last.
    names: Mutex<Vec<NodeId>>,
    /// Whether those who are here were shown under a name that is no more.
    must_show_again: AtomicBool,
}

impl Nodes {
    /// Makes ourselves known.
    pub(super) async fn join(
        collections: &Collections,
        on_peer_change: OnPeerChange,
    ) -> Result<Self, StoreError> {
        let nodes = Self(Arc::new(Shared {
            nodes: collections.nodes.clone(),
            presence: collections.presence.clone(),
            typing: collections.typing.clone(),
            states: collections.states.clone(),
            on_peer_change,
            names: Mutex::default(),
            must_show_again: AtomicBool::new(false),
        }));
        nodes.take_name().await?;
        Ok(nodes)
    }

    /// Says for ever that we live, and removes those who don't say so.
    pub(super) async fn live(self) {
        let mut due = interval(BEAT_EVERY);
        due.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // Since when we could say so each time.
        let mut heard_since = None;
        loop {
            due.tick().await;
            let since = heard_since.take().unwrap_or_else(Instant::now);
            let beaten = match self.beat().await {
                // After an election nobody has been heard of for a while. The others get the time
                // to say that they live, too.
                Ok(()) if since.elapsed() > 2 * BEAT_EVERY => self.remove_lost().await,
                beaten => beaten,
            };
            match beaten {
                Ok(()) => heard_since = Some(since),
                Err(error) => tracing::warn!(?error, "cannot say that this node lives"),
            }
        }
    }

    async fn beat(&self) -> Result<(), StoreError> {
        if !self.say_alive().await? {
            tracing::warn!("other nodes took this one for dead; it was not heard of for too long");
            self.0.must_show_again.store(true, Ordering::Relaxed);
            self.take_name().await?;
        }
        if self.0.must_show_again.swap(false, Ordering::Relaxed) {
            (self.0.on_peer_change)(PeerChange::Reannounce);
        }
        Ok(())
    }

    async fn take_name(&self) -> Result<(), StoreError> {
        let name = NodeId::new();
        self.names().push(name);
        let own = doc! { "_id": name.to_string() };
        let update = doc! { "$currentDate": { "beat_at": true } };
        retry("join the nodes", || {
            let join = self.0.nodes.update_one(own.clone(), update.clone());
            join.upsert(true)
        })
        .await
        .map(drop)
    }

    async fn say_alive(&self) -> Result<bool, StoreError> {
        let Some(name) = self.name() else {
            return Ok(false);
        };
        let own = doc! { "_id": name.to_string() };
        let update = doc! { "$currentDate": { "beat_at": true } };
        let updated = attempt("say that we live", self.0.nodes.update_one(own, update)).await?;
        Ok(updated.matched_count == 1)
    }

    async fn remove_lost(&self) -> Result<(), StoreError> {
        let lost = doc! { "$expr": { "$lt": ["$beat_at", lost_before()] } };
        let gone = attempt("remove lost nodes", self.0.nodes.delete_many(lost)).await?;
        if gone.deleted_count > 0 {
            tracing::warn!(nodes = gone.deleted_count, "nodes are gone");
            let old = doc! { "$expr": { "$lt": ["$at", lost_before()] } };
            attempt("forget who was typing", self.0.typing.delete_many(old)).await?;
        }
        // The people are read first, the nodes second: a node joins before it shows anybody.
        let shown = attempt("look at who is shown", async {
            self.0.presence.distinct("_id.node", doc! {}).await
        })
        .await?;
        let living = attempt("look at the nodes", async {
            self.0.nodes.distinct("_id", doc! {}).await
        })
        .await?;
        let orphans: Vec<Bson> = shown
            .into_iter()
            .filter(|node| !living.contains(node))
            .collect();
        if orphans.is_empty() {
            return Ok(());
        }
        let theirs = doc! { "_id.node": { "$in": orphans } };
        attempt(
            "remove lost nodes’ people",
            self.0.presence.delete_many(theirs),
        )
        .await
        .map(drop)
    }

    /// The people whom a document of the typing collection names; nobody of our own.
    pub(super) fn typing(&self, document: &Document) -> Result<Vec<(RoomId, UserId)>, StoreError> {
        let missing = unreadable("read who is typing");
        let invalid = |error| StoreError::backend("read who is typing", error);
        let node = document.get_str("_id").map_err(&missing)?;
        if self
            .names()
            .contains(&NodeId::parse(node).map_err(invalid)?)
        {
            return Ok(Vec::new());
        }
        let typing = document.get_array("typing").map_err(&missing)?;
        typing
            .iter()
            .filter_map(Bson::as_document)
            .map(|who| {
                let text = |key| who.get_str(key).map_err(&missing);
                let room = RoomId::known(text("room")?).map_err(invalid)?;
                Ok((room, UserId::parse(text("user")?).map_err(invalid)?))
            })
            .collect()
    }

    /// Takes ourselves and those we show away: at an orderly end.
    pub(super) async fn shutdown(&self) -> Result<(), StoreError> {
        let names: Vec<String> = self.names().iter().map(NodeId::to_string).collect();
        let ours = doc! { "_id": { "$in": &names } };
        attempt("leave the nodes", self.0.nodes.delete_many(ours.clone())).await?;
        attempt("leave the nodes", self.0.typing.delete_many(ours)).await?;
        let ours = doc! { "_id.node": { "$in": names } };
        let delete = self.0.presence.delete_many(ours);
        attempt("leave the nodes", delete).await.map(drop)
    }

    /// Everybody who is shown on other nodes.
    pub(super) async fn elsewhere(&self) -> Result<Vec<(NodeId, RoomId, User)>, StoreError> {
        let shown: Vec<Document> = retry("look at who is shown", || async {
            self.0
                .presence
                .find(doc! {})
                .await?
                .collect::<Result<Vec<_>, _>>()
                .await
        })
        .await?;
        let places = shown.iter().filter_map(|document| {
            self.place(document).unwrap_or_else(|error| {
                tracing::warn!(?error, "somebody is shown whom this version cannot read");
                None
            })
        });
        let places: Vec<RemotePresence> = places.collect();
        let users = places.iter().map(|place| place.user).collect();
        let users = self.0.states.users(users).await?;
        let shown = places.into_iter().filter_map(|place| {
            let user = users.get(&place.user)?.clone();
            Some((place.node, place.room, user))
        });
        Ok(shown.collect())
    }

    /// The place that a document of the presence collection, or its key, shows somebody in; `None` for our own people.
    pub(super) fn place(&self, document: &Document) -> Result<Option<RemotePresence>, StoreError> {
        let missing = unreadable("read who is shown");
        let id = document.get_document("_id").map_err(&missing)?;
        let text = |key| id.get_str(key).map_err(&missing);
        let invalid = |error| StoreError::backend("read who is shown", error);
        let node = NodeId::parse(text("node")?).map_err(invalid)?;
        if self.names().contains(&node) {
            return Ok(None);
        }
        Ok(Some(RemotePresence {
            node,
            room: RoomId::known(text("room")?).map_err(invalid)?,
            user: UserId::parse(text("user")?).map_err(invalid)?,
        }))
    }

    /// Passes on what another node has said.
    pub(super) fn heard(&self, change: PeerChange) {
        (self.0.on_peer_change)(change);
    }

    fn name(&self) -> Option<NodeId> {
        self.names().last().copied()
    }

    fn names(&self) -> MutexGuard<'_, Vec<NodeId>> {
        self.0.names.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Cluster for Nodes {
    async fn announce(
        &self,
        here: &[(RoomId, UserId)],
        gone: &[(RoomId, UserId)],
    ) -> Result<(), StoreError> {
        let Some(name) = self.name() else {
            return Ok(());
        };
        let place = |room: &RoomId, user: UserId| {
            doc! {
                "node": name.to_string(),
                "room": room.as_str(),
                "user": user.to_string(),
            }
        };
        for gone in gone.chunks(TELL_MAX) {
            let places: Vec<_> = gone.iter().map(|(room, user)| place(room, *user)).collect();
            let delete = self
                .0
                .presence
                .delete_many(doc! { "_id": { "$in": places } });
            attempt("show who has gone", delete).await?;
        }
        for here in here.chunks(TELL_MAX) {
            let shown = here
                .iter()
                .map(|(room, user)| doc! { "_id": place(room, *user) });
            let insert = self.0.presence.insert_many(shown).ordered(false);
            match attempt("show who is here", insert).await {
                Err(error) if !is_only_repeated(&error, "_id_") => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    async fn announce_typing(&self, typing: &[(RoomId, UserId)]) -> Result<(), StoreError> {
        let Some(name) = self.name() else {
            return Ok(());
        };
        let typing: Vec<Document> = typing
            .iter()
            .map(|(room, user)| doc! { "room": room.as_str(), "user": user.to_string() })
            .collect();
        let own = doc! { "_id": name.to_string() };
        // With its moment, because replacing a document by itself is not a change.
        let told = doc! { "at": DateTime::now(), "typing": typing };
        let replace = self.0.typing.replace_one(own, told).upsert(true);
        attempt("tell who is typing", replace).await.map(drop)
    }
}
