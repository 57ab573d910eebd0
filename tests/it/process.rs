//! Starting, stopping, being watched.

use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output};
use std::time::Duration;

use reqwest::StatusCode;

use crate::support::{Backend, Person, Server, assert_contains};

on_both_stores!(a_stop_is_clean_and_quick, health_is_told);

fn parlor(dir: &std::path::Path, settings: &[(&str, &str)]) -> Output {
    Command::new("timeout")
        .arg("20")
        .arg(env!("CARGO_BIN_EXE_parlor"))
        .current_dir(dir)
        .env_clear()
        .envs(settings.iter().copied())
        .output()
        .unwrap()
}

async fn a_stop_is_clean_and_quick(backend: Backend) {
    let mut server = Server::start(backend).await;
    let ana = server.person("ana").await;
    ana.enters("tea").await;
    let mut json = ana.listens("tea", 1).await;
    let html = "/rooms/tea/events?format=html&after=1";
    let mut html = ana.listens_at(html, Default::default()).await;
    let mut many = Vec::new();
    for _ in 0..20 {
        many.push(ana.listens("tea", 1).await);
    }
    ana.says("tea", "before the end").await;
    let (took, status) = server.terminate();
    assert!(status.success(), "{status}");
    assert!(took < Duration::from_secs(5), "{took:?}");
    assert_eq!(json.numbers(1).await, [2]);
    json.next_notice("goodbye").await;
    json.ends().await;
    html.next_notice("goodbye").await;
    let retry = |raw: &str| {
        raw.rsplit("retry: ")
            .next()
            .unwrap()
            .lines()
            .next()
            .unwrap()
            .parse()
    };
    let retry: u32 = retry(&html.raw).unwrap();
    assert!((500..5_000).contains(&retry), "{retry}");
    assert_contains(&server.output(), "parlor is down");

    server.start_again().await;
    assert_eq!(ana.log("tea").await.len(), 2);
}

async fn health_is_told(backend: Backend) {
    let server = Server::start(backend).await;
    let nobody = Person::nobody(&server.base);
    for path in ["/healthz", "/readyz"] {
        assert_eq!(nobody.get(path).await.status(), StatusCode::OK, "{path}");
    }
}

#[test]
fn a_bad_setting_stops_the_start_with_one_line() {
    let dir = tempfile::tempdir().unwrap();
    for (name, value) in [
        ("BIND_ADDR", "nowhere"),
        ("SESSION_DAYS", "soon"),
        ("MONGODB_URI", "postgres://x"),
        ("RATE_LIMITS", "perhaps"),
        ("RUST_LOG", "parlor=loud"),
    ] {
        let output = parlor(dir.path(), &[(name, value)]);
        assert!(!output.status.success());
        let says = String::from_utf8(output.stderr).unwrap();
        assert!(says.starts_with(&format!("parlor: {name} ")), "{says}");
        assert_eq!(says.lines().count(), 1, "{says}");
        assert!(output.stdout.is_empty());
    }
    std::fs::write(dir.path().join(".env"), "SESSION_DAYS=never\n").unwrap();
    let says = String::from_utf8(parlor(dir.path(), &[]).stderr).unwrap();
    assert_contains(&says, "SESSION_DAYS");
    std::fs::remove_file(dir.path().join(".env")).unwrap();
    // Nothing answers at port 1, and the password is nobody's business.
    let says = parlor(
        dir.path(),
        &[
            (
                "MONGODB_URI",
                "mongodb://ana:hunter2@127.0.0.1:1/?serverSelectionTimeoutMS=500",
            ),
            ("JWT_SECRET", "0123456789abcdef0123456789abcdef"),
            ("STARTUP_WAIT", "3"),
        ],
    );
    assert!(!says.status.success());
    let tried_again = String::from_utf8(says.stdout).unwrap();
    assert_contains(&tried_again, "trying again");
    let says = String::from_utf8(says.stderr).unwrap();
    assert_contains(&says, "at MONGODB_URI within 3 seconds (STARTUP_WAIT)");
    assert_eq!(says.lines().count(), 1, "{says}");
    assert!(!says.contains("hunter2"), "{says}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_process_on_the_same_data_is_refused() {
    let server = Server::start(Backend::Sqlite).await;
    let output = parlor(server.dir(), &[("BIND_ADDR", "127.0.0.1:0")]);
    assert!(!output.status.success());
    let says = String::from_utf8(output.stderr).unwrap();
    assert_contains(&says, "another parlor is using data");
    assert_eq!(says.lines().count(), 1, "{says}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_taken_address_is_said() {
    let server = Server::start(Backend::Sqlite).await;
    let dir = tempfile::tempdir().unwrap();
    let output = parlor(dir.path(), &[("BIND_ADDR", server.address())]);
    let says = String::from_utf8(output.stderr).unwrap();
    assert_contains(&says, "BIND_ADDR");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_kept_is_this_users_alone() {
    let server = Server::start(Backend::Sqlite).await;
    let mode = |path: &str| {
        let file = std::fs::metadata(server.dir().join(path)).unwrap();
        file.permissions().mode() & 0o777
    };
    assert_eq!(mode("data"), 0o700);
    assert_eq!(mode("data/jwt-secret"), 0o600);
    assert_eq!(mode("data/parlor.db"), 0o600);
    assert_eq!(mode("data/parlor.db-wal"), 0o600);
}

/// Open files and backlog as the kernel has them, not as the code says.
#[tokio::test(flavor = "multi_thread")]
async fn the_process_makes_room_for_a_crowd() {
    let server = Server::start(Backend::Sqlite).await;
    let pid = server.pid();
    let limits = std::fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let files = limits
        .lines()
        .find(|line| line.starts_with("Max open files"))
        .unwrap();
    let mut numbers = files.split_whitespace().skip(3);
    assert_eq!(
        numbers.next(),
        numbers.next(),
        "the soft limit is the hard one"
    );

    let port: u16 = server
        .address()
        .rsplit(':')
        .next()
        .unwrap()
        .parse()
        .unwrap();
    let somaxconn = std::fs::read_to_string("/proc/sys/net/core/somaxconn").unwrap();
    let expected = somaxconn.trim().parse::<u32>().unwrap().min(4_096);
    let sockets = Command::new("ss")
        .args(["-Hltn", &format!("sport = :{port}")])
        .output();
    let sockets = sockets.expect("this test needs ss: apt-get install iproute2");
    let line = String::from_utf8(sockets.stdout).unwrap();
    assert_eq!(
        line.split_whitespace().nth(2).unwrap(),
        expected.to_string(),
        "{line}"
    );

    // A small answer to a small request, forty times on one connection: with Nagle's algorithm
    // meeting delayed acknowledgements each would take 40 ms.
    let nobody = Person::nobody(&server.base);
    nobody.get("/healthz").await;
    let began = std::time::Instant::now();
    for _ in 0..40 {
        nobody.get("/healthz").await;
    }
    assert!(
        began.elapsed() < Duration::from_millis(1_200),
        "{:?}",
        began.elapsed()
    );
}
