//! Messages that somebody shows the admins, and the rooms that these look after.

use reqwest::{Method, StatusCode};
use serde_json::Value;

use crate::access::{makes, posts, sends};
use crate::support::{Backend, Server, assert_contains, assert_lacks};

on_both_stores!(
    a_report_reaches_the_admins,
    reports_go_with_what_they_are_about,
    admins_see_all_rooms_but_conversations,
);

async fn a_report_reaches_the_admins(backend: Backend) {
    let server = Server::start(backend).await;
    let other = server.another_node_on(backend).await;
    let there = &other.as_ref().unwrap_or(&server).base;
    let admin = server.person("admin").await.at(there);
    let (ana, ben) = (server.person("ana").await, server.person("ben").await);
    makes(&ana, &[("room", "tea"), ("access", "open")]).await;
    ben.enters("tea").await;
    let said = ana.says("tea", "SOMETHING unkind").await;
    let path = format!("/rooms/tea/messages/{said}");
    let page = ben.get(&path).await.text().await.unwrap();
    assert_contains(&page, "Report it");
    assert_lacks(&ana.get(&path).await.text().await.unwrap(), "Report it");
    let report = format!("{path}/report");
    let led = ben.post(&report, &[("reason", "It is <unkind>.")]).await;
    assert_eq!(led.status(), StatusCode::SEE_OTHER);
    let page = ben.get(led.headers()["location"].to_str().unwrap()).await;
    assert_contains(
        &page.text().await.unwrap(),
        "The admins of this server have it now.",
    );
    let listed = admin.json("/admin/reports").await;
    let listed = &listed["reports"][0];
    assert_eq!(listed["by"]["username"], "ben");
    assert_eq!(
        (&listed["room"], &listed["reason"]),
        (&"tea".into(), &"It is <unkind>.".into())
    );
    // It holds nothing of the message.
    assert_lacks(&listed.to_string(), "SOMETHING");
    let page = admin.get("/admin/reports").await.text().await.unwrap();
    assert_contains(&page, &format!("href=\"{path}\""));
    assert_contains(&page, "It is &#60;unkind&#62;.");
    assert_contains(
        &admin.get("/admin").await.text().await.unwrap(),
        "Reports (1)",
    );
    // Once more is the same, said otherwise.
    assert_eq!(
        posts(&ben, &report, &[("reason", "Still.")]).await,
        StatusCode::NO_CONTENT
    );
    let again = admin.json("/admin/reports").await;
    let again = again["reports"].as_array().unwrap();
    assert_eq!((again.len(), &again[0]["reason"]), (1, &"Still.".into()));
    let text = admin
        .get_as("text/plain", "/admin/reports")
        .await
        .text()
        .await
        .unwrap();
    assert!(
        text.ends_with(&format!("\tben\ttea\t{said}\tStill.\n")),
        "{text}"
    );
    for (reason, status) in [
        ("x".repeat(1_001), StatusCode::UNPROCESSABLE_ENTITY),
        ("\u{1b}[2J".to_owned(), StatusCode::UNPROCESSABLE_ENTITY),
        (String::new(), StatusCode::NO_CONTENT),
    ] {
        assert_eq!(posts(&ben, &report, &[("reason", &reason)]).await, status);
    }
    for nothing in [
        "/rooms/tea/messages/99/report",
        "/rooms/tea/messages/1/report",
    ] {
        assert_eq!(
            posts(&ben, nothing, &[]).await,
            StatusCode::NOT_FOUND,
            "{nothing}"
        );
    }
    let id = again_id(&admin.json("/admin/reports").await);
    let close = format!("/admin/reports/{id}/close");
    assert_eq!(posts(&ana, &close, &[]).await, StatusCode::FORBIDDEN);
    assert_eq!(posts(&admin, &close, &[]).await, StatusCode::NO_CONTENT);
    assert_eq!(posts(&admin, &close, &[]).await, StatusCode::NOT_FOUND);
    let page = admin.get("/admin/reports").await.text().await.unwrap();
    assert_contains(&page, "There are none.");
    let log = admin
        .get_as("text/plain", "/admin/audit")
        .await
        .text()
        .await
        .unwrap();
    assert_contains(
        &log,
        &format!("admin\tclosed a report about message {said} in tea"),
    );
}

fn again_id(listed: &Value) -> String {
    listed["reports"][0]["id"].as_str().unwrap().to_owned()
}

async fn reports_go_with_what_they_are_about(backend: Backend) {
    let server = Server::start(backend).await;
    let (admin, ana) = (server.person("admin").await, server.person("ana").await);
    let ben = server.person("ben").await;
    makes(&ana, &[("room", "tea"), ("access", "open")]).await;
    ben.enters("tea").await;
    let said = ana.says("tea", "unkind").await;
    posts(
        &ben,
        &format!("/rooms/tea/messages/{said}/report"),
        &[("reason", "HISWORDS")],
    )
    .await;
    let with = sends(&ana, Method::POST, "/directs", &[("with", "ben")]).await;
    let direct: Value = with.json().await.unwrap();
    let direct = direct["room"].as_str().unwrap().to_owned();
    let alone = ana.says(&direct, "unkind, too").await;
    posts(
        &ben,
        &format!("/rooms/{direct}/messages/{alone}/report"),
        &[],
    )
    .await;
    let page = admin.get("/admin/reports").await.text().await.unwrap();
    assert_contains(
        &page,
        "a message of a conversation, which only its people can read",
    );
    assert_lacks(&page, &direct);
    posts(&ana, "/rooms/tea/delete", &[("confirm", "tea")]).await;
    let left = admin.json("/admin/reports").await;
    assert_eq!(left["reports"].as_array().unwrap().len(), 1);
    assert_lacks(&left.to_string(), "HISWORDS");
}

async fn admins_see_all_rooms_but_conversations(backend: Backend) {
    let server = Server::start(backend).await;
    let (admin, ana) = (server.person("admin").await, server.person("ana").await);
    server.person("ben").await;
    makes(
        &ana,
        &[("room", "den"), ("name", "Le Café"), ("access", "private")],
    )
    .await;
    ana.enters("tea").await;
    sends(&ana, Method::POST, "/directs", &[("with", "ben")]).await;
    let found = async |query: &str| {
        let listed = admin.json(&format!("/admin/rooms{query}")).await;
        let rooms = listed["rooms"].as_array().unwrap().clone();
        let ids = rooms
            .iter()
            .map(|one| one["room"].as_str().unwrap().to_owned());
        ids.collect::<Vec<_>>().join(" ")
    };
    for (query, rooms) in [
        ("", "den tea"),
        ("?q=CAF%C3%89", "den"),
        ("?q=te", "tea"),
        ("?q=.*", ""),
        ("?after=den", "tea"),
    ] {
        assert_eq!(found(query).await, rooms, "{query}");
    }
    let text = admin
        .get_as("text/plain", "/admin/rooms")
        .await
        .text()
        .await
        .unwrap();
    assert_eq!(text, "den\tprivate\t1\ntea\tunlisted\t1\n");
    let page = admin.get("/admin/rooms").await.text().await.unwrap();
    for part in ["Le Café", "/rooms/den/people", "/rooms/den/settings"] {
        assert_contains(&page, part);
    }
    let page = admin
        .get("/admin/rooms?q=nothing")
        .await
        .text()
        .await
        .unwrap();
    assert_contains(&page, "There is no room like that.");
    for number in 0..100 {
        ana.enters(&format!("room-{number:03}")).await;
    }
    let listed = admin.json("/admin/rooms").await;
    assert_eq!(listed["next"], "room-098");
    assert_eq!(found("?after=room-098").await, "room-099 tea");
}
