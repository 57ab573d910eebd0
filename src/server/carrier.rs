//! Streams on threads of their own, which write straight to the sockets.
//!
//! A stream whose head is sent needs nothing of HTTP but its chunks. Carried by hyper it has a task,
//! some 15 KB of buffers, and a wake-up through the runtime's queues for each event. Here it is a
//! cursor and a socket in a list: a room that grows wakes a thread once, which makes the bytes once
//! and sends them to one socket after the other. Figures are in `benches/NOTES.md`.
//!
//! A thread does a slice of its work at a time ([`BUDGET`]), so a room of thousands does not hold up
//! a small one. Nothing here waits but for the sockets: what must be read from the store is read by
//! the runtime. A stream that cannot send is not asked for more until it can, so it costs one
//! unsent piece; what ends streams elsewhere ends them here: their session's end, the process's, a
//! client that goes or takes nothing for [`STUCK_AFTER`](super::STUCK_AFTER).

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::convert::Infallible;
use std::fmt::Write as _;
use std::io::{self, ErrorKind};
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use bytes::{Bytes, BytesMut};
use futures_util::FutureExt;
use mio::event::Event;
use mio::net::TcpStream;
use mio::{Events, Interest, Token};
use slab::Slab;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::AbortHandle;

use super::ConnectionGuard;
use super::send_buffer::{Input, SendBuffer};
use crate::lasting;
use crate::live::{CloseReason, Hub, Next, ReadOn, Readiness, RoomView, Subscriber};
use crate::web::OpenStream;

/// How many streams are looked after before a thread looks whether there is something else: some
/// milliseconds' worth.
const BUDGET: usize = 256;

/// How long a room rests at most between two rounds through its streams: no more than is noticed.
const PAUSE_MAX: Duration = Duration::from_millis(20);

/// After so many heartbeats a stream that takes nothing is closed. Linux has closed it before
/// (`TCP_USER_TIMEOUT`); this is for others.
const STUCK_BEATS: u8 = 3;

/// How long a thread that has failed leaves the machine alone.
const BEGIN_AGAIN_AFTER: Duration = Duration::from_millis(100);

/// Stands for the inbox; sockets have lower numbers.
const INBOX: Token = Token(usize::MAX);

/// What ends a chunked body (RFC 9112, 7.1).
const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// The threads. Cheap to clone.
#[derive(Clone)]
pub(super) struct StreamThreads(Arc<Threads>);

struct Threads {
    inboxes: Vec<Arc<Inbox>>,
    /// Whose turn it is to take a stream.
    turn: AtomicUsize,
}

/// A stream to be carried from here on.
pub(super) struct Handoff {
    pub(super) socket: std::net::TcpStream,
    /// The answer's head.
    pub(super) head: Vec<u8>,
    pub(super) stream: Box<OpenStream>,
    pub(super) keep: ConnectionGuard,
}

impl StreamThreads {
    /// Starts so many threads. Call it inside the runtime.
    pub(super) fn start(threads: usize, hub: &Hub) -> anyhow::Result<Self> {
        let start = |number| {
            let poll = mio::Poll::new()?;
            let inbox = Arc::new(Inbox {
                messages: Mutex::default(),
                waker: mio::Waker::new(poll.registry(), INBOX)?,
            });
            let (theirs, hub, runtime) = (Arc::clone(&inbox), hub.clone(), Handle::current());
            thread::Builder::new()
                .name(format!("streams-{number}"))
                .spawn(move || run(poll, &theirs, &hub, &runtime))?;
            Ok::<_, io::Error>(inbox)
        };
        let inboxes = (0..threads).map(start).collect::<Result<_, _>>();
        Ok(Self(Arc::new(Threads {
            inboxes: inboxes.context("cannot start the threads for streams (STREAM_THREADS)")?,
            turn: AtomicUsize::new(0),
        })))
    }

    /// Carries a stream from its head to its end.
    pub(super) fn carry(&self, carry: Handoff) {
        let turn = self.0.turn.fetch_add(1, Ordering::Relaxed);
        if let Some(inbox) = self.0.inboxes.get(turn % self.0.inboxes.len()) {
            inbox.push(Message::Handoff(Box::new(carry)));
        }
    }
}

/// How a thread is told something, from anywhere.
struct Inbox {
    messages: Mutex<Vec<Message>>,
    waker: mio::Waker,
}

enum Message {
    Handoff(Box<Handoff>),
    /// A room has changed.
    Room(usize),
    Heartbeat,
    /// A stream may be over.
    Ended(Key),
    /// What a stream that was behind has read; `None` if that failed as nothing should.
    Read(Key, Option<ReadOn>),
}

impl Inbox {
    fn push(&self, message: Message) {
        let mut waiting = self.messages.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.push(message);
        // Whoever put the first one in has woken the thread.
        let is_first = waiting.len() == 1;
        drop(waiting);
        if is_first && let Err(error) = self.waker.wake() {
            tracing::error!(%error, "cannot wake a thread of streams");
        }
    }

    fn take(&self, into: &mut Vec<Message>) {
        let mut waiting = self.messages.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::swap(&mut *waiting, into);
    }

    fn waker_that_sends(
        self: &Arc<Self>,
        messages: impl Fn() -> Message + Send + Sync + 'static,
    ) -> Waker {
        Waker::from(Arc::new(InboxWaker {
            inbox: Arc::clone(self),
            messages,
        }))
    }
}

/// Which stream: its place, and its number, which is never given again.
#[derive(Clone, Copy)]
struct Key {
    at: usize,
    number: u64,
}

/// Tells the inbox when something it watches is ready.
struct InboxWaker<N> {
    inbox: Arc<Inbox>,
    messages: N,
}

impl<N: Fn() -> Message> Wake for InboxWaker<N> {
    fn wake(self: Arc<Self>) {
        self.inbox.push((self.messages)());
    }
}

/// One open stream.
struct Stream {
    number: u64,
    out: SendBuffer,
    subscriber: Subscriber,
    room: usize,
    /// Where it stands in its room's list.
    member: usize,
    /// Whether its client will ask no more.
    is_half_closed: bool,
    /// For how many heartbeats there was something unsent.
    stuck_beats: u8,
    /// Reads from the store meanwhile.
    reading: Option<AbortHandle>,
    _keep: ConnectionGuard,
}

impl Drop for Stream {
    fn drop(&mut self) {
        if let Some(reading) = &self.reading {
            reading.abort();
        }
    }
}

/// The streams of one room.
struct Room {
    number: usize,
    watch: RoomView,
    waker: Waker,
    members: Vec<usize>,
    /// How far the round through the members has come.
    done: usize,
    is_queued: bool,
    round_began: Instant,
    /// Whether there is more to send than when the round began.
    has_more: bool,
    /// Whether somebody may have been passed over in it.
    has_moved: bool,
}

/// What a thread has.
struct Streams<'a> {
    inbox: &'a Arc<Inbox>,
    runtime: &'a Handle,
    registry: mio::Registry,
    heartbeat: Heartbeat,
    streams: Slab<Stream>,
    rooms: Slab<Room>,
    /// By the number of a subscriber's room.
    rooms_by_number: HashMap<usize, usize>,
    /// The rooms that have something to send, in turn.
    due: VecDeque<usize>,
    /// Those that rest between two rounds, by until when.
    cooling_down: BTreeSet<(Instant, usize)>,
    /// How far a heartbeat has come.
    beating: Option<usize>,
    last_number: &'a mut u64,
    framed: ChunkCache,
}

fn run(mut poll: mio::Poll, inbox: &Arc<Inbox>, hub: &Hub, runtime: &Handle) {
    // Not given again when it begins again: what was read for a stream of before may still come.
    let mut last_number = 0;
    // Its streams are dropped when it fails or panics, and come back to where they were.
    lasting::run("streams", || {
        loop {
            // What has come meanwhile has nobody to wake.
            let _ = inbox.waker.wake();
            match carry_streams(&mut poll, &mut last_number, inbox, hub, runtime) {
                Ok(never) => match never {},
                Err(error) => tracing::error!(%error, "a thread of streams begins again"),
            }
            thread::sleep(BEGIN_AGAIN_AFTER);
        }
    });
}

fn carry_streams(
    poll: &mut mio::Poll,
    last_number: &mut u64,
    inbox: &Arc<Inbox>,
    hub: &Hub,
    runtime: &Handle,
) -> io::Result<Infallible> {
    let mut streams = Streams {
        inbox,
        runtime,
        registry: poll.registry().try_clone()?,
        heartbeat: Heartbeat::new(hub.heartbeat(), inbox),
        streams: Slab::new(),
        rooms: Slab::new(),
        rooms_by_number: HashMap::new(),
        due: VecDeque::new(),
        cooling_down: BTreeSet::new(),
        beating: None,
        last_number,
        framed: ChunkCache::default(),
    };
    let mut events = Events::with_capacity(1_024);
    let mut messages = Vec::new();
    loop {
        match poll.poll(&mut events, streams.may_wait()) {
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            polled => polled?,
        }
        for event in &events {
            if event.token() != INBOX {
                streams.on_socket(event);
            }
        }
        inbox.take(&mut messages);
        for message in messages.drain(..) {
            streams.on_message(message);
        }
        streams.end_pauses();
        streams.send_within_budget();
    }
}

impl Streams<'_> {
    /// How long there is nothing to do but for sockets and the inbox.
    fn may_wait(&self) -> Option<Duration> {
        if !self.due.is_empty() || self.beating.is_some() {
            return Some(Duration::ZERO);
        }
        let (until, _) = self.cooling_down.first()?;
        Some(until.saturating_duration_since(Instant::now()))
    }

    /// Queues the rooms that have rested.
    fn end_pauses(&mut self) {
        while let Some((until, at)) = self.cooling_down.first().copied()
            && until <= Instant::now()
        {
            self.cooling_down.pop_first();
            if let Some(room) = self.rooms.get_mut(at) {
                room.begin_round();
                self.due.push_back(at);
            }
        }
    }

    fn on_socket(&mut self, event: &Event) {
        let at = event.token().0;
        let Some(stream) = self.streams.get_mut(at) else {
            return;
        };
        let input = match event.is_readable() && !stream.is_half_closed {
            true => stream.out.read_and_forget(),
            false => Input::Open,
        };
        if event.is_error() || event.is_write_closed() || input == Input::Broken {
            return self.close(at);
        }
        if (event.is_read_closed() || input == Input::Ended) && !stream.is_half_closed {
            // It has gone, or has only said that it will ask no more, as `nc -N` does. One that has
            // gone answers whatever is sent with a reset, so something is sent at once.
            stream.is_half_closed = true;
            let (room, format) = (stream.subscriber.room(), stream.subscriber.format());
            let heartbeat = Next::Heartbeat.encode(room, format);
            return self.send(at, &heartbeat);
        }
        if event.is_writable() && stream.out.has_unsent() {
            match stream.out.flush() {
                Ok(sent) => {
                    if sent > 0 {
                        stream.stuck_beats = 0;
                    }
                    self.look_and_send(at);
                }
                Err(_) => self.close(at),
            }
        }
    }

    fn on_message(&mut self, message: Message) {
        match message {
            Message::Handoff(carry) => {
                if let Err(error) = self.open(*carry) {
                    tracing::warn!(%error, "cannot carry a stream");
                }
            }
            Message::Room(at) => {
                if let Some(room) = self.rooms.get_mut(at) {
                    room.register();
                    self.queue(at);
                }
            }
            Message::Heartbeat => {
                self.heartbeat.register();
                self.beating.get_or_insert(0);
            }
            Message::Ended(key) => self.end_if_over(key),
            Message::Read(key, read) => {
                if let Some(stream) = self.current(key) {
                    stream.reading = None;
                    let Some(read) = read else {
                        return self.close(key.at);
                    };
                    let bytes = stream.subscriber.took(read);
                    self.send(key.at, &bytes);
                    self.look_and_send(key.at);
                }
            }
        }
    }

    /// The stream, if it is still the same.
    fn current(&mut self, key: Key) -> Option<&mut Stream> {
        let stream = self.streams.get_mut(key.at);
        stream.filter(|stream| stream.number == key.number)
    }

    fn open(&mut self, carry: Handoff) -> io::Result<()> {
        let OpenStream {
            preamble,
            subscriber,
        } = *carry.stream;
        let mut socket = TcpStream::from_std(carry.socket);
        let at = self.streams.vacant_key();
        let interest = Interest::READABLE | Interest::WRITABLE;
        self.registry.register(&mut socket, Token(at), interest)?;
        *self.last_number += 1;
        let number = *self.last_number;
        let room = self.room_of(&subscriber);
        let members = self.rooms.get_mut(room).map(|room| &mut room.members);
        let member = members.map_or(0, |members| {
            members.push(at);
            members.len() - 1
        });
        self.streams.insert(Stream {
            number,
            out: SendBuffer::new(socket),
            subscriber,
            room,
            member,
            stuck_beats: 0,
            is_half_closed: false,
            reading: None,
            _keep: carry.keep,
        });
        let mut first = BytesMut::from(carry.head.as_slice());
        put_chunk(&mut first, preamble.as_bytes());
        if let Some(stream) = self.streams.get_mut(at)
            && stream.out.send(&first.freeze()).is_err()
        {
            self.close(at);
            return Ok(());
        }
        self.end_if_over(Key { at, number });
        self.look_and_send(at);
        Ok(())
    }

    /// Where the subscriber's room stands; watched from now on if it was not.
    fn room_of(&mut self, subscriber: &Subscriber) -> usize {
        let number = subscriber.room_number();
        if let Some(at) = self.rooms_by_number.get(&number) {
            return *at;
        }
        let at = self.rooms.vacant_key();
        let mut room = Room {
            number,
            watch: subscriber.watch(),
            waker: self.inbox.waker_that_sends(move || Message::Room(at)),
            members: Vec::new(),
            done: 0,
            is_queued: false,
            round_began: Instant::now(),
            has_more: false,
            has_moved: false,
        };
        room.register();
        self.rooms.insert(room);
        self.rooms_by_number.insert(number, at);
        at
    }

    /// Has what is new in a room sent to its members when it is its turn.
    fn queue(&mut self, at: usize) {
        if let Some(room) = self.rooms.get_mut(at) {
            if std::mem::replace(&mut room.is_queued, true) {
                room.has_more = true;
            } else {
                room.begin_round();
                self.due.push_back(at);
            }
        }
    }

    /// Looks after some of the streams that may have something to send.
    fn send_within_budget(&mut self) {
        // A heartbeat to thousands holds up no room.
        let mut left = BUDGET / 2 + self.beat(BUDGET / 2);
        while left > 0 {
            let Some(at) = self.due.pop_front() else {
                return;
            };
            left -= self.go_round(at, left);
        }
    }

    /// Sends to some of a room's members, and says how many, at least one.
    fn go_round(&mut self, at: usize, most: usize) -> usize {
        let Some(room) = self.rooms.get_mut(at) else {
            return 1;
        };
        // What comes from here on wakes us again.
        room.watch.refresh();
        // There may be fewer than there were.
        let from = room.done.min(room.members.len());
        let until = room.members.len().min(from + most);
        room.done = until;
        for member in from..until {
            let room = self.rooms.get(at);
            if let Some(stream) = room.and_then(|room| room.members.get(member)) {
                self.send_ready(*stream);
            }
        }
        if let Some(room) = self.rooms.get_mut(at) {
            if room.done < room.members.len() {
                self.due.push_back(at);
            } else if std::mem::take(&mut room.has_moved) {
                room.done = 0;
                self.due.push_back(at);
            } else if std::mem::take(&mut room.has_more) {
                // Events come faster than they can be sent: some are gathered into one write.
                let rests = (room.round_began.elapsed() / 2).min(PAUSE_MAX);
                self.cooling_down.insert((Instant::now() + rests, at));
            } else {
                room.is_queued = false;
            }
        }
        (until - from).max(1)
    }

    /// Goes on with a heartbeat, if there is one; says how many streams more may be looked after.
    fn beat(&mut self, mut left: usize) -> usize {
        while let Some(at) = self.beating
            && left > 0
        {
            self.beating = (at + 1 < self.streams.capacity()).then_some(at + 1);
            let Some(stream) = self.streams.get_mut(at) else {
                continue;
            };
            left -= 1;
            match stream.subscriber.on_heartbeat() {
                Next::End(ending) => self.end(at, ending),
                next if !stream.out.has_unsent() => {
                    let bytes = next.encode(stream.subscriber.room(), stream.subscriber.format());
                    self.send(at, &bytes);
                }
                // It has enough to do, or is stuck.
                _ => {
                    stream.stuck_beats += 1;
                    if stream.stuck_beats == STUCK_BEATS {
                        self.close(at);
                    }
                }
            }
        }
        left
    }

    fn look_and_send(&mut self, at: usize) {
        if let Some(stream) = self.streams.get(at)
            && let Some(room) = self.rooms.get_mut(stream.room)
        {
            room.watch.refresh();
            self.send_ready(at);
        }
    }

    /// Sends what a stream has to send, as far as it takes it.
    fn send_ready(&mut self, at: usize) {
        loop {
            let Some(stream) = self.streams.get_mut(at) else {
                return;
            };
            let Some(room) = self.rooms.get_mut(stream.room) else {
                return;
            };
            if stream.out.has_unsent() || stream.reading.is_some() {
                return;
            }
            match stream.subscriber.ready(&mut room.watch) {
                Readiness::Send(bytes) => self.send(at, &bytes),
                Readiness::Behind => {
                    let key = stream.key(at);
                    let (read, inbox) = (stream.subscriber.read_on(), Arc::clone(self.inbox));
                    let reading = async move {
                        let read = AssertUnwindSafe(read).catch_unwind().await;
                        inbox.push(Message::Read(key, read.ok()));
                    };
                    stream.reading = Some(self.runtime.spawn(reading).abort_handle());
                    return;
                }
                Readiness::Nothing => return,
            }
        }
    }

    /// Sends a piece, after all before.
    fn send(&mut self, at: usize, bytes: &Bytes) {
        if let Some(stream) = self.streams.get_mut(at)
            && !bytes.is_empty()
            && stream.out.send(self.framed.frame(bytes)).is_err()
        {
            self.close(at);
        }
    }

    fn end_if_over(&mut self, key: Key) {
        let waker = self.inbox.waker_that_sends(move || Message::Ended(key));
        if let Some(stream) = self.current(key) {
            let ending = stream
                .subscriber
                .poll_ending(&mut Context::from_waker(&waker));
            if let Poll::Ready(ending) = ending {
                self.end(key.at, ending);
            }
        }
    }

    /// Says goodbye, unless something stands unsent before it, and closes.
    fn end(&mut self, at: usize, ending: CloseReason) {
        // What was acknowledged a moment ago may not have been sent yet.
        if matches!(ending, CloseReason::ShutDown) {
            self.look_and_send(at);
        }
        let Some(stream) = self.streams.get_mut(at) else {
            return;
        };
        if !stream.out.has_unsent() {
            let (room, format) = (stream.subscriber.room(), stream.subscriber.format());
            let mut last = BytesMut::new();
            put_chunk(&mut last, &Next::End(ending).encode(room, format));
            last.extend_from_slice(LAST_CHUNK);
            // Unread input would have the kernel throw away what was sent.
            let _ = stream.out.read_and_forget();
            stream.out.send_last(&last.freeze());
        }
        self.close(at);
    }

    fn close(&mut self, at: usize) {
        let Some(stream) = self.streams.try_remove(at) else {
            return;
        };
        let Some(room) = self.rooms.get_mut(stream.room) else {
            return;
        };
        room.members.swap_remove(stream.member);
        // Who stands in its place now may have been before its turn.
        room.has_moved |= room.is_queued;
        if let Some(moved) = room.members.get(stream.member)
            && let Some(moved) = self.streams.get_mut(*moved)
        {
            moved.member = stream.member;
        }
        if room.members.is_empty() {
            self.rooms_by_number.remove(&room.number);
            self.rooms.remove(stream.room);
        }
    }
}

impl Room {
    fn begin_round(&mut self) {
        self.done = 0;
        self.round_began = Instant::now();
        // What has come until now is in it.
        self.has_more = false;
    }

    fn register(&mut self) {
        self.watch.register(&mut Context::from_waker(&self.waker));
    }
}

impl Stream {
    fn key(&self, at: usize) -> Key {
        Key {
            at,
            number: self.number,
        }
    }
}

/// The one timer of all heartbeats, as a thread hears it.
struct Heartbeat {
    /// Never resolves; being woken is the news.
    changes: Pin<Box<dyn Future<Output = ()>>>,
    waker: Waker,
}

impl Heartbeat {
    fn new(mut beats: watch::Receiver<()>, inbox: &Arc<Inbox>) -> Self {
        let mut heartbeat = Self {
            changes: Box::pin(async move { while beats.changed().await.is_ok() {} }),
            waker: inbox.waker_that_sends(|| Message::Heartbeat),
        };
        heartbeat.register();
        heartbeat
    }

    fn register(&mut self) {
        let changes = self.changes.as_mut();
        let _ = changes.poll(&mut Context::from_waker(&self.waker));
    }
}

/// The pieces that were made into chunks last: what many streams send alike is made once.
#[derive(Default)]
struct ChunkCache {
    pieces: [(Bytes, Bytes); 4],
    oldest: usize,
}

impl ChunkCache {
    fn frame(&mut self, piece: &Bytes) -> &Bytes {
        // A piece that is held here is at its address alone.
        let is_it = |(plain, _): &(Bytes, Bytes)| {
            plain.as_ptr() == piece.as_ptr() && plain.len() == piece.len()
        };
        let at = self.pieces.iter().position(is_it).unwrap_or_else(|| {
            let mut framed = BytesMut::with_capacity(piece.len() + 16);
            put_chunk(&mut framed, piece);
            self.oldest = (self.oldest + 1) % self.pieces.len();
            if let Some(oldest) = self.pieces.get_mut(self.oldest) {
                *oldest = (piece.clone(), framed.freeze());
            }
            self.oldest
        });
        &self.pieces[at].1
    }
}

/// One chunk of a body (RFC 9112, 7.1); none for nothing, which would end it.
fn put_chunk(bytes: &mut BytesMut, chunk: &[u8]) {
    if !chunk.is_empty() {
        let _ = write!(bytes, "{:X}\r\n", chunk.len());
        bytes.extend_from_slice(chunk);
        bytes.extend_from_slice(b"\r\n");
    }
}
