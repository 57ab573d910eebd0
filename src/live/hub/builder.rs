//! The hub's first step: before there is a store.

use std::sync::{Arc, Mutex};

use tokio::sync::{Mutex as AsyncMutex, Notify, mpsc, watch};

use super::{Hub, Inner, Shared};
use crate::cluster::{Cluster, OnPeerChange};
use crate::domain::{RoomId, UserId};
use crate::lasting;
use crate::live::log_wait::LogWaiters;
use crate::live::presence::Presence;
use crate::live::renderer::Renderer;
use crate::live::room::Room;
use crate::live::streams::Streams;
use crate::metrics::Metrics;
use crate::store::{Log, Members, OnChange, Sessions};

/// A hub before there is a store: it takes changes, which the store needs to be opened, and reads
/// nothing. [`Self::start`] makes it a [`Hub`].
pub struct HubBuilder {
    shared: Arc<Shared>,
    /// Rooms that miss events.
    gaps: mpsc::UnboundedReceiver<Arc<Room>>,
    /// Members who have left, as it seems.
    left: mpsc::UnboundedReceiver<(RoomId, UserId)>,
    renderer: Renderer,
}

impl HubBuilder {
    /// A hub that shows events and people on pages with `renderer`.
    pub fn new(streams_per_user: usize, metrics: &Metrics, renderer: Renderer) -> Self {
        let (gaps, found) = mpsc::unbounded_channel();
        let (left, heard_left) = mpsc::unbounded_channel();
        let shared = Shared {
            rooms: Mutex::default(),
            presence: Presence::default(),
            typing: Mutex::default(),
            waiters: LogWaiters::default(),
            streams: Streams::new(streams_per_user, metrics.streams.clone()),
            heartbeat: watch::Sender::new(()),
            resync: Notify::new(),
            gaps,
            left,
        };
        Self {
            shared: Arc::new(shared),
            gaps: found,
            left: heard_left,
            renderer,
        }
    }

    /// For the store to call.
    pub fn on_change(&self) -> OnChange {
        let shared = Arc::clone(&self.shared);
        Arc::new(move |change| shared.on_change(change))
    }

    /// For the cluster to call.
    pub fn on_peer_change(&self) -> OnPeerChange {
        let shared = Arc::clone(&self.shared);
        Arc::new(move |change| shared.on_peer_change(change))
    }

    /// Starts the hub's tasks. Call it inside the runtime.
    pub fn start(
        self,
        log: Arc<dyn Log>,
        sessions: Arc<dyn Sessions>,
        members: Arc<dyn Members>,
        cluster: Option<Arc<dyn Cluster>>,
    ) -> Hub {
        let hub = Hub(Arc::new(Inner {
            log,
            sessions,
            members,
            cluster,
            renderer: self.renderer,
            shared: self.shared,
        }));
        if let Some(cluster) = &hub.0.cluster {
            hub.0.shared.presence.announce_to_others();
            let (hub, cluster) = (hub.clone(), Arc::clone(cluster));
            tokio::spawn(lasting::task("announcing presence", move || {
                hub.clone().announce_loop(Arc::clone(&cluster))
            }));
        }
        let (task, gaps) = (hub.clone(), Arc::new(AsyncMutex::new(self.gaps)));
        tokio::spawn(lasting::task("filling gaps", move || {
            task.clone().gap_loop(Arc::clone(&gaps))
        }));
        let (task, left) = (hub.clone(), Arc::new(AsyncMutex::new(self.left)));
        tokio::spawn(lasting::task("ending memberships", move || {
            task.clone().left_loop(Arc::clone(&left))
        }));
        let task = hub.clone();
        tokio::spawn(lasting::task("resync", move || task.clone().resync_loop()));
        let task = hub.clone();
        tokio::spawn(lasting::task("the heartbeat", move || {
            task.clone().heartbeat_loop()
        }));
        let task = hub.clone();
        tokio::spawn(lasting::task("presence", move || {
            task.clone().presence_loop()
        }));
        hub
    }
}
