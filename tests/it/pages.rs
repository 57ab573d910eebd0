//! Every page in every state, looked at by what is not a browser of today: a validator, and browsers
//! that show text.

use std::path::Path;
use std::process::{Command, Stdio};

use reqwest::header::{ACCEPT, HeaderMap, HeaderValue};
use reqwest::{Method, StatusCode};

use crate::support::{Backend, PASSWORD, Person, Server, assert_contains, assert_lacks, tool};

/// A page by the name of its state.
type Page = (&'static str, String);

/// The pages of a server, as a browser is sent them.
async fn every_page(server: &Server) -> Vec<Page> {
    let html = |person: &Person, method, path: &str| {
        person.request(method, path).header(ACCEPT, "text/html")
    };
    let (ana, ben) = (server.person("ana").await, server.person("ben").await);
    let nobody = Person::nobody(&server.base);
    let mut pages: Vec<Page> = Vec::new();
    let empty = html(&ana, Method::GET, "/rooms").send().await.unwrap();
    pages.push(("an empty lobby", empty.text().await.unwrap()));

    for room in ["tea", "den"] {
        ana.enters(room).await;
        ben.enters(room).await;
    }
    for text in [
        "plain, with a link: https://example.org/?a=1&b=\"2\"",
        "`code` and **not** <b>bold</b> &amp; \u{202e}turned\u{202c}",
        "```rust\nfn main() { println!(\"<p>\"); }\n```\nafter it",
        "👍",
        "שלום, and back",
        "two\n\nparagraphs",
        "</script><script>alert(1)</script>",
        "]]> --> <!-- '\"",
        "the last",
    ] {
        ben.says("tea", text).await;
        ana.says("tea", text).await;
    }
    for number in 0..120 {
        ben.says("den", &format!("old {number}")).await;
    }
    let private = [("room", "mine"), ("access", "private")];
    ana.post("/rooms", &private).await;
    let open = [("room", "open"), ("access", "open"), ("name", "<Open>")];
    ana.post("/rooms", &open).await;
    server.person("dan").await;
    ana.post("/rooms/tea/people/dan/ban", &[]).await;
    let led = ana.post("/directs", &[("with", "ben")]).await;
    let conversation = led.headers()["location"].to_str().unwrap().to_owned();
    // Of ben's.
    let report = "/rooms/tea/messages/3/report";
    ana.post(report, &[("reason", "<not> \"nice\"")]).await;
    ana.post("/account/blocks", &[("username", "dan")]).await;
    let invite = ana.request(Method::POST, "/invites");
    let invite = invite
        .form(&[("room", "open")])
        .header(ACCEPT, "text/plain");
    let invite = invite.send().await.unwrap().text().await.unwrap();
    let join = invite.trim().strip_prefix(&server.base).unwrap().to_owned();
    let link = ana.request(Method::POST, "/admin/people/ben/reset");
    let link = link.header(ACCEPT, "text/plain").send().await.unwrap();
    let link = link.text().await.unwrap();
    let reset = link.trim().strip_prefix(&server.base).unwrap().to_owned();
    let cursor = ana.json("/rooms/tea").await["cursor"]
        .as_str()
        .unwrap()
        .to_owned();
    let middle = format!("/rooms/den/messages?before={}", 60);
    let after = format!("/rooms/tea/frame?after={cursor}");
    let again = format!("/rooms/tea/frame/again?after={cursor}");
    for (name, who, path, status) in [
        ("sign in", &nobody, "/login", 200),
        ("sign in, led here", &nobody, "/login?next=/rooms/tea", 200),
        ("sign up", &nobody, "/signup", 200),
        ("a lobby", &ana, "/rooms", 200),
        ("a room", &ana, "/rooms/tea", 200),
        ("a room of many", &ana, "/rooms/den", 200),
        ("older messages", &ana, &middle, 200),
        ("one message", &ana, "/rooms/tea/messages/3", 200),
        ("a new room", &ana, "/rooms/nobodys", 404),
        ("an account", &ana, "/account?said=session", 200),
        ("administration", &ana, "/admin", 200),
        ("none for others", &ben, "/admin", 403),
        ("all rooms", &ana, "/admin/rooms", 200),
        ("reports", &ana, "/admin/reports", 200),
        ("what was done", &ana, "/admin/audit", 200),
        ("invitations", &ana, "/invites", 200),
        ("invitations of a member", &ben, "/invites?room=tea", 200),
        ("an invitation", &nobody, &join, 200),
        ("an invitation to somebody here", &ben, &join, 200),
        ("an invitation that is over", &nobody, "/join/none", 404),
        ("a forgotten password", &nobody, "/forgot", 200),
        ("mentions", &ana, "/mentions", 200),
        ("a room to be made", &ana, "/new", 200),
        ("whom to write to", &ana, "/directs?with=%22%3Cben", 200),
        ("a conversation", &ana, &conversation, 200),
        ("a room's people", &ana, "/rooms/tea/people", 200),
        ("a room's settings", &ana, "/rooms/tea/settings", 200),
        ("the same for a member", &ben, "/rooms/tea/settings", 200),
        ("open rooms", &ben, "/rooms?q=open", 200),
        ("the frame", &ana, &after, 200),
        ("before the frame", &ana, &again, 200),
        ("nobody's frame", &nobody, "/rooms/tea/live", 401),
        ("an outsider's frame", &ana, "/rooms/nobodys/live", 404),
        ("no page", &ana, "/nothing", 404),
        ("a reset", &nobody, &reset, 200),
        ("a reset that is over", &nobody, "/reset/none", 404),
    ] {
        let answer = html(who, Method::GET, path).send().await.unwrap();
        assert_eq!(answer.status(), status, "{path}");
        pages.push((name, answer.text().await.unwrap()));
    }
    let cleo = server.person("cleo").await;
    let answer = html(&cleo, Method::GET, "/rooms/tea").send().await.unwrap();
    pages.push(("a room to enter", answer.text().await.unwrap()));

    let long = "x".repeat(5_000);
    for (name, who, path, form) in [
        (
            "a refused sign-up",
            &nobody,
            "/signup",
            vec![("username", "?"), ("email", "?"), ("password", "?")],
        ),
        (
            "a refused sign-in",
            &nobody,
            "/login",
            vec![("username", "ana"), ("password", "wrong")],
        ),
        (
            "a refused room",
            &ana,
            "/rooms",
            vec![("room", "not a room")],
        ),
        (
            "a password that is refused",
            &ana,
            "/account/password",
            vec![("current", "x"), ("password", "y")],
        ),
        (
            "a room that is refused",
            &ana,
            "/rooms",
            vec![("name", "<Tea>"), ("access", "no"), ("room", "&")],
        ),
        (
            "somebody who is not added",
            &ana,
            "/rooms/tea/people",
            vec![("username", "\"<nobody>")],
        ),
        (
            "a private room to be opened",
            &ana,
            "/rooms/mine/settings",
            vec![("access", "open"), ("name", "&lt;")],
        ),
        (
            "a room that is not deleted",
            &ana,
            "/rooms/mine/delete",
            vec![("confirm", "\"<mine>")],
        ),
        (
            "an account that is not deleted",
            &ben,
            "/account/delete",
            vec![("password", "x"), ("messages", "")],
        ),
        (
            "another's account that is not deleted",
            &ana,
            "/admin/people/ben/delete",
            vec![("confirm", "\"<ben>"), ("messages", "some")],
        ),
        (
            "a link that is refused",
            &ana,
            "/invites",
            vec![("uses", "0"), ("days", "<")],
        ),
        (
            "a name that is refused",
            &ana,
            "/account",
            vec![("username", "\"<"), ("email", "&")],
        ),
        (
            "a report that is refused",
            &ana,
            report,
            vec![("reason", long.as_str())],
        ),
        (
            "a letter that is refused",
            &nobody,
            "/forgot",
            vec![("email", "<")],
        ),
        (
            "a refused sign-up by invitation",
            &nobody,
            &join,
            vec![("username", "?"), ("email", "?"), ("password", "?")],
        ),
        (
            "a refused message",
            &ana,
            "/rooms/tea/messages",
            vec![("body", long.as_str())],
        ),
        (
            "nobody's message",
            &nobody,
            "/rooms/tea/messages",
            vec![("body", "hello")],
        ),
        ("a wrong method", &ana, "/rooms/tea/frame", Vec::new()),
    ] {
        let request = html(who, Method::POST, path).form(&form);
        let answer = request.send().await.unwrap();
        assert!(
            answer.status().is_client_error(),
            "{path}: {}",
            answer.status()
        );
        let page = answer.text().await.unwrap();
        if path == report {
            assert_contains(&page, "at most 1,000 characters");
            assert_contains(&page, &long);
        }
        pages.push((name, page));
    }
    // An endless page is valid up to where it is, if it ended there.
    let mut accept = HeaderMap::new();
    accept.insert(ACCEPT, HeaderValue::from_static("text/html"));
    let mut live = ana.listens_at("/rooms/tea/live?after=0", accept).await;
    live.text_until("the last").await;
    let upto = live.raw.rfind("</li>").unwrap() + "</li>".len();
    pages.push((
        "what goes on",
        format!("{}</ol></main></body></html>", &live.raw[..upto]),
    ));
    pages
}

#[tokio::test(flavor = "multi_thread")]
async fn every_page_is_valid() {
    let server = Server::start(Backend::Sqlite).await;
    let folder = tempfile::tempdir().unwrap();
    let pages = every_page(&server).await;
    for (name, html) in &pages {
        let file = folder.path().join(format!("{name}.html"));
        std::fs::write(file, html).unwrap();
    }
    // The attributes of htmx are its own.
    let checked = Command::new(tool("java"))
        .arg("-jar")
        .arg(tool("vnu.jar"))
        .args(["--Werror", "--format", "text", "--filterpattern", ".*hx-.*"])
        .arg(folder.path())
        .output()
        .unwrap();
    let complaints = String::from_utf8_lossy(&checked.stderr);
    assert!(checked.status.success(), "{complaints}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_form_has_a_field_and_no_page_two_focuses() {
    let server = Server::start(Backend::Sqlite).await;
    let mut forms = 0;
    for (name, html) in every_page(&server).await {
        for form in html.split("<form").skip(1) {
            let (form, _) = form.split_once("</form>").unwrap();
            forms += 1;
            // A dialog's only closes it.
            assert!(
                form.contains(" name=\"") || form.contains("method=\"dialog\""),
                "{name}: {form}"
            );
        }
        assert!(html.matches(" autofocus").count() <= 1, "{name}");
    }
    assert!(forms > 20, "{forms}");
}

/// A page as a text browser shows it.
fn shown(browser: &str, html: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("page.html");
    std::fs::write(&file, html).unwrap();
    text_of(browser, &file)
}

fn text_of(browser: &str, file: &Path) -> String {
    let output = Command::new(tool(browser))
        .args(
            ["-dump", "-cols", "100"]
                .iter()
                .take(if browser == "w3m" { 3 } else { 1 }),
        )
        .arg(file)
        .env("LANG", "C.UTF-8")
        .output()
        .unwrap();
    assert!(output.status.success(), "{browser}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn browsers_of_text_show_what_there_is_and_no_more() {
    let server = Server::start(Backend::Sqlite).await;
    let (ana, ben) = (server.person("ana").await, server.person("ben").await);
    for room in ["tea", "den"] {
        ana.enters(room).await;
        ben.enters(room).await;
    }
    ben.says("den", "first").await;
    ben.says("den", "second").await;
    let mut pages = Vec::new();
    for path in ["/rooms", "/rooms/tea"] {
        let answer = ana.get_as("text/html", path).await;
        assert_eq!(answer.status(), StatusCode::OK);
        pages.push(answer.text().await.unwrap());
    }
    for browser in ["lynx", "w3m"] {
        for page in &pages {
            let text = shown(browser, page);
            assert_contains(&text, "den 2 unread");
            for dead in [
                "0 unread",
                "unread in other",
                "Notify me",
                "Go to a room",
                "Keys",
                "new message",
            ] {
                assert_lacks(&text.replace("Load new messages", ""), dead);
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn lynx_signs_in_and_out() {
    let server = Server::start(Backend::Sqlite).await;
    server.person("ana").await;
    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("keys");
    let typed = |text: &str| -> Vec<String> {
        let names = text.replace(' ', "<space>");
        // A key's name is the character, or stands in angle brackets.
        let mut keys = Vec::new();
        let mut rest = names.as_str();
        while !rest.is_empty() {
            let length = if rest.starts_with('<') {
                rest.find('>').unwrap() + 1
            } else {
                1
            };
            keys.push(rest[..length].to_owned());
            rest = &rest[length..];
        }
        keys
    };
    // From one thing to use to the next; the first is the link to the beginning, in the lobby one's account and
    // "Sign out" come after it.
    let keys = [
        typed("<tab>ana<tab>"),
        typed(PASSWORD),
        vec!["<tab>".into(), "^J".into()],
        vec!["<tab>".into(), "<tab>".into(), "^J".into()],
        typed("Qy"),
    ];
    let lines = keys.concat().into_iter().map(|key| format!("key {key}\n"));
    std::fs::write(&script, lines.collect::<String>()).unwrap();
    let ended = Command::new(tool("timeout"))
        .arg("60")
        .arg(tool("lynx"))
        .arg("-accept_all_cookies")
        .arg(format!("-cmd_script={}", script.display()))
        .arg(format!("{}/login", server.base))
        .env("TERM", "vt100")
        .env("HOME", folder.path())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(ended.status.success(), "{ended:?}");
    for route in ["login", "logout"] {
        let line = format!("method=POST route=\"/{route}\"");
        let output = server.output();
        let answered = output.lines().find(|answered| answered.contains(&line));
        assert_contains(answered.unwrap_or("nothing"), "status=303");
    }
}
