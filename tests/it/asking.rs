//! Who is asking? Cookies, bearer tokens, Host and Origin, and foreign values in them.

use std::time::Duration;

use reqwest::header::{ACCEPT, AUTHORIZATION, COOKIE, HOST, LOCATION, ORIGIN, SET_COOKIE};
use reqwest::{Method, StatusCode};

use crate::support::{Backend, PASSWORD, Person, Server, assert_contains, assert_lacks};

/// The name of the cookie, and a value in it, as the server set them.
fn session_cookie(answer: &reqwest::Response) -> String {
    let cookies = answer.headers().get_all(SET_COOKIE).iter();
    let mut cookies = cookies.map(|cookie| cookie.to_str().unwrap().split(';').next().unwrap());
    let is_session = |cookie: &&str| cookie.contains('=') && cookie.len() > 100;
    cookies.find(is_session).unwrap().to_owned()
}

async fn signs_in(server: &Server, name: &str) -> reqwest::Response {
    let form = [("username", name), ("password", PASSWORD)];
    Person::nobody(&server.base).post("/login", &form).await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_ours_neither_hides_nor_outranks_what_is() {
    let server = Server::start(Backend::Sqlite).await;
    let other = Server::start(Backend::Sqlite).await;
    let ana = server.person("ana").await;
    let eve = server.person("eve").await;
    let theirs = other.person("ana").await.token;
    let cookie = session_cookie(&signs_in(&server, "ana").await);
    let (name, token) = cookie.split_once('=').unwrap();
    let port = server.address().rsplit(':').next().unwrap();
    assert_eq!(name, format!("parlor-{port}"));
    let escaped = format!("%70{}", &name[1..]);

    let rooms = async |cookies: &[Vec<u8>], authorization: &[String]| {
        let mut request = Person::nobody(&server.base).request(Method::GET, "/rooms");
        for value in cookies {
            request = request.header(
                COOKIE,
                reqwest::header::HeaderValue::from_bytes(value).unwrap(),
            );
        }
        for value in authorization {
            request = request.header(AUTHORIZATION, value);
        }
        let answer = request.header(ACCEPT, "text/html").send().await.unwrap();
        match answer.status() {
            StatusCode::OK => {
                let page = answer.text().await.unwrap();
                let who = page.split("Signed in as ").nth(1).unwrap();
                who.split('"').next().unwrap().to_owned()
            }
            _ => "nobody".to_owned(),
        }
    };
    let ours = cookie.clone().into_bytes();
    let with = |before: &[u8], after: &[u8]| [before, &ours, after].concat();
    let evil = &eve.token;
    for (cookies, authorization, who) in [
        (vec![ours.clone()], vec![], "ana"),
        (vec![with(b"theirs=\xff\xfe; ", b"")], vec![], "ana"),
        (vec![with(b"", b"; theirs=\xff")], vec![], "ana"),
        (vec![b"theirs=\xff".to_vec(), ours.clone()], vec![], "ana"),
        (
            vec![with(format!("{escaped}={evil}; ").as_bytes(), b"")],
            vec![],
            "ana",
        ),
        (
            vec![format!("{escaped}={evil}").into_bytes()],
            vec![],
            "nobody",
        ),
        (
            vec![format!("\u{a0}{name}={evil}").into_bytes()],
            vec![],
            "nobody",
        ),
        (
            vec![with(format!("{name}={evil}; ").as_bytes(), b"")],
            vec![],
            "nobody",
        ),
        // A proxy's own password, or a token of somebody else's.
        (
            vec![ours.clone()],
            vec!["Basic eHh4Onl5eQ==".to_owned()],
            "ana",
        ),
        (
            vec![ours.clone()],
            vec!["Bearer of-good-news".to_owned()],
            "ana",
        ),
        (vec![ours.clone()], vec![format!("Bearer {theirs}")], "ana"),
        (vec![ours.clone()], vec!["Bearer".to_owned()], "ana"),
        (
            vec![],
            vec!["Basic eA==".to_owned(), format!("Bearer {evil}")],
            "eve",
        ),
        (vec![], vec![format!("bearer {evil}")], "eve"),
        (vec![ours.clone()], vec![format!("Bearer {evil}")], "eve"),
        (vec![], vec![format!("Bearer {theirs}")], "nobody"),
    ] {
        let found = rooms(&cookies, &authorization).await;
        let sent: Vec<_> = cookies
            .iter()
            .map(|one| String::from_utf8_lossy(one))
            .collect();
        assert_eq!(found, who, "{sent:?} {authorization:?}");
    }
    assert!(!token.is_empty());
    // Two servers on one host know each other's cookies apart.
    let both = format!(
        "{cookie}; {}",
        session_cookie(&signs_in(&other, "ana").await)
    );
    for base in [&server.base, &other.base] {
        let request = Person::nobody(base).request(Method::GET, "/rooms");
        let answer = request.header(COOKIE, &both).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK, "{base}");
    }
    // A token of ours that is over is nobody, whoever the cookie is.
    ana.post("/logout", &[]).await;
    let over = format!("Bearer {}", ana.token);
    assert_eq!(rooms(&[ours], &[over]).await, "nobody");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_our_own_names_are_answered() {
    let url = [("PUBLIC_URL", "https://chat.example.org:443")];
    let server = Server::start_with(Backend::Sqlite, &url).await;
    let nobody = Person::nobody(&server.base);
    let get = async |path: &str, host: &str| {
        let request = nobody.request(Method::GET, path).header(HOST, host);
        request.send().await.unwrap()
    };
    let port = server.address().rsplit(':').next().unwrap();
    for host in [
        "chat.example.org",
        "CHAT.EXAMPLE.ORG.",
        "chat.example.org:8443",
        "localhost",
        &format!("localhost:{port}"),
        "192.168.1.5",
        "[::1]:3000",
    ] {
        assert_eq!(get("/login", host).await.status(), StatusCode::OK, "{host}");
    }
    for host in [
        "evil.example",
        "evil.example:443",
        "chat.example.org.evil.example",
        "localhost.evil.example",
        "x",
        "127.0.0.1.evil.example",
        "chat.example.org@evil.example",
    ] {
        for path in [
            "/login",
            "/rooms",
            "/static/x",
            "/rooms/tea/events",
            "/nowhere",
        ] {
            let answer = get(path, host).await;
            assert_eq!(
                answer.status(),
                StatusCode::MISDIRECTED_REQUEST,
                "{host} {path}"
            );
        }
    }
    let page = get("/login", "evil.example").await.text().await.unwrap();
    assert_contains(&page, "“evil.example”");
    assert_contains(&page, "PUBLIC_URL");
    // A container's health check has no name for it.
    for path in ["/healthz", "/readyz"] {
        assert_eq!(get(path, "parlor.internal").await.status(), StatusCode::OK);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_says_which_of_three_names_differ() {
    let url = [("PUBLIC_URL", "https://chat.example.org")];
    let server = Server::start_with(Backend::Sqlite, &url).await;
    let nobody = Person::nobody(&server.base);
    let post = async |origin: &str, host: &str| {
        let request = nobody.request(Method::POST, "/login");
        let request = request.header(ORIGIN, origin).header(HOST, host);
        let form = [("username", "x"), ("password", "y")];
        let request = request.header(ACCEPT, "text/html").form(&form);
        request.send().await.unwrap()
    };
    let rewritten = server.address();
    for (origin, host) in [
        ("https://chat.example.org", "chat.example.org"),
        ("https://chat.example.org", "chat.example.org:443"),
        ("https://chat.example.org:443", rewritten),
        ("https://CHAT.example.org", "localhost:3000"),
    ] {
        let status = post(origin, host).await.status();
        assert_eq!(status, StatusCode::UNAUTHORIZED, "{origin} {host}");
    }
    for (origin, host) in [
        ("http://chat.example.org", "chat.example.org"),
        ("https://chat.example.org:8443", "chat.example.org"),
        ("https://evil.example", "chat.example.org"),
        ("null", "chat.example.org"),
    ] {
        let answer = post(origin, host).await;
        assert_eq!(answer.status(), StatusCode::FORBIDDEN, "{origin} {host}");
        let page = answer.text().await.unwrap();
        for says in [origin, host, "https://chat.example.org", "PUBLIC_URL"] {
            assert_contains(&page, says);
        }
    }
    let log = server.output();
    assert_contains(&log, "Origin is neither Host nor PUBLIC_URL");
    assert_contains(&log, "http://chat.example.org");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_that_keeps_no_cookie_is_told_why() {
    for (settings, why) in [
        (
            &[("PUBLIC_URL", "https://chat.example.org")][..],
            "Open https://chat.example.org",
        ),
        (&[][..], "Allow cookies"),
    ] {
        let server = Server::start_with(Backend::Sqlite, settings).await;
        server.person("ana").await;
        // As curl and browsers do: over HTTP a Secure cookie is not kept, the others are.
        let answer = signs_in(&server, "ana").await;
        assert_eq!(answer.status(), StatusCode::SEE_OTHER);
        assert_eq!(answer.headers()[LOCATION], "/rooms");
        let session = session_cookie(&answer);
        let others = answer.headers().get_all(SET_COOKIE).iter();
        let others = others
            .map(|cookie| cookie.to_str().unwrap())
            .filter(|cookie| !cookie.starts_with(&session));
        let others: Vec<&str> = others
            .map(|cookie| cookie.split(';').next().unwrap())
            .collect();
        assert_eq!(others, ["parlor-signed-in=1"]);
        let login = async |cookie: &str| {
            let request = Person::nobody(&server.base).request(Method::GET, "/login");
            let answer = request.header(COOKIE, cookie).send().await.unwrap();
            let forgets = answer.headers().get(SET_COOKIE).is_some();
            (answer.text().await.unwrap(), forgets)
        };
        let (page, forgets) = login("parlor-signed-in=1").await;
        assert_contains(&page, "did not keep the cookie");
        assert_contains(&page, why);
        assert!(forgets);
        assert_lacks(&login("x=1").await.0, "did not keep");

        // Signed out in good order, it is not said.
        let request = Person::nobody(&server.base).request(Method::POST, "/logout");
        let sent = format!("{session}; parlor-signed-in=1");
        let answer = request.header(COOKIE, sent).send().await.unwrap();
        let set: Vec<_> = answer.headers().get_all(SET_COOKIE).iter().collect();
        let forgotten = set.iter().any(|cookie| {
            let cookie = cookie.to_str().unwrap();
            cookie.starts_with("parlor-signed-in=;") && cookie.contains("Max-Age=0")
        });
        // It is only sent along to the sign-in page; wherever it is seen it is taken back.
        assert!(forgotten, "{set:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn which_rooms_there_are_cannot_be_found_out_by_trying() {
    let limits = [("RATE_LIMITS", "on")];
    let server = Server::start_with(Backend::Sqlite, &limits).await;
    let ana = server.person("ana").await;
    ana.enters("tea").await;
    let mut refused = 0;
    for guess in 0..200 {
        let status = ana.get(&format!("/rooms/guess-{guess}")).await.status();
        refused += u32::from(status == StatusCode::TOO_MANY_REQUESTS);
    }
    assert!(refused >= 100, "{refused} of 200 were refused");
    // One's own rooms are there all the while.
    assert_eq!(ana.get("/rooms/tea").await.status(), StatusCode::OK);
    tokio::time::sleep(Duration::from_millis(2_100)).await;
    assert_eq!(
        ana.get("/rooms/mistyped").await.status(),
        StatusCode::NOT_FOUND
    );
}
