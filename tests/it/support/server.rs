use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::free_port;
use super::{Backend, Browser, MongoDb, Person, eventually};

/// A running `parlor`, with a data directory or database of its own. Killed when dropped.
pub struct Server {
    settings: BTreeMap<String, String>,
    dir: Arc<TempDir>,
    process: Child,
    output: Arc<Mutex<String>>,
    pub base: String,
}

impl Server {
    pub async fn start(backend: Backend) -> Self {
        Self::start_with(backend, &[]).await
    }

    /// With these settings besides, or instead of, a port of its own, no rate limits and a store.
    pub async fn start_with(backend: Backend, settings: &[(&str, &str)]) -> Self {
        let mut all = BTreeMap::from([
            ("RATE_LIMITS".to_owned(), "off".to_owned()),
            ("BIND_ADDR".to_owned(), format!("127.0.0.1:{}", free_port())),
        ]);
        if backend == Backend::MongoDb {
            let uri = MongoDb::shared().await.fresh_uri();
            all.insert("MONGODB_URI".to_owned(), uri);
            all.insert("JWT_SECRET".to_owned(), "mongodb-".repeat(4));
        }
        // How the tests are run a second time.
        if let Ok(threads) = std::env::var("STREAM_THREADS") {
            all.insert("STREAM_THREADS".to_owned(), threads);
        }
        for (name, value) in settings {
            all.insert((*name).to_owned(), (*value).to_owned());
        }
        Self::launch(all, Arc::new(tempfile::tempdir().unwrap())).await
    }

    /// One that browsers reach by a name, at its `base`; what runs on this machine at its `address`.
    pub async fn start_elsewhere() -> Self {
        let port = free_port();
        let base = format!("http://{}:{port}", Browser::ELSEWHERE);
        let address = format!("127.0.0.1:{port}");
        let settings = [("BIND_ADDR", address.as_str()), ("PUBLIC_URL", &base)];
        let mut server = Self::start_with(Backend::Sqlite, &settings).await;
        server.base = base;
        server
    }

    /// Another node on the same database, at an address of its own.
    pub async fn another_node(&self) -> Self {
        self.another_node_with(&[]).await
    }

    /// The same with a store that several nodes can share.
    pub async fn another_node_on(&self, backend: Backend) -> Option<Self> {
        match backend {
            Backend::Sqlite => None,
            Backend::MongoDb => Some(self.another_node().await),
        }
    }

    /// Starts another node with other settings besides.
    pub async fn another_node_with(&self, others: &[(&str, &str)]) -> Self {
        let mut settings = self.settings.clone();
        settings.insert("BIND_ADDR".to_owned(), format!("127.0.0.1:{}", free_port()));
        for (name, value) in others {
            settings.insert((*name).to_owned(), (*value).to_owned());
        }
        Self::launch(settings, Arc::clone(&self.dir)).await
    }

    async fn launch(settings: BTreeMap<String, String>, dir: Arc<TempDir>) -> Self {
        let (process, output) = spawn(&settings, &dir);
        let server = Self {
            base: format!("http://{}", settings["BIND_ADDR"]),
            settings,
            dir,
            process,
            output,
        };
        server.is_up().await;
        server
    }

    async fn is_up(&self) {
        let up = async || {
            let output = self.output();
            let says = output.lines().find(|line| line.starts_with("parlor: "));
            assert_eq!(says, None, "it does not start");
            output.contains("parlor is up")
        };
        eventually("the server is up", Duration::from_secs(20), up).await;
    }

    /// Ends it as a power cut would, as far as a process can tell.
    pub fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// Asks it to stop, and says how long that took and how it went.
    pub fn terminate(&mut self) -> (Duration, ExitStatus) {
        let began = Instant::now();
        let status = self.signal("TERM");
        (began.elapsed(), status)
    }

    /// Sends it a signal that ends it, and says how it went.
    pub fn signal(&mut self, name: &str) -> ExitStatus {
        let pid = self.process.id().to_string();
        let sent = Command::new("kill")
            .args([&format!("-{name}"), &pid])
            .status();
        assert!(sent.unwrap().success());
        let status = self.process.wait().unwrap();
        // Its last lines are there once nobody keeps lines any more.
        let until = Instant::now() + Duration::from_secs(10);
        while Arc::strong_count(&self.output) > 1 && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(1));
        }
        status
    }

    /// Starts it again at the same address, on what is there.
    pub async fn start_again(&mut self) {
        (self.process, self.output) = spawn(&self.settings, &self.dir);
        self.is_up().await;
    }

    /// The same with another value of a setting.
    pub async fn start_again_with(&mut self, name: &str, value: &str) {
        self.settings.insert(name.to_owned(), value.to_owned());
        self.start_again().await;
    }

    /// Its database, where that is MongoDB.
    /// Its settings.
    pub fn settings(&self) -> &BTreeMap<String, String> {
        &self.settings
    }

    pub fn mongodb_uri(&self) -> &str {
        &self.settings["MONGODB_URI"]
    }

    /// Its output so far.
    pub fn output(&self) -> String {
        self.output.lock().unwrap().clone()
    }

    pub fn dir(&self) -> &std::path::Path {
        self.dir.path()
    }

    /// Resident memory of the process in bytes.
    pub fn memory(&self) -> u64 {
        let path = format!("/proc/{}/status", self.process.id());
        let status = std::fs::read_to_string(path).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:"));
        let kib: u64 = line
            .unwrap()
            .split_whitespace()
            .nth(1)
            .unwrap()
            .parse()
            .unwrap();
        kib * 1024
    }

    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// `host:port`, for raw sockets.
    pub fn address(&self) -> &str {
        &self.settings["BIND_ADDR"]
    }

    /// The name of its cookie, which tells servers on one host apart.
    pub fn cookie(&self) -> String {
        let (_, port) = self.address().rsplit_once(':').unwrap();
        format!("parlor-{port}")
    }

    /// Somebody who has just signed up here.
    pub async fn person(&self, name: &str) -> Person {
        Person::sign_up(&format!("http://{}", self.address()), name).await
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        if std::thread::panicking() {
            eprintln!("what the server wrote:\n{}", self.output());
        }
    }
}

fn spawn(settings: &BTreeMap<String, String>, dir: &TempDir) -> (Child, Arc<Mutex<String>>) {
    let mut process = Command::new(env!("CARGO_BIN_EXE_parlor"))
        .current_dir(dir.path())
        .env_clear()
        .envs(settings)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let output = Arc::new(Mutex::new(String::new()));
    keep_lines(process.stdout.take().unwrap(), Arc::clone(&output));
    keep_lines(process.stderr.take().unwrap(), Arc::clone(&output));
    (process, output)
}

fn keep_lines(from: impl std::io::Read + Send + 'static, output: Arc<Mutex<String>>) {
    std::thread::spawn(move || {
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            let mut output = output.lock().unwrap();
            output.push_str(&line);
            output.push('\n');
        }
    });
}
