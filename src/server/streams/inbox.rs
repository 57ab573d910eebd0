//! The mailbox of an event loop: messages from other threads, and wakers that send one.

use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Wake, Waker};

use mio::Token;

use super::Handoff;
use crate::live::ReadOn;

/// The inbox's token; those of sockets are lower numbers.
pub(super) const INBOX: Token = Token(usize::MAX);

/// The messages of an event loop.
pub(super) enum Message {
    /// Take over a stream.
    Open(Box<Handoff>),
    /// The room in this place has changed.
    RoomChanged(usize),
    /// It is time for a heartbeat.
    Heartbeat,
    /// A stream may be over.
    MayBeOver(Key),
    /// A stream that was behind has read from the store; `None` if the read panicked.
    Read(Key, Option<ReadOn>),
}

/// One stream: its place in the slab, and its number, which is never given again.
#[derive(Clone, Copy)]
pub(super) struct Key {
    pub(super) place: usize,
    pub(super) number: u64,
}

/// Messages, and the waker of the thread that takes them.
pub(super) struct Inbox {
    messages: Mutex<Vec<Message>>,
    waker: mio::Waker,
}

impl Inbox {
    pub(super) fn new(waker: mio::Waker) -> Self {
        Self {
            messages: Mutex::default(),
            waker,
        }
    }

    pub(super) fn push(&self, message: Message) {
        let mut messages = self.messages.lock().unwrap_or_else(PoisonError::into_inner);
        messages.push(message);
        // The first message wakes the thread; the others find it awake.
        let is_first = messages.len() == 1;
        drop(messages);
        if is_first {
            self.wake();
        }
    }

    /// Wakes the thread even if there is nothing new: messages may be older than the loop itself.
    pub(super) fn wake(&self) {
        if let Err(error) = self.waker.wake() {
            tracing::error!(%error, "cannot wake a thread of streams");
        }
    }

    /// Swaps the messages for an empty list.
    pub(super) fn take(&self, into: &mut Vec<Message>) {
        let mut messages = self.messages.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::swap(&mut *messages, into);
    }

    /// A waker that pushes `message()`.
    pub(super) fn waker(
        self: &Arc<Self>,
        message: impl Fn() -> Message + Send + Sync + 'static,
    ) -> Waker {
        Waker::from(Arc::new(InboxWaker {
            inbox: Arc::clone(self),
            message,
        }))
    }
}

struct InboxWaker<M> {
    inbox: Arc<Inbox>,
    message: M,
}

impl<M: Fn() -> Message> Wake for InboxWaker<M> {
    fn wake(self: Arc<Self>) {
        self.inbox.push((self.message)());
    }
}
