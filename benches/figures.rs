//! The figures the README quotes: `cargo bench --bench figures`. Starts release builds of the
//! server on a fresh SQLite and, where a `mongod` was fetched by `tests/run`, on a replica set.
//!
//! Not a test: the load shares the machine with the server.

#![expect(
    clippy::unwrap_used,
    reason = "a bench that cannot run should say so and stop"
)]

#[path = "support/mongod.rs"]
mod mongod;
#[path = "support/process.rs"]
mod process;

use std::time::Duration;

use mongod::Mongod;
use process::{Client, Served, change_of, per_second, per_second_of, post_request};
use tempfile::TempDir;

const CONNECTIONS: usize = 64;
const MEASURED_FOR: Duration = Duration::from_secs(5);

fn main() {
    let mongod = Mongod::start();
    let mut rows = vec![measure(None)];
    if let Some(mongod) = &mongod {
        rows.push(measure(Some(mongod)));
    } else {
        eprintln!("no mongod: run tests/run once to measure MongoDB too");
    }
    let cell = |of: fn(&Figures) -> String| rows.iter().map(of).collect::<Vec<_>>().join(" | ");
    println!("| | SQLite | MongoDB, one member |");
    println!("|---|---|---|");
    println!(
        "| cold start to first answer | {} |",
        cell(|row| format!("{:.0} ms", row.cold_start.as_secs_f64() * 1_000.0))
    );
    println!(
        "| idle memory (Pss) | {} |",
        cell(|row| format!("{:.1} MB", row.idle_memory_kb / 1_024.0))
    );
    println!(
        "| durable posts/s, {CONNECTIONS} connections | {} |",
        cell(|row| format!("{:.0}", row.posts_per_second))
    );
    println!(
        "| durable edits/s, the same | {} |",
        cell(|row| format!("{:.0}", row.edits_per_second))
    );
    println!(
        "| durable reactions/s, the same | {} |",
        cell(|row| format!("{:.0}", row.reactions_per_second))
    );
}

struct Figures {
    cold_start: Duration,
    idle_memory_kb: f64,
    posts_per_second: f64,
    edits_per_second: f64,
    reactions_per_second: f64,
}

fn measure(mongod: Option<&Mongod>) -> Figures {
    let uri = mongod.map(Mongod::uri);
    let settings = uri.as_deref().map_or_else(Vec::new, mongod::settings);
    // The first start makes files and indexes; the second one is what a restart costs.
    let dir: TempDir = Served::parlor_in(tempfile::tempdir().unwrap(), &settings).stop();
    let began = std::time::Instant::now();
    let mut server = Served::parlor_in(dir, &settings);
    Client::new(&server).ask(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n");
    let cold_start = began.elapsed();
    std::thread::sleep(Duration::from_secs(1));
    let idle_memory_kb = server.memory_kb();
    server.sign_up();
    server.make(&["tea".to_owned()]);
    let post = post_request(&server, "tea");
    let posts_per_second = per_second(&server, &post, CONNECTIONS, MEASURED_FOR);
    // Each connection changes a message of its own: the second is the first, after who joined.
    let message = |connection: usize| connection as u64 + 2;
    let edit = |connection, number: usize| {
        let form = format!("body={number:0>100}");
        change_of(&server, "tea", message(connection), "", &form)
    };
    let react = |connection, number: usize| {
        let form = format!("emoji=%F0%9F%91%8D&on={}", (number + 1) % 2);
        change_of(&server, "tea", message(connection), "/reactions", &form)
    };
    Figures {
        cold_start,
        idle_memory_kb,
        posts_per_second,
        edits_per_second: per_second_of(&server, CONNECTIONS, MEASURED_FOR, edit),
        reactions_per_second: per_second_of(&server, CONNECTIONS, MEASURED_FOR, react),
    }
}
