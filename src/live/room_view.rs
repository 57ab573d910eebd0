//! The room view: a snapshot of a room for many subscribers at once.

use std::pin::Pin;
use std::sync::Arc;
use std::task::Context;

use bytes::Bytes;

use super::encode::Format;
use super::notice::Notice;
use super::room::{Heads, ReadToken, Room, Signal, Taken};
use crate::domain::Seq;

/// A snapshot of a room, with the bytes that were made from it: thousands of streams that have the same
/// event to send don't each lock the room for it.
pub struct RoomView {
    room: Arc<Room>,
    /// Never resolves; being woken is the news.
    changes: Pin<Box<dyn Future<Output = ()> + Send>>,
    /// The room at the last refresh.
    heads: Heads,
    signal: Signal,
    /// From before what was taken.
    token: ReadToken,
    /// Events taken since then: from where, in which format, and up to where.
    taken: Vec<(Seq, Format, Bytes, Seq)>,
    /// Notices encoded since then, by their addresses.
    notices: Vec<(usize, Format, Bytes)>,
}

/// How many takes a view keeps. Streams that are behind are at many places, which nobody shares.
const TAKEN_MAX: usize = 16;

impl RoomView {
    pub(super) fn new(room: Arc<Room>) -> Self {
        let mut receiver = room.watch();
        Self {
            heads: Heads::default(),
            token: room.token(),
            signal: room.signal(),
            room,
            changes: Box::pin(async move { while receiver.changed().await.is_ok() {} }),
            taken: Vec::new(),
            notices: Vec::new(),
        }
    }

    /// Asks to be woken at the room's next change. To be called again after each, before
    /// [`Self::refresh`].
    pub fn register(&mut self, cx: &mut Context<'_>) {
        let _ = self.changes.as_mut().poll(cx);
    }

    /// Takes a new snapshot.
    pub fn refresh(&mut self) {
        self.heads = self.room.heads();
        self.signal = self.room.signal();
        self.taken.clear();
        self.notices.clear();
    }

    pub(super) fn head_of(&self, format: Format) -> Seq {
        self.heads.of(format)
    }

    pub(super) fn signal(&self) -> &Signal {
        &self.signal
    }

    /// Whether a message after `from` was changed after `cursor` and `head`.
    pub(super) fn has_changed(&self, cursor: Seq, (from, head): (Seq, Seq)) -> bool {
        self.room.has_changed(cursor.max(head), from)
    }

    /// A notice's bytes.
    pub(super) fn encode(&mut self, notice: Notice, format: Format) -> Bytes {
        // Our signal holds the notice, so no other can be at its address.
        let address = match &notice {
            Notice::Roster(roster) => Arc::as_ptr(roster).addr(),
            Notice::Typing(names) => Arc::as_ptr(names).cast::<()>().addr(),
            Notice::Heartbeat => return notice.encode(&self.room, format),
        };
        let is_it = |made: &&(usize, Format, Bytes)| made.0 == address && made.1 == format;
        if let Some((_, _, bytes)) = self.notices.iter().find(is_it) {
            return bytes.clone();
        }
        let bytes = notice.encode(&self.room, format);
        self.notices.push((address, format, bytes.clone()));
        bytes
    }

    pub(super) fn take(&mut self, cursor: Seq, format: Format) -> Taken {
        // A message that was deleted since must not go out.
        if !self.room.is_current(self.token) {
            self.token = self.room.token();
            self.taken.clear();
        }
        let is_it = |taken: &&(Seq, Format, Bytes, Seq)| taken.0 == cursor && taken.1 == format;
        if let Some((_, _, bytes, upto)) = self.taken.iter().find(is_it) {
            return Taken::Events(bytes.clone(), *upto);
        }
        let taken = loop {
            let taken = self.room.take(cursor, format);
            // Nor one that was deleted while it was encoded.
            if self.room.is_current(self.token) {
                break taken;
            }
            self.token = self.room.token();
        };
        if let Taken::Events(bytes, upto) = &taken
            && self.taken.len() < TAKEN_MAX
        {
            self.taken.push((cursor, format, bytes.clone(), *upto));
        }
        taken
    }
}
