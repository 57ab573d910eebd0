//! Nodes cut off from the database, in both directions and in one.

use std::time::{Duration, Instant};

use reqwest::StatusCode;
use tokio::task::JoinSet;

use crate::cluster::{Cluster, node_answers};
use crate::net::Cut;
use crate::support::{Listener, eventually};

/// Node 0 stays connected; the others are cut off, each in its way.
const CUTS: [Cut; 3] = [Cut::Both, Cut::Incoming, Cut::Outgoing];

#[tokio::test(flavor = "multi_thread")]
async fn a_node_cut_off_says_so_and_comes_back_by_itself() {
    let mut cluster = Cluster::start(1 + CUTS.len(), Duration::from_secs(10)).await;
    if !cluster.can_cut() {
        return;
    }
    let ana = cluster.person("ana").await;
    ana.enters("tea").await;
    let cut_off: Vec<usize> = (1..=CUTS.len()).collect();
    let mut streams: Vec<Listener> = Vec::new();
    for node in &cut_off {
        let mut stream = ana.at(&cluster.base(*node)).listens("tea", 0).await;
        assert_eq!(stream.numbers(1).await, [1]);
        streams.push(stream);
    }
    let memory: Vec<u64> = cut_off.iter().map(|node| cluster.memory(*node)).collect();

    for (node, cut) in cut_off.iter().zip(CUTS) {
        cluster.cut_node(*node, cut);
    }
    let began = Instant::now();
    for node in &cut_off {
        let node = &cluster.nodes[*node];
        let unready =
            async || node_answers(node, "/readyz").await == Some(StatusCode::SERVICE_UNAVAILABLE);
        let left = Duration::from_secs(10).saturating_sub(began.elapsed());
        eventually("a node that is cut off is not ready", left, unready).await;
        assert_eq!(node_answers(node, "/healthz").await, Some(StatusCode::OK));
    }

    // Many post there; each hears within a bounded time that it does not work.
    let mut posts = JoinSet::new();
    for number in 0..300 {
        let ana = ana.at(&cluster.base(cut_off[number % cut_off.len()]));
        posts.spawn(async move {
            let body = format!("lost? {number} {}", "x".repeat(2_000));
            let began = Instant::now();
            let answer = ana
                .tries_to_say("tea", &body, Some(&format!("n-{number}")))
                .await
                .unwrap();
            let has_retry_after = answer.headers().contains_key("retry-after");
            (answer.status(), has_retry_after, began.elapsed())
        });
    }
    let others = tokio::spawn({
        let ana = ana.clone();
        async move {
            for number in 0..50 {
                ana.says("tea", &format!("meanwhile {number}")).await;
            }
        }
    });
    for (status, has_retry_after, took) in posts.join_all().await {
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        assert!(has_retry_after);
        assert!(took < Duration::from_secs(18), "{took:?}");
    }
    others.await.unwrap();
    for (node, before) in cut_off.iter().zip(memory) {
        let grown = cluster.memory(*node).saturating_sub(before) / 1024;
        assert!(grown < 64 * 1024, "node {node} grew by {grown} KiB");
    }
    // Longer than between two heartbeats, the streams are there and alive.
    for stream in &mut streams {
        while stream.raw.matches(": heartbeat").count() == 0 {
            assert!(stream.more().await, "a stream ended");
        }
    }

    cluster.heal();
    cluster.is_ready().await;
    let log = ana.log("tea").await;
    for stream in &mut streams {
        let expected: Vec<u64> = (2..=log.len() as u64).collect();
        assert_eq!(stream.numbers(expected.len()).await, expected);
    }
    // None was acknowledged; said again, each is there once.
    for number in 0..6 {
        let ana = ana.at(&cluster.base(cut_off[number % cut_off.len()]));
        let body = format!("lost? {number} {}", "x".repeat(2_000));
        let again = ana
            .tries_to_say("tea", &body, Some(&format!("n-{number}")))
            .await
            .unwrap();
        assert_eq!(again.status(), StatusCode::CREATED);
    }
    let log = ana.log("tea").await;
    for number in 0..6 {
        let begins = format!("lost? {number} ");
        let same = log.iter().filter_map(|event| event["body"].as_str());
        assert_eq!(same.filter(|body| body.starts_with(&begins)).count(), 1);
    }
}
