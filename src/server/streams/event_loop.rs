//! The event loop of one thread: its sockets, its inbox, and the streams it writes.
//!
//! It does its work in turns of at most [`BUDGET`] streams, so that it hears of everything else soon.
//! Nothing here blocks but `epoll`: whatever must come from the store is read by the runtime. A stream
//! whose socket is full is not asked for more until it drains, so it costs one unsent piece. A stream
//! ends with its session, with the process, or when its client goes or takes nothing for
//! [`STUCK_AFTER`](crate::server::STUCK_AFTER).

use std::collections::HashMap;
use std::convert::Infallible;
use std::io::{self, ErrorKind};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::thread;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use futures_util::FutureExt;
use mio::event::Event;
use mio::net::TcpStream;
use mio::{Events, Interest, Token};
use slab::Slab;
use tokio::runtime::Handle;

use super::Handoff;
use super::chunked::{ChunkCache, LAST_CHUNK, put_chunk};
use super::heartbeat::Heartbeat;
use super::inbox::{INBOX, Inbox, Key, Message};
use super::rounds::Rounds;
use super::send_buffer::{Input, SendBuffer};
use super::stream::{Stream, ViewedRoom};
use crate::domain::Timestamp;
use crate::lasting;
use crate::live::{CloseReason, Hub, Step, Subscriber};
use crate::web::OpenStream;

/// How many streams are served before the loop looks at its sockets and its inbox again: some
/// milliseconds' worth.
const BUDGET: usize = 256;

/// After so many heartbeats a stream that takes nothing is closed. Linux has closed it before
/// (`TCP_USER_TIMEOUT`); this is for other systems.
const STUCK_BEATS: u8 = 3;

/// How long a loop that has failed waits before it begins again.
const BEGIN_AGAIN_AFTER: Duration = Duration::from_millis(100);

struct EventLoop<'a> {
    inbox: &'a Arc<Inbox>,
    runtime: &'a Handle,
    registry: mio::Registry,
    heartbeat: Heartbeat,
    streams: Slab<Stream>,
    rounds: Rounds<ViewedRoom>,
    /// Rooms by their numbers.
    rooms: HashMap<usize, usize>,
    /// The place a heartbeat under way goes on at.
    beating: Option<usize>,
    last_number: &'a mut u64,
    chunks: ChunkCache,
}

/// Runs a thread's event loop, again whenever it fails.
pub(super) fn run(mut poll: mio::Poll, inbox: &Arc<Inbox>, hub: &Hub, runtime: &Handle) {
    // Outlives the loop, so that no number is given twice: an earlier loop's reads may still arrive.
    let mut last_number = 0;
    // A failure or a panic drops the streams; their clients come back to where they were.
    lasting::run("streams", || {
        loop {
            // For messages that arrived while no loop was running.
            inbox.wake();
            match serve(&mut poll, &mut last_number, inbox, hub, runtime) {
                Ok(never) => match never {},
                Err(error) => tracing::error!(%error, "a thread of streams begins again"),
            }
            thread::sleep(BEGIN_AGAIN_AFTER);
        }
    });
}

fn serve(
    poll: &mut mio::Poll,
    last_number: &mut u64,
    inbox: &Arc<Inbox>,
    hub: &Hub,
    runtime: &Handle,
) -> io::Result<Infallible> {
    let mut event_loop = EventLoop {
        inbox,
        runtime,
        registry: poll.registry().try_clone()?,
        heartbeat: Heartbeat::new(hub.heartbeat(), inbox),
        streams: Slab::new(),
        rounds: Rounds::new(),
        rooms: HashMap::new(),
        beating: None,
        last_number,
        chunks: ChunkCache::default(),
    };
    let mut events = Events::with_capacity(1_024);
    let mut messages = Vec::new();
    loop {
        match poll.poll(&mut events, event_loop.idle_for()) {
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            polled => polled?,
        }
        for event in &events {
            if event.token() != INBOX {
                event_loop.on_socket(event);
            }
        }
        inbox.take(&mut messages);
        for message in messages.drain(..) {
            event_loop.on_message(message);
        }
        event_loop.rounds.end_pauses(Instant::now());
        event_loop.send_within_budget();
    }
}

impl EventLoop<'_> {
    /// How long the loop may wait for its sockets and its inbox; `None` for as long as it takes.
    fn idle_for(&self) -> Option<Duration> {
        match self.beating {
            Some(_) => Some(Duration::ZERO),
            None => self.rounds.idle_for(Instant::now()),
        }
    }

    fn on_socket(&mut self, event: &Event) {
        let place = event.token().0;
        let Some(stream) = self.streams.get_mut(place) else {
            return;
        };
        let input = match event.is_readable() && !stream.is_half_closed {
            true => stream.out.read_and_forget(),
            false => Input::Open,
        };
        if event.is_error() || event.is_write_closed() || input == Input::Broken {
            return self.close(place);
        }
        if (event.is_read_closed() || input == Input::Ended) && !stream.is_half_closed {
            // The client has gone, or has only said that it will ask no more, as `nc -N` does. One that
            // has gone answers whatever is sent with a reset, so something is sent at once.
            stream.is_half_closed = true;
            let heartbeat = stream.subscriber.heartbeat();
            return self.send(place, &heartbeat);
        }
        if event.is_writable() && stream.out.has_unsent() {
            match stream.out.flush() {
                Ok(sent) => {
                    if sent > 0 {
                        stream.stuck_beats = 0;
                    }
                    self.refresh_and_send(place);
                }
                Err(_) => self.close(place),
            }
        }
    }

    fn on_message(&mut self, message: Message) {
        match message {
            Message::Open(handoff) => {
                if let Err(error) = self.open(*handoff) {
                    tracing::warn!(%error, "cannot take over a stream");
                }
            }
            Message::RoomChanged(at) => {
                if let Some(room) = self.rounds.room(at) {
                    room.register();
                    self.rounds.queue(at, Instant::now());
                }
            }
            Message::Heartbeat => {
                self.heartbeat.register();
                self.beating.get_or_insert(0);
            }
            Message::MayBeOver(key) => self.end_if_over(key),
            Message::Read(key, read) => {
                if let Some(stream) = self.current(key) {
                    stream.reading = None;
                    let Some(read) = read else {
                        return self.close(key.place);
                    };
                    let bytes = stream.subscriber.took(read);
                    self.send(key.place, &bytes);
                    self.refresh_and_send(key.place);
                }
            }
        }
    }

    /// The stream with this key, unless it is gone.
    fn current(&mut self, key: Key) -> Option<&mut Stream> {
        let stream = self.streams.get_mut(key.place);
        stream.filter(|stream| stream.number == key.number)
    }

    fn open(&mut self, handoff: Handoff) -> io::Result<()> {
        let OpenStream {
            preamble,
            subscriber,
        } = *handoff.stream;
        let mut socket = TcpStream::from_std(handoff.socket);
        let place = self.streams.vacant_key();
        let interest = Interest::READABLE | Interest::WRITABLE;
        self.registry
            .register(&mut socket, Token(place), interest)?;
        *self.last_number += 1;
        let number = *self.last_number;
        let room = self.room_of(&subscriber);
        let mut stream = Stream {
            number,
            out: SendBuffer::new(socket),
            subscriber,
            room,
            slot: self.rounds.join(room, place),
            is_half_closed: false,
            stuck_beats: 0,
            reading: None,
            _guard: handoff.guard,
        };
        let mut first = BytesMut::from(handoff.head.as_slice());
        put_chunk(&mut first, preamble.as_bytes());
        let sent = stream.out.send(&first.freeze());
        self.streams.insert(stream);
        if sent.is_err() {
            self.close(place);
            return Ok(());
        }
        self.end_if_over(Key { place, number });
        self.refresh_and_send(place);
        Ok(())
    }

    /// The subscriber's room, viewed from now on if it was not.
    fn room_of(&mut self, subscriber: &Subscriber) -> usize {
        let number = subscriber.room_number();
        if let Some(at) = self.rooms.get(&number) {
            return *at;
        }
        let at = self.rounds.vacant();
        let mut room = ViewedRoom {
            number,
            view: subscriber.view(),
            waker: self.inbox.waker(move || Message::RoomChanged(at)),
        };
        room.register();
        self.rounds.add(room, Instant::now());
        self.rooms.insert(number, at);
        at
    }

    /// Serves as many streams as one turn of the loop may.
    fn send_within_budget(&mut self) {
        // A heartbeat to thousands holds up no room.
        let mut left = BUDGET / 2 + self.beat(BUDGET / 2);
        while left > 0 {
            let Some(turn) = self.rounds.next_turn(left) else {
                return;
            };
            left -= turn.slots.len().max(1);
            if let Some(room) = self.rounds.room(turn.room) {
                // A later change wakes the loop again.
                room.view.refresh();
            }
            for slot in turn.slots {
                if let Some(place) = self.rounds.member(turn.room, slot) {
                    self.send_ready(place);
                }
            }
            self.rounds.end_turn(turn.room, Instant::now());
        }
    }

    /// Goes on with a heartbeat under way, for at most `left` streams. Returns what is left of them.
    fn beat(&mut self, mut left: usize) -> usize {
        let now = Timestamp::now();
        while let Some(place) = self.beating
            && left > 0
        {
            self.beating = (place + 1 < self.streams.capacity()).then_some(place + 1);
            let Some(stream) = self.streams.get_mut(place) else {
                continue;
            };
            left -= 1;
            match stream.subscriber.on_heartbeat(now) {
                Step::Close(reason) => self.end(place, reason),
                Step::Send(bytes) if !stream.out.has_unsent() => self.send(place, &bytes),
                // It has enough to send, or is stuck.
                _ => {
                    stream.stuck_beats += 1;
                    if stream.stuck_beats == STUCK_BEATS {
                        self.close(place);
                    }
                }
            }
        }
        left
    }

    fn refresh_and_send(&mut self, place: usize) {
        if let Some(stream) = self.streams.get(place)
            && let Some(room) = self.rounds.room(stream.room)
        {
            room.view.refresh();
            self.send_ready(place);
        }
    }

    /// Sends what a stream has to send, as far as its socket takes it.
    fn send_ready(&mut self, place: usize) {
        loop {
            let Some(stream) = self.streams.get_mut(place) else {
                return;
            };
            let Some(room) = self.rounds.room(stream.room) else {
                return;
            };
            if stream.out.has_unsent() || stream.reading.is_some() {
                return;
            }
            match stream.subscriber.step(&mut room.view) {
                Step::Send(bytes) => self.send(place, &bytes),
                Step::Read => {
                    let key = Key {
                        place,
                        number: stream.number,
                    };
                    let (read, inbox) = (stream.subscriber.read_on(), Arc::clone(self.inbox));
                    let reading = async move {
                        let read = AssertUnwindSafe(read).catch_unwind().await;
                        inbox.push(Message::Read(key, read.ok()));
                    };
                    stream.reading = Some(self.runtime.spawn(reading).abort_handle());
                    return;
                }
                Step::Wait => return,
                Step::Close(reason) => return self.end(place, reason),
            }
        }
    }

    /// Sends a piece, after all before it.
    fn send(&mut self, place: usize, piece: &Bytes) {
        if let Some(stream) = self.streams.get_mut(place)
            && !piece.is_empty()
            && stream.out.send(self.chunks.frame(piece)).is_err()
        {
            self.close(place);
        }
    }

    fn end_if_over(&mut self, key: Key) {
        let waker = self.inbox.waker(move || Message::MayBeOver(key));
        if let Some(stream) = self.current(key) {
            let mut cx = Context::from_waker(&waker);
            if let Poll::Ready(reason) = stream.subscriber.poll_closed(&mut cx) {
                self.end(key.place, reason);
            }
        }
    }

    /// Says goodbye, unless something stands unsent before it, and closes.
    fn end(&mut self, place: usize, reason: CloseReason) {
        // An event that was acknowledged a moment ago may not have been sent yet.
        if matches!(reason, CloseReason::ShutDown) {
            self.refresh_and_send(place);
        }
        let Some(stream) = self.streams.get_mut(place) else {
            return;
        };
        if !stream.out.has_unsent() {
            let mut last = BytesMut::new();
            put_chunk(&mut last, &stream.subscriber.goodbye(reason));
            last.extend_from_slice(LAST_CHUNK);
            // Unread input would make the kernel throw away what was sent.
            let _ = stream.out.read_and_forget();
            stream.out.send_last(&last.freeze());
        }
        self.close(place);
    }

    fn close(&mut self, place: usize) {
        let Some(stream) = self.streams.try_remove(place) else {
            return;
        };
        if let Some(room) = self.rounds.leave(stream.room, stream.slot) {
            self.rooms.remove(&room.number);
        } else if let Some(moved) = self.rounds.member(stream.room, stream.slot)
            && let Some(moved) = self.streams.get_mut(moved)
        {
            moved.slot = stream.slot;
        }
    }
}
