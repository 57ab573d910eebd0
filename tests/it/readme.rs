//! The README's recipes, run by a shell as they stand there.

use std::process::Command;
use std::time::Duration;

use crate::support::{Backend, Server, assert_contains, tool};

const README: &str = include_str!("../../README.md");

/// The shell lines of a recipe.
fn recipe(name: &str) -> &'static str {
    let (_, after) = README
        .split_once(&format!("<!-- recipe: {name} -->\n```sh\n"))
        .unwrap_or_else(|| panic!("the README has no recipe {name:?}"));
    after.split("```").next().unwrap()
}

/// Runs lines after those that sign in, against a server of the test's own.
async fn run(server: &Server, lines: &str) -> String {
    let _ = tool("curl");
    let sign_in = recipe("sign in").replace("http://127.0.0.1:3000", &server.base);
    let script = format!("set -eu\n{{ {sign_in} }} > /dev/null\n{lines}");
    let command = async {
        let shell = tokio::task::spawn_blocking(move || {
            Command::new("bash").args(["-c", &script]).output().unwrap()
        });
        shell.await.unwrap()
    };
    let output = tokio::time::timeout(Duration::from_secs(60), command)
        .await
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}{errors}");
    text
}

/// Streams have no end: each is followed for a second.
fn for_a_second(lines: &str) -> String {
    lines
        .replace("curl -sN", "timeout 1 curl -sN")
        .replace(
            "\"$HOST/rooms/tea/events\"\n",
            "\"$HOST/rooms/tea/events\" || true\n",
        )
        .replace("events?after=2\"\n", "events?after=2\" || true\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_recipes_work_as_they_stand() {
    let server = Server::start(Backend::Sqlite).await;
    run(&server, recipe("post")).await;
    let said = run(&server, recipe("retry")).await;
    let (first, second) = said.split_at(said.len() / 2);
    assert_eq!(first, second);
    assert_contains(first, "\"seq\":4,\"type\":\"message\"");

    let read = run(&server, recipe("read")).await;
    for part in [
        " ana joined\n",
        " ana: hello\n",
        " ana: the build is done\n",
        "\"head\":4",
    ] {
        assert_contains(&read, part);
    }
    // Somebody says something while the three streams are open, one after another.
    let speaker = "(for n in 1 2 3 4 5 6 7 8; do sleep 0.4; \
                   curl -s -H \"$AUTH\" \"$HOST/rooms/tea/messages\" -d body=live-$n; done) &\n";
    let followed = run(
        &server,
        &format!("{speaker}{}wait", for_a_second(recipe("follow"))),
    )
    .await;
    assert_contains(&followed, " ana: live-1\n");
    assert_contains(&followed, "\"body\":\"live-");
    assert_contains(
        &followed,
        "event: message\ndata: {\"room\":\"tea\",\"seq\":",
    );

    let resumed = run(&server, &for_a_second(recipe("resume"))).await;
    assert_contains(&resumed, "\nid: 3\nevent: message\n");
    assert!(!resumed.contains("\nid: 2\n"), "{resumed}");
    assert_contains(&resumed, " ana: the build is done\n");
    let polled = run(&server, recipe("long poll")).await;
    assert_contains(&polled, "{\"events\":[{\"room\":\"tea\",\"seq\":3,");
    let waited = run(&server, recipe("wait for any room")).await;
    assert_contains(&waited, "{\"rooms\":[{\"room\":\"tea\",");
    assert_contains(&waited, "\"cursor\":\"12.");
    let changed = run(&server, recipe("change")).await;
    for part in [
        " ana: soup at one\n",
        " ana: with bread\n",
        "\"emoji\":\"🎉\",\"count\":1,",
        " ana deleted a message\n",
    ] {
        assert_contains(&changed, part);
    }
    let ben = server.person("ben").await;
    ben.enters("tea").await;
    ben.says("tea", "for @ana").await;
    let mentioned = run(&server, recipe("mention")).await;
    for part in [
        "ana\n",
        "\"body\":\"@room: cake!\",\"mentions_room\":true",
        "unread\ttea\t",
        " ben: for @ana\n",
        "{\"mentions\":[{\"unread\":true,\"room\":\"tea\"",
        "\"older\":null}",
    ] {
        assert_contains(&mentioned, part);
    }
    let rooms = run(&server, recipe("rooms")).await;
    for part in [
        "{\"room\":\"soup\"}",
        "ben\n",
        " ben was added by ana\n",
        " ben was removed by ana\n",
        " ana set the topic: Fridays\n",
        " ana made this room open",
        "\"open\":[]",
    ] {
        assert_contains(&rooms, part);
    }
    let direct = run(&server, recipe("direct")).await;
    assert_contains(&direct, " ana: between us\n");
    let left = format!(
        "{}\ncurl -s -H \"$AUTH\" \"$HOST/rooms/attic\"",
        recipe("leave")
    );
    assert_contains(
        &run(&server, &left).await,
        "You have not entered this room yet.",
    );
    let invited = run(&server, recipe("invite")).await;
    assert_contains(
        &invited,
        "{\"by\":\"ana\",\"room\":\"tea\",\"title\":\"tea\",",
    );
    assert_contains(&invited, "\tana\ttea\t4\t");
    let status = "curl -s -o /dev/null -w '%{http_code}' -H \"$AUTH\" -H 'Accept: text/plain'";
    for (name, path, gone) in [
        ("delete a room", "/rooms/cellar", "404"),
        ("sign out", "/rooms", "401"),
    ] {
        let after = format!("{}\n{status} \"$HOST{path}\"", recipe(name));
        assert!(run(&server, &after).await.ends_with(gone), "{name}");
    }
    let mine = run(&server, recipe("export mine")).await;
    assert_contains(&mine, "{\"record\":\"account\"");
    assert_contains(&mine, "\"body\":\"the build is done\"");
    let seen =
        |path: &str| format!("curl -s -H \"$AUTH\" -H 'Accept: application/json' \"$HOST{path}\"");
    run(&server, recipe("block")).await;
    let account = run(&server, &seen("/account")).await;
    assert_contains(&account, "\"blocked\":[]");
    run(&server, recipe("report")).await;
    let reports = run(&server, &seen("/admin/reports")).await;
    assert_contains(&reports, "Not nice.");
    run(&server, recipe("delete an account")).await;
    let people = run(&server, &seen("/rooms/tea/people")).await;
    assert_contains(&people, "\"ana\"");
    assert!(!people.contains("dora"), "{people}");
    let account = run(&server, recipe("account")).await;
    assert_contains(&account, "\"email\":\"ana@example.org\",\"role\":\"admin\"");
    assert_contains(&account, "\"username\":\"anna\"");
    assert_contains(&account, "\"email\":\"anna@example.org\"");
}

#[test]
fn every_setting_is_in_the_readme() {
    let example = include_str!("../../.env.example");
    let names = example
        .lines()
        .filter_map(|line| line.strip_prefix('#')?.split_once('='))
        .map(|(name, _)| name)
        .filter(|name| name.chars().all(|c| c.is_ascii_uppercase() || c == '_'));
    for name in names {
        assert_contains(README, &format!("`{name}`"));
    }
}
