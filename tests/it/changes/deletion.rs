//! Promise 8: deleted is gone.

use ::mongodb::bson::doc;
use reqwest::header::{ACCEPT, HeaderMap};
use reqwest::{Method, StatusCode};

use super::{at_tea, delete, edit, react};
use crate::support::{
    Backend, MongoDb, NONE, Person, Server, assert_contains, assert_lacks, copies,
};

on_both_stores!(
    a_deleted_text_is_nowhere,
    a_retry_after_the_deletion_is_the_deleted_message,
);

/// Every answer in which a message's text may stand.
async fn all_answers(who: &Person, seq: u64) -> String {
    let mut all = String::new();
    for accept in ["text/html", "application/json", "text/plain"] {
        for path in [
            "/rooms".to_owned(),
            "/mentions".to_owned(),
            "/rooms/tea".to_owned(),
            "/rooms/tea/messages".to_owned(),
            "/rooms/tea/messages?after=0&limit=200".to_owned(),
            "/rooms/tea/messages?before=9000&limit=200".to_owned(),
            format!("/rooms/tea/messages/{seq}"),
        ] {
            all += &who.get_as(accept, &path).await.text().await.unwrap();
        }
    }
    let head = who.json("/rooms/tea/messages").await["head"]
        .as_u64()
        .unwrap();
    for format in ["json", "html"] {
        let path = format!("/rooms/tea/events?format={format}&after=0");
        let mut stream = who.listens_at(&path, HeaderMap::new()).await;
        while stream.next_event().await.unwrap().seq() < head {}
        all += &stream.raw;
    }
    // The last message is whole: what is looked for there comes before it.
    for (accept, path) in [
        ("text/plain", "/rooms/tea/events?after=0"),
        ("application/x-ndjson", "/rooms/tea/events?after=0"),
    ] {
        let accept = HeaderMap::from_iter([(ACCEPT, accept.parse().unwrap())]);
        let mut stream = who.listens_at(path, accept).await;
        all += &stream.text_until("the end").await;
    }
    all
}

/// Invariant: once the deletion is answered, no answer holds a byte of the text, nor does a file.
async fn a_deleted_text_is_nowhere(backend: Backend) {
    let (mut server, ana, ben) = at_tea(backend).await;
    // Followed from the start, so that all of it is kept ready for streams.
    let mut watching = ben.listens("tea", 0).await;
    let html = "/rooms/tea/events?format=html&after=0";
    let mut rows = ben.listens_at(html, HeaderMap::new()).await;
    // The third takes pages of its own, and all of them stand between others.
    let texts: Vec<(u64, String)> = {
        let mut texts = Vec::new();
        for number in 0..40 {
            let size = [1, 4, 300][number % 3];
            let text = format!("SECRET{number:02}-é🎉").repeat(size) + " @ben";
            texts.push((ana.says("tea", &text).await, text));
            ana.enters(&format!("room-{number}")).await;
            ben.says("tea", &format!("between {number}")).await;
        }
        texts
    };
    let (first, _) = texts[0];
    for (seq, _) in &texts {
        edit(&ana, *seq, &format!("EDITED-SECRET{seq:02}-").repeat(5)).await;
        react(&ben, *seq, "👍", true).await;
    }
    let reply = [("body", "indeed"), ("reply_to", &first.to_string())];
    assert_eq!(ben.post("/rooms/tea/messages", &reply).await.status(), 303);
    // All caches and rings are full of it.
    ana.says("tea", "the end").await;
    let head = ana.json("/rooms/tea/messages").await["head"]
        .as_u64()
        .unwrap();
    while watching.next_event().await.unwrap().seq() < head {}
    while rows.next_event().await.unwrap().seq() < head {}
    assert_contains(&all_answers(&ben, first).await, "SECRET");

    for (seq, _) in &texts {
        assert_eq!(delete(&ana, *seq).await.status(), StatusCode::NO_CONTENT);
        let page = ben.get_as("text/html", "/rooms/tea/messages").await;
        assert_lacks(
            &page.text().await.unwrap(),
            &format!("EDITED-SECRET{seq:02}-"),
        );
    }
    for person in [&ana, &ben] {
        assert_lacks(&all_answers(person, first).await, "SECRET");
    }

    assert_eq!(copies(&server, backend, "SECRET").await, NONE);
    if backend == Backend::Sqlite {
        // Neither while it runs nor after its end.
        server.terminate();
        assert_eq!(copies(&server, backend, "SECRET").await, NONE);
    }
}

async fn a_retry_after_the_deletion_is_the_deleted_message(backend: Backend) {
    let (_server, ana, _) = at_tea(backend).await;
    let post = async |body: &str| {
        ana.tries_to_say("tea", body, Some("nonce-1"))
            .await
            .unwrap()
    };
    let first = post("once").await;
    assert_eq!(first.status(), StatusCode::CREATED);
    let seq = first.json::<serde_json::Value>().await.unwrap()["seq"]
        .as_u64()
        .unwrap();
    assert_eq!(post("another").await.status(), StatusCode::CONFLICT);
    edit(&ana, seq, "twice").await;
    let again: serde_json::Value = post("once").await.json().await.unwrap();
    assert_eq!(
        (again["seq"].as_u64(), &again["body"]),
        (Some(seq), &"twice".into())
    );
    delete(&ana, seq).await;
    let again = post("once").await;
    assert_eq!(again.status(), StatusCode::CREATED);
    let again: serde_json::Value = again.json().await.unwrap();
    assert_eq!(again["seq"], seq);
    assert!(again["deleted_at"].is_string());
    assert_eq!(again["body"], serde_json::Value::Null);
    assert_eq!(ana.log("tea").await.len(), 5);
}

/// Invariant: two seconds after a deletion at one node no other answers with the text, whatever becomes of
/// its change stream, and at once the one it was made at.
#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_reaches_a_node_that_hears_nothing() {
    for fault in ["slow", "cut"] {
        let set = MongoDb::start().await;
        let uri = set.fresh_uri();
        let deaf = format!("{uri}&appName=deaf");
        let secret = [
            ("JWT_SECRET", "mongodb-mongodb-mongodb-mongodb-"),
            ("MONGODB_URI", &*uri),
        ];
        let server = Server::start_with(Backend::MongoDb, &secret).await;
        let other = server.another_node_with(&[("MONGODB_URI", &*deaf)]).await;
        let ana = server.person("ana").await;
        ana.enters("tea").await;
        let there = ana.at(&other.base);
        // Followed from the start, so that the other node has it ready for streams.
        let mut watching = there.listens("tea", 0).await;
        watching.numbers(1).await;
        for round in 0..2 {
            let text = format!("SECRET-{round}");
            let said = ana.says("tea", &text).await;
            let reply = [("body", "quoted"), ("reply_to", &said.to_string())];
            ana.post("/rooms/tea/messages", &reply).await;
            ana.says("tea", "the end").await;
            // The other node has it in its caches and in its ring.
            while watching.next_event().await.unwrap().seq() < said + 2 {}
            assert_contains(&all_answers(&there, said).await, &text);
            let mut data = match fault {
                "slow" => doc! { "blockConnection": true, "blockTimeMS": 6_000 },
                _ => doc! { "closeConnection": true },
            };
            data.insert("failCommands", vec!["getMore"]);
            set.fails("deaf", "alwaysOn".into(), data).await;
            assert_eq!(delete(&ana, said).await.status(), StatusCode::NO_CONTENT);
            assert_lacks(&all_answers(&ana, said).await, &text);
            tokio::time::sleep(std::time::Duration::from_secs(2)).await;
            assert_lacks(&all_answers(&there, said).await, &text);
            set.works().await;
            let again = there.request(Method::GET, "/rooms/tea/messages?after=0");
            let again = again.send().await.unwrap().text().await.unwrap();
            assert_lacks(&again, &text);
        }
    }
}
