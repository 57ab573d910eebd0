//! Two nodes on one replica set.

use std::time::{Duration, Instant};

use mongodb::bson::{Bson, doc};
use reqwest::{Method, StatusCode};
use tokio::time::sleep;

use crate::support::{
    Backend, Listener, MongoDb, PASSWORD, Person, Server, assert_contains, eventually, free_port,
};

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
async fn nodes_tell_each_other_who_is_typing_and_what_to_wait_for() {
    let one = Server::start(Backend::MongoDb).await;
    let two = one.another_node().await;
    let ana = one.person("ana").await;
    let ben = two.person("ben").await;
    ana.enters("tea").await;
    ben.enters("tea").await;
    let mut stream = ana.listens("tea", 0).await;
    for _ in 0..3 {
        let answer = ben.post("/rooms/tea/typing", &[]).await;
        assert_eq!(answer.status(), StatusCode::NO_CONTENT);
        let began = Instant::now();
        let notice = stream.next_notice("typing").await.json();
        assert_eq!(notice["names"], serde_json::json!(["ben"]));
        assert!(began.elapsed() < Duration::from_secs(4));
    }
    let cursor = ana.json("/rooms").await["cursor"].clone();
    let path = format!("/rooms?after={}&wait=20", cursor.as_str().unwrap());
    let began = Instant::now();
    let (lobby, _) = tokio::join!(ana.json(&path), async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        ben.says("tea", "across").await
    });
    assert_eq!(lobby["rooms"][0]["unread"], 1);
    assert!(began.elapsed() < Duration::from_secs(5));
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

/// Waits until a stream says that these are in the room, and no others.
async fn shows(stream: &mut Listener, names: &[&str]) {
    loop {
        let notice = stream.next_notice("presence").await.json();
        if notice["names"] == serde_json::json!(names) {
            assert_eq!(notice["count"], names.len());
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_show_each_others_people() {
    let one = Server::start(Backend::MongoDb).await;
    let mut two = one.another_node().await;
    let mut three = one.another_node().await;
    let [ana, ben, cem] = [
        one.person("ana").await,
        two.person("ben").await,
        three.person("cem").await,
    ];
    for person in [&ana, &ben, &cem] {
        person.enters("tea").await;
    }
    let mut anas = ana.listens("tea", 0).await;
    shows(&mut anas, &["ana"]).await;
    let _bens = ben.listens("tea", 0).await;
    shows(&mut anas, &["ana", "ben"]).await;
    let _cems = cem.listens("tea", 0).await;
    shows(&mut anas, &["ana", "ben", "cem"]).await;

    // A node that starts later knows them too.
    let four = one.another_node().await;
    let later = ana.at(&four.base);
    let mut stream = later.listens("tea", 0).await;
    shows(&mut stream, &["ana", "ben", "cem"]).await;

    // One stops in order, one is killed.
    let began = Instant::now();
    two.terminate();
    shows(&mut anas, &["ana", "cem"]).await;
    assert!(
        began.elapsed() < Duration::from_secs(8),
        "{:?}",
        began.elapsed()
    );
    let began = Instant::now();
    three.kill();
    shows(&mut anas, &["ana"]).await;
    assert!(
        began.elapsed() < Duration::from_secs(30),
        "{:?}",
        began.elapsed()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn guessing_at_two_nodes_is_not_twice_as_fast() {
    let one = Server::start_with(Backend::MongoDb, &[("RATE_LIMITS", "on")]).await;
    let two = one.another_node().await;
    one.person("ana").await;
    let nobodies = [Person::nobody(&one.base), Person::nobody(&two.base)];
    let try_pair = async |number: usize, password: &str| {
        let form = [("username", "ana"), ("password", password)];
        nobodies[number % 2].post("/login", &form).await.status()
    };
    // Ten at once, then one every twenty seconds.
    for number in 0..10 {
        let status = try_pair(number, "not the right one").await;
        assert_eq!(status, StatusCode::UNAUTHORIZED, "{number}");
    }
    for number in 0..2 {
        assert_eq!(
            try_pair(number, "another").await,
            StatusCode::TOO_MANY_REQUESTS
        );
    }
    // Right passwords do not count: a class signs in behind one address.
    two.person("ben").await;
    for number in 0..12 {
        let form = [("username", "ben"), ("password", PASSWORD)];
        let answer = nobodies[number % 2].post("/login", &form).await;
        assert_eq!(answer.status(), StatusCode::SEE_OTHER, "{number}");
    }
}

/// A node whose MongoDB connection fails as it is told to, and another whose does not.
async fn one_that_fails(app: &str) -> (Server, Server, &'static MongoDb, String) {
    let set = MongoDb::shared().await;
    let good = Server::start(Backend::MongoDb).await;
    let uri = format!("{}&appName={app}", good.mongodb_uri());
    let metrics = format!("127.0.0.1:{}", free_port());
    let settings = [("MONGODB_URI", uri.as_str()), ("METRICS_ADDR", &metrics)];
    let bad = good.another_node_with(&settings).await;
    (good, bad, set, format!("http://{metrics}/metrics"))
}

async fn metric(metrics: &str, name: &str) -> u64 {
    let text = reqwest::get(metrics).await.unwrap().text().await.unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let value = line.unwrap_or_else(|| panic!("no {name} in\n{text}"));
    value.trim().parse().unwrap()
}

// One after the other: there is one fail point.
#[tokio::test(flavor = "multi_thread")]
async fn without_its_change_stream_a_node_reads_the_logs() {
    let (good, bad, set, metrics) = one_that_fails("stalls").await;
    let ana = good.person("ana").await;
    ana.enters("tea").await;
    let there = ana.at(&bad.base);
    let mut stream = there.listens("tea", 1).await;
    ana.says("tea", "heard").await;
    assert_eq!(stream.numbers(1).await, [2]);
    assert_eq!(metric(&metrics, "parlor_change_stream_up").await, 1);
    // The node knows a session and a page.
    let leaves = ana.signs_in_again().await;
    let leaves_there = leaves.at(&bad.base);
    let newest = async |person: &Person| {
        let part = person.request(Method::GET, "/rooms/tea/messages");
        let part = part.header("HX-Request", "true");
        let part = part.header("HX-Request-Type", "partial");
        part.send().await.unwrap()
    };
    assert_eq!(newest(&leaves_there).await.status(), StatusCode::OK);
    // Two people follow another room there.
    let (ben, cem) = (good.person("ben").await, good.person("cem").await);
    ben.enters("den").await;
    cem.enters("den").await;
    let mut bens = ben.at(&bad.base).listens("den", 2).await;
    let mut cems = cem.at(&bad.base).listens("den", 2).await;

    // Its answers do not come any more.
    let stall = doc! {
        "failCommands": ["getMore", "aggregate"],
        "blockConnection": true,
        "blockTimeMS": 12_000,
    };
    set.fails("stalls", Bson::String("alwaysOn".to_owned()), stall)
        .await;
    // Within two seconds it trusts nothing that it keeps: not who is signed in, nor what was said.
    leaves.post("/logout", &[]).await;
    ben.post("/rooms/den/leave", &[]).await;
    let left_at = Instant::now();
    let ends = tokio::time::timeout(Duration::from_secs(10), bens.ends());
    ends.await.expect("the stream goes on");
    // Nothing told the node of it: it asks, once it hears nothing any more.
    let took = left_at.elapsed();
    assert!(took < Duration::from_millis(2_500), "{took:?}");
    ana.says("tea", "unheard").await;
    sleep(Duration::from_secs(2)).await;
    let refused = newest(&leaves_there).await.status();
    assert_eq!(refused, StatusCode::UNAUTHORIZED);
    let shown = newest(&there).await.text().await.unwrap();
    assert_contains(&shown, "unheard");
    let nobody = Person::nobody(&bad.base);
    let is_unready =
        async || nobody.get("/readyz").await.status() == StatusCode::SERVICE_UNAVAILABLE;
    eventually(
        "a stalled node is not ready",
        Duration::from_secs(15),
        is_unready,
    )
    .await;
    let says = async || {
        let output = bad.output();
        output.contains("the change stream has stalled: reading the logs instead")
    };
    eventually("the log says so", Duration::from_secs(3), says).await;
    assert_eq!(metric(&metrics, "parlor_change_stream_up").await, 0);
    set.works().await;
    let is_ready = async || nobody.get("/readyz").await.status() == StatusCode::OK;
    eventually("it is ready again", Duration::from_secs(30), is_ready).await;
    let is_up = async || metric(&metrics, "parlor_change_stream_up").await == 1;
    eventually("the stream is up", Duration::from_secs(10), is_up).await;
    assert_eq!(stream.numbers(1).await, [3]);
    assert_eq!(cems.numbers(1).await, [3], "who stays hears who has left");

    // Where it was has left the oplog.
    let lost = doc! { "failCommands": ["getMore"], "errorCode": 286 };
    let restarts = metric(&metrics, "parlor_change_stream_restarts_total").await;
    set.fails("stalls", Bson::String("alwaysOn".to_owned()), lost)
        .await;
    // An answer that was under way may still be a good one; the next is not.
    let is_lost = async || metric(&metrics, "parlor_change_stream_restarts_total").await > restarts;
    eventually("the stream is lost", Duration::from_secs(10), is_lost).await;
    let began = Instant::now();
    ana.says("tea", "read").await;
    assert_eq!(stream.numbers(1).await, [4]);
    assert!(
        began.elapsed() < Duration::from_secs(8),
        "{:?}",
        began.elapsed()
    );
    assert!(metric(&metrics, "parlor_log_sweeps_total").await > 0);
    assert!(
        bad.output()
            .contains("the change stream ended: opening a new one")
    );
    set.works().await;
    eventually("the stream is up again", Duration::from_secs(10), is_up).await;
    ana.says("tea", "heard again").await;
    assert_eq!(stream.numbers(1).await, [5]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_comes_late_is_waited_for() {
    let port = free_port();
    let uri = format!("mongodb://127.0.0.1:{port}/parlor");
    let late = tokio::spawn(async move {
        tokio::time::sleep(Duration::from_secs(3)).await;
        MongoDb::start_at(port).await
    });
    let began = Instant::now();
    let server = Server::start_with(Backend::MongoDb, &[("MONGODB_URI", &uri)]).await;
    assert!(began.elapsed() > Duration::from_secs(3));
    let _mongod = late.await.unwrap();
    let output = server.output();
    assert!(
        output.contains("no MongoDB primary answers; trying again"),
        "{output}"
    );
    let ana = server.person("ana").await;
    ana.enters("tea").await;
    let mut stream = ana.listens("tea", 0).await;
    ana.says("tea", "late").await;
    assert_eq!(stream.numbers(2).await, [1, 2]);
    assert_eq!(
        Person::nobody(&server.base).get("/readyz").await.status(),
        StatusCode::OK
    );
}
