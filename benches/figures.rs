//! The figures the README quotes: `cargo bench --bench figures`. Starts release builds of the
//! server on a fresh SQLite and, where a `mongod` was fetched by `tests/run`, on a replica set.
//!
//! Not a test: the load shares the machine with the server.

#![expect(
    clippy::unwrap_used,
    reason = "a bench that cannot run should say so and stop"
)]

#[path = "support/process.rs"]
mod process;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use process::{Client, Served, free_port, per_second, post_request};
use tempfile::TempDir;

const CONNECTIONS: usize = 64;
const MEASURED_FOR: Duration = Duration::from_secs(5);

fn main() {
    let mongod = mongod();
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
}

struct Figures {
    cold_start: Duration,
    idle_memory_kb: f64,
    posts_per_second: f64,
}

fn measure(mongod: Option<&Mongod>) -> Figures {
    let uri =
        mongod.map(|mongod| format!("mongodb://127.0.0.1:{}/bench?replicaSet=rs0", mongod.port));
    let settings: Vec<(&str, &str)> = match &uri {
        Some(uri) => vec![
            ("MONGODB_URI", uri),
            ("JWT_SECRET", "bench-bench-bench-bench-bench-bench"),
        ],
        None => Vec::new(),
    };
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
    Figures {
        cold_start,
        idle_memory_kb,
        posts_per_second: per_second(&server, &post, CONNECTIONS, MEASURED_FOR),
    }
}

struct Mongod {
    process: Child,
    port: u16,
    _dir: tempfile::TempDir,
}

impl Drop for Mongod {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn mongod() -> Option<Mongod> {
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/test-tools/mongod");
    let program = Some(program)
        .filter(|program| program.exists())
        .or_else(on_the_path)?;
    let dir = tempfile::tempdir().unwrap();
    let port = free_port();
    let process = Command::new(program)
        .args([
            "--replSet",
            "rs0",
            "--bind_ip",
            "127.0.0.1",
            "--port",
            &port.to_string(),
        ])
        .arg("--dbpath")
        .arg(dir.path())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    initiate(port);
    Some(Mongod {
        process,
        port,
        _dir: dir,
    })
}

fn on_the_path() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let mut programs = std::env::split_paths(&path).map(|folder| folder.join("mongod"));
    programs.find(|program| program.exists())
}

fn initiate(port: u16) {
    use mongodb::bson::doc;
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let uri = format!("mongodb://127.0.0.1:{port}/?directConnection=true");
        let client = mongodb::Client::with_uri_str(uri).await.unwrap();
        let members = vec![doc! { "_id": 0, "host": format!("127.0.0.1:{port}") }];
        let config = doc! { "_id": "rs0", "members": members };
        let admin = client.database("admin");
        admin
            .run_command(doc! { "replSetInitiate": config })
            .await
            .unwrap();
        loop {
            let hello = admin.run_command(doc! { "hello": 1 }).await.unwrap();
            if hello.get_bool("isWritablePrimary").unwrap_or(false) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
}
