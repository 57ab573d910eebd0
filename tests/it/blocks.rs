//! People whom somebody does not want to hear from.

use reqwest::{Method, StatusCode};
use serde_json::Value;

use crate::access::{makes, posts, sends};
use crate::support::{Backend, Person, Server, assert_contains, assert_lacks};

on_both_stores!(
    whoever_is_blocked_starts_no_conversation,
    blocks_are_ones_own,
);

const BLOCK: &str = "/account/blocks";

async fn direct(person: &Person, with: &str) -> (StatusCode, Value) {
    let answer = sends(person, Method::POST, "/directs", &[("with", with)]).await;
    (answer.status(), answer.json().await.unwrap())
}

async fn whoever_is_blocked_starts_no_conversation(backend: Backend) {
    let server = Server::start(backend).await;
    let other = server.another_node_on(backend).await;
    let there = &other.as_ref().unwrap_or(&server).base;
    let ana = server.person("ana").await;
    let ben = server.person("ben").await.at(there);
    let cleo = server.person("cleo").await;
    // One that is there stays.
    let (made, with_cleo) = direct(&cleo, "ana").await;
    assert_eq!(made, StatusCode::CREATED);
    for name in ["ben", "CLEO"] {
        let blocked = posts(&ana, BLOCK, &[("username", name)]).await;
        assert_eq!(blocked, StatusCode::NO_CONTENT);
    }
    for with in ["ana", "ana,cleo", "cleo ana"] {
        let (refused, problem) = direct(&ben, with).await;
        assert_eq!(refused, StatusCode::UNPROCESSABLE_ENTITY, "{with}");
        let says = problem["errors"]["with"].as_str().unwrap();
        assert_eq!(says, "ana takes no conversations from you.");
    }
    let page = ben.post("/directs", &[("with", "ana")]).await;
    assert_eq!(page.status(), StatusCode::UNPROCESSABLE_ENTITY);
    assert_contains(
        &page.text().await.unwrap(),
        "ana takes no conversations from you.",
    );
    let (refused, problem) = direct(&ana, "ben").await;
    assert_eq!(refused, StatusCode::UNPROCESSABLE_ENTITY);
    assert_contains(&problem.to_string(), "You have blocked ben.");
    assert_eq!(direct(&ben, "cleo").await.0, StatusCode::CREATED);
    let (again, room) = direct(&cleo, "ana").await;
    assert_eq!(
        (again, &room["room"]),
        (StatusCode::CREATED, &with_cleo["room"])
    );
    let lifted = posts(&ana, BLOCK, &[("username", "ben"), ("on", "0")]).await;
    assert_eq!(lifted, StatusCode::NO_CONTENT);
    assert_eq!(direct(&ben, "ana").await.0, StatusCode::CREATED);
}

async fn blocks_are_ones_own(backend: Backend) {
    let server = Server::start(backend).await;
    let (ana, ben) = (server.person("ana").await, server.person("ben").await);
    makes(&ana, &[("room", "tea"), ("access", "open")]).await;
    ben.enters("tea").await;
    let said = ben.says("tea", "hello").await;
    let sheet = async |person: &Person| {
        let sheet = person.get("/folded.css").await;
        assert_eq!(sheet.headers()["content-type"], "text/css; charset=utf-8");
        assert_eq!(sheet.headers()["cache-control"], "no-store");
        sheet.text().await.unwrap()
    };
    assert_eq!(sheet(&ana).await, "");
    for _ in 0..2 {
        let blocked = ana.post(BLOCK, &[("username", "ben")]).await;
        assert_eq!(
            blocked.headers()["location"],
            "/account?said=blocked#blocked"
        );
    }
    assert_contains(&sheet(&ana).await, &ben.id);
    assert_eq!(sheet(&ben).await, "", "he is not told");
    assert_eq!(sheet(&Person::nobody(&server.base)).await, "");
    let account = ana.json("/account").await;
    assert_eq!(account["blocked"][0]["username"], "ben");
    let page = ana.get("/account").await.text().await.unwrap();
    assert_contains(&page, "People you have blocked");
    let page = ana.get("/rooms/tea").await.text().await.unwrap();
    assert_contains(&page, "href=\"/folded.css\"");
    let path = format!("/rooms/tea/messages/{said}");
    assert_contains(&ana.get(&path).await.text().await.unwrap(), "Block ben");
    assert_lacks(&ben.get(&path).await.text().await.unwrap(), "Block ben");
    for (name, on) in [("ana", "1"), ("nobody", "1"), ("", "1"), ("ben", "perhaps")] {
        let refused = posts(&ana, BLOCK, &[("username", name), ("on", on)]).await;
        assert_eq!(refused, StatusCode::UNPROCESSABLE_ENTITY, "{name} {on}");
    }
    posts(&ana, BLOCK, &[("username", "ben"), ("on", "0")]).await;
    assert_eq!(sheet(&ana).await, "");
    let page = ana.get("/account").await.text().await.unwrap();
    assert_lacks(&page, "People you have blocked");
}
