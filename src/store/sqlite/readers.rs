//! The pool of read-only connections.

use std::num::NonZero;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use rusqlite::Connection;
use tokio::sync::Semaphore;

use crate::store::StoreError;

/// Read-only connections, lent one at a time to blocking threads. Cheap to clone.
#[derive(Clone)]
pub(super) struct Readers {
    idle: Arc<Mutex<Vec<Connection>>>,
    /// As many permits as there are connections: whoever holds one finds a connection.
    permits: Arc<Semaphore>,
}

impl Readers {
    pub(super) fn open(open: impl Fn() -> rusqlite::Result<Connection>) -> rusqlite::Result<Self> {
        // Reads are short and mostly from the page cache: more than the cores only switch.
        let count = thread::available_parallelism()
            .map_or(2, NonZero::get)
            .clamp(2, 8);
        let idle = (0..count).map(|_| open()).collect::<Result<Vec<_>, _>>()?;
        Ok(Self {
            idle: Arc::new(Mutex::new(idle)),
            permits: Arc::new(Semaphore::new(count)),
        })
    }

    /// Runs `work`, which should be one short statement: a long one would keep the WAL from
    /// being reused.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        operation: &'static str,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let failed = |source: Box<dyn std::error::Error + Send + Sync>| StoreError::Backend {
            operation,
            source,
        };
        let permit = Arc::clone(&self.permits)
            .acquire_owned()
            .await
            .map_err(|closed| failed(closed.into()))?;
        let idle = Arc::clone(&self.idle);
        let read = tokio::task::spawn_blocking(move || {
            let lent = Lent::take(idle);
            let result = lent.connection.as_ref().map(work);
            // Back before the permit, so that the next holder of a permit finds it.
            drop(lent);
            drop(permit);
            result
        });
        match read.await {
            Ok(Some(result)) => result.map_err(|error| failed(error.into())),
            Ok(None) => Err(failed("no connection is left".into())),
            Err(panicked) => Err(failed(panicked.into())),
        }
    }
}

/// A connection that goes back when it is dropped, so also when the work panics.
struct Lent {
    connection: Option<Connection>,
    idle: Arc<Mutex<Vec<Connection>>>,
}

impl Lent {
    fn take(idle: Arc<Mutex<Vec<Connection>>>) -> Self {
        let connection = locked(&idle).pop();
        Self { connection, idle }
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        locked(&self.idle).extend(self.connection.take());
    }
}

fn locked(idle: &Mutex<Vec<Connection>>) -> MutexGuard<'_, Vec<Connection>> {
    // A list of connections is whole whatever panicked beside it.
    idle.lock().unwrap_or_else(PoisonError::into_inner)
}
