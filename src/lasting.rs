//! Threads and tasks that last as long as what they work for. One that panics is begun again: a bug
//! met by one piece of work must not end what all others wait for.
//!
//! Each has one owner, the loop in here. Returning is an orderly end; there is no other.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;
use std::time::Duration;

use futures_util::FutureExt;

/// How long one that has panicked leaves the machine alone.
const BEGIN_AGAIN_AFTER: Duration = Duration::from_millis(100);

/// Runs `work` until it returns: again, with what it has kept, when it panics.
pub fn run(name: &str, mut work: impl FnMut()) {
    while catch_unwind(AssertUnwindSafe(&mut work)).is_err() {
        say_so(name);
        thread::sleep(BEGIN_AGAIN_AFTER);
    }
}

/// The same on a thread of its own. (Linux shows 15 bytes of the name.)
///
/// # Errors
///
/// When the system gives no thread.
pub fn thread(name: &str, work: impl FnMut() + Send + 'static) -> io::Result<()> {
    let owned = name.to_owned();
    thread::Builder::new()
        .name(name.to_owned())
        .spawn(move || run(&owned, work))
        .map(drop)
}

/// The same for what waits: `begin` makes the work, again when it panics.
pub async fn task<F: Future<Output = ()>>(name: &str, mut begin: impl FnMut() -> F) {
    while AssertUnwindSafe(async { begin().await })
        .catch_unwind()
        .await
        .is_err()
    {
        say_so(name);
        tokio::time::sleep(BEGIN_AGAIN_AFTER).await;
    }
}

/// The log may be what panics.
fn say_so(name: &str) {
    let _ = catch_unwind(|| tracing::error!(name, "panicked, which is a bug, and begins again"));
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::sync::{Arc, mpsc};

    use super::*;

    #[test]
    fn a_thread_that_panics_goes_on_with_what_it_has_kept() {
        let (jobs, waiting) = mpsc::channel::<u32>();
        let (done, results) = mpsc::channel();
        thread("testing", move || {
            while let Ok(job) = waiting.recv() {
                assert_ne!(job, 1, "this one is bad");
                done.send(job).unwrap();
            }
        })
        .unwrap();
        (0..3).for_each(|job| jobs.send(job).unwrap());
        drop(jobs);
        assert_eq!(results.iter().collect::<Vec<_>>(), [0, 2]);
    }

    #[tokio::test]
    async fn a_task_that_panics_begins_again_and_ends_by_returning() {
        let begun = Arc::new(AtomicU32::new(0));
        let count = Arc::clone(&begun);
        task("testing", || {
            let begun = count.fetch_add(1, Ordering::Relaxed);
            async move {
                tokio::task::yield_now().await;
                assert!(begun >= 2, "not yet");
            }
        })
        .await;
        assert_eq!(begun.load(Ordering::Relaxed), 3);
    }
}
