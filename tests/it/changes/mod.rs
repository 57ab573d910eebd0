//! Messages that change: edits, deletions, reactions and replies.

mod abandoned;
mod convergence;
mod deletion;
mod killed;

use reqwest::header::{ACCEPT, CONTENT_TYPE};
use reqwest::{Method, Response, StatusCode};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::support::{Backend, Person, Server, assert_contains, assert_lacks};

on_both_stores!(
    changes_answer_as_they_were_asked,
    only_who_may_changes_a_message,
    an_edit_over_anothers_is_given_back,
    equal_reactions_at_once_are_one_event,
    parallel_changes_at_two_nodes_all_count,
    a_reply_quotes_what_is_above_it,
    history_holds_entries_and_the_log_everything,
    a_refused_edit_gives_the_text_back,
    a_message_takes_twenty_kinds_of_reaction,
    json_has_numbers_and_booleans,
    a_page_of_changes_is_bounded,
);

/// Ana and ben, in the same room.
pub(crate) async fn at_tea(backend: Backend) -> (Server, Person, Person) {
    let server = Server::start(backend).await;
    // Neither is an admin, as the first is.
    server.person("admin").await;
    let (ana, ben) = (server.person("ana").await, server.person("ben").await);
    ana.enters("tea").await;
    ben.enters("tea").await;
    (server, ana, ben)
}

/// Sends a change, with a form.
async fn send(
    who: &Person,
    method: Method,
    path: &str,
    accept: &str,
    form: &[(&str, &str)],
) -> Response {
    let request = who.request(method, &format!("/rooms/tea/messages/{path}"));
    let request = request.header(ACCEPT, accept).form(form);
    request.send().await.unwrap()
}

async fn edit(who: &Person, seq: u64, body: &str) -> Response {
    let form = [("body", body)];
    send(
        who,
        Method::PATCH,
        &seq.to_string(),
        "application/json",
        &form,
    )
    .await
}

async fn delete(who: &Person, seq: u64) -> Response {
    send(
        who,
        Method::DELETE,
        &seq.to_string(),
        "application/json",
        &[],
    )
    .await
}

async fn react(who: &Person, seq: u64, emoji: &str, on: bool) -> Response {
    let path = format!("{seq}/reactions/{emoji}");
    let method = if on { Method::PUT } else { Method::DELETE };
    send(who, method, &path, "application/json", &[]).await
}

async fn message(who: &Person, seq: u64) -> Value {
    who.json(&format!("/rooms/tea/messages/{seq}")).await
}

async fn changes_answer_as_they_were_asked(backend: Backend) {
    let (_server, ana, ben) = at_tea(backend).await;
    let first = ana.says("tea", "first").await;
    let here = first.to_string();

    // Edited by a form, as JSON, as text.
    let answer = send(
        &ana,
        Method::POST,
        &here,
        "text/html",
        &[("body", "by form")],
    )
    .await;
    assert_eq!(answer.status(), StatusCode::SEE_OTHER);
    assert_eq!(
        answer.headers()["location"],
        format!("/rooms/tea/messages/{first}")
    );
    let answer = edit(&ana, first, "by json").await;
    assert_eq!(answer.status(), StatusCode::OK);
    let edited: Value = answer.json().await.unwrap();
    assert_eq!(edited["body"], "by json");
    assert_eq!(edited["seq"], first);
    assert_eq!(edited["rev"], 5);
    assert!(edited["edited_at"].is_string());
    let answer = ana
        .request(Method::PATCH, &format!("/rooms/tea/messages/{first}"))
        .header(ACCEPT, "text/plain")
        .header(CONTENT_TYPE, "text/plain")
        .body("by text");
    let answer = answer.send().await.unwrap().text().await.unwrap();
    assert!(answer.ends_with(" ana: by text\n"), "{answer}");

    // The same once more is no event.
    let again = edit(&ana, first, "by text").await;
    assert_eq!(again.status(), StatusCode::OK);
    assert_eq!(again.json::<Value>().await.unwrap()["rev"], 6);

    // Reacted to by a form, by path, from a shell; on and off.
    let form = [("emoji", "👍")];
    let reactions = format!("{first}/reactions");
    let answer = send(&ben, Method::POST, &reactions, "text/html", &form).await;
    assert_eq!(answer.status(), StatusCode::SEE_OTHER);
    for (emoji, on) in [("🎉", true), ("🎉", false), ("🎉", false), ("❤", true)] {
        assert_eq!(
            react(&ana, first, emoji, on).await.status(),
            StatusCode::NO_CONTENT
        );
    }
    let now = message(&ana, first).await;
    let expected = json!([
        { "emoji": "👍", "count": 1, "users": [{ "id": ben.id, "username": "ben" }] },
        { "emoji": "❤️", "count": 1, "users": [{ "id": ana.id, "username": "ana" }] },
    ]);
    assert_eq!(now["reactions"], expected);
    for emoji in ["x", "👍👍", "", "thumbs up", "👍 👍"] {
        let form = [("emoji", emoji)];
        let refused = send(&ana, Method::POST, &reactions, "application/json", &form).await;
        assert_eq!(
            refused.status(),
            StatusCode::UNPROCESSABLE_ENTITY,
            "{emoji}"
        );
    }

    // Deleted; once more is done already.
    for _ in 0..2 {
        assert_eq!(delete(&ana, first).await.status(), StatusCode::NO_CONTENT);
    }
    let second = ana.says("tea", "second").await;
    let path = format!("{second}/delete");
    let answer = send(&ana, Method::POST, &path, "text/html", &[("delete", "yes")]).await;
    assert_eq!(answer.status(), StatusCode::SEE_OTHER);
    assert_eq!(answer.headers()["location"], "/rooms/tea");
    let gone = message(&ana, first).await;
    assert!(gone["deleted_at"].is_string());
    assert_eq!(gone["body"], Value::Null);
    assert_eq!(gone["reactions"], Value::Null);

    // All of it is in the log, each change with its message as it is now.
    let log = ana.log("tea").await;
    let kinds: Vec<&str> = log
        .iter()
        .map(|event| event["type"].as_str().unwrap())
        .collect();
    let reacted = ["reacted"; 4];
    let expected = [
        &["joined", "joined", "message", "edited", "edited", "edited"][..],
        &reacted[..],
        &["deleted", "message", "deleted"][..],
    ];
    assert_eq!(kinds, expected.concat());
    for event in &log[3..10] {
        assert_eq!(event["target"], first);
        assert_eq!(event["message"], gone);
    }
    let lines = ana
        .get_as("text/plain", "/rooms/tea/messages?after=0")
        .await;
    let lines = lines.text().await.unwrap();
    assert_contains(&lines, " ana deleted a message\n");
    assert_lacks(&lines, "by text");
}

async fn only_who_may_changes_a_message(backend: Backend) {
    let (server, ana, ben) = at_tea(backend).await;
    let eve = server.person("eve").await;
    let said = ana.says("tea", "mine").await;

    for change in [edit(&ben, said, "yours").await, delete(&ben, said).await] {
        assert_eq!(change.status(), StatusCode::FORBIDDEN);
        let problem: Value = change.json().await.unwrap();
        assert_contains(problem["detail"].as_str().unwrap(), "Only its author");
    }
    for change in [
        edit(&eve, said, "yours").await,
        delete(&eve, said).await,
        react(&eve, said, "👍", true).await,
    ] {
        assert_eq!(change.status(), StatusCode::FORBIDDEN);
    }
    let nobody = Person::nobody(&server.base);
    assert_eq!(
        delete(&nobody, said).await.status(),
        StatusCode::UNAUTHORIZED
    );
    // A join is no message; the rest is not there.
    for seq in [1, 99, 0, u64::MAX] {
        for change in [
            edit(&ana, seq, "what").await,
            delete(&ana, seq).await,
            react(&ana, seq, "👍", true).await,
        ] {
            assert_eq!(change.status(), StatusCode::NOT_FOUND, "{seq}");
        }
    }
    for body in ["", " \n", &"x".repeat(4_001)] {
        let refused = edit(&ana, said, body).await;
        assert_eq!(refused.status(), StatusCode::UNPROCESSABLE_ENTITY);
    }
    let another_site = ana
        .request(Method::DELETE, &format!("/rooms/tea/messages/{said}"))
        .header("sec-fetch-site", "cross-site");
    let another_site = another_site.send().await.unwrap();
    assert_eq!(another_site.status(), StatusCode::FORBIDDEN);

    assert_eq!(message(&ana, said).await["body"], "mine");
    assert_eq!(delete(&ana, said).await.status(), StatusCode::NO_CONTENT);
    // A late edit never brings it back.
    for change in [
        edit(&ana, said, "mine again").await,
        react(&ben, said, "👍", true).await,
        react(&ben, said, "👍", false).await,
    ] {
        assert_eq!(change.status(), StatusCode::GONE);
    }
    assert_eq!(message(&ana, said).await["body"], Value::Null);
}

async fn an_edit_over_anothers_is_given_back(backend: Backend) {
    let (_server, ana, _) = at_tea(backend).await;
    let said = ana.says("tea", "one").await;
    let here = said.to_string();
    let with = |rev, body| [("rev", rev), ("body", body)];
    let json = "application/json";
    let first = send(&ana, Method::PATCH, &here, json, &with("0", "two")).await;
    let rev = first.json::<Value>().await.unwrap()["rev"].to_string();
    let late = send(&ana, Method::PATCH, &here, json, &with("0", "three")).await;
    assert_eq!(late.status(), StatusCode::CONFLICT);
    let problem: Value = late.json().await.unwrap();
    assert_eq!(problem["message"]["body"], "two");
    assert_eq!(problem["message"]["rev"].to_string(), rev);
    assert_eq!(problem["typed"], "three");
    let late = send(
        &ana,
        Method::PATCH,
        &here,
        "text/plain",
        &with("0", "three"),
    )
    .await;
    assert_eq!(late.status(), StatusCode::CONFLICT);
    assert_contains(&late.text().await.unwrap(), " ana: two\n");

    // On the page, what was typed stands beside what is there, and the next attempt knows of it.
    let late = send(
        &ana,
        Method::POST,
        &here,
        "text/html",
        &with("0", "three <3"),
    )
    .await;
    assert_eq!(late.status(), StatusCode::CONFLICT);
    let page = late.text().await.unwrap();
    assert_contains(&page, "\nthree &#60;3</textarea>");
    assert_contains(&page, &format!("name=\"rev\" value=\"{rev}\""));
    assert_contains(&page, ">two</div>");
    let next = send(&ana, Method::POST, &here, "text/html", &with(&rev, "three")).await;
    assert_eq!(next.status(), StatusCode::SEE_OTHER);
    assert_eq!(message(&ana, said).await["body"], "three");
    let nonsense = send(&ana, Method::PATCH, &here, json, &with("x", "four")).await;
    assert_eq!(nonsense.status(), StatusCode::UNPROCESSABLE_ENTITY);
}

async fn equal_reactions_at_once_are_one_event(backend: Backend) {
    let (_server, ana, ben) = at_tea(backend).await;
    let said = ana.says("tea", "soup is ready").await;
    for on in [true, false, true] {
        let mut reactions = JoinSet::new();
        for _ in 0..40 {
            let ben = ben.clone();
            reactions.spawn(async move { react(&ben, said, "🍲", on).await.status() });
        }
        for status in reactions.join_all().await {
            assert_eq!(status, StatusCode::NO_CONTENT);
        }
    }
    let log = ana.log("tea").await;
    assert_eq!(log.len() as u64, said + 3);
    assert_eq!(message(&ana, said).await["reactions"][0]["count"], 1);
}

async fn parallel_changes_at_two_nodes_all_count(backend: Backend) {
    let server = Server::start(backend).await;
    let other = server.another_node_on(backend).await;
    let mut people = Vec::new();
    for number in 0..8 {
        let person = server.person(&format!("person-{number}")).await;
        person.enters("tea").await;
        people.push(person);
    }
    let ana = people[0].clone();
    let said = ana.says("tea", "0").await;
    let mut changing = JoinSet::new();
    for (number, person) in people.into_iter().enumerate() {
        let person = match &other {
            Some(other) if number % 2 == 1 => person.at(&other.base),
            _ => person,
        };
        let editor = ana.at(&person.base);
        changing.spawn(async move {
            for round in 0..5 {
                let emoji = ["👍", "🎉", "🍵", "❤️", "😂"][round];
                assert_eq!(react(&person, said, emoji, true).await.status(), 204);
                let text = format!("{number}-{round}");
                assert_eq!(edit(&editor, said, &text).await.status(), 200);
                person.says("tea", &text).await;
            }
        });
    }
    changing.join_all().await;
    let now = message(&ana, said).await;
    for kind in now["reactions"].as_array().unwrap() {
        assert_eq!(kind["count"], 8, "{now}");
    }
    assert_eq!(now["reactions"].as_array().unwrap().len(), 5);
    let log = ana.log("tea").await;
    let of = |name: &str| log.iter().filter(|event| event["type"] == name).count();
    assert_eq!((of("reacted"), of("edited"), of("message")), (40, 40, 41));
    let last = log.iter().rfind(|event| event["type"] == "edited").unwrap();
    assert_eq!(
        last["seq"], now["rev"],
        "the last edit is the one that holds"
    );
}

async fn a_reply_quotes_what_is_above_it(backend: Backend) {
    let (_server, ana, ben) = at_tea(backend).await;
    let said = ana.says("tea", "who <b>brings</b> cake?").await;
    let reply = async |to: &str, text: &str| {
        let form = [("body", text), ("reply_to", to)];
        let request = ben.request(Method::POST, "/rooms/tea/messages");
        let request = request.header(ACCEPT, "application/json").form(&form);
        request.send().await.unwrap()
    };
    let answer = reply(&said.to_string(), "I do").await;
    assert_eq!(answer.status(), StatusCode::CREATED);
    let replied: Value = answer.json().await.unwrap();
    assert_eq!(replied["reply_to"], said);
    let seq = replied["seq"].as_u64().unwrap();
    for to in ["1", "99", "x", "-1", "0"] {
        let refused = reply(to, "to nothing").await;
        assert_eq!(refused.status(), StatusCode::UNPROCESSABLE_ENTITY, "{to}");
    }
    let quote = async || {
        let page = ana.get_as("text/html", "/rooms/tea").await.text().await;
        let page = page.unwrap();
        let row = page.split(&format!("id=\"m-{seq}\"")).nth(1).unwrap();
        let quote = row.split("class=\"quote\"").nth(1).unwrap();
        quote.split("</a>").next().unwrap().to_owned()
    };
    let first = quote().await;
    assert_contains(&first, &format!("href=\"/rooms/tea/messages/{said}\""));
    assert_contains(&first, "ana");
    assert_contains(&first, "who &#60;b&#62;brings&#60;/b&#62; cake?");
    edit(&ana, said, "who brings two?").await;
    assert_contains(&quote().await, "who brings two?");
    delete(&ana, said).await;
    let gone = quote().await;
    assert_lacks(&gone, "brings");
    assert_contains(&gone, "deleted");
    let refused = reply(&said.to_string(), "too late").await;
    assert_eq!(refused.status(), StatusCode::GONE);
    // The log of before tells the same: quotes are what is now.
    assert_eq!(message(&ana, seq).await["reply_to"], said);
}

async fn history_holds_entries_and_the_log_everything(backend: Backend) {
    let (_server, ana, ben) = at_tea(backend).await;
    for number in 0..55 {
        ana.says("tea", &format!("number {number}")).await;
    }
    for round in 0..30 {
        for seq in [3, 57] {
            edit(&ana, seq, &format!("round {round}")).await;
            react(&ben, seq, "👍", round % 2 == 0).await;
        }
    }
    let newest = ana.json("/rooms/tea/messages").await;
    let numbers = |page: &Value| -> Vec<u64> {
        let events = page["events"].as_array().unwrap().iter();
        events.map(|event| event["seq"].as_u64().unwrap()).collect()
    };
    assert_eq!(numbers(&newest), (8..=57).collect::<Vec<_>>());
    assert_eq!(newest["events"][49]["body"], "round 29");
    // The cursor is past the changes that the page shows already.
    assert_eq!(newest["cursor"], newest["head"].to_string());
    assert_eq!(newest["head"], 57 + 120);
    let before = ana.json("/rooms/tea/messages?before=8&limit=3").await;
    assert_eq!(numbers(&before), [5, 6, 7]);
    let before = ana.json("/rooms/tea/messages?before=170&limit=2").await;
    assert_eq!(numbers(&before), [56, 57]);
    let after = ana.json("/rooms/tea/messages?after=57&limit=200").await;
    assert_eq!(numbers(&after), (58..=177).collect::<Vec<_>>());
    let page = ana
        .get_as("text/html", "/rooms/tea")
        .await
        .text()
        .await
        .unwrap();
    assert_contains(&page, "after=177");
    assert_eq!(page.matches("<li class=\"message").count(), 50);
    // Unread are messages, and nothing else.
    let lobby = ben.json("/rooms").await;
    assert_eq!(lobby["rooms"][0]["unread"], 55);
    assert_eq!(lobby["rooms"][0]["last"]["body"], "round 29");
}

async fn a_refused_edit_gives_the_text_back(backend: Backend) {
    let (_server, ana, _) = at_tea(backend).await;
    let said = ana.says("tea", "short").await.to_string();
    let long = "x".repeat(4_001);
    let refused = send(&ana, Method::POST, &said, "text/html", &[("body", &long)]).await;
    assert_eq!(refused.status(), StatusCode::UNPROCESSABLE_ENTITY);
    let page = refused.text().await.unwrap();
    assert_contains(&page, &format!("\n{long}</textarea>"));
    assert_contains(&page, "at most 4,000 characters");
    // Also where nobody knows whose it is.
    let nobody = Person::nobody(&ana.base);
    let form = [("body", "typed <long>"), ("rev", "7")];
    let refused = send(&nobody, Method::POST, &said, "text/html", &form).await;
    assert_eq!(refused.status(), StatusCode::UNAUTHORIZED);
    let page = refused.text().await.unwrap();
    assert_contains(&page, "\ntyped &#60;long&#62;</textarea>");
    assert_contains(&page, "value=\"7\"");
    assert_contains(&page, &format!("action=\"/rooms/tea/messages/{said}\""));
    // And of one that was deleted meanwhile.
    delete(&ana, said.parse().unwrap()).await;
    let refused = send(
        &ana,
        Method::POST,
        &said,
        "text/html",
        &[("body", "too late")],
    )
    .await;
    assert_eq!(refused.status(), StatusCode::GONE);
    assert_contains(&refused.text().await.unwrap(), "\ntoo late</textarea>");
}

async fn a_message_takes_twenty_kinds_of_reaction(backend: Backend) {
    let (_server, ana, ben) = at_tea(backend).await;
    let said = ana.says("tea", "everything").await;
    let kinds = [
        "😀", "😁", "😂", "🤣", "😃", "😄", "😅", "😆", "😉", "😊", "😋", "😎", "😍", "😘", "🥰",
        "😗", "😙", "😚", "🙂", "🤗",
    ];
    for emoji in kinds {
        assert_eq!(react(&ana, said, emoji, true).await.status(), 204);
    }
    let refused = react(&ben, said, "🤩", true).await;
    assert_eq!(refused.status(), StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(react(&ben, said, "😀", true).await.status(), 204);
    let now = message(&ben, said).await;
    let order: Vec<&str> = now["reactions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|kind| kind["emoji"].as_str().unwrap())
        .collect();
    assert_eq!(order, kinds);
    // A family and a tone are one emoji each.
    assert_eq!(react(&ana, said, "😀", false).await.status(), 204);
    assert_eq!(react(&ben, said, "😀", false).await.status(), 204);
    assert_eq!(react(&ben, said, "👩‍👩‍👧‍👦", true).await.status(), 204);
}

async fn json_has_numbers_and_booleans(backend: Backend) {
    let (_server, ana, _) = at_tea(backend).await;
    let sends = async |method: Method, path: &str, body: Value| {
        let request = ana.request(method, &format!("/rooms/tea/messages{path}"));
        let request = request.header(ACCEPT, "application/json").json(&body);
        request.send().await.unwrap()
    };
    let first = json!({ "body": "one", "reply_to": null });
    let said: Value = sends(Method::POST, "", first).await.json().await.unwrap();
    let path = format!("/{}", said["seq"]);
    let edit = json!({ "body": "two", "rev": 0 });
    let edited: Value = sends(Method::PATCH, &path, edit.clone())
        .await
        .json()
        .await
        .unwrap();
    assert_eq!(
        sends(Method::PATCH, &path, json!({ "body": "three", "rev": 0 }))
            .await
            .status(),
        409
    );
    // As it was answered it can be sent.
    let next = json!({ "body": "three", "rev": edited["rev"] });
    assert_eq!(sends(Method::PATCH, &path, next).await.status(), 200);
    let reply = json!({ "body": "four", "reply_to": said["seq"] });
    let reply: Value = sends(Method::POST, "", reply).await.json().await.unwrap();
    assert_eq!(reply["reply_to"], said["seq"]);
    for (on, count) in [
        (json!(true), 1),
        (json!(false), 0),
        (json!(1), 1),
        (json!("0"), 0),
    ] {
        let reaction = json!({ "emoji": "👍", "on": on });
        let answer = sends(Method::POST, &format!("{path}/reactions"), reaction).await;
        assert_eq!(answer.status(), StatusCode::NO_CONTENT);
        let now = message(&ana, said["seq"].as_u64().unwrap()).await;
        assert_eq!(now["reactions"].as_array().map_or(0, Vec::len), count);
    }
    for wrong in [
        json!({ "body": ["a"] }),
        json!({ "body": 1 }),
        json!({ "body": true }),
    ] {
        assert_eq!(sends(Method::POST, "", wrong).await.status(), 422);
    }
    // Forms are led on to a page, and they can only post.
    let answer = ana.request(Method::DELETE, &format!("/rooms/tea/messages{path}"));
    assert_eq!(
        answer.send().await.unwrap().status(),
        StatusCode::NO_CONTENT
    );
}

/// Invariant: each change in a page comes with its message, and still a page has a bound.
async fn a_page_of_changes_is_bounded(backend: Backend) {
    let (_server, ana, ben) = at_tea(backend).await;
    let said = ana
        .says("tea", &format!("x{}", "\u{1}".repeat(3_999)))
        .await;
    for round in 0..60 {
        react(&ben, said, "👍", round % 2 == 0).await;
    }
    for accept in ["application/json", "text/html"] {
        let page = ana.get_as(accept, "/rooms/tea/messages?after=0&limit=200");
        let page = page.await.text().await.unwrap();
        assert!(page.len() < 600_000, "{} bytes of {accept}", page.len());
    }
    // All of it is read, in pages.
    assert_eq!(ana.log("tea").await.len() as u64, said + 60);
}
