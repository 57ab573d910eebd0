use std::pin::Pin;
use std::sync::Arc;
use std::task::Context;

use bytes::Bytes;

use super::encode::Format;
use super::room::{Room, Signal, Taken};
use super::subscriber::Next;
use crate::domain::Seq;

/// A room, watched once for many of its subscribers. What they take alike is made once: thousands of
/// streams that have the same event to send don't each lock the room for it.
pub struct RoomView {
    room: Arc<Room>,
    /// Never resolves; being woken is the news.
    changes: Pin<Box<dyn Future<Output = ()> + Send>>,
    /// The room as it was when last looked at.
    pub(super) head: Seq,
    pub(super) signal: Signal,
    /// What was taken since then.
    taken: Vec<(Seq, Format, Bytes, Seq)>,
    /// What was said besides, by where that is kept.
    notices: Vec<(usize, Format, Bytes)>,
}

/// What a subscriber has to send now.
pub enum Readiness {
    /// Events, or a notice: the same bytes for all to whom it is said alike.
    Send(Bytes),
    /// It must read from the store.
    Behind,
    /// Nothing.
    Nothing,
}

/// Streams that are behind are at many places, which nobody shares.
const TAKEN_MAX: usize = 16;

impl RoomView {
    pub(super) fn new(room: Arc<Room>) -> Self {
        let mut receiver = room.watch();
        Self {
            head: 0,
            signal: room.signal(),
            room,
            changes: Box::pin(async move { while receiver.changed().await.is_ok() {} }),
            taken: Vec::new(),
            notices: Vec::new(),
        }
    }

    /// Has the caller woken once the room changes; to be called again after that, before
    /// [`Self::refresh`].
    pub fn register(&mut self, cx: &mut Context<'_>) {
        let _ = self.changes.as_mut().poll(cx);
    }

    /// Looks at the room, as it is for [`Subscriber::ready`](super::Subscriber::ready) from now on.
    pub fn refresh(&mut self) {
        self.head = self.room.head().unwrap_or(0);
        self.signal = self.room.signal();
        self.taken.clear();
        self.notices.clear();
    }

    /// A notice's bytes.
    pub(super) fn notice(&mut self, notice: Next, format: Format) -> Bytes {
        // Our signal holds it, so nothing else is where it is.
        let address = match &notice {
            Next::Present(present) => Arc::as_ptr(present).addr(),
            Next::Typing(names) => Arc::as_ptr(names).cast::<()>().addr(),
            Next::Events(_) | Next::Heartbeat | Next::End(_) => {
                return notice.encode(&self.room.id, format);
            }
        };
        let like = |made: &&(usize, Format, Bytes)| made.0 == address && made.1 == format;
        if let Some((_, _, bytes)) = self.notices.iter().find(like) {
            return bytes.clone();
        }
        let bytes = notice.encode(&self.room.id, format);
        self.notices.push((address, format, bytes.clone()));
        bytes
    }

    pub(super) fn take(&mut self, cursor: Seq, format: Format) -> Taken {
        let like = |taken: &&(Seq, Format, Bytes, Seq)| taken.0 == cursor && taken.1 == format;
        if let Some((_, _, bytes, upto)) = self.taken.iter().find(like) {
            return Taken::Events(bytes.clone(), *upto);
        }
        let taken = self.room.take(cursor, format);
        if let Taken::Events(bytes, upto) = &taken
            && self.taken.len() < TAKEN_MAX
        {
            self.taken.push((cursor, format, bytes.clone(), *upto));
        }
        taken
    }
}
