//! A burst of reactions to one message, and what it costs those who look on.

use std::io::{ErrorKind, Read, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use memchr::memmem;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

use crate::process::{Served, change_of, per_second_of};

const STREAMS: usize = 1_000;
const LASTS: Duration = Duration::from_secs(5);

/// In percent-encoding: each connection puts one of them on and takes it off.
const EMOJI: [&str; 8] = [
    "%F0%9F%91%8D",
    "%F0%9F%8E%89",
    "%F0%9F%98%82",
    "%F0%9F%98%AE",
    "%F0%9F%98%A2",
    "%F0%9F%8D%B5",
    "%F0%9F%9A%80",
    "%F0%9F%91%80",
];

/// Measures both kinds of stream, and prints a row for each.
pub fn measure() {
    println!(
        "| a burst of reactions, {STREAMS} streams | reactions/s | sent to a stream a second | bytes | CPU a reaction and stream |"
    );
    println!("|---|---|---|---|---|");
    for (name, format, mark) in [
        ("of rows, as pages have", "html", &b"<hx-partial"[..]),
        ("of JSON", "json", &b"event: reacted"[..]),
    ] {
        let mut served = Served::parlor();
        served.make(&["tea".to_owned()]);
        served.request("POST", "/rooms/tea/messages", "body=hello");
        let mut readers = Readers::open(&served, format);
        let is_over = AtomicBool::new(false);
        let before = served.cpu();
        let (rate, counted) = std::thread::scope(|scope| {
            let (is_over, readers) = (&is_over, &mut readers);
            let reading = scope.spawn(move || readers.count_until(mark, is_over));
            let react = |connection: usize, number: usize| {
                let form = format!("emoji={}&on={}", EMOJI[connection], (number + 1) % 2);
                change_of(&served, "tea", 2, "/reactions", &form)
            };
            let rate = per_second_of(&served, EMOJI.len(), LASTS, react);
            // The last come within a second.
            std::thread::sleep(Duration::from_millis(1_500));
            is_over.store(true, Ordering::Relaxed);
            (rate, reading.join().unwrap())
        });
        let cpu = (served.cpu() - before).as_secs_f64() * 1e6;
        let (marks, bytes) = counted;
        let each = |count: usize| count as f64 / STREAMS as f64 / LASTS.as_secs_f64();
        println!(
            "| {name} | {rate:.0} | {:.1} | {:.0} | {:.3} µs |",
            each(marks),
            each(bytes),
            cpu / (rate * LASTS.as_secs_f64() * STREAMS as f64)
        );
    }
}

/// The readers of streams, on one thread.
struct Readers {
    poll: Poll,
    /// Each with the end of what was read of it, in which a mark may begin.
    streams: Vec<(TcpStream, Vec<u8>)>,
}

impl Readers {
    fn open(served: &Served, format: &str) -> Self {
        let poll = Poll::new().unwrap();
        let open = |at: usize| {
            let mut socket = std::net::TcpStream::connect(&served.address).unwrap();
            write!(
                socket,
                "GET /rooms/tea/events?format={format} HTTP/1.1\r\nhost: localhost\r\n{}\r\n",
                served.authorization
            )
            .unwrap();
            socket.set_nonblocking(true).unwrap();
            let mut socket = TcpStream::from_std(socket);
            let registry = poll.registry();
            registry
                .register(&mut socket, Token(at), Interest::READABLE)
                .unwrap();
            (socket, Vec::new())
        };
        let streams = (0..STREAMS).map(open).collect();
        std::thread::sleep(Duration::from_secs(2));
        Self { poll, streams }
    }

    /// How often all of them read a mark, and how many bytes.
    fn count_until(&mut self, mark: &[u8], is_over: &AtomicBool) -> (usize, usize) {
        let mut events = Events::with_capacity(4_096);
        let (mut marks, mut bytes) = (0, 0);
        let mut buffer = vec![0; 256 * 1024];
        while !is_over.load(Ordering::Relaxed) {
            let wait = Some(Duration::from_millis(100));
            self.poll.poll(&mut events, wait).unwrap();
            for event in &events {
                let (socket, rest) = &mut self.streams[event.token().0];
                loop {
                    buffer[..rest.len()].copy_from_slice(rest);
                    let read = match socket.read(&mut buffer[rest.len()..]) {
                        Ok(0) => panic!("a stream has ended"),
                        Ok(read) => read,
                        Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                        Err(error) => panic!("{error}"),
                    };
                    bytes += read;
                    let all = &buffer[..rest.len() + read];
                    marks += memmem::find_iter(all, mark).count();
                    // Shorter than the mark, so that none counts twice.
                    *rest = all[all.len().saturating_sub(mark.len() - 1)..].to_vec();
                }
            }
        }
        (marks, bytes)
    }
}
