//! Accounts that their users delete: nothing of them is left but what is said to stay.

use std::process::Command;
use std::time::Duration;

use reqwest::{Method, StatusCode};
use serde_json::Value;

use crate::access::{makes, posts, sends};
use crate::support::{
    Aim, Backend, MongoDb, NONE, PASSWORD, Person, Server, assert_contains, assert_lacks, copies,
    eventually,
};

on_both_stores!(
    a_deleted_account_is_nowhere,
    what_a_former_member_wrote_may_stay,
    an_account_is_deleted_with_its_password,
    a_deletion_that_was_killed_is_finished,
);

const DELETE: &str = "/account/delete";

fn export(server: &Server) -> String {
    let export = Command::new(env!("CARGO_BIN_EXE_parlor"))
        .arg("export")
        .env_clear()
        .envs(server.settings())
        .current_dir(server.dir())
        .output()
        .unwrap();
    assert!(export.status.success(), "{export:?}");
    String::from_utf8(export.stdout).unwrap()
}

/// Everything that somebody is shown of the rooms.
async fn everywhere(person: &Person, rooms: &[&str]) -> String {
    let mut all = String::new();
    let paths = rooms.iter().flat_map(|room| {
        ["", "/messages", "/messages?after=0&limit=200", "/people"]
            .map(|path| format!("/rooms/{room}{path}"))
    });
    let paths: Vec<String> = paths
        .chain(["/rooms".to_owned(), "/mentions".to_owned()])
        .collect();
    for accept in ["text/html", "application/json", "text/plain"] {
        for path in &paths {
            all += &person.get_as(accept, path).await.text().await.unwrap();
        }
    }
    all
}

/// Invariant: once the deletion is answered, the name, the names before, the address, the hash and the texts are in no
/// answer, file, collection or export.
async fn a_deleted_account_is_nowhere(backend: Backend) {
    let mut server = Server::start(backend).await;
    let other = server.another_node_on(backend).await;
    let there = other.as_ref().unwrap_or(&server).base.clone();
    let (admin, ana) = (server.person("admin").await, server.person("Oldzyx").await);
    let ben = server.person("ben").await.at(&there);
    makes(&admin, &[("room", "tea"), ("access", "open")]).await;
    makes(&ana, &[("room", "den"), ("access", "private")]).await;
    posts(&ana, "/rooms/den/people", &[("username", "ben")]).await;
    for person in [&ana, &ben] {
        person.enters("tea").await;
    }
    let with = sends(&ben, Method::POST, "/directs", &[("with", "oldzyx")]).await;
    let direct: Value = with.json().await.unwrap();
    let direct = direct["room"].as_str().unwrap().to_owned();
    ben.says("tea", "hello @OLDZYX, are you there?").await;
    // She is named, and not mentioned: in a room that she is not in, in code, and by an edit.
    makes(&ben, &[("room", "attic"), ("access", "private")]).await;
    ben.says("attic", "`@oldzyx` and @Oldzyx, not @someoneelse.")
        .await;
    let edited = ben.says("attic", "who?").await;
    let edit = format!("/rooms/attic/messages/{edited}");
    let answer = sends(&ben, Method::PATCH, &edit, &[("body", "> @oldzyx")]).await;
    assert_eq!(answer.status(), StatusCode::OK);
    assert_eq!(
        posts(&ana, "/account", &[("username", "Zyxana")]).await,
        StatusCode::OK
    );
    let mut hers = Vec::new();
    for room in ["tea", "den", &direct] {
        for number in 0..30 {
            let text = format!("HERTEXT{number} to @ben");
            hers.push((room.to_owned(), ana.says(room, &text).await));
            ben.says(room, &format!("number {number}")).await;
        }
        ben.says(room, "well said, @Zyxana.").await;
    }
    let (room, first) = &hers[0];
    let reply = [("body", "indeed"), ("reply_to", &first.to_string())];
    posts(&ben, &format!("/rooms/{room}/messages"), &reply).await;
    let react = format!("/rooms/{room}/messages/{}/reactions", first + 1);
    posts(&ana, &react, &[("emoji", "👍")]).await;
    posts(&ana, "/invites", &[("room", "den")]).await;
    posts(&ana, "/rooms/den/settings", &[("topic", "plain")]).await;
    // Sign-ins that failed are counted by name.
    let wrong = [("username", "zyxana"), ("password", "not the password")];
    Person::nobody(&there).post("/login", &wrong).await;
    let before = export(&server);
    let hash = before
        .lines()
        .find(|line| line.contains("\"Zyxana\""))
        .unwrap();
    let hash: Value = serde_json::from_str(hash).unwrap();
    let hash = hash["password_hash"].as_str().unwrap().to_owned();
    let rooms = ["tea", "den", &direct];
    assert_contains(&everywhere(&ben, &rooms).await, "HERTEXT");
    let mut follows = ben.listens("tea", 0).await;
    let heads = async || {
        let mut heads = Vec::new();
        for room in &rooms {
            let messages = ben.json(&format!("/rooms/{room}/messages")).await;
            heads.push(messages["head"].as_u64().unwrap());
        }
        heads
    };
    let then = heads().await;

    let deleted = ana
        .post(DELETE, &[("password", PASSWORD), ("messages", "delete")])
        .await;
    assert_eq!(deleted.status(), StatusCode::SEE_OTHER);
    let gone = ["Zyxana", "zyxana", "Oldzyx", "oldzyx", "HERTEXT", &hash];
    for text in gone {
        assert_eq!(copies(&server, backend, text).await, NONE, "{text}");
        assert_lacks(&export(&server), text);
    }
    let is_shown = async || {
        let all = everywhere(&ben, &rooms).await;
        gone.iter().all(|text| !all.contains(text))
    };
    eventually("the other node forgets", Duration::from_secs(2), is_shown).await;
    let all = everywhere(&ben, &rooms).await;
    assert_contains(&all, "hello former member, are you there?");
    assert_contains(&all, "well said, former member.");
    assert_contains(&all, "former member left");
    let attic = everywhere(&ben, &["attic"]).await;
    assert_contains(
        &attic,
        "`former member` and former member, not @someoneelse.",
    );
    assert_contains(&attic, "> former member");
    // Logs are dense, and whoever follows ends with the same.
    let now = heads().await;
    for (then, now) in then.iter().zip(&now) {
        assert!(now - then >= 30, "{then} {now}");
    }
    assert_eq!(
        follows.numbers(now[0] as usize).await,
        (1..=now[0]).collect::<Vec<_>>()
    );
    for (room, seq) in &hers {
        let message = ben.json(&format!("/rooms/{room}/messages/{seq}")).await;
        assert!(message["deleted_at"].is_string(), "{message}");
        assert_eq!(message["author"]["username"], "former member");
    }
    // Nobody signs in, and nobody gets the names.
    let nobody = Person::nobody(&there);
    for name in ["zyxana", "oldzyx@example.org"] {
        let login = [("username", name), ("password", PASSWORD)];
        assert_eq!(
            nobody.post("/login", &login).await.status(),
            StatusCode::UNAUTHORIZED
        );
    }
    assert_eq!(ana.get("/rooms").await.status(), StatusCode::SEE_OTHER);
    for name in ["Zyxana", "oldzyx"] {
        let form = [
            ("username", name),
            ("email", "another@example.org"),
            ("password", PASSWORD),
        ];
        let taken = nobody.post("/signup", &form).await;
        assert_eq!(taken.status(), StatusCode::UNPROCESSABLE_ENTITY, "{name}");
    }
    let listed = admin.json("/admin").await;
    assert_eq!(listed["people"].as_array().unwrap().len(), 2);
    let log = admin
        .get_as("text/plain", "/admin/audit")
        .await
        .text()
        .await
        .unwrap();
    assert_contains(&log, "\tformer member\tmade a link to den");
    let people = ben.json("/rooms/den/people").await;
    assert_eq!(people["people"].as_array().unwrap().len(), 1);
    if backend == Backend::Sqlite {
        server.terminate();
        for text in gone {
            assert_eq!(copies(&server, backend, text).await, NONE, "{text}");
        }
        server.start_again().await;
        assert_eq!(ben.get("/rooms/tea").await.status(), StatusCode::OK);
    }
}

async fn what_a_former_member_wrote_may_stay(backend: Backend) {
    let server = Server::start(backend).await;
    let (admin, ana) = (server.person("admin").await, server.person("zyxana").await);
    for person in [&admin, &ana] {
        person.enters("tea").await;
    }
    ana.says("tea", "remember me").await;
    let form = [("password", PASSWORD), ("messages", "keep")];
    assert_eq!(posts(&ana, DELETE, &form).await, StatusCode::NO_CONTENT);
    let text = admin
        .get_as("text/plain", "/rooms/tea")
        .await
        .text()
        .await
        .unwrap();
    assert_contains(&text, " former member: remember me\n");
    assert_lacks(&everywhere(&admin, &["tea"]).await, "zyxana");
    // The name of a room is not about somebody, and is as long as before.
    let topic = format!("{} @zyxana", "x".repeat(190));
    posts(&admin, "/rooms/tea/settings", &[("topic", &topic)]).await;
    let cleo = server.person("cleo").await;
    cleo.enters("tea").await;
    assert_eq!(
        posts(&cleo, "/account", &[("username", "zyxcleo")]).await,
        StatusCode::OK
    );
    let topic = format!("{} @cleo", "x".repeat(190));
    posts(&admin, "/rooms/tea/settings", &[("topic", &topic)]).await;
    assert_eq!(posts(&cleo, DELETE, &form).await, StatusCode::NO_CONTENT);
    let settings = admin.json("/rooms/tea/settings").await;
    assert_eq!(settings["topic"], topic.as_str());
    // An export of it is taken by either store, and is the same again; also levels, blocks, and the ids of rooms that
    // were deleted.
    let ben = server.person("ben").await;
    ben.enters("tea").await;
    posts(&ben, "/rooms/tea/level", &[("level", "mentions")]).await;
    posts(&ben, "/account/blocks", &[("username", "admin")]).await;
    makes(&ben, &[("room", "den"), ("access", "open")]).await;
    posts(&ben, "/rooms/den/delete", &[("confirm", "den")]).await;
    let first = export(&server);
    for part in ["\"erased\":true", "\"level\":\"mentions\"", "\"den\""] {
        assert_contains(&first, part);
    }
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data").display().to_string();
    let uri = MongoDb::shared().await.fresh_uri();
    for (key, value) in [("DATA_DIR", data), ("MONGODB_URI", uri)] {
        let run = |arg: &str, input: &str| {
            let file = dir.path().join("input");
            std::fs::write(&file, input).unwrap();
            let mut command = Command::new(env!("CARGO_BIN_EXE_parlor"));
            let command = command.arg(arg).env_clear().current_dir(dir.path());
            let command = command.env(key, &value).env("JWT_SECRET", "x".repeat(32));
            let output = command
                .stdin(std::fs::File::open(file).unwrap())
                .output()
                .unwrap();
            assert!(output.status.success(), "{output:?}");
            String::from_utf8(output.stdout).unwrap()
        };
        run("import", &first);
        assert_eq!(run("export", ""), first, "{key}");
    }
}

async fn an_account_is_deleted_with_its_password(backend: Backend) {
    let server = Server::start(backend).await;
    let (admin, ana) = (server.person("admin").await, server.person("ana").await);
    for (form, field) in [
        (
            [("password", "not it, no"), ("messages", "keep")],
            "password",
        ),
        ([("password", ""), ("messages", "delete")], "password"),
        ([("password", PASSWORD), ("messages", "")], "messages"),
        ([("password", PASSWORD), ("messages", "some")], "messages"),
    ] {
        let answer = sends(&ana, Method::POST, DELETE, &form).await;
        assert_eq!(
            answer.status(),
            StatusCode::UNPROCESSABLE_ENTITY,
            "{form:?}"
        );
        let problem: Value = answer.json().await.unwrap();
        assert!(problem["errors"][field].is_string(), "{problem}");
    }
    let page = ana
        .post(DELETE, &[("password", "not it"), ("messages", "keep")])
        .await;
    assert_eq!(page.status(), StatusCode::UNPROCESSABLE_ENTITY);
    assert_contains(&page.text().await.unwrap(), "This is not your password.");
    // There is always an admin.
    let form = [("password", PASSWORD), ("messages", "keep")];
    // The choice is kept: whoever types the password again gets what they chose.
    for (messages, other) in [("delete", "keep"), ("keep", "delete")] {
        let form = [("password", "not it"), ("messages", messages)];
        let page = ana.post(DELETE, &form).await.text().await.unwrap();
        assert_contains(&page, &format!("value=\"{messages}\" checked"));
        assert_lacks(&page, &format!("value=\"{other}\" checked"));
    }
    assert_eq!(posts(&admin, DELETE, &form).await, StatusCode::CONFLICT);
    let page = admin.post(DELETE, &form).await.text().await.unwrap();
    assert_contains(&page, "There would be no admin left.");
    assert_eq!(admin.get("/admin").await.status(), StatusCode::OK);
    posts(&admin, "/admin/people/ana/role", &[("role", "admin")]).await;
    assert_eq!(posts(&admin, DELETE, &form).await, StatusCode::NO_CONTENT);
    assert_eq!(
        ana.json("/admin").await["people"].as_array().unwrap().len(),
        1
    );
}

/// Invariant: an account is whole, or nobody's and erased in the end, also when its node is killed meanwhile.
async fn a_deletion_that_was_killed_is_finished(backend: Backend) {
    let mut aim = Aim::default();
    while let Some(pause) = aim.next() {
        let mut server = Server::start(backend).await;
        let (admin, ana) = (server.person("admin").await, server.person("zyxana").await);
        for person in [&admin, &ana] {
            person.enters("tea").await;
        }
        ana.says_often("tea", "HERTEXT", 1_500).await;
        admin.says("tea", "@zyxana hello").await;
        let form = [("password", PASSWORD), ("messages", "delete")];
        let deletion = ana.request(Method::POST, DELETE).form(&form).send();
        let deletion = tokio::spawn(deletion);
        tokio::time::sleep(pause).await;
        server.kill();
        drop(deletion.await);
        let left = copies(&server, backend, "HERTEXT").await;
        server.start_again().await;
        let seen = ana.get_as("application/json", "/account").await;
        aim.hit(seen.status() != StatusCode::OK, left == NONE);
        // The database may still begin with what the killed one has sent: there is one answer.
        if seen.status() == StatusCode::OK {
            let seen: Value = seen.json().await.unwrap();
            assert_eq!(seen["username"], "zyxana");
            continue;
        }
        let is_erased = async || {
            copies(&server, backend, "zyxana").await == NONE
                && copies(&server, backend, "HERTEXT").await == NONE
        };
        eventually("nothing is left", Duration::from_secs(20), is_erased).await;
    }
}
