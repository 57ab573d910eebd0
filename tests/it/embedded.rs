//! The embedded store survives full disks, torn files, and kills at every moment.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use reqwest::StatusCode;
use serde_json::Value;
use tokio::time::sleep;

use crate::support::{Backend, Person, Server, assert_contains, eventually, free_port, tool};

/// A small disk of its own; gone when dropped, also if we are killed.
struct SmallDisk {
    path: PathBuf,
    guard: std::process::Child,
}

impl SmallDisk {
    fn of(mebibytes: u32) -> Self {
        let root = Command::new("id").arg("-u").output().unwrap();
        assert_eq!(
            root.stdout, b"0\n",
            "only root can mount a small disk: run the tests as root"
        );
        let path = std::env::temp_dir().join(format!(
            "parlor-disk-{}-{}",
            std::process::id(),
            free_port()
        ));
        fs::create_dir_all(&path).unwrap();
        let size = format!("size={mebibytes}m");
        let mounted = Command::new(tool("mount"))
            .args(["-t", "tmpfs", "-o", &size, "none"])
            .arg(&path)
            .status();
        assert!(mounted.unwrap().success());
        let guard = Command::new("sh")
            .args(["-c", "cat > /dev/null; umount -l \"$0\"; rmdir \"$0\""])
            .arg(&path)
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        Self { path, guard }
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        drop(self.guard.stdin.take());
        let _ = self.guard.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_said_and_nothing_is_lost() {
    let disk = SmallDisk::of(8);
    let data = disk.path.join("data");
    let server = Server::start_with(Backend::Sqlite, &[("DATA_DIR", data.to_str().unwrap())]).await;
    let ana = server.person("ana").await;
    ana.enters("tea").await;
    let mut stream = ana.listens("tea", 0).await;
    assert_eq!(stream.numbers(1).await, [1]);

    // Something else takes most of the room, messages the rest.
    let hog = disk.path.join("hog");
    fs::write(&hog, vec![0; 3 << 20]).unwrap();
    let mut acknowledged = 1;
    let refused = loop {
        let body = format!("{acknowledged} {}", "x".repeat(3_900));
        let answer = ana
            .tries_to_say("tea", &body, Some(&format!("n-{acknowledged}")))
            .await
            .unwrap();
        if answer.status() != StatusCode::CREATED {
            break answer;
        }
        acknowledged += 1;
        assert!(acknowledged < 10_000, "the disk does not fill");
    };
    assert_eq!(refused.status(), StatusCode::INSUFFICIENT_STORAGE);
    assert!(refused.headers().contains_key("retry-after"));
    let says: Value = refused.json().await.unwrap();
    assert_contains(says["detail"].as_str().unwrap(), "disk is full");
    // A browser gets its text back.
    let long = format!("please keep this {}", "x".repeat(3_900));
    let form = [("body", long.as_str()), ("nonce", "kept")];
    let page = ana.post("/rooms/tea/messages", &form).await;
    assert_eq!(page.status(), StatusCode::INSUFFICIENT_STORAGE);
    let page = page.text().await.unwrap();
    assert_contains(&page, &long);
    assert_contains(&page, "value=\"kept\"");

    // Readers don't notice, not even when there is no room for noting how far they have read.
    let rest = disk.path.join("rest");
    let mut file = fs::File::create(&rest).unwrap();
    while std::io::Write::write_all(&mut file, &[0; 512]).is_ok() {}
    // The refused ones' part of the write-ahead log holds a few more.
    while ana
        .tries_to_say("tea", "more", None)
        .await
        .unwrap()
        .status()
        == StatusCode::CREATED
    {
        acknowledged += 1;
    }
    assert_eq!(ana.log("tea").await.len(), acknowledged);
    let numbers = stream.numbers(acknowledged - 1).await;
    assert_eq!(*numbers.last().unwrap(), acknowledged as u64);
    assert_eq!(ana.get("/rooms/tea").await.status(), StatusCode::OK);

    // There is room again.
    fs::remove_file(&hog).unwrap();
    fs::remove_file(&rest).unwrap();
    let works = async || {
        let body = format!("{acknowledged} {}", "x".repeat(3_900));
        let nonce = format!("n-{acknowledged}");
        let answer = ana.tries_to_say("tea", &body, Some(&nonce)).await.unwrap();
        answer.status() == StatusCode::CREATED
    };
    eventually("posting works again", Duration::from_secs(10), works).await;
    assert_eq!(stream.numbers(1).await, [acknowledged as u64 + 1]);
    assert_eq!(ana.log("tea").await.len(), acknowledged + 1);
}

/// Nobody reads what the server says any more, and its disk was full for a while, at which the writer
/// has something to say.
#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_said_ends_nothing() {
    let disk = SmallDisk::of(8);
    let port = free_port();
    let mut process = Command::new(env!("CARGO_BIN_EXE_parlor"))
        .env_clear()
        .env("BIND_ADDR", format!("127.0.0.1:{port}"))
        .env("DATA_DIR", disk.path.join("data"))
        .env("RATE_LIMITS", "off")
        // Said by the writer, and by nothing else here.
        .env("RUST_LOG", "parlor::store=error")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop((process.stdout.take(), process.stderr.take()));
    let base = format!("http://127.0.0.1:{port}");
    let nobody = Person::nobody(&base);
    let is_up = async || reqwest::get(format!("{base}/healthz")).await.is_ok();
    eventually("it is up", Duration::from_secs(20), is_up).await;
    let ana = Person::sign_up(&base, "ana").await;
    ana.enters("tea").await;
    let hog = disk.path.join("hog");
    fs::write(&hog, vec![0; 3 << 20]).unwrap();
    let long = "x".repeat(3_900);
    let says = async || {
        let answer = ana.tries_to_say("tea", &long, None).await.unwrap();
        answer.status()
    };
    let full = StatusCode::INSUFFICIENT_STORAGE;
    while says().await != full {}
    // Not only the first time.
    assert_eq!(says().await, full);
    fs::remove_file(&hog).unwrap();
    let works = async || says().await == StatusCode::CREATED;
    eventually("posting works again", Duration::from_secs(10), works).await;
    assert_eq!(nobody.get("/readyz").await.status(), StatusCode::OK);
    process.kill().unwrap();
    process.wait().unwrap();
}

/// Runs `parlor` to its end and answers what it says.
fn fails_to_start(command: &mut Command) -> String {
    let output = command.env("BIND_ADDR", "127.0.0.1:0").output().unwrap();
    assert!(!output.status.success(), "it starts");
    let says = String::from_utf8(output.stderr).unwrap();
    assert!(says.starts_with("parlor: "), "{says}");
    assert_eq!(says.lines().count(), 1, "{says}");
    says
}

fn parlor(data: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_parlor"));
    command.env_clear().env("DATA_DIR", data).current_dir("/");
    command
}

#[test]
fn a_directory_that_cannot_be_written_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    fs::create_dir(&data).unwrap();
    for path in [dir.path(), &data] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o555)).unwrap();
    }
    // Root may write anywhere, so it is not root who tries.
    let program = dir
        .path()
        .parent()
        .unwrap()
        .join(format!("parlor-{}", std::process::id()));
    fs::copy(env!("CARGO_BIN_EXE_parlor"), &program).unwrap();
    let mut command = Command::new(tool("setpriv"));
    command
        .args(["--reuid", "65534", "--regid", "65534", "--clear-groups"])
        .arg(&program)
        .env_clear()
        .env("DATA_DIR", &data)
        .current_dir("/");
    let says = fails_to_start(&mut command);
    fs::remove_file(&program).unwrap();
    assert_contains(&says, "cannot write in the data directory");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_torn_file_is_said_and_not_served() {
    let mut server = Server::start(Backend::Sqlite).await;
    let ana = server.person("ana").await;
    ana.enters("tea").await;
    for number in 0..300 {
        ana.says("tea", &format!("{number} {}", "x".repeat(500)))
            .await;
    }
    server.terminate();
    let data = server.dir().join("data");
    let file = data.join("parlor.db");
    let whole = fs::read(&file).unwrap();
    let tear = |torn: &[u8]| {
        fs::write(&file, torn).unwrap();
        fails_to_start(&mut parlor(&data))
    };
    let mut zeroed = whole.clone();
    let page = whole.len() / 2 / 4_096 * 4_096;
    zeroed[page..page + 8_192].fill(0);
    let mut noise = whole.clone();
    noise[page..page + 4_096]
        .iter_mut()
        .enumerate()
        .for_each(|(at, byte)| *byte = (at * 37) as u8);
    for torn in [
        &whole[..whole.len() / 2],
        &whole[..5_000],
        &zeroed,
        &noise,
        b"not a database, but long enough to be one"
            .repeat(100)
            .as_slice(),
    ] {
        let says = tear(torn);
        assert_contains(&says, "cannot use the database");
        assert_contains(&says, "parlor.db");
    }
    // Nothing left of it is not a reason to start with nothing, unless somebody says so.
    assert_contains(&tear(b""), "is gone or empty: put it back");
    fs::remove_file(&file).unwrap();
    assert_contains(&fails_to_start(&mut parlor(&data)), "is gone or empty");
    fs::write(&file, &whole).unwrap();
    server.start_again().await;
    assert_eq!(ana.log("tea").await.len(), 301);
}

/// An orderly end leaves one file and says what it looked like, so that the next start need not
/// read all of it; a file that looks otherwise is read.
#[tokio::test(flavor = "multi_thread")]
async fn an_orderly_end_leaves_one_file() {
    let mut server = Server::start(Backend::Sqlite).await;
    let ana = server.person("ana").await;
    ana.enters("tea").await;
    let data = server.dir().join("data");
    let note = || fs::read_to_string(data.join("parlor.lock")).unwrap();
    assert!(note().starts_with("open "), "{:?}", note());
    server.terminate();
    assert!(
        !data.join("parlor.db-wal").exists()
            || fs::metadata(data.join("parlor.db-wal")).unwrap().len() == 0
    );
    assert!(note().starts_with("closed "), "{:?}", note());
    server.start_again().await;
    assert!(
        note().starts_with("open "),
        "a running server has not ended in order"
    );
    assert_eq!(ana.log("tea").await.len(), 1);
}

/// Kills whatever `line` does at many moments, then looks whether the store is as it was.
async fn killed_at_every_moment(
    line: &str,
    server: &Server,
    input: Option<&Path>,
    mut check: impl AsyncFnMut(),
) {
    let settings = [("DATA_DIR", server.dir().join("data"))];
    let run = || {
        let stdin = input.map_or(Stdio::null(), |input| fs::File::open(input).unwrap().into());
        Command::new(env!("CARGO_BIN_EXE_parlor"))
            .args(line.split_whitespace())
            .env_clear()
            .envs(settings.iter().map(|(name, value)| (name, value)))
            .current_dir(server.dir())
            .stdin(stdin)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap()
    };
    let mut moment = Duration::ZERO;
    let mut kills = 0;
    loop {
        let mut process = run();
        sleep(moment).await;
        let has_ended = process.try_wait().unwrap().is_some();
        process.kill().unwrap();
        process.wait().unwrap();
        check().await;
        if has_ended {
            break;
        }
        kills += 1;
        // Close together at first, as a fast machine is soon done.
        moment += Duration::from_millis(1).max(moment / 8);
    }
    assert!(kills >= 3, "it was never killed half-way");
}

#[tokio::test(flavor = "multi_thread")]
async fn moving_killed_at_every_moment_leaves_a_whole_store() {
    let mut server = Server::start(Backend::Sqlite).await;
    let ana = server.person("ana").await;
    ana.enters("tea").await;
    for number in 0..200 {
        ana.says("tea", &format!("{number} {}", "x".repeat(3_000)))
            .await;
    }
    let log = ana.log("tea").await;
    let dir = server.dir().to_path_buf();
    // A backup has its name only once it is whole.
    killed_at_every_moment("backup copy.db", &server, None, async || {
        let copy = dir.join("copy.db");
        if copy.exists() {
            let _ = fs::remove_dir_all(dir.join("try"));
            let says = Command::new(env!("CARGO_BIN_EXE_parlor"))
                .args(["restore", "copy.db"])
                .env_clear()
                .env("DATA_DIR", "try")
                .current_dir(&dir)
                .output()
                .unwrap();
            assert!(says.status.success(), "{says:?}");
            fs::rename(&copy, dir.join("whole.db")).unwrap();
        }
    })
    .await;

    // A restore leaves the old store or the new one, and never none.
    ana.says("tea", "after the backup").await;
    server.terminate();
    let server = std::sync::Arc::new(tokio::sync::Mutex::new(server));
    let restored = {
        let guard = server.lock().await;
        let (dir, ana, log) = (guard.dir().to_path_buf(), &ana, &log);
        let data = dir.join("data");
        let mut seen = Vec::new();
        killed_at_every_moment("restore whole.db", &guard, None, async || {
            let other = dir.join("check");
            let _ = fs::remove_dir_all(&other);
            fs::create_dir(&other).unwrap();
            for file in fs::read_dir(&data).unwrap() {
                let file = file.unwrap().path();
                let name = file.file_name().unwrap();
                if name.to_str().unwrap().starts_with("parlor.db") {
                    fs::copy(&file, other.join(name)).unwrap();
                }
            }
            fs::copy(data.join("jwt-secret"), other.join("jwt-secret")).unwrap();
            let settings = [("DATA_DIR", other.to_str().unwrap())];
            let copy = Server::start_with(Backend::Sqlite, &settings).await;
            // Restored and of a new epoch, or neither.
            let is_signed_in = ana
                .at(&copy.base)
                .get_as("application/json", "/rooms")
                .await;
            let is_old = is_signed_in.status() == StatusCode::OK;
            let now = ana.at(&copy.base).signs_in_again().await.log("tea").await;
            assert!(now[..log.len()] == log[..]);
            assert_eq!(now.len(), log.len() + usize::from(is_old));
            seen.push(now.len());
        })
        .await;
        seen
    };
    assert_eq!(restored.first(), Some(&(log.len() + 1)), "{restored:?}");
    assert_eq!(restored.last(), Some(&log.len()), "{restored:?}");
}

/// An import killed at any moment has left nothing: the next one goes in whole.
#[tokio::test(flavor = "multi_thread")]
async fn an_import_killed_at_every_moment_leaves_an_empty_store() {
    let mut server = Server::start(Backend::Sqlite).await;
    let ana = server.person("ana").await;
    ana.enters("tea").await;
    for number in 0..300 {
        ana.says("tea", &format!("{number}")).await;
    }
    server.terminate();
    let (data, export) = (server.dir().join("data"), server.dir().join("export"));
    let run = |line: &str, input: Option<&Path>, output: Option<&Path>| {
        let stdin = input.map_or(Stdio::null(), |path| fs::File::open(path).unwrap().into());
        let stdout = output.map_or(Stdio::null(), |path| fs::File::create(path).unwrap().into());
        let ran = Command::new(env!("CARGO_BIN_EXE_parlor"))
            .arg(line)
            .env_clear()
            .env("DATA_DIR", &data)
            .stdin(stdin)
            .stdout(stdout)
            .output()
            .unwrap();
        (ran.status.success(), String::from_utf8(ran.stderr).unwrap())
    };
    assert!(run("export", None, Some(&export)).0);
    fs::remove_dir_all(&data).unwrap();
    let (second, was_whole) = (server.dir().join("second"), std::cell::Cell::new(false));
    killed_at_every_moment("import", &server, Some(&export), async || {
        // It may not even be a database yet.
        let _ = run("export", None, Some(&second));
        let users = fs::read_to_string(&second)
            .unwrap()
            .matches("\"record\":\"user\"")
            .count();
        was_whole.set(users == 1);
        let (went_well, says) = run("import", Some(&export), None);
        assert_eq!(went_well, users == 0, "{says}");
        fs::remove_dir_all(&data).unwrap();
    })
    .await;
    assert!(was_whole.get());
}

/// The other kills, at random moments of posting, are `kill_nine_under_six_writers`.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_killed_while_it_starts_starts_again() {
    let mut server = Server::start(Backend::Sqlite).await;
    let ana = server.person("ana").await;
    ana.enters("tea").await;
    server.kill();
    let data = server.dir().join("data");
    for moment in 0..30 {
        // The first of these makes a database, too.
        for data in [&data, &server.dir().join("new")] {
            let mut process = parlor(data)
                .env("BIND_ADDR", "127.0.0.1:0")
                .stdout(Stdio::null())
                .spawn()
                .unwrap();
            sleep(Duration::from_millis(moment)).await;
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }
    server.start_again().await;
    assert_eq!(ana.log("tea").await.len(), 1);
    let new = server.dir().join("new");
    let fresh = Server::start_with(Backend::Sqlite, &[("DATA_DIR", new.to_str().unwrap())]).await;
    Person::sign_up(&fresh.base, "ben")
        .await
        .enters("tea")
        .await;
}
