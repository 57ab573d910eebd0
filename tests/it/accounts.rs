//! Signing up, in and out.

use std::time::{Duration, Instant};

use reqwest::header::{ACCEPT, SET_COOKIE};
use reqwest::{Method, StatusCode};
use serde_json::Value;

use crate::support::{Backend, PASSWORD, Person, Server, assert_contains, assert_lacks};

on_both_stores!(
    a_browser_signs_up_in_and_out,
    programs_get_a_token,
    each_fields_error_stands_at_the_field,
    two_racing_for_one_name,
    wrong_pairs_all_look_the_same,
    pages_lead_to_the_sign_in_and_back,
    a_signed_out_token_is_refused_at_once,
);

async fn a_browser_signs_up_in_and_out(backend: Backend) {
    let server = Server::start(backend).await;
    let ana = Person::nobody(&server.base);
    let home = ana.get("/").await;
    assert_eq!(home.status(), StatusCode::SEE_OTHER);
    assert_eq!(home.headers()["location"], "/login");

    let form = [
        ("username", "ana"),
        ("email", "ana@example.org"),
        ("password", PASSWORD),
    ];
    let answer = ana.post("/signup", &form).await;
    assert_eq!(answer.status(), StatusCode::SEE_OTHER);
    assert_eq!(answer.headers()["location"], "/rooms");
    let cookie = answer.headers()[SET_COOKIE].to_str().unwrap();
    for part in [
        "parlor-",
        "; HttpOnly",
        "; SameSite=Lax",
        "; Path=/",
        "; Max-Age=2592000",
    ] {
        assert_contains(cookie, part);
    }
    assert_lacks(cookie, "Secure");
    assert_eq!(ana.get("/rooms").await.status(), StatusCode::OK);
    assert_eq!(ana.get("/").await.headers()["location"], "/rooms");
    assert_eq!(ana.get("/login").await.headers()["location"], "/rooms");

    let answer = ana.post("/logout", &[]).await;
    assert_eq!(answer.headers()["location"], "/login");
    let cookies = answer.headers().get_all(SET_COOKIE).iter();
    let mut cookies = cookies.map(|cookie| cookie.to_str().unwrap());
    let gone = cookies.find(|cookie| cookie.starts_with("parlor-") && cookie.contains("Path=/;"));
    assert_contains(gone.unwrap(), "Max-Age=0");
    // The page it leads to says what happened, once.
    for says in [true, false] {
        let page = ana.with_cookie(Method::GET, "/login").send().await.unwrap();
        let page = page.text().await.unwrap();
        assert_eq!(page.contains("You are signed out."), says);
    }
    assert_eq!(ana.get("/rooms").await.status(), StatusCode::SEE_OTHER);

    for name in ["ANA", "ana@EXAMPLE.org"] {
        let form = [
            ("username", name),
            ("password", PASSWORD),
            ("next", "/rooms/tea"),
        ];
        let answer = ana.post("/login", &form).await;
        assert_eq!(answer.status(), StatusCode::SEE_OTHER);
        assert_eq!(answer.headers()["location"], "/rooms/tea");
    }
    let form = [
        ("username", "ana"),
        ("password", PASSWORD),
        ("next", "//evil.example"),
    ];
    assert_eq!(
        ana.post("/login", &form).await.headers()["location"],
        "/rooms"
    );
}

async fn programs_get_a_token(backend: Backend) {
    let server = Server::start(backend).await;
    let ana = server.person("ana").await;
    assert_eq!(
        ana.json("/rooms").await,
        serde_json::json!({ "rooms": [], "cursor": "0" })
    );

    let sign_in = |accept: &'static str| {
        Person::nobody(&server.base)
            .request(Method::POST, "/login")
            .header(ACCEPT, accept)
            .form(&[("username", "ana"), ("password", PASSWORD)])
            .send()
    };
    let answer = sign_in("application/json").await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    let session: Value = answer.json().await.unwrap();
    assert_eq!(
        session["user"],
        serde_json::json!({ "id": ana.id, "username": "ana" })
    );
    assert!(session["expires_at"].as_str().unwrap().ends_with('Z'));
    let text = sign_in("text/plain").await.unwrap().text().await.unwrap();
    for token in [session["token"].as_str().unwrap(), text.trim()] {
        let mut script = Person::nobody(&server.base);
        script.token = token.to_owned();
        assert_eq!(script.get("/rooms").await.status(), StatusCode::OK);
    }
    let logged = server.output();
    assert_lacks(&logged, PASSWORD);
    assert_lacks(&logged, &ana.token);
    assert_lacks(&logged, "mongodb-mongodb");
}

async fn each_fields_error_stands_at_the_field(backend: Backend) {
    let server = Server::start(backend).await;
    server.person("ana").await;
    let nobody = Person::nobody(&server.base);
    let form = [
        ("username", "a b"),
        ("email", "nonsense"),
        ("password", "short"),
    ];
    let answer = nobody.post("/signup", &form).await;
    assert_eq!(answer.status(), StatusCode::UNPROCESSABLE_ENTITY);
    let page = answer.text().await.unwrap();
    for kept in [
        "value=\"a b\"",
        "value=\"nonsense\"",
        "id=\"username-says\"",
        "id=\"password-says\"",
    ] {
        assert_contains(&page, kept);
    }
    assert_eq!(page.matches("class=\"error\"").count(), 3);
    assert_lacks(&page, "value=\"short\"");

    let wrong = async |form: &[(&str, &str)]| -> Value {
        let request = nobody.request(Method::POST, "/signup").form(form);
        let answer = request
            .header(ACCEPT, "application/json")
            .send()
            .await
            .unwrap();
        assert_eq!(answer.status(), StatusCode::UNPROCESSABLE_ENTITY);
        assert_eq!(answer.headers()["content-type"], "application/problem+json");
        let problem: Value = answer.json().await.unwrap();
        assert_eq!(problem["status"], 422);
        problem["errors"].clone()
    };
    // Cyrillic, invisible, right-to-left: names that could pass for another.
    for name in [
        "аna",
        "an\u{200b}a",
        "\u{202e}ana",
        "АNA",
        "a",
        &"x".repeat(33),
    ] {
        let errors = wrong(&[
            ("username", name),
            ("email", "b@c.d"),
            ("password", PASSWORD),
        ])
        .await;
        assert!(errors["username"].is_string(), "{name}: {errors}");
        assert!(errors["email"].is_null());
    }
    let errors = wrong(&[
        ("username", "ANA"),
        ("email", "b@c.d"),
        ("password", PASSWORD),
    ])
    .await;
    assert_contains(
        errors["username"].as_str().unwrap(),
        "Somebody has this name",
    );
    let form = [
        ("username", "ben"),
        ("email", "ANA@example.org"),
        ("password", "qwertyuiop"),
    ];
    let errors = wrong(&form).await;
    assert_contains(errors["password"].as_str().unwrap(), "lists");
    let form = [
        ("username", "ben"),
        ("email", "ANA@example.org"),
        ("password", PASSWORD),
    ];
    assert!(wrong(&form).await["email"].is_string());
}

async fn two_racing_for_one_name(backend: Backend) {
    let server = Server::start(backend).await;
    let sign_up = |email: &'static str| {
        let form = [
            ("username", "ana"),
            ("email", email),
            ("password", PASSWORD),
        ];
        Person::nobody(&server.base)
            .request(Method::POST, "/signup")
            .form(&form)
            .send()
    };
    let (one, two) = tokio::join!(sign_up("one@example.org"), sign_up("two@example.org"));
    let mut statuses = [
        one.unwrap().status().as_u16(),
        two.unwrap().status().as_u16(),
    ];
    statuses.sort_unstable();
    assert_eq!(statuses, [303, 422]);
}

async fn wrong_pairs_all_look_the_same(backend: Backend) {
    let server = Server::start(backend).await;
    server.person("ana").await;
    let nobody = Person::nobody(&server.base);
    let long = "x".repeat(5_000);
    let pairs = [
        ("ana", "not her password"),
        ("nobody", PASSWORD),
        ("nobody@example.org", PASSWORD),
        ("", ""),
        ("no name at all!", &long),
    ];
    let mut said = Vec::new();
    let mut took = [Duration::MAX; 5];
    // Each costs a hash: the fastest of an unknown name is no shortcut.
    let is_alike = |took: &[Duration; 5]| {
        let (least, most) = (took.iter().min().unwrap(), took.iter().max().unwrap());
        *most < *least * 3
    };
    // In turns, and the best of ten or more, so that what else this machine does falls on all alike: a
    // shortcut would stay the fastest, however often it is tried.
    for round in 0..60 {
        if round >= 10 && is_alike(&took) {
            break;
        }
        for ((name, password), best) in pairs.iter().zip(&mut took) {
            let began = Instant::now();
            let form = [("username", *name), ("password", *password)];
            let answer = nobody.post("/login", &form).await;
            *best = began.elapsed().min(*best);
            assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
            let page = answer.text().await.unwrap();
            assert_lacks(&page, "not her password");
            let error = page
                .split("class=\"error\"")
                .nth(1)
                .unwrap()
                .split("</p>")
                .next();
            said.push(error.unwrap().to_owned());
        }
    }
    said.dedup();
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(is_alike(&took), "{took:?}");
}

async fn pages_lead_to_the_sign_in_and_back(backend: Backend) {
    let server = Server::start(backend).await;
    let nobody = Person::nobody(&server.base);
    let page = nobody.get("/rooms/tea?before=3").await;
    assert_eq!(page.status(), StatusCode::SEE_OTHER);
    let login = page.headers()["location"].to_str().unwrap();
    assert_eq!(login, "/login?next=/rooms/tea%3Fbefore%3D3");
    assert_contains(
        &nobody.get(login).await.text().await.unwrap(),
        "value=\"/rooms/tea?before=3\"",
    );

    for (accept, kind) in [
        ("application/json", "application/problem+json"),
        ("text/plain", "text/plain; charset=utf-8"),
    ] {
        let answer = nobody.get_as(accept, "/rooms").await;
        assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
        assert_eq!(answer.headers()["content-type"], kind);
    }
    let stream = nobody.get("/rooms/tea/events").await;
    assert_eq!(stream.status(), StatusCode::UNAUTHORIZED);
    let fragment = nobody
        .request(Method::POST, "/rooms/tea/messages")
        .header("hx-request", "true")
        .header("hx-request-type", "partial")
        .header("hx-current-url", format!("{}/rooms/tea", server.base))
        .send()
        .await
        .unwrap();
    assert_eq!(fragment.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(fragment.headers()["hx-redirect"], "/login?next=/rooms/tea");
}

async fn a_signed_out_token_is_refused_at_once(backend: Backend) {
    let server = Server::start(backend).await;
    let ana = server.person("ana").await;
    ana.enters("tea").await;
    let mut stream = ana.listens("tea", 1).await;
    let mut page_stream = ana.listens("tea", 1).await;
    let mut poll = tokio::spawn({
        let ana = ana.clone();
        async move {
            ana.get_as("application/json", "/rooms/tea/messages?after=1&wait=30")
                .await
        }
    });
    assert!(
        tokio::time::timeout(Duration::from_millis(300), &mut poll)
            .await
            .is_err()
    );

    let answer = ana
        .request(Method::POST, "/logout")
        .header(ACCEPT, "application/json")
        .send();
    assert_eq!(answer.await.unwrap().status(), StatusCode::NO_CONTENT);
    let began = Instant::now();
    stream.next_notice("signed-out").await;
    stream.ends().await;
    page_stream.ends().await;
    assert_eq!(poll.await.unwrap().status(), StatusCode::UNAUTHORIZED);
    assert!(
        began.elapsed() < Duration::from_secs(2),
        "{:?}",
        began.elapsed()
    );

    let refused = ana.get_as("application/json", "/rooms").await;
    assert_eq!(refused.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(
        ana.get("/rooms/tea/events").await.status(),
        StatusCode::UNAUTHORIZED
    );
    // The page's own stream says it in a way that its script understands.
    let mut dead = ana
        .listens_at("/rooms/tea/events?format=html&after=1", Default::default())
        .await;
    assert_eq!(dead.status, StatusCode::OK);
    dead.next_notice("signed-out").await;
    dead.ends().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn changing_the_key_signs_nobody_out() {
    let (old, new) = ("old-".repeat(8), "new-".repeat(8));
    let mut server = Server::start_with(Backend::Sqlite, &[("JWT_SECRET", &old)]).await;
    let ana = server.person("ana").await;
    server.kill();
    server.start_again_with("JWT_SECRET", &new).await;
    assert_eq!(
        ana.get_as("text/plain", "/rooms").await.status(),
        StatusCode::UNAUTHORIZED
    );
    server.kill();
    server.start_again_with("JWT_SECRET_PREVIOUS", &old).await;
    assert_eq!(
        ana.get_as("text/plain", "/rooms").await.status(),
        StatusCode::OK
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn over_https_the_cookie_is_bound_to_the_host() {
    let settings = [("PUBLIC_URL", "https://chat.example.org")];
    let server = Server::start_with(Backend::Sqlite, &settings).await;
    let form = [
        ("username", "ana"),
        ("email", "a@b.c"),
        ("password", PASSWORD),
    ];
    let answer = Person::nobody(&server.base).post("/signup", &form).await;
    let cookie = answer.headers()[SET_COOKIE].to_str().unwrap();
    for part in ["__Host-parlor=", "; Secure", "; HttpOnly", "; Path=/"] {
        assert_contains(cookie, part);
    }
    assert!(answer.headers().contains_key("strict-transport-security"));
}
