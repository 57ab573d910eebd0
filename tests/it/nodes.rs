//! Two nodes on one replica set.

use std::time::{Duration, Instant};

use reqwest::StatusCode;

use crate::support::{Backend, Server};

#[tokio::test(flavor = "multi_thread")]
async fn two_nodes_show_each_others_messages() {
    let one = Server::start(Backend::MongoDb).await;
    let two = one.another_node().await;
    let ana = one.person("ana").await;
    let ben = two.person("ben").await;
    ana.enters("tea").await;
    ben.enters("tea").await;
    let mut anas = ana.listens("tea", 0).await;
    let mut bens = ben.listens("tea", 0).await;
    let (elsewhere_ana, elsewhere_ben) = (ana.at(&two.base), ben.at(&one.base));
    tokio::join!(
        async {
            for number in 0..50 {
                ana.says("tea", &format!("ana {number}")).await;
            }
        },
        async {
            for number in 0..50 {
                ben.says("tea", &format!("ben {number}")).await;
            }
        },
        async {
            for number in 0..50 {
                elsewhere_ana
                    .says("tea", &format!("ana elsewhere {number}"))
                    .await;
            }
        },
        async {
            for number in 0..50 {
                elsewhere_ben
                    .says("tea", &format!("ben elsewhere {number}"))
                    .await;
            }
        },
    );
    let all: Vec<u64> = (1..=202).collect();
    assert_eq!(anas.numbers(202).await, all);
    assert_eq!(bens.numbers(202).await, all);
    assert_eq!(ana.log("tea").await, ben.log("tea").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_from_another_node_comes_at_once() {
    let one = Server::start(Backend::MongoDb).await;
    let two = one.another_node().await;
    let ana = one.person("ana").await;
    ana.enters("tea").await;
    let mut there = ana.at(&two.base).listens("tea", 1).await;
    for seq in 2..=11 {
        let began = Instant::now();
        ana.says("tea", "across").await;
        assert_eq!(there.numbers(1).await, [seq]);
        // The sweep, which would bring it too, comes every five seconds.
        assert!(
            began.elapsed() < Duration::from_secs(2),
            "{:?}",
            began.elapsed()
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn signing_out_on_one_node_ends_streams_on_the_other() {
    let one = Server::start(Backend::MongoDb).await;
    let two = one.another_node().await;
    let ana = one.person("ana").await;
    ana.enters("tea").await;
    let there = ana.at(&two.base);
    let mut stream = there.listens("tea", 1).await;
    let began = Instant::now();
    assert_eq!(
        ana.post("/logout", &[]).await.status(),
        StatusCode::SEE_OTHER
    );
    stream.next_notice("signed-out").await;
    stream.ends().await;
    assert!(
        began.elapsed() < Duration::from_secs(2),
        "{:?}",
        began.elapsed()
    );
    let refused = there.get_as("application/json", "/rooms").await;
    assert_eq!(refused.status(), StatusCode::UNAUTHORIZED);
}

/// The sweep finds what the change stream did not tell: here a session that is simply gone.
#[tokio::test(flavor = "multi_thread")]
async fn a_revocation_that_was_not_heard_is_found() {
    let server = Server::start(Backend::MongoDb).await;
    let ana = server.person("ana").await;
    ana.enters("tea").await;
    let mut stream = ana.listens("tea", 1).await;
    let client = mongodb::Client::with_uri_str(server.mongodb_uri())
        .await
        .unwrap();
    let database = client.default_database().unwrap();
    let sessions = database.collection::<mongodb::bson::Document>("sessions");
    sessions.delete_many(mongodb::bson::doc! {}).await.unwrap();
    let began = Instant::now();
    stream.next_notice("signed-out").await;
    stream.ends().await;
    assert!(
        began.elapsed() < Duration::from_secs(10),
        "{:?}",
        began.elapsed()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_nonce_holds_on_every_node() {
    let one = Server::start(Backend::MongoDb).await;
    let two = one.another_node().await;
    let ana = one.person("ana").await;
    ana.enters("tea").await;
    let there = ana.at(&two.base);
    let mut posts = tokio::task::JoinSet::new();
    for number in 0..20 {
        let person = if number % 2 == 0 {
            ana.clone()
        } else {
            there.clone()
        };
        posts.spawn(async move {
            let answer = person
                .tries_to_say("tea", "once", Some("the-same"))
                .await
                .unwrap();
            assert_eq!(answer.status(), StatusCode::CREATED);
            answer.json::<serde_json::Value>().await.unwrap()["seq"].clone()
        });
    }
    assert!(posts.join_all().await.iter().all(|seq| *seq == 2));
    let other = there
        .tries_to_say("tea", "another", Some("the-same"))
        .await
        .unwrap();
    assert_eq!(other.status(), StatusCode::CONFLICT);
    assert_eq!(ana.log("tea").await.len(), 2);
}
