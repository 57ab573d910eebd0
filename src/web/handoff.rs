//! The handoff of a stream: after the response's head the server goes on with it, without HTTP.

use std::sync::{Arc, Mutex, PoisonError};

use crate::live::Subscriber;

/// Stands in a request's extensions if the server carries streams on by itself.
#[derive(Debug, Clone, Copy)]
pub struct HandoffSupported;

/// A stream that goes on after an answer's head, in place of its body.
pub struct OpenStream {
    /// The first bytes, perhaps none.
    pub preamble: String,
    /// Everything after it.
    pub subscriber: Subscriber,
}

/// Stands in an answer's extensions: the stream, for who takes it first.
#[derive(Clone)]
pub struct HandedOff(Arc<Mutex<Option<Box<OpenStream>>>>);

impl HandedOff {
    pub(super) fn new(stream: OpenStream) -> Self {
        Self(Arc::new(Mutex::new(Some(Box::new(stream)))))
    }

    /// The stream, the first time.
    pub fn take(&self) -> Option<Box<OpenStream>> {
        let mut stream = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        stream.take()
    }
}
