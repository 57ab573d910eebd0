//! How fast pages are made: `cargo bench --bench pages`. Sixteen connections that are kept ask for
//! a page again and again; then the same is asked of a bare hyper server that sends the same bytes.
//! The ratio counts: the load shares the machine with both.

#![expect(
    clippy::unwrap_used,
    reason = "a bench that cannot run should say so and stop"
)]

#[path = "support/process.rs"]
mod process;

use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;

use process::{Client, Served, page_request, per_second};

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
    react_to_all(&mut parlor);
    // The texts that take longest to render, as far as anybody has found: as much as a page holds.
    let hostile = [("ticks", "`"), ("ends", "%EF%BC%88%E2%80%94")];
    parlor.make(&hostile.map(|(room, _)| room.to_owned()));
    for (room, piece) in hostile {
        let times = 4_000 / (piece.len().div_ceil(9));
        let text = format!("body=x{}x", piece.repeat(times - 2));
        for _ in 0..140 {
            parlor.request("POST", &format!("/rooms/{room}/messages"), &text);
        }
    }
    println!("| page | bytes | Parlor | bare hyper | |");
    println!("|---|---|---|---|---|");
    // Of the large ones fewer at once: one user may have 8 MiB of answers under way.
    let few = CONNECTIONS / 2;
    for (name, path, connections) in [
        ("a room of 50 messages", "/rooms/room-0", CONNECTIONS),
        (
            "the same with 10 reactions each",
            "/rooms/reacted",
            CONNECTIONS,
        ),
        ("200 rooms", "/rooms", CONNECTIONS),
        (
            "a page of backticks",
            "/rooms/ticks/messages?limit=200",
            few,
        ),
        (
            "a page of brackets and dashes",
            "/rooms/ends/messages?limit=200",
            few,
        ),
    ] {
        let request = page_request(&parlor, path);
        let mut client = Client::new(&parlor);
        client.ask(&request);
        let page = client.body;
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), &page).unwrap();
        let bare = Served::bare("bare", &[file.path().to_str().unwrap()]);
        // In turns, so that what else the machine does meets both.
        let rates = |served: &Served| per_second(served, &request, connections, MEASURED_FOR);
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

/// A room of 50 messages, each with ten reactions.
fn react_to_all(parlor: &mut Served) {
    let emoji = ["👍", "🎉", "😂", "😮", "😢", "🍵", "🚀", "👀", "🙏", "🔥"];
    parlor.make(&["reacted".to_owned()]);
    for number in 0..50 {
        let text = format!("body=message+{number},+about+as+long+as+what+people+usually+write");
        parlor.request("POST", "/rooms/reacted/messages", &text);
        // After who joined, and ten reactions to each message before.
        let path = format!("/rooms/reacted/messages/{}/reactions", 2 + 11 * number);
        for emoji in emoji {
            let answer = parlor.request("POST", &path, &format!("emoji={emoji}"));
            assert!(answer.starts_with("HTTP/1.1 204"), "{answer}");
        }
    }
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
