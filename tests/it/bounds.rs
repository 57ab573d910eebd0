//! The cost of one member: time and memory are bounded by the request, and the others are served
//! meanwhile.

use std::sync::Mutex;
use std::time::Duration;

use reqwest::header::ACCEPT;
use reqwest::{Method, StatusCode};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::support::{Backend, Person, Server, eventually};

/// Processor time that the server has used so far.
fn processor_time(server: &Server) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", server.pid())).unwrap();
    // After the name, which may hold anything, the 12th and 13th are ticks of a hundredth of a second.
    let fields: Vec<&str> = stat
        .rsplit(')')
        .next()
        .unwrap()
        .split_whitespace()
        .collect();
    let ticks: u64 = fields[11..13]
        .iter()
        .map(|ticks| ticks.parse::<u64>().unwrap())
        .sum();
    Duration::from_millis(10 * ticks)
}

async fn says_hostile(ana: &Person, room: &str, body: &str, times: usize) {
    for _ in 0..times {
        let answer = ana.tries_to_say(room, body, None).await.unwrap();
        assert_eq!(answer.status(), StatusCode::CREATED);
    }
}

/// The bounds are those of a server that is not optimised; what grew with the square of a text would
/// still be many times beyond them.
#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_hostile_texts_costs_little() {
    let server = Server::start(Backend::Sqlite).await;
    let ana = server.person("ana").await;
    for (room, piece) in [
        ("ticks", "`"),
        ("mixed", "`*_~[(<http://"),
        ("fences", "```\n"),
    ] {
        ana.enters(room).await;
        let body: String = piece.chars().cycle().take(4_000).collect();
        let body = format!("x{}x", &body[..3_990]);
        says_hostile(&ana, room, &body, 131).await;
        let before = processor_time(&server);
        let pages = 10;
        for _ in 0..pages {
            let page = ana
                .get_as("text/html", &format!("/rooms/{room}/messages?limit=200"))
                .await;
            assert_eq!(page.status(), StatusCode::OK);
            page.bytes().await.unwrap();
        }
        let each = (processor_time(&server) - before) / pages;
        assert!(each < Duration::from_millis(250), "{room}: {each:?} a page");
    }
}

/// Asks for a page and reads none of it.
async fn asks_and_reads_nothing(person: &Person, address: &str, path: &str) -> TcpStream {
    let mut socket = TcpStream::connect(address).await.unwrap();
    let request = format!(
        "GET {path} HTTP/1.1\r\nhost: {address}\r\naccept: application/json\r\n\
         authorization: Bearer {}\r\n\r\n",
        person.token
    );
    socket.write_all(request.as_bytes()).await.unwrap();
    socket
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_that_nobody_reads_take_little_memory() {
    let server = Server::start(Backend::Sqlite).await;
    let (ana, ben) = (server.person("ana").await, server.person("ben").await);
    for person in [&ana, &ben] {
        person.enters("tea").await;
    }
    // JSON makes six bytes of each.
    says_hostile(&ana, "tea", &format!("{}x", "\u{1}".repeat(3_999)), 60).await;
    let path = "/rooms/tea/messages?limit=200";
    let page = ana
        .get_as("application/json", path)
        .await
        .bytes()
        .await
        .unwrap();
    assert!(page.len() < 600 * 1024, "a page of {} bytes", page.len());

    let before = server.memory();
    let mut unread = Vec::new();
    for _ in 0..200 {
        unread.push(asks_and_reads_nothing(&ana, server.address(), path).await);
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    let grown = server.memory().saturating_sub(before) / (1024 * 1024);
    assert!(grown < 80, "{grown} MiB for 200 unread answers");
    // Others are served, and she hears that it is too much.
    let served = timeout(Duration::from_secs(20), ben.json(path)).await;
    served.expect("ben is served");
    let refused = ana.get_as("application/json", path).await;
    assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
    assert!(refused.headers().contains_key("retry-after"));
    // When they are gone, so is what they cost.
    drop(unread);
    let is_served = async || ana.get_as("application/json", path).await.status() == StatusCode::OK;
    eventually("she is served again", Duration::from_secs(20), is_served).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_in_flight_are_bounded_per_user() {
    let settings = [("REQUESTS_PER_USER", "4")];
    let server = Server::start_with(Backend::Sqlite, &settings).await;
    let (ana, ben) = (server.person("ana").await, server.person("ben").await);
    for person in [&ana, &ben] {
        person.enters("tea").await;
    }
    let head = ana.json("/rooms/tea/messages?after=0").await["cursor"].clone();
    let waiting = format!(
        "/rooms/tea/messages?after={}&wait=30",
        head.as_str().unwrap()
    );
    let waits = Mutex::new(Vec::new());
    // One more wait each time: the question itself takes a place, which one of the others may have been
    // refused for.
    let is_refused = async || {
        let wait = asks_and_reads_nothing(&ana, server.address(), &waiting).await;
        waits.lock().unwrap().push(wait);
        ana.get_as("application/json", "/rooms").await.status() == StatusCode::TOO_MANY_REQUESTS
    };
    eventually("one more is refused", Duration::from_secs(5), is_refused).await;
    assert_eq!(ben.get("/rooms").await.status(), StatusCode::OK);
    drop(waits);
    // A wait is answered even if nobody may be listening any more, within its 30 seconds.
    let is_served = async || ana.get("/rooms").await.status() == StatusCode::OK;
    eventually("she is served again", Duration::from_secs(40), is_served).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_lobby_carries_the_starts_of_messages() {
    let server = Server::start(Backend::Sqlite).await;
    let ana = server.person("ana").await;
    let families = "👨‍👩‍👧‍👦".repeat(300);
    for number in 0..40 {
        let room = format!("room-{number}");
        ana.enters(&room).await;
        ana.says(&room, &families).await;
    }
    for (accept, bytes_max) in [("application/json", 90_000), ("text/plain", 80_000)] {
        let lobby = ana.get_as(accept, "/rooms").await.text().await.unwrap();
        assert!(lobby.len() < bytes_max, "{accept}: {} bytes", lobby.len());
    }
    let lobby = ana.json("/rooms").await;
    let start = lobby["rooms"][0]["last"]["body"].as_str().unwrap();
    let (whole, more) = start.split_once('…').unwrap();
    assert!(families.starts_with(whole) && more.is_empty());
    assert_eq!(whole.len() % "👨‍👩‍👧‍👦".len(), 0, "a family was parted");
    // A short one is whole.
    ana.says("room-0", "line one\nline two").await;
    let lobby = ana.json("/rooms").await;
    assert_eq!(lobby["rooms"][0]["last"]["body"], "line one\nline two");
}

#[tokio::test(flavor = "multi_thread")]
async fn forms_are_read_in_every_encoding_or_refused() {
    let server = Server::start(Backend::Sqlite).await;
    let ana = server.person("ana").await;
    ana.enters("tea").await;
    let post = |content_type: &str, body: &[u8]| {
        let request = ana.request(Method::POST, "/rooms/tea/messages");
        let request = request.header("content-type", content_type);
        request
            .header(ACCEPT, "application/json")
            .body(body.to_vec())
            .send()
    };
    let urlencoded = "application/x-www-form-urlencoded";
    let multipart = "multipart/form-data; boundary=b";
    let part = |head: &str, value: &str| {
        format!("--b\r\ncontent-disposition: form-data; {head}\r\n\r\n{value}\r\n--b--\r\n")
    };
    for (content_type, body, status) in [
        (urlencoded, b"body=caf%C3%A9".to_vec(), 201),
        (urlencoded, b"body=caf%E9".to_vec(), 422),
        (urlencoded, b"body=caf\xe9".to_vec(), 422),
        (urlencoded, b"body=%ED%A0%80".to_vec(), 422),
        ("text/plain", b"caf\xe9".to_vec(), 422),
        (multipart, part("name=\"body\"", "café").into_bytes(), 201),
        (
            multipart,
            part("name=\"body\"", "caf\u{e9}\nau lait").into_bytes(),
            201,
        ),
        (
            multipart,
            part("name=\"body\"; filename=\"a.txt\"", "x").into_bytes(),
            422,
        ),
        (multipart, part("name=\"other\"", "x").into_bytes(), 422),
        (
            multipart,
            b"--b\r\ncontent-disposition: form-data; name=\"body\"\r\n\r\n\xe9\r\n--b--\r\n"
                .to_vec(),
            422,
        ),
        (multipart, b"--b\r\nbroken".to_vec(), 422),
        (multipart, b"".to_vec(), 422),
        ("multipart/form-data", b"x".to_vec(), 422),
        (
            multipart,
            part("name=\"body\"", &"x".repeat(70_000)).into_bytes(),
            413,
        ),
        ("multipart/mixed; boundary=b", b"x".to_vec(), 415),
    ] {
        let answer = post(content_type, &body).await.unwrap();
        let sent = String::from_utf8_lossy(&body[..body.len().min(80)]).into_owned();
        assert_eq!(answer.status().as_u16(), status, "{content_type}: {sent}");
    }
    let said: Vec<_> = ana
        .log("tea")
        .await
        .iter()
        .skip(1)
        .map(|e| e["body"].clone())
        .collect();
    assert_eq!(said, ["café", "café", "café\nau lait"]);
}
