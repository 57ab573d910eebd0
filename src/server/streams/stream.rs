//! A stream that an event loop writes, and the room it views.

use std::task::{Context, Waker};

use tokio::task::AbortHandle;

#[cfg(doc)]
use super::rounds::Rounds;
use super::send_buffer::SendBuffer;
use crate::live::{RoomView, Subscriber};
use crate::server::ConnectionGuard;

/// One open stream.
pub(super) struct Stream {
    pub(super) number: u64,
    pub(super) out: SendBuffer,
    pub(super) subscriber: Subscriber,
    /// Its room, and its slot in there, as [`Rounds`] has them.
    pub(super) room: usize,
    pub(super) slot: usize,
    /// Whether its client will ask no more.
    pub(super) is_half_closed: bool,
    /// For how many heartbeats something has stood unsent.
    pub(super) stuck_beats: u8,
    /// A read from the store that is under way.
    pub(super) reading: Option<AbortHandle>,
    pub(super) _guard: ConnectionGuard,
}

impl Drop for Stream {
    fn drop(&mut self) {
        if let Some(reading) = &self.reading {
            reading.abort();
        }
    }
}

/// A room with streams on this thread.
pub(super) struct ViewedRoom {
    /// As [`Subscriber::room_number`] has it.
    pub(super) number: usize,
    pub(super) view: RoomView,
    pub(super) waker: Waker,
}

impl ViewedRoom {
    /// Asks to be woken at the next change.
    pub(super) fn register(&mut self) {
        self.view.register(&mut Context::from_waker(&self.waker));
    }
}
