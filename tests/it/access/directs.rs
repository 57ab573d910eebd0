//! Direct rooms, as people and programs meet them.

use std::time::Duration;

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::{posts, sends};
use crate::support::{Backend, Person, Server, assert_contains, assert_lacks};

on_both_stores!(
    a_conversation_is_of_its_people_alone,
    a_conversation_is_listed_once_something_is_said,
    fifty_who_start_at_once_have_one_conversation,
    whom_one_writes_to_is_said_or_why_not,
    a_lobby_that_waits_hears_of_another_room,
);

async fn writes_to(who: &Person, with: &str) -> String {
    let answer = sends(who, Method::POST, "/directs", &[("with", with)]).await;
    assert_eq!(answer.status(), StatusCode::CREATED);
    let room: Value = answer.json().await.unwrap();
    room["room"].as_str().unwrap().to_owned()
}

async fn a_conversation_is_of_its_people_alone(backend: Backend) {
    let server = Server::start(backend).await;
    let admin = server.person("admin").await;
    let (ana, ben) = (server.person("ana").await, server.person("ben").await);
    let led = ana.post("/directs", &[("with", "ben")]).await;
    assert_eq!(led.status(), StatusCode::SEE_OTHER);
    let path = led.headers()["location"].to_str().unwrap().to_owned();
    let room = path.strip_prefix("/rooms/").unwrap();
    assert_eq!(writes_to(&ben, "@Ana").await, room);
    let said = ana.says(room, "just between us").await;
    let page = ben.get(&path).await.text().await.unwrap();
    assert_contains(&page, "just between us");
    assert_contains(&page, ">ana</a></h1>");
    let page = ana.get(&path).await.text().await.unwrap();
    assert_contains(&page, ">ben</a></h1>");
    for other in ["", "/messages", "/events", "/live", "/people", "/settings"] {
        let refused = admin.get(&format!("{path}{other}")).await;
        assert_eq!(refused.status(), StatusCode::NOT_FOUND, "{other}");
        assert_lacks(&refused.text().await.unwrap(), "between us");
    }
    // Nobody enters it, is added, leaves or owns it.
    for form in [&[("room", room)][..], &[("room", room), ("name", "x")]] {
        let refused = posts(&admin, "/rooms", form).await;
        assert_eq!(refused, StatusCode::UNPROCESSABLE_ENTITY);
    }
    for (action, form, status) in [
        ("people", ("username", "admin"), 403),
        ("people/ben/remove", ("remove", "yes"), 403),
        ("people/ben/ban", ("on", "1"), 403),
        ("people/ana/role", ("role", "owner"), 403),
        ("settings", ("access", "open"), 403),
        ("leave", ("leave", "yes"), 422),
    ] {
        let refused = posts(&ana, &format!("{path}/{action}"), &[form]).await;
        assert_eq!(refused.as_u16(), status, "{action}");
    }
    let delete = format!("{path}/messages/{said}");
    let refused = sends(&ben, Method::DELETE, &delete, &[]).await;
    assert_eq!(refused.status(), StatusCode::FORBIDDEN);
    let settings = ben.json(&format!("{path}/settings")).await;
    assert_eq!(settings["access"], "direct");
    // Whoever reads a stream at its address is one of them.
    let mut stream = ben.listens(room, 0).await;
    assert_eq!(stream.numbers(3).await, [1, 2, 3]);
}

async fn a_conversation_is_listed_once_something_is_said(backend: Backend) {
    let server = Server::start(backend).await;
    let (ana, ben) = (server.person("ana").await, server.person("ben").await);
    let room = writes_to(&ana, "ben").await;
    for who in [&ana, &ben] {
        assert_eq!(who.json("/rooms").await["rooms"], json!([]));
        let page = who.get("/rooms").await.text().await.unwrap();
        assert_contains(&page, "You are in no room yet");
    }
    // Whoever waits hears of it, also if they did before it was there.
    let cleo = server.person("cleo").await;
    let cursor = ben.json("/rooms").await["cursor"].clone();
    let waiting = format!("/rooms?after={}&wait=25", cursor.as_str().unwrap());
    let waits = { ben.clone() };
    let waits = tokio::spawn(async move { waits.json(&waiting).await });
    tokio::time::sleep(Duration::from_millis(300)).await;
    let other = writes_to(&cleo, "ben, ana").await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    cleo.says(&other, "all of us").await;
    let lobby = timeout(Duration::from_secs(5), waits).await.unwrap();
    assert_eq!(lobby.unwrap()["rooms"][0]["room"], other);
    let cursor = ben.json("/rooms").await["cursor"].clone();
    let waiting = format!("/rooms?after={}&wait=25", cursor.as_str().unwrap());
    let waits = { ben.clone() };
    let waits = tokio::spawn(async move { waits.json(&waiting).await });
    tokio::time::sleep(Duration::from_millis(300)).await;
    ana.says(&room, "are you there?").await;
    let lobby = timeout(Duration::from_secs(5), waits)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(lobby["rooms"][0]["room"], room);
    assert_eq!(lobby["rooms"][0]["access"], "direct");
    assert_eq!(lobby["rooms"][0]["unread"], 1);
    let names = |lobby: &Value| {
        let people = lobby["rooms"][0]["people"].as_array().unwrap();
        let names = people
            .iter()
            .map(|one| one["username"].as_str().unwrap().to_owned());
        names.collect::<Vec<_>>()
    };
    assert_eq!(names(&lobby), ["ana", "ben"]);
    let page = ben.get("/rooms").await.text().await.unwrap();
    assert_contains(&page, "dir=\"auto\">ana ");
    assert_contains(&page, "dir=\"auto\">ana, cleo ");
    let page = ana.get("/rooms").await.text().await.unwrap();
    assert_contains(&page, "dir=\"auto\">ben ");
}

/// Invariant: one conversation for the same people, at whichever node they start it.
async fn fifty_who_start_at_once_have_one_conversation(backend: Backend) {
    let server = Server::start(backend).await;
    let other = server.another_node_on(backend).await;
    let (ana, ben) = (server.person("ana").await, server.person("ben").await);
    let base = &other.as_ref().unwrap_or(&server).base;
    let everywhere = [ana.clone(), ben.clone(), ana.at(base), ben.at(base)];
    let mut all = JoinSet::new();
    for number in 0..50 {
        let who = everywhere[number % 4].clone();
        let with = if who.name == "ana" { "ben" } else { "ana" };
        all.spawn(async move { writes_to(&who, with).await });
    }
    let mut rooms = all.join_all().await;
    rooms.dedup();
    assert_eq!(rooms.len(), 1);
    assert_eq!(ana.log(&rooms[0]).await.len(), 2);
}

async fn whom_one_writes_to_is_said_or_why_not(backend: Backend) {
    let server = Server::start(backend).await;
    let ana = server.person("ana").await;
    for name in ["ben", "cleo"] {
        server.person(name).await;
    }
    let three = writes_to(&ana, "ben, cleo").await;
    assert_eq!(writes_to(&ana, " cleo  @BEN,ana,, ben").await, three);
    let alone = writes_to(&ana, "ana").await;
    let page = ana
        .get(&format!("/rooms/{alone}"))
        .await
        .text()
        .await
        .unwrap();
    assert_contains(&page, ">ana</a></h1>");
    // One's own name, and another twice, are no more people.
    let eight = [
        "ben", "@ana", "BEN", "@ben", "ana", "ben", "ben", "ana", "ben",
    ]
    .join(" ");
    assert_eq!(writes_to(&ana, &eight).await, writes_to(&ana, "ben").await);
    for (typed, says) in [
        ("", "Type the name"),
        (" , ", "Type the name"),
        ("nobody", "Nobody on this server is called nobody."),
        ("ben <b>", "is called &#60;b&#62;."),
        ("ben@example.org", "Nobody on this server"),
        ("a b c d e f g h i", "at most 8 others"),
    ] {
        let refused = ana.post("/directs", &[("with", typed)]).await;
        assert_eq!(refused.status(), StatusCode::UNPROCESSABLE_ENTITY);
        assert_contains(&refused.text().await.unwrap(), says);
        let refused = posts(&ana, "/directs", &[("with", typed)]).await;
        assert_eq!(refused, StatusCode::UNPROCESSABLE_ENTITY);
    }
    let page = ana.get("/directs?with=ben").await.text().await.unwrap();
    assert_contains(&page, "value=\"ben\"");
}

/// Invariant: whoever waits for their rooms hears that they were added to one, also at another node.
async fn a_lobby_that_waits_hears_of_another_room(backend: Backend) {
    let server = Server::start(backend).await;
    let other = server.another_node_on(backend).await;
    let (ana, ben) = (server.person("ana").await, server.person("ben").await);
    let there = ben.at(&other.as_ref().unwrap_or(&server).base);
    let form = [("room", "den"), ("access", "private")];
    posts(&ana, "/rooms", &form).await;
    let cursor = ben.json("/rooms").await["cursor"].clone();
    let waiting = format!("/rooms?after={}&wait=25", cursor.as_str().unwrap());
    let mut all = JoinSet::new();
    for who in [ben.clone(), there] {
        let waiting = waiting.clone();
        all.spawn(async move { who.json(&waiting).await });
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    posts(&ana, "/rooms/den/people", &[("username", "ben")]).await;
    let heard = timeout(Duration::from_secs(5), all.join_all()).await;
    for lobby in heard.expect("nobody heard of it") {
        assert_eq!(lobby["rooms"][0]["room"], "den");
    }
}
