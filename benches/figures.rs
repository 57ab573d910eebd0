//! The figures the README quotes: `cargo bench --bench figures`. Starts release builds of the
//! server on a fresh SQLite and, where a `mongod` was fetched by `tests/run`, on a replica set.
//!
//! Not a test: the load shares the machine with the server.

#![expect(
    clippy::unwrap_used,
    reason = "a bench that cannot run should say so and stop"
)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const CONNECTIONS: usize = 32;
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
    println!(
        "| cold start to first answer | {} |",
        cell(|row| row.cold_start.clone())
    );
    println!(
        "| idle memory (Pss) | {} |",
        cell(|row| row.idle_memory.clone())
    );
    println!(
        "| durable posts/s, {CONNECTIONS} connections | {} |",
        cell(|row| row.posts.clone())
    );
}

struct Figures {
    cold_start: String,
    idle_memory: String,
    posts: String,
}

fn measure(mongod: Option<&Mongod>) -> Figures {
    let dir = tempfile::tempdir().unwrap();
    // The first start makes files and indexes; the second one is what a restart costs.
    drop(Server::start(dir.path(), mongod));
    let began = Instant::now();
    let server = Server::start(dir.path(), mongod);
    let answer = request(&server.address, "GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let cold_start = began.elapsed();
    std::thread::sleep(Duration::from_secs(1));
    let idle_memory = server.memory_kib();

    let token = sign_up(&server.address);
    post(&server.address, &token, "/rooms", "room=tea");
    let posts = posts_per_second(&server.address, &token);
    Figures {
        cold_start: format!("{:.0} ms", cold_start.as_secs_f64() * 1_000.0),
        idle_memory: format!("{:.1} MB", idle_memory as f64 / 1_024.0),
        posts: format!("{posts:.0}"),
    }
}

/// Each connection posts 100 bytes, waits for the answer, and posts again.
fn posts_per_second(address: &str, token: &str) -> f64 {
    let body = format!("body={}", "x".repeat(100));
    let request = format!(
        "POST /rooms/tea/messages HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\n\
         accept: application/json\r\ncontent-type: application/x-www-form-urlencoded\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    );
    let until = Instant::now() + MEASURED_FOR;
    let posted: usize = std::thread::scope(|scope| {
        let posters: Vec<_> = (0..CONNECTIONS)
            .map(|_| {
                scope.spawn(|| {
                    let mut connection = BufReader::new(TcpStream::connect(address).unwrap());
                    connection.get_ref().set_nodelay(true).unwrap();
                    let mut posted = 0;
                    while Instant::now() < until {
                        connection.get_mut().write_all(request.as_bytes()).unwrap();
                        let answer = read_answer(&mut connection);
                        assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
                        posted += 1;
                    }
                    posted
                })
            })
            .collect();
        posters
            .into_iter()
            .map(|poster| poster.join().unwrap())
            .sum()
    });
    posted as f64 / MEASURED_FOR.as_secs_f64()
}

fn read_answer(connection: &mut BufReader<TcpStream>) -> String {
    let mut answer = String::new();
    let mut length = 0;
    loop {
        let from = answer.len();
        connection.read_line(&mut answer).unwrap();
        let line = answer[from..].trim_end().to_ascii_lowercase();
        if let Some(value) = line.strip_prefix("content-length: ") {
            length = value.parse().unwrap();
        }
        if line.is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    connection.read_exact(&mut body).unwrap();
    answer + &String::from_utf8(body).unwrap()
}

fn request(address: &str, request: &str) -> String {
    let mut connection = BufReader::new(TcpStream::connect(address).unwrap());
    connection.get_mut().write_all(request.as_bytes()).unwrap();
    read_answer(&mut connection)
}

fn post(address: &str, token: &str, path: &str, body: &str) -> String {
    let answer = request(
        address,
        &format!(
            "POST {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\n\
             accept: text/plain\r\ncontent-type: application/x-www-form-urlencoded\r\n\
             content-length: {}\r\n\r\n{body}",
            body.len()
        ),
    );
    assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
    answer.lines().last().unwrap().to_owned()
}

fn sign_up(address: &str) -> String {
    let form = "username=ana&email=ana@example.org&password=correct+horse+battery";
    post(address, "none", "/signup", form)
}

struct Server {
    process: Child,
    address: String,
}

impl Server {
    fn start(dir: &Path, mongod: Option<&Mongod>) -> Self {
        let address = format!("127.0.0.1:{}", free_port());
        let mut command = Command::new(env!("CARGO_BIN_EXE_parlor"));
        command
            .current_dir(dir)
            .env_clear()
            .env("BIND_ADDR", &address)
            .env("RATE_LIMITS", "off")
            .env("RUST_LOG", "warn")
            .stdout(Stdio::null());
        if let Some(mongod) = mongod {
            let uri = format!("mongodb://127.0.0.1:{}/bench?replicaSet=rs0", mongod.port);
            command
                .env("MONGODB_URI", uri)
                .env("JWT_SECRET", "bench-".repeat(6));
        }
        let server = Self {
            process: command.spawn().unwrap(),
            address,
        };
        while TcpStream::connect(&server.address).is_err() {
            std::thread::sleep(Duration::from_millis(1));
        }
        server
    }

    fn memory_kib(&self) -> u64 {
        let path = format!("/proc/{}/smaps_rollup", self.process.id());
        let rollup = std::fs::read_to_string(path).unwrap();
        let line = rollup
            .lines()
            .find(|line| line.starts_with("Pss:"))
            .unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
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

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}
