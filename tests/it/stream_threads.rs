//! Streams are carried on without HTTP's help once they are open: what that must not break. The
//! other tests of streams run both ways, this one and, with `STREAM_THREADS=0`, the ordinary one.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use crate::support::{Backend, Person, Server, assert_contains, eventually};

async fn at_tea() -> (Server, Person) {
    let server = Server::start_with(Backend::Sqlite, &[("STREAMS_PER_USER", "1000")]).await;
    let ana = server.person("ana").await;
    ana.enters("tea").await;
    (server, ana)
}

fn request(ana: &Person, path: &str, version: &str) -> String {
    let token = &ana.token;
    format!("GET {path} HTTP/{version}\r\nhost: localhost\r\nauthorization: Bearer {token}\r\n\r\n")
}

/// Reads until this has come, and gives all that has.
async fn read_until(socket: &mut TcpStream, part: &str) -> String {
    let mut read = Vec::new();
    let reading = async {
        while !String::from_utf8_lossy(&read).contains(part) {
            let more = socket.read_buf(&mut read).await.unwrap();
            assert!(more > 0, "it has ended");
        }
    };
    let all_in_time = timeout(Duration::from_secs(20), reading).await.is_ok();
    let read = String::from_utf8_lossy(&read).into_owned();
    assert!(all_in_time, "no {part:?} in {read:?}");
    read
}

/// The answer before a stream's, to a client that asks for both at once and reads slowly.
#[tokio::test(flavor = "multi_thread")]
async fn the_answer_before_it_comes_whole() {
    let (server, ana) = at_tea().await;
    let body = "x".repeat(4_000);
    for _ in 0..200 {
        ana.says("tea", &body).await;
    }
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    // Little is under way at a time, so the page waits in the server.
    socket.set_recv_buffer_size(4_096).unwrap();
    let address = server.address().parse().unwrap();
    let mut socket = socket.connect(address).await.unwrap();
    let page = "/rooms/tea/messages?after=1&limit=200";
    let both = request(&ana, page, "1.1") + &request(&ana, "/rooms/tea/events?after=200", "1.1");
    socket.write_all(both.as_bytes()).await.unwrap();
    sleep(Duration::from_millis(500)).await;
    ana.says("tea", "the last").await;
    let read = read_until(&mut socket, "\"the last\"").await;
    let (head, rest) = read.split_once("\r\n\r\n").unwrap();
    let length = head.split("content-length: ").nth(1).unwrap();
    let length: usize = length.split("\r\n").next().unwrap().parse().unwrap();
    assert!(length > 500_000, "{length}");
    assert!(rest[length..].starts_with("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"));
    let numbers: Vec<&str> = { rest[length..].lines() }
        .filter_map(|line| line.strip_prefix("id: "))
        .collect();
    assert_eq!(numbers, ["201", "202"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_client_gets_no_chunks() {
    let (server, ana) = at_tea().await;
    let mut socket = TcpStream::connect(server.address()).await.unwrap();
    let old = request(&ana, "/rooms/tea/events", "1.0").replace(
        "host: localhost\r\n",
        "host: localhost\r\naccept: application/x-ndjson\r\n",
    );
    socket.write_all(old.as_bytes()).await.unwrap();
    read_until(&mut socket, "\r\n\r\n").await;
    ana.says("tea", "hello").await;
    let line = read_until(&mut socket, "\n").await;
    assert!(line.starts_with('{') && line.ends_with("}\n"), "{line}");
}

/// Invariant: whoever stays has every event at once, whoever leaves while it is being sent.
#[tokio::test(flavor = "multi_thread")]
async fn who_stays_misses_nothing_by_who_leaves() {
    const POSTS: usize = 150;
    const STAYING: usize = 600;
    let (server, ana) = at_tea().await;
    let received = Arc::new(AtomicUsize::new(0));
    let (mut staying, mut leaving) = (JoinSet::new(), Vec::new());
    for number in 0..STAYING {
        // Before them and between them, so that who stays is moved up when they leave.
        if number < POSTS {
            leaving.push(ana.listens("tea", 1).await);
        }
        let (mut stream, received) = (ana.listens("tea", 1).await, Arc::clone(&received));
        staying.spawn(async move {
            for post in 0..POSTS as u64 {
                let event = stream.next_event().await.unwrap();
                assert_eq!(event.seq(), post + 2, "{number}");
                received.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    for (post, leaver) in leaving.into_iter().enumerate() {
        let (poster, text) = (ana.clone(), format!("number {post}"));
        let posting = tokio::spawn(async move { poster.says("tea", &text).await });
        sleep(Duration::from_millis(post as u64 % 10)).await;
        drop(leaver);
        posting.await.unwrap();
        let all = async || received.load(Ordering::Relaxed) == STAYING * (post + 1);
        eventually("all have it", Duration::from_secs(5), all).await;
    }
    staying.join_all().await;
    drop(server);
}

/// Invariant: a reader that falls megabytes behind has the log once it reads.
#[tokio::test(flavor = "multi_thread")]
async fn who_reads_later_reads_all() {
    const POSTS: u64 = 2_000;
    let (server, ana) = at_tea().await;
    let mut late = ana.listens("tea", 1).await;
    ana.says_often("tea", &"x".repeat(4_000), POSTS as usize)
        .await;
    let numbers = late.numbers(POSTS as usize).await;
    assert_eq!(numbers, (2..POSTS + 2).collect::<Vec<_>>());
    drop(server);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_takes_nothing_is_dropped_after_half_a_minute() {
    let (server, ana) = at_tea().await;
    // Few bytes fill it, so it is full long before half a minute is over.
    let stuck = TcpSocket::new_v4().unwrap();
    stuck.set_recv_buffer_size(4 * 1024).unwrap();
    let mut stuck = stuck
        .connect(server.address().parse().unwrap())
        .await
        .unwrap();
    let stream = request(&ana, "/rooms/tea/events?after=1", "1.1");
    stuck.write_all(stream.as_bytes()).await.unwrap();
    let began = Instant::now();
    let body = "x".repeat(4_000);
    for _ in 0..1_000 {
        ana.says("tea", &body).await;
    }
    let port = stuck.local_addr().unwrap().port();
    // As the kernel of the server's side sees it.
    let is_open = || {
        let sockets = std::process::Command::new("ss")
            .args(["-Htn", "state", "established", "dport"])
            .arg(format!("= :{port}"))
            .output()
            .expect("ss, from iproute2");
        !sockets.stdout.is_empty()
    };
    assert!(is_open(), "it may still read");
    let is_dropped = async || !is_open();
    eventually("it is dropped", Duration::from_secs(45), is_dropped).await;
    assert!(began.elapsed() > Duration::from_secs(29));
    drop(server);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_subscriber_sends_changes_nothing() {
    let (server, ana) = at_tea().await;
    let mut socket = TcpStream::connect(server.address()).await.unwrap();
    let stream = request(&ana, "/rooms/tea/events", "1.1");
    socket.write_all(stream.as_bytes()).await.unwrap();
    read_until(&mut socket, "retry: 2000").await;
    let (mut reading, mut writing) = socket.into_split();
    let flood =
        tokio::spawn(async move { while writing.write_all(&[b'x'; 16 * 1024]).await.is_ok() {} });
    ana.says("tea", "hello").await;
    let mut read = Vec::new();
    while !String::from_utf8_lossy(&read).contains("hello") {
        let more = timeout(Duration::from_secs(10), reading.read_buf(&mut read)).await;
        assert!(more.unwrap().unwrap() > 0);
    }
    let read = String::from_utf8_lossy(&read);
    assert_contains(&read, "event: message\n");
    flood.abort();
}
