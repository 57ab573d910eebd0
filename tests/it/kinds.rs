//! Events of kinds that another version of Parlor made: kept, counted, and passed over when shown.

use ::mongodb::bson::{DateTime, doc};
use reqwest::Method;
use reqwest::header::{ACCEPT, HeaderMap};
use rusqlite::{Connection, params};
use serde_json::Value;

use crate::support::{Backend, Person, Server, assert_lacks};

on_both_stores!(an_unknown_kind_is_kept_counted_and_passed_over);

/// Puts events at the end of a room's log, as a node of another version does.
async fn append_unknown(server: &Server, backend: Backend, by: &Person, kinds: &[(u64, &str)]) {
    let body = "of another version";
    match backend {
        Backend::Sqlite => {
            let file = Connection::open(server.dir().join("data/parlor.db")).unwrap();
            for (seq, kind) in kinds {
                file.execute("INSERT INTO texts (body) VALUES (?1)", [body])
                    .unwrap();
                file.execute(
                    "INSERT INTO events (room, seq, messages, at, kind, author, text)
                     VALUES ('tea', ?1, 1, 1000, ?2, ?3, last_insert_rowid())",
                    params![seq.cast_signed(), kind, by.id],
                )
                .unwrap();
            }
        }
        Backend::MongoDb => {
            let client = ::mongodb::Client::with_uri_str(server.mongodb_uri())
                .await
                .unwrap();
            let events = client.default_database().unwrap().collection("events");
            for (seq, kind) in kinds {
                let event = doc! {
                    "room": "tea", "seq": seq.cast_signed(), "messages": 1_i64,
                    "at": DateTime::from_millis(1_000), "kind": *kind,
                    "author": &by.id, "body": body,
                };
                events.insert_one(event).await.unwrap();
            }
        }
    }
}

async fn an_unknown_kind_is_kept_counted_and_passed_over(backend: Backend) {
    let mut server = Server::start(backend).await;
    let (ana, ben) = (server.person("ana").await, server.person("ben").await);
    for person in [&ana, &ben] {
        person.enters("tea").await;
    }
    assert_eq!(ana.says("tea", "before").await, 3);
    server.kill();
    let kinds = [(4, "reacted"), (5, "odd\nid: 99\nevent: message"), (6, "")];
    append_unknown(&server, backend, &ana, &kinds).await;
    server.start_again().await;
    assert_eq!(ana.says("tea", "after").await, 7);

    // A page that asks for rows learns where they end, also where nothing is shown.
    for (after, limit, next) in [(3, 2, 5), (3, 50, 7), (7, 50, 7)] {
        let rows = ana
            .request(
                Method::GET,
                &format!("/rooms/tea/messages?after={after}&limit={limit}"),
            )
            .header("hx-request-type", "partial");
        let rows = rows.send().await.unwrap();
        let expected = format!("</rooms/tea/messages?after={next}>; rel=\"next\"");
        assert_eq!(rows.headers()["link"], expected);
        let rows = rows.text().await.unwrap();
        assert_eq!(
            rows.contains("id=\"m-7\""),
            limit == 50 && after == 3,
            "{rows}"
        );
    }

    // One message that ben has not read came before, one after.
    let lobby = ben.json("/rooms").await;
    assert_eq!(lobby["rooms"][0]["head"], 7);
    assert_eq!(lobby["rooms"][0]["unread"], 2);
    assert_eq!(lobby["rooms"][0]["last"]["body"], "after");
    let log = ana.log("tea").await;
    assert_eq!(log[3]["type"], "reacted");
    assert_eq!(log[3]["body"], Value::Null);
    assert_eq!(log[6]["body"], "after");

    for path in [
        "/rooms/tea",
        "/rooms",
        "/rooms/tea/messages",
        "/rooms/tea/messages/5",
    ] {
        for person in [&ana, &ben] {
            let page = person.get_as("text/html", path).await;
            assert_eq!(page.status(), 200, "{path}");
            let page = page.text().await.unwrap();
            assert_lacks(&page, "of another version");
            assert_lacks(&page, "id: 99");
        }
    }
    let lines = ana
        .get_as("text/plain", "/rooms/tea/messages")
        .await
        .text()
        .await
        .unwrap();
    assert_eq!(lines.lines().count(), 4, "{lines}");

    let path = "/rooms/tea/events?after=3";
    let mut json = ana.listens_at(path, HeaderMap::new()).await;
    let mut html = ana
        .listens_at(&format!("{path}&format=html"), HeaderMap::new())
        .await;
    let text = HeaderMap::from_iter([(ACCEPT, "text/plain".parse().unwrap())]);
    let mut text = ana.listens_at(path, text).await;
    let mut live = ana
        .listens_at("/rooms/tea/live?after=3", HeaderMap::new())
        .await;
    for (seq, name) in [
        (4, "reacted"),
        (5, "unknown"),
        (6, "unknown"),
        (7, "message"),
    ] {
        let event = json.next_event().await.unwrap();
        assert_eq!((event.seq(), event.name.as_deref()), (seq, Some(name)));
        let row = html.next_event().await.unwrap();
        assert_eq!(row.seq(), seq);
        assert_eq!(row.name.is_none(), seq == 7);
    }
    let lines = text.text_until("after\n").await;
    assert_eq!(lines.trim_start().lines().count(), 1, "{lines}");
    let rows = live.text_until("after</div>").await;
    assert_lacks(&rows, "of another version");

    // From here on the log goes on, and one more resumes after them.
    ana.says("tea", "and on").await;
    let mut resumed = ben.listens("tea", 5).await;
    assert_eq!(resumed.numbers(3).await, [6, 7, 8]);
}
