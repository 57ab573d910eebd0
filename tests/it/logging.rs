//! The log: short lines that help a person act, and that nothing else depends on.

use std::fs::File;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use reqwest::{Method, StatusCode};

use crate::support::{Backend, Person, Server, eventually, free_port};

#[tokio::test(flavor = "multi_thread")]
async fn nobody_fills_the_log_with_what_they_ask_for() {
    let server = Server::start(Backend::Sqlite).await;
    let ana = server.person("ana").await;
    ana.enters("tea").await;
    let before = server.output().len();
    let odd = "\u{ad}".repeat(14_000);
    let encoded = "%C2%AD".repeat(2_000);
    for path in [
        format!("/{encoded}"),
        format!("/rooms/{encoded}/messages"),
        format!("/static/{encoded}"),
        "/".to_owned(),
    ] {
        for _ in 0..10 {
            let request = Person::nobody(&server.base).request(Method::POST, &path);
            let _ = request.body(odd.clone()).send().await;
        }
    }
    let grown = server.output().len() - before;
    assert!(grown < 40 * 1_000, "40 requests made {grown} bytes of log");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_says_who_tried_what() {
    let settings = [("TRUSTED_PROXIES", "127.0.0.1")];
    let server = Server::start_with(Backend::Sqlite, &settings).await;
    let request = Person::nobody(&server.base).request(Method::POST, "/login");
    let request = request.header("x-forwarded-for", "203.0.113.77");
    let form = [("username", "root"), ("password", "hunter2hunter2")];
    request.form(&form).send().await.unwrap();
    let says = async || {
        let output = server.output();
        let line = output.lines().find(|line| line.contains("status=401"));
        line.is_some_and(|line| {
            line.contains("203.0.113.77") && line.contains("/login") && !line.contains("hunter2")
        })
    };
    eventually("the log names the client", Duration::from_secs(5), says).await;
}

/// A server whose output goes where it is told; killed when dropped.
struct Unheard {
    process: Child,
    base: String,
    _dir: tempfile::TempDir,
}

impl Unheard {
    async fn start(stdout: Stdio, stderr: Stdio, level: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let address = format!("127.0.0.1:{}", free_port());
        let process = Command::new(env!("CARGO_BIN_EXE_parlor"))
            .current_dir(dir.path())
            .env_clear()
            .envs([
                ("BIND_ADDR", &*address),
                ("RATE_LIMITS", "off"),
                ("RUST_LOG", level),
            ])
            .stdin(Stdio::null())
            .stdout(stdout)
            .stderr(stderr)
            .spawn()
            .unwrap();
        let server = Self {
            process,
            base: format!("http://{address}"),
            _dir: dir,
        };
        let nobody = Person::nobody(&server.base);
        let is_up = async || nobody.request(Method::GET, "/healthz").send().await.is_ok();
        eventually("it is up", Duration::from_secs(20), is_up).await;
        server
    }

    /// Signs up, posts a few hundred times, and ends in good order.
    async fn works_and_ends(mut self) {
        let ana = Person::sign_up(&self.base, "ana").await;
        ana.enters("tea").await;
        ana.says_often("tea", "hello", 300).await;
        assert_eq!(ana.log("tea").await.len(), 301);
        let nowhere = ana.get("/nowhere").await;
        assert_eq!(nowhere.status(), StatusCode::NOT_FOUND);
        let began = Instant::now();
        let pid = self.process.id().to_string();
        Command::new("kill").args(["-TERM", &pid]).status().unwrap();
        let status = self.process.wait().unwrap();
        assert!(status.success(), "{status}");
        assert!(
            began.elapsed() < Duration::from_secs(5),
            "{:?}",
            began.elapsed()
        );
    }
}

impl Drop for Unheard {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// As on a disk that is full.
#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_cannot_be_written_is_no_trouble() {
    let full = || Stdio::from(File::options().write(true).open("/dev/full").unwrap());
    Unheard::start(full(), full(), "debug")
        .await
        .works_and_ends()
        .await;
}

/// As after `parlor | head`, or when a terminal was closed.
#[tokio::test(flavor = "multi_thread")]
async fn a_log_whose_reader_is_gone_is_no_trouble() {
    let broken = || {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        Stdio::from(writer)
    };
    Unheard::start(broken(), broken(), "debug")
        .await
        .works_and_ends()
        .await;
}

/// As under a supervisor that hangs: the pipe is full after 64 KiB.
#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_is_not_read_is_no_trouble() {
    let (reader, writer) = std::io::pipe().unwrap();
    let other = writer.try_clone().unwrap();
    let server = Unheard::start(writer.into(), other.into(), "trace").await;
    server.works_and_ends().await;
    drop(reader);
}
