//! Rooms that are deleted: everybody is out, and nothing of them is left.

use std::time::{Duration, Instant};

use reqwest::{Method, StatusCode};
use serde_json::Value;
use tokio::task::JoinSet;

use crate::access::{makes, posts, sends};
use crate::leaving::opens_all_streams;
use crate::store_contract::{message, open, room};
use crate::support::{
    Aim, Backend, NONE, Person, Server, assert_contains, assert_lacks, copies, eventually,
};

on_both_stores!(
    a_deleted_room_is_nowhere,
    a_deleted_room_ends_for_everybody_at_once,
    whoever_writes_while_a_room_is_deleted_brings_nothing_back,
    a_deletion_is_done_once,
    a_deletion_that_was_killed_is_finished,
);

const DELETE: &str = "/rooms/den/delete";

/// Invariant: once the deletion is answered, no answer, file or collection holds a byte of what was written there.
async fn a_deleted_room_is_nowhere(backend: Backend) {
    let mut server = Server::start(backend).await;
    let (admin, ana) = (server.person("admin").await, server.person("ana").await);
    let ben = server.person("ben").await;
    let made = [
        ("room", "den"),
        ("name", "SECRET name"),
        ("topic", "SECRET topic"),
        ("access", "open"),
    ];
    makes(&ana, &made).await;
    ben.enters("den").await;
    ben.enters("tea").await;
    for number in 0..40 {
        let size = [1, 4, 200][number % 3];
        let text = format!("SECRET{number:02}-é🎉").repeat(size) + " @ben";
        let said = ana.says("den", &text).await;
        ben.says("tea", &format!("between {number}")).await;
        let react = format!("/rooms/den/messages/{said}/reactions");
        posts(&ben, &react, &[("emoji", "👍")]).await;
    }
    posts(
        &ana,
        "/rooms/den/settings",
        &[("topic", "another SECRET topic")],
    )
    .await;
    let invite = sends(&ana, Method::POST, "/invites", &[("room", "den")]).await;
    let invite: Value = invite.json().await.unwrap();
    let invite = invite["link"].as_str().unwrap().to_owned();
    let invite = invite.strip_prefix(&server.base).unwrap();
    assert_contains(&ben.get("/mentions").await.text().await.unwrap(), "SECRET");

    // Its id is typed to mean it.
    for wrong in ["", "yes", "SECRET name"] {
        let refused = posts(&ana, DELETE, &[("confirm", wrong)]).await;
        assert_eq!(refused, StatusCode::UNPROCESSABLE_ENTITY);
    }
    let page = ana.post(DELETE, &[("confirm", "dem")]).await;
    assert_eq!(page.status(), StatusCode::UNPROCESSABLE_ENTITY);
    let page = page.text().await.unwrap();
    assert_contains(&page, "type its id here: den");
    assert_contains(&page, "value=\"dem\"");
    assert_eq!(
        posts(&ben, DELETE, &[("confirm", "den")]).await,
        StatusCode::FORBIDDEN
    );
    ana.says("den", "still here").await;
    let deleted = ana.post(DELETE, &[("confirm", " Den ")]).await;
    assert_eq!(deleted.status(), StatusCode::SEE_OTHER);
    assert_eq!(deleted.headers()["location"], "/rooms");

    for person in [&ana, &ben, &admin] {
        let mut all = String::new();
        for accept in ["text/html", "application/json", "text/plain"] {
            for path in [
                "/rooms",
                "/rooms?q=secret",
                "/rooms/den",
                "/rooms/den/messages",
                "/mentions",
                "/rooms/den/people",
                "/rooms/den/settings",
                "/invites",
                invite,
            ] {
                all += &person.get_as(accept, path).await.text().await.unwrap();
            }
        }
        assert_lacks(&all, "SECRET");
        for path in [
            "",
            "/messages",
            "/people",
            "/settings",
            "/events",
            "/messages/3",
        ] {
            let gone = person
                .get_as("application/json", &format!("/rooms/den{path}"))
                .await;
            assert_eq!(
                gone.status(),
                StatusCode::NOT_FOUND,
                "{path} to {}",
                person.name
            );
        }
    }
    // Nobody gets its id again.
    for form in [
        &[("room", "den")][..],
        &[("room", "den"), ("access", "open")],
    ] {
        assert_eq!(posts(&ana, "/rooms", form).await, StatusCode::CONFLICT);
    }
    assert_eq!(
        posts(&admin, DELETE, &[("confirm", "den")]).await,
        StatusCode::NOT_FOUND
    );
    assert_eq!(copies(&server, backend, "SECRET").await, NONE);
    let log = admin
        .get_as("text/plain", "/admin/audit")
        .await
        .text()
        .await
        .unwrap();
    assert_contains(&log, "\tana\tdeleted den\n");
    // The others’ rooms are as they were.
    assert_eq!(ben.json("/rooms/tea").await["head"], 41);
    server.terminate();
    server.start_again().await;
    assert_eq!(
        posts(&ana, "/rooms", &[("room", "den")]).await,
        StatusCode::CONFLICT
    );
    assert_eq!(copies(&server, backend, "SECRET").await, NONE);
}

/// Invariant: within two seconds nobody has anything of it open at any node.
async fn a_deleted_room_ends_for_everybody_at_once(backend: Backend) {
    let server = Server::start(backend).await;
    let other = server.another_node_on(backend).await;
    let there = &other.as_ref().unwrap_or(&server).base;
    let (admin, ana) = (server.person("admin").await, server.person("ana").await);
    makes(&ana, &[("room", "den"), ("access", "open")]).await;
    let ben = server.person("ben").await;
    ben.enters("den").await;
    let ben = ben.at(there);
    ben.says("den", "hello").await;
    let mut ends = JoinSet::new();
    for person in [&ana, &ben] {
        opens_all_streams(person, "den", &mut ends).await;
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    // An admin may, too.
    let deleted = posts(&admin, DELETE, &[("confirm", "den")]).await;
    assert_eq!(deleted, StatusCode::NO_CONTENT);
    let deleted_at = Instant::now();
    while let Some(end) = ends.join_next().await {
        let (path, said, at) = end.unwrap();
        let took = at.saturating_duration_since(deleted_at);
        assert!(took < Duration::from_secs(2), "{path} took {took:?}");
        // A wait may end a moment before the membership does.
        if path == "poll" && said != "200 OK" {
            assert_eq!(said, "404 Not Found");
        }
    }
    let is_out = async || {
        let page = ben.get("/rooms/den/messages").await;
        let lobby = ben.json("/rooms").await;
        page.status() == StatusCode::NOT_FOUND && lobby["rooms"].as_array().unwrap().is_empty()
    };
    eventually("the other node knows", Duration::from_secs(2), is_out).await;
}

/// Invariant: a room that was deleted stays so, whatever was under way at other nodes.
async fn whoever_writes_while_a_room_is_deleted_brings_nothing_back(backend: Backend) {
    let server = Server::start(backend).await;
    let other = server.another_node_on(backend).await;
    let there = &other.as_ref().unwrap_or(&server).base;
    let ana = server.person("ana").await;
    makes(&ana, &[("room", "den"), ("access", "open")]).await;
    let mut people = Vec::new();
    for number in 0..8 {
        let person = server.person(&format!("user{number}")).await.at(there);
        if number % 2 == 0 {
            person.enters("den").await;
        }
        people.push(person);
    }
    let mut writing = JoinSet::new();
    for (number, person) in people.iter().cloned().enumerate() {
        writing.spawn(async move {
            for turn in 0..60 {
                let (path, form) = match number % 2 {
                    0 => ("/rooms/den/messages", [("body", "SECRET")]),
                    _ if turn % 2 == 0 => ("/rooms", [("room", "den")]),
                    _ => ("/rooms/den/leave", [("leave", "yes")]),
                };
                let status = posts(&person, path, &form).await;
                assert_ne!(status, StatusCode::INTERNAL_SERVER_ERROR);
            }
        });
    }
    tokio::time::sleep(Duration::from_millis(100)).await;
    let deleted = posts(&ana, DELETE, &[("confirm", "den")]).await;
    assert_eq!(deleted, StatusCode::NO_CONTENT);
    while let Some(done) = writing.join_next().await {
        done.unwrap();
    }
    let is_gone = async || {
        for person in &people {
            let page = person.get_as("application/json", "/rooms/den").await;
            let lobby = person.json("/rooms").await;
            if page.status() != StatusCode::NOT_FOUND
                || !lobby["rooms"].as_array().unwrap().is_empty()
            {
                return false;
            }
        }
        true
    };
    eventually("it is gone for all", Duration::from_secs(3), is_gone).await;
    // A write that another node was asked for a moment before is erased a little later.
    let is_erased = async || copies(&server, backend, "SECRET").await == NONE;
    eventually("nothing is left", Duration::from_secs(45), is_erased).await;
}

async fn a_deletion_is_done_once(backend: Backend) {
    let opened = open(backend).await;
    let store = &opened.store;
    let ana = opened.user("ana").await;
    let (den, tea) = (room("den"), room("tea"));
    for room in [&den, &tea] {
        store.join(room, &ana, None).await.unwrap();
    }
    for number in 0..2_500 {
        let text = format!("number {number}");
        let said = store.append(&den, message(&ana, &text, None));
        said.await.unwrap();
    }
    let mut all = JoinSet::new();
    for _ in 0..10 {
        let (store, den) = (std::sync::Arc::clone(store), den.clone());
        all.spawn(async move { store.delete_room(&den).await.unwrap() });
    }
    let done = all.join_all().await;
    assert!(done.contains(&true));
    assert!(store.settings(&den).await.unwrap().is_none());
    assert!(store.page_after(&den, 0, 10).await.unwrap().is_empty());
    assert_eq!(store.count_members(&den).await.unwrap(), 0);
    assert!(!store.delete_room(&room("nothing")).await.unwrap());
    assert_eq!(store.count_members(&tea).await.unwrap(), 1);
    let listed = store
        .all_rooms(String::new(), String::new(), 10)
        .await
        .unwrap();
    assert_eq!(listed.len(), 1);
    let taken = store.join(&den, &ana, None).await;
    assert!(matches!(taken, Err(parlor::store::StoreError::RoomTaken)));
}

/// Invariant: a room is there, whole, or it is out of reach and erased, also when its node is killed meanwhile.
async fn a_deletion_that_was_killed_is_finished(backend: Backend) {
    let mut aim = Aim::default();
    while let Some(pause) = aim.next() {
        let mut server = Server::start(backend).await;
        let ana = server.person("ana").await;
        makes(&ana, &[("room", "den"), ("name", "SECRET")]).await;
        ana.says_often("den", "SECRET", 6_000).await;
        let deletion = ana.request(Method::POST, DELETE);
        let deletion = tokio::spawn(deletion.form(&[("confirm", "den")]).send());
        tokio::time::sleep(pause).await;
        server.kill();
        drop(deletion.await);
        let left = copies(&server, backend, "SECRET").await;
        server.start_again().await;
        let seen = ana.get_as("application/json", "/rooms/den").await;
        aim.hit(seen.status() != StatusCode::OK, left == NONE);
        // The database may still begin with what the killed one has sent: there is one answer.
        if seen.status() == StatusCode::OK {
            let seen: Value = seen.json().await.unwrap();
            assert_eq!(seen["head"], 6_001);
            continue;
        }
        assert_eq!(seen.status(), StatusCode::NOT_FOUND);
        let is_erased = async || copies(&server, backend, "SECRET").await == NONE;
        eventually("nothing is left", Duration::from_secs(45), is_erased).await;
        let nobody = Person::nobody(&server.base);
        assert_eq!(nobody.get("/healthz").await.status(), StatusCode::OK);
    }
}
