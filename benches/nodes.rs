//! The cost of several nodes, and how fast they hear of each other: `cargo bench --bench nodes`.
//! Three nodes, a replica set of three, all on this machine, which the load shares.

#![expect(
    clippy::unwrap_used,
    reason = "a bench that cannot run should say so and stop"
)]

#[path = "../tests/chaos/cluster.rs"]
#[expect(dead_code, reason = "made for the chaos suite too")]
mod cluster;
#[path = "../tests/chaos/net.rs"]
#[expect(dead_code, reason = "made for the chaos suite too")]
mod net;
#[path = "../tests/it/support/mod.rs"]
#[expect(dead_code, unused_imports, reason = "made for the tests")]
mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use mongodb::bson::{Document, doc};
use mongodb::options::{Acknowledgment, WriteConcern};
use reqwest::StatusCode;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, timeout};

use cluster::Cluster;
use support::Person;

const CONNECTIONS: usize = 33;
const MEASURED_FOR: Duration = Duration::from_secs(8);
const PEOPLE: u64 = 500;
const POSTS_EVERY: Duration = Duration::from_secs(20);
const STAYS: Duration = Duration::from_secs(10);

#[tokio::main]
async fn main() {
    // The default election timeout: this is what people get.
    let mut cluster = Cluster::start(3, Duration::from_secs(10)).await;
    let ana = cluster.person("ana").await;
    let at: Vec<Person> = (0..3).map(|node| ana.at(&cluster.base(node))).collect();

    ana.enters("alone").await;
    let alone = posts(&at[..1], "alone").await;
    ana.enters("hot").await;
    let hot = posts(&at, "hot").await;
    let sum = |counts: &[u64]| counts.iter().sum::<u64>() as f64 / MEASURED_FOR.as_secs_f64();
    println!(
        "posts/s into one room, {CONNECTIONS} connections, one node: {:.0}",
        sum(&alone)
    );
    println!(
        "the same at three nodes: {:.0} ({:.2} of one; by node {hot:?})",
        sum(&hot),
        sum(&hot) / sum(&alone)
    );

    for rate in [50, 500] {
        let room = format!("rate-{rate}");
        ana.enters(&room).await;
        let delays = delays(&at[0], &at[1], &room, rate, MEASURED_FOR).await;
        println!(
            "post at one node to reader at another, {rate} posts/s: p50 {:.1} ms, p99 {:.1} ms",
            at_share(&delays, 0.5),
            at_share(&delays, 0.99)
        );
    }

    ana.enters("election").await;
    let (writer, reader) = (at[0].clone(), at[1].clone());
    let reading = tokio::spawn(async move {
        delays(&writer, &reader, "election", 50, Duration::from_secs(25)).await
    });
    tokio::time::sleep(Duration::from_secs(3)).await;
    let primary = cluster.primary().await.unwrap();
    let killed_at = Instant::now();
    cluster.kill_member(primary);
    // Nobody can write before: an election, and a majority that follows whoever was elected.
    write_until_acknowledged(&cluster.admin).await;
    let election = killed_at.elapsed();
    let delays = reading.await.unwrap();
    println!(
        "the longest delay while the primary is killed, 50 posts/s: {:.1} s; a bare client’s write took \
         {:.1} s ({} posts, none lost)",
        at_share(&delays, 1.0) / 1_000.0,
        election.as_secs_f64(),
        delays.len()
    );
    mixed(&ana, &at).await;
}

/// Writes to a majority as any client does, until that is acknowledged.
async fn write_until_acknowledged(client: &mongodb::Client) {
    let writes = client.database("floor").collection::<Document>("writes");
    let majority = WriteConcern::builder().w(Acknowledgment::Majority);
    let majority = majority.journal(true).build();
    loop {
        let write = writes.insert_one(doc! {}).write_concern(majority.clone());
        let write = timeout(Duration::from_millis(500), write.into_future());
        if write.await.is_ok_and(|written| written.is_ok()) {
            return;
        }
    }
}

/// People who read, write now and then, and come back at another node now and then.
async fn mixed(ana: &Person, at: &[Person]) {
    ana.enters("mixed").await;
    let until = Instant::now() + MEASURED_FOR * 3;
    let mut people = JoinSet::new();
    for number in 0..PEOPLE {
        let at = at.to_vec();
        people.spawn(async move {
            let mut choices = fastrand::Rng::with_seed(number);
            let mut after = 1;
            let mut delays = Vec::new();
            tokio::time::sleep(Duration::from_secs(3).mul_f64(choices.f64())).await;
            let mut says_at = Instant::now() + POSTS_EVERY.mul_f64(choices.f64());
            while Instant::now() < until {
                let there = &at[choices.usize(..at.len())];
                let page = there.get_as("text/html", "/rooms/mixed").await;
                assert_eq!(page.status(), StatusCode::OK);
                let mut stream = there.listens("mixed", after).await;
                let leaves_at = Instant::now() + STAYS.mul_f64(0.5 + choices.f64());
                // Messages from before it came count as no delay.
                let came_at = now_us();
                while Instant::now() < leaves_at.min(until) {
                    if Instant::now() >= says_at {
                        says_at += POSTS_EVERY;
                        there.says("mixed", &now_us().to_string()).await;
                    }
                    let wait = says_at.min(leaves_at).min(until);
                    let next = tokio::time::timeout_at(wait.into(), stream.next_event());
                    let Ok(event) = next.await else { continue };
                    let event = event.expect("the stream ended");
                    after = event.seq();
                    let said_at: Option<u64> =
                        event.json()["body"].as_str().and_then(|at| at.parse().ok());
                    if let Some(said_at) = said_at.filter(|said_at| *said_at > came_at) {
                        delays.push((now_us() - said_at) as f64 / 1_000.0);
                    }
                }
            }
            delays
        });
    }
    let mut delays: Vec<f64> = people.join_all().await.into_iter().flatten().collect();
    delays.sort_by(f64::total_cmp);
    println!(
        "{PEOPLE} people on three nodes, each posting every {} s, coming back every {} s: p50 {:.1} ms, p99 \
         {:.1} ms, {} deliveries",
        POSTS_EVERY.as_secs(),
        STAYS.as_secs(),
        at_share(&delays, 0.5),
        at_share(&delays, 0.99),
        delays.len()
    );
}

fn now_us() -> u64 {
    let since = std::time::UNIX_EPOCH.elapsed().unwrap();
    u64::try_from(since.as_micros()).unwrap()
}

/// How many each node takes, when each connection posts, waits for the answer and posts again.
async fn posts(at: &[Person], room: &'static str) -> Vec<u64> {
    let counts: Vec<Arc<AtomicU64>> = at.iter().map(|_| Arc::default()).collect();
    let until = Instant::now() + MEASURED_FOR;
    let mut posters = JoinSet::new();
    for number in 0..CONNECTIONS {
        let node = number % at.len();
        let (person, count) = (at[node].clone(), Arc::clone(&counts[node]));
        posters.spawn(async move {
            while Instant::now() < until {
                person.says(room, &"x".repeat(100)).await;
                count.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    posters.join_all().await;
    counts
        .iter()
        .map(|count| count.load(Ordering::Relaxed))
        .collect()
}

/// Milliseconds from when a message was due to be posted until it was read, sorted.
async fn delays(
    writer: &Person,
    reader: &Person,
    room: &str,
    rate: u32,
    longest: Duration,
) -> Vec<f64> {
    let mut stream = reader.listens(room, 1).await;
    let began = Instant::now();
    let expected = (f64::from(rate) * longest.as_secs_f64()) as usize;
    let mut posts = JoinSet::new();
    let writing = {
        let (writer, room) = (writer.clone(), room.to_owned());
        async move {
            let mut due = interval(Duration::from_secs(1) / rate);
            // Open loop: what comes late is charged to the server.
            due.set_missed_tick_behavior(MissedTickBehavior::Burst);
            for number in 0..expected {
                due.tick().await;
                let at = (Duration::from_secs(1) / rate * number as u32).as_micros();
                let (writer, room) = (writer.clone(), room.clone());
                posts.spawn(async move {
                    let nonce = number.to_string();
                    loop {
                        let body = at.to_string();
                        let answer = writer.tries_to_say(&room, &body, Some(&nonce)).await;
                        if answer.is_ok_and(|answer| answer.status() == StatusCode::CREATED) {
                            return;
                        }
                    }
                });
            }
            posts.join_all().await;
        }
    };
    let reading = async {
        let mut delays = Vec::new();
        while delays.len() < expected {
            let event = stream.next_event().await.expect("the stream ended").json();
            let due: u64 = event["body"].as_str().unwrap().parse().unwrap();
            let delay = began.elapsed().saturating_sub(Duration::from_micros(due));
            delays.push(delay.as_secs_f64() * 1_000.0);
        }
        delays
    };
    let (mut delays, ()) = tokio::join!(reading, writing);
    delays.sort_by(f64::total_cmp);
    delays
}

fn at_share(sorted: &[f64], share: f64) -> f64 {
    sorted[((sorted.len() - 1) as f64 * share) as usize]
}
