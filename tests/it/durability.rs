//! Nothing acknowledged is lost, nothing shown is taken back, however rudely things end.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use reqwest::StatusCode;
use reqwest::header::HeaderMap;
use serde_json::Value;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::support::{Backend, Person, Proxy, Server, eventually};

on_both_stores!(
    a_reader_cut_a_hundred_times_reads_the_log,
    kill_nine_under_six_writers,
    readers_that_never_read_cost_little,
);

/// Small random numbers; which ones does not matter, only that they differ.
fn random(below: u64) -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(0) % below
}

async fn a_reader_cut_a_hundred_times_reads_the_log(backend: Backend) {
    const CUTS: usize = 100;
    let server = Server::start(backend).await;
    let proxy = Proxy::before(server.address()).await;
    let ana = server.person("ana").await;
    ana.enters("tea").await;
    let done = Arc::new(AtomicBool::new(false));
    let mut writers = JoinSet::new();
    for writer in 0..3 {
        let (ana, done) = (ana.clone(), Arc::clone(&done));
        writers.spawn(async move {
            let mut number = 0;
            while !done.load(Ordering::Relaxed) {
                ana.says("tea", &format!("{writer}-{number}")).await;
                number += 1;
                sleep(Duration::from_millis(random(10))).await;
            }
        });
    }

    // The reader knows only what a browser knows: its first address and the last id it read.
    let reader = ana.at(&proxy.base);
    let mut read: Vec<u64> = Vec::new();
    let mut cuts = 0;
    let mut deliveries_per_stream = Vec::new();
    while cuts < CUTS {
        let mut headers = HeaderMap::new();
        if let Some(last) = read.last() {
            headers.insert("last-event-id", last.to_string().parse().unwrap());
        }
        let mut stream = reader
            .listens_at("/rooms/tea/events?after=0", headers)
            .await;
        let before = read.len();
        let cut_in = sleep(Duration::from_millis(random(60)));
        tokio::pin!(cut_in);
        let mut is_cut = false;
        loop {
            tokio::select! {
                event = stream.next_event() => match event {
                    Some(event) => read.push(event.seq()),
                    None => break,
                },
                () = &mut cut_in, if !is_cut => {
                    is_cut = true;
                    proxy.cut();
                }
            }
        }
        cuts += 1;
        deliveries_per_stream.push(read.len() - before);
    }
    done.store(true, Ordering::Relaxed);
    writers.join_all().await;
    let head = ana.log("tea").await.len() as u64;
    let mut stream = ana.listens("tea", *read.last().unwrap()).await;
    while *read.last().unwrap() < head {
        read.push(stream.next_event().await.unwrap().seq());
    }
    assert_eq!(read, (1..=head).collect::<Vec<_>>());
    assert!(
        deliveries_per_stream
            .iter()
            .filter(|count| **count > 0)
            .count()
            > CUTS / 4
    );
}

async fn kill_nine_under_six_writers(backend: Backend) {
    const ROUNDS: usize = 5;
    let mut server = Server::start(backend).await;
    let ana = server.person("ana").await;
    ana.enters("tea").await;
    let mut acknowledged: HashMap<String, u64> = HashMap::new();
    let mut shown: HashMap<u64, Value> = HashMap::new();
    for round in 0..ROUNDS {
        let count = Arc::new(AtomicUsize::new(0));
        let mut writers: JoinSet<Vec<(String, u64)>> = JoinSet::new();
        for writer in 0..6 {
            let (ana, count) = (ana.clone(), Arc::clone(&count));
            writers.spawn(write_until_it_breaks(
                ana,
                format!("{round}-{writer}"),
                count,
            ));
        }
        let mut stream = ana.listens("tea", shown.len() as u64).await;
        let reader = tokio::spawn(async move {
            let mut read = Vec::new();
            while let Some(event) = stream.next_event().await {
                read.push((event.seq(), event.json()));
            }
            read
        });
        let enough = async || count.load(Ordering::Relaxed) > 30;
        eventually(
            "something was acknowledged",
            Duration::from_secs(30),
            enough,
        )
        .await;
        sleep(Duration::from_millis(random(700))).await;
        server.kill();
        let answered = writers.join_all().await;
        acknowledged.extend(answered.into_iter().flatten());
        shown.extend(reader.await.unwrap());
        server.start_again().await;

        // `log` checks that there is no gap.
        let log = ana.log("tea").await;
        for (body, seq) in &acknowledged {
            assert_eq!(
                log[*seq as usize - 1]["body"],
                **body,
                "acknowledged and not there"
            );
        }
        for (seq, event) in &shown {
            assert_eq!(log[*seq as usize - 1], *event, "shown and not there");
        }
        let mut bodies: Vec<&Value> = log[1..].iter().map(|event| &event["body"]).collect();
        let count = bodies.len();
        bodies.sort_by_key(|body| body.to_string());
        bodies.dedup();
        assert_eq!(bodies.len(), count, "something stands twice");
        // The next round's reader goes on where the log is, having seen all of it.
        shown.extend(
            log.into_iter()
                .map(|event| (event["seq"].as_u64().unwrap(), event)),
        );
    }
}

async fn write_until_it_breaks(
    ana: Person,
    prefix: String,
    count: Arc<AtomicUsize>,
) -> Vec<(String, u64)> {
    let mut answered = Vec::new();
    for number in 0.. {
        let body = format!("{prefix}-{number}");
        let Ok(answer) = ana.tries_to_say("tea", &body, Some(&body)).await else {
            break;
        };
        if answer.status() != StatusCode::CREATED {
            break;
        }
        let Ok(event) = answer.json::<Value>().await else {
            break;
        };
        answered.push((body, event["seq"].as_u64().unwrap()));
        count.fetch_add(1, Ordering::Relaxed);
    }
    answered
}

async fn readers_that_never_read_cost_little(backend: Backend) {
    const STUCK: usize = 20;
    const POSTS: usize = 3_000;
    let server = Server::start(backend).await;
    let ana = server.person("ana").await;
    ana.enters("tea").await;
    let mut good = ana.listens("tea", 1).await;
    let reading = tokio::spawn(async move {
        let numbers = good.numbers(POSTS).await;
        assert_eq!(numbers, (2..2 + POSTS as u64).collect::<Vec<_>>());
    });
    // Something has been said, so that what grows is not what is made once.
    let mut stuck = Vec::new();
    for _ in 0..STUCK {
        let mut socket = TcpStream::connect(server.address()).await.unwrap();
        let head = format!(
            "GET /rooms/tea/events?after=1 HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {}\r\n\r\n",
            ana.token
        );
        socket.write_all(head.as_bytes()).await.unwrap();
        stuck.push(socket);
    }
    sleep(Duration::from_millis(500)).await;
    let before = server.memory();
    ana.says_often("tea", &"x".repeat(3_000), POSTS).await;
    timeout(Duration::from_secs(120), reading)
        .await
        .unwrap()
        .unwrap();
    let grown = server.memory().saturating_sub(before);
    assert!(grown < 40 * 1024 * 1024, "grew by {} KiB", grown / 1024);
    drop(stuck);
}
