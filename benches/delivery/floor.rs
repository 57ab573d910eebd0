//! The floor: what the kernel itself costs. One thread, epoll, one `send` per delivery; no storage,
//! no accounts, no limits, no heartbeat.

use std::collections::HashMap;
use std::io::{ErrorKind, Read, Write};

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};

const LISTENER: Token = Token(usize::MAX);

struct Connection {
    socket: TcpStream,
    request: Vec<u8>,
    /// Bytes that the kernel did not take at once.
    unsent: Vec<u8>,
}

/// Serves for ever.
pub fn serve(address: &str) {
    let mut poll = Poll::new().unwrap();
    let mut events = Events::with_capacity(1_024);
    let mut listener = TcpListener::bind(address.parse().unwrap()).unwrap();
    let registry = poll.registry().try_clone().unwrap();
    registry
        .register(&mut listener, LISTENER, Interest::READABLE)
        .unwrap();
    let mut connections: Vec<Connection> = Vec::new();
    let mut rooms: HashMap<String, (u64, Vec<usize>)> = HashMap::new();
    let mut buffer = [0; 16 * 1024];
    loop {
        poll.poll(&mut events, None).unwrap();
        for event in &events {
            if event.token() == LISTENER {
                while let Ok((mut socket, _)) = listener.accept() {
                    socket.set_nodelay(true).unwrap();
                    let token = Token(connections.len());
                    let interest = Interest::READABLE | Interest::WRITABLE;
                    registry.register(&mut socket, token, interest).unwrap();
                    connections.push(Connection {
                        socket,
                        request: Vec::new(),
                        unsent: Vec::new(),
                    });
                }
                continue;
            }
            let at = event.token().0;
            connections[at].flush();
            while let Ok(read) = connections[at].socket.read(&mut buffer) {
                if read == 0 {
                    break;
                }
                connections[at].request.extend_from_slice(&buffer[..read]);
            }
            let request = std::mem::take(&mut connections[at].request);
            let Some(asked) = Asked::parse(&request) else {
                connections[at].request = request;
                continue;
            };
            let (head, streams) = rooms.entry(asked.room.to_owned()).or_default();
            match asked.body {
                None => {
                    streams.push(at);
                    connections[at].send(
                        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\
                          cache-control: no-store, no-transform\r\ntransfer-encoding: chunked\r\n\r\n",
                    );
                }
                Some(body) => {
                    *head += 1;
                    let bytes = event_bytes(asked.room, *head, body);
                    for stream in streams.iter() {
                        connections[*stream].send(&bytes);
                    }
                    connections[at].send(b"HTTP/1.1 201 Created\r\ncontent-length: 0\r\n\r\n");
                }
            }
        }
    }
}

/// The bytes of a message as Parlor sends them.
fn event_bytes(room: &str, seq: u64, body: &str) -> Vec<u8> {
    let event = format!(
        "id: {seq}\nevent: message\ndata: {{\"room\":\"{room}\",\"seq\":{seq},\"type\":\"message\",\
         \"at\":\"2026-11-22T09:00:00.123Z\",\"author\":{{\"id\":\"01a203b9-076c-77b4-9f69-1dfb41a1d0f5\",\
         \"username\":\"ana\"}},\"body\":\"{body}\"}}\n\n"
    );
    format!("{:X}\r\n{event}\r\n", event.len()).into_bytes()
}

/// A request for a stream, or, with a body, a post.
struct Asked<'a> {
    room: &'a str,
    body: Option<&'a str>,
}

impl<'a> Asked<'a> {
    /// `None` until all of it is there.
    fn parse(request: &'a [u8]) -> Option<Self> {
        let request = std::str::from_utf8(request).unwrap();
        let (head, body) = request.split_once("\r\n\r\n")?;
        let room = head
            .strip_prefix("GET /rooms/")
            .or(head.strip_prefix("POST /rooms/"))?;
        let room = room.split('/').next()?;
        if head.starts_with("GET") {
            return Some(Self { room, body: None });
        }
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "))?;
        let is_whole = body.len() >= length.parse().unwrap();
        is_whole.then(|| Self {
            room,
            body: body.strip_prefix("body="),
        })
    }
}

impl Connection {
    fn send(&mut self, bytes: &[u8]) {
        if !self.unsent.is_empty() {
            return self.unsent.extend_from_slice(bytes);
        }
        match self.socket.write(bytes) {
            Ok(sent) => self.unsent.extend_from_slice(&bytes[sent..]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                self.unsent.extend_from_slice(bytes);
            }
            Err(_) => {}
        }
    }

    fn flush(&mut self) {
        while !self.unsent.is_empty() {
            match self.socket.write(&self.unsent) {
                Ok(sent) => drop(self.unsent.drain(..sent)),
                Err(_) => return,
            }
        }
    }
}
