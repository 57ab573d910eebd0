//! An election, as people notice it.

use std::time::{Duration, Instant};

use reqwest::StatusCode;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::cluster::Cluster;
use crate::net::Cut;
use crate::support::eventually;

#[tokio::test(flavor = "multi_thread")]
async fn posts_wait_and_streams_stay_open() {
    let mut cluster = Cluster::start(3, Duration::from_secs(5)).await;
    let ana = cluster.person("ana").await;
    ana.enters("tea").await;
    let at = [0, 1, 2].map(|node| ana.at(&cluster.base(node)));
    let mut streams = Vec::new();
    for ana in &at {
        streams.push(ana.listens("tea", 1).await);
    }

    let primary = cluster.primary().await.unwrap();
    cluster.kill_member(primary);
    let began = Instant::now();
    let mut posts = JoinSet::new();
    for number in 0..30 {
        let ana = at[number % 3].clone();
        posts.spawn(async move {
            let body = format!("through the election {number}");
            let nonce = format!("nonce-{number}");
            let answer = ana.tries_to_say("tea", &body, Some(&nonce));
            answer.await.unwrap().status()
        });
    }
    let statuses = posts.join_all().await;
    let took = began.elapsed();
    assert!(
        statuses.iter().all(|status| *status == StatusCode::CREATED),
        "{statuses:?}"
    );
    assert!(took < Duration::from_secs(15), "{took:?}");
    assert!(
        took > Duration::from_secs(2),
        "{took:?}: there was no election"
    );

    // The same streams, none of which has ended.
    for stream in &mut streams {
        assert_eq!(stream.numbers(30).await, (2..=31).collect::<Vec<_>>());
    }
    assert_eq!(ana.log("tea").await.len(), 31);
}

/// A primary without its majority takes writes that will be rolled back.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_rolled_back_was_never_shown() {
    let mut cluster = Cluster::start(3, Duration::from_secs(4)).await;
    let ana = cluster.person("ana").await;
    ana.enters("tea").await;
    let mut streams = Vec::new();
    for node in 0..3 {
        streams.push(ana.at(&cluster.base(node)).listens("tea", 1).await);
    }
    if !cluster.can_cut() {
        return;
    }

    let old = cluster.primary().await.unwrap();
    cluster.cut_member(old, Cut::Both);
    let posting = {
        let ana = ana.clone();
        tokio::spawn(async move { ana.tries_to_say("tea", "which one?", Some("which")).await })
    };
    // It stands on the old primary, and nobody sees it.
    let mut stands = false;
    for _ in 0..20 {
        let events = cluster.local_events(old).await;
        stands |= events
            .iter()
            .any(|event| event.get_str("nonce").ok() == Some("which"));
        sleep(Duration::from_millis(100)).await;
    }
    assert!(
        stands,
        "the old primary did not take the write: the test proves nothing"
    );
    for stream in &streams {
        assert!(!stream.raw.contains("which one?"));
    }

    let status = posting.await.unwrap().unwrap().status();
    assert!(
        [StatusCode::CREATED, StatusCode::SERVICE_UNAVAILABLE].contains(&status),
        "{status}"
    );
    let again = ana
        .tries_to_say("tea", "which one?", Some("which"))
        .await
        .unwrap();
    assert_eq!(again.status(), StatusCode::CREATED);
    ana.says("tea", "after").await;
    cluster.heal();
    // The old primary rolls back and follows the new one.
    sleep(Duration::from_secs(3)).await;
    ana.says("tea", "much later").await;
    for stream in &mut streams {
        assert_eq!(stream.numbers(3).await, [2, 3, 4]);
    }
    assert_eq!(ana.log("tea").await.len(), 4);
}

/// Invariant: whoever is put out is sent nothing that was said after it, at no node, also not at one that was
/// cut off meanwhile and hears of both at once.
#[tokio::test(flavor = "multi_thread")]
async fn who_is_put_out_through_an_election_hears_nothing_later() {
    let mut cluster = Cluster::start(3, Duration::from_secs(5)).await;
    let ana = cluster.person("ana").await;
    ana.enters("tea").await;
    let mut outs = Vec::new();
    for name in ["ben", "cem"] {
        let person = cluster.person(name).await;
        person.enters("tea").await;
        for node in 0..3 {
            let person = person.at(&cluster.base(node));
            let mut stream = person.listens("tea", 0).await;
            stream.next_event().await.unwrap();
            outs.push((person, stream));
        }
    }
    if !cluster.can_cut() {
        return;
    }

    cluster.cut_node(1, Cut::Both);
    cluster.cut_node(2, Cut::Incoming);
    let primary = cluster.primary().await.unwrap();
    cluster.kill_member(primary);
    let began = Instant::now();
    for (path, form) in [
        ("/rooms/tea/people/ben/ban", ("on", "1")),
        ("/rooms/tea/people/cem/remove", ("remove", "yes")),
    ] {
        let is_out = async || ana.post(path, &[form]).await.status() == StatusCode::SEE_OTHER;
        eventually("somebody is put out", Duration::from_secs(40), is_out).await;
    }
    let took = began.elapsed();
    assert!(
        took > Duration::from_secs(2),
        "{took:?}: there was no election"
    );
    ana.says("tea", "for those who stayed").await;
    cluster.heal();
    cluster.is_ready().await;

    for (person, mut stream) in outs {
        let ended = timeout(Duration::from_secs(40), stream.ends()).await;
        assert!(ended.is_ok(), "a stream goes on: {}", stream.raw);
        assert!(!stream.raw.contains("those who stayed"), "{}", stream.raw);
        let answer = person.tries_to_say("tea", "still here?", None).await;
        assert_eq!(answer.unwrap().status(), StatusCode::FORBIDDEN);
    }
    let log = ana.log("tea").await;
    let kinds: Vec<&str> = log
        .iter()
        .filter_map(|event| event["type"].as_str())
        .collect();
    assert_eq!(
        kinds,
        ["joined", "joined", "joined", "left", "left", "message"]
    );
}
