//! The process's edge: sockets in, requests to the router, and an orderly end.

mod connection;
mod places;
mod streams;

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context;
use axum::Router;
use axum::http::header::CONTENT_TYPE;
use axum::routing::get;
use ipnet::IpNet;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::{sleep, timeout};

use self::places::{Place, Places};
use self::streams::StreamThreads;
use crate::lasting;
use crate::live::Hub;
use crate::metrics::Metrics;

/// A reader that takes nothing for so long is gone; it comes back to where it was.
const STUCK_AFTER: Duration = Duration::from_secs(30);

/// The kernel's buffer for a reader that does not read. Left alone it grows to megabytes each.
const SEND_BUFFER_BYTES: usize = 128 * 1024;

/// How many connections may wait to be accepted: everybody who was here, after a restart. The
/// kernel cuts it to `net.core.somaxconn`.
const BACKLOG: i32 = 4_096;

/// Files that are not connections: the database, the log, the listener, those to MongoDB.
const FILES_RESERVED: u64 = 256;

/// Prometheus' text format.
const METRICS_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// How long requests under way may go on once the process should end.
const DRAIN_MAX: Duration = Duration::from_secs(4);

/// Raises the limit on open files as far as this user may, and says how many connections fit.
pub fn connections_max() -> usize {
    let files = rlimit::increase_nofile_limit(u64::MAX).unwrap_or(1_024);
    let connections = files.saturating_sub(FILES_RESERVED).max(64);
    usize::try_from(connections)
        .unwrap_or(usize::MAX)
        .min(Semaphore::MAX_PERMITS)
}

/// Listens where a setting says.
///
/// # Errors
///
/// One line for the log: the address is taken, or is not ours.
pub fn listen(address: SocketAddr, setting: &str) -> anyhow::Result<TcpListener> {
    let listen = || {
        let socket = Socket::new(
            Domain::for_address(address),
            Type::STREAM,
            Some(Protocol::TCP),
        )?;
        // A restart must not wait for old connections' last packets.
        socket.set_reuse_address(true)?;
        // Before listening: accepted sockets inherit it.
        socket.set_send_buffer_size(SEND_BUFFER_BYTES)?;
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        TcpListener::from_std(socket.into())
    };
    listen().with_context(|| format!("cannot listen on {address} ({setting})"))
}

/// Kept as long as a connection is open: its place among them, and that the process is not to end
/// yet.
struct ConnectionGuard {
    place: Place,
    _alive: mpsc::Sender<Infallible>,
}

/// How much [`serve`] makes room for.
pub struct Capacity {
    /// How many connections.
    pub connections_max: usize,
    /// On how many threads of their own streams are written.
    pub stream_threads: usize,
    /// The proxies whose connections stand for many clients.
    pub trusted_proxies: Vec<IpNet>,
}

/// Serves until `stop` resolves, streams on so many threads of their own (with none, like all other
/// answers); then ends the streams, lets requests under way finish, and
/// returns within five seconds.
pub async fn serve(
    listener: TcpListener,
    app: Router,
    hub: &Hub,
    capacity: Capacity,
    stop: impl Future<Output = ()>,
) -> anyhow::Result<()> {
    let stream_threads = match capacity.stream_threads {
        0 => None,
        threads => Some(StreamThreads::start(threads, hub)?),
    };
    let places = Places::new(capacity.connections_max, capacity.trusted_proxies);
    let (stopping, _) = watch::channel(());
    // Each connection holds a sender; when all are gone, all have ended.
    let (alive, mut all_ended) = mpsc::channel::<Infallible>(1);
    let accepting = async {
        loop {
            // At the limit newcomers wait in the backlog until somebody leaves.
            let Some(free) = places.free().await else {
                return;
            };
            let (socket, peer) = match listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    pause_after(&error).await;
                    continue;
                }
            };
            let Some(place) = places.give(free, peer.ip()) else {
                tracing::debug!(%peer, "a network has all the places it may have");
                continue;
            };
            let guard = ConnectionGuard {
                place,
                _alive: alive.clone(),
            };
            let (app, stopping) = (app.clone(), stopping.subscribe());
            let serving =
                connection::serve(socket, peer, app, stream_threads.clone(), stopping, guard);
            tokio::spawn(async move {
                if let Err(error) = serving.await {
                    tracing::debug!(%peer, %error, "a connection broke off");
                }
            });
        }
    };
    tokio::select! {
        () = accepting => {}
        () = stop => {}
    }
    drop(listener);
    tracing::info!(streams = hub.streams().count(), "shutting down");
    hub.streams().shut_down();
    stopping.send_replace(());
    drop(alive);
    if timeout(DRAIN_MAX, all_ended.recv()).await.is_err() {
        tracing::warn!("some requests did not finish in time");
    }
    Ok(())
}

/// Serves the metrics and nothing else, for as long as the process lives.
pub fn serve_metrics(listener: TcpListener, address: SocketAddr, metrics: Metrics) {
    let show = move || {
        let text = metrics.render();
        async { ([(CONTENT_TYPE, METRICS_TYPE)], text) }
    };
    let app = Router::new().route("/metrics", get(show));
    let mut first = Some(listener);
    tokio::spawn(lasting::task("serving metrics", move || {
        let (first, app) = (first.take(), app.clone());
        async move {
            let listener = match first.map_or_else(|| listen(address, "METRICS_ADDR"), Ok) {
                Ok(listener) => listener,
                Err(error) => return tracing::warn!("the metrics are no longer served: {error:#}"),
            };
            if let Err(error) = axum::serve(listener, app).await {
                tracing::warn!(%error, "the metrics are no longer served");
            }
        }
    }));
}

async fn pause_after(error: &io::Error) {
    // The peer gave up before we got to it: nothing to wait for.
    if matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset
    ) {
        return;
    }
    tracing::warn!(%error, "cannot accept a connection");
    sleep(Duration::from_millis(50)).await;
}
