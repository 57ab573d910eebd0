//! The words that the stories are told with.

mod browser;
mod erased;
mod mongo;
mod person;
mod proxy;
mod server;
mod stream;
mod tools;

use std::time::Duration;

pub use browser::{Browser, IN_FRAME};
pub use erased::{Aim, NONE, copies};
pub use mongo::{MongoDb, free_port};
pub use person::Person;
pub use proxy::{Mood, Proxy};
pub use server::Server;
pub use stream::Listener;
pub use tools::tool;

/// Which store a test runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backend {
    Sqlite,
    MongoDb,
}

/// A password that is long and not on any list.
pub const PASSWORD: &str = "correct horse battery staple";

/// Waits until `is_so`, looking every few milliseconds, and fails with `what` after `longest`.
pub async fn eventually<F: Future<Output = bool>>(
    what: &str,
    longest: Duration,
    is_so: impl Fn() -> F,
) {
    let until = tokio::time::Instant::now() + longest;
    while !is_so().await {
        assert!(
            tokio::time::Instant::now() < until,
            "not in {longest:?}: {what}"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[track_caller]
pub fn assert_contains(text: &str, part: &str) {
    assert!(text.contains(part), "no {part:?} in:\n{text}");
}

#[track_caller]
pub fn assert_lacks(text: &str, part: &str) {
    assert!(!text.contains(part), "{part:?} in:\n{text}");
}
