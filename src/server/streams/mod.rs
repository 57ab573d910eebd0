//! Event loops for streams: threads of their own that write straight to the sockets.
//!
//! A stream whose head is sent needs nothing of HTTP but its chunks. Under hyper it has a task, some
//! 15 KB of buffers, and a wake-up through the runtime's queues for each event. Here it is a cursor and
//! a socket in a slab: a change in a room wakes a thread once, which encodes the bytes once and sends
//! them to one socket after the other. Figures are in `benches/NOTES.md`.
//!
//! - `inbox`: the mailbox through which everything else reaches a thread.
//! - `event_loop`: the thread's loop over its sockets and its inbox; `stream` and `heartbeat` are its parts.
//! - `rounds`: which room's turn it is, and how far its round has come. No I/O, no clock.
//! - `send_buffer`: a socket, and the bytes it has not taken yet.
//! - `chunked`: the framing of a chunked body.

mod chunked;
mod event_loop;
mod heartbeat;
mod inbox;
mod rounds;
mod send_buffer;
mod stream;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use anyhow::Context as _;
use tokio::runtime::Handle;

use self::inbox::{INBOX, Inbox, Message};
use super::ConnectionGuard;
use crate::live::Hub;
use crate::web::OpenStream;

/// The threads. Cheap to clone.
#[derive(Clone)]
pub(super) struct StreamThreads(Arc<Threads>);

struct Threads {
    inboxes: Vec<Arc<Inbox>>,
    /// Counts streams, to deal them out in turn.
    dealt: AtomicUsize,
}

/// A connection whose stream a thread takes over from hyper.
pub(super) struct Handoff {
    pub(super) socket: std::net::TcpStream,
    /// The response's head, not sent yet.
    pub(super) head: Vec<u8>,
    pub(super) stream: Box<OpenStream>,
    pub(super) guard: ConnectionGuard,
}

impl StreamThreads {
    /// Starts `threads` threads. Call it inside the runtime.
    pub(super) fn start(threads: usize, hub: &Hub) -> anyhow::Result<Self> {
        let start = |number| {
            let poll = mio::Poll::new()?;
            let inbox = Arc::new(Inbox::new(mio::Waker::new(poll.registry(), INBOX)?));
            let (own, hub, runtime) = (Arc::clone(&inbox), hub.clone(), Handle::current());
            thread::Builder::new()
                .name(format!("streams-{number}"))
                .spawn(move || event_loop::run(poll, &own, &hub, &runtime))?;
            Ok::<_, io::Error>(inbox)
        };
        let inboxes = (0..threads).map(start).collect::<Result<_, _>>();
        Ok(Self(Arc::new(Threads {
            inboxes: inboxes.context("cannot start the threads for streams (STREAM_THREADS)")?,
            dealt: AtomicUsize::new(0),
        })))
    }

    /// Gives a stream to one of the threads, which sends everything from its head to its end.
    pub(super) fn hand_off(&self, handoff: Handoff) {
        let dealt = self.0.dealt.fetch_add(1, Ordering::Relaxed);
        if let Some(inbox) = self.0.inboxes.get(dealt % self.0.inboxes.len()) {
            inbox.push(Message::Open(Box::new(handoff)));
        }
    }
}
