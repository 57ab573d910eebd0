//! People, invitations and rooms at the command line, while a server runs and while none does.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::time::Duration;

use reqwest::StatusCode;
use serde_json::Value;
use tempfile::TempDir;
use tokio::time::timeout;

use crate::access::{makes, posts};
use crate::support::{
    Backend, MongoDb, PASSWORD, Person, Server, assert_contains, assert_lacks, eventually,
};

on_both_stores!(
    accounts_are_made_and_closed,
    links_and_rooms_are_an_operators_too,
    a_command_is_as_good_without_a_server,
);

/// A server, and a command line beside it.
struct Operated {
    server: Server,
    settings: Vec<(&'static str, String)>,
    dir: TempDir,
}

/// The outcome of a command.
struct Ran {
    is_done: bool,
    output: String,
    errors: String,
}

impl Ran {
    fn json(&self) -> Value {
        serde_json::from_str(self.output.trim()).unwrap_or_else(|_| panic!("{}", self.output))
    }
}

impl Operated {
    async fn start(backend: Backend) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut settings = vec![
            ("DATA_DIR", dir.path().join("data").display().to_string()),
            ("JWT_SECRET", "command-line-".repeat(4)),
        ];
        if backend == Backend::MongoDb {
            settings.push(("MONGODB_URI", MongoDb::shared().await.fresh_uri()));
        }
        let borrowed: Vec<(&str, &str)> = { settings.iter() }
            .map(|(name, value)| (*name, value.as_str()))
            .collect();
        let server = Server::start_with(Backend::Sqlite, &borrowed).await;
        settings.push(("PUBLIC_URL", server.base.clone()));
        Self {
            server,
            settings,
            dir,
        }
    }

    fn run(&self, line: &str) -> Ran {
        let mut command = Command::new(env!("CARGO_BIN_EXE_parlor"));
        let command = command
            .current_dir(self.dir.path())
            .env_clear()
            .envs(self.settings.iter().cloned());
        let output = command.args(line.split_whitespace()).output().unwrap();
        Ran {
            is_done: output.status.success(),
            output: String::from_utf8(output.stdout).unwrap(),
            errors: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// Of a command that fails with one line.
    fn refuses(&self, line: &str, why: &str) {
        let ran = self.run(line);
        assert!(!ran.is_done, "{line}");
        assert_eq!(ran.errors.lines().count(), 1, "{}", ran.errors);
        assert_contains(&ran.errors, why);
        assert_eq!(ran.output, "");
    }

    fn does(&self, line: &str) -> Ran {
        let ran = self.run(line);
        assert!(ran.is_done, "{line}: {}", ran.errors);
        ran
    }
}

async fn accounts_are_made_and_closed(backend: Backend) {
    let operated = Operated::start(backend).await;
    let base = &operated.server.base;
    operated.refuses("invite", "nobody is here yet");
    let first = operated.does("user add ana ana@example.org");
    assert_contains(&first.errors, "ana has an account now");
    let nobody = Person::nobody(base);
    let path = first.output.trim().strip_prefix(base).unwrap().to_owned();
    let chosen = nobody.post(&path, &[("password", PASSWORD)]).await;
    assert_eq!(chosen.status(), StatusCode::SEE_OTHER);
    let ana = Person::sign_in(base, "ana").await;
    // The first is an admin's.
    assert_eq!(ana.get("/admin").await.status(), StatusCode::OK);
    let added = operated.does("--json user add ben ben@example.org").json();
    assert_eq!(
        (&added["username"], &added["role"]),
        (&"ben".into(), &"member".into())
    );
    let added = operated
        .does("user add cleo cleo@example.org --admin --json")
        .json();
    assert_eq!(added["role"], "admin");
    operated.refuses("user add BEN other@example.org", "somebody is called BEN");
    operated.refuses(
        "user add dan ben@example.org",
        "the address ben@example.org",
    );
    operated.refuses("user add dan nowhere", "address");
    operated.refuses("user add room room@example.org", "stands for everybody");
    operated.refuses("user add d d@example.org", "at least 2 characters");
    operated.refuses("user deactivate nobody", "nobody is called nobody");

    ana.enters("tea").await;
    let stream = ana.get("/rooms/tea/events").await;
    let closed = operated.does("user deactivate ana");
    assert_contains(&closed.errors, "ana is signed out, and cannot sign in");
    let end = timeout(Duration::from_secs(2), stream.text()).await;
    end.expect("the stream goes on").unwrap();
    let is_out = async || ana.get("/rooms").await.status() == StatusCode::SEE_OTHER;
    eventually("her session ends", Duration::from_secs(2), is_out).await;
    operated.refuses("user demote cleo", "promote another first");
    operated.refuses("user deactivate cleo", "promote another first");
    let list = operated.does("user list").output;
    assert_eq!(list, "ana\tadmin\tdeactivated\nben\tmember\ncleo\tadmin\n");
    let list = operated.does("user list --json").output;
    let first: Value = serde_json::from_str(list.lines().next().unwrap()).unwrap();
    assert_eq!(first["deactivated"], true);
    assert_lacks(&list, "argon2");
    operated.does("user activate ana");
    let ana = Person::sign_in(base, "ana").await;
    let log = ana
        .get_as("text/plain", "/admin/audit")
        .await
        .text()
        .await
        .unwrap();
    for act in [
        "-\tmade an account for ben",
        "-\tmade cleo admin",
        "-\tclosed ana’s account",
        "-\tclosed cleo’s account: it did not come to it",
    ] {
        assert_contains(&log, act);
    }
}

async fn links_and_rooms_are_an_operators_too(backend: Backend) {
    let operated = Operated::start(backend).await;
    let base = &operated.server.base;
    let ana = operated.server.person("ana").await;
    posts(&ana, "/admin/sign-up", &[("sign_up", "invite")]).await;
    makes(
        &ana,
        &[("room", "den"), ("name", "The Den"), ("access", "private")],
    )
    .await;
    ana.enters("tea").await;
    let link = operated.does("invite --uses 2 --room den").output;
    let path = link.trim().strip_prefix(base).unwrap().to_owned();
    let nobody = Person::nobody(base);
    let page = nobody.get(&path).await.text().await.unwrap();
    assert_contains(&page, "You are invited to The Den.");
    let form = [
        ("username", "ben"),
        ("email", "ben@example.org"),
        ("password", PASSWORD),
    ];
    let came = nobody.post(&path, &form).await;
    assert_eq!(came.headers()["location"], "/rooms/den");
    let made = operated.does("invite --days 1 --json").json();
    assert_eq!(made["uses_left"], 1);
    let listed = ana.json("/invites").await;
    assert_eq!(listed["invites"][0]["by"], Value::Null);
    operated.refuses("invite --uses none", "1 to 10000 people");
    operated.refuses("invite --room nowhere", "there is no room nowhere");

    let list = operated.does("room list").output;
    assert_eq!(list, "den\tprivate\t2\tThe Den\ntea\tunlisted\t1\t\n");
    let mut stream = ana.listens("tea", 1).await;
    operated.does("room archive tea");
    let told = stream.next_event().await.unwrap().json();
    assert_eq!(
        (&told["type"], &told["author"]["username"]),
        (&"archived".into(), &"ana".into())
    );
    let refused = ana.tries_to_say("tea", "hello", None).await.unwrap();
    assert_eq!(refused.status(), StatusCode::FORBIDDEN);
    let list = operated.does("room list --json").output;
    let tea: Value = serde_json::from_str(list.lines().last().unwrap()).unwrap();
    assert_eq!(
        (&tea["archived"], &tea["people"]),
        (&true.into(), &1.into())
    );
    operated.refuses("room reopen tea --by ben", "ben is no admin");
    operated.does("room reopen tea --by ana");
    ana.says("tea", "hello").await;
    operated.refuses("room archive nowhere", "there is no room nowhere");
    operated.refuses(
        "room delete tea --confirm coffee",
        "takes the room’s id, tea",
    );
    operated.does("room delete tea --confirm tea");
    let gone = ana.get_as("application/json", "/rooms/tea").await;
    assert_eq!(gone.status(), StatusCode::NOT_FOUND);
    operated.refuses("room delete tea --confirm tea", "there is no room tea");
    operated.refuses("export --json", "--json is for user, invite and room");
}

async fn a_command_is_as_good_without_a_server(backend: Backend) {
    let mut operated = Operated::start(backend).await;
    operated.server.person("ana").await;
    let socket = operated.dir.path().join("data/parlor.sock");
    if backend == Backend::Sqlite {
        let mode = socket.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        // Nonsense is answered, and what is cut off holds nobody up.
        drop(UnixStream::connect(&socket).unwrap());
        let mut odd = UnixStream::connect(&socket).unwrap();
        std::io::Write::write_all(&mut odd, b"nonsense\n").unwrap();
        let says = std::io::read_to_string(odd).unwrap();
        assert_contains(&says, "of another version");
    }
    assert_eq!(operated.does("user list").output, "ana\tadmin\n");
    // Killed, it leaves its socket behind.
    operated.server.kill();
    assert_eq!(socket.exists(), backend == Backend::Sqlite);
    operated.does("user add ben ben@example.org");
    assert_eq!(
        operated.does("user list").output,
        "ana\tadmin\nben\tmember\n"
    );
    operated.server.start_again().await;
    operated.does("user promote ben");
    operated.server.terminate();
    assert!(!socket.exists(), "it goes with the server");
    assert_eq!(
        operated.does("user list").output,
        "ana\tadmin\nben\tadmin\n"
    );
}
