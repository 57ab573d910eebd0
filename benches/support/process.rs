use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// A server under load, in a process of its own. It ends with this.
pub struct Served {
    pub address: String,
    /// Who may post and listen.
    pub authorization: String,
    process: Child,
    is_bare: bool,
    _dir: TempDir,
}

#[allow(dead_code, reason = "each bench uses some of it")]
impl Served {
    /// Parlor on a fresh SQLite, with default settings apart from the limits that are in the way.
    pub fn parlor() -> Self {
        let mut parlor = Command::new(env!("CARGO_BIN_EXE_parlor"));
        parlor
            .env("RATE_LIMITS", "off")
            .env("STREAMS_PER_USER", "100000")
            .env("RUST_LOG", "warn");
        let mut served = Self::start(parlor, false);
        let form = "username=ana&email=ana%40example.org&password=correct+horse+battery";
        served.request("POST", "/signup", form);
        let form = "username=ana&password=correct+horse+battery";
        let answer = served.request("POST", "/login", form);
        let token = answer.split("\r\n\r\n").nth(1).unwrap().trim();
        served.authorization = format!("authorization: Bearer {token}\r\n");
        served
    }

    /// This bench itself, started with `what`, an address and `more`: something simpler to compare
    /// Parlor with.
    pub fn bare(what: &str, more: &[&str]) -> Self {
        let mut bench = Command::new(std::env::current_exe().unwrap());
        bench.arg(what).args(more);
        Self::start(bench, true)
    }

    fn start(mut program: Command, is_bare: bool) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = free.local_addr().unwrap().to_string();
        drop(free);
        let process = program
            .current_dir(dir.path())
            .env("DATA_DIR", dir.path())
            .env("BIND_ADDR", &address)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let until = Instant::now() + Duration::from_secs(10);
        while TcpStream::connect(&address).is_err() {
            assert!(Instant::now() < until, "the server does not start");
            std::thread::sleep(Duration::from_millis(10));
        }
        Self {
            address,
            authorization: String::new(),
            process,
            is_bare,
            _dir: dir,
        }
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
        const TICKS_PER_SECOND: f64 = 100.0;
        let stat = self.read("stat");
        let after_name = stat.rsplit(") ").next().unwrap();
        let field = |at: usize| -> f64 { after_name.split(' ').nth(at).unwrap().parse().unwrap() };
        Duration::from_secs_f64((field(11) + field(12)) / TICKS_PER_SECOND)
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
            "{method} {path} HTTP/1.1\r\nhost: x\r\naccept: text/plain\r\n{}\
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
