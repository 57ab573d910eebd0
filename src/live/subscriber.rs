//! A subscriber: one open stream as a state machine, a cursor into a room's log.
//!
//! [`Subscriber::step`] says what is to be done next and does none of it: no I/O, no waiting, no clock.
//! There are two drivers: an event loop of `server/streams` for sockets of its own, and
//! [`ByteStream`](super::ByteStream) for hyper.

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::sleep;

use super::Format;
use super::notice::{Notice, goodbye};
use super::presence::PresenceGuard;
use super::room::{Following, Names, Room, Signal, Taken};
use super::room_view::RoomView;
use super::streams::{CloseReason, StreamGuard};
use crate::domain::{Roster, Seq, Timestamp};
use crate::store::{Log, StoreError};

/// How many events a stream that is behind reads at a time: about one write of ordinary ones.
const READ_ON: usize = 100;

/// How soon a stream that could not read tries again.
const READ_AGAIN_IN: Duration = Duration::from_secs(1);

/// One open stream: a cursor into a room's log, and what ends it.
pub struct Subscriber {
    log: Arc<dyn Log>,
    stream: StreamGuard,
    /// Shows the user in the room for as long as the stream is open.
    _guard: PresenceGuard,
    following: Following,
    position: Position,
}

/// How far a stream has come, which is all the state machine knows.
struct Position {
    format: Format,
    /// The last event that was taken.
    cursor: Seq,
    /// Where it began, and the head then: what stood between the two is shown as it was by then.
    begun: (Seq, Seq),
    /// The roster sent last.
    roster: Option<Arc<Roster>>,
    /// The typists sent last.
    typing: Option<Names>,
}

/// The next thing for a stream's driver to do.
#[derive(Debug)]
pub enum Step {
    /// Send these bytes: events, or a notice. They are shared with all streams that send the same.
    Send(Bytes),
    /// Read from the store with [`Subscriber::read_on`].
    Read,
    /// Wait for the room to change.
    Wait,
    /// Send [`Subscriber::goodbye`] and close.
    Close(CloseReason),
}

impl Subscriber {
    pub(super) fn new(
        log: Arc<dyn Log>,
        stream: StreamGuard,
        guard: PresenceGuard,
        following: Following,
        format: Format,
    ) -> Self {
        let position = Position::at_head(following.room(), format);
        Self {
            log,
            stream,
            _guard: guard,
            following,
            position,
        }
    }

    /// The log's head as far as this process knows it.
    pub fn head(&self) -> Seq {
        self.following.room().head().unwrap_or(0)
    }

    /// The last event that was taken.
    pub fn cursor(&self) -> Seq {
        self.position.cursor
    }

    /// In which format it is sent.
    pub fn format(&self) -> Format {
        self.position.format
    }

    /// Starts after `seq` instead of at the head. Answers `false`, and changes nothing, when the
    /// log does not reach that far.
    ///
    /// # Errors
    ///
    /// When the store does not tell the log's head.
    pub async fn start_after(&mut self, seq: Seq) -> Result<bool, StoreError> {
        // Another node may be ahead of what this one has heard.
        if seq > self.head() && !self.log.reaches(&self.following.room().id, seq).await? {
            return Ok(false);
        }
        self.position.cursor = seq;
        self.position.begun.0 = seq;
        Ok(true)
    }

    /// Has the roster sent first even if nobody came or went: for a page that cannot know what it
    /// missed.
    pub fn show_presence_first(&mut self) {
        self.position.roster = None;
    }

    /// A number for its room, unique in this process for as long as the room has subscribers.
    pub fn room_number(&self) -> usize {
        Arc::as_ptr(self.following.room()).addr()
    }

    /// A view of its room, for this stream and others that wait together.
    pub fn view(&self) -> RoomView {
        RoomView::new(Arc::clone(self.following.room()))
    }

    /// The next step, with the room as `view` has it. Bytes that were returned count as sent.
    pub fn step(&mut self, view: &mut RoomView) -> Step {
        self.position.step(view)
    }

    /// The step at a heartbeat: the stream ends here if its session is over by now.
    pub fn on_heartbeat(&self, now: Timestamp) -> Step {
        match now >= self.stream.session.expires_at {
            true => Step::Close(CloseReason::SignedOut),
            false => Step::Send(self.heartbeat()),
        }
    }

    /// Bytes that show that the stream is alive.
    pub fn heartbeat(&self) -> Bytes {
        Notice::Heartbeat.encode(self.following.room(), self.format())
    }

    /// The last bytes of the stream, perhaps none.
    pub fn goodbye(&self, reason: CloseReason) -> Bytes {
        goodbye(self.format(), reason)
    }

    /// Reads on from the store, for as long as it takes: what [`Step::Read`] asks for. The result is
    /// to be given to [`Self::took`].
    pub fn read_on(&self) -> impl Future<Output = ReadOn> + Send + use<> {
        let (log, room) = (Arc::clone(&self.log), Arc::clone(self.following.room()));
        let (cursor, format) = (self.cursor(), self.format());
        async move {
            loop {
                match read_on(&*log, &room, cursor, format).await {
                    Ok(read) => return read,
                    Err(error) => {
                        tracing::warn!(room = %room.id, ?error, "a stream cannot read on");
                        sleep(READ_AGAIN_IN).await;
                    }
                }
            }
        }
    }

    /// Takes what was read, to be sent.
    pub fn took(&mut self, read: ReadOn) -> Bytes {
        self.position.cursor = read.upto;
        read.bytes
    }

    /// Why the stream is over, once it is. Not to be called again after that.
    pub fn poll_closed(&mut self, cx: &mut Context<'_>) -> Poll<CloseReason> {
        self.stream.poll_ended(cx)
    }
}

impl Position {
    fn at_head(room: &Room, format: Format) -> Self {
        let Signal { roster, typing } = room.signal();
        let head = room.head().unwrap_or(0);
        Self {
            format,
            cursor: head,
            begun: (head, head),
            roster,
            typing,
        }
    }

    fn step(&mut self, view: &mut RoomView) -> Step {
        if self.cursor < view.head_of(self.format) {
            // A document that only grows cannot put a row in the place of another.
            if self.format == Format::Page && view.has_changed(self.cursor, self.begun) {
                return Step::Close(CloseReason::Changed);
            }
            match view.take(self.cursor, self.format) {
                Taken::Events(bytes, upto) => {
                    self.cursor = upto;
                    return Step::Send(bytes);
                }
                Taken::Behind => return Step::Read,
                Taken::Nothing => {}
            }
        }
        while let Some(notice) = self.notice(view.signal()) {
            let bytes = view.encode(notice, self.format);
            if !bytes.is_empty() {
                return Step::Send(bytes);
            }
        }
        Step::Wait
    }

    /// The roster or the typists, if they differ from those sent last, and remembers them.
    fn notice(&mut self, signal: &Signal) -> Option<Notice> {
        let roster = changed(&signal.roster, &mut self.roster).map(Notice::Roster);
        roster.or_else(|| changed(&signal.typing, &mut self.typing).map(Notice::Typing))
    }
}

/// The value now, if it is not the last one, which it becomes. Thousands of subscribers share it, so its
/// count is only touched when it differs.
fn changed<T: ?Sized>(now: &Option<Arc<T>>, last: &mut Option<Arc<T>>) -> Option<Arc<T>> {
    let now = now.as_ref()?;
    if last.as_ref().is_some_and(|last| Arc::ptr_eq(last, now)) {
        return None;
    }
    *last = Some(Arc::clone(now));
    last.clone()
}

/// Events that a stream that was behind has read.
pub struct ReadOn {
    bytes: Bytes,
    upto: Seq,
}

async fn read_on(
    log: &dyn Log,
    room: &Room,
    cursor: Seq,
    format: Format,
) -> Result<ReadOn, StoreError> {
    loop {
        let token = room.token();
        // Not beyond what the room has taken: who leaves by the next event is asked about first.
        let head = room.head().unwrap_or(0);
        let mut events = log.page_after(&room.id, cursor, READ_ON).await?;
        events.retain(|event| event.seq <= head);
        let read = room.encode(events, format);
        // Else a message may have been deleted since it was read.
        if room.is_current(token) {
            return read
                .map(|(bytes, upto)| ReadOn { bytes, upto })
                .ok_or_else(|| StoreError::backend("read a log", "it ends before its head"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::testing::event;
    use crate::live::room::tests::room;

    fn text(step: Step) -> String {
        match step {
            Step::Send(bytes) => String::from_utf8(bytes.into()).unwrap(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_stream_takes_each_event_once_and_then_waits() {
        let room = Arc::new(room());
        room.reaches(0);
        let mut view = RoomView::new(Arc::clone(&room));
        let mut position = Position::at_head(&room, Format::Text);
        assert!(matches!(position.step(&mut view), Step::Wait));
        for seq in 1..=3 {
            room.accept(event(seq));
        }
        assert!(
            matches!(position.step(&mut view), Step::Wait),
            "the view is as it was"
        );
        view.refresh();
        let sent = text(position.step(&mut view));
        let lines: Vec<&str> = sent.lines().collect();
        assert!(
            lines[0].ends_with("number 1") && lines[2].ends_with("number 3"),
            "{sent}"
        );
        assert_eq!((lines.len(), position.cursor), (3, 3));
        assert!(matches!(position.step(&mut view), Step::Wait));
    }

    #[test]
    fn a_stream_that_fell_out_of_the_ring_reads_and_then_goes_on() {
        let room = Arc::new(room());
        room.reaches(0);
        let mut position = Position::at_head(&room, Format::Text);
        for seq in 1..=1_000 {
            room.accept(event(seq));
        }
        let mut view = RoomView::new(Arc::clone(&room));
        view.refresh();
        assert!(matches!(position.step(&mut view), Step::Read));
        position.cursor = 990;
        assert_eq!(text(position.step(&mut view)).lines().count(), 10);
        assert_eq!(position.cursor, 1_000);
    }

    #[test]
    fn a_roster_is_sent_once_and_only_to_formats_that_have_it() {
        let room = Arc::new(room());
        room.reaches(0);
        let mut view = RoomView::new(Arc::clone(&room));
        let mut json = Position::at_head(&room, Format::Json);
        let mut line = Position::at_head(&room, Format::Text);
        let roster = Roster {
            count: 1,
            names: vec!["ana".into()],
        };
        room.show(Arc::new(roster.clone()));
        view.refresh();
        assert!(text(json.step(&mut view)).contains("event: presence\n"));
        assert!(matches!(json.step(&mut view), Step::Wait));
        assert!(matches!(line.step(&mut view), Step::Wait));
        // Events come before it.
        room.show(Arc::new(roster));
        room.accept(event(1));
        view.refresh();
        assert!(text(json.step(&mut view)).contains("event: message\n"));
        assert!(text(json.step(&mut view)).contains("event: presence\n"));
    }
}
