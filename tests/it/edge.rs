//! The edge of the server: connections that idle, trickle, break off half-way or come in thousands.

use std::time::{Duration, Instant};

use reqwest::header::{ACCEPT, HeaderMap, HeaderValue};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{sleep, timeout};

use crate::support::{Backend, Person, Server, assert_contains, eventually, free_port};

/// Reads to the end, or for so long.
async fn read_for(socket: &mut TcpStream, longest: Duration) -> String {
    let mut read = Vec::new();
    let _ = timeout(longest, socket.read_to_end(&mut read)).await;
    String::from_utf8_lossy(&read).into_owned()
}

fn post(person: &Person, address: &str, body: &str) -> String {
    format!(
        "POST /rooms/tea/messages HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {}\r\n\
         content-type: text/plain\r\ncontent-length: {}\r\n\r\n{body}",
        person.token,
        body.len()
    )
}

async fn at_tea() -> (Server, Person) {
    let server = Server::start(Backend::Sqlite).await;
    let ana = server.person("ana").await;
    ana.enters("tea").await;
    (server, ana)
}

/// As proxies keep them: a request on a connection that has idled for longer than a head may take.
#[tokio::test(flavor = "multi_thread")]
async fn an_idle_connection_takes_another_request() {
    let (server, ana) = at_tea().await;
    let mut socket = TcpStream::connect(server.address()).await.unwrap();
    for _ in 0..2 {
        let request = post(&ana, server.address(), "hello");
        socket.write_all(request.as_bytes()).await.unwrap();
        let mut answer = [0; 16];
        socket.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"HTTP/1.1 303 See");
        let mut rest = vec![0; 4_096];
        let _ = socket.read(&mut rest).await.unwrap();
        sleep(Duration::from_secs(17)).await;
    }
    // A head that begins then has as long as any.
    let began = Instant::now();
    socket
        .write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\n")
        .await
        .unwrap();
    let mut rest = Vec::new();
    let cut = timeout(Duration::from_secs(20), socket.read_to_end(&mut rest)).await;
    assert!(cut.is_ok(), "a head that does not go on is cut");
    assert!(began.elapsed() > Duration::from_secs(12));
    assert_eq!(ana.log("tea").await.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_has_one_host() {
    let (server, _) = at_tea().await;
    for (request, status) in [
        ("GET /login HTTP/1.1\r\n\r\n", "400"),
        (
            "GET /login HTTP/1.1\r\nhost: localhost\r\nhost: localhost\r\n\r\n",
            "400",
        ),
        (
            "GET /login HTTP/1.1\r\nhost: localhost\r\nhost: evil.example\r\n\r\n",
            "400",
        ),
        ("GET http://localhost/login HTTP/1.1\r\n\r\n", "400"),
        ("GET /login HTTP/1.1\r\nhost: localhost\r\n\r\n", "200"),
        (
            "GET http://evil.example/login HTTP/1.1\r\nhost: localhost\r\n\r\n",
            "421",
        ),
        ("GET /login HTTP/1.0\r\n\r\n", "200"),
    ] {
        let mut socket = TcpStream::connect(server.address()).await.unwrap();
        socket.write_all(request.as_bytes()).await.unwrap();
        let answer = read_for(&mut socket, Duration::from_millis(700)).await;
        let said = answer.split_whitespace().nth(1);
        assert_eq!(said, Some(status), "{request}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_nobody_wants_costs_its_connection_and_not_its_answer() {
    let (server, ana) = at_tea().await;
    for length in [70_000, 2_000_000] {
        let mut socket = TcpStream::connect(server.address()).await.unwrap();
        let body = "x".repeat(length);
        // The answer comes before all of it is sent, and is read after that.
        socket
            .write_all(post(&ana, server.address(), &body).as_bytes())
            .await
            .unwrap();
        let answer = read_for(&mut socket, Duration::from_secs(8)).await;
        assert!(
            answer.starts_with("HTTP/1.1 413"),
            "{length}: {answer:.200}"
        );
        // Of the shorter one nothing is left to be read.
        let closes = answer.to_lowercase().contains("connection: close");
        assert_eq!(closes, length == 2_000_000, "{length}");
    }
    // A body that was read whole leaves its connection open.
    let mut socket = TcpStream::connect(server.address()).await.unwrap();
    for _ in 0..2 {
        socket
            .write_all(post(&ana, server.address(), "small").as_bytes())
            .await
            .unwrap();
        let answer = read_for(&mut socket, Duration::from_millis(500)).await;
        assert!(answer.starts_with("HTTP/1.1 303"), "{answer:.200}");
    }
}

/// As `nc -N` does: it follows on.
#[tokio::test(flavor = "multi_thread")]
async fn a_subscriber_that_asks_no_more_follows_on() {
    let (server, ana) = at_tea().await;
    let mut stream = TcpStream::connect(server.address()).await.unwrap();
    let request = format!(
        "GET /rooms/tea/events?after=1 HTTP/1.1\r\nhost: localhost\r\naccept: text/plain\r\n\
         authorization: Bearer {}\r\n\r\n",
        ana.token
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    sleep(Duration::from_millis(300)).await;
    stream.shutdown().await.unwrap();
    sleep(Duration::from_millis(300)).await;
    ana.says("tea", "still listening").await;
    let read = read_for(&mut stream, Duration::from_secs(2)).await;
    assert_contains(&read, "still listening");
}

/// One that has gone is not taken for one that only listens: not even until the next heartbeat.
#[tokio::test(flavor = "multi_thread")]
async fn a_subscriber_that_has_gone_is_noticed_at_once() {
    let metrics = format!("127.0.0.1:{}", free_port());
    let server = Server::start_with(Backend::Sqlite, &[("METRICS_ADDR", &*metrics)]).await;
    let ana = server.person("ana").await;
    ana.enters("tea").await;
    let streams = async || {
        let answer = reqwest::get(format!("http://{metrics}/metrics"))
            .await
            .unwrap();
        let text = answer.text().await.unwrap();
        let line = text
            .lines()
            .find(|line| line.starts_with("parlor_streams "));
        line.unwrap()
            .rsplit(' ')
            .next()
            .unwrap()
            .parse::<u32>()
            .unwrap()
    };
    for _ in 0..5 {
        let mut subscriber = ana.listens("tea", 0).await;
        subscriber.numbers(1).await;
        assert_eq!(streams().await, 1);
        drop(subscriber);
        let is_gone = async || streams().await == 0;
        eventually("it is gone", Duration::from_secs(2), is_gone).await;
    }
}

/// More half heads from one address than its part of the places.
#[tokio::test(flavor = "multi_thread")]
async fn half_heads_of_one_network_keep_nobody_waiting() {
    let (server, _) = at_tea().await;
    let mut half = Vec::new();
    let places = std::fs::read_to_string(format!("/proc/{}/limits", server.pid())).unwrap();
    let files = places
        .lines()
        .find(|line| line.starts_with("Max open files"))
        .unwrap();
    let files: usize = files.split_whitespace().nth(3).unwrap().parse().unwrap();
    let part = (files - 256) / 4;
    for number in 0..part + 50 {
        let mut socket = TcpStream::connect(server.address()).await.unwrap();
        socket
            .write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\n")
            .await
            .unwrap();
        half.push(socket);
        if number % 500 == 0 {
            sleep(Duration::from_millis(1)).await;
        }
    }
    for from in ["127.0.0.1:0", "127.0.0.2:0"] {
        let began = Instant::now();
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(from.parse().unwrap()).unwrap();
        let mut socket = socket
            .connect(server.address().parse().unwrap())
            .await
            .unwrap();
        socket
            .write_all(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n")
            .await
            .unwrap();
        let answer = read_for(&mut socket, Duration::from_secs(1)).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "from {from}: {answer}");
        assert!(began.elapsed() < Duration::from_secs(2));
    }
    // The oldest had to make place.
    let mut first = [0; 1];
    let ended = timeout(Duration::from_secs(2), half[0].read(&mut first)).await;
    assert!(matches!(ended, Ok(Ok(0) | Err(_))), "{ended:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_trickles_in_is_cut() {
    let (server, ana) = at_tea().await;
    let mut socket = TcpStream::connect(server.address()).await.unwrap();
    let whole = post(&ana, server.address(), &"x".repeat(60_000));
    socket.write_all(&whole.as_bytes()[..1_000]).await.unwrap();
    let began = Instant::now();
    let mut answer = Vec::new();
    loop {
        tokio::select! {
            read = socket.read_buf(&mut answer) => {
                if !matches!(read, Ok(1..)) {
                    break;
                }
            }
            () = sleep(Duration::from_secs(1)) => {
                if socket.write_all(b"x").await.is_err() || began.elapsed() > Duration::from_secs(30) {
                    break;
                }
            }
        }
    }
    let answer = String::from_utf8_lossy(&answer);
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer:.200}");
    assert!(
        began.elapsed() < Duration::from_secs(25),
        "{:?}",
        began.elapsed()
    );
}

/// Libraries make an empty message of a `retry:` that stands alone.
#[tokio::test(flavor = "multi_thread")]
async fn every_block_of_a_stream_has_a_name_and_data() {
    let (_server, ana) = at_tea().await;
    let mut stream = ana.listens("tea", 0).await;
    ana.says("tea", "the end").await;
    stream.numbers(2).await;
    for block in stream
        .raw
        .split_terminator("\n\n")
        .filter(|block| !block.is_empty())
    {
        let is_comment = block.lines().all(|line| line.starts_with(':'));
        let has = |field: &str| block.lines().any(|line| line.starts_with(field));
        assert!(is_comment || (has("event: ") && has("data: ")), "{block:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_carry_ids_to_resume_by_and_a_heartbeat() {
    let (_server, ana) = at_tea().await;
    ana.says("tea", "one").await;
    let text = || HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static("text/plain"))]);
    let mut lines = ana
        .listens_at("/rooms/tea/events?after=0&ids=1", text())
        .await;
    let said = lines.text_until("one\n").await;
    let last = said.lines().last().unwrap();
    let (id, line) = last.split_once(' ').unwrap();
    assert_eq!(id, "2");
    assert!(line.ends_with(" ana: one"), "{line}");
    ana.says("tea", "two").await;
    let mut resumed = ana
        .listens_at(&format!("/rooms/tea/events?after={id}&ids=1"), text())
        .await;
    let more = resumed.text_until("two\n").await;
    assert!(more.starts_with("3 "), "{more}");
    // An empty line, within the time that proxies wait.
    let heartbeat = resumed.text_until("\n\n");
    assert!(timeout(Duration::from_secs(20), heartbeat).await.is_ok());
}
