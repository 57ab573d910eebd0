//! How fast pages are made: `cargo bench --bench pages`. Sixteen connections that are kept ask for
//! a page again and again; then the same is asked of a bare hyper server that sends the same bytes.
//! What counts is the ratio: the load shares the machine with both.

#![expect(
    clippy::unwrap_used,
    reason = "a bench that cannot run should say so and stop"
)]

#[path = "support/process.rs"]
mod process;

use std::convert::Infallible;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::Full;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;

use process::Served;

const CONNECTIONS: usize = 16;
const MEASURED_FOR: Duration = Duration::from_secs(5);
const ROOMS: usize = 200;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let Some("bare") = arguments.first().map(String::as_str) {
        return serve_bare(&arguments[1]);
    }
    let mut parlor = Served::parlor();
    let rooms: Vec<String> = (0..ROOMS).map(|n| format!("room-{n}")).collect();
    parlor.make(&rooms);
    for room in &rooms {
        parlor.request(
            "POST",
            &format!("/rooms/{room}/messages"),
            "body=the+last+that+was+said",
        );
    }
    for number in 0..60 {
        let text = format!("body=message+{number},+about+as+long+as+what+people+usually+write");
        parlor.request("POST", "/rooms/room-0/messages", &text);
    }
    println!("| page | bytes | Parlor | bare hyper | |");
    println!("|---|---|---|---|---|");
    for (name, path) in [
        ("a room of 50 messages", "/rooms/room-0"),
        ("200 rooms", "/rooms"),
    ] {
        let page = fetch(&parlor, path);
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), &page).unwrap();
        let bare = Served::bare("bare", &[file.path().to_str().unwrap()]);
        // In turns, so that what else the machine does meets both.
        let rates = |served: &Served| per_second(served, path);
        let (first, floor) = (rates(&parlor), rates(&bare));
        let (second, floor_again) = (rates(&parlor), rates(&bare));
        let (ours, floor) = ((first + second) / 2.0, (floor + floor_again) / 2.0);
        println!(
            "| {name} | {} | {ours:.0}/s | {floor:.0}/s | {:.2} × |",
            page.len(),
            ours / floor
        );
    }
}

fn request(served: &Served, path: &str) -> Vec<u8> {
    let authorization = &served.authorization;
    format!("GET {path} HTTP/1.1\r\nhost: x\r\naccept: text/html\r\n{authorization}\r\n")
        .into_bytes()
}

/// The body of a page.
fn fetch(served: &Served, path: &str) -> Vec<u8> {
    let mut connection = BufReader::new(TcpStream::connect(&served.address).unwrap());
    connection
        .get_mut()
        .write_all(&request(served, path))
        .unwrap();
    let mut body = Vec::new();
    read_answer(&mut connection, &mut body);
    body
}

fn per_second(served: &Served, path: &str) -> f64 {
    let request = request(served, path);
    let until = Instant::now() + MEASURED_FOR;
    let answered: usize = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CONNECTIONS)
            .map(|_| {
                scope.spawn(|| {
                    let mut connection = BufReader::with_capacity(
                        128 * 1024,
                        TcpStream::connect(&served.address).unwrap(),
                    );
                    let (mut answered, mut body) = (0, Vec::new());
                    while Instant::now() < until {
                        connection.get_mut().write_all(&request).unwrap();
                        read_answer(&mut connection, &mut body);
                        answered += 1;
                    }
                    answered
                })
            })
            .collect();
        clients
            .into_iter()
            .map(|client| client.join().unwrap())
            .sum()
    });
    answered as f64 / MEASURED_FOR.as_secs_f64()
}

fn read_answer(connection: &mut BufReader<TcpStream>, body: &mut Vec<u8>) {
    let (mut line, mut length) = (String::new(), 0);
    connection.read_line(&mut line).unwrap();
    assert!(line.starts_with("HTTP/1.1 200"), "{line}");
    while !line.trim_end().is_empty() {
        line.clear();
        connection.read_line(&mut line).unwrap();
        if let Some(value) = line.strip_prefix("content-length: ") {
            length = value.trim_end().parse().unwrap();
        }
    }
    assert!(length > 0, "an answer without a length");
    body.resize(length, 0);
    connection.read_exact(body).unwrap();
}

/// Hyper and nothing else.
fn serve_bare(file: &str) {
    let page = Bytes::from(std::fs::read(file).unwrap());
    let address = std::env::var("BIND_ADDR").unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind(address).await.unwrap();
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            socket.set_nodelay(true).unwrap();
            let page = page.clone();
            tokio::spawn(async move {
                let answer = service_fn(|_: Request<hyper::body::Incoming>| {
                    let answer = Response::new(Full::new(page.clone()));
                    async { Ok::<_, Infallible>(answer) }
                });
                let _ = http1::Builder::new()
                    .serve_connection(TokioIo::new(socket), answer)
                    .await;
            });
        }
    });
}
