//! Moving house: export, import, backup, restore.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use reqwest::header::{ACCEPT, HeaderMap};
use reqwest::{Method, StatusCode};
use serde_json::Value;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::support::{Backend, Listener, MongoDb, Person, Server, assert_contains};

/// Runs `parlor` with these settings, reading from one file and writing to another.
fn parlor(settings: &[(&str, &str)], line: &str, input: Option<&Path>, output: &Path) -> Ran {
    let stdin = input.map_or(Stdio::null(), |input| File::open(input).unwrap().into());
    let ran = Command::new(env!("CARGO_BIN_EXE_parlor"))
        .args(line.split_whitespace())
        .env_clear()
        .current_dir(output.parent().unwrap())
        .envs(settings.iter().copied())
        .stdin(stdin)
        .stdout(File::create(output).unwrap())
        .output()
        .unwrap();
    Ran {
        went_well: ran.status.success(),
        says: String::from_utf8(ran.stderr).unwrap(),
    }
}

struct Ran {
    went_well: bool,
    says: String,
}

impl Ran {
    #[track_caller]
    fn went_well(self) {
        assert!(self.went_well, "{}", self.says);
    }

    /// With one line that says why.
    #[track_caller]
    fn failed_because(self, why: &str) {
        assert!(!self.went_well, "it went well");
        assert_contains(&self.says, why);
        assert_eq!(self.says.lines().count(), 1, "{}", self.says);
    }
}

const SECRET: (&str, &str) = ("JWT_SECRET", "moving-moving-moving-moving-moving");

/// The settings of a fresh store of a kind.
async fn fresh(backend: Backend, dir: &Path) -> Vec<(&'static str, String)> {
    let mut settings = vec![("JWT_SECRET", SECRET.1.to_owned())];
    match backend {
        Backend::Sqlite => settings.push(("DATA_DIR", dir.display().to_string())),
        Backend::MongoDb => {
            settings.push(("MONGODB_URI", MongoDb::shared().await.fresh_uri()));
        }
    }
    settings
}

fn borrowed<'a>(settings: &'a [(&'static str, String)]) -> Vec<(&'static str, &'a str)> {
    let borrow = |(name, value): &'a (&'static str, String)| (*name, value.as_str());
    settings.iter().map(borrow).collect()
}

/// A server on a fresh store in which people have talked.
async fn lived_in(backend: Backend, dir: &Path) -> (Server, Vec<(&'static str, String)>, Person) {
    let settings = fresh(backend, dir).await;
    let server = Server::start_with(Backend::Sqlite, &borrowed(&settings)).await;
    let ana = server.person("ana").await;
    let ben = server.person("Żaneta").await;
    for room in ["tea", "den", "z-1"] {
        ana.enters(room).await;
    }
    ben.enters("tea").await;
    for number in 0..30 {
        let body = format!("number {number} “quoted” \\ \u{1f986}\nnext line");
        let nonce = format!("nonce-{number}");
        let said = ana.tries_to_say("tea", &body, Some(&nonce)).await.unwrap();
        assert_eq!(said.status(), StatusCode::CREATED);
    }
    for number in 0..249 {
        ben.says("tea", &format!("more {number}")).await;
    }
    let made = [
        ("room", "made"),
        ("name", "Made – „so“"),
        ("topic", "t"),
        ("access", "private"),
    ];
    ana.post("/rooms", &made).await;
    ana.post("/rooms/made/people", &[("username", "żaneta")])
        .await;
    ana.post("/rooms/made/people/żaneta/role", &[("role", "owner")])
        .await;
    let led = ana.post("/directs", &[("with", "żaneta")]).await;
    let direct = led.headers()["location"].to_str().unwrap().to_owned();
    ana.post(&format!("{direct}/messages"), &[("body", "alone")])
        .await;
    let set = [("posting", "owners"), ("archived", "1")];
    ana.post("/rooms/made/settings", &set).await;
    let to_all = [("body", "more for @ana and @room"), ("confirm", "room")];
    ben.post("/rooms/tea/messages", &to_all).await;
    ana.post("/admin/sign-up", &[("sign_up", "invite")]).await;
    ana.post("/invites", &[]).await;
    ana.post("/admin/sign-up", &[("sign_up", "open")]).await;
    // Revoked sessions stay behind.
    let gone = server.person("gone").await;
    gone.post("/logout", &[]).await;
    ana.post("/rooms/tea/people/gone/ban", &[]).await;
    ana.post("/rooms/made/people", &[("username", "gone")])
        .await;
    ana.post("/rooms/made/people/gone/remove", &[]).await;
    ana.post("/admin/people/gone/deactivate", &[]).await;
    ana.post("/admin/sign-up", &[("sign_up", "closed")]).await;
    (server, settings, ana)
}

async fn there_and_back(from: Backend, to: Backend) {
    let dir = tempfile::tempdir().unwrap();
    let (server, settings, ana) = lived_in(from, &dir.path().join("from")).await;
    let log = ana.log("tea").await;
    let made = ana.log("made").await;
    let settings_of = ana.json("/rooms/made/settings").await;
    let (first, second) = (dir.path().join("first"), dir.path().join("second"));
    // While the server runs.
    let export = parlor(&borrowed(&settings), "export", None, &first);
    assert_contains(&export.says, "exported 3 users, 5 rooms, 293 events");
    export.went_well();
    drop(server);

    let there = fresh(to, &dir.path().join("to")).await;
    let unread = dir.path().join("unread");
    let import = parlor(&borrowed(&there), "import", Some(&first), &unread);
    assert_contains(&import.says, "imported 3 users, 5 rooms, 293 events");
    import.went_well();
    parlor(&borrowed(&there), "export", None, &second).went_well();
    assert!(
        fs::read(&first).unwrap() == fs::read(&second).unwrap(),
        "the copy differs"
    );
    parlor(&borrowed(&there), "import", Some(&first), &unread).failed_because("is not empty");

    // Nobody notices: the token, the place in the log, the nonces are good.
    let moved = Server::start_with(Backend::Sqlite, &borrowed(&there)).await;
    let ana = ana.at(&moved.base);
    assert_eq!(ana.log("tea").await, log);
    assert_eq!(ana.json("/rooms/made/settings").await, settings_of);
    let people = ana.json("/rooms/made/people").await;
    let roles = |people: &Value| {
        let role = |one: &Value| one["role"].as_str().unwrap().to_owned();
        people["people"]
            .as_array()
            .unwrap()
            .iter()
            .map(role)
            .collect::<Vec<_>>()
    };
    assert_eq!(roles(&people), ["owner", "owner"]);
    assert_eq!(ana.log("made").await, made);
    let led = ana.post("/directs", &[("with", "żaneta")]).await;
    let direct = led.headers()["location"].to_str().unwrap().to_owned();
    let text = ana
        .get_as("text/plain", &direct)
        .await
        .text()
        .await
        .unwrap();
    assert_contains(&text, " ana: alone\n");
    let banned = ana.post("/rooms/tea/people", &[("username", "gone")]).await;
    assert_eq!(banned.status(), StatusCode::UNPROCESSABLE_ENTITY);
    let mentions = ana.json("/mentions").await["mentions"].clone();
    assert_eq!(mentions.as_array().unwrap().len(), 1);
    assert_eq!(mentions[0]["body"], "more for @ana and @room");
    assert_eq!(mentions[0]["mentions_room"], true);
    let mut headers = HeaderMap::new();
    headers.insert("last-event-id", "280".parse().unwrap());
    let mut stream = ana.listens_at("/rooms/tea/events?after=0", headers).await;
    assert_eq!(stream.numbers(2).await, [281, 282]);
    let again = ana
        .tries_to_say("tea", "number 3", Some("nonce-3"))
        .await
        .unwrap();
    assert_eq!(again.status(), StatusCode::CONFLICT);
    assert_eq!(ana.says("tea", "from the new house").await, 283);
    assert_eq!(stream.numbers(1).await, [283]);
    let login = [
        ("username", "żaneta"),
        ("password", crate::support::PASSWORD),
    ];
    let nobody = Person::nobody(&moved.base);
    let answer = nobody.post("/login", &login).await;
    assert_eq!(answer.status(), StatusCode::SEE_OTHER);
    let login = [("username", "gone"), ("password", crate::support::PASSWORD)];
    let answer = nobody.post("/login", &login).await;
    assert_eq!(answer.status(), StatusCode::FORBIDDEN);
    assert_eq!(ana.json("/admin").await["sign_up"], "closed");
}

#[tokio::test(flavor = "multi_thread")]
async fn from_sqlite_to_mongodb() {
    there_and_back(Backend::Sqlite, Backend::MongoDb).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn from_mongodb_to_sqlite() {
    there_and_back(Backend::MongoDb, Backend::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn from_sqlite_to_sqlite() {
    there_and_back(Backend::Sqlite, Backend::Sqlite).await;
}

/// An export of a store in use is whole: it imports, and each log in it has no gap.
#[tokio::test(flavor = "multi_thread")]
async fn an_export_under_load_is_whole() {
    for backend in [Backend::Sqlite, Backend::MongoDb] {
        let dir = tempfile::tempdir().unwrap();
        let (_server, settings, ana) = lived_in(backend, &dir.path().join("from")).await;
        let mut busy = JoinSet::new();
        for writer in 0..4 {
            let ana = ana.clone();
            busy.spawn(async move {
                for number in 0.. {
                    ana.enters(&format!("room-{writer}-{number}")).await;
                    ana.says("den", &format!("{writer}-{number}")).await;
                }
            });
        }
        let (export, unread) = (dir.path().join("export"), dir.path().join("unread"));
        for round in 0..3 {
            sleep(Duration::from_millis(200)).await;
            parlor(&borrowed(&settings), "export", None, &export).went_well();
            let to = fresh(Backend::Sqlite, &dir.path().join(format!("to-{round}"))).await;
            parlor(&borrowed(&to), "import", Some(&export), &unread).went_well();
        }
    }
}

/// An export of a store in use reads memberships before logs: one that ended in between is none.
#[tokio::test(flavor = "multi_thread")]
async fn who_left_during_the_export_is_no_member_of_the_copy() {
    let dir = tempfile::tempdir().unwrap();
    let (server, settings, ana) = lived_in(Backend::Sqlite, &dir.path().join("from")).await;
    let export = dir.path().join("export");
    // The membership as it was, and the log as it is.
    parlor(&borrowed(&settings), "export", None, &export).went_well();
    let before = fs::read_to_string(&export).unwrap();
    let membership = { before.lines() }.find(|line| {
        line.contains("\"record\":\"membership\"")
            && line.contains(&ana.id)
            && line.contains("\"den\"")
    });
    ana.post("/rooms/den/leave", &[]).await;
    parlor(&borrowed(&settings), "export", None, &export).went_well();
    let after = fs::read_to_string(&export).unwrap();
    let (head, rest) = after.split_once('\n').unwrap();
    let memberships = after.matches("\"record\":\"membership\"").count();
    let counted = |count: usize| format!("\"memberships\":{count}");
    let rest = rest.replace(&counted(memberships), &counted(memberships + 2));
    // Somebody else was kept out in between.
    let ban = rest
        .lines()
        .find(|line| line.contains("\"record\":\"ban\""))
        .unwrap();
    let banned: Value = serde_json::from_str(ban).unwrap();
    let member = format!(
        "{{\"record\":\"membership\",\"user\":{},\"room\":\"tea\",\"joined_at\":1}}\n",
        banned["user"]
    );
    let rest = rest.replacen(ban, &format!("{member}{ban}"), 1);
    // They are in order; that of den is the one before this.
    let place = rest
        .find(&format!(
            "{{\"record\":\"membership\",\"user\":\"{}\",\"room\":\"made\"",
            ana.id
        ))
        .unwrap();
    let (others, hers) = rest.split_at(place);
    let mixed = format!("{head}\n{others}{}\n{hers}", membership.unwrap());
    fs::write(&export, mixed).unwrap();
    drop(server);
    for backend in [Backend::Sqlite, Backend::MongoDb] {
        let there = fresh(backend, &dir.path().join(format!("to-{backend:?}"))).await;
        let unread = dir.path().join("unread");
        parlor(&borrowed(&there), "import", Some(&export), &unread).went_well();
        let moved = Server::start_with(Backend::Sqlite, &borrowed(&there)).await;
        let ana = ana.at(&moved.base);
        let people = ana.json("/rooms/tea/people").await;
        assert_eq!(people["people"].as_array().unwrap().len(), 2);
        assert_eq!(
            ana.get("/rooms/den").await.status(),
            StatusCode::FORBIDDEN,
            "{backend:?}"
        );
        assert_eq!(
            ana.get("/rooms/tea").await.status(),
            StatusCode::OK,
            "{backend:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_export_is_refused_whole() {
    let dir = tempfile::tempdir().unwrap();
    let (_server, settings, _) = lived_in(Backend::Sqlite, &dir.path().join("from")).await;
    let export = dir.path().join("export");
    parlor(&borrowed(&settings), "export", None, &export).went_well();
    let text = fs::read_to_string(&export).unwrap();
    let without = |part: &str| {
        let lines = text.lines().filter(|line| !line.contains(part));
        lines.map(|line| format!("{line}\n")).collect::<String>()
    };
    let cut_off: String = text
        .lines()
        .take(100)
        .map(|line| format!("{line}\n"))
        .collect();
    let not_json = text.replacen("\"seq\":7,", "\"seq\":,", 1);
    let (damaged, unread) = (dir.path().join("damaged"), dir.path().join("unread"));
    for (number, (content, why)) in [
        (String::new(), "this is not what parlor export writes"),
        ("hello\n".to_owned(), "line 1 of this export cannot be read"),
        (cut_off, "this export was cut off after line 100"),
        (without("\"seq\":7,"), "has a gap at 7"),
        (
            without("\"id\":\"tea\""),
            "the log of tea comes twice, or has no room",
        ),
        (without("\"record\":\"end\""), "this export was cut off"),
        (format!("{text}{{}}\n"), "cannot be read"),
        (not_json, "cannot be read"),
        (
            text.replacen("\"version\":4", "\"version\":5", 1),
            "is of version 5",
        ),
    ]
    .into_iter()
    .enumerate()
    {
        fs::write(&damaged, content).unwrap();
        let to = fresh(Backend::Sqlite, &dir.path().join(format!("to-{number}"))).await;
        let import = || parlor(&borrowed(&to), "import", Some(&damaged), &unread);
        import().failed_because(why);
        // Nothing of it is there: the whole one goes in.
        parlor(&borrowed(&to), "import", Some(&export), &unread).went_well();
    }
    // Two who could be taken for each other, and somebody who is mentioned and missing.
    let nobody = without("\"username\":\"ana\"");
    let twins = text.replace("\"username\":\"Żaneta\"", "\"username\":\"ANA\"");
    for backend in [Backend::Sqlite, Backend::MongoDb] {
        for (content, why) in [(&nobody, "is missing"), (&twins, "does not take")] {
            fs::write(&damaged, content).unwrap();
            let to = fresh(backend, &dir.path().join(why)).await;
            parlor(&borrowed(&to), "import", Some(&damaged), &unread).failed_because(why);
        }
    }
    // On MongoDB a part of it may be; no server starts on that.
    fs::write(&damaged, without("\"seq\":7,")).unwrap();
    let to = fresh(Backend::MongoDb, dir.path()).await;
    parlor(&borrowed(&to), "import", Some(&damaged), &unread).failed_because("has a gap at 7");
    parlor(&borrowed(&to), "", None, &unread).failed_because("an import into the database");
    parlor(&borrowed(&to), "import", Some(&export), &unread).failed_because("did not finish");
}

/// The path of a link by which an admin may choose another password.
async fn reset_link(admin: &Person) -> String {
    link(admin, &format!("/admin/people/{}/reset", admin.name)).await
}

async fn invite_link(admin: &Person) -> String {
    link(admin, "/invites").await
}

/// The path of the link that an admin makes there, which is good.
async fn link(admin: &Person, made_at: &str) -> String {
    let made = admin.request(Method::POST, made_at);
    let made = made.header(ACCEPT, "text/plain").send().await.unwrap();
    let link = made.text().await.unwrap();
    let path = link.trim().strip_prefix(&admin.base).unwrap().to_owned();
    assert_eq!(admin.get(&path).await.status(), StatusCode::OK);
    path
}

/// A restored store must never let a reader who saw more go on as if nothing had happened.
#[tokio::test(flavor = "multi_thread")]
async fn a_restored_backup_is_a_new_epoch() {
    let mut server = Server::start(Backend::Sqlite).await;
    let data = server.dir().join("data");
    let settings = [("DATA_DIR", data.to_str().unwrap())];
    let run = |line: &str| parlor(&settings, line, None, &server.dir().join("unread"));
    let ana = server.person("ana").await;
    ana.enters("tea").await;
    for number in 0..10 {
        ana.says("tea", &format!("before {number}")).await;
    }
    let link = reset_link(&ana).await;
    let invite = invite_link(&ana).await;
    run("backup old.db").went_well();
    run("backup old.db").failed_because("is there already");
    for number in 0..5 {
        ana.says("tea", &format!("lost {number}")).await;
    }
    run("restore old.db").failed_because("another parlor is using");
    server.kill();

    let restore = parlor(&settings, "restore old.db", None, &data.join("../unread"));
    assert_contains(&restore.says, "what was there before is");
    restore.went_well();
    server.start_again().await;
    // A session revoked since the backup stays revoked, so everybody signs in again.
    let refused = ana.get_as("application/json", "/rooms").await;
    assert_eq!(refused.status(), StatusCode::UNAUTHORIZED);
    for over in [&link, &invite] {
        assert_eq!(ana.get(over).await.status(), StatusCode::NOT_FOUND);
    }
    let ana = ana.signs_in_again().await;
    for number in 0..20 {
        ana.says("tea", &format!("after {number}")).await;
    }
    // This reader has seen 16, of which 12 to 16 are gone and others now.
    let mut headers = HeaderMap::new();
    headers.insert("last-event-id", "16".parse().unwrap());
    let mut stream = ana.listens_at("/rooms/tea/events", headers).await;
    let reset = stream.next_notice("reset").await.json();
    let head = reset["head"].as_str().unwrap();
    assert!(head.ends_with("-31"), "{head}");
    // A page of the log from there is refused too, and a page that starts over is whole.
    let refused = ana
        .get_as("application/json", "/rooms/tea/messages?after=16")
        .await;
    assert_eq!(refused.status(), StatusCode::UNPROCESSABLE_ENTITY);
    let page = ana.json("/rooms/tea/messages?after=0&limit=11").await;
    assert_eq!(page["events"].as_array().unwrap().len(), 11);
    assert_eq!(page["cursor"], head.replace("-31", "-11"));
    let html = ana.get("/rooms/tea/messages").await.text().await.unwrap();
    let link = format!("/rooms/tea/messages/{head}");
    assert_contains(&html, &link);
    assert_eq!(ana.get(&link).await.status(), StatusCode::OK);
    let old_link = ana.get("/rooms/tea/messages/16").await;
    assert_eq!(old_link.status(), StatusCode::NOT_FOUND);
    let epoch = head.strip_suffix("-31").unwrap().to_owned();
    let path = format!("/rooms/tea/events?after={epoch}-11");
    let mut stream = ana.listens_at(&path, HeaderMap::new()).await;
    let event = stream.next_event().await.unwrap();
    assert_eq!(event.id.as_deref(), Some(format!("{epoch}-12").as_str()));
    assert_eq!(event.json()["body"], "after 0");

    // Lines of JSON carry what it takes to go on from them; the frame for browsers without scripts
    // says what happened.
    let path = format!("/rooms/tea/events?after={epoch}-29");
    let lines = ana.get_as("application/x-ndjson", &path).await;
    let mut lines = Listener::new(lines);
    let raw = lines.text_until("after 19").await;
    assert_contains(
        &raw,
        &format!("{{\"id\":\"{epoch}-31\",\"room\":\"tea\",\"seq\":31,"),
    );
    let mut frame = Listener::new(ana.get("/rooms/tea/live?after=16").await);
    frame.text_until("Some messages are no longer there.").await;

    // Once more from the same backup, and the epoch is another again.
    server.kill();
    parlor(&settings, "restore old.db", None, &data.join("../unread")).went_well();
    server.start_again().await;
    let ana = ana.signs_in_again().await;
    let mut headers = HeaderMap::new();
    headers.insert("last-event-id", head.parse().unwrap());
    let mut stream = ana.listens_at("/rooms/tea/events", headers).await;
    let reset = stream.next_notice("reset").await.json();
    let second = reset["head"].as_str().unwrap();
    assert!(
        second.ends_with("-11") && !second.starts_with(&epoch),
        "{second}"
    );
}

/// A backup under load is a moment of the store: whatever was acknowledged before it began is in
/// it, and each log in it has no gap.
#[tokio::test(flavor = "multi_thread")]
async fn a_backup_under_load_is_restored() {
    let mut server = Server::start(Backend::Sqlite).await;
    let data = server.dir().join("data");
    let settings = [("DATA_DIR", data.to_str().unwrap())];
    let ana = server.person("ana").await;
    let rooms = ["tea", "den", "hot"];
    for room in rooms {
        ana.enters(room).await;
    }
    let mut writers = JoinSet::new();
    for writer in 0..8 {
        let ana = ana.clone();
        writers.spawn(async move {
            for number in 0.. {
                ana.says(
                    rooms[number % 3],
                    &format!("{writer}-{number} {}", "x".repeat(500)),
                )
                .await;
            }
        });
    }
    let mut heads = Vec::new();
    for round in 0..3 {
        sleep(Duration::from_millis(300)).await;
        let mut before: Vec<Vec<Value>> = Vec::new();
        for room in rooms {
            before.push(ana.log(room).await);
        }
        let (line, unread) = (format!("backup {round}.db"), server.dir().join("unread"));
        let settings = settings.map(|(name, value)| (name, value.to_owned()));
        tokio::task::spawn_blocking(move || {
            let settings = settings
                .each_ref()
                .map(|(name, value)| (*name, value.as_str()));
            parlor(&settings, &line, None, &unread).went_well();
        })
        .await
        .unwrap();
        heads.push(before);
    }
    writers.abort_all();
    while writers.join_next().await.is_some() {}
    server.kill();
    for (round, before) in heads.iter().enumerate() {
        let line = format!("restore {round}.db");
        parlor(&settings, &line, None, &data.join("../unread")).went_well();
        server.start_again().await;
        let ana = ana.signs_in_again().await;
        for (room, before) in rooms.iter().zip(before) {
            let log = ana.log(room).await;
            assert!(log.len() >= before.len());
            assert_eq!(log[..before.len()], **before);
        }
        ana.says("tea", "it goes on").await;
        server.kill();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_backup_is_not_restored() {
    let server = Server::start(Backend::Sqlite).await;
    let ana = server.person("ana").await;
    ana.enters("tea").await;
    let dir = server.dir().to_path_buf();
    let settings = [("DATA_DIR", "data")];
    let run = |line: &str| parlor(&settings, line, None, &dir.join("unread"));
    run("backup whole.db").went_well();
    let whole = fs::read(dir.join("whole.db")).unwrap();
    let elsewhere = [("DATA_DIR", "elsewhere")];
    let restore = |file: &str| {
        parlor(
            &elsewhere,
            &format!("restore {file}"),
            None,
            &dir.join("unread"),
        )
    };
    restore("none.db").failed_because("there is no backup none.db");
    fs::write(dir.join("text.db"), "hello ".repeat(2_000)).unwrap();
    restore("text.db").failed_because("text.db cannot be restored");
    fs::write(dir.join("empty.db"), "").unwrap();
    restore("empty.db").failed_because("empty.db cannot be restored");
    // A copy of a database in use, whose newest messages are in the file beside it.
    fs::copy(dir.join("data/parlor.db"), dir.join("raw.db")).unwrap();
    fs::copy(dir.join("data/parlor.db-wal"), dir.join("raw.db-wal")).unwrap();
    restore("raw.db").failed_because("raw.db is not a backup but a database in use");
    fs::write(dir.join("half.db"), &whole[..whole.len() / 2]).unwrap();
    restore("half.db").failed_because("half.db cannot be restored");
    assert!(!dir.join("elsewhere/parlor.db").exists());
    restore("whole.db").went_well();
    let on_mongodb = [("MONGODB_URI", "mongodb://127.0.0.1:1"), SECRET];
    parlor(&on_mongodb, "backup x.db", None, &dir.join("unread"))
        .failed_because("this is for the embedded database");
    // Backups are as private as what they copy.
    let mode = std::os::unix::fs::PermissionsExt::mode(
        &fs::metadata(dir.join("whole.db")).unwrap().permissions(),
    );
    assert_eq!(mode & 0o777, 0o600);
}

/// A database that was put back by other means can be told so.
#[tokio::test(flavor = "multi_thread")]
async fn a_database_put_back_by_hand_is_a_new_epoch() {
    for backend in [Backend::Sqlite, Backend::MongoDb] {
        let dir = tempfile::tempdir().unwrap();
        let (mut server, settings, ana) = lived_in(backend, &dir.path().join("data")).await;
        let unread = dir.path().join("unread");
        let new_epoch = |command| parlor(&borrowed(&settings), command, None, &unread);
        assert!(!new_epoch("new-epoch").went_well, "a server is using it");
        let link = reset_link(&ana).await;
        server.terminate();
        new_epoch("new-epoch").went_well();
        // As it was called once.
        new_epoch("went-back").went_well();
        server.start_again().await;
        assert_eq!(ana.get(&link).await.status(), StatusCode::NOT_FOUND);
        let ana = ana.signs_in_again().await;
        let mut headers = HeaderMap::new();
        headers.insert("last-event-id", "280".parse().unwrap());
        let mut stream = ana.listens_at("/rooms/tea/events", headers).await;
        let reset = stream.next_notice("reset").await.json();
        assert!(reset["head"].as_str().unwrap().ends_with("-282"), "{reset}");
    }
}

/// An export that is older than what people have seen of it.
#[tokio::test(flavor = "multi_thread")]
async fn an_older_export_is_a_new_epoch() {
    for (backend, import) in [
        (Backend::Sqlite, "import --new-epoch"),
        // As it was called once.
        (Backend::MongoDb, "import --older"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let (_server, settings, ana) = lived_in(Backend::Sqlite, &dir.path().join("from")).await;
        let (export, unread) = (dir.path().join("export"), dir.path().join("unread"));
        parlor(&borrowed(&settings), "export", None, &export).went_well();
        let to = fresh(backend, &dir.path().join("to")).await;
        parlor(&borrowed(&to), import, Some(&export), &unread).went_well();
        let moved = Server::start_with(Backend::Sqlite, &borrowed(&to)).await;
        let ana = ana.at(&moved.base).signs_in_again().await;
        let mut headers = HeaderMap::new();
        headers.insert("last-event-id", "280".parse().unwrap());
        let mut stream = ana.listens_at("/rooms/tea/events", headers).await;
        stream.next_notice("reset").await;
        assert_eq!(ana.log("tea").await.len(), 282);
    }
}
