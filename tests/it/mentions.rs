//! Mentions: whom a message is for, and where they find it.

use std::time::Duration;

use reqwest::header::{ACCEPT, CONTENT_TYPE};
use reqwest::{Method, Response, StatusCode};
use serde_json::{Value, json};

use crate::changes::at_tea;
use crate::support::{Backend, Person, assert_contains, assert_lacks, eventually};

on_both_stores!(
    a_name_is_resolved_when_it_is_posted,
    everybody_is_meant_only_when_that_is_said_twice,
    what_is_for_me_is_counted_and_listed,
    mentions_are_listed_page_by_page,
    a_deleted_mention_counts_no_longer,
    people_are_found_by_how_their_names_begin,
    mentions_count_at_every_node,
    an_answer_mentions_fifty_people_at_most,
);

/// Posts a form, as a program does.
async fn post(who: &Person, room: &str, form: &[(&str, &str)]) -> Response {
    let request = who.request(Method::POST, &format!("/rooms/{room}/messages"));
    let request = request.header(ACCEPT, "application/json").form(form);
    request.send().await.unwrap()
}

/// The names that a message mentions, with `@room` for everybody.
fn mentioned(message: &Value) -> Vec<&str> {
    let users = message["mentions"].as_array().into_iter().flatten();
    let names = users.map(|user| user["username"].as_str().unwrap());
    let room = (message["mentions_room"] == true).then_some("@room");
    names.chain(room).collect()
}

/// The counts of a room in the lobby: unread messages, and unread mentions.
async fn counts(who: &Person, room: &str) -> (u64, u64) {
    let lobby = who.json("/rooms").await;
    let rooms = lobby["rooms"].as_array().unwrap();
    let room = rooms.iter().find(|one| one["room"] == room).unwrap();
    let number = |field: &str| room[field].as_u64().unwrap();
    (number("unread"), number("mentions"))
}

/// The texts of what is listed, those that are unread with a star.
async fn listed(who: &Person, path: &str) -> Vec<String> {
    let listed = who.json(path).await;
    let mentions = listed["mentions"].as_array().unwrap();
    let text = |mention: &Value| {
        let star = if mention["unread"] == true { "*" } else { "" };
        format!("{star}{}", mention["body"].as_str().unwrap())
    };
    mentions.iter().map(text).collect()
}

async fn a_name_is_resolved_when_it_is_posted(backend: Backend) {
    let (server, ana, ben) = at_tea(backend).await;
    let cleo = server.person("cleo.d").await;
    let stranger = server.person("stranger").await;
    stranger.enters("den").await;
    cleo.enters("tea").await;
    for (text, expected) in [
        ("hello @ben", vec!["ben"]),
        ("@BEN, @cleo.d. and @ana", vec!["ben", "cleo.d"]),
        ("@stranger @nobody @be", vec![]),
        ("`@ben` ben@example.org https://a.example/@ben", vec![]),
        ("> @ben said\n\nwell", vec![]),
        ("```\n@ben\n```", vec![]),
        ("**@ben**\n- @cleo.d", vec!["ben", "cleo.d"]),
        ("[@ben](https://a.example)", vec![]),
    ] {
        let seq = ana.says("tea", text).await;
        let message = ana.json(&format!("/rooms/tea/messages/{seq}")).await;
        assert_eq!(mentioned(&message), expected, "{text:?}");
        if expected.first() == Some(&"ben") {
            assert_eq!(message["mentions"][0]["id"], ben.id);
        }
    }
    // An answer is for the author of what it answers.
    let asked = ben.says("tea", "a question").await;
    let form = [("body", "to @cleo.d too"), ("reply_to", &asked.to_string())];
    let answer: Value = post(&ana, "tea", &form).await.json().await.unwrap();
    assert_eq!(mentioned(&answer), ["ben", "cleo.d"]);
    let own = [("body", "and so on"), ("reply_to", &asked.to_string())];
    let own: Value = post(&ben, "tea", &own).await.json().await.unwrap();
    assert_eq!(mentioned(&own), [""; 0]);

    // An edit neither adds nor takes away.
    let path = format!("/rooms/tea/messages/{}", answer["seq"]);
    let edit = ana
        .request(Method::PATCH, &path)
        .form(&[("body", "@ana @room @stranger `x`")]);
    let edited = edit
        .header(ACCEPT, "application/json")
        .send()
        .await
        .unwrap();
    assert_eq!(edited.status(), StatusCode::OK);
    assert_eq!(mentioned(&edited.json().await.unwrap()), ["ben", "cleo.d"]);

    // The row has the ids, and marks the name. A name in it is no markup.
    let seq = ana.says("tea", "<b>@ben</b>").await;
    let page = ben.get("/rooms/tea").await.text().await.unwrap();
    let name = format!(
        "&#60;b&#62;<span class=\"name\" data-user=\"{}\">@ben</span>",
        ben.id
    );
    assert_contains(&page, &name);
    assert_contains(&page, &format!("data-mentions=\"{}\"", ben.id));
    assert_contains(&page, &format!("href=\"/reader.css?of={}\"", ben.id));
    let css = ben.get(&format!("/reader.css?of={}", ben.id)).await;
    assert_eq!(css.headers()["content-type"], "text/css; charset=utf-8");
    assert_contains(&css.text().await.unwrap(), &ben.id);
    for odd in ["x", "", "*\"]{}", &format!("{}x", ben.id)] {
        let path = format!("/reader.css?of={odd}");
        assert_eq!(
            ben.get(&path).await.status(),
            StatusCode::NOT_FOUND,
            "{odd}"
        );
    }
    let text = ana
        .get_as("text/plain", &format!("/rooms/tea/messages/{seq}"))
        .await;
    assert!(text.text().await.unwrap().ends_with("ana: <b>@ben</b>\n"));

    // Nobody is called what means everybody.
    let form = [
        ("username", "Room"),
        ("email", "room@example.org"),
        ("password", crate::support::PASSWORD),
    ];
    let refused = Person::nobody(&server.base).post("/signup", &form).await;
    assert_eq!(refused.status(), StatusCode::UNPROCESSABLE_ENTITY);
    assert_contains(&refused.text().await.unwrap(), "stands for everybody");
}

async fn everybody_is_meant_only_when_that_is_said_twice(backend: Backend) {
    let (server, ana, ben) = at_tea(backend).await;
    server.person("cleo").await.enters("tea").await;
    let head = ana.json("/rooms/tea").await["head"].clone();

    // As JSON.
    let asked = post(&ana, "tea", &[("body", "all of @room: tea")]).await;
    assert_eq!(asked.status(), StatusCode::UNPROCESSABLE_ENTITY);
    let problem: Value = asked.json().await.unwrap();
    assert_eq!(
        (&problem["confirm"], &problem["people"]),
        (&json!("room"), &json!(2))
    );
    assert_contains(problem["detail"].as_str().unwrap(), "confirm=room");
    // By form: with the text, and what to do about it.
    let path = "/rooms/tea/messages";
    let asked = ana
        .post(path, &[("body", "all of @room: tea"), ("nonce", "n-1")])
        .await;
    assert_eq!(asked.status(), StatusCode::UNPROCESSABLE_ENTITY);
    let page = asked.text().await.unwrap();
    for part in [
        "everybody else in this room: 2 people",
        "name=\"confirm\" value=\"room\"",
        "all of @room: tea</textarea>",
        "Send to everybody",
    ] {
        assert_contains(&page, part);
    }
    // As text, which has no fields.
    let text = |path: &str| {
        let request = ana.request(Method::POST, path).header(ACCEPT, "text/plain");
        request
            .header(CONTENT_TYPE, "text/plain")
            .body("@room by text")
            .send()
    };
    let asked = text(path).await.unwrap();
    assert_eq!(asked.status(), StatusCode::UNPROCESSABLE_ENTITY);
    assert_contains(&asked.text().await.unwrap(), "confirm=room");
    assert_eq!(
        ana.json("/rooms/tea").await["head"],
        head,
        "nothing was sent"
    );

    let sent = text("/rooms/tea/messages?confirm=room").await.unwrap();
    assert_eq!(sent.status(), StatusCode::CREATED);
    let sent = post(&ana, "tea", &[("body", "@room: tea"), ("confirm", "room")]).await;
    assert_eq!(mentioned(&sent.json().await.unwrap()), ["@room"]);
    let sent = ana
        .post(path, &[("body", "@ROOM, @ben"), ("confirm", "room")])
        .await;
    assert_eq!(sent.status(), StatusCode::SEE_OTHER);
    assert_eq!(counts(&ben, "tea").await, (3, 3), "one message counts once");
    assert_eq!(counts(&ana, "tea").await.1, 0, "not their own");

    // A retry is not asked: it was sent.
    let retried = [
        ("body", "@room twice"),
        ("nonce", "n-2"),
        ("confirm", "room"),
    ];
    let first: Value = post(&ana, "tea", &retried).await.json().await.unwrap();
    let again = post(&ana, "tea", &retried[..2]).await;
    assert_eq!(again.status(), StatusCode::CREATED);
    assert_eq!(again.json::<Value>().await.unwrap()["seq"], first["seq"]);
    let other = [("body", "@room otherwise"), ("nonce", "n-2")];
    assert_eq!(
        post(&ana, "tea", &other).await.status(),
        StatusCode::CONFLICT
    );

    // Neither in code, nor of one who is alone; and a confirmation alone means nobody.
    ana.says("tea", "`@room`").await;
    ana.enters("attic").await;
    ana.says("attic", "@room to myself").await;
    let sent = post(&ana, "tea", &[("body", "no one"), ("confirm", "room")]).await;
    assert_eq!(mentioned(&sent.json().await.unwrap()), [""; 0]);
    // A later member was not meant.
    let dan = server.person("dan").await;
    dan.enters("tea").await;
    assert_eq!(listed(&dan, "/mentions").await, [""; 0]);
}

async fn what_is_for_me_is_counted_and_listed(backend: Backend) {
    let (_server, ana, ben) = at_tea(backend).await;
    let empty = ben.get("/mentions").await.text().await.unwrap();
    assert_contains(&empty, "Nobody has mentioned you yet");
    ana.enters("den").await;
    ben.enters("den").await;
    ana.says("tea", "nobody").await;
    ana.says("tea", "one for @ben").await;
    tokio::time::sleep(Duration::from_millis(5)).await;
    let last = ana.says("den", "two for @ben **now**").await;
    ana.post("/rooms/den/settings", &[("name", "The <Den>")])
        .await;
    assert_eq!(counts(&ben, "tea").await, (2, 1));
    assert_eq!(counts(&ben, "den").await, (1, 1));
    let both = ["*two for @ben **now**", "*one for @ben"];
    assert_eq!(listed(&ben, "/mentions").await, both);
    assert_eq!(listed(&ana, "/mentions").await, [""; 0]);

    // The lobby and the rooms beside a room say so.
    let lobby = ben.get("/rooms").await.text().await.unwrap();
    assert_contains(
        &lobby,
        "<span class=\"mentioned\">@2<span class=\"hidden\"> mentions",
    );
    assert_contains(
        &lobby,
        "<span class=\"mentioned\">@1<span class=\"hidden\"> mention<",
    );
    let page = ben.get("/mentions").await.text().await.unwrap();
    assert_contains(&page, "<h2>Unread</h2>");
    assert_contains(&page, "dir=\"auto\">The &#60;Den&#62;</span>");
    assert_contains(&page, &format!("href=\"/rooms/den/messages/{last}\""));
    assert_contains(&page, "two for @ben now");
    assert_lacks(&page, "<h2>Read</h2>");

    // Read where it was posted, it is read here; unread ones are first, however old.
    let read = ben
        .post("/rooms/den/read", &[("seq", &last.to_string())])
        .await;
    assert_eq!(read.status(), StatusCode::NO_CONTENT);
    assert_eq!(counts(&ben, "den").await, (0, 0));
    assert_eq!(counts(&ben, "tea").await, (2, 1));
    assert_eq!(
        listed(&ben, "/mentions").await,
        ["*one for @ben", "two for @ben **now**"]
    );
    let text = ben
        .get_as("text/plain", "/mentions")
        .await
        .text()
        .await
        .unwrap();
    let lines: Vec<Vec<&str>> = text
        .lines()
        .map(|line| line.split('\t').collect())
        .collect();
    assert_eq!(lines[0][..2], ["unread", "tea"]);
    assert_eq!(lines[1][..2], ["read", "den"]);
    assert!(lines[1][2].ends_with("ana: two for @ben **now**"), "{text}");
    let page = ben.get("/mentions").await.text().await.unwrap();
    assert!(page.find("one for") < page.find("two for"), "unread first");

    let signed_out = Person::nobody(&ben.base)
        .get_as("application/json", "/mentions")
        .await;
    assert_eq!(signed_out.status(), StatusCode::UNAUTHORIZED);
}

async fn mentions_are_listed_page_by_page(backend: Backend) {
    let (_server, ana, ben) = at_tea(backend).await;
    for room in ["den", "loft"] {
        ana.enters(room).await;
        ben.enters(room).await;
    }
    for number in 0..25 {
        // Several in a millisecond, in several rooms.
        let room = ["tea", "den", "loft"][number % 3];
        let body = format!("number {number} @ben");
        let form = [("body", body.as_str()), ("confirm", "room")];
        let all = [("body", "@room as well"), ("confirm", "room")];
        let form = if number % 5 == 0 { &all } else { &form };
        assert_eq!(post(&ana, room, form).await.status(), StatusCode::CREATED);
    }
    for room in ["tea", "den", "loft"] {
        let head = ben.json(&format!("/rooms/{room}")).await["cursor"].clone();
        let form = [("seq", head.as_str().unwrap())];
        ben.post(&format!("/rooms/{room}/read"), &form).await;
    }
    for number in 0..6 {
        ana.says("tea", &format!("unread {number} for @ben")).await;
    }
    let whole = ben.json("/mentions?limit=200").await;
    let whole = whole["mentions"].as_array().unwrap();
    assert_eq!(whole.len(), 31);
    assert_eq!(whole[0]["body"], "unread 5 for @ben");
    let times: Vec<&str> = whole
        .iter()
        .map(|one| one["at"].as_str().unwrap())
        .collect();
    assert!(
        times[6..].is_sorted_by(|one, other| one >= other),
        "{times:?}"
    );

    let mut paged = Vec::new();
    let mut path = "/mentions?limit=4".to_owned();
    loop {
        let page = ben.json(&path).await;
        let text = ben.get_as("text/plain", &path).await;
        let next = text
            .headers()
            .get("link")
            .map(|next| next.to_str().unwrap());
        let older = page["older"].as_str();
        let expected = older.map(|older| format!("</mentions?before={older}>; rel=\"next\""));
        assert_eq!(next, expected.as_deref());
        assert!(page["mentions"].as_array().unwrap().len() <= 4);
        paged.extend(page["mentions"].as_array().unwrap().clone());
        let Some(older) = page["older"].as_str() else {
            break;
        };
        path = format!("/mentions?limit=4&before={older}");
    }
    assert_eq!(&paged, whole, "each once, in the same order");
    let page = ben.get("/mentions?limit=4").await.text().await.unwrap();
    assert_contains(&page, "href=\"/mentions?before=");
    for odd in [
        "before=x",
        "before=:",
        "before=read",
        "before=new:",
        "before=read:1.2",
        "before=unread:1.x.tea",
        "limit=0",
        "limit=201",
    ] {
        let refused = ben
            .get_as("application/json", &format!("/mentions?{odd}"))
            .await;
        assert_eq!(refused.status(), StatusCode::UNPROCESSABLE_ENTITY, "{odd}");
    }
}

async fn a_deleted_mention_counts_no_longer(backend: Backend) {
    let (_server, ana, ben) = at_tea(backend).await;
    let first = ana.says("tea", "the first for @ben").await;
    ana.says("tea", "the second for @ben").await;
    assert_eq!(counts(&ben, "tea").await, (2, 2));
    let delete = ana.request(Method::DELETE, &format!("/rooms/tea/messages/{first}"));
    assert_eq!(
        delete.send().await.unwrap().status(),
        StatusCode::NO_CONTENT
    );
    assert_eq!(counts(&ben, "tea").await, (2, 1));
    assert_eq!(listed(&ben, "/mentions").await, ["*the second for @ben"]);
    let gone = ben.json(&format!("/rooms/tea/messages/{first}")).await;
    assert!(gone["mentions"].is_null());
    // Beyond what is counted the next one takes its place.
    let mut last = 0;
    for number in 0..105 {
        last = ana.says("tea", &format!("{number} @ben")).await;
    }
    assert_eq!(counts(&ben, "tea").await.1, 100);
    let delete = ana.request(Method::DELETE, &format!("/rooms/tea/messages/{last}"));
    delete.send().await.unwrap();
    assert_eq!(counts(&ben, "tea").await.1, 100, "of 105");
    let lobby = ben.get("/rooms").await.text().await.unwrap();
    assert_contains(&lobby, "<span class=\"mentioned\">@99+<span");
}

async fn people_are_found_by_how_their_names_begin(backend: Backend) {
    let (server, ana, ben) = at_tea(backend).await;
    for name in ["anton", "Anke", "bea", "mia"] {
        server.person(name).await.enters("tea").await;
    }
    server.person("anybody").await.enters("den").await;
    ben.says("tea", "I spoke last").await;
    let people = async |query: &str| {
        let answer = ana.json(&format!("/rooms/tea/people?q={query}")).await;
        let people = answer["people"].as_array().unwrap().iter();
        let names = people.map(|one| one["username"].as_str().unwrap().to_owned());
        names.collect::<Vec<_>>()
    };
    assert_eq!(people("@an").await, ["ana", "Anke", "anton"]);
    assert_eq!(people("ANT").await, ["anton"]);
    assert_eq!(people("m").await, ["mia"]);
    assert_eq!(people("").await[0], "ana");
    assert_eq!(people("").await.len(), 6);
    assert_eq!(people("%25").await, [""; 0]);
    // While one types: without oneself, and with everybody.
    let typed = |query: &'static str| {
        let request = ana.request(Method::GET, &format!("/rooms/tea/people?q={query}"));
        request
            .header(ACCEPT, "text/html")
            .header("hx-request-type", "partial")
            .send()
    };
    let options = typed("an").await.unwrap().text().await.unwrap();
    assert_contains(&options, "data-name=\"anton\"");
    assert_lacks(&options, "data-name=\"ana\"");
    assert_lacks(&options, "data-name=\"room\"");
    let options = typed("").await.unwrap().text().await.unwrap();
    assert_contains(&options, "data-name=\"room\"");
    let page = ana.get("/rooms/tea/people?q=b").await.text().await.unwrap();
    assert_contains(&page, "@bea");
    assert_lacks(&page, "@anton");
    let text = ana
        .get_as("text/plain", "/rooms/tea/people?q=b")
        .await
        .text()
        .await
        .unwrap();
    let names: Vec<_> = text.lines().map(|line| line.split('\t').next()).collect();
    assert_eq!(names, [Some("bea"), Some("ben")]);
    let refused = ana.get_as("application/json", "/rooms/den/people").await;
    assert_eq!(refused.status(), StatusCode::FORBIDDEN);
}

/// Invariant: what is counted at one node is what is counted at any other, two seconds later.
async fn mentions_count_at_every_node(backend: Backend) {
    let (server, ana, ben) = at_tea(backend).await;
    let other = server.another_node_on(backend).await;
    let there = ben.at(&other.as_ref().unwrap_or(&server).base);
    // The other node keeps counts from before.
    assert_eq!(counts(&there, "tea").await, (0, 0));
    ana.says("tea", "one for @ben").await;
    let gone = ana.says("tea", "two for @ben").await;
    post(&ana, "tea", &[("body", "@room"), ("confirm", "room")]).await;
    let agree = async |expected| {
        eventually("both count the same", Duration::from_secs(2), async || {
            counts(&there, "tea").await == expected && counts(&ben, "tea").await == expected
        })
        .await;
    };
    agree((3, 3)).await;
    let delete = ana.request(Method::DELETE, &format!("/rooms/tea/messages/{gone}"));
    delete.send().await.unwrap();
    agree((3, 2)).await;
    there
        .post("/rooms/tea/read", &[("seq", &gone.to_string())])
        .await;
    agree((1, 1)).await;
}

async fn an_answer_mentions_fifty_people_at_most(backend: Backend) {
    let (server, ana, _ben) = at_tea(backend).await;
    let mut names = String::new();
    for number in 0..51 {
        let name = format!("person-{number}");
        server.person(&name).await.enters("tea").await;
        names += &format!("@{name} ");
    }
    let refused = post(&ana, "tea", &[("body", &names)]).await;
    assert_eq!(refused.status(), StatusCode::UNPROCESSABLE_ENTITY);
    assert_contains(&refused.text().await.unwrap(), "at most 50 people");
    let fewer = names.replace("@person-50 ", "");
    let sent = post(&ana, "tea", &[("body", &fewer)]).await;
    assert_eq!(mentioned(&sent.json().await.unwrap()).len(), 50);
    // As many as fit a message, most of whom are nobody, in a moment.
    let crowd = "@李李李李李李 @x.-_.-_ ".repeat(230);
    ana.says("tea", crowd.trim()).await;
}
