//! Leaving a room: what ends, and what stays.

use std::time::{Duration, Instant};

use reqwest::header::ACCEPT;
use reqwest::{Method, StatusCode};
use serde_json::Value;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::access::{makes, posts};
use crate::changes::at_tea;
use crate::support::{Backend, Person, Server, assert_contains, assert_lacks, eventually};

on_both_stores!(
    who_has_left_is_out,
    every_stream_of_who_leaves_ends,
    every_stream_of_who_is_put_out_ends,
    owners_who_leave_at_once_are_followed,
    coming_back_starts_with_nothing_unread,
    leaving_is_once_however_often,
    joining_and_leaving_alternate,
);

async fn leaves(who: &Person, room: &str, accept: &str) -> StatusCode {
    let request = who.request(Method::POST, &format!("/rooms/{room}/leave"));
    let answer = request.header(ACCEPT, accept).send().await.unwrap();
    answer.status()
}

/// The kind of each event of a room, and its author.
async fn told(who: &Person, room: &str) -> Vec<(String, String)> {
    let log = who.log(room).await;
    let told = |event: &Value| {
        let text = |field: &Value| field.as_str().unwrap().to_owned();
        (text(&event["type"]), text(&event["author"]["username"]))
    };
    log.iter().map(told).collect()
}

async fn who_has_left_is_out(backend: Backend) {
    let (_server, ana, ben) = at_tea(backend).await;
    let said = ben.says("tea", "a secret for @ana").await;
    let page = ana.get("/rooms/tea/people").await.text().await.unwrap();
    assert_contains(&page, "action=\"/rooms/tea/leave\"");
    let answer = ana.post("/rooms/tea/leave", &[("leave", "yes")]).await;
    assert_eq!(answer.status(), StatusCode::SEE_OTHER);
    assert_eq!(answer.headers()["location"], "/rooms");

    // At once, by every way.
    for path in [
        "/rooms/tea".to_owned(),
        "/rooms/tea/messages".to_owned(),
        format!("/rooms/tea/messages/{said}"),
        "/rooms/tea/events".to_owned(),
        "/rooms/tea/live".to_owned(),
        "/rooms/tea/people".to_owned(),
    ] {
        for accept in ["text/html", "application/json", "text/plain"] {
            let refused = ana.get_as(accept, &path).await;
            assert_eq!(
                refused.status(),
                StatusCode::FORBIDDEN,
                "{path} as {accept}"
            );
            assert_lacks(&refused.text().await.unwrap(), "secret");
        }
    }
    for (path, form) in [
        ("/rooms/tea/messages", ("body", "still here")),
        ("/rooms/tea/read", ("seq", "1")),
        ("/rooms/tea/typing", ("typing", "1")),
        (
            &format!("/rooms/tea/messages/{said}/reactions"),
            ("emoji", "👍"),
        ),
    ] {
        let refused = ana
            .request(Method::POST, path)
            .header(ACCEPT, "application/json");
        let refused = refused.form(&[form]).send().await.unwrap();
        assert_eq!(refused.status(), StatusCode::FORBIDDEN, "{path}");
    }
    let lobby = ana.json("/rooms").await;
    assert_eq!(lobby["rooms"].as_array().unwrap().len(), 0);
    let mentions = ana.json("/mentions").await;
    assert_eq!(mentions["mentions"].as_array().unwrap().len(), 0);
    let people = ben.json("/rooms/tea/people").await;
    assert_lacks(&people.to_string(), "ana");

    // The others see it.
    let last = told(&ben, "tea").await.pop().unwrap();
    assert_eq!(last, ("left".to_owned(), "ana".to_owned()));
    let page = ben.get("/rooms/tea").await.text().await.unwrap();
    assert_contains(&page, "<b>ana</b> left");
    let text = ben
        .get_as("text/plain", "/rooms/tea")
        .await
        .text()
        .await
        .unwrap();
    assert!(text.ends_with(" ana left\n"), "{text}");

    // Programs are answered in their way; and again, and for a room that is none of theirs.
    assert_eq!(
        leaves(&ben, "tea", "application/json").await,
        StatusCode::NO_CONTENT
    );
    assert_eq!(
        leaves(&ben, "tea", "text/plain").await,
        StatusCode::NO_CONTENT
    );
    assert_eq!(
        leaves(&ben, "nowhere", "text/html").await,
        StatusCode::SEE_OTHER
    );
    let nobody = Person::nobody(&ben.base);
    assert_eq!(
        leaves(&nobody, "tea", "application/json").await,
        StatusCode::UNAUTHORIZED
    );
}

/// The streams and the wait that somebody can have open in a room: the path of each, what it says, and its end.
pub(crate) async fn opens_all_streams(
    person: &Person,
    room: &str,
    ends: &mut JoinSet<(&'static str, String, Instant)>,
) {
    for (accept, path) in [
        ("text/event-stream", "events?after=0"),
        ("text/event-stream", "events?format=html&after=0"),
        ("text/plain", "events?after=0"),
        ("application/x-ndjson", "events?after=0"),
        ("text/html", "live?after=0"),
    ] {
        let stream = person
            .get_as(accept, &format!("/rooms/{room}/{path}"))
            .await;
        assert_eq!(stream.status(), StatusCode::OK, "{path}");
        ends.spawn(async move {
            let is_over = timeout(Duration::from_secs(20), stream.text()).await;
            let said = is_over.unwrap_or_else(|_| panic!("{path} goes on"));
            let said = said.unwrap();
            if accept == "text/event-stream" {
                assert_contains(&said, "event: removed\n");
            }
            (path, said, Instant::now())
        });
    }
    let head = person.json(&format!("/rooms/{room}")).await["cursor"].clone();
    let head = head.as_str().unwrap();
    let poll = format!("/rooms/{room}/messages?after={head}&wait=25");
    let person = person.clone();
    ends.spawn(async move {
        let answer = person.get_as("application/json", &poll).await;
        let status = answer.status().to_string();
        ("poll", status, Instant::now())
    });
}

/// Invariant: within two seconds every stream and wait of a member who leaves is over, on every node; those
/// of others go on.
async fn every_stream_of_who_leaves_ends(backend: Backend) {
    let (server, ana, ben) = at_tea(backend).await;
    ana.enters("den").await;
    let other = server.another_node_on(backend).await;
    let there = ana.at(&other.as_ref().unwrap_or(&server).base);
    let mut ends = JoinSet::new();
    for person in [&ana, &there] {
        opens_all_streams(person, "tea", &mut ends).await;
    }
    let mut bens = ben.listens("tea", 0).await;
    bens.numbers(2).await;
    let mut anas = there.listens("den", 0).await;
    anas.numbers(1).await;
    // All of them have begun.
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(
        leaves(&ana, "tea", "application/json").await,
        StatusCode::NO_CONTENT
    );
    let left_at = Instant::now();
    while let Some(end) = ends.join_next().await {
        let (path, said, at) = end.unwrap();
        let took = at.saturating_duration_since(left_at);
        assert!(took < Duration::from_secs(2), "{path} took {took:?}");
        if path == "poll" {
            assert_eq!(said, "403 Forbidden");
        }
    }
    ben.says("tea", "among us").await;
    assert_eq!(
        bens.numbers(2).await,
        [3, 4],
        "who left, and what is said then"
    );
    ana.says("den", "still here").await;
    assert_eq!(anas.numbers(1).await, [2]);
    let is_out = async || there.get("/rooms/tea/messages").await.status() == StatusCode::FORBIDDEN;
    eventually("the other node knows", Duration::from_secs(2), is_out).await;
}

/// Invariant: the same of a member who is removed or banned, whose lobby at another node hears of it, too.
async fn every_stream_of_who_is_put_out_ends(backend: Backend) {
    let server = Server::start(backend).await;
    let other = server.another_node_on(backend).await;
    let there = &other.as_ref().unwrap_or(&server).base;
    let ana = server.person("ana").await;
    makes(&ana, &[("room", "den"), ("access", "private")]).await;
    for (name, act) in [("ben", "remove"), ("cleo", "ban")] {
        let here = server.person(name).await;
        posts(&ana, "/rooms/den/people", &[("username", name)]).await;
        let there = here.at(there);
        let mut ends = JoinSet::new();
        for person in [&here, &there] {
            opens_all_streams(person, "den", &mut ends).await;
        }
        let cursor = there.json("/rooms").await["cursor"].clone();
        let lobby = format!("/rooms?after={}&wait=25", cursor.as_str().unwrap());
        let waits = there.clone();
        let waits = tokio::spawn(async move { waits.json(&lobby).await });
        tokio::time::sleep(Duration::from_millis(500)).await;
        let put_out = posts(&ana, &format!("/rooms/den/people/{name}/{act}"), &[]).await;
        assert_eq!(put_out, StatusCode::NO_CONTENT);
        let put_out_at = Instant::now();
        // A text of their own, as they may read what was said before they came.
        let secret = format!("SECRET-{name}");
        ana.says("den", &secret).await;
        while let Some(end) = ends.join_next().await {
            let (path, said, at) = end.unwrap();
            let took = at.saturating_duration_since(put_out_at);
            assert!(took < Duration::from_secs(2), "{act}: {path} took {took:?}");
            assert_lacks(&said, &secret);
        }
        let lobby = timeout(Duration::from_secs(2), waits).await;
        let lobby = lobby.expect("the lobby hears of it").unwrap();
        assert_eq!(lobby["rooms"].as_array().unwrap().len(), 0);
        for person in [&here, &there] {
            let page = person.get("/rooms/den").await;
            assert_eq!(page.status(), StatusCode::NOT_FOUND, "{act}");
        }
    }
}

/// Invariant: a room with people in it has an owner, also when fifty leave or step down at two nodes at once.
async fn owners_who_leave_at_once_are_followed(backend: Backend) {
    let server = Server::start(backend).await;
    let other = server.another_node_on(backend).await;
    let there = &other.as_ref().unwrap_or(&server).base;
    server.person("admin").await;
    let first = server.person("first").await;
    makes(&first, &[("room", "den"), ("access", "private")]).await;
    let mut owners = vec![first.clone()];
    for number in 0..49 {
        let name = format!("owner{number}");
        let person = server.person(&name).await;
        posts(&first, "/rooms/den/people", &[("username", &name)]).await;
        let role = format!("/rooms/den/people/{name}/role");
        posts(&first, &role, &[("role", "owner")]).await;
        owners.push(if number % 2 == 0 {
            person
        } else {
            person.at(there)
        });
    }
    let last = server.person("last").await;
    posts(&first, "/rooms/den/people", &[("username", "last")]).await;
    let mut all = JoinSet::new();
    for (number, owner) in owners.into_iter().enumerate() {
        all.spawn(async move {
            let role = format!("/rooms/den/people/{}/role", owner.name);
            let steps_down = number % 3 == 0;
            let stepped = match steps_down {
                true => posts(&owner, &role, &[("role", "member")]).await,
                false => StatusCode::NO_CONTENT,
            };
            assert_eq!(stepped, StatusCode::NO_CONTENT);
            assert_eq!(
                leaves(&owner, "den", "application/json").await,
                StatusCode::NO_CONTENT
            );
        });
    }
    all.join_all().await;
    for last in [&last, &last.at(there)] {
        let is_last = async || {
            let people = last.json("/rooms/den/people").await;
            let people = people["people"].as_array().unwrap();
            people.len() == 1 && people[0]["role"] == "owner"
        };
        eventually("the last one owns it", Duration::from_secs(2), is_last).await;
        let topic = posts(last, "/rooms/den/settings", &[("topic", "mine")]).await;
        assert_eq!(topic, StatusCode::NO_CONTENT);
    }
}

async fn coming_back_starts_with_nothing_unread(backend: Backend) {
    let (_server, ana, ben) = at_tea(backend).await;
    ben.says("tea", "one for @ana").await;
    // A lobby that waits hears of it, and does not take one room for another.
    let cursor = ana.json("/rooms").await["cursor"].clone();
    let waiting = format!("/rooms?after={}&wait=20", cursor.as_str().unwrap());
    let waits = { ana.clone() };
    let waits = tokio::spawn(async move { waits.json(&waiting).await });
    tokio::time::sleep(Duration::from_millis(300)).await;
    leaves(&ana, "tea", "application/json").await;
    let lobby = timeout(Duration::from_secs(5), waits)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(lobby["rooms"].as_array().unwrap().len(), 0);
    for text in ["two for @ana", "three"] {
        ben.says("tea", text).await;
    }
    ana.enters("tea").await;
    let lobby = ana.json("/rooms").await;
    assert_eq!(lobby["rooms"][0]["unread"], 0);
    assert_eq!(lobby["rooms"][0]["mentions"], 0);
    assert_ne!(lobby["cursor"], cursor);
    ben.says("tea", "four for @ana").await;
    let lobby = ana.json("/rooms").await;
    assert_eq!(lobby["rooms"][0]["unread"], 1);
    assert_eq!(lobby["rooms"][0]["mentions"], 1);
    let kinds: Vec<String> = told(&ana, "tea")
        .await
        .into_iter()
        .map(|(kind, _)| kind)
        .collect();
    let expected = "joined joined message left message message joined message";
    assert_eq!(kinds.join(" "), expected);
}

async fn leaving_is_once_however_often(backend: Backend) {
    let (server, ana, ben) = at_tea(backend).await;
    let other = server.another_node_on(backend).await;
    let there = ana.at(&other.as_ref().unwrap_or(&server).base);
    let mut all = JoinSet::new();
    for number in 0..40 {
        let who = if number % 2 == 0 {
            ana.clone()
        } else {
            there.clone()
        };
        all.spawn(async move { leaves(&who, "tea", "application/json").await });
    }
    for status in all.join_all().await {
        assert_eq!(status, StatusCode::NO_CONTENT);
    }
    let told = told(&ben, "tea").await;
    let left = told.iter().filter(|(kind, _)| kind == "left").count();
    assert_eq!(left, 1);
}

/// Invariant: whoever joins and leaves when and where, one's events in a room take turns, and the last says
/// whether one is in it.
async fn joining_and_leaving_alternate(backend: Backend) {
    let (server, ana, ben) = at_tea(backend).await;
    let other = server.another_node_on(backend).await;
    let there = ana.at(&other.as_ref().unwrap_or(&server).base);
    let mut all = JoinSet::new();
    for task in 0..6 {
        let who = if task % 2 == 0 {
            ana.clone()
        } else {
            there.clone()
        };
        all.spawn(async move {
            for round in 0..8 {
                if (task + round) % 3 == 0 {
                    leaves(&who, "tea", "application/json").await;
                } else {
                    who.post("/rooms", &[("room", "tea")]).await;
                }
            }
        });
    }
    all.join_all().await;
    let told = told(&ben, "tea").await;
    let own = told.iter().filter(|(_, name)| name == "ana");
    let kinds: Vec<&str> = own.map(|(kind, _)| kind.as_str()).collect();
    for (at, kind) in kinds.iter().enumerate() {
        let expected = ["joined", "left"][at % 2];
        assert_eq!(*kind, expected, "{kinds:?}");
    }
    let is_in = *kinds.last().unwrap() == "joined";
    let knows = async || {
        let expected = if is_in {
            StatusCode::OK
        } else {
            StatusCode::FORBIDDEN
        };
        let (here, far) = tokio::join!(ana.get("/rooms/tea"), there.get("/rooms/tea"));
        here.status() == expected && far.status() == expected
    };
    eventually("both nodes say so", Duration::from_secs(3), knows).await;
}
