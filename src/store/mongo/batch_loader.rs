//! A batch loader: look-ups that wait are done together, as the writer shares one fsync.
//!
//! Every request looks up its session and its membership, each a round trip; under load most of what
//! MongoDB did was that. A look-up that arrives while a read is under way waits for the
//! next, which begins after all its questions, so no answer is older than its question. Only found values
//! are answered: each caller finds out alone that something is *not* there or cannot be read, with the
//! certainty and the deadline that needs.

use std::collections::{HashMap, HashSet};
use std::hash::Hash;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::store::StoreError;

/// How many questions one read answers, and how many may wait.
pub(super) const BATCH_MAX: u32 = 256;

/// A read that takes longer is left to those who asked: there may be an election.
const READ_MAX: Duration = Duration::from_secs(1);

/// Answers questions of one kind.
pub(super) struct BatchLoader<K, V> {
    questions: mpsc::Sender<(K, oneshot::Sender<V>)>,
}

impl<K, V> BatchLoader<K, V>
where
    K: Clone + Eq + Hash + Send + 'static,
    V: Clone + Send + 'static,
{
    /// `read` finds what it can of several at once. One of `tasks` does it.
    pub(super) fn start<F, R>(tasks: &mut JoinSet<()>, read: F) -> Self
    where
        F: Fn(Vec<K>) -> R + Send + Sync + 'static,
        R: Future<Output = Result<HashMap<K, V>, StoreError>> + Send,
    {
        let (questions, mut waiting) = mpsc::channel::<(K, oneshot::Sender<V>)>(BATCH_MAX as usize);
        tasks.spawn(async move {
            let mut asked = Vec::new();
            while waiting.recv_many(&mut asked, BATCH_MAX as usize).await > 0 {
                let keys: HashSet<K> = asked.iter().map(|(key, _)| key.clone()).collect();
                // A read that panics has found nothing.
                let reading = AssertUnwindSafe(async { read(keys.into_iter().collect()).await });
                let found = timeout(READ_MAX, reading.catch_unwind()).await;
                let found = found.ok().and_then(Result::ok).and_then(Result::ok);
                let found = found.unwrap_or_default();
                for (key, answer) in asked.drain(..) {
                    // A caller that gets `None` runs the query itself.
                    if let Some(value) = found.get(&key) {
                        let _ = answer.send(value.clone());
                    }
                }
            }
        });
        Self { questions }
    }

    /// The value found; `None` says nothing.
    pub(super) async fn find(&self, key: K) -> Option<V> {
        let (answer, answered) = oneshot::channel();
        let finding = async {
            self.questions.send((key, answer)).await.ok()?;
            answered.await.ok()
        };
        // The read under way and the next. While MongoDB hangs a queue would only take the time that
        // is left for looking alone.
        timeout(2 * READ_MAX, finding).await.ok().flatten()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    /// Invariant: an answer is what was so when the question had been asked, or later.
    #[tokio::test(flavor = "multi_thread")]
    async fn no_answer_is_older_than_its_question() {
        let (now, reads) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let (clock, count) = (Arc::clone(&now), Arc::clone(&reads));
        let mut tasks = JoinSet::new();
        let together = Arc::new(BatchLoader::start(&mut tasks, move |keys: Vec<u64>| {
            let (clock, count) = (Arc::clone(&clock), Arc::clone(&count));
            async move {
                // As old as a read can be.
                let seen = clock.load(Ordering::SeqCst);
                count.fetch_add(1, Ordering::SeqCst);
                tokio::time::sleep(Duration::from_millis(2)).await;
                Ok(keys.into_iter().map(|key| (key, (key, seen))).collect())
            }
        }));
        let mut asking = JoinSet::new();
        for number in 0..1_000_u64 {
            let (together, now) = (Arc::clone(&together), Arc::clone(&now));
            asking.spawn(async move {
                tokio::time::sleep(Duration::from_micros(number * 50)).await;
                let asked_at = now.fetch_add(1, Ordering::SeqCst) + 1;
                let (key, seen) = together.find(number % 7).await.unwrap();
                assert_eq!(key, number % 7, "its own answer");
                assert!(seen >= asked_at, "{seen} is older than {asked_at}");
            });
        }
        while let Some(done) = asking.join_next().await {
            done.unwrap();
        }
        let reads = reads.load(Ordering::SeqCst);
        assert!(reads < 200, "{reads} reads for 1,000 questions");
    }

    #[tokio::test]
    async fn what_is_not_found_or_fails_or_hangs_says_nothing() {
        let mut tasks = JoinSet::new();
        let together = BatchLoader::start(&mut tasks, |keys: Vec<u8>| async move {
            match keys.first() {
                Some(0) => Ok(HashMap::new()),
                Some(1) => Err(StoreError::Busy),
                Some(2) => std::future::pending().await,
                Some(3) => panic!("a bug"),
                _ => Ok(keys.into_iter().map(|key| (key, ())).collect()),
            }
        });
        for key in 0..4 {
            assert_eq!(together.find(key).await, None);
        }
        assert_eq!(together.find(4).await, Some(()));
    }
}
