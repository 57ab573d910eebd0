//! The log: lines on standard output, written by a thread of its own. A log that cannot be written, or
//! that nobody reads, loses lines, and nothing else notices: no request waits for it or fails by it.

use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

/// How many lines may wait to be written: some seconds of a busy server's. The next are dropped.
const LINES_MAX: usize = 4_096;

/// The most bytes of a line. A longer one quotes somebody who wanted it long.
const LINE_BYTES_MAX: usize = 8 * 1024;

/// How long the end of the process waits for the last lines.
const FLUSH_MAX: Duration = Duration::from_millis(300);

/// The way to the thread that writes. Cheap to clone.
#[derive(Clone)]
struct Log(Arc<Shared>);

struct Shared {
    lines: SyncSender<Order>,
    dropped: AtomicU64,
}

enum Order {
    Write(Vec<u8>),
    /// Answered once everything before it is written.
    Flush(SyncSender<()>),
}

impl Log {
    /// Writes lines to `output`, whatever becomes of it.
    fn to(mut output: impl Write + Send + 'static) -> Self {
        let (lines, waiting) = sync_channel(LINES_MAX);
        let log = Self(Arc::new(Shared {
            lines,
            dropped: AtomicU64::new(0),
        }));
        let weak = Arc::downgrade(&log.0);
        thread::spawn(move || {
            let dropped = || {
                weak.upgrade()
                    .map_or(0, |log| log.dropped.swap(0, Ordering::Relaxed))
            };
            write_what_comes(&waiting, &mut output, dropped);
        });
        log
    }

    /// Waits, not for long, until what was logged so far is written.
    fn flush(&self) {
        let until = Instant::now() + FLUSH_MAX;
        let (written, is_written) = sync_channel(1);
        while self
            .0
            .lines
            .try_send(Order::Flush(written.clone()))
            .is_err()
        {
            if Instant::now() >= until {
                return;
            }
            thread::sleep(Duration::from_millis(10));
        }
        let _ = is_written.recv_timeout(until.saturating_duration_since(Instant::now()));
    }
}

fn write_what_comes(waiting: &Receiver<Order>, output: &mut impl Write, dropped: impl Fn() -> u64) {
    for order in waiting {
        match order {
            // A disk that is full may have room for the next line.
            Order::Write(line) => drop(output.write_all(&line)),
            Order::Flush(written) => drop(written.send(())),
        }
        let lost = dropped();
        if lost > 0 {
            let _ = writeln!(
                output,
                "{lost} lines of the log were dropped: it was not read"
            );
        }
        let _ = output.flush();
    }
}

/// One event's line.
impl Write for &Log {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut kept = line.get(..LINE_BYTES_MAX).unwrap_or(line).to_vec();
        if kept.len() < line.len() {
            kept.extend_from_slice("…\n".as_bytes());
        }
        if self.0.lines.try_send(Order::Write(kept)).is_err() {
            self.0.dropped.fetch_add(1, Ordering::Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = &'a Log;

    fn make_writer(&'a self) -> &'a Log {
        self
    }
}

/// Held while the process logs: the last lines are written when it is dropped.
#[must_use]
pub struct LogGuard(Log);

impl Drop for LogGuard {
    fn drop(&mut self) {
        self.0.flush();
    }
}

/// Sends what `filter` lets through, and panics, to standard output from now on.
pub fn start(filter: &str) -> LogGuard {
    let log = Log::to(io::stdout());
    tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(filter))
        .with_ansi(io::stdout().is_terminal())
        .with_writer(log.clone())
        .log_internal_errors(false)
        .init();
    std::panic::set_hook(Box::new(|panic| {
        let backtrace = std::backtrace::Backtrace::capture();
        tracing::error!(%panic, %backtrace, "a panic");
    }));
    LogGuard(log)
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    /// Takes what it is given, once it is let.
    struct Stuck(Arc<Mutex<Vec<u8>>>);

    impl Write for Stuck {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Err(io::ErrorKind::StorageFull.into())
        }
    }

    #[test]
    fn nobody_waits_for_a_log_that_is_not_read() {
        let taken = Arc::<Mutex<Vec<u8>>>::default();
        let holding = taken.lock().unwrap();
        let log = Log::to(Stuck(Arc::clone(&taken)));
        let began = Instant::now();
        for _ in 0..3 * LINES_MAX {
            (&log).write_all(b"a line\n").unwrap();
        }
        (&log).write_all(&vec![b'x'; 100_000]).unwrap();
        log.flush();
        assert!(began.elapsed() < Duration::from_secs(2));
        drop(holding);
        // It writes again by itself, and says what is missing.
        let until = Instant::now() + Duration::from_secs(10);
        while !String::from_utf8_lossy(&taken.lock().unwrap())
            .contains("lines of the log were dropped")
        {
            assert!(Instant::now() < until);
            thread::sleep(Duration::from_millis(10));
        }
        (&log).write_all(&vec![b'x'; 100_000]).unwrap();
        log.flush();
        let written = taken.lock().unwrap();
        let lines = written.iter().filter(|byte| **byte == b'\n').count();
        assert!((LINES_MAX..=LINES_MAX + 4).contains(&lines), "{lines}");
        assert!(written.len() < LINES_MAX * 8 + 2 * LINE_BYTES_MAX);
    }
}
