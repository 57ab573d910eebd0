//! Letters by which somebody who has forgotten their password chooses another, through a mail server.

use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use reqwest::{Method, StatusCode};

use crate::access::{posts, sends};
use crate::support::{
    Backend, PASSWORD, Person, Server, assert_contains, assert_lacks, eventually, free_port,
};

on_both_stores!(a_letter_lets_its_reader_choose_a_password);

/// A mail server that prints what it gets.
struct Sink {
    process: Child,
    got: Arc<Mutex<String>>,
    url: String,
}

impl Sink {
    async fn start() -> Self {
        let tools = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("target/test-tools/smtp");
        let wheels = std::fs::read_dir(&tools);
        let wheels = wheels.expect("the tests need aiosmtpd: run tests/run, which fetches it");
        let wheels: Vec<String> = wheels
            .map(|wheel| wheel.unwrap().path().display().to_string())
            .collect();
        let port = free_port();
        let mut process = Command::new("python3")
            .args(["-u", "-m", "aiosmtpd", "-n", "-l"])
            .arg(format!("127.0.0.1:{port}"))
            .env("PYTHONPATH", wheels.join(":"))
            .stdout(Stdio::piped())
            .spawn()
            .expect("the tests need python3");
        let got = Arc::<Mutex<String>>::default();
        let (kept, output) = (Arc::clone(&got), process.stdout.take().unwrap());
        std::thread::spawn(move || {
            for line in std::io::BufRead::lines(std::io::BufReader::new(output)) {
                let mut kept = kept.lock().unwrap();
                kept.push_str(&line.unwrap());
                kept.push('\n');
            }
        });
        let is_up = async || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok();
        eventually("the mail server is up", Duration::from_secs(20), is_up).await;
        Self {
            process,
            got,
            url: format!("smtp://127.0.0.1:{port}"),
        }
    }

    /// The letters so far, with lines that were broken put together again.
    fn got(&self) -> String {
        self.got.lock().unwrap().replace("=\n", "")
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

async fn a_letter_lets_its_reader_choose_a_password(backend: Backend) {
    let sink = Sink::start().await;
    let settings = [("SMTP_URL", sink.url.as_str()), ("RATE_LIMITS", "on")];
    let server = Server::start_with(backend, &settings).await;
    let (admin, ana) = (server.person("admin").await, server.person("ana").await);
    server.person("ben").await;
    posts(&admin, "/admin/people/ben/deactivate", &[]).await;
    let nobody = Person::nobody(&server.base);
    let page = nobody.get("/login").await.text().await.unwrap();
    assert_contains(&page, "href=\"/forgot\"");
    let page = nobody.get("/forgot").await.text().await.unwrap();
    assert_contains(&page, "name=\"email\"");
    let asks = async |email: &str| nobody.post("/forgot", &[("email", email)]).await;
    let page = asks("not an address").await;
    assert_eq!(page.status(), StatusCode::UNPROCESSABLE_ENTITY);
    assert_contains(&page.text().await.unwrap(), "value=\"not an address\"");
    // The same for any address.
    let known = asks("ANA@example.org").await;
    let (status, known) = (known.status(), known.text().await.unwrap());
    assert_eq!(status, StatusCode::OK);
    for other in ["nobody@example.org", "ben@example.org"] {
        let unknown = asks(other).await;
        assert_eq!(unknown.status(), StatusCode::OK);
        assert_eq!(unknown.text().await.unwrap(), known);
    }
    let has_come = async || sink.got().contains("/reset/");
    eventually("a letter comes", Duration::from_secs(10), has_come).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    let letter = sink.got();
    for part in [
        "To: ana@example.org",
        "Subject: Choose another password",
        "Auto-Submitted: auto-generated",
    ] {
        assert_contains(&letter, part);
    }
    assert_lacks(&letter, "nobody@example.org");
    assert_lacks(&letter, "ben@example.org");
    let link = letter
        .split_whitespace()
        .find(|word| word.contains("/reset/"));
    let path = link.unwrap().strip_prefix(&server.base).unwrap().to_owned();
    assert_lacks(&server.output(), path.strip_prefix("/reset/").unwrap());
    let new = [("password", "four other words here")];
    let chosen = nobody.post(&path, &new).await;
    assert_eq!(chosen.status(), StatusCode::SEE_OTHER);
    assert_eq!(ana.get("/rooms").await.status(), StatusCode::SEE_OTHER);
    let login = [("username", "ana"), ("password", "four other words here")];
    let login = nobody.post("/login", &login).await;
    assert_eq!(login.status(), StatusCode::SEE_OTHER);
    // Nobody is flooded.
    let mut statuses = Vec::new();
    for _ in 0..4 {
        statuses.push(asks("ana@example.org").await.status());
    }
    assert_eq!(
        statuses.last(),
        Some(&StatusCode::TOO_MANY_REQUESTS),
        "{statuses:?}"
    );
    assert_lacks(&letter, PASSWORD);

    // Without a mail server an admin is asked.
    let without = Server::start(backend).await;
    let nobody = Person::nobody(&without.base);
    let page = nobody.get("/forgot").await.text().await.unwrap();
    assert_contains(&page, "Ask an admin of this server.");
    let answer = sends(
        &nobody,
        Method::POST,
        "/forgot",
        &[("email", "a@example.org")],
    )
    .await;
    assert_eq!(answer.status(), StatusCode::NOT_FOUND);
}
