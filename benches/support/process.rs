use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use tempfile::TempDir;

/// A server under load, in a process of its own. It ends with this.
pub struct Served {
    pub address: String,
    /// The user who posts and listens.
    pub authorization: String,
    process: Child,
    is_bare: bool,
    dir: Option<TempDir>,
}

#[allow(dead_code, reason = "each bench uses some of it")]
impl Served {
    /// Parlor on a fresh SQLite, with default settings apart from the limits that are in the way, and
    /// somebody who has signed up.
    pub fn parlor() -> Self {
        let mut served = Self::parlor_in(tempfile::tempdir().unwrap(), &[]);
        served.sign_up();
        served
    }

    /// Parlor in a directory, with what is there, and more settings.
    pub fn parlor_in(dir: TempDir, settings: &[(&str, &str)]) -> Self {
        let mut parlor = parlor(dir.path());
        parlor
            .env("RATE_LIMITS", "off")
            .env("STREAMS_PER_USER", "100000")
            .env("REQUESTS_PER_USER", "100000")
            .env("RUST_LOG", "warn")
            .envs(settings.iter().copied());
        Self::start(parlor, dir, false)
    }

    /// This bench itself, started with `what`, an address and `more`: something simpler to compare
    /// Parlor with.
    pub fn bare(what: &str, more: &[&str]) -> Self {
        let mut bench = Command::new(std::env::current_exe().unwrap());
        bench.arg(what).args(more);
        Self::start(bench, tempfile::tempdir().unwrap(), true)
    }

    fn start(mut program: Command, dir: TempDir, is_bare: bool) -> Self {
        let address = format!("127.0.0.1:{}", free_port());
        let began = Instant::now();
        let process = program
            .current_dir(dir.path())
            .env("BIND_ADDR", &address)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        while TcpStream::connect(&address).is_err() {
            assert!(
                began.elapsed() < Duration::from_secs(30),
                "the server does not start"
            );
            std::thread::sleep(Duration::from_micros(500));
        }
        Self {
            address,
            authorization: String::new(),
            process,
            is_bare,
            dir: Some(dir),
        }
    }

    pub fn sign_up(&mut self) {
        let form = "username=ana&email=ana%40example.org&password=correct+horse+battery";
        self.request("POST", "/signup", form);
        let form = "username=ana&password=correct+horse+battery";
        let answer = self.request("POST", "/login", form);
        let token = answer.split("\r\n\r\n").nth(1).unwrap().trim();
        self.authorization = format!("authorization: Bearer {token}\r\n");
    }

    /// Ends it, and gives its directory.
    pub fn stop(mut self) -> TempDir {
        let pid = self.process.id().to_string();
        Command::new("kill").args(["-TERM", &pid]).status().unwrap();
        self.process.wait().unwrap();
        self.dir.take().unwrap()
    }

    /// Makes the rooms.
    pub fn make(&mut self, rooms: &[String]) {
        if !self.is_bare {
            for room in rooms {
                let answer = self.request("POST", "/rooms", &format!("room={room}"));
                assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
            }
        }
    }

    /// The number of a new room's last event: nothing simpler has a `joined`.
    pub fn first_head(&self) -> u64 {
        u64::from(!self.is_bare)
    }

    /// CPU time spent so far.
    pub fn cpu(&self) -> Duration {
        cpu_of(self.process.id())
    }

    /// Memory of its own.
    pub fn memory_kb(&self) -> f64 {
        let rollup = self.read("smaps_rollup");
        let line = rollup.lines().find(|line| line.starts_with("Pss:"));
        let value = line.unwrap().split_whitespace().nth(1).unwrap();
        value.parse().unwrap()
    }

    fn read(&self, file: &str) -> String {
        std::fs::read_to_string(format!("/proc/{}/{file}", self.process.id())).unwrap()
    }

    /// One request on a connection of its own, and its answer.
    pub fn request(&self, method: &str, path: &str, form: &str) -> String {
        let mut connection = TcpStream::connect(&self.address).unwrap();
        write!(
            connection,
            "{method} {path} HTTP/1.1\r\nhost: localhost\r\naccept: text/plain\r\n{}\
             content-type: application/x-www-form-urlencoded\r\ncontent-length: {}\r\n\r\n{form}",
            self.authorization,
            form.len()
        )
        .unwrap();
        let mut connection = BufReader::new(connection);
        let (mut answer, mut length) = (String::new(), 0);
        loop {
            let from = answer.len();
            connection.read_line(&mut answer).unwrap();
            let line = answer[from..].trim_end();
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
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The program, for a directory.
pub fn parlor(dir: &Path) -> Command {
    let mut parlor = Command::new(env!("CARGO_BIN_EXE_parlor"));
    parlor.current_dir(dir).env("DATA_DIR", dir);
    parlor
}

/// CPU time that a process has spent.
pub fn cpu_of(pid: u32) -> Duration {
    const TICKS_PER_SECOND: f64 = 100.0;
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let after_name = stat.rsplit(") ").next().unwrap();
    let field = |at: usize| -> f64 { after_name.split(' ').nth(at).unwrap().parse().unwrap() };
    Duration::from_secs_f64((field(11) + field(12)) / TICKS_PER_SECOND)
}

pub fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

/// A connection that is kept, one request at a time.
#[allow(dead_code, reason = "each bench uses some of it")]
pub struct Client {
    connection: BufReader<TcpStream>,
    line: String,
    pub body: Vec<u8>,
}

#[allow(dead_code, reason = "each bench uses some of it")]
impl Client {
    pub fn new(served: &Served) -> Self {
        let connection = TcpStream::connect(&served.address).unwrap();
        connection.set_nodelay(true).unwrap();
        Self {
            connection: BufReader::with_capacity(128 * 1024, connection),
            line: String::new(),
            body: Vec::new(),
        }
    }

    /// Sends it, and reads the answer, which must be one of success, into `body`.
    pub fn ask(&mut self, request: &[u8]) {
        self.connection.get_mut().write_all(request).unwrap();
        self.line.clear();
        self.connection.read_line(&mut self.line).unwrap();
        assert!(self.line.starts_with("HTTP/1.1 20"), "{}", self.line);
        let mut length = 0;
        while !self.line.trim_end().is_empty() {
            self.line.clear();
            self.connection.read_line(&mut self.line).unwrap();
            if let Some(value) = self.line.strip_prefix("content-length: ") {
                length = value.trim_end().parse().unwrap();
            }
        }
        self.body.resize(length, 0);
        self.connection.read_exact(&mut self.body).unwrap();
    }
}

#[allow(dead_code, reason = "each bench uses some of it")]
pub fn page_request(served: &Served, path: &str) -> Vec<u8> {
    let authorization = &served.authorization;
    format!("GET {path} HTTP/1.1\r\nhost: localhost\r\naccept: text/html\r\n{authorization}\r\n")
        .into_bytes()
}

/// A message of 100 bytes.
#[allow(dead_code, reason = "each bench uses some of it")]
pub fn post_request(served: &Served, room: &str) -> Vec<u8> {
    post_of(served, room, &format!("body={}", "x".repeat(100)))
}

/// A change to a message, in a form: `what` is behind its address.
#[allow(dead_code, reason = "each bench uses some of it")]
pub fn change_of(served: &Served, room: &str, seq: u64, what: &str, form: &str) -> Vec<u8> {
    format!(
        "POST /rooms/{room}/messages/{seq}{what} HTTP/1.1\r\nhost: localhost\r\n\
         accept: application/json\r\n{}content-type: application/x-www-form-urlencoded\r\n\
         content-length: {}\r\n\r\n{form}",
        served.authorization,
        form.len()
    )
    .into_bytes()
}

/// A message in a form.
#[allow(dead_code, reason = "each bench uses some of it")]
pub fn post_of(served: &Served, room: &str, form: &str) -> Vec<u8> {
    format!(
        "POST /rooms/{room}/messages HTTP/1.1\r\nhost: localhost\r\naccept: application/json\r\n{}\
         content-type: application/x-www-form-urlencoded\r\ncontent-length: {}\r\n\r\n{form}",
        served.authorization,
        form.len()
    )
    .into_bytes()
}

/// How many requests a second so many kept connections get answered, each asking again at once.
#[allow(dead_code, reason = "each bench uses some of it")]
pub fn per_second(served: &Served, request: &[u8], connections: usize, lasts: Duration) -> f64 {
    per_second_of(served, connections, lasts, |_, _| request)
}

/// The same with a request of each connection's own, by how many it has sent.
#[allow(dead_code, reason = "each bench uses some of it")]
pub fn per_second_of<R: AsRef<[u8]>>(
    served: &Served,
    connections: usize,
    lasts: Duration,
    request: impl Fn(usize, usize) -> R + Sync,
) -> f64 {
    let until = Instant::now() + lasts;
    let request = &request;
    let answered: usize = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..connections)
            .map(|connection| {
                scope.spawn(move || {
                    let (mut client, mut answered) = (Client::new(served), 0);
                    while Instant::now() < until {
                        client.ask(request(connection, answered).as_ref());
                        answered += 1;
                    }
                    answered
                })
            })
            .collect();
        let clients = clients.into_iter().map(|client| client.join().unwrap());
        clients.sum()
    });
    answered as f64 / lasts.as_secs_f64()
}

/// How long posts to a room take that come every `pause` until `is_over`, in µs, from when they were
/// due.
#[allow(dead_code, reason = "each bench uses some of it")]
pub fn post_latency(
    served: &Served,
    room: &str,
    pause: Duration,
    is_over: impl Fn(usize) -> bool,
) -> Histogram<u64> {
    let request = post_request(served, room);
    let mut client = Client::new(served);
    client.ask(&request);
    let mut took = Histogram::new_with_bounds(1, 60_000_000, 3).unwrap();
    let began = Instant::now();
    for number in 0.. {
        if is_over(number) {
            break;
        }
        let due = began + pause * u32::try_from(number).unwrap();
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        client.ask(&request);
        let us = due.elapsed().as_micros();
        took.saturating_record(u64::try_from(us).unwrap().max(1));
    }
    took
}
