//! Signals that ask the process to end: SIGTERM, SIGINT, SIGQUIT and SIGHUP, heard from the start.
//!
//! The first process of a container ignores a signal that it has no handler for, so until there is
//! one, an orchestrator's SIGTERM does nothing for its whole grace period.

use anyhow::Context;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// Tells when a signal has asked the process to end. Cheap to clone.
#[derive(Clone)]
pub struct Stop(watch::Receiver<Option<i32>>);

impl Stop {
    /// Listens from now on. Call it inside the runtime, before anything else.
    ///
    /// # Errors
    ///
    /// One line: the system does not let us listen.
    pub fn listen() -> anyhow::Result<Self> {
        let (told, stop) = watch::channel(None);
        for kind in [
            SignalKind::terminate(),
            SignalKind::interrupt(),
            SignalKind::quit(),
            SignalKind::hangup(),
        ] {
            // `nohup parlor` is to outlive its terminal.
            if kind == SignalKind::hangup() && is_ignored(kind) {
                continue;
            }
            let mut heard = signal(kind).context("cannot listen for signals")?;
            let told = told.clone();
            tokio::spawn(async move {
                if heard.recv().await.is_some() {
                    told.send_replace(Some(kind.as_raw_value()));
                }
            });
        }
        Ok(Self(stop))
    }

    /// Resolves once a signal has been heard, with its number.
    pub async fn heard(&mut self) -> i32 {
        match self.0.wait_for(Option::is_some).await.map(|heard| *heard) {
            Ok(Some(signal)) => signal,
            // Nobody is left who could tell: the runtime is going away.
            _ => std::future::pending().await,
        }
    }
}

/// Whether whoever started the process had it ignore a signal.
fn is_ignored(kind: SignalKind) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status
        .lines()
        .find_map(|line| line.strip_prefix("SigIgn:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    ignored.is_some_and(|mask| mask >> (kind.as_raw_value() - 1) & 1 == 1)
}
