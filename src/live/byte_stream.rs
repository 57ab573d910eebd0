//! The driver of a subscriber whose bytes hyper sends: a [`Stream`].

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio_stream::Stream;
use tokio_stream::wrappers::WatchStream;

use super::Hub;
use super::room_view::RoomView;
use super::streams::CloseReason;
use super::subscriber::{ReadOn, Step, Subscriber};
use crate::domain::{Seq, Timestamp};

/// The bytes of one stream, to their end.
pub struct ByteStream {
    subscriber: Subscriber,
    view: RoomView,
    heartbeat: WatchStream<()>,
    /// A read from the store that is under way.
    reading: Option<Pin<Box<dyn Future<Output = ReadOn> + Send>>>,
    closing: Option<CloseReason>,
    is_over: bool,
}

impl ByteStream {
    /// A subscriber's bytes.
    pub fn new(subscriber: Subscriber, hub: &Hub) -> Self {
        Self {
            view: subscriber.view(),
            subscriber,
            heartbeat: WatchStream::from_changes(hub.heartbeat()),
            reading: None,
            closing: None,
            is_over: false,
        }
    }

    /// The last event that was taken.
    pub fn cursor(&self) -> Seq {
        self.subscriber.cursor()
    }

    fn poll_step(&mut self, cx: &mut Context<'_>) -> Step {
        if self.closing.is_none()
            && let Poll::Ready(reason) = self.subscriber.poll_closed(cx)
        {
            self.closing = Some(reason);
        }
        match self.closing {
            None => {}
            // An event that was acknowledged a moment ago may not have been sent yet.
            Some(CloseReason::ShutDown) if self.reading.is_none() => {
                self.view.refresh();
                return match self.subscriber.step(&mut self.view) {
                    Step::Send(bytes) => Step::Send(bytes),
                    _ => Step::Close(CloseReason::ShutDown),
                };
            }
            Some(reason) => return Step::Close(reason),
        }
        if let Poll::Ready(Some(())) = Pin::new(&mut self.heartbeat).poll_next(cx) {
            return self.subscriber.on_heartbeat(Timestamp::now());
        }
        if self.reading.is_none() {
            // Registered before the look: a change in between wakes this task again.
            self.view.register(cx);
            self.view.refresh();
            match self.subscriber.step(&mut self.view) {
                Step::Read => self.reading = Some(Box::pin(self.subscriber.read_on())),
                step => return step,
            }
        }
        match self
            .reading
            .as_mut()
            .map(|reading| reading.as_mut().poll(cx))
        {
            Some(Poll::Ready(read)) => {
                self.reading = None;
                Step::Send(self.subscriber.took(read))
            }
            _ => Step::Wait,
        }
    }
}

impl Stream for ByteStream {
    type Item = Bytes;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        loop {
            if self.is_over {
                return Poll::Ready(None);
            }
            let bytes = match self.poll_step(cx) {
                Step::Send(bytes) => bytes,
                Step::Close(reason) => {
                    self.is_over = true;
                    self.subscriber.goodbye(reason)
                }
                Step::Wait | Step::Read => return Poll::Pending,
            };
            if !bytes.is_empty() {
                return Poll::Ready(Some(bytes));
            }
        }
    }
}
