use std::io::{ErrorKind, Read, Write};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use memchr::memmem;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

use crate::process::Served;

/// The longest part of an event that may be left over from a read.
const TAIL_MAX: usize = 1_024;

/// How many posts may be under way at once.
const POSTERS: usize = 64;

/// Tokens below are streams'.
const FIRST_POSTER: usize = 1 << 32;

/// A message's length; it begins with the number of its post.
const BODY_LEN: usize = 100;

/// How fast posts follow each other.
#[derive(Clone, Copy)]
pub enum Pace {
    /// The next when all streams have the one before.
    BackToBack,
    /// One each time this has passed, whether the one before is answered or not: what is late is
    /// late from when it was due.
    Every(Duration),
}

/// The measurements.
pub struct Outcome {
    pub deliveries_per_second: f64,
    pub cpu_per_delivery_us: f64,
    /// From a post's due time until the last stream had it, in µs.
    pub all: Histogram<u64>,
    /// The same for each stream.
    pub each: Histogram<u64>,
    pub idle_stream_kb: f64,
    pub connecting: Duration,
}

impl Outcome {
    /// The one in the middle.
    pub fn median(mut of: Vec<Self>) -> Self {
        of.sort_by(|a, b| a.cpu_per_delivery_us.total_cmp(&b.cpu_per_delivery_us));
        of.swap_remove(of.len() / 2)
    }
}

/// Thousands of streams and some posters, in one thread, with no allocation per delivery.
pub struct Load {
    poll: Poll,
    events: Events,
    rooms: Vec<String>,
    authorization: String,
    first_head: u64,
    streams: Vec<Stream>,
    streams_per_room: usize,
    posters: Vec<Poster>,
    /// Posts that are due and wait for a poster.
    due: std::collections::VecDeque<usize>,
    posts: Vec<Post>,
    each: Histogram<u64>,
    all: Histogram<u64>,
    delivered: usize,
    buffer: Vec<u8>,
    idle_stream_kb: f64,
    connecting: Duration,
}

struct Stream {
    socket: TcpStream,
    next: u64,
    is_open: bool,
    tail: [u8; TAIL_MAX],
    tail_len: usize,
}

struct Poster {
    socket: TcpStream,
    /// The post that waits to be answered.
    number: Option<usize>,
    request: Vec<u8>,
    answer: Vec<u8>,
}

struct Post {
    due_at: Instant,
    received: usize,
    is_answered: bool,
}

impl Load {
    pub fn new(served: &Served, rooms: Vec<String>) -> Self {
        let poll = Poll::new().unwrap();
        let histogram = || Histogram::new_with_bounds(1, 60_000_000, 3).unwrap();
        let mut load = Self {
            poll,
            events: Events::with_capacity(4_096),
            rooms,
            authorization: served.authorization.clone(),
            first_head: served.first_head(),
            streams: Vec::new(),
            streams_per_room: 0,
            posters: Vec::new(),
            due: std::collections::VecDeque::new(),
            posts: Vec::new(),
            each: histogram(),
            all: histogram(),
            delivered: 0,
            buffer: vec![0; TAIL_MAX + 64 * 1024],
            idle_stream_kb: 0.0,
            connecting: Duration::ZERO,
        };
        for _ in 0..POSTERS {
            let socket = load.connect(served);
            load.posters.push(Poster {
                socket,
                number: None,
                request: Vec::with_capacity(1_024),
                answer: Vec::with_capacity(1_024),
            });
            let token = Token(FIRST_POSTER + load.posters.len() - 1);
            let poster = load.posters.last_mut().unwrap();
            let registry = load.poll.registry();
            registry
                .register(&mut poster.socket, token, Interest::READABLE)
                .unwrap();
        }
        load
    }

    fn connect(&self, served: &Served) -> TcpStream {
        let socket = std::net::TcpStream::connect(&served.address).unwrap();
        socket.set_nonblocking(true).unwrap();
        socket.set_nodelay(true).unwrap();
        TcpStream::from_std(socket)
    }

    /// Opens the streams, some hundred at a time, and waits until all are.
    pub fn open(&mut self, per_room: usize, served: &Served) {
        let before_kb = served.memory_kb();
        let began = Instant::now();
        self.streams_per_room = per_room;
        for at in 0..per_room * self.rooms.len() {
            let room = &self.rooms[at / per_room];
            let mut socket = self.connect(served);
            let request = format!(
                "GET /rooms/{room}/events HTTP/1.1\r\nhost: localhost\r\n{}accept: text/event-stream\r\n\r\n",
                served.authorization
            );
            socket.write_all(request.as_bytes()).unwrap();
            let (token, interest) = (Token(at), Interest::READABLE);
            self.poll
                .registry()
                .register(&mut socket, token, interest)
                .unwrap();
            self.streams.push(Stream {
                socket,
                next: self.first_head + 1,
                is_open: false,
                tail: [0; TAIL_MAX],
                tail_len: 0,
            });
            if at % 200 == 199 {
                self.wait_until(|load| {
                    load.streams
                        .iter()
                        .rev()
                        .take(200)
                        .all(|stream| stream.is_open)
                });
            }
        }
        self.wait_until(|load| load.streams.iter().all(|stream| stream.is_open));
        self.connecting = began.elapsed();
        std::thread::sleep(Duration::from_secs(2));
        self.idle_stream_kb = (served.memory_kb() - before_kb) / self.streams.len() as f64;
    }

    /// Posts, and waits until every stream has every message.
    pub fn post(mut self, count: usize, pace: Pace, served: &Served) -> Outcome {
        let cpu_before = served.cpu();
        let began = Instant::now();
        for number in 0..count {
            match pace {
                Pace::BackToBack => self.wait_until(|load| load.is_done()),
                Pace::Every(pause) => {
                    let due_at = began + pause * u32::try_from(number).unwrap();
                    self.poll_until(due_at, |_| false);
                }
            }
            let due_at = match pace {
                Pace::BackToBack => Instant::now(),
                Pace::Every(pause) => began + pause * u32::try_from(number).unwrap(),
            };
            self.posts.push(Post {
                due_at,
                received: 0,
                is_answered: false,
            });
            self.due.push_back(number);
            self.send_due();
        }
        self.wait_until(|load| load.is_done());
        let cpu = served.cpu() - cpu_before;
        let took = began.elapsed();
        assert_eq!(
            self.delivered,
            count * self.streams_per_room,
            "messages are missing"
        );
        Outcome {
            deliveries_per_second: self.delivered as f64 / took.as_secs_f64(),
            cpu_per_delivery_us: cpu.as_secs_f64() * 1e6 / self.delivered as f64,
            all: self.all,
            each: self.each,
            idle_stream_kb: self.idle_stream_kb,
            connecting: self.connecting,
        }
    }

    fn is_done(&self) -> bool {
        // Only what is new can be under way.
        let recent = self.posts.iter().rev().take(2_000);
        self.due.is_empty() && { recent }
            .all(|post| post.is_answered && post.received == self.streams_per_room)
    }

    fn send_due(&mut self) {
        while !self.due.is_empty() {
            let Some(poster) = self
                .posters
                .iter_mut()
                .find(|poster| poster.number.is_none())
            else {
                return;
            };
            let number = self.due.pop_front().unwrap();
            let room = &self.rooms[number % self.rooms.len()];
            poster.post(number, room, &self.authorization);
        }
    }

    fn wait_until(&mut self, is_so: impl Fn(&Self) -> bool) {
        let latest = Instant::now() + Duration::from_secs(60);
        self.poll_until(latest, &is_so);
        assert!(is_so(self), "it takes too long");
    }

    /// Takes what comes, until something is so or it is `latest`.
    fn poll_until(&mut self, latest: Instant, is_so: impl Fn(&Self) -> bool) {
        let mut events = std::mem::replace(&mut self.events, Events::with_capacity(1));
        loop {
            let now = Instant::now();
            if now >= latest || is_so(self) {
                break;
            }
            self.poll.poll(&mut events, Some(latest - now)).unwrap();
            for event in &events {
                match event.token().0.checked_sub(FIRST_POSTER) {
                    Some(poster) => self.take_answer(poster),
                    None => self.take_events(event.token().0),
                }
            }
        }
        self.events = events;
    }

    fn take_answer(&mut self, at: usize) {
        let poster = &mut self.posters[at];
        if let Some(number) = poster.take_answer(&mut self.buffer) {
            self.posts[number].is_answered = true;
            self.send_due();
        }
    }

    /// Reads all that a stream has, checks it and measures it.
    fn take_events(&mut self, at: usize) {
        let stream = &mut self.streams[at];
        loop {
            let tail_len = stream.tail_len;
            let start = TAIL_MAX - tail_len;
            self.buffer[start..TAIL_MAX].copy_from_slice(&stream.tail[..tail_len]);
            let read = match stream.socket.read(&mut self.buffer[TAIL_MAX..]) {
                Ok(0) => panic!("stream {at} has ended"),
                Ok(read) => read,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) => panic!("stream {at}: {error}"),
            };
            let now = Instant::now();
            let mut rest = &self.buffer[start..TAIL_MAX + read];
            while let Some(end) = memmem::find(rest, b"\n\n") {
                let block = &rest[..end];
                rest = &rest[end + 2..];
                // At the start of a line: a head has an `x-request-id`.
                let id = match block.starts_with(b"id: ") {
                    true => 4,
                    false => match memmem::find(block, b"\nid: ") {
                        Some(at) => at + 5,
                        None => continue,
                    },
                };
                let seq = digits(&block[id..]);
                assert_eq!(seq, stream.next, "stream {at} has another event next");
                stream.next += 1;
                let body = memmem::find(block, b"\"body\":\"").expect("a message has a body");
                let number = usize::try_from(digits(&block[body + 8..])).unwrap();
                let post = &mut self.posts[number];
                let took = now.saturating_duration_since(post.due_at).as_micros();
                let took = u64::try_from(took).unwrap().max(1);
                self.each.saturating_record(took);
                self.delivered += 1;
                post.received += 1;
                if post.received == self.streams_per_room {
                    self.all.saturating_record(took);
                }
            }
            if !stream.is_open {
                assert!(
                    rest.is_empty()
                        || rest.starts_with(b"HTTP/1.1 200")
                        || rest.len() < 12
                        || rest[0] == b'\r',
                    "stream {at} was refused"
                );
                stream.is_open = true;
            }
            assert!(rest.len() <= TAIL_MAX, "an event is too long for this");
            stream.tail[..rest.len()].copy_from_slice(rest);
            stream.tail_len = rest.len();
            if TAIL_MAX + read < self.buffer.len() {
                return;
            }
        }
    }
}

/// The number at the start of some text.
fn digits(text: &[u8]) -> u64 {
    let digits = text.iter().take_while(|byte| byte.is_ascii_digit());
    digits.fold(0, |number, digit| number * 10 + u64::from(digit - b'0'))
}

impl Poster {
    fn post(&mut self, number: usize, room: &str, authorization: &str) {
        self.request.clear();
        write!(
            self.request,
            "POST /rooms/{room}/messages HTTP/1.1\r\nhost: localhost\r\n{authorization}\
             accept: text/plain\r\ncontent-type: application/x-www-form-urlencoded\r\n\
             content-length: {}\r\n\r\nbody={number:010}{:x<2$}",
            BODY_LEN + 5,
            "",
            BODY_LEN - 10,
        )
        .unwrap();
        self.number = Some(number);
        self.answer.clear();
        // Shorter than the socket's buffer, which is empty.
        self.socket.write_all(&self.request).unwrap();
    }

    /// The number of the post that is answered now, if one is.
    fn take_answer(&mut self, buffer: &mut [u8]) -> Option<usize> {
        while let Ok(read) = self.socket.read(buffer) {
            assert!(read > 0, "the server hung up on a post");
            self.answer.extend_from_slice(&buffer[..read]);
        }
        let head = memmem::find(&self.answer, b"\r\n\r\n")?;
        let length = memmem::find(&self.answer[..head], b"content-length: ")?;
        let length = usize::try_from(digits(&self.answer[length + 16..])).unwrap();
        if self.answer.len() < head + 4 + length {
            return None;
        }
        let is_created = self.answer.starts_with(b"HTTP/1.1 201");
        assert!(is_created, "{}", String::from_utf8_lossy(&self.answer));
        self.number.take()
    }
}
