//! Stores that another version wrote: an earlier one is moved and read, a later one refused.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use ::mongodb::bson::{DateTime, Document, doc};
use reqwest::header::HeaderMap;
use rusqlite::Connection;
use serde_json::Value;
use tempfile::TempDir;

use crate::support::{Backend, MongoDb, Person, Server, assert_contains, eventually};

on_both_stores!(
    a_store_of_the_first_version_is_read,
    a_store_of_a_later_version_is_refused,
    who_is_a_member_anew_joins_anew,
);

/// A store as a released version left it, and the tokens of its sessions.
struct Fixture {
    settings: Vec<(&'static str, String)>,
    tokens: Value,
    dir: TempDir,
}

impl Fixture {
    async fn load(backend: Backend) -> Self {
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
        let dir = tempfile::tempdir().unwrap();
        let mut settings = vec![("JWT_SECRET", "fixture-".repeat(4))];
        let tokens = match backend {
            Backend::Sqlite => {
                let data = dir.path().join("data");
                fs::create_dir(&data).unwrap();
                fs::copy(fixtures.join("0.1.0.db"), data.join("parlor.db")).unwrap();
                settings.push(("DATA_DIR", data.to_str().unwrap().to_owned()));
                "0.1.0.sqlite.tokens.json"
            }
            Backend::MongoDb => {
                let uri = MongoDb::shared().await.fresh_uri();
                let dump = fs::read_to_string(fixtures.join("0.1.0.mongodb.json")).unwrap();
                let dump: BTreeMap<String, Vec<Document>> = serde_json::from_str(&dump).unwrap();
                let database = database(&uri).await;
                for (collection, documents) in dump {
                    let collection = database.collection(&collection);
                    collection.insert_many(documents).await.unwrap();
                }
                settings.push(("MONGODB_URI", uri));
                "0.1.0.mongodb.tokens.json"
            }
        };
        let tokens: Value =
            serde_json::from_str(&fs::read_to_string(fixtures.join(tokens)).unwrap()).unwrap();
        Self {
            settings,
            tokens: tokens["tokens"].clone(),
            dir,
        }
    }

    async fn served(&self, backend: Backend) -> Server {
        let settings: Vec<(&str, &str)> = self
            .settings
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .collect();
        Server::start_with(backend, &settings).await
    }

    fn run(&self, line: &str) -> std::process::Output {
        Command::new(env!("CARGO_BIN_EXE_parlor"))
            .args(line.split_whitespace())
            .env_clear()
            .envs(self.settings.iter().map(|(name, value)| (name, value)))
            .current_dir(self.dir.path())
            .output()
            .unwrap()
    }

    fn database_file(&self) -> PathBuf {
        self.dir.path().join("data/parlor.db")
    }

    fn uri(&self) -> &str {
        let uri = self
            .settings
            .iter()
            .find(|(name, _)| *name == "MONGODB_URI");
        &uri.unwrap().1
    }

    fn person(&self, server: &Server, name: &str) -> Person {
        let mut person = Person::nobody(&server.base);
        person.name = name.to_owned();
        person.token = self.tokens[name].as_str().unwrap().to_owned();
        person
    }
}

async fn database(uri: &str) -> ::mongodb::Database {
    let client = ::mongodb::Client::with_uri_str(uri).await.unwrap();
    client.default_database().unwrap()
}

async fn a_store_of_the_first_version_is_read(backend: Backend) {
    let fixture = Fixture::load(backend).await;
    let export = fixture.run("export");
    assert!(export.status.success(), "{export:?}");
    let export = String::from_utf8(export.stdout).unwrap();
    assert_contains(&export, "the first, by ana");

    let server = fixture.served(backend).await;
    let (ana, ben) = (
        fixture.person(&server, "ana"),
        fixture.person(&server, "ben"),
    );
    let log = ana.log("tea").await;
    assert_eq!(log.len(), 9);
    assert_eq!(log[1]["body"], "the first, by ana");
    let rooms = ana.json("/rooms").await;
    assert_eq!(rooms["rooms"][0]["unread"], 4);
    assert_eq!(rooms["rooms"][1]["room"], "quiet");

    // Nonces, sessions, passwords and names are what they were.
    let again = ben
        .post(
            "/rooms/tea/messages",
            &[("body", "number 2, by ben"), ("nonce", "ben-2")],
        )
        .await;
    assert_eq!(again.status(), 303);
    let other = ben
        .post(
            "/rooms/tea/messages",
            &[("body", "another"), ("nonce", "ben-2")],
        )
        .await;
    assert_eq!(other.status(), 409);
    assert_eq!(ana.log("tea").await.len(), 9);
    let gone = fixture.person(&server, "علی‌رضا");
    let refused = gone.get_as("application/json", "/rooms").await;
    assert_eq!(refused.status(), 401);
    for name in [
        "ana",
        "ben@müller.example",
        "ben@xn--mller-kva.example",
        "علی‌رضا",
    ] {
        let mut person = Person::nobody(&server.base);
        person.name = name.to_owned();
        person.signs_in_again().await;
    }
    assert_eq!(ana.says("tea", "and on").await, 10);
    let mut headers = HeaderMap::new();
    headers.insert("last-event-id", "8".parse().unwrap());
    let mut stream = ben.listens_at("/rooms/tea/events", headers).await;
    assert_eq!(stream.numbers(2).await, [9, 10]);
}

async fn a_store_of_a_later_version_is_refused(backend: Backend) {
    let fixture = Fixture::load(backend).await;
    let version = 2_i64 << 32 | 13 << 16 | 4;
    match backend {
        Backend::Sqlite => {
            let file = Connection::open(fixture.database_file()).unwrap();
            file.execute_batch(&format!(
                "PRAGMA user_version = 99; INSERT INTO meta VALUES ('parlor', {version})"
            ))
            .unwrap();
        }
        Backend::MongoDb => {
            let meta = database(fixture.uri()).await.collection("meta");
            let facts = [
                doc! { "_id": "schema", "value": 99_i64 },
                doc! { "_id": "parlor", "value": version },
            ];
            meta.insert_many(facts).await.unwrap();
        }
    }
    for line in ["serve", "export", "new-epoch"] {
        let refused = fixture.run(line);
        assert!(!refused.status.success(), "{line}");
        let says = String::from_utf8(refused.stderr).unwrap();
        assert_contains(&says, "a later version of parlor, 2.13.4");
    }
}

/// A join is one event for one membership, and not one for ever.
async fn who_is_a_member_anew_joins_anew(backend: Backend) {
    let mut server = Server::start(backend).await;
    let ana = server.person("ana").await;
    ana.enters("tea").await;
    ana.enters("tea").await;
    server.terminate();
    match backend {
        Backend::Sqlite => {
            let file = Connection::open(server.dir().join("data/parlor.db")).unwrap();
            file.execute("DELETE FROM memberships", []).unwrap();
        }
        Backend::MongoDb => {
            let memberships = database(server.mongodb_uri())
                .await
                .collection::<Document>("memberships");
            memberships.delete_many(doc! {}).await.unwrap();
        }
    }
    server.start_again().await;
    ana.enters("tea").await;
    ana.enters("tea").await;
    let log = ana.log("tea").await;
    let kinds: Vec<&str> = log
        .iter()
        .map(|event| event["type"].as_str().unwrap())
        .collect();
    assert_eq!(kinds, ["joined", "joined"]);
}

/// A node died while somebody joined: they are no member yet, and the next join finishes it with one event.
#[tokio::test(flavor = "multi_thread")]
async fn a_join_that_was_cut_off_is_finished_by_the_next() {
    let server = Server::start(Backend::MongoDb).await;
    let (ana, ben) = (server.person("ana").await, server.person("ben").await);
    ben.enters("tea").await;
    let database = database(server.mongodb_uri()).await;
    let memberships = database.collection::<Document>("memberships");
    let of_ana = doc! { "user": &ana.id, "room": "tea" };

    // Before its event.
    let mut begun = of_ana.clone();
    begun.insert("joining", "0b6a1f3e-5f0e-4a44-9d3c-2a7f5d1c9e11");
    memberships.insert_one(begun).await.unwrap();
    let refused = ana.get_as("application/json", "/rooms/tea").await;
    assert_eq!(refused.status(), 403);
    assert_eq!(ana.json("/rooms").await["rooms"], serde_json::json!([]));
    ana.enters("tea").await;
    let joined = |log: Vec<Value>| log.iter().filter(|event| event["type"] == "joined").count();
    assert_eq!(joined(ana.log("tea").await), 2, "ben and ana");

    // After its event.
    let back = doc! {
        "$set": { "joining": "0b6a1f3e-5f0e-4a44-9d3c-2a7f5d1c9e11" },
        "$unset": { "joined_at": "", "read": "" },
    };
    let changed = memberships.update_one(of_ana, back).await.unwrap();
    assert_eq!(changed.modified_count, 1);
    // The node hears of it as of another's change.
    let is_refused = async || {
        let answer = ana.get_as("application/json", "/rooms/tea").await;
        answer.status() == 403
    };
    eventually("it is no membership", Duration::from_secs(2), is_refused).await;
    ana.enters("tea").await;
    assert_eq!(joined(ana.log("tea").await), 2, "it is in the log already");
}

/// The way back: a file of an earlier schema is copied before it is moved.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_is_copied_before_it_is_moved() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    fs::create_dir(&data).unwrap();
    let file = data.join("parlor.db");
    let old = Connection::open(&file).unwrap();
    old.execute_batch(include_str!(
        "../../src/store/sqlite/migrations/1_first.sql"
    ))
    .unwrap();
    old.execute_batch("PRAGMA user_version = 1; INSERT INTO rooms VALUES ('tea', 1);")
        .unwrap();
    drop(old);
    let settings = [("DATA_DIR", data.to_str().unwrap())];
    let mut server = Server::start_with(Backend::Sqlite, &settings).await;
    server.terminate();
    let version = |file: &Path| {
        let file = Connection::open(file).unwrap();
        let version: i64 = file
            .pragma_query_value(None, "user_version", |row| row.get(0))
            .unwrap();
        let rooms: i64 = file
            .query_row("SELECT count(*) FROM rooms", [], |row| row.get(0))
            .unwrap();
        (version, rooms)
    };
    assert_eq!(version(&file), (8, 1));
    assert_eq!(version(&data.join("parlor.db.version-1")), (1, 1));
}

/// A node died while somebody left: they are no member any more, and leaving again or joining finishes it with
/// one event.
#[tokio::test(flavor = "multi_thread")]
async fn a_leave_that_was_cut_off_is_finished_by_the_next() {
    let server = Server::start(Backend::MongoDb).await;
    let (ana, ben) = (server.person("ana").await, server.person("ben").await);
    ben.enters("tea").await;
    let database = database(server.mongodb_uri()).await;
    let memberships = database.collection::<Document>("memberships");
    let of_ana = doc! { "user": &ana.id, "room": "tea" };
    let begins_to_leave = async |id: &str| {
        let mark = doc! { "$set": { "leaving": id } };
        let changed = memberships.update_one(of_ana.clone(), mark).await.unwrap();
        assert_eq!(changed.modified_count, 1);
        let is_refused = async || ana.get("/rooms/tea").await.status() == 403;
        eventually("they are out", Duration::from_secs(2), is_refused).await;
        let people = ben.json("/rooms/tea/people").await;
        assert_eq!(people["people"].as_array().unwrap().len(), 1, "{people}");
        assert_eq!(ana.json("/rooms").await["rooms"], serde_json::json!([]));
    };
    let anas = async || {
        let log = ben.log("tea").await;
        let own = log.iter().filter(|event| event["author"]["id"] == ana.id);
        let kinds: Vec<&str> = own.map(|event| event["type"].as_str().unwrap()).collect();
        kinds.join(" ")
    };
    ana.enters("tea").await;
    begins_to_leave("0b6a1f3e-5f0e-4a44-9d3c-2a7f5d1c9e11").await;
    assert_eq!(anas().await, "joined");
    // A join ends the membership before it first.
    ana.enters("tea").await;
    assert_eq!(anas().await, "joined left joined");
    assert_eq!(ana.get("/rooms/tea").await.status(), 200);
    begins_to_leave("0b6a1f3e-5f0e-4a44-9d3c-2a7f5d1c9e12").await;
    ana.post("/rooms/tea/leave", &[]).await;
    ana.post("/rooms/tea/leave", &[]).await;
    assert_eq!(anas().await, "joined left joined left");
    let left = memberships.count_documents(of_ana.clone()).await.unwrap();
    assert_eq!(left, 0);
}

/// A node died between two writes: of a room that is made, of a setting, of somebody kept out. The next to do
/// something there finishes it, with one event.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_cut_off_is_finished_by_the_next() {
    let server = Server::start(Backend::MongoDb).await;
    let (ana, ben) = (server.person("ana").await, server.person("ben").await);
    let database = database(server.mongodb_uri()).await;
    let rooms = database.collection::<Document>("rooms");
    let memberships = database.collection::<Document>("memberships");
    let log = async |who: &Person| {
        let log = who.log("den").await;
        let event = |event: &serde_json::Value| {
            let (kind, by) = (&event["type"], &event["author"]["username"]);
            format!("{} {}", by.as_str().unwrap(), kind.as_str().unwrap())
        };
        log.iter().map(event).collect::<Vec<_>>().join(", ")
    };
    // Of a private room only its maker knows, and owns it.
    let made = doc! {
        "_id": "den", "created_at": DateTime::now(), "making": &ana.id,
        "access": "private", "name": "Den", "topic": null,
    };
    rooms.insert_one(made).await.unwrap();
    assert_eq!(ben.get("/rooms/den").await.status(), 404);
    assert_eq!(ben.post("/rooms", &[("room", "den")]).await.status(), 409);
    let again = [("room", "den"), ("name", "Den"), ("access", "private")];
    assert_eq!(ana.post("/rooms", &again).await.status(), 303);
    assert_eq!(log(&ana).await, "ana joined");
    let people = ana.json("/rooms/den/people").await;
    assert_eq!(people["people"][0]["role"], "owner");

    // A setting is in force, and is told.
    let note = doc! {
        "id": "0b6a1f3e-5f0e-4a44-9d3c-2a7f5d1c9e13", "kind": "renamed", "value": "The den",
        "by": &ana.id, "by_name": "ana",
    };
    let set = doc! { "$set": { "name": "The den", "setting": note } };
    rooms.update_one(doc! { "_id": "den" }, set).await.unwrap();
    assert_eq!(ana.json("/rooms/den/settings").await["name"], "The den");
    ana.post("/rooms/den/settings", &[("name", "The den")])
        .await;
    assert_eq!(log(&ana).await, "ana joined, ana renamed");
    let found = rooms
        .find_one(doc! { "_id": "den" })
        .await
        .unwrap()
        .unwrap();
    assert!(!found.contains_key("setting") && !found.contains_key("making"));

    // Of what was left of the making of it nothing is when its maker is removed.
    let left = doc! { "$set": { "making": &ben.id } };
    rooms.update_one(doc! { "_id": "den" }, left).await.unwrap();
    ana.post("/rooms/den/people/ben/remove", &[]).await;
    assert_eq!(ben.post("/rooms", &[("room", "den")]).await.status(), 409);
    // Somebody who was half added is removed whole.
    let cleo = server.person("cleo").await;
    let half = doc! {
        "user": &cleo.id, "room": "den", "by": &ana.id,
        "joining": "0b6a1f3e-5f0e-4a44-9d3c-2a7f5d1c9e15",
    };
    memberships.insert_one(half).await.unwrap();
    ana.post("/rooms/den/people/cleo/remove", &[]).await;
    assert_eq!(cleo.post("/rooms", &[("room", "den")]).await.status(), 409);
    assert_eq!(
        log(&ana).await,
        "ana joined, ana renamed, cleo joined, cleo left"
    );

    // Ben was added, and is kept out, but his `left` is not there.
    ana.post("/rooms/den/people", &[("username", "ben")]).await;
    let of_ben = doc! { "user": &ben.id, "room": "den" };
    let ban = doc! { "at": DateTime::now(), "by": &ana.id };
    let mark = doc! { "$set": {
        "leaving": "0b6a1f3e-5f0e-4a44-9d3c-2a7f5d1c9e14", "banned": ban, "by": &ana.id,
    } };
    memberships.update_one(of_ben.clone(), mark).await.unwrap();
    let is_refused = async || ben.get("/rooms/den").await.status() == 404;
    eventually("they are out", Duration::from_secs(2), is_refused).await;
    ana.post("/rooms/den/people/ben/ban", &[]).await;
    let whole = "ana joined, ana renamed, cleo joined, cleo left, ben joined, ben left";
    assert_eq!(log(&ana).await, whole);
    ana.post("/rooms/den/people/ben/ban", &[("on", "0")]).await;
    let left = memberships.count_documents(of_ben).await.unwrap();
    assert_eq!(left, 0);
    assert_eq!(log(&ana).await, whole);
}
