//! The heartbeat, as an event loop hears it.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Waker};

use tokio::sync::watch;

use super::inbox::{Inbox, Message};

/// The hub's heartbeat, as this thread hears it.
pub(super) struct Heartbeat {
    /// Never resolves; being woken is the news.
    changes: Pin<Box<dyn Future<Output = ()>>>,
    waker: Waker,
}

impl Heartbeat {
    pub(super) fn new(mut beats: watch::Receiver<()>, inbox: &Arc<Inbox>) -> Self {
        let mut heartbeat = Self {
            changes: Box::pin(async move { while beats.changed().await.is_ok() {} }),
            waker: inbox.waker(|| Message::Heartbeat),
        };
        heartbeat.register();
        heartbeat
    }

    pub(super) fn register(&mut self) {
        let changes = self.changes.as_mut();
        let _ = changes.poll(&mut Context::from_waker(&self.waker));
    }
}
