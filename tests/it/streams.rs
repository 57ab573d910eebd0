//! A room's log as it grows, in every format.

use std::time::Duration;

use reqwest::header::{ACCEPT, HeaderMap};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::time::{Instant, timeout};

use crate::support::{Backend, Listener, Person, Server, assert_contains, assert_lacks};

on_both_stores!(
    every_format_follows_the_room,
    nothing_falls_between_page_and_stream,
    a_cursor_is_where_it_says,
    a_cursor_that_cannot_be_is_reset,
    a_long_poll_waits_for_the_next_event,
    the_oldest_stream_makes_room,
);

async fn at_tea(server: &Server) -> Person {
    let ana = server.person("ana").await;
    ana.enters("tea").await;
    ana
}

fn with(name: &'static str, value: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(name, value.parse().unwrap());
    headers
}

async fn every_format_follows_the_room(backend: Backend) {
    let server = Server::start(backend).await;
    let ana = at_tea(&server).await;
    let events = "/rooms/tea/events?after=1";
    let mut json = ana.listens_at(events, HeaderMap::new()).await;
    let html = "/rooms/tea/events?format=html&after=1";
    let mut html = ana
        .listens_at(html, with("accept", "text/html, text/event-stream"))
        .await;
    let mut text = ana.listens_at(events, with("accept", "text/plain")).await;
    let mut ndjson = ana
        .listens_at(events, with("accept", "application/x-ndjson"))
        .await;
    let mut live = ana
        .listens_at("/rooms/tea/live?after=1", with("accept", "text/html"))
        .await;
    for (stream, kind) in [
        (&json, "text/event-stream"),
        (&html, "text/event-stream"),
        (&text, "text/plain; charset=utf-8"),
        (&ndjson, "application/x-ndjson"),
        (&live, "text/html; charset=utf-8"),
    ] {
        assert_eq!(stream.status, StatusCode::OK);
        assert_eq!(stream.headers["content-type"], kind);
        assert_contains(
            stream.headers["cache-control"].to_str().unwrap(),
            "no-store",
        );
        assert_eq!(stream.headers["x-accel-buffering"], "no");
        assert!(!stream.headers.contains_key("content-encoding"));
    }
    ana.says("tea", "hello & <b>").await;

    let event = json.next_event().await.unwrap();
    assert!(
        json.raw.starts_with("retry: 2000\nevent: hello\n"),
        "{}",
        json.raw
    );
    assert_eq!(event.name.as_deref(), Some("message"));
    assert_eq!(event.id.as_deref(), Some("2"));
    let stored = ana.json("/rooms/tea/messages/2").await;
    assert_eq!(event.json(), stored);

    let hello = html.next().await.unwrap();
    assert_eq!(hello.name.as_deref(), Some("hello"));
    assert_contains(&html.raw, "retry: 2000\nevent: hello\n");
    let row = html.next_event().await.unwrap();
    assert_eq!(row.name, None);
    assert!(
        row.data.starts_with("<li class=\"message\" id=\"m-2\""),
        "{}",
        row.data
    );
    assert_contains(&row.data, "hello &#38; &#60;b&#62;");
    let page = ana.get("/rooms/tea").await.text().await.unwrap();
    assert_contains(&page, &row.data);

    assert!(text.text_until("\n").await.ends_with(" ana: hello & <b>\n"));
    let line = ndjson.text_until("\n").await;
    // The same, with what `after` takes to go on from there.
    let mut line: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(line.as_object_mut().unwrap().remove("id"), Some("2".into()));
    assert_eq!(line, stored);
    let document = live.text_until("</li>").await;
    assert!(document.starts_with("<!doctype html>"), "{document}");
    assert_contains(&document, &row.data);
}

async fn nothing_falls_between_page_and_stream(backend: Backend) {
    let server = Server::start(backend).await;
    let ana = at_tea(&server).await;
    ana.says("tea", "before the page").await;
    let page = ana.get("/rooms/tea").await.text().await.unwrap();
    let address = page
        .split("hx-sse:connect=\"")
        .nth(1)
        .unwrap()
        .split('"')
        .next()
        .unwrap();
    let address = address.replace("&amp;", "&");
    for number in 0..100 {
        ana.says("tea", &format!("after the page {number}")).await;
    }
    let mut stream = ana.listens_at(&address, HeaderMap::new()).await;
    let numbers = stream.numbers(100).await;
    assert_eq!(numbers, (3..=102).collect::<Vec<_>>());
    ana.says("tea", "the next one").await;
    assert_eq!(stream.numbers(1).await, [103]);
}

async fn a_cursor_is_where_it_says(backend: Backend) {
    let server = Server::start(backend).await;
    let ana = at_tea(&server).await;
    for number in 2..=10 {
        ana.says("tea", &format!("{number}")).await;
    }
    let mut from_head = ana.listens_at("/rooms/tea/events", HeaderMap::new()).await;
    let after = "/rooms/tea/events?after=7";
    let mut from_address = ana.listens_at(after, HeaderMap::new()).await;
    // A client that comes back sends the header to the address it first used.
    let mut from_header = ana.listens_at(after, with("last-event-id", "9")).await;
    let mut from_start = ana
        .listens_at("/rooms/tea/events?after=0", HeaderMap::new())
        .await;
    ana.says("tea", "11").await;
    assert_eq!(from_head.numbers(1).await, [11]);
    assert_eq!(from_address.numbers(4).await, [8, 9, 10, 11]);
    assert_eq!(from_header.numbers(2).await, [10, 11]);
    assert_eq!(from_start.numbers(11).await, (1..=11).collect::<Vec<_>>());
    // More than the hub keeps ready, so that the log itself is read.
    for number in 12..=600 {
        ana.says("tea", &format!("{number}")).await;
    }
    let mut far_behind = ana.listens("tea", 3).await;
    assert_eq!(far_behind.numbers(597).await, (4..=600).collect::<Vec<_>>());
}

async fn a_cursor_that_cannot_be_is_reset(backend: Backend) {
    let server = Server::start(backend).await;
    let ana = at_tea(&server).await;
    for (path, headers) in [
        ("/rooms/tea/events?after=900", HeaderMap::new()),
        ("/rooms/tea/events?after=1", with("last-event-id", "900")),
        ("/rooms/tea/events?after=3-1", HeaderMap::new()),
        ("/rooms/tea/events?format=html&after=900", HeaderMap::new()),
    ] {
        let head = ana.json("/rooms/tea").await["head"].as_u64().unwrap();
        let mut stream = ana.listens_at(path, headers).await;
        let reset = stream.next_notice("reset").await;
        assert_eq!(
            reset.json(),
            json!({ "room": "tea", "head": head.to_string() })
        );
        let next = ana.says("tea", "going on").await;
        assert_eq!(stream.numbers(1).await, [next]);
    }
    for bad in ["after=x", "format=xml"] {
        let path = format!("/rooms/tea/events?{bad}");
        let answer = ana.get_as("application/json", &path).await;
        assert_eq!(answer.status(), StatusCode::UNPROCESSABLE_ENTITY, "{bad}");
    }
}

async fn a_long_poll_waits_for_the_next_event(backend: Backend) {
    let server = Server::start(backend).await;
    let ana = at_tea(&server).await;
    let poll = |query: &'static str| {
        let ana = ana.clone();
        tokio::spawn(async move { ana.json(&format!("/rooms/tea/messages?{query}")).await })
    };
    let began = Instant::now();
    let nothing = poll("after=1&wait=1").await.unwrap();
    assert_eq!(nothing, json!({ "events": [], "head": 1, "cursor": "1" }));
    assert!(began.elapsed() >= Duration::from_secs(1));

    let mut waiting = poll("after=1&wait=30");
    assert!(
        timeout(Duration::from_millis(300), &mut waiting)
            .await
            .is_err()
    );
    let began = Instant::now();
    ana.says("tea", "here it is").await;
    let answer = waiting.await.unwrap();
    assert_eq!(answer["events"][0]["body"], "here it is");
    assert_eq!(answer["events"].as_array().unwrap().len(), 1);
    assert_eq!(answer["cursor"], "2");
    assert!(began.elapsed() < Duration::from_secs(5));
    let at_once = poll("after=0&wait=30").await.unwrap();
    assert_eq!(at_once["events"].as_array().unwrap().len(), 2);
}

async fn the_oldest_stream_makes_room(backend: Backend) {
    let server = Server::start_with(backend, &[("STREAMS_PER_USER", "3")]).await;
    let ana = at_tea(&server).await;
    let ben = server.person("ben").await;
    ben.enters("tea").await;
    let mut bens = ben.listens("tea", 2).await;
    let mut streams: Vec<Listener> = Vec::new();
    for _ in 0..4 {
        streams.push(ana.listens("tea", 2).await);
    }
    let goodbye = streams[0].next_notice("goodbye").await;
    assert_eq!(goodbye.id, None);
    streams[0].ends().await;
    ana.says("tea", "still here").await;
    for stream in &mut streams[1..] {
        assert_eq!(stream.numbers(1).await, [3]);
    }
    assert_eq!(bens.numbers(1).await, [3]);
    // And it can come back where it was.
    let mut back = ana.listens("tea", 2).await;
    assert_eq!(back.numbers(1).await, [3]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_stream_shows_that_it_is_alive() {
    let server = Server::start(Backend::Sqlite).await;
    let ana = at_tea(&server).await;
    let mut json = ana.listens("tea", 1).await;
    let html = "/rooms/tea/events?format=html&after=1";
    let mut html = ana.listens_at(html, HeaderMap::new()).await;
    let mut live = ana
        .listens_at("/rooms/tea/live?after=1", HeaderMap::new())
        .await;
    json.text_until(": heartbeat\n\n").await;
    html.next_notice("heartbeat").await;
    live.text_until("<!-- -->").await;
    assert_lacks(&json.raw, "id:");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_post_is_not_a_stream() {
    let server = Server::start(Backend::Sqlite).await;
    let ana = at_tea(&server).await;
    let request = ana
        .request(Method::POST, "/rooms/tea/events")
        .header(ACCEPT, "text/html");
    let answer = request.send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::METHOD_NOT_ALLOWED);
}
