//! Every input has a bound, and whoever is in a hurry is told to wait.

use std::time::{Duration, Instant};

use reqwest::header::{ACCEPT, RETRY_AFTER};
use reqwest::{Method, StatusCode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::support::{Backend, PASSWORD, Person, Server, assert_contains};

async fn limited() -> Server {
    Server::start_with(Backend::Sqlite, &[("RATE_LIMITS", "on")]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn guessing_a_password_is_slowed_down() {
    let server = limited().await;
    server.person("ana").await;
    let guess = async |name: &str, password: &str| {
        let form = [("username", name), ("password", password)];
        Person::nobody(&server.base).post("/login", &form).await
    };
    for _ in 0..10 {
        assert_eq!(
            guess("ana", "a wrong password").await.status(),
            StatusCode::UNAUTHORIZED
        );
    }
    let refused = guess("ana", "a wrong password").await;
    assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
    let wait: u64 = refused.headers()[RETRY_AFTER]
        .to_str()
        .unwrap()
        .parse()
        .unwrap();
    assert!((1..=60).contains(&wait), "{wait}");
    let page = refused.text().await.unwrap();
    assert_contains(&page, "value=\"ana\"");
    assert_contains(&page, "Wait");
    // However the name is spelled.
    for name in ["ANA", "ａｎａ"] {
        assert_eq!(
            guess(name, PASSWORD).await.status(),
            StatusCode::TOO_MANY_REQUESTS,
            "{name}"
        );
    }
    assert_eq!(
        guess("ben", "a wrong password").await.status(),
        StatusCode::UNAUTHORIZED
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn signing_in_rightly_is_never_limited() {
    let server = limited().await;
    server.person("ana").await;
    for _ in 0..15 {
        let form = [("username", "ana"), ("password", PASSWORD)];
        let answer = Person::nobody(&server.base).post("/login", &form).await;
        assert_eq!(answer.status(), StatusCode::SEE_OTHER);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_accounts_is_stopped_and_a_class_is_not() {
    let server = limited().await;
    for number in 0..40 {
        server.person(&format!("pupil{number}")).await;
    }
    let form = [
        ("username", "late"),
        ("email", "l@b.c"),
        ("password", PASSWORD),
    ];
    let answer = Person::nobody(&server.base).post("/signup", &form).await;
    assert_eq!(answer.status(), StatusCode::TOO_MANY_REQUESTS);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_messages_is_stopped_and_a_fast_typist_is_not() {
    let server = limited().await;
    let ana = server.person("ana").await;
    ana.enters("tea").await;
    // Three a second for fifteen seconds, in bursts of five, is faster than anybody writes.
    for burst in 0..9 {
        for number in 0..5 {
            ana.says("tea", &format!("{burst}-{number}")).await;
        }
        tokio::time::sleep(Duration::from_millis(1_000)).await;
    }
    let mut answer = ana.tries_to_say("tea", "flood", None).await.unwrap();
    for _ in 0..200 {
        if answer.status() != StatusCode::CREATED {
            break;
        }
        answer = ana.tries_to_say("tea", "flood", None).await.unwrap();
    }
    assert_eq!(answer.status(), StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(answer.headers()[RETRY_AFTER], "1");
    // On a busy machine there may be room for one more by now, but not for long.
    let post = || {
        let post = ana.request(Method::POST, "/rooms/tea/messages");
        let post = post.header(ACCEPT, "text/html");
        post.form(&[("body", "kept <text>")]).send()
    };
    let mut form = post().await.unwrap();
    for _ in 0..200 {
        if form.status() != StatusCode::SEE_OTHER {
            break;
        }
        form = post().await.unwrap();
    }
    assert_eq!(form.status(), StatusCode::TOO_MANY_REQUESTS);
    assert_contains(&form.text().await.unwrap(), "kept &#60;text&#62;");
}

#[tokio::test(flavor = "multi_thread")]
async fn saying_all_the_time_that_one_types_is_stopped() {
    let server = limited().await;
    let ana = server.person("ana").await;
    ana.enters("tea").await;
    let mut refused = 0;
    for _ in 0..20 {
        let answer = ana.post("/rooms/tea/typing", &[]).await;
        refused += u32::from(answer.status() == StatusCode::TOO_MANY_REQUESTS);
    }
    assert!((8..=10).contains(&refused), "{refused} of 20 were refused");
}

#[tokio::test(flavor = "multi_thread")]
async fn other_sites_change_nothing() {
    let server = Server::start(Backend::Sqlite).await;
    let ana = server.person("ana").await;
    ana.enters("tea").await;
    let own = server.base.as_str();
    for (name, value, status) in [
        ("sec-fetch-site", "cross-site", StatusCode::FORBIDDEN),
        ("sec-fetch-site", "same-site", StatusCode::FORBIDDEN),
        ("sec-fetch-site", "same-origin", StatusCode::SEE_OTHER),
        ("sec-fetch-site", "none", StatusCode::SEE_OTHER),
        ("origin", "https://evil.example", StatusCode::FORBIDDEN),
        ("origin", "null", StatusCode::FORBIDDEN),
        ("origin", own, StatusCode::SEE_OTHER),
    ] {
        for path in ["/rooms/tea/messages", "/rooms"] {
            let request = ana.with_cookie(Method::POST, path).header(name, value);
            let form = [("body", "hello"), ("room", "tea")];
            let answer = request.form(&form).send().await.unwrap();
            assert_eq!(answer.status(), status, "{name}: {value}");
        }
    }
    for path in ["/login", "/signup", "/logout"] {
        let request = ana.with_cookie(Method::POST, path);
        let answer = request
            .header("sec-fetch-site", "cross-site")
            .send()
            .await
            .unwrap();
        assert_eq!(answer.status(), StatusCode::FORBIDDEN, "{path}");
    }
    assert_eq!(ana.log("tea").await.len(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_and_heads_are_bounded() {
    let server = Server::start(Backend::Sqlite).await;
    let ana = server.person("ana").await;
    ana.enters("tea").await;
    let large = "x".repeat(65 * 1024);
    let answer = ana.tries_to_say("tea", &large, None).await.unwrap();
    assert_eq!(answer.status(), StatusCode::PAYLOAD_TOO_LARGE);

    let mut socket = TcpStream::connect(server.address()).await.unwrap();
    let head = format!("GET / HTTP/1.1\r\nhost: localhost\r\nx-large: {large}\r\n\r\n");
    let _ = socket.write_all(head.as_bytes()).await;
    let mut answer = Vec::new();
    let _ = timeout(Duration::from_secs(5), socket.read_to_end(&mut answer))
        .await
        .unwrap();
    assert!(
        answer.starts_with(b"HTTP/1.1 431"),
        "{}",
        String::from_utf8_lossy(&answer)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_that_trickles_in_is_cut() {
    let server = Server::start(Backend::Sqlite).await;
    let began = Instant::now();
    let mut socket = TcpStream::connect(server.address()).await.unwrap();
    socket
        .write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\n")
        .await
        .unwrap();
    let mut answer = Vec::new();
    let cut = timeout(Duration::from_secs(25), async {
        loop {
            tokio::select! {
                read = socket.read_buf(&mut answer) => {
                    if matches!(read, Ok(0) | Err(_)) {
                        break;
                    }
                }
                () = tokio::time::sleep(Duration::from_secs(2)) => {
                    if socket.write_all(b"x-slow: y\r\n").await.is_err() {
                        break;
                    }
                }
            }
        }
    });
    cut.await.expect("a slow head is cut");
    assert!(began.elapsed() > Duration::from_secs(5));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_carries_its_guards() {
    let server = Server::start(Backend::Sqlite).await;
    let ana = server.person("ana").await;
    ana.enters("tea").await;
    for path in [
        "/login",
        "/rooms",
        "/rooms/tea",
        "/nowhere",
        "/rooms/tea/live",
        "/healthz",
    ] {
        let answer = ana.get(path).await;
        let header = |name: &str| answer.headers()[name].to_str().unwrap().to_owned();
        let policy = header("content-security-policy");
        assert_contains(&policy, "default-src 'none'");
        assert_contains(&policy, "frame-ancestors 'self'");
        assert!(!policy.contains("unsafe"), "{policy}");
        assert_eq!(header("x-content-type-options"), "nosniff");
        assert_eq!(header("referrer-policy"), "same-origin");
        assert_contains(&header("permissions-policy"), "camera=()");
        assert_contains(&header("cache-control"), "no-store");
        assert_eq!(header("x-request-id").len(), 32);
        assert!(!answer.headers().contains_key("strict-transport-security"));
    }
    let page = ana.get("/rooms/tea").await.text().await.unwrap();
    for reference in page.split("=\"/static/").skip(1) {
        let path = format!("/static/{}", reference.split('"').next().unwrap());
        for encoding in ["br", "gzip", "identity"] {
            let request = ana
                .request(Method::GET, &path)
                .header("accept-encoding", encoding);
            let file = request.send().await.unwrap();
            assert_eq!(file.status(), StatusCode::OK);
            assert_contains(
                file.headers()["cache-control"].to_str().unwrap(),
                "immutable",
            );
            let encoded = file
                .headers()
                .get("content-encoding")
                .map(|e| e.to_str().unwrap());
            assert_eq!(encoded.unwrap_or("identity"), encoding);
            let etag = file.headers()["etag"].clone();
            let again = ana
                .request(Method::GET, &path)
                .header("if-none-match", etag)
                .send();
            assert_eq!(again.await.unwrap().status(), StatusCode::NOT_MODIFIED);
        }
        // While nodes are upgraded, one is asked for what another's page names: nobody keeps that.
        let (rest, extension) = path.rsplit_once('.').unwrap();
        let (name, _) = rest.rsplit_once('.').unwrap();
        let other = ana
            .get(&format!("{name}.0123456789abcdef.{extension}"))
            .await;
        assert_eq!(other.status(), StatusCode::OK);
        assert_eq!(other.headers()["cache-control"], "no-store");
        assert!(!other.headers().contains_key("etag"));
        let ours = ana.get(&path).await;
        assert_eq!(
            other.headers()["content-type"],
            ours.headers()["content-type"]
        );
        assert_eq!(other.bytes().await.unwrap(), ours.bytes().await.unwrap());
    }
    for missing in [
        "/static/nothing.0123456789abcdef.css",
        "/static/app.0123.css",
        "/static/app.0123456789abcdef.png",
    ] {
        assert_eq!(ana.get(missing).await.status(), StatusCode::NOT_FOUND);
    }
    assert_eq!(
        ana.get("/static/nothing.css").await.status(),
        StatusCode::NOT_FOUND
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_are_compressed_and_streams_never() {
    let server = Server::start(Backend::Sqlite).await;
    let ana = server.person("ana").await;
    ana.enters("tea").await;
    for number in 0..20 {
        ana.says("tea", &format!("number {number}")).await;
    }
    for (path, accept, encoding) in [
        ("/rooms/tea", "gzip, br", Some("gzip")),
        ("/rooms/tea", "identity", None),
        ("/rooms", "gzip", None),
        ("/rooms/tea/live?after=0", "gzip", None),
        ("/rooms/tea/events?after=0", "gzip", None),
        ("/rooms/tea/events?after=0&format=html", "gzip", None),
    ] {
        let request = ana.request(Method::GET, path).header(ACCEPT, "text/html");
        let request = request.header("accept-encoding", accept);
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
        let found = answer.headers().get("content-encoding");
        let found = found.map(|value| value.to_str().unwrap());
        assert_eq!(found, encoding, "{path}, {accept}");
        let varies = answer
            .headers()
            .get("vary")
            .map(|value| value.to_str().unwrap());
        assert_contains(varies.unwrap_or("accept-encoding"), "accept-encoding");
    }
}
