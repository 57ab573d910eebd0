//! The lobby, entering, and who is here.

use std::time::Duration;

use reqwest::header::ACCEPT;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::time::{Instant, timeout};

use crate::support::{Backend, Server, assert_contains, assert_lacks, eventually};

on_both_stores!(
    a_room_is_made_by_entering_it,
    strangers_stay_outside,
    the_lobby_tells_who_spoke_last,
    coming_and_going_is_quiet,
    typing_is_told_until_it_is_sent,
    the_lobby_can_be_waited_for,
    what_one_writes_on_the_page_is_read,
);

async fn a_room_is_made_by_entering_it(backend: Backend) {
    let server = Server::start(backend).await;
    let ana = server.person("ana").await;
    let missing = ana.get_as("text/html", "/rooms/tea").await;
    assert_eq!(missing.status(), StatusCode::NOT_FOUND);
    assert_contains(&missing.text().await.unwrap(), "Make this room");

    let answer = ana.post("/rooms", &[("room", "  TEA ")]).await;
    assert_eq!(answer.status(), StatusCode::SEE_OTHER);
    assert_eq!(answer.headers()["location"], "/rooms/tea");
    ana.enters("tea").await;
    let log = ana.log("tea").await;
    assert_eq!(log.len(), 1, "entering again is no event");
    assert_eq!(log[0]["type"], "joined");
    let page = ana.get("/rooms/tea").await;
    assert_eq!(page.status(), StatusCode::OK);
    let page = page.text().await.unwrap();
    assert_contains(&page, "<b>ana</b> joined");
    assert_contains(
        &page,
        "hx-sse:connect=\"/rooms/tea/events?format=html&amp;after=1&amp;as=",
    );

    for bad in ["", "two words", "té", "a/b", &"x".repeat(65)] {
        let answer = ana.post("/rooms", &[("room", bad)]).await;
        assert_eq!(answer.status(), StatusCode::UNPROCESSABLE_ENTITY);
        let page = answer.text().await.unwrap();
        assert_contains(&page, &format!("value=\"{bad}\""));
        assert_contains(&page, "class=\"error\"");
        let json = ana.request(Method::POST, "/rooms").form(&[("room", bad)]);
        let json = json
            .header(ACCEPT, "application/json")
            .send()
            .await
            .unwrap();
        assert_eq!(json.status(), StatusCode::UNPROCESSABLE_ENTITY);
    }
    for path in ["/rooms/not%20an%20id", "/rooms/%FF", "/static/%FF"] {
        assert_eq!(ana.get(path).await.status(), StatusCode::NOT_FOUND);
    }
    // A room may be called like a part of an address.
    let missing = ana.get_as("text/html", "/rooms/events").await;
    assert_contains(&missing.text().await.unwrap(), "Make this room");
    ana.enters("events").await;
}

async fn strangers_stay_outside(backend: Backend) {
    let server = Server::start(backend).await;
    let [ana, eve] = [server.person("ana").await, server.person("eve").await];
    ana.enters("tea").await;
    ana.says("tea", "between us").await;

    let page = eve.get("/rooms/tea").await;
    assert_eq!(page.status(), StatusCode::FORBIDDEN);
    let page = page.text().await.unwrap();
    assert_contains(&page, "name=\"room\" value=\"tea\"");
    assert_lacks(&page, "between us");
    for path in [
        "/rooms/tea",
        "/rooms/tea/messages",
        "/rooms/tea/messages?after=0&wait=1",
        "/rooms/tea/messages/2",
        "/rooms/tea/events?after=0",
        "/rooms/tea/live?after=0",
    ] {
        let answer = eve.get_as("application/json", path).await;
        assert_eq!(answer.status(), StatusCode::FORBIDDEN, "{path}");
        assert_lacks(&answer.text().await.unwrap(), "between us");
        let missing = path.replace("tea", "none");
        let answer = eve.get_as("application/json", &missing).await;
        assert_eq!(answer.status(), StatusCode::NOT_FOUND, "{missing}");
    }
    let post = eve.tries_to_say("tea", "let me in", None).await.unwrap();
    assert_eq!(post.status(), StatusCode::FORBIDDEN);
    let mut page_stream = eve
        .listens_at("/rooms/tea/events?format=html&after=0", Default::default())
        .await;
    assert_eq!(page_stream.headers["content-type"], "text/event-stream");
    page_stream.next_notice("reset").await;
    page_stream.ends().await;
    assert_lacks(&page_stream.raw, "between us");
    assert!(
        eve.json("/rooms").await["rooms"]
            .as_array()
            .unwrap()
            .is_empty()
    );
    assert_eq!(ana.log("tea").await.len(), 2);
}

async fn the_lobby_tells_who_spoke_last(backend: Backend) {
    let server = Server::start(backend).await;
    let [ana, ben] = [server.person("ana").await, server.person("ben").await];
    for room in ["tea", "coffee", "silence"] {
        ana.enters(room).await;
    }
    ben.enters("tea").await;
    ana.says("coffee", "beans").await;
    tokio::time::sleep(Duration::from_millis(3)).await;
    ben.says("tea", "leaves\nand water").await;

    let lobby = ana.json("/rooms").await;
    let lines = lobby["rooms"].as_array().unwrap();
    let rooms: Vec<&Value> = lines.iter().map(|line| &line["room"]).collect();
    assert_eq!(rooms, ["tea", "coffee", "silence"]);
    assert_eq!(lines[0]["head"], 3);
    assert_eq!(lines[0]["last"]["author"]["username"], "ben");
    assert!(lines[2]["last"].is_null());
    let page = ana.get("/rooms").await.text().await.unwrap();
    assert_contains(&page, "<b>ben</b> leaves…");
    assert_contains(&page, "Nobody has said anything yet.");
    let text = ana
        .get_as("text/plain", "/rooms")
        .await
        .text()
        .await
        .unwrap();
    assert_contains(&text, "ben: leaves ↵ and water\n");
}

async fn coming_and_going_is_quiet(backend: Backend) {
    let server = Server::start(backend).await;
    let [ana, ben] = [server.person("ana").await, server.person("ben").await];
    ana.enters("tea").await;
    ben.enters("tea").await;
    let mut anas = ana.listens("tea", 2).await;
    assert_eq!(
        anas.next_notice("presence").await.json()["names"],
        serde_json::json!(["ana"])
    );
    let bens = ben.listens("tea", 2).await;
    let both = anas.next_notice("presence").await.json();
    assert_eq!(both["names"], serde_json::json!(["ana", "ben"]));
    assert_eq!(both["count"], 2);
    let page = ana.get("/rooms/tea").await.text().await.unwrap();
    assert_contains(&page, "ana and ben are here");

    // Twenty reconnects in ten seconds show nobody anything.
    drop(bens);
    for _ in 0..20 {
        let again = ben.listens("tea", 2).await;
        tokio::time::sleep(Duration::from_millis(250)).await;
        drop(again);
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    let left_at = Instant::now();
    // Leaving for good shows once.
    let alone = anas.next_notice("presence").await.json();
    assert_eq!(alone["names"], serde_json::json!(["ana"]));
    assert!(
        left_at.elapsed() > Duration::from_secs(5),
        "{:?}",
        left_at.elapsed()
    );
    assert!(
        left_at.elapsed() < Duration::from_secs(30),
        "{:?}",
        left_at.elapsed()
    );
    let more = timeout(Duration::from_secs(3), anas.next_notice("presence")).await;
    assert!(more.is_err(), "{more:?}");
    assert_eq!(ana.log("tea").await.len(), 2, "none of it is an event");
}

async fn typing_is_told_until_it_is_sent(backend: Backend) {
    let server = Server::start(backend).await;
    let ana = server.person("ana").await;
    let ben = server.person("ben").await;
    let eve = server.person("eve").await;
    ana.enters("tea").await;
    ben.enters("tea").await;
    let mut anas = ana.listens("tea", 0).await;
    let types = async || ben.post("/rooms/tea/typing", &[]).await.status();
    assert_eq!(types().await, StatusCode::NO_CONTENT);
    let notice = anas.next_notice("typing").await.json();
    assert_eq!(
        notice,
        json!({ "room": "tea", "names": ["ben"], "secs": 5 })
    );
    // It is told again when it is said again, though nothing has changed.
    assert_eq!(types().await, StatusCode::NO_CONTENT);
    anas.next_notice("typing").await;
    // A later stream hears nothing of it.
    let mut later = ana.listens("tea", 0).await;
    let told = timeout(Duration::from_secs(2), later.next_notice("typing")).await;
    assert!(told.is_err(), "{told:?}");
    // Typing is not announced after its message.
    for number in 0..5 {
        assert_eq!(types().await, StatusCode::NO_CONTENT);
        ben.says("tea", &format!("sent {number}")).await;
    }
    anas.numbers(5).await;
    let told = timeout(Duration::from_secs(3), anas.next_notice("typing")).await;
    assert!(told.is_err(), "{told:?}");

    let outside = eve.post("/rooms/tea/typing", &[]).await;
    assert_eq!(outside.status(), StatusCode::FORBIDDEN);
}

async fn the_lobby_can_be_waited_for(backend: Backend) {
    let server = Server::start(backend).await;
    let ana = server.person("ana").await;
    let ben = server.person("ben").await;
    for room in ["tea", "den"] {
        ana.enters(room).await;
        ben.enters(room).await;
    }
    let cursor = async || {
        ana.json("/rooms").await["cursor"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    let unread = |lobby: &Value, room: &str| {
        let rooms = lobby["rooms"].as_array().unwrap();
        let found = rooms.iter().find(|one| one["room"] == room).unwrap();
        found["unread"].as_u64().unwrap()
    };
    let seen = cursor().await;
    let waiting = tokio::spawn({
        let (ana, seen) = (ana.clone(), seen.clone());
        async move {
            let began = Instant::now();
            let lobby = ana.json(&format!("/rooms?after={seen}&wait=20")).await;
            (lobby, began.elapsed())
        }
    });
    tokio::time::sleep(Duration::from_secs(1)).await;
    ben.says("den", "anybody?").await;
    let (lobby, took) = waiting.await.unwrap();
    assert_eq!((unread(&lobby, "den"), unread(&lobby, "tea")), (1, 0));
    assert!((1..5).contains(&took.as_secs()), "it took {took:?}");
    assert_ne!(lobby["cursor"], seen);
    // Earlier messages are answered at once; else it waits, but no longer than that.
    let lobby = ana.json(&format!("/rooms?after={seen}&wait=20")).await;
    assert_eq!(unread(&lobby, "den"), 1);
    let began = Instant::now();
    ana.json(&format!("/rooms?after={}&wait=1", cursor().await))
        .await;
    assert!((1..5).contains(&began.elapsed().as_secs()));
    // Nothing falls between asking and waiting.
    for number in 0..20 {
        let seen = cursor().await;
        let path = format!("/rooms?after={seen}&wait=20");
        let began = Instant::now();
        let text = format!("number {number}");
        let (lobby, _) = tokio::join!(ana.json(&path), ben.says("tea", &text));
        assert_ne!(lobby["cursor"], seen);
        assert!(began.elapsed() < Duration::from_secs(10));
    }
    let answer = ana.get("/rooms?wait=31").await;
    assert_eq!(answer.status(), StatusCode::UNPROCESSABLE_ENTITY);

    // It ends with the session.
    let path = format!("/rooms?after={}&wait=20", cursor().await);
    let began = Instant::now();
    let (waited, _) = tokio::join!(ana.get_as("application/json", &path), async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        ana.post("/logout", &[]).await
    });
    assert_eq!(waited.status(), StatusCode::UNAUTHORIZED);
    assert!(began.elapsed() < Duration::from_secs(5));
}

async fn what_one_writes_on_the_page_is_read(backend: Backend) {
    let server = Server::start(backend).await;
    let ana = server.person("ana").await;
    ana.enters("tea").await;
    let unread = async || ana.json("/rooms").await["rooms"][0]["unread"].clone();
    // A program may write without reading.
    ana.says("tea", "by a program").await;
    assert_eq!(unread().await, 1);
    let form = [("body", "on the page")];
    let answer = ana.post("/rooms/tea/messages", &form).await;
    assert_eq!(answer.status(), StatusCode::SEE_OTHER);
    let is_read = async || unread().await == 0;
    eventually("all is read", Duration::from_secs(5), is_read).await;
}
