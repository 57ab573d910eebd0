//! Pages on a replica set beside pages on the embedded store: `cargo bench --bench replica_set`. One
//! member and one or three nodes, all on this machine, which the load shares. The ratios count.

#![expect(
    clippy::unwrap_used,
    reason = "a bench that cannot run should say so and stop"
)]

#[path = "support/mongod.rs"]
mod mongod;
#[path = "support/process.rs"]
mod process;

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use mongod::Mongod;
use process::{Client, Served, page_request, per_second, post_of, post_request};

const CONNECTIONS: usize = 16;
const POSTERS: usize = 64;
const MEASURED_FOR: Duration = Duration::from_secs(4);
const POSTS_PER_SECOND: u32 = 100;
const ROOMS: [usize; 3] = [2, 50, 250];
const MESSAGES: usize = 60;

fn main() {
    let Some(mongod) = Mongod::start() else {
        eprintln!("no mongod: run tests/run once to measure MongoDB too");
        return;
    };
    let uri = mongod.uri();
    let settings = mongod::settings(&uri);
    let start = || Served::parlor_in(tempfile::tempdir().unwrap(), &settings);

    println!("| | rooms | SQLite | MongoDB, one node | | mongod’s CPU a page |");
    println!("|---|---|---|---|---|---|");
    let mut sqlite = Served::parlor();
    let mut nodes = vec![start(), start(), start()];
    nodes[0].sign_up();
    let authorization = nodes[0].authorization.clone();
    for node in &mut nodes {
        node.authorization.clone_from(&authorization);
    }
    let mut made = 0;
    for count in ROOMS {
        let rooms: Vec<String> = (made..count)
            .map(|number| format!("room-{number}"))
            .collect();
        made = count;
        for served in [&mut sqlite, &mut nodes[0]] {
            served.make(&rooms);
            for room in &rooms {
                let messages = if room == "room-0" { MESSAGES } else { 1 };
                for number in 0..messages {
                    let text = format!("body=message+{number},+as+long+as+what+people+write");
                    served.request("POST", &format!("/rooms/{room}/messages"), &text);
                }
            }
        }
        // Only now do the nodes know that they are near.
        std::thread::sleep(Duration::from_secs(2));
        for (name, path) in [("a room’s page", "/rooms/room-0"), ("the lobby", "/rooms")] {
            let page = Page { name, path, count };
            page.measure(&sqlite, &nodes[..1], &mongod, 0);
            page.measure(&sqlite, &nodes[..1], &mongod, POSTS_PER_SECOND);
        }
    }
    println!("\n| three nodes, 250 rooms | one node | three | |");
    println!("|---|---|---|---|");
    for (name, path) in [("a room’s page", "/rooms/room-0"), ("the lobby", "/rooms")] {
        let request = page_request(&nodes[0], path);
        let one = per_second(&nodes[0], &request, CONNECTIONS, MEASURED_FOR);
        let three = of_all(&nodes, &request, CONNECTIONS);
        println!(
            "| {name} | {one:.0}/s | {three:.0}/s | {:.2} × |",
            three / one
        );
    }

    println!("\n| posts/s, {POSTERS} connections | | mongod’s CPU a post |");
    println!("|---|---|---|");
    let post = post_request(&nodes[0], "room-1");
    for (name, at) in [("one node", &nodes[..1]), ("three nodes", &nodes[..])] {
        let before = mongod.cpu();
        let rate = of_all(at, &post, POSTERS);
        let spent = (mongod.cpu() - before).as_secs_f64() / (rate * MEASURED_FOR.as_secs_f64());
        println!("| {name} | {rate:.0} | {:.0} µs |", spent * 1e6);
    }
    println!("\n| a post at one node, to a reader at another | p50 | p99 |");
    println!("|---|---|---|");
    for rate in [50, 500] {
        let delays = across(&nodes[0], &nodes[1], rate);
        let ms = |share| delays.value_at_quantile(share) as f64 / 1_000.0;
        println!(
            "| {rate} posts/s | {:.1} ms | {:.1} ms |",
            ms(0.5),
            ms(0.99)
        );
    }
    for (number, node) in nodes.iter().enumerate() {
        let megabytes = node.memory_kb() / 1_024.0;
        println!("\nmemory of node {number} after this (Pss): {megabytes:.1} MB");
    }

    std::thread::sleep(Duration::from_secs(3));
    let (before, mongods) = (nodes[0].cpu(), mongod.cpu());
    nodes.truncate(1);
    let idle = Duration::from_secs(20);
    std::thread::sleep(idle);
    let share = |spent: Duration| 100.0 * spent.as_secs_f64() / idle.as_secs_f64();
    println!(
        "\nCPU of an idle node: {:.2} %; of mongod beside it: {:.2} %",
        share(nodes[0].cpu() - before),
        share(mongod.cpu() - mongods)
    );
}

struct Page {
    name: &'static str,
    path: &'static str,
    count: usize,
}

impl Page {
    /// Both in turns, so that what else the machine does meets both.
    fn measure(&self, sqlite: &Served, nodes: &[Served], mongod: &Mongod, posts: u32) {
        let Self { name, path, count } = self;
        let (mut rates, mut mongods) = ([0.0, 0.0], Duration::ZERO);
        for _ in 0..2 {
            rates[0] += rate(sqlite, path, posts);
            let before = mongod.cpu();
            rates[1] += rate(&nodes[0], path, posts);
            mongods += mongod.cpu() - before;
        }
        let pages = rates[1] * MEASURED_FOR.as_secs_f64();
        let spent = mongods.as_secs_f64() / pages;
        let during = match posts {
            0 => String::new(),
            _ => format!(", {posts} posts/s into it"),
        };
        println!(
            "| {name}{during} | {count} | {:.0}/s | {:.0}/s | {:.2} × | {:.1} µs |",
            rates[0] / 2.0,
            rates[1] / 2.0,
            rates[1] / rates[0],
            spent * 1e6
        );
    }
}

/// Pages a second, while so many posts a second go into the room.
fn rate(served: &Served, path: &str, posts: u32) -> f64 {
    let request = page_request(served, path);
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        if posts > 0 {
            scope.spawn(|| {
                let post = post_request(served, "room-0");
                let (mut client, began) = (Client::new(served), Instant::now());
                for number in 0.. {
                    if is_over.load(Ordering::Relaxed) {
                        break;
                    }
                    let due = began + Duration::from_secs(1) / posts * number;
                    std::thread::sleep(due.saturating_duration_since(Instant::now()));
                    client.ask(&post);
                }
            });
        }
        let rate = per_second(served, &request, CONNECTIONS, MEASURED_FOR);
        is_over.store(true, Ordering::Relaxed);
        rate
    })
}

/// How long a post takes until another node's reader has it, in µs, from when it was due.
fn across(writer: &Served, reader: &Served, rate: u32) -> Histogram<u64> {
    let posts = rate * MEASURED_FOR.as_secs() as u32;
    let due = Duration::from_secs(1) / rate;
    let mut delays = Histogram::new_with_bounds(1, 60_000_000, 3).unwrap();
    let mut stream = TcpStream::connect(&reader.address).unwrap();
    write!(
        stream,
        "GET /rooms/room-1/events HTTP/1.1\r\nhost: localhost\r\naccept: application/x-ndjson\r\n{}\r\n",
        reader.authorization
    )
    .unwrap();
    let mut lines = BufReader::new(stream).lines();
    assert!(lines.next().unwrap().unwrap().contains(" 200 "));
    let (began, next) = (Instant::now(), AtomicU32::new(0));
    std::thread::scope(|scope| {
        for _ in 0..POSTERS {
            scope.spawn(|| {
                let mut client = Client::new(writer);
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= posts {
                        return;
                    }
                    std::thread::sleep((due * number).saturating_sub(began.elapsed()));
                    let body = format!("body=at-{}", (due * number).as_micros());
                    client.ask(&post_of(writer, "room-1", &body));
                }
            });
        }
        while delays.len() < u64::from(posts) {
            let line = lines.next().unwrap().unwrap();
            let Some((_, at)) = line.split_once("\"body\":\"at-") else {
                continue;
            };
            let at = at.split('"').next().unwrap().parse().unwrap();
            let delay = began.elapsed().saturating_sub(Duration::from_micros(at));
            delays.saturating_record(u64::try_from(delay.as_micros()).unwrap().max(1));
        }
    });
    delays
}

/// Requests a second that several nodes answer, to so many connections in all.
fn of_all(nodes: &[Served], request: &[u8], connections: usize) -> f64 {
    std::thread::scope(|scope| {
        let each = connections / nodes.len();
        let of: Vec<_> = nodes
            .iter()
            .map(|node| scope.spawn(move || per_second(node, request, each, MEASURED_FOR)))
            .collect();
        let rates = of.into_iter().map(|rate| rate.join().unwrap());
        rates.sum()
    })
}
