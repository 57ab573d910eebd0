//! Files that come and go: whose they are, where they may come from, and what may be in them.

use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use rusqlite::Connection;

use crate::support::{
    Backend, MongoDb, PASSWORD, Person, Server, assert_contains, assert_lacks, eventually, tool,
};

/// Nobody's user, as a service's often is.
const SERVICE: u32 = 65_534;

fn parlor(dir: &Path, line: &str) -> Command {
    let mut command = Command::new(tool("timeout"));
    command
        .args(["-s", "KILL", "60"])
        .arg(env!("CARGO_BIN_EXE_parlor"))
        .args(line.split_whitespace())
        .env_clear()
        .env("BIND_ADDR", "127.0.0.1:0")
        .current_dir(dir)
        .stdin(Stdio::null());
    command
}

#[track_caller]
fn goes_well(output: Output) -> Output {
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

/// With one line, which it answers.
#[track_caller]
fn fails(output: Output) -> String {
    let says = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{says}");
    assert_eq!(says.lines().count(), 1, "{says}");
    assert!(says.starts_with("parlor: "), "{says}");
    assert!(says.len() < 600, "{} bytes: {says}", says.len());
    assert!(!says.trim_end().contains(char::is_control), "{says:?}");
    says
}

fn run(dir: &Path, line: &str) -> Output {
    parlor(dir, line).output().unwrap()
}

/// A stopped server in which two have talked.
async fn lived_in() -> (Server, Person) {
    let mut server = Server::start(Backend::Sqlite).await;
    let ana = server.person("ana").await;
    let ben = server.person("ben").await;
    for room in ["den", "tea"] {
        ana.enters(room).await;
        ben.enters(room).await;
        ana.tries_to_say(room, "hello", Some("nonce"))
            .await
            .unwrap();
        for number in 0..40 {
            ben.says(room, &format!("{number} {}", "x".repeat(1_000)))
                .await;
        }
    }
    server.terminate();
    (server, ana)
}

fn database(server: &Server) -> PathBuf {
    server.dir().join("data/parlor.db")
}

// After a kill.

/// With its log beside it, too, which used to look as if the end had been an orderly one.
#[tokio::test(flavor = "multi_thread")]
async fn a_torn_file_is_not_served_after_a_kill() {
    let (mut server, ana) = lived_in().await;
    server.start_again().await;
    let ana = ana.signs_in_again().await;
    ana.says("tea", "the last").await;
    server.kill();
    let file = database(&server);
    assert!(fs::metadata(server.dir().join("data/parlor.db-wal")).is_ok_and(|it| it.len() > 0));
    let whole = fs::read(&file).unwrap();
    // The log has the newest form of some pages; those may be torn and nothing is lost.
    let log = fs::read(server.dir().join("data/parlor.db-wal")).unwrap();
    let in_log: Vec<u32> = log[32..]
        .chunks(24 + 4_096)
        .map(|frame| u32::from_be_bytes(frame[..4].try_into().unwrap()))
        .collect();
    let pages = (2..=whole.len() as u32 / 4_096).filter(|page| !in_log.contains(page));
    let pages: Vec<u32> = pages.collect();
    assert!(pages.len() > 4, "{pages:?}");
    for page in [pages[0], pages[pages.len() / 2], pages[pages.len() - 1]] {
        let mut torn = whole.clone();
        torn[(page as usize - 1) * 4_096..][..4_096].fill(0);
        fs::write(&file, &torn).unwrap();
        let says = fails(run(server.dir(), "serve"));
        assert_contains(&says, "cannot use the database");
        // And not the second time either.
        assert_contains(
            &fails(run(server.dir(), "serve")),
            "cannot use the database",
        );
    }
    fs::write(&file, &whole).unwrap();
    server.start_again().await;
    assert_contains(&server.output(), "not closed in order: reading all of it");
    assert_eq!(ana.log("tea").await.len(), 44);
}

/// An older database is put back by hand, and the log of the newer one still lies there.
#[tokio::test(flavor = "multi_thread")]
async fn another_files_log_is_not_taken_for_ones_own() {
    let (mut server, ana) = lived_in().await;
    let dir = server.dir().to_path_buf();
    let (file, log) = (database(&server), dir.join("data/parlor.db-wal"));
    fs::copy(&file, dir.join("stopped.db")).unwrap();
    server.start_again().await;
    let ana = ana.signs_in_again().await;
    ana.says("tea", "in the backup").await;
    goes_well(run(&dir, "backup backup.db"));
    for number in 0..50 {
        ana.says("tea", &format!("{number}")).await;
    }
    server.kill();
    let mut newest = fs::read(&file).unwrap();
    for (older, entries) in [("stopped.db", 43), ("backup.db", 44)] {
        let before = fs::read(dir.join(older)).unwrap();
        fs::copy(dir.join(older), &file).unwrap();
        for line in ["serve", "export", "backup x.db", "new-epoch"] {
            let says = fails(run(&dir, line));
            assert_contains(&says, "parlor.db-wal beside it is another database’s");
        }
        assert!(fs::read(&file).unwrap() == before, "{older} was written to");
        // The old log is moved away, as the line says.
        let aside = dir.join("aside-wal");
        fs::rename(&log, &aside).unwrap();
        server.start_again().await;
        let ana = ana.signs_in_again().await;
        assert_eq!(ana.log("tea").await.len(), entries);
        server.terminate();
        // After an orderly end there is no log that could be its own.
        fs::copy(&aside, &log).unwrap();
        assert_contains(&fails(run(&dir, "serve")), "is another database’s");
        // A restore gets past it, and keeps both.
        let restored = goes_well(run(&dir, &format!("restore {older}")));
        let says = String::from_utf8(restored.stderr).unwrap();
        assert_contains(&says, "what was there before is");
        server.start_again().await;
        assert_eq!(ana.signs_in_again().await.log("tea").await.len(), entries);
        server.kill();
        // Back to where the kill left it, for the next round.
        fs::remove_file(dir.join("data/parlor.lock")).unwrap();
        let _ = fs::remove_file(dir.join("data/parlor.db-shm"));
        fs::write(&file, &newest).unwrap();
        fs::copy(&aside, &log).unwrap();
        server.start_again().await;
        assert_eq!(ana.signs_in_again().await.log("tea").await.len(), 94);
        server.kill();
        newest = fs::read(&file).unwrap();
    }
    // The two that belong together are moved together, without the lock file.
    for name in ["parlor.db", "parlor.db-wal"] {
        fs::create_dir_all(dir.join("moved")).unwrap();
        fs::copy(dir.join("data").join(name), dir.join("moved").join(name)).unwrap();
    }
    let moved = dir.join("moved");
    let moved = Server::start_with(Backend::Sqlite, &[("DATA_DIR", moved.to_str().unwrap())]).await;
    let ana = ana.at(&moved.base).signs_in_again().await;
    assert_eq!(ana.log("tea").await.len(), 94);
}

// Owners and modes.

fn all_files(dir: &Path) -> Vec<PathBuf> {
    let files = fs::read_dir(dir).unwrap();
    files.map(|file| file.unwrap().path()).collect()
}

#[track_caller]
fn all_belong_to_the_service(dir: &Path) {
    for file in all_files(dir) {
        let found = fs::symlink_metadata(&file).unwrap();
        let owner = (found.uid(), found.gid());
        assert_eq!(owner, (SERVICE, SERVICE), "{}", file.display());
        assert_eq!(found.mode() & 0o007, 0, "{}", file.display());
    }
}

/// A service can go on with the files that root made in its data directory.
#[tokio::test(flavor = "multi_thread")]
async fn what_root_makes_belongs_to_the_service() {
    let (server, _) = lived_in().await;
    let root = Command::new("id").arg("-u").output().unwrap();
    assert_eq!(root.stdout, b"0\n", "run the tests as root, who restores");
    let dir = server.dir().to_path_buf();
    goes_well(run(&dir, "backup backup.db"));
    goes_well(run(&dir, "export all.ndjson"));
    let service = dir.join("service");
    fs::create_dir(&service).unwrap();
    chown(&service, Some(SERVICE), Some(SERVICE)).unwrap();
    for path in [&dir, &service] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    // The service's own copy of the program, in a folder that it may enter.
    let program = dir.join("parlor");
    fs::copy(env!("CARGO_BIN_EXE_parlor"), &program).unwrap();
    for (number, line) in ["restore backup.db", "import", "serve"]
        .into_iter()
        .enumerate()
    {
        for data in [
            format!("service/{number}"),
            format!("service/deep/{number}/x"),
        ] {
            if !data.contains("deep") {
                fs::create_dir(dir.join(&data)).unwrap();
                chown(dir.join(&data), Some(SERVICE), Some(SERVICE)).unwrap();
            }
            let mut command = parlor(&dir, line);
            command.env("DATA_DIR", &data);
            match line {
                "import" => {
                    command.stdin(File::open(dir.join("all.ndjson")).unwrap());
                    goes_well(command.output().unwrap());
                }
                "serve" => {
                    let mut process = Command::new(env!("CARGO_BIN_EXE_parlor"))
                        .env_clear()
                        .env("BIND_ADDR", "127.0.0.1:0")
                        .env("DATA_DIR", &data)
                        .current_dir(&dir)
                        .stdout(Stdio::null())
                        .spawn()
                        .unwrap();
                    let is_there = async || dir.join(&data).join("jwt-secret").exists();
                    eventually(
                        "it has started",
                        std::time::Duration::from_secs(10),
                        is_there,
                    )
                    .await;
                    process.kill().unwrap();
                    process.wait().unwrap();
                }
                _ => drop(goes_well(command.output().unwrap())),
            }
            all_belong_to_the_service(&dir.join(&data));
            assert_eq!(fs::metadata(dir.join(&data)).unwrap().uid(), SERVICE);
            let mut command = Command::new(tool("timeout"));
            let as_service = command
                .args(["-s", "TERM", "2"])
                .arg(tool("setpriv"))
                .args(["--reuid", "65534", "--regid", "65534", "--clear-groups"])
                .arg(&program)
                .env_clear()
                .env("BIND_ADDR", "127.0.0.1:0")
                .env("DATA_DIR", &data)
                .current_dir(&dir)
                .output()
                .unwrap();
            let says = String::from_utf8([as_service.stdout, as_service.stderr].concat());
            assert_contains(&says.unwrap(), "parlor is up");
            all_belong_to_the_service(&dir.join(&data));
        }
    }
    // The new file has the owner and the mode of the one it replaces.
    let file = service.join("0/parlor.db");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
    chown(&file, Some(SERVICE), Some(4)).unwrap();
    goes_well(
        parlor(&dir, "restore backup.db")
            .env("DATA_DIR", "service/0")
            .output()
            .unwrap(),
    );
    let restored = fs::metadata(&file).unwrap();
    assert_eq!((restored.uid(), restored.gid()), (SERVICE, 4));
    assert_eq!(restored.mode() & 0o777, 0o640);
}

/// A service that may write in its folder cannot have root write elsewhere.
#[tokio::test(flavor = "multi_thread")]
async fn links_are_not_written_through() {
    let (server, _) = lived_in().await;
    let dir = server.dir().to_path_buf();
    goes_well(run(&dir, "backup backup.db"));
    let victim = dir.join("victim");
    fs::write(&victim, "precious").unwrap();
    fs::set_permissions(&victim, fs::Permissions::from_mode(0o644)).unwrap();
    for name in ["x.db.part", "x.ndjson.part", "data/parlor.db.part"] {
        symlink(&victim, dir.join(name)).unwrap();
    }
    goes_well(run(&dir, "backup x.db"));
    goes_well(run(&dir, "export x.ndjson"));
    goes_well(run(&dir, "restore backup.db"));
    // A name that is taken, if only by a link that leads nowhere.
    symlink(dir.join("nowhere"), dir.join("y.db")).unwrap();
    for line in [
        "backup y.db",
        "export y.db",
        "backup victim",
        "export victim",
    ] {
        assert_contains(&fails(run(&dir, line)), "is there already");
    }
    assert!(!dir.join("nowhere").exists());
    fs::create_dir(dir.join("other")).unwrap();
    for name in ["parlor.lock", "jwt-secret.part"] {
        symlink(&victim, dir.join("other").join(name)).unwrap();
    }
    let other = parlor(&dir, "serve").env("DATA_DIR", "other").output();
    assert_contains(&fails(other.unwrap()), "(DATA_DIR)");
    assert_eq!(fs::read(&victim).unwrap(), b"precious");
    assert_eq!(fs::metadata(&victim).unwrap().mode() & 0o777, 0o644);
}

/// An export holds everybody's password hashes.
#[tokio::test(flavor = "multi_thread")]
async fn an_export_to_a_file_is_this_users_alone() {
    for backend in [Backend::Sqlite, Backend::MongoDb] {
        let server = Server::start(backend).await;
        server.person("ana").await.enters("tea").await;
        let export = |line: &str| {
            let mut command = parlor(server.dir(), line);
            if backend == Backend::MongoDb {
                command.env("MONGODB_URI", server.mongodb_uri());
                command.env("JWT_SECRET", "mongodb-".repeat(4));
            }
            command.output().unwrap()
        };
        let told = goes_well(export("export all.ndjson"));
        assert_contains(&String::from_utf8(told.stderr).unwrap(), "exported 1 users");
        assert!(told.stdout.is_empty());
        let file = server.dir().join("all.ndjson");
        assert_eq!(fs::metadata(&file).unwrap().mode() & 0o777, 0o600);
        assert_eq!(fs::read(&file).unwrap(), goes_well(export("export")).stdout);
        assert_contains(&fails(export("export all.ndjson")), "is there already");
        assert_contains(&fails(export("export none/all.ndjson")), "cannot write");
    }
}

// Where they come from.

/// Mounted where nobody can write: after an orderly end, and as a snapshot of a server in use.
#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_written_is_copied() {
    let (mut server, ana) = lived_in().await;
    let dir = server.dir().to_path_buf();
    let read_only = |line: &str| {
        let script = "mount --bind data ro && mount -o remount,ro,bind ro && \
                      ! touch ro/x 2> /dev/null && exec \"$0\" \"$@\"";
        fs::create_dir_all(dir.join("ro")).unwrap();
        Command::new(tool("unshare"))
            .args(["--mount", "sh", "-c", script])
            .arg(env!("CARGO_BIN_EXE_parlor"))
            .args(line.split_whitespace())
            .env("DATA_DIR", "ro")
            .current_dir(&dir)
            .output()
            .unwrap()
    };
    let export = goes_well(read_only("export"));
    assert_eq!(export.stdout, goes_well(run(&dir, "export")).stdout);
    goes_well(read_only("backup orderly.db"));

    server.start_again().await;
    let ana = ana.signs_in_again().await;
    ana.says("tea", "in the log beside it").await;
    let export = goes_well(read_only("export"));
    assert_contains(
        &String::from_utf8_lossy(&export.stdout),
        "in the log beside it",
    );
    goes_well(read_only("backup running.db"));
    server.kill();
    let export = goes_well(read_only("export"));
    assert_contains(
        &String::from_utf8_lossy(&export.stdout),
        "in the log beside it",
    );
    goes_well(read_only("backup killed.db"));
    for (copy, entries) in [("orderly.db", 43), ("running.db", 44), ("killed.db", 44)] {
        goes_well(run(&dir, &format!("restore {copy}")));
        server.start_again().await;
        assert_eq!(ana.signs_in_again().await.log("tea").await.len(), entries);
        server.terminate();
    }
}

/// Copies of a file that has not been brought to this version yet.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_of_the_version_before_is_copied_and_moved() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    fs::create_dir(dir.join("data")).unwrap();
    let old = Connection::open(dir.join("data/parlor.db")).unwrap();
    old.execute_batch(include_str!(
        "../../src/store/sqlite/migrations/1_first.sql"
    ))
    .unwrap();
    let ana = "0193b0a0-0000-7000-8000-000000000001";
    old.execute_batch(&format!(
        "PRAGMA user_version = 1;
         INSERT INTO users VALUES ('{ana}', 'ana', 'ana', 'ana', 'a@b.c', 'a@b.c',
             '$argon2id$v=19$m=19456,t=2,p=1$bm9ib2R5IGF0IGFsbCBoZXJl$\
             AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA', 1763800000000);
         INSERT INTO rooms VALUES ('tea', 1763800000000);
         INSERT INTO memberships VALUES ('{ana}', 'tea', 1763800000000);
         INSERT INTO events VALUES
             ('tea', 1, 0, 1763800000000, 'joined', '{ana}', 'ana', NULL, ' joined'),
             ('tea', 2, 1, 1763800000000, 'message', '{ana}', 'ana', 'hello', NULL);"
    ))
    .unwrap();
    drop(old);
    goes_well(run(dir, "backup old.db"));
    let export = goes_well(run(dir, "export"));
    let text = String::from_utf8(export.stdout).unwrap();
    assert_contains(&text, "\"body\":\"hello\"");
    assert_contains(&text, "\"read\":2");
    let restored = |line: &str| parlor(dir, line).env("DATA_DIR", "new").output().unwrap();
    goes_well(restored("restore old.db"));
    let again = goes_well(restored("export"));
    let tail = |text: &str| text.split_once('\n').unwrap().1.to_owned();
    assert_eq!(tail(&String::from_utf8(again.stdout).unwrap()), tail(&text));

    let newer = Connection::open(dir.join("data/parlor.db")).unwrap();
    newer.execute_batch("PRAGMA user_version = 99").unwrap();
    drop(newer);
    for line in ["backup new.db", "export", "serve"] {
        assert_contains(&fails(run(dir, line)), "later version");
    }
}

// Their content.

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_with_former_members_is_restored() {
    let mut server = Server::start(Backend::Sqlite).await;
    let admin = server.person("admin").await;
    admin.enters("tea").await;
    for name in ["ana", "ben"] {
        let person = server.person(name).await;
        person.enters("tea").await;
        let said = person.says("tea", "remember me").await;
        let report = format!("/rooms/tea/messages/{said}/report");
        admin.post(&report, &[("reason", "two\nlines")]).await;
        let form = [("password", PASSWORD), ("messages", "keep")];
        person.post("/account/delete", &form).await;
    }
    let dir = server.dir().to_path_buf();
    goes_well(run(&dir, "backup whole.db"));
    server.terminate();
    goes_well(run(&dir, "restore whole.db"));
    server.start_again().await;
    let admin = Person::sign_in(&server.base, "admin").await;
    let people = admin.json("/rooms/tea").await;
    assert_lacks(&people.to_string(), "ana");
    let reports = admin.json("/admin/reports").await;
    assert_eq!(reports["reports"].as_array().unwrap().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hostile_backup_is_refused() {
    let (server, ana) = lived_in().await;
    let dir = server.dir().to_path_buf();
    goes_well(run(&dir, "backup whole.db"));
    let dear = "$argon2id$v=19$m=4194304,t=2,p=1$bm9ib2R5IGF0IGFsbCBoZXJl$\
                AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    let set_hash = |hash: &str| format!("UPDATE users SET password_hash = '{hash}'");
    let many = dear.replace("m=4194304,t=2", "m=19456,t=4294967295");
    let of_another_kind = dear
        .replace("argon2id", "argon2i")
        .replace("4194304", "19456");
    for (statement, why) in [
        (
            "CREATE TRIGGER spy AFTER INSERT ON events BEGIN DELETE FROM users; END",
            "trigger",
        ),
        ("CREATE VIEW spy AS SELECT * FROM users", "view"),
        ("CREATE TABLE spy (x)", "table"),
        ("CREATE INDEX spy ON users (abs(created_at))", "index"),
        ("DROP INDEX events_nonce", "events_nonce"),
        ("ALTER TABLE users ADD COLUMN spy TEXT DEFAULT 'x'", "users"),
        (
            "DELETE FROM events WHERE room = 'tea' AND seq = 7",
            "the log of tea is not whole",
        ),
        ("UPDATE events SET seq = -seq", "is not whole"),
        (
            "UPDATE events SET messages = 9 WHERE seq = 1",
            "counted wrong at 1",
        ),
        (
            "UPDATE events SET room = 'attic' WHERE room = 'tea'",
            "no room",
        ),
        (
            "UPDATE events SET kind = 'odd' || char(27) WHERE seq = 3",
            "",
        ),
        (
            "UPDATE texts SET body = printf('%.*c', 4001, 'x') WHERE id = (SELECT text FROM events WHERE seq = 3)",
            "body",
        ),
        (
            "UPDATE texts SET body = printf('%.*c', 50000000, 'x') WHERE id = (SELECT text FROM events WHERE seq = 3)",
            "body",
        ),
        (
            "UPDATE texts SET body = 'a' || char(0) || 'b' WHERE id = (SELECT text FROM events WHERE seq = 3)",
            "is not whole",
        ),
        (
            "UPDATE names SET hash = 'a' || char(27) || '[2J'
             WHERE hash = (SELECT min(hash) FROM names)",
            "name",
        ),
        ("UPDATE events SET nonce = 'a b' WHERE seq = 3", "nonce"),
        ("UPDATE events SET at = -1 WHERE seq = 3", "time"),
        (
            "UPDATE events SET at = 9223372036854775807 WHERE seq = 3",
            "time",
        ),
        (
            "UPDATE users SET username = 'an' || char(10) || 'a' WHERE username = 'ana'",
            "username",
        ),
        (
            "UPDATE users SET username = '' WHERE username = 'ana'",
            "username",
        ),
        (
            "UPDATE users SET username = char(0x202e) || 'ana' WHERE username = 'ana'",
            "username",
        ),
        // Its keys do not matter.
        (
            "UPDATE users SET username = 'BEN' WHERE username = 'ana'",
            "UNIQUE",
        ),
        (
            "UPDATE users SET email = 'a@b.c' || char(13, 10) || 'x' WHERE username = 'ana'",
            "email",
        ),
        (
            "UPDATE users SET id = 'x' || id WHERE username = 'ana'",
            "id",
        ),
        (
            "UPDATE memberships SET read_seq = 9000",
            "was read or changed",
        ),
        (
            "UPDATE memberships SET read_seq = -1",
            "was read or changed",
        ),
        ("UPDATE meta SET value = -1", "epoch"),
        ("UPDATE meta SET value = 9223372036854775807", "epoch"),
        ("DELETE FROM meta", "epoch"),
        (&set_hash(dear), "password hash"),
        (&set_hash(&many), "password hash"),
        (&set_hash(&of_another_kind), "password hash"),
        (
            &set_hash("$2b$12$abcdefghijklmnopqrstuuabcdefghijklmnopqrstuuabcdefghi"),
            "password hash",
        ),
        (&set_hash(""), "password hash"),
        ("PRAGMA user_version = 0", "not a database of parlor"),
        ("PRAGMA user_version = 1", "that is not parlor’s"),
        ("PRAGMA user_version = 99", "later version"),
    ] {
        let (hostile, data) = (dir.join("hostile.db"), dir.join("hostile"));
        fs::copy(dir.join("whole.db"), &hostile).unwrap();
        let writing = Connection::open(&hostile).unwrap();
        writing.execute_batch("PRAGMA foreign_keys = OFF").unwrap();
        writing.execute_batch(statement).unwrap();
        drop(writing);
        let restore = parlor(&dir, "restore hostile.db")
            .env("DATA_DIR", &data)
            .output();
        let says = fails(restore.unwrap());
        assert_contains(&says, "hostile.db cannot be restored");
        assert_contains(&says, why);
        let left: Vec<_> = all_files(&data);
        assert_eq!(left, [data.join("parlor.lock")], "{statement}");
        fs::remove_dir_all(&data).unwrap();
    }
    // One whose last transaction is still to be undone.
    fs::copy(dir.join("whole.db"), dir.join("half.db")).unwrap();
    fs::write(dir.join("half.db-journal"), "x".repeat(5_000)).unwrap();
    assert_contains(&fails(run(&dir, "restore half.db")), "half.db-journal");
    // The keys that rows are found by are made anew.
    let hostile = dir.join("hostile.db");
    fs::copy(dir.join("whole.db"), &hostile).unwrap();
    let writing = Connection::open(&hostile).unwrap();
    writing
        .execute_batch(
            "UPDATE users SET username_key = 'eve', email_key = 'e@v.e' WHERE username = 'ana'",
        )
        .unwrap();
    drop(writing);
    goes_well(run(&dir, "restore hostile.db"));
    let restored = Server::start_with(
        Backend::Sqlite,
        &[("DATA_DIR", dir.join("data").to_str().unwrap())],
    )
    .await;
    let ana = ana.at(&restored.base).signs_in_again().await;
    assert_eq!(ana.log("tea").await.len(), 43);
}

/// Nothing runs that a file brings along, put in place by hand.
#[tokio::test(flavor = "multi_thread")]
async fn a_trigger_in_the_database_does_not_run() {
    let (mut server, ana) = lived_in().await;
    let writing = Connection::open(database(&server)).unwrap();
    let trigger = "CREATE TRIGGER spy AFTER INSERT ON events BEGIN DELETE FROM rooms; END";
    writing.execute_batch(trigger).unwrap();
    drop(writing);
    server.start_again().await;
    assert_contains(&server.output(), "something that is not parlor’s");
    let ana = ana.signs_in_again().await;
    assert_eq!(ana.says("tea", "after it").await, 44);
    assert_eq!(ana.log("tea").await.len(), 44);
    server.terminate();
    let writing = Connection::open(database(&server)).unwrap();
    let drop_index = "DROP TRIGGER spy; DROP INDEX events_nonce";
    writing.execute_batch(drop_index).unwrap();
    drop(writing);
    assert_contains(
        &fails(run(server.dir(), "serve")),
        "events_nonce is missing",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hostile_export_is_refused() {
    let (server, _) = lived_in().await;
    let dir = server.dir().to_path_buf();
    let whole = String::from_utf8(goes_well(run(&dir, "export")).stdout).unwrap();
    let line_with = |part: &str| {
        let mut lines = whole.lines();
        lines.find(|line| line.contains(part)).unwrap().to_owned()
    };
    let replaced = |from: &str, to: &str| {
        assert_contains(&whole, from);
        whole.replacen(from, to, 1)
    };
    let twice = |part: &str| {
        let line = line_with(part);
        whole.replacen(&line, &format!("{line}\n{line}"), 1)
    };
    let body = "\"body\":\"hello\"";
    let with_body = |body: &str| replaced("\"body\":\"hello\"", &format!("\"body\":\"{body}\""));
    let cost = "$m=19456,t=2,p=1$";
    let cases: Vec<(String, &str)> = vec![
        (
            replaced("\"username\":\"ana\"", "\"username\":\"a\\u001b[2Jna\""),
            "username",
        ),
        (
            replaced("\"username\":\"ana\"", "\"username\":\"an\\na\""),
            "username",
        ),
        (
            replaced("\"username\":\"ana\"", "\"username\":\"a b\""),
            "username",
        ),
        (
            replaced("\"username\":\"ana\"", "\"username\":\"\u{3164}\u{3164}\""),
            "username",
        ),
        (
            replaced(
                "\"username\":\"ana\"",
                &format!("\"username\":\"{}\"", "a".repeat(33)),
            ),
            "username",
        ),
        (
            replaced(
                "\"type\":\"message\"",
                "\"type\":\"message\",\"author_name\":\"a\\u0000\"",
            ),
            "name",
        ),
        (
            replaced("\"email\":\"ana@", "\"email\":\"a\\r\\nna@"),
            "email",
        ),
        (
            replaced("\"email\":\"ana@", "\"email\":\"\u{202e}ana@"),
            "email",
        ),
        (
            replaced(
                "\"email\":\"ana@",
                &format!("\"email\":\"{}@", "a".repeat(300)),
            ),
            "email",
        ),
        (with_body("a\\u0000b"), "body"),
        (with_body(""), "body"),
        (with_body(&"é".repeat(4_001)), "body"),
        (with_body(&"x".repeat(50_000_000)), "longer than any"),
        (
            replaced(body, &format!("{body},\"x\\u001b[2J\":1")),
            "cannot be read",
        ),
        (
            replaced("\"nonce\":\"nonce\"", "\"nonce\":\"a b\""),
            "nonce",
        ),
        (
            replaced(
                "\"nonce\":\"nonce\"",
                &format!("\"nonce\":\"{}\"", "n".repeat(200)),
            ),
            "nonce",
        ),
        (replaced(cost, "$m=4194304,t=2,p=1$"), "password hash"),
        (replaced(cost, "$m=19456,t=1000000,p=1$"), "password hash"),
        (replaced(cost, "$m=19456,t=2,p=255$"), "password hash"),
        (replaced("$argon2id$", "$argon2x$"), "password hash"),
        (
            replaced("\"epoch\":0", "\"epoch\":9223372036854775807"),
            "epoch",
        ),
        (
            replaced("\"epoch\":0", "\"epoch\":18446744073709551615"),
            "epoch",
        ),
        (replaced("\"at\":", "\"at\":999"), "time"),
        (replaced("\"at\":", "\"at\":-"), "time"),
        (replaced("\"joined_at\":", "\"joined_at\":-"), "time"),
        (replaced("\"expires_at\":", "\"expires_at\":999"), "time"),
        (replaced("\"read\":2", "\"read\":44"), "was read or changed"),
        (replaced("\"id\":\"den\"", "\"id\":\"d\\u001ben\""), "id"),
        (
            replaced(
                "\"room\":\"den\",\"seq\":1,",
                "\"room\":\"d\\u001ben\",\"seq\":1,",
            ),
            "id",
        ),
        (twice("\"username\":\"ana\""), "twice"),
        (twice("\"id\":\"den\""), "twice"),
        (twice("\"record\":\"session\""), "twice"),
        (twice("\"record\":\"membership\""), "twice"),
        (twice("\"record\":\"parlor\""), "order"),
        (twice("\"seq\":3,"), "gap"),
        ("x".repeat(1 << 20), "longer than any"),
        ("[".repeat(100_000), "cannot be read"),
    ];
    let input = dir.join("hostile.ndjson");
    for backend in [Backend::Sqlite, Backend::MongoDb] {
        for (number, (hostile, why)) in cases.iter().enumerate() {
            fs::write(&input, hostile).unwrap();
            let data = dir.join(format!("to-{number}"));
            let mut import = parlor(&dir, "import");
            import.env("DATA_DIR", &data);
            if backend == Backend::MongoDb {
                import.env("MONGODB_URI", MongoDb::shared().await.fresh_uri());
                import.env("JWT_SECRET", "mongodb-".repeat(4));
            }
            let output = import.stdin(File::open(&input).unwrap()).output().unwrap();
            let says = fails(output);
            assert_contains(&says, why);
            assert_lacks(&says, "xxxxxxxxxxxxxxxx");
        }
    }
    // Texts that look odd, and that people write.
    let odd = with_body("\\u001b[2J \u{202e}\u{feff} \u{2800}");
    fs::write(&input, &odd).unwrap();
    let mut import = parlor(&dir, "import");
    let import = import
        .env("DATA_DIR", "odd")
        .stdin(File::open(&input).unwrap());
    goes_well(import.output().unwrap());
    let again = parlor(&dir, "export").env("DATA_DIR", "odd").output();
    let again = String::from_utf8(goes_well(again.unwrap()).stdout).unwrap();
    assert_contains(&again, "\u{202e}");
}
