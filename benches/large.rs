//! The cost of size: `cargo bench --bench large`. A store of 50,000 users and 10,000 rooms, one of them
//! with a million events, is made by `parlor import`; what people do there is measured beside a small
//! store, in turns. Then a reader who is 100,000 events behind catches up beside others' posts.

#![expect(
    clippy::unwrap_used,
    reason = "a bench that cannot run should say so and stop"
)]

#[path = "support/process.rs"]
mod process;

use std::fmt::Write as _;
use std::io::{BufWriter, Read, Write};
use std::net::TcpStream;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use tempfile::TempDir;

use process::{Client, Served, page_request, parlor, post_latency, post_request};

const ROOM: &str = "tea";
const ROUNDS: usize = 400;
/// People who come, each in ten rooms, and rooms whose pages are long.
const ACTIVE: usize = 2_200;
const LONG: usize = 300;

fn main() {
    let small = Served::parlor();
    let authorization = small.authorization.clone();
    let people = small.stop();
    let of_small = make(&people, 2, 21, 1_000);
    let began = Instant::now();
    let of_large = make(&people, 50_000, 10_000, 1_000_000);
    println!(
        "50,000 users, 10,000 rooms, 1,100,000 events: imported in {:.0} s",
        began.elapsed().as_secs_f64()
    );
    println!();
    let mut small = Served::parlor_in(of_small, &[]);
    let mut large = Served::parlor_in(of_large, &[]);
    small.authorization.clone_from(&authorization);
    large.authorization = authorization;

    println!("| p50 | small store | large store | |");
    println!("|---|---|---|---|");
    let small_page = page_request(&small, &format!("/rooms/{ROOM}"));
    let large_page = page_request(&large, &format!("/rooms/{ROOM}"));
    print_row(
        "a room’s page",
        timed(&small, &large, |served, client, _| {
            client.ask(if std::ptr::eq(served, &large) {
                &large_page
            } else {
                &small_page
            });
        }),
    );
    let posts = post_request(&small, ROOM);
    print_row(
        "a post",
        timed(&small, &large, |_, client, _| client.ask(&posts)),
    );
    print_row(
        "coming back 100 events later",
        timed(&small, &large, |served, client, round| {
            let head = match std::ptr::eq(served, &large) {
                true => 1_000_000,
                false => 1_000,
            };
            let _ = client;
            // Never from where one has come back before, so never from what is at hand.
            let after = head - 150 - round as u64;
            assert!(catch_up(served, after, 100) > 0.0);
        }),
    );

    println!();
    catching_up_beside_posts(&large);
    println!();
    full_caches(&large);
}

/// Measures the memory of full caches: more is asked for than they hold, 2,000 people's lists, 20,000
/// memberships, 200 newest pages of 30 KB.
fn full_caches(served: &Served) {
    let before = served.memory_kb();
    let next = AtomicUsize::new(1);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                loop {
                    let user = next.fetch_add(1, Ordering::Relaxed);
                    if user > ACTIVE {
                        return;
                    }
                    let form = format!("username=user{user}&password=correct+horse+battery");
                    let answer = served.request("POST", "/login", &form);
                    let token = answer.split("\r\n\r\n").nth(1).unwrap().trim();
                    let mut client = Client::new(served);
                    for path in ["/rooms".to_owned(), format!("/rooms/{}", room(user % LONG))] {
                        client.ask(
                            format!(
                                "GET {path} HTTP/1.1\r\nhost: localhost\r\naccept: text/html\r\n\
                                 authorization: Bearer {token}\r\n\r\n"
                            )
                            .as_bytes(),
                        );
                    }
                }
            });
        }
    });
    println!(
        "memory with full caches, of what is read and of what is rendered (Pss): {:.1} MB, {:.1} MB before",
        served.memory_kb() / 1_024.0,
        before / 1_024.0
    );
}

/// Does something in turns at both, on connections that are kept: how long it takes, in µs.
fn timed(
    small: &Served,
    large: &Served,
    what: impl Fn(&Served, &mut Client, usize),
) -> [Histogram<u64>; 2] {
    let histogram = || Histogram::new_with_bounds(1, 60_000_000, 3).unwrap();
    let mut took = [histogram(), histogram()];
    let mut clients = [Client::new(small), Client::new(large)];
    for round in 0..ROUNDS {
        for (at, served) in [small, large].into_iter().enumerate() {
            let began = Instant::now();
            what(served, &mut clients[at], round);
            let us = u64::try_from(began.elapsed().as_micros()).unwrap();
            took[at].saturating_record(us.max(1));
        }
    }
    took
}

fn print_row(name: &str, [small, large]: [Histogram<u64>; 2]) {
    let (small, large) = (small.value_at_quantile(0.5), large.value_at_quantile(0.5));
    println!(
        "| {name} | {small} µs | {large} µs | {:.2} × |",
        large as f64 / small as f64
    );
}

/// Follows the room from there until it has so many events: how many a second.
fn catch_up(served: &Served, after: u64, count: usize) -> f64 {
    let mut socket = TcpStream::connect(&served.address).unwrap();
    write!(
        socket,
        "GET /rooms/{ROOM}/events?after={after} HTTP/1.1\r\nhost: localhost\r\n{}\r\n",
        served.authorization
    )
    .unwrap();
    let began = Instant::now();
    let (mut buffer, mut seen, mut rest) = (vec![0; 256 * 1024], 0, 0);
    // The end of an event, which cannot be in one.
    let end = b"}\n\n";
    while seen < count {
        let read = socket.read(&mut buffer[rest..]).unwrap();
        assert!(read > 0, "the stream ended");
        let filled = rest + read;
        seen += memchr::memmem::find_iter(&buffer[..filled], end).count();
        let keep = (end.len() - 1).min(filled);
        buffer.copy_within(filled - keep..filled, 0);
        rest = keep;
    }
    count as f64 / began.elapsed().as_secs_f64()
}

fn catching_up_beside_posts(served: &Served) {
    const EVERY: Duration = Duration::from_millis(5);
    const BEHIND: usize = 100_000;
    served.request("POST", "/rooms", "room=elsewhere");
    let alone = post_latency(served, "elsewhere", EVERY, |number| number == 1_000);
    let is_over = AtomicBool::new(false);
    let (rate, beside) = std::thread::scope(|scope| {
        let is_over = &is_over;
        let measuring = scope.spawn(move || {
            post_latency(served, "elsewhere", EVERY, |_| {
                is_over.load(Ordering::Relaxed)
            })
        });
        // Some one after the other, so that there are posts enough to speak of.
        let rates: Vec<f64> = (0..8)
            .map(|round| catch_up(served, 800_000 + round * 10_000, BEHIND))
            .collect();
        is_over.store(true, Ordering::Relaxed);
        let rate = rates.iter().sum::<f64>() / rates.len() as f64;
        (rate, measuring.join().unwrap())
    });
    let ms = |took: &Histogram<u64>| took.value_at_quantile(0.99) as f64 / 1_000.0;
    println!("| a reader 100,000 events behind | |");
    println!("|---|---|");
    println!("| catches up at | {rate:.0} events/s |");
    println!(
        "| posts elsewhere, p99, without and beside it | {:.1} / {:.1} ms, {:.2} × |",
        ms(&alone),
        ms(&beside),
        ms(&beside) / ms(&alone)
    );
}

/// A store with another's only user, who is in 21 rooms, and its key.
fn make(people: &TempDir, users: usize, rooms: usize, events: u64) -> TempDir {
    let exported = parlor(people.path()).arg("export").output().unwrap();
    let exported = String::from_utf8(exported.stdout).unwrap();
    let of = |kind: &str| {
        let record = format!("\"record\":\"{kind}\"");
        let found = exported.lines().filter(move |line| line.contains(&record));
        found.map(str::to_owned).collect::<Vec<_>>()
    };
    let (head, sessions, people_there) = (of("parlor"), of("session"), of("user"));
    let ana = field(&people_there[0], "id");
    let hash = field(&people_there[0], "password_hash");

    let dir = tempfile::tempdir().unwrap();
    let key = "jwt-secret";
    std::fs::copy(people.path().join(key), dir.path().join(key)).unwrap();
    let mut import = parlor(dir.path())
        .arg("import")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufWriter::new(import.stdin.take().unwrap());
    let mut write = |line: &str| writeln!(lines, "{line}").unwrap();
    let names: Vec<String> = (0..rooms - 1).map(room).collect();
    write(&head[0]);
    let (mut memberships, mut counts) = (Vec::new(), [0_u64; 2]);
    for room in names.iter().take(20).map(String::as_str).chain([ROOM]) {
        memberships.push((ana.clone(), room.to_owned()));
    }
    for user in 1..users {
        let rooms = if user <= ACTIVE && users > ACTIVE {
            10
        } else {
            1
        };
        for also in 0..rooms {
            memberships.push((id(user), room((user % LONG + also * LONG) % names.len())));
        }
    }
    memberships.sort();
    for (user, room) in &memberships {
        write(&format!(
            r#"{{"record":"membership","user":"{user}","room":"{room}","joined_at":1,"read":1}}"#
        ));
    }
    counts[0] += memberships.len() as u64;
    sessions.iter().for_each(|session| write(session));
    for room in names.iter().map(String::as_str).chain([ROOM]) {
        write(&format!(
            r#"{{"record":"room","id":"{room}","created_at":1}}"#
        ));
    }
    let mut line = String::new();
    let mut log = |room: &str, events: u64, more: &str| {
        for seq in 1..=events {
            line.clear();
            write!(
                line,
                r#"{{"record":"event","room":"{room}","seq":{seq},"at":{},"type":"message","author":"{ana}","author_name":"ana","body":"number {seq}, about as long as what people usually write to each other{more}"}}"#,
                1_700_000_000_000 + seq * 10
            )
            .unwrap();
            write(&line);
        }
        counts[1] += events;
    };
    let more = " and so on".repeat(52);
    for (number, room) in names.iter().enumerate() {
        match number < LONG {
            true => log(room, 50, &more),
            false => log(room, 10, ""),
        }
    }
    log(ROOM, events, "");
    write(&people_there[0]);
    for user in 1..users {
        write(&format!(
            r#"{{"record":"user","id":"{}","username":"user{user}","email":"user{user}@example.org","password_hash":"{hash}","created_at":1}}"#,
            id(user)
        ));
    }
    write(&format!(
        r#"{{"record":"end","memberships":{},"sessions":{},"rooms":{rooms},"events":{},"users":{users}}}"#,
        counts[0],
        sessions.len(),
        counts[1]
    ));
    drop(lines);
    assert!(import.wait().unwrap().success(), "the import failed");
    dir
}

fn room(number: usize) -> String {
    format!("room-{number:05}")
}

/// Later than ana's.
fn id(user: usize) -> String {
    format!("f0000000-0000-7000-8000-{user:012}")
}

fn field(record: &str, name: &str) -> String {
    let record: serde_json::Value = serde_json::from_str(record).unwrap();
    record[name].as_str().unwrap().to_owned()
}
