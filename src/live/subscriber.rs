use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;
use tokio::time::sleep;

use super::presence::{PresenceGuard, Roster};
use super::room::{Names, Room, Signal, Taken};
use super::room_view::{Readiness, RoomView};
use super::streams::{CloseReason, Stream};
use super::{Format, Hub};
use crate::domain::{RoomId, Seq, Timestamp};
use crate::store::StoreError;

/// How many events a stream that is behind reads at a time: about one write of ordinary ones.
const READ_ON: usize = 100;

/// How soon a stream that could not read tries again.
const READ_AGAIN_IN: Duration = Duration::from_secs(1);

/// One open stream: a cursor into a room's log, and what ends it.
pub struct Subscriber {
    hub: Hub,
    stream: Stream,
    /// Shows the user in the room for as long as the stream is open.
    _here: PresenceGuard,
    heartbeat: watch::Receiver<()>,
    room: Arc<Room>,
    signal: watch::Receiver<Signal>,
    format: Format,
    /// The last event that was taken.
    cursor: Seq,
    /// The last presence that was taken.
    seen: Option<Arc<Roster>>,
    /// Who was last said to be typing.
    typing: Option<Names>,
}

/// What a stream has to send next.
pub enum Next {
    /// Events, encoded.
    Events(Bytes),
    /// Who is here has changed.
    Present(Arc<Roster>),
    /// These people are typing; for a few seconds.
    Typing(Names),
    /// Nothing has happened for a while.
    Heartbeat,
    /// The stream is over.
    End(CloseReason),
}

impl Subscriber {
    pub(super) fn new(
        hub: Hub,
        stream: Stream,
        here: PresenceGuard,
        heartbeat: watch::Receiver<()>,
        room: Arc<Room>,
        signal: watch::Receiver<Signal>,
        format: Format,
    ) -> Self {
        let Signal { present, typing } = signal.borrow().clone();
        Self {
            cursor: room.head().unwrap_or(0),
            seen: present,
            typing,
            hub,
            stream,
            _here: here,
            heartbeat,
            room,
            signal,
            format,
        }
    }

    /// The log's head as far as this process knows it.
    pub fn head(&self) -> Seq {
        self.room.head().unwrap_or(0)
    }

    /// The last event that was taken.
    pub fn cursor(&self) -> Seq {
        self.cursor
    }

    /// Whose log it follows.
    pub fn room(&self) -> &RoomId {
        &self.room.id
    }

    /// In which form.
    pub fn format(&self) -> Format {
        self.format
    }

    /// Starts after `seq` instead of at the head. Answers `false`, and changes nothing, when the
    /// log does not reach that far.
    ///
    /// # Errors
    ///
    /// When the store does not tell the log's head.
    pub async fn start_after(&mut self, seq: Seq) -> Result<bool, StoreError> {
        if seq > self.head() {
            // Another node may be ahead of what this one has heard.
            let store = self.hub.store()?;
            if !store.reaches(&self.room.id, seq).await? {
                return Ok(false);
            }
        }
        self.cursor = seq;
        Ok(true)
    }

    /// Has the next presence sent even if nobody came or went: for a page that cannot know what
    /// it missed.
    pub fn show_presence_first(&mut self) {
        self.seen = None;
    }

    /// Waits for something to send. What was returned counts as sent. While the store cannot be
    /// read, a stream that is behind stays where it is.
    pub async fn next(&mut self) -> Next {
        loop {
            if let Some(ending) = self.stream.ending() {
                return Next::End(ending);
            }
            let mut try_again_in = None;
            // Seen before it is looked at: what is appended in between wakes us again.
            self.signal.mark_unchanged();
            match self.room.take(self.cursor, self.format) {
                Taken::Events(bytes, upto) => {
                    self.cursor = upto;
                    return Next::Events(bytes);
                }
                Taken::Behind => {
                    let read = read_on(&self.hub, &self.room, self.cursor, self.format);
                    let read = tokio::select! {
                        biased;
                        ending = self.stream.ended() => return Next::End(ending),
                        read = read => read,
                        // It begins again after that.
                        _ = self.heartbeat.changed() => return self.on_heartbeat(),
                    };
                    match read {
                        Ok((bytes, upto)) => {
                            self.cursor = upto;
                            return Next::Events(bytes);
                        }
                        Err(error) => {
                            tracing::warn!(room = %self.room.id, ?error, "a stream cannot read on");
                            try_again_in = Some(READ_AGAIN_IN);
                        }
                    }
                }
                Taken::Nothing => {}
            }
            let notice = notice(&self.signal.borrow(), &mut self.seen, &mut self.typing);
            if let Some(notice) = notice {
                return notice;
            }
            tokio::select! {
                biased;
                ending = self.stream.ended() => return Next::End(ending),
                // The sender lives as long as the room, which we hold.
                _ = self.signal.changed(), if try_again_in.is_none() => {}
                _ = self.heartbeat.changed() => return self.on_heartbeat(),
                () = sleep(try_again_in.unwrap_or_default()), if try_again_in.is_some() => {}
            }
        }
    }

    /// What a heartbeat is to this stream: its end, if its session is over by now.
    pub fn on_heartbeat(&self) -> Next {
        if Timestamp::now() >= self.stream.session.expires_at {
            Next::End(CloseReason::SignedOut)
        } else {
            Next::Heartbeat
        }
    }

    /// Which room it is, in this process, for as long as it is followed.
    pub fn room_number(&self) -> usize {
        Arc::as_ptr(&self.room).addr()
    }

    /// Watches its room, for it and others who wait together.
    pub fn view(&self) -> RoomView {
        RoomView::new(Arc::clone(&self.room))
    }

    /// What [`Self::next`] has to send now, if anything, with the room as `watch` sees it.
    pub fn ready(&mut self, watch: &mut RoomView) -> Readiness {
        if self.cursor < watch.head {
            match watch.take(self.cursor, self.format) {
                Taken::Events(bytes, upto) => {
                    self.cursor = upto;
                    return Readiness::Send(bytes);
                }
                Taken::Behind => return Readiness::Behind,
                Taken::Nothing => {}
            }
        }
        while let Some(notice) = notice(&watch.signal, &mut self.seen, &mut self.typing) {
            let bytes = watch.notice(notice, self.format);
            if !bytes.is_empty() {
                return Readiness::Send(bytes);
            }
        }
        Readiness::Nothing
    }

    /// Reads what comes next from the store, for a stream that is [`Readiness::Behind`]: for as long as
    /// it takes. What was read is to be given to [`Self::took`].
    pub fn read_on(&self) -> impl Future<Output = ReadOn> + Send + use<> {
        let (hub, room) = (self.hub.clone(), Arc::clone(&self.room));
        let (cursor, format) = (self.cursor, self.format);
        async move {
            loop {
                match read_on(&hub, &room, cursor, format).await {
                    Ok((bytes, upto)) => return ReadOn { bytes, upto },
                    Err(error) => {
                        tracing::warn!(room = %room.id, ?error, "a stream cannot read on");
                        sleep(READ_AGAIN_IN).await;
                    }
                }
            }
        }
    }

    /// What was read is sent.
    pub fn took(&mut self, read: ReadOn) -> Bytes {
        self.cursor = read.upto;
        read.bytes
    }

    /// Why it is over, once it is; wakes the caller then.
    pub fn poll_closed(&mut self, cx: &mut Context<'_>) -> Poll<CloseReason> {
        self.stream.poll_ended(cx)
    }
}

/// What a stream that was behind has read.
pub struct ReadOn {
    bytes: Bytes,
    upto: Seq,
}

/// Who is here or who is typing, if that is not what was told last.
fn notice(
    signal: &Signal,
    seen: &mut Option<Arc<Roster>>,
    typing: &mut Option<Names>,
) -> Option<Next> {
    news(&signal.present, seen)
        .map(Next::Present)
        .or_else(|| news(&signal.typing, typing).map(Next::Typing))
}

/// What is told now, if it is not what was told last; it is from then on. Thousands of subscribers
/// share it, so it is counted only when it is taken.
fn news<T: ?Sized>(now: &Option<Arc<T>>, last: &mut Option<Arc<T>>) -> Option<Arc<T>> {
    let now = now.as_ref()?;
    if last.as_ref().is_some_and(|last| Arc::ptr_eq(last, now)) {
        return None;
    }
    *last = Some(Arc::clone(now));
    last.clone()
}

/// Reads what comes after `cursor` from the store, for a stream that is behind.
async fn read_on(
    hub: &Hub,
    room: &Room,
    cursor: Seq,
    format: Format,
) -> Result<(Bytes, Seq), StoreError> {
    let events = hub.store()?.page_after(&room.id, cursor, READ_ON).await?;
    room.encode(events, format)
        .ok_or_else(|| StoreError::backend("read a log", "it ends before its head"))
}
