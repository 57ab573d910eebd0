//! Levels: the messages of a room that its members are told of.

use std::time::Duration;

use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::access::posts;
use crate::support::{Backend, Person, Server, assert_contains, assert_lacks, eventually};

on_both_stores!(
    a_level_says_what_counts_as_unread,
    an_open_lobby_hears_of_a_level
);

/// A room’s line in somebody’s lobby.
async fn listed(person: &Person, room: &str) -> Value {
    let lobby = person.json("/rooms").await;
    let rooms = lobby["rooms"].as_array().unwrap();
    rooms
        .iter()
        .find(|one| one["room"] == room)
        .unwrap()
        .clone()
}

async fn a_level_says_what_counts_as_unread(backend: Backend) {
    let server = Server::start(backend).await;
    let other = server.another_node_on(backend).await;
    let there = &other.as_ref().unwrap_or(&server).base;
    let (ana, ben) = (server.person("ana").await, server.person("ben").await);
    for person in [&ana, &ben] {
        person.enters("tea").await;
        person.enters("den").await;
    }
    for room in ["tea", "den"] {
        ana.says(room, "hello").await;
        ana.says(room, "@ben, are you there?").await;
    }
    for (level, unread, mentions) in [
        ("mentions", 1, 1),
        ("nothing", 0, 0),
        ("all", 2, 1),
        ("mentions", 1, 1),
    ] {
        let chosen = posts(&ben, "/rooms/tea/level", &[("level", level)]).await;
        assert_eq!(chosen, StatusCode::NO_CONTENT);
        let is_so = async |base: &str| {
            let line = listed(&ben.at(base), "tea").await;
            let counts = (&line["unread"], &line["mentions"], &line["level"]);
            counts == (&json!(unread), &json!(mentions), &json!(level))
        };
        assert!(is_so(&server.base).await, "{}", listed(&ben, "tea").await);
        eventually("the other node counts so", Duration::from_secs(2), || {
            is_so(there)
        })
        .await;
        assert_eq!(ben.json("/rooms/tea/settings").await["level"], level);
    }
    // It is one person’s, of one room.
    let den = listed(&ben, "den").await;
    assert_eq!((&den["unread"], &den["level"]), (&json!(2), &json!("all")));
    assert_eq!(ana.json("/rooms/tea/settings").await["level"], "all");
    // New messages count so, too, and read ones do.
    ana.says("tea", "just so").await;
    assert_eq!(listed(&ben, "tea").await["unread"], 1);
    let last = ana.says("tea", "@ben!").await;
    assert_eq!(listed(&ben, "tea").await["unread"], 2);
    posts(&ben, "/rooms/tea/read", &[("seq", &last.to_string())]).await;
    assert_eq!(listed(&ben, "tea").await["unread"], 0);

    let page = ben.get("/rooms/tea/settings").await.text().await.unwrap();
    assert_contains(&page, "value=\"mentions\" checked");
    let led = ben.post("/rooms/tea/level", &[("level", "nothing")]).await;
    assert_eq!(led.headers()["location"], "/rooms/tea");
    let lobby = ben.get("/rooms").await.text().await.unwrap();
    assert_contains(&lobby, ">quiet<");
    for wrong in ["", "loud", "ALL"] {
        let refused = posts(&ben, "/rooms/tea/level", &[("level", wrong)]).await;
        assert_eq!(refused, StatusCode::UNPROCESSABLE_ENTITY);
    }
    // Coming back starts anew.
    posts(&ben, "/rooms/tea/leave", &[]).await;
    ben.enters("tea").await;
    assert_eq!(listed(&ben, "tea").await["level"], "all");
    let lobby = ben.get("/rooms").await.text().await.unwrap();
    assert_lacks(&lobby, ">quiet<");
}

async fn an_open_lobby_hears_of_a_level(backend: Backend) {
    let server = Server::start(backend).await;
    let (ana, ben) = (server.person("ana").await, server.person("ben").await);
    for person in [&ana, &ben] {
        person.enters("tea").await;
    }
    ana.says("tea", "hello").await;
    let lobby = ben.json("/rooms").await;
    let cursor = lobby["cursor"].as_str().unwrap().to_owned();
    let waiting = ben.clone();
    let wait = tokio::spawn(async move {
        waiting
            .json(&format!("/rooms?after={cursor}&wait=25"))
            .await
    });
    tokio::time::sleep(Duration::from_millis(300)).await;
    posts(&ben, "/rooms/tea/level", &[("level", "nothing")]).await;
    let lobby = tokio::time::timeout(Duration::from_secs(3), wait).await;
    let lobby = lobby.expect("the lobby waits on").unwrap();
    assert_eq!(lobby["rooms"][0]["unread"], 0);
}
