//! Access to rooms and the rights of their owners, as people and programs meet them.

mod directs;
mod table;

use std::sync::Arc;
use std::time::Duration;

use reqwest::header::ACCEPT;
use reqwest::{Method, Response, StatusCode};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::changes::at_tea;
use crate::support::{Backend, Person, Server, assert_contains, assert_lacks, eventually};

on_both_stores!(
    a_room_is_made_with_a_name,
    what_is_wrong_with_a_room_is_said_at_its_field,
    a_private_room_is_as_if_it_were_not,
    owners_add_and_remove_people,
    owners_decide_and_others_do_not,
    whoever_is_kept_out_is_out_everywhere,
    an_owner_deletes_what_others_wrote,
    settings_are_seen_at_every_node,
    a_private_room_is_opened_only_on_purpose,
    open_rooms_are_offered,
    an_owner_leaves_and_another_follows,
    what_is_archived_is_only_read,
    a_room_that_cannot_be_made_now_is_typed_once,
    where_only_owners_write_others_read,
);

pub(crate) async fn sends(
    who: &Person,
    method: Method,
    path: &str,
    form: &[(&str, &str)],
) -> Response {
    let request = who.request(method, path).header(ACCEPT, "application/json");
    request.form(form).send().await.unwrap()
}

pub(crate) async fn posts(who: &Person, path: &str, form: &[(&str, &str)]) -> StatusCode {
    sends(who, Method::POST, path, form).await.status()
}

/// Makes a room with a program, and answers its id.
pub(crate) async fn makes(who: &Person, form: &[(&str, &str)]) -> String {
    let answer = sends(who, Method::POST, "/rooms", form).await;
    assert_eq!(answer.status(), StatusCode::CREATED);
    let room: Value = answer.json().await.unwrap();
    room["room"].as_str().unwrap().to_owned()
}

/// The people of a room, with their roles.
async fn people(who: &Person, room: &str) -> Vec<String> {
    let answer = who.json(&format!("/rooms/{room}/people")).await;
    let person = |one: &Value| {
        let text = |key: &str| one[key].as_str().unwrap().to_owned();
        format!("{} {}", text("username"), text("role"))
    };
    let people = answer["people"].as_array().unwrap();
    people.iter().map(person).collect()
}

async fn a_room_is_made_with_a_name(backend: Backend) {
    let server = Server::start(backend).await;
    let (ana, ben) = (server.person("ana").await, server.person("ben").await);
    let page = ana.get("/new").await.text().await.unwrap();
    assert_contains(&page, "action=\"/rooms\"");
    let form = [
        ("name", "Tea Time"),
        ("topic", "Leaves"),
        ("access", "open"),
    ];
    let made = ana.post("/rooms", &form).await;
    assert_eq!(made.status(), StatusCode::SEE_OTHER);
    assert_eq!(made.headers()["location"], "/rooms/tea-time");
    let page = ana.get("/rooms/tea-time").await.text().await.unwrap();
    assert_contains(&page, ">Tea Time</a></h1>");
    assert_contains(&page, ">Leaves</span>");
    let settings = ana.json("/rooms/tea-time/settings").await;
    let expected = json!({
        "room": "tea-time", "name": "Tea Time", "topic": "Leaves", "access": "open",
        "posting": "everybody", "archived": false, "level": "all",
    });
    assert_eq!(settings, expected);
    let room = ana.json("/rooms/tea-time").await;
    assert_eq!(room["name"], "Tea Time");
    let lobby = ana.json("/rooms").await;
    assert_eq!(lobby["rooms"][0]["name"], "Tea Time");
    assert_eq!(people(&ana, "tea-time").await, ["ana owner"]);

    // Sent twice it is made once; somebody else cannot make it, and can enter it.
    assert_eq!(
        ana.post("/rooms", &form).await.status(),
        StatusCode::SEE_OTHER
    );
    assert_eq!(posts(&ben, "/rooms", &form).await, StatusCode::CONFLICT);
    ben.enters("tea-time").await;
    assert_eq!(people(&ben, "tea-time").await, ["ana owner", "ben member"]);

    // Nobody guesses the id of a private room, and a name without Latin letters has one, too.
    let den = makes(&ana, &[("name", "Den"), ("access", "private")]).await;
    assert!(den.starts_with("den-") && den.len() == 12, "{den}");
    let tea = makes(&ana, &[("name", "お茶")]).await;
    assert!(tea.starts_with("room-"), "{tea}");
    let own = makes(&ana, &[("room", "My_Den"), ("access", "private")]).await;
    assert_eq!(own, "my_den");
}

async fn what_is_wrong_with_a_room_is_said_at_its_field(backend: Backend) {
    let server = Server::start(backend).await;
    let (ana, ben) = (server.person("ana").await, server.person("ben").await);
    ben.enters("tea").await;
    let long = "x".repeat(65);
    for (form, says) in [
        ([("name", &*long), ("access", "open")], "at most 64"),
        ([("name", "a\u{202e}b"), ("access", "open")], "one line"),
        (
            [("name", "Tea"), ("access", "closed")],
            "open, unlisted or private",
        ),
        ([("name", "<i>"), ("room", "no spaces")], "only letters a–z"),
        ([("name", "Tea"), ("access", "open")], "This id is taken"),
    ] {
        let answer = ana.post("/rooms", &form).await;
        assert!(answer.status().is_client_error(), "{form:?}");
        let page = answer.text().await.unwrap();
        assert_contains(&page, says);
        let marks = ["aria-invalid=\"true\"", "class=\"error\" role=\"alert\""];
        assert!(marks.iter().any(|mark| page.contains(mark)), "{page}");
        assert_lacks(&page, "<i>");
        let answer = sends(&ana, Method::POST, "/rooms", &form).await;
        let problem: Value = answer.json().await.unwrap();
        assert_contains(&problem["detail"].to_string(), says);
    }
    // The typed text is still there.
    let form = [("name", "Tea & “cups”"), ("topic", "Mine"), ("room", "tea")];
    let page = ana.post("/rooms", &form).await.text().await.unwrap();
    assert_contains(&page, "value=\"Tea &#38; “cups”\"");
    assert_contains(&page, "value=\"Mine\"");
    assert_contains(&page, "value=\"tea\"");
}

/// Invariant: to whoever was not added, a private room looks like one that is not there.
async fn a_private_room_is_as_if_it_were_not(backend: Backend) {
    let server = Server::start(backend).await;
    let (ana, ben) = (server.person("ana").await, server.person("ben").await);
    makes(
        &ana,
        &[("room", "secret"), ("name", "Cabal"), ("access", "private")],
    )
    .await;
    let said = ana.says("secret", "the plan").await;
    let removed = server.person("removed").await;
    posts(&ana, "/rooms/secret/people", &[("username", "removed")]).await;
    posts(&ana, "/rooms/secret/people/removed/remove", &[]).await;
    let banned = server.person("banned").await;
    posts(&ana, "/rooms/secret/people/banned/ban", &[("on", "1")]).await;
    for who in [&ben, &removed, &banned] {
        for (method, path) in [
            (Method::GET, ""),
            (Method::GET, "/messages"),
            (Method::GET, "/messages?after=0&wait=1"),
            (Method::GET, &format!("/messages/{said}")),
            (Method::GET, "/events"),
            (Method::GET, "/events?format=html"),
            (Method::GET, "/live"),
            (Method::GET, "/people"),
            (Method::GET, "/settings"),
            (Method::POST, "/messages"),
            (Method::POST, &format!("/messages/{said}")),
            (Method::POST, &format!("/messages/{said}/delete")),
            (Method::POST, &format!("/messages/{said}/reactions")),
            (Method::POST, "/people"),
            (Method::POST, "/people/ana/role"),
            (Method::POST, "/people/ana/remove"),
            (Method::POST, "/people/ana/ban"),
            (Method::POST, "/settings"),
            (Method::POST, "/read"),
            (Method::POST, "/typing"),
            (Method::POST, "/leave"),
        ] {
            for accept in ["text/html", "application/json", "text/plain"] {
                let mut answers = Vec::new();
                for room in ["secret", "nosuch"] {
                    let path = format!("/rooms/{room}{path}");
                    let request = who.request(method.clone(), &path).header(ACCEPT, accept);
                    let form = [("body", "x"), ("username", "ben"), ("role", "owner")];
                    let request = match method {
                        Method::POST => request.form(&form),
                        _ => request,
                    };
                    let answer = request.send().await.unwrap();
                    let status = answer.status();
                    let location = answer.headers().get("location").cloned();
                    let location = location.map(|it| it.to_str().unwrap().replace(room, "ROOM"));
                    let text = answer.text().await.unwrap().replace(room, "ROOM");
                    answers.push((status, location, text));
                }
                assert_eq!(answers[0], answers[1], "{method} {path} as {accept}");
            }
        }
        let lobby = who.json("/rooms?q=").await;
        assert_eq!(lobby["rooms"], json!([]));
        assert_eq!(lobby["open"], json!([]));
        // That it is taken is all there is to hear, as of a room one has not meant to enter.
        for form in [
            &[("room", "secret")][..],
            &[("room", "secret"), ("name", "x")],
        ] {
            let answer = sends(who, Method::POST, "/rooms", form).await;
            assert_eq!(answer.status(), StatusCode::CONFLICT);
            assert_lacks(&answer.text().await.unwrap(), "Cabal");
        }
        let page = who.post("/rooms", &[("room", "secret")]).await;
        assert_eq!(page.status(), StatusCode::CONFLICT);
        assert_contains(&page.text().await.unwrap(), "This id is taken");
    }
    assert_eq!(people(&ana, "secret").await, ["ana owner"]);
}

async fn owners_add_and_remove_people(backend: Backend) {
    let server = Server::start(backend).await;
    let (ana, ben) = (server.person("ana").await, server.person("ben").await);
    makes(&ana, &[("room", "den"), ("access", "private")]).await;
    let added = ana
        .post("/rooms/den/people", &[("username", " @BEN ")])
        .await;
    assert_eq!(added.status(), StatusCode::SEE_OTHER);
    assert_eq!(added.headers()["location"], "/rooms/den/people");
    assert_eq!(people(&ben, "den").await, ["ana owner", "ben member"]);
    let lobby = ben.json("/rooms").await;
    assert_eq!(lobby["rooms"][0]["unread"], 0);
    let again = sends(
        &ana,
        Method::POST,
        "/rooms/den/people",
        &[("username", "ben")],
    )
    .await;
    assert_eq!(again.status(), StatusCode::CREATED);
    assert_eq!(again.json::<Value>().await.unwrap()["username"], "ben");

    // Nobody, and nobody by their address.
    for typed in ["nobody", "ben@example.org", "", "a b"] {
        let form = [("username", typed)];
        let page = ana.post("/rooms/den/people", &form).await;
        assert_eq!(page.status(), StatusCode::UNPROCESSABLE_ENTITY);
        let page = page.text().await.unwrap();
        assert_contains(&page, "Nobody on this server is called so.");
        assert_contains(&page, &format!("value=\"{typed}\""));
        let status = posts(&ana, "/rooms/den/people", &form).await;
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
    }
    let page = ana.get("/rooms/den/people").await.text().await.unwrap();
    assert_contains(&page, "action=\"/rooms/den/people/ben/remove\"");
    let page = ben.get("/rooms/den/people").await.text().await.unwrap();
    assert_lacks(&page, "/remove\"");
    let text = ben.get_as("text/plain", "/rooms/den/people").await;
    let text = text.text().await.unwrap();
    let lines: Vec<Vec<&str>> = text
        .lines()
        .map(|line| line.split('\t').collect())
        .collect();
    for (line, name, role) in [(&lines[0], "ana", "owner"), (&lines[1], "ben", "member")] {
        assert_eq!((line[0], line[1], line[3]), (name, role, "-"));
        assert!(line[2].ends_with('Z'), "{text}");
    }

    let removed = ana.post("/rooms/den/people/ben/remove", &[]).await;
    assert_eq!(removed.status(), StatusCode::SEE_OTHER);
    assert_eq!(ben.get("/rooms/den").await.status(), StatusCode::NOT_FOUND);
    let log = ana.log("den").await;
    let by = |event: &Value| event["by"]["username"].as_str().map(str::to_owned);
    let by: Vec<_> = log.iter().map(by).collect();
    assert_eq!(by, [None, Some("ana".to_owned()), Some("ana".to_owned())]);
    let page = ana.get("/rooms/den").await.text().await.unwrap();
    assert_contains(&page, "<b>ben</b> was added by ana");
    assert_contains(&page, "<b>ben</b> was removed by ana");
    let text = ana.get_as("text/plain", "/rooms/den").await;
    assert_contains(&text.text().await.unwrap(), " ben was removed by ana\n");
    // By DELETE, and once more.
    posts(&ana, "/rooms/den/people", &[("username", "ben")]).await;
    for _ in 0..2 {
        let deleted = sends(&ana, Method::DELETE, "/rooms/den/people/ben", &[]).await;
        assert_eq!(deleted.status(), StatusCode::NO_CONTENT);
    }
    assert_eq!(people(&ana, "den").await, ["ana owner"]);
}

async fn owners_decide_and_others_do_not(backend: Backend) {
    let server = Server::start(backend).await;
    server.person("admin").await;
    let (ana, ben) = (server.person("ana").await, server.person("ben").await);
    for who in [&ana, &ben] {
        who.enters("tea").await;
    }
    let cleo = server.person("cleo").await;
    cleo.enters("tea").await;
    let tries = async |who: &Person| {
        let mut statuses = Vec::new();
        for (path, form) in [
            ("/rooms/tea/settings", ("topic", "mine")),
            ("/rooms/tea/people", ("username", "cleo")),
            ("/rooms/tea/people/cleo/role", ("role", "member")),
            ("/rooms/tea/people/nobody/role", ("role", "member")),
            ("/rooms/tea/people/dan/remove", ("remove", "yes")),
            ("/rooms/tea/people/dan/ban", ("on", "0")),
        ] {
            statuses.push(posts(who, path, &[form]).await.as_u16());
        }
        statuses
    };
    server.person("dan").await;
    assert_eq!(tries(&ben).await, [403; 6]);
    assert_eq!(tries(&ana).await, [204, 201, 204, 404, 204, 204]);
    let nonsense = posts(&ana, "/rooms/tea/people/ben/role", &[("role", "king")]).await;
    assert_eq!(nonsense, StatusCode::UNPROCESSABLE_ENTITY);
    // A role holds from then on, and both may step down.
    let make = |role| [("role", role)];
    let role = async |who: &Person, of: &str, role| {
        posts(who, &format!("/rooms/tea/people/{of}/role"), &make(role)).await
    };
    assert_eq!(role(&ana, "ben", "owner").await, StatusCode::NO_CONTENT);
    assert_eq!(tries(&ben).await, [204, 201, 204, 404, 204, 204]);
    assert_eq!(role(&ben, "ana", "member").await, StatusCode::NO_CONTENT);
    assert_eq!(tries(&ana).await, [403; 6]);
    assert_eq!(role(&ben, "ben", "member").await, StatusCode::NO_CONTENT);
    // Of all members ana has been here longest.
    assert_eq!(
        people(&cleo, "tea").await,
        ["ana owner", "ben member", "cleo member"]
    );
}

/// Invariant: whoever is kept out hears nothing more within two seconds, at every node, and cannot come back.
async fn whoever_is_kept_out_is_out_everywhere(backend: Backend) {
    let (server, ana, ben) = at_tea(backend).await;
    let other = server.another_node_on(backend).await;
    let there = ben.at(&other.as_ref().unwrap_or(&server).base);
    let mut ends = JoinSet::new();
    for path in ["/rooms/tea/events?after=0", "/rooms/tea/live?after=0"] {
        for who in [ben.clone(), there.clone()] {
            let stream = who.get(path).await;
            assert_eq!(stream.status(), StatusCode::OK);
            ends.spawn(async move { stream.text().await.unwrap() });
        }
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    let banned = posts(&ana, "/rooms/tea/people/ben/ban", &[]).await;
    assert_eq!(banned, StatusCode::NO_CONTENT);
    let all = tokio::time::timeout(Duration::from_secs(2), ends.join_all());
    all.await.expect("streams of who is kept out go on");
    let is_out = async || there.get("/rooms/tea").await.status() == StatusCode::FORBIDDEN;
    eventually("the other node knows", Duration::from_secs(2), is_out).await;
    for who in [&ben, &there] {
        let refused = posts(who, "/rooms", &[("room", "tea")]).await;
        assert_eq!(refused, StatusCode::FORBIDDEN);
        let page = who.get("/rooms/tea").await.text().await.unwrap();
        assert_contains(&page, "keeps you out");
    }
    let add = [("username", "ben")];
    let refused = posts(&ana, "/rooms/tea/people", &add).await;
    assert_eq!(refused, StatusCode::UNPROCESSABLE_ENTITY);
    let own = posts(&ana, "/rooms/tea/people/ana/ban", &[]).await;
    assert_eq!(own, StatusCode::UNPROCESSABLE_ENTITY);
    let page = ana.get("/rooms/tea/people").await.text().await.unwrap();
    assert_contains(&page, "Kept out");
    let listed = ana.json("/rooms/tea/people").await;
    assert_eq!(listed["banned"][0]["username"], "ben");
    assert_eq!(listed["banned"].as_array().unwrap().len(), 1);

    let lifted = sends(&ana, Method::DELETE, "/rooms/tea/people/ben/ban", &[]).await;
    assert_eq!(lifted.status(), StatusCode::NO_CONTENT);
    there.enters("tea").await;
    assert_eq!(people(&ana, "tea").await, ["ana owner", "ben member"]);
    let kept_out = sends(&ana, Method::PUT, "/rooms/tea/people/ben/ban", &[]).await;
    assert_eq!(kept_out.status(), StatusCode::NO_CONTENT);
    assert_eq!(people(&ana, "tea").await, ["ana owner"]);
}

async fn an_owner_deletes_what_others_wrote(backend: Backend) {
    let (server, ana, ben) = at_tea(backend).await;
    let cleo = server.person("cleo").await;
    cleo.enters("tea").await;
    let said = ben.says("tea", "something foul").await;
    let path = format!("/rooms/tea/messages/{said}");
    let refused = sends(&cleo, Method::DELETE, &path, &[]).await;
    assert_eq!(refused.status(), StatusCode::FORBIDDEN);
    let page = cleo.get(&path).await.text().await.unwrap();
    assert_lacks(&page, "/delete\"");
    let page = ana.get(&path).await.text().await.unwrap();
    assert_contains(&page, "Somebody else wrote it.");
    // An owner may delete the messages of others, not edit them.
    let edited = sends(&ana, Method::PATCH, &path, &[("body", "nice")]).await;
    assert_eq!(edited.status(), StatusCode::FORBIDDEN);
    let deleted = ana
        .post(&format!("{path}/delete"), &[("delete", "yes")])
        .await;
    assert_eq!(deleted.status(), StatusCode::SEE_OTHER);
    let log = ben.log("tea").await;
    let last = log.last().unwrap();
    assert_eq!(last["type"], "deleted");
    assert_eq!(last["author"]["username"], "ana");
    assert_lacks(&json!(log).to_string(), "foul");
}

async fn settings_are_seen_at_every_node(backend: Backend) {
    let (server, ana, ben) = at_tea(backend).await;
    let other = server.another_node_on(backend).await;
    let there = ben.at(&other.as_ref().unwrap_or(&server).base);
    // Both nodes keep what they have shown.
    for who in [&ana, &there] {
        assert_contains(&who.get("/rooms").await.text().await.unwrap(), ">tea<");
        assert_contains(
            &who.get("/rooms/tea").await.text().await.unwrap(),
            ">tea</a>",
        );
    }
    let mut stream = there.listens("tea", 2).await;
    let form = [
        ("name", "Tea <Time>"),
        ("topic", "cups"),
        ("access", "open"),
    ];
    let saved = ana.post("/rooms/tea/settings", &form).await;
    assert_eq!(saved.status(), StatusCode::SEE_OTHER);
    assert_eq!(stream.numbers(3).await, [3, 4, 5]);
    let title = async || {
        let page = there.get("/rooms/tea").await.text().await.unwrap();
        page.contains(">Tea &#60;Time&#62;</a>") && page.contains(">cups</span>")
    };
    eventually("the title is there", Duration::from_secs(2), title).await;
    let log = there.log("tea").await;
    let said: Vec<&Value> = log[2..].iter().collect();
    assert_eq!(said[0]["type"], "renamed");
    assert_eq!(said[0]["name"], "Tea <Time>");
    assert_eq!(said[1]["topic"], "cups");
    assert_eq!(said[2]["access"], "open");
    // Nobody has anything to read by that.
    assert_eq!(there.json("/rooms").await["rooms"][0]["unread"], 0);
    // Only what is sent changes, and the same again changes nothing.
    let saved = sends(&ana, Method::POST, "/rooms/tea/settings", &[("topic", "")]).await;
    assert_eq!(saved.status(), StatusCode::NO_CONTENT);
    posts(&ana, "/rooms/tea/settings", &[("name", "Tea <Time>")]).await;
    let settings = there.json("/rooms/tea/settings").await;
    assert_eq!(settings["name"], "Tea <Time>");
    assert_eq!(settings["topic"], Value::Null);
    assert_eq!(there.log("tea").await.len(), 6);
    // Others see them.
    let page = ben.get("/rooms/tea/settings").await.text().await.unwrap();
    assert_contains(&page, "Only an owner");
    assert_lacks(&page, "<button class=\"primary\">Save");
}

async fn a_private_room_is_opened_only_on_purpose(backend: Backend) {
    let server = Server::start(backend).await;
    let (ana, ben) = (server.person("ana").await, server.person("ben").await);
    makes(&ana, &[("room", "den"), ("access", "private")]).await;
    for _ in 0..2 {
        ana.says("den", "between us").await;
    }
    let form = [("name", "The den"), ("access", "unlisted")];
    let answer = sends(&ana, Method::POST, "/rooms/den/settings", &form).await;
    assert_eq!(answer.status(), StatusCode::UNPROCESSABLE_ENTITY);
    let problem: Value = answer.json().await.unwrap();
    assert_eq!(problem["confirm"], "open");
    assert_contains(&problem["detail"].to_string(), "all 2 messages");
    let page = ana.post("/rooms/den/settings", &form).await;
    assert_eq!(page.status(), StatusCode::UNPROCESSABLE_ENTITY);
    let page = page.text().await.unwrap();
    assert_contains(&page, "all 2 messages");
    assert_contains(&page, "name=\"confirm\" value=\"open\"");
    assert_contains(&page, "value=\"The den\"");
    // Nothing was done.
    assert_eq!(ana.log("den").await.len(), 3);
    assert_eq!(ben.get("/rooms/den").await.status(), StatusCode::NOT_FOUND);
    let form = [
        ("name", "The den"),
        ("access", "unlisted"),
        ("confirm", "open"),
    ];
    let opened = posts(&ana, "/rooms/den/settings", &form).await;
    assert_eq!(opened, StatusCode::NO_CONTENT);
    assert_eq!(ben.get("/rooms/den").await.status(), StatusCode::FORBIDDEN);
    ben.enters("den").await;
    // Closing it again leaves who is in it.
    let closed = posts(&ana, "/rooms/den/settings", &[("access", "private")]).await;
    assert_eq!(closed, StatusCode::NO_CONTENT);
    assert_eq!(ben.get("/rooms/den").await.status(), StatusCode::OK);
    posts(&ben, "/rooms/den/leave", &[]).await;
    assert_eq!(ben.get("/rooms/den").await.status(), StatusCode::NOT_FOUND);
}

async fn open_rooms_are_offered(backend: Backend) {
    let server = Server::start(backend).await;
    let (ana, ben) = (server.person("ana").await, server.person("ben").await);
    for (name, access) in [("Tea", "open"), ("Coffee", "open"), ("Attic", "unlisted")] {
        makes(
            &ana,
            &[("name", name), ("access", access), ("topic", "of ana")],
        )
        .await;
    }
    let offered = async |query: &str| {
        let lobby = ben.json(&format!("/rooms?q={query}")).await;
        let room = |open: &Value| format!("{} {}", open["name"], open["people"]);
        let open = lobby["open"].as_array().unwrap();
        open.iter().map(room).collect::<Vec<_>>().join(", ")
    };
    assert_eq!(offered("").await, r#""Coffee" 1, "Tea" 1"#);
    assert_eq!(offered("TE").await, r#""Tea" 1"#);
    assert!(ben.json("/rooms").await.get("open").is_none());
    let page = ben.get("/rooms").await.text().await.unwrap();
    assert_contains(&page, "Coffee");
    assert_lacks(&page, "Attic");
    ben.enters("tea").await;
    assert_eq!(offered("").await, r#""Coffee" 1"#);
    let page = ben.get("/rooms?q=nothing").await.text().await.unwrap();
    assert_contains(&page, "No open room that you are not in has this word.");
}

async fn an_owner_leaves_and_another_follows(backend: Backend) {
    let (server, ana, ben) = at_tea(backend).await;
    let cleo = server.person("cleo").await;
    cleo.enters("tea").await;
    let page = ana.get("/rooms/tea/people").await.text().await.unwrap();
    assert_contains(&page, "whoever has been in it longest does");
    ana.post("/rooms/tea/leave", &[("leave", "yes")]).await;
    assert_eq!(people(&cleo, "tea").await, ["ben owner", "cleo member"]);
    ana.enters("tea").await;
    let expected = ["ana member", "ben owner", "cleo member"];
    assert_eq!(people(&cleo, "tea").await, expected);
    ben.post("/rooms/tea/people/ben/remove", &[]).await;
    assert_eq!(people(&cleo, "tea").await, ["ana member", "cleo owner"]);
}

/// The statuses of a post, an edit, a reaction and typing by one person.
async fn writes(who: &Person, own: u64) -> Vec<u16> {
    let message = format!("/rooms/tea/messages/{own}");
    let reactions = format!("{message}/reactions");
    let mut statuses = Vec::new();
    for (path, form) in [
        ("/rooms/tea/messages", ("body", "more")),
        (&*message, ("body", "other")),
        (&*reactions, ("emoji", "👍")),
    ] {
        statuses.push(posts(who, path, &[form]).await.as_u16());
    }
    statuses
}

/// Whatever keeps a room from being made, the form has what was typed.
async fn a_room_that_cannot_be_made_now_is_typed_once(backend: Backend) {
    let server = Server::start_with(backend, &[("RATE_LIMITS", "on")]).await;
    let ana = server.person("ana").await;
    for number in 0..200 {
        let name = format!("Number {number}");
        let form = [("name", name.as_str()), ("topic", "A topic that was typed")];
        let made = ana.post("/rooms", &form).await;
        if made.status() == StatusCode::SEE_OTHER {
            continue;
        }
        assert_eq!(made.status(), StatusCode::TOO_MANY_REQUESTS);
        assert!(made.headers().contains_key("retry-after"));
        let page = made.text().await.unwrap();
        assert_contains(&page, &format!("value=\"{name}\""));
        assert_contains(&page, "value=\"A topic that was typed\"");
        assert_contains(&page, "role=\"alert\"");
        return;
    }
    panic!("nobody makes so many rooms at once");
}

/// Invariant: once a room is archived nothing is written there, at any node, but what is deleted.
async fn what_is_archived_is_only_read(backend: Backend) {
    let (server, ana, ben) = at_tea(backend).await;
    let other = server.another_node_on(backend).await;
    let there = ben.at(&other.as_ref().unwrap_or(&server).base);
    let sent = ben
        .tries_to_say("tea", "once", Some("nonce-1"))
        .await
        .unwrap();
    let said: Value = sent.json().await.unwrap();
    let own = said["seq"].as_u64().unwrap();
    // It keeps what it shows.
    there.get("/rooms").await;
    there.get("/rooms/tea").await;
    let archived = posts(&ben, "/rooms/tea/settings", &[("archived", "1")]).await;
    assert_eq!(archived, StatusCode::FORBIDDEN);
    let archived = ana.post("/rooms/tea/settings", &[("archived", "1")]).await;
    assert_eq!(archived.status(), StatusCode::SEE_OTHER);
    assert_eq!(writes(&ben, own).await, [403; 3]);
    let is_archived = async || writes(&there, own).await == [403; 3];
    eventually("the other node knows", Duration::from_secs(2), is_archived).await;
    // Nothing that was typed is lost; what was sent before is answered as it was.
    let page = ben
        .post("/rooms/tea/messages", &[("body", "my <words>")])
        .await;
    assert_eq!(page.status(), StatusCode::FORBIDDEN);
    let page = page.text().await.unwrap();
    assert_contains(&page, "This room is archived.");
    assert_contains(&page, "my &#60;words&#62;");
    let page = ben
        .post(
            &format!("/rooms/tea/messages/{own}"),
            &[("body", "my edit")],
        )
        .await;
    assert_eq!(page.status(), StatusCode::FORBIDDEN);
    assert_contains(&page.text().await.unwrap(), "my edit");
    let again = ben
        .tries_to_say("tea", "once", Some("nonce-1"))
        .await
        .unwrap();
    assert_eq!(again.status(), StatusCode::CREATED);
    assert_eq!(again.json::<Value>().await.unwrap()["seq"], own);
    // It is read, entered and left as before, and says what it is.
    let page = ben.get("/rooms/tea").await.text().await.unwrap();
    assert_contains(&page, "class=\"read-only-why\"");
    assert_contains(
        &ben.get("/rooms").await.text().await.unwrap(),
        ">archived</span>",
    );
    let cleo = server.person("cleo").await;
    cleo.enters("tea").await;
    posts(&cleo, "/rooms/tea/leave", &[]).await;
    let delete = format!("/rooms/tea/messages/{own}");
    let deleted = sends(&ben, Method::DELETE, &delete, &[]).await;
    assert_eq!(deleted.status(), StatusCode::NO_CONTENT);

    posts(&ana, "/rooms/tea/settings", &[("archived", "0")]).await;
    let says = async || posts(&there, "/rooms/tea/messages", &[("body", "again")]).await == 201;
    eventually("it is open again", Duration::from_secs(2), says).await;
    let log = ana.log("tea").await;
    let kinds: Vec<&str> = log
        .iter()
        .map(|event| event["type"].as_str().unwrap())
        .collect();
    let expected = "joined joined message archived joined left deleted reopened message".to_owned();
    assert_eq!(kinds.join(" "), expected);
    assert_eq!(log[3]["archived"], true);
}

async fn where_only_owners_write_others_read(backend: Backend) {
    let (_server, ana, ben) = at_tea(backend).await;
    let own = ben.says("tea", "before").await;
    let set = [("posting", "owners")];
    assert_eq!(
        posts(&ana, "/rooms/tea/settings", &set).await,
        StatusCode::NO_CONTENT
    );
    assert_eq!(writes(&ben, own).await, [403; 3]);
    let page = ben.get("/rooms/tea").await.text().await.unwrap();
    assert_contains(&page, "Only the owners of this room write here.");
    let page = ana.get("/rooms/tea").await.text().await.unwrap();
    assert_lacks(&page, "Only the owners of this room write here.");
    let said = ana.says("tea", "news").await;
    assert_eq!(writes(&ana, said).await, [201, 200, 204]);
    posts(&ana, "/rooms/tea/people/ben/role", &[("role", "owner")]).await;
    assert_eq!(writes(&ben, own).await, [201, 200, 204]);
    let wrong = posts(&ana, "/rooms/tea/settings", &[("posting", "nobody")]).await;
    assert_eq!(wrong, StatusCode::UNPROCESSABLE_ENTITY);
    let settings = ben.json("/rooms/tea/settings").await;
    assert_eq!(settings["posting"], "owners");
}

/// A hundred are listed at a time; each form says where the next are.
#[tokio::test(flavor = "multi_thread")]
async fn long_lists_of_people_go_on() {
    let server = Arc::new(Server::start(Backend::Sqlite).await);
    let admin = server.person("admin").await;
    admin.enters("tea").await;
    let mut all = JoinSet::new();
    // As many passwords are hashed at a time as may wait.
    for some in 0..8 {
        let server = Arc::clone(&server);
        all.spawn(async move {
            for number in 0..13 {
                let one = server.person(&format!("one{some}{number:02}")).await;
                one.enters("tea").await;
            }
        });
    }
    all.join_all().await;
    for first in ["/admin", "/rooms/tea/people"] {
        let mut people = 0;
        let mut path = Some(first.to_owned());
        while let Some(next) = path.take() {
            let answer = admin.get_as("text/plain", &next).await;
            let link = answer.headers().get("link");
            path = link.map(|link| {
                let link = link.to_str().unwrap();
                let (path, rel) = link.split_once(">; ").unwrap();
                assert_eq!(rel, "rel=\"next\"");
                path.trim_start_matches('<').to_owned()
            });
            people += answer.text().await.unwrap().lines().count();
        }
        assert_eq!(people, 105, "{first}");
    }
    let member = Person::sign_in(&server.base, "one007").await;
    let listed = member.json("/rooms/tea/people").await;
    assert_eq!(listed["people"].as_array().unwrap().len(), 100);
    assert!(listed["next"].is_string());
    assert!(listed.get("banned").is_none(), "it is the owners' to know");
}
