//! Settings are taken as they are written, and what is wrong with one is said with its name.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::support::{Backend, Server, assert_contains, assert_lacks, free_port};

fn parlor(dir: &Path) -> Command {
    let mut command = Command::new("timeout");
    command
        .arg("20")
        .arg(env!("CARGO_BIN_EXE_parlor"))
        .env_clear()
        .env("BIND_ADDR", format!("127.0.0.1:{}", free_port()))
        .current_dir(dir)
        .stdout(Stdio::null());
    command
}

/// The one line with which it refuses to start.
#[track_caller]
fn refuses(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let says = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{says}");
    assert!(says.starts_with("parlor: "), "{says}");
    assert_eq!(says.lines().count(), 1, "{says}");
    says
}

#[test]
fn a_directory_that_only_a_shell_would_understand_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    for value in [
        "\"/vol\"",
        "'vol'",
        "\"vol",
        "vol'",
        "“vol”",
        "~/x",
        "~",
        "$HOME/x",
        "${X}",
        "file:/x",
        "vol\nx",
    ] {
        let says = refuses(parlor(dir.path()).env("DATA_DIR", value));
        assert_contains(&says, "DATA_DIR is not usable");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "{value}");
    }
    let latin_1 = OsStr::from_bytes(b"caf\xe9");
    let says = refuses(parlor(dir.path()).env("DATA_DIR", latin_1));
    assert_contains(&says, "DATA_DIR is not usable");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    let secret = format!("\"{}\"", "hunter2".repeat(6));
    let says = refuses(parlor(dir.path()).env("JWT_SECRET", &secret));
    assert_contains(&says, "JWT_SECRET is not usable");
    assert_lacks(&says, "hunter2");
}

#[test]
fn what_is_found_out_later_names_its_setting_too() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("file"), "").unwrap();
    fs::create_dir(dir.path().join("short")).unwrap();
    fs::write(dir.path().join("short/jwt-secret"), "abc").unwrap();
    for data in ["file", "file/data", "/proc/parlor", "short"] {
        let says = refuses(parlor(dir.path()).env("DATA_DIR", data));
        assert_contains(&says, "(DATA_DIR)");
    }
    let says = refuses(parlor(dir.path()).env("BIND_ADDR", "192.0.2.1:80"));
    assert_contains(&says, "(BIND_ADDR)");
    let says = refuses(parlor(dir.path()).env("METRICS_ADDR", "192.0.2.1:80"));
    assert_contains(&says, "(METRICS_ADDR)");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_start_line_says_where_the_data_is() {
    let server = Server::start_with(Backend::Sqlite, &[("DATA_DIR", "./sub/../sub data")]).await;
    let data = fs::canonicalize(server.dir().join("sub data")).unwrap();
    let output = server.output();
    let up = output.lines().find(|line| line.contains("parlor is up"));
    assert_contains(up.unwrap(), data.to_str().unwrap());
    let server = Server::start(Backend::MongoDb).await;
    assert_contains(&server.output(), "MongoDB (MONGODB_URI)");
}

/// A `$` was something that was replaced, by nothing as a rule.
#[tokio::test(flavor = "multi_thread")]
async fn dot_env_is_taken_as_it_is_written() {
    let mut server = Server::start(Backend::Sqlite).await;
    server.terminate();
    let (data, kept) = (server.dir().join("data"), "data/jwt-secret");
    fs::remove_dir_all(&data).unwrap();
    let secret = "$unset-unset-unset-unset-unset-unset";
    let dot_env = format!("\u{feff}# a comment\r\nJWT_SECRET = {secret}\r\nSESSION_DAYS='7'\r\n");
    fs::write(server.dir().join(".env"), dot_env).unwrap();
    server.start_again().await;
    assert!(
        !server.dir().join(kept).exists(),
        "it made a key of its own"
    );
    let ana = server.person("ana").await;
    ana.enters("tea").await;

    // The same key from the environment: the same token is good.
    server.terminate();
    fs::remove_file(server.dir().join(".env")).unwrap();
    server.start_again_with("JWT_SECRET", secret).await;
    assert_eq!(ana.log("tea").await.len(), 1);
    server.terminate();

    let refused = |text: &str| {
        fs::write(server.dir().join(".env"), text).unwrap();
        refuses(&mut parlor(server.dir()))
    };
    for (text, line) in [
        ("SESSION_DAYS=7 # a week\n", "line 1 of "),
        ("\nhunter2\n", "line 2 of "),
        ("JWT_SECRET=\"hunter2\n", "line 1 of "),
        ("DATA_DIR=data\nDATA_DIR=other\n", "line 2 of "),
        ("DATA_DIR=$HOME/data\n", "DATA_DIR is not usable"),
        ("SESSION_DAYS=never\n", "SESSION_DAYS is not usable"),
    ] {
        let says = refused(text);
        assert_contains(&says, line);
        assert_lacks(&says, "hunter2");
    }
    fs::write(server.dir().join(".env"), b"DATA_DIR=caf\xe9\n").unwrap();
    assert_contains(&refuses(&mut parlor(server.dir())), "it is not UTF-8");
}
