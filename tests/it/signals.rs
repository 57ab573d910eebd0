//! Being asked to end, at any moment: also as the first process of a container, which the kernel lets
//! ignore every signal that it has no handler for.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rusqlite::{Connection, params};

use crate::support::{Backend, Server, assert_contains, free_port, tool};

/// Long enough for a busy machine, and far from what anything here would take by itself.
const SOON: Duration = Duration::from_secs(4);

fn send(signal: &str, pid: u32) {
    let sent = Command::new("kill")
        .args([&format!("-{signal}"), &pid.to_string()])
        .status();
    assert!(sent.unwrap().success());
}

#[track_caller]
fn ends_soon(process: &mut Child) -> ExitStatus {
    let began = Instant::now();
    loop {
        if let Some(status) = process.try_wait().unwrap() {
            return status;
        }
        if began.elapsed() > SOON {
            process.kill().unwrap();
            process.wait().unwrap();
            panic!("it does not end");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn parlor(dir: &Path, line: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_parlor"));
    command
        .args(line.split_whitespace())
        .env_clear()
        .env("BIND_ADDR", format!("127.0.0.1:{}", free_port()))
        .current_dir(dir)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command
}

/// The same as the first process of a namespace of its own, which ends with `unshare`.
fn parlor_as_pid_1(dir: &Path) -> Command {
    let mut command = Command::new(tool("unshare"));
    command
        .args(["--pid", "--fork", "--kill-child"])
        .arg(env!("CARGO_BIN_EXE_parlor"))
        .env_clear()
        .env("BIND_ADDR", format!("127.0.0.1:{}", free_port()))
        .current_dir(dir)
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command
}

fn child_of(pid: u32) -> u32 {
    let children = format!("/proc/{pid}/task/{pid}/children");
    let until = Instant::now() + SOON;
    loop {
        let children = fs::read_to_string(&children).unwrap();
        if let Some(child) = children.split_whitespace().next() {
            return child.parse().unwrap();
        }
        assert!(Instant::now() < until, "unshare starts nothing");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Waits until a process has been running for long enough to listen, which takes milliseconds.
fn is_under_way() {
    std::thread::sleep(Duration::from_millis(700));
}

/// A store of some 80 MB, which takes a while to read.
async fn large_store() -> Server {
    let mut server = Server::start(Backend::Sqlite).await;
    let ana = server.person("ana").await;
    ana.enters("tea").await;
    server.terminate();
    let mut store = Connection::open(server.dir().join("data/parlor.db")).unwrap();
    let adding = store.transaction().unwrap();
    let author: String = adding
        .query_row("SELECT author FROM events", [], |row| row.get(0))
        .unwrap();
    for seq in 2..20_002 {
        let insert = "INSERT INTO texts (body) VALUES (?1)";
        adding.execute(insert, ["x".repeat(3_900)]).unwrap();
        let insert = "INSERT INTO events (room, seq, messages, at, kind, author, text)
                      VALUES ('tea', ?1, ?2, 1763800000000, 'message', ?3, last_insert_rowid())";
        adding
            .execute(insert, params![seq, seq - 1, author])
            .unwrap();
    }
    adding.commit().unwrap();
    server
}

fn parts_in(dir: &Path) -> Vec<String> {
    let names = |dir: &Path| {
        fs::read_dir(dir)
            .unwrap()
            .map(|file| file.unwrap().file_name().into_string().unwrap())
            .filter(|name| name.contains(".part"))
            .collect::<Vec<_>>()
    };
    let mut all = names(dir);
    all.extend(names(&dir.join("data")));
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn each_signal_that_asks_for_it_is_an_orderly_end() {
    for signal in ["TERM", "INT", "HUP", "QUIT"] {
        let mut server = Server::start(Backend::Sqlite).await;
        let ana = server.person("ana").await;
        ana.enters("tea").await;
        let mut stream = ana.listens("tea", 1).await;
        let status = server.signal(signal);
        assert_eq!(status.code(), Some(0), "{signal}: {status}");
        assert_contains(&server.output(), "parlor is down");
        stream.next_notice("goodbye").await;
        let note = fs::read_to_string(server.dir().join("data/parlor.lock")).unwrap();
        assert!(note.starts_with("closed "), "{signal}: {note}");
    }
}

/// `nohup parlor` outlives its terminal, and nothing else.
#[test]
fn nohup_is_respected() {
    let dir = tempfile::tempdir().unwrap();
    let mut process = Command::new("sh")
        .args(["-c", "trap '' HUP; exec \"$0\""])
        .arg(env!("CARGO_BIN_EXE_parlor"))
        .env_clear()
        .env("BIND_ADDR", format!("127.0.0.1:{}", free_port()))
        .current_dir(dir.path())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    is_under_way();
    send("HUP", process.id());
    is_under_way();
    assert_eq!(process.try_wait().unwrap(), None);
    send("TERM", process.id());
    assert_eq!(ends_soon(&mut process).code(), Some(0));
}

#[test]
fn the_first_process_of_a_container_ends_while_it_waits_for_mongodb() {
    let dir = tempfile::tempdir().unwrap();
    for signal in ["TERM", "INT", "HUP"] {
        let mut process = parlor_as_pid_1(dir.path())
            .env("MONGODB_URI", "mongodb://127.0.0.1:1/x?replicaSet=rs0")
            .env("JWT_SECRET", "x".repeat(32))
            .spawn()
            .unwrap();
        let parlor = child_of(process.id());
        is_under_way();
        send(signal, parlor);
        assert_eq!(ends_soon(&mut process).code(), Some(0), "{signal}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_process_of_a_container_ends_while_its_file_is_opened() {
    let mut server = Server::start(Backend::Sqlite).await;
    server.terminate();
    // A held file makes opening it last, as its size otherwise does.
    let file = server.dir().join("data/parlor.db");
    let holder = Connection::open(&file).unwrap();
    holder
        .execute_batch("PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE;")
        .unwrap();
    let mut process = parlor_as_pid_1(server.dir()).spawn().unwrap();
    let parlor = child_of(process.id());
    is_under_way();
    send("TERM", parlor);
    assert_eq!(ends_soon(&mut process).code(), Some(0));
    drop(holder);
    server.start_again().await;
}

/// Nothing is left half-made.
#[tokio::test(flavor = "multi_thread")]
async fn moving_is_stopped_and_leaves_nothing() {
    let server = large_store().await;
    let dir = server.dir();
    let run = |line: &str| parlor(dir, line);

    // Nobody reads the one and nobody writes the other.
    let mut export = run("export").stdout(Stdio::piped()).spawn().unwrap();
    is_under_way();
    send("TERM", export.id());
    assert_eq!(ends_soon(&mut export).code(), Some(128 + 15));
    let mut import = run("import");
    let import = import.env("DATA_DIR", "other").stdin(Stdio::piped());
    let mut import = import.spawn().unwrap();
    is_under_way();
    send("INT", import.id());
    assert_eq!(ends_soon(&mut import).code(), Some(128 + 2));

    let whole = run("backup whole.db").status().unwrap();
    assert!(whole.success());
    for line in ["backup copy.db", "export copy.ndjson", "restore whole.db"] {
        let mut process = run(line).spawn().unwrap();
        let until = Instant::now() + SOON;
        while parts_in(dir).is_empty() {
            assert!(Instant::now() < until, "{line} makes no part");
            std::thread::sleep(Duration::from_millis(1));
        }
        std::thread::sleep(Duration::from_millis(40));
        send("TERM", process.id());
        let status = ends_soon(&mut process);
        assert_eq!(status.code(), Some(128 + 15), "{line}: {status}");
        assert_eq!(parts_in(dir), [""; 0], "{line}");
        let file = line.split_whitespace().nth(1).unwrap();
        assert_eq!(dir.join(file).exists(), file == "whole.db", "{line}");
    }
}

/// Output never decides what is done: nobody listens to these.
#[tokio::test(flavor = "multi_thread")]
async fn moving_needs_nobody_who_listens() {
    let mut server = Server::start(Backend::Sqlite).await;
    server.person("ana").await.enters("tea").await;
    server.terminate();
    let deaf = |line: &str| {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let mut command = parlor(server.dir(), line);
        command.stderr(full).status().unwrap()
    };
    for line in [
        "backup a.db",
        "restore a.db",
        "export a.ndjson",
        "went-back",
    ] {
        assert!(deaf(line).success(), "{line}");
    }
    assert_eq!(deaf("backup a.db").code(), Some(1), "it is there already");
}
