//! A node that dies between a transaction's last write and its commit.

use std::time::{Duration, Instant};

use ::mongodb::bson::{Document, doc};

use super::{at_tea, edit};
use crate::support::Backend;

/// Invariant: what such a node leaves open holds up a room for seconds, not for the minute after which
/// MongoDB would end it.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_dead_node_left_open_holds_nobody_up() {
    let (server, ana, _ben) = at_tea(Backend::MongoDb).await;
    let said = ana.says("tea", "before").await;
    let uri = format!("{}&appName=parlor", server.mongodb_uri());
    let client = ::mongodb::Client::with_uri_str(uri).await.unwrap();
    let events = client.default_database().unwrap();
    let events = events.collection::<Document>("events");
    for change in [false, true] {
        let head = ana.json("/rooms/tea/messages").await["head"].as_i64();
        let mut session = client.start_session().await.unwrap();
        session.start_transaction().await.unwrap();
        let next = doc! { "room": "tea", "seq": head.unwrap() + 1, "kind": "never" };
        let insert = events.insert_one(next).session(&mut session);
        insert.await.unwrap();
        let began = Instant::now();
        match change {
            false => drop(ana.says("tea", "after").await),
            true => assert_eq!(edit(&ana, said, "changed").await.status(), 200),
        }
        assert!(
            began.elapsed() < Duration::from_secs(10),
            "{:?}",
            began.elapsed()
        );
        // It was ended: it cannot be committed any more.
        assert!(session.commit_transaction().await.is_err());
    }
    let log = ana.log("tea").await;
    assert_eq!(log.len() as u64, said + 2);
}
