//! Guessing passwords: slowed down for who guesses, from wherever, and for nobody else.

use std::time::Duration;

use reqwest::header::ACCEPT;
use reqwest::{Method, StatusCode};
use tokio::task::JoinSet;

use crate::support::{Backend, PASSWORD, Person, Server};

on_both_stores!(
    an_owner_at_home_gets_in_whatever_others_try,
    a_limit_outlives_a_restart,
    an_answer_depends_on_what_was_typed_alone,
    an_address_is_one_however_its_domain_is_spelled,
);

const SETTINGS: [(&str, &str); 2] = [("RATE_LIMITS", "on"), ("TRUSTED_PROXIES", "127.0.0.0/8")];

/// Tries to sign in from an address, as a proxy passes it on.
async fn tries(server: &Server, from: &str, name: &str, password: &str) -> StatusCode {
    let request = Person::nobody(&server.base).request(Method::POST, "/login");
    let request = request.header("x-forwarded-for", from);
    let form = [("username", name), ("password", password)];
    request.form(&form).send().await.unwrap().status()
}

async fn signs_up_from(server: &Server, from: &str, name: &str, email: &str) -> StatusCode {
    let request = Person::nobody(&server.base).request(Method::POST, "/signup");
    let request = request.header("x-forwarded-for", from);
    let form = [("username", name), ("email", email), ("password", PASSWORD)];
    request.form(&form).send().await.unwrap().status()
}

/// Wrong guesses from many networks, ten each, until they are refused wherever they come from: a hundred
/// if they are quick.
async fn is_attacked(server: &Server, name: &str) {
    for network in 0..30 {
        for _ in 0..10 {
            let status = tries(server, &format!("198.51.{network}.7"), name, "wrong guess").await;
            if status == StatusCode::TOO_MANY_REQUESTS {
                assert!(network >= 10);
                return;
            }
            assert_eq!(status, StatusCode::UNAUTHORIZED);
        }
    }
    panic!("300 guesses were let through");
}

/// Wrong guesses, each from a network that has made none, until one is refused.
async fn others_take_what_room_there_is(server: &Server, name: &str) {
    for network in 100..130 {
        let from = format!("198.51.{network}.7");
        if tries(server, &from, name, "wrong guess").await == StatusCode::TOO_MANY_REQUESTS {
            return;
        }
    }
    panic!("30 guesses were let through");
}

async fn an_owner_at_home_gets_in_whatever_others_try(backend: Backend) {
    let mut server = Server::start_with(backend, &SETTINGS).await;
    let home = "192.0.2.1";
    let status = signs_up_from(&server, home, "ana", "ana@example.org").await;
    assert_eq!(status, StatusCode::SEE_OTHER);
    is_attacked(&server, "ana").await;
    assert_eq!(
        tries(&server, home, "ana", PASSWORD).await,
        StatusCode::SEE_OTHER
    );
    // The neighbour of an IPv6 household is not at home. On a slow machine there may be room for a guess
    // by now, which the others take first.
    others_take_what_room_there_is(&server, "ana").await;
    assert_eq!(
        tries(&server, "2001:db8::1", "ana", PASSWORD).await,
        StatusCode::TOO_MANY_REQUESTS
    );
    server.kill();
    server.start_again().await;
    assert_eq!(
        tries(&server, home, "ana", PASSWORD).await,
        StatusCode::SEE_OTHER
    );
}

async fn a_limit_outlives_a_restart(backend: Backend) {
    let mut server = Server::start_with(backend, &SETTINGS).await;
    signs_up_from(&server, "192.0.2.1", "ana", "ana@example.org").await;
    for _ in 0..10 {
        let status = tries(&server, "192.0.2.7", "ana", "wrong guess").await;
        assert_eq!(status, StatusCode::UNAUTHORIZED);
    }
    server.kill();
    server.start_again().await;
    let status = tries(&server, "192.0.2.7", "ana", "wrong guess").await;
    assert_eq!(status, StatusCode::TOO_MANY_REQUESTS);
    let status = tries(&server, "192.0.2.8", "ana", "wrong guess").await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
}

async fn an_answer_depends_on_what_was_typed_alone(backend: Backend) {
    let server = Server::start_with(backend, &SETTINGS).await;
    signs_up_from(&server, "192.0.2.1", "linka", "secret@example.org").await;
    signs_up_from(&server, "192.0.2.1", "ben", "ben@example.org").await;
    for typed in ["linka", "nobody"] {
        for _ in 0..10 {
            let status = tries(&server, "192.0.2.7", typed, "wrong guess").await;
            assert_eq!(status, StatusCode::UNAUTHORIZED);
        }
        let status = tries(&server, "192.0.2.7", typed, "wrong guess").await;
        assert_eq!(status, StatusCode::TOO_MANY_REQUESTS);
        // Another spelling of the same name is the same.
        let status = tries(&server, "192.0.2.7", &typed.to_uppercase(), "wrong guess").await;
        assert_eq!(status, StatusCode::TOO_MANY_REQUESTS);
    }
    for address in [
        "secret@example.org",
        "ben@example.org",
        "nobody@example.org",
    ] {
        let status = tries(&server, "192.0.2.7", address, "wrong guess").await;
        assert_eq!(status, StatusCode::UNAUTHORIZED, "{address}");
    }
}

async fn an_address_is_one_however_its_domain_is_spelled(backend: Backend) {
    let server = Server::start(backend).await;
    let ascii = "jorg@xn--mller-kva.example";
    let status = signs_up_from(&server, "192.0.2.1", "jorg", ascii).await;
    assert_eq!(status, StatusCode::SEE_OTHER);
    for typed in ["jorg@müller.example", "JORG@MÜLLER.example", ascii] {
        assert_eq!(
            tries(&server, "192.0.2.1", typed, PASSWORD).await,
            StatusCode::SEE_OTHER
        );
        let status = signs_up_from(&server, "192.0.2.1", "george", typed).await;
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{typed}");
    }
    for (number, name) in ["ကျော်", "علی\u{200c}رضا", "李"].into_iter().enumerate()
    {
        let email = format!("{number}@example.org");
        let status = signs_up_from(&server, "192.0.2.1", name, &email).await;
        assert_eq!(status, StatusCode::SEE_OTHER, "{name}");
        assert_eq!(
            tries(&server, "192.0.2.1", name, PASSWORD).await,
            StatusCode::SEE_OTHER
        );
    }
}

/// Half as many threads hash as there are cores, some 50 a second each; twice that is tried from as
/// many networks.
#[tokio::test(flavor = "multi_thread")]
async fn a_crowd_that_guesses_keeps_nobody_out_at_home() {
    let server = Server::start_with(Backend::Sqlite, &SETTINGS).await;
    for number in 0..8 {
        let (home, name) = (format!("192.0.2.{number}"), format!("ana{number}"));
        let email = format!("{name}@example.org");
        let status = signs_up_from(&server, &home, &name, &email).await;
        assert_eq!(status, StatusCode::SEE_OTHER);
    }
    let guessing = {
        let base = server.base.clone();
        tokio::spawn(async move {
            let mut guesses = JoinSet::new();
            for number in 0..1_500_u32 {
                let nobody = Person::nobody(&base);
                // Each from a site of its own.
                let from = format!("2001:db8:{:x}:{number:x}::1", number);
                guesses.spawn(async move {
                    let request = nobody.request(Method::POST, "/login");
                    let request = request.header("x-forwarded-for", from);
                    let form = [("username", "ana0"), ("password", "wrong guess")];
                    let _ = request.form(&form).send().await;
                });
                tokio::time::sleep(Duration::from_millis(4)).await;
            }
            guesses.join_all().await;
        })
    };
    tokio::time::sleep(Duration::from_secs(2)).await;
    let mut right = 0;
    for round in 0..3 {
        for number in 0..8 {
            let (home, name) = (format!("192.0.2.{number}"), format!("ana{number}"));
            let status = tries(&server, &home, &name, PASSWORD).await;
            right += u32::from(status == StatusCode::SEE_OTHER);
        }
        assert!(
            !guessing.is_finished(),
            "round {round} came too late to mean anything"
        );
    }
    assert_eq!(right, 24, "some were refused at home");
    guessing.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_second_of_two_equal_sign_ups_is_the_first() {
    let server = Server::start_with(Backend::Sqlite, &[("RATE_LIMITS", "on")]).await;
    let sign_up = async |name: &str, email: &str, password: &str| {
        let form = [("username", name), ("email", email), ("password", password)];
        let request = Person::nobody(&server.base).request(Method::POST, "/signup");
        let answer = request
            .header(ACCEPT, "application/json")
            .form(&form)
            .send();
        let answer = answer.await.unwrap();
        let status = answer.status();
        let answer: serde_json::Value = answer.json().await.unwrap();
        (status, answer["user"]["id"].clone())
    };
    let same = || sign_up("ana", "ana@example.org", PASSWORD);
    let (first, second, third) = tokio::join!(same(), same(), same());
    assert_eq!(first.0, StatusCode::CREATED);
    assert_eq!(first, second);
    assert_eq!(first, third);
    for (name, email, password) in [
        ("ana", "ana@example.org", "another password"),
        ("ana", "ben@example.org", PASSWORD),
        ("ben", "ana@example.org", PASSWORD),
    ] {
        let (status, _) = sign_up(name, email, password).await;
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{name} {email}");
    }
    // It is no way around the limit on guesses.
    let mut refused = false;
    for number in 0..12 {
        let guess = format!("wrong guess {number}");
        let (status, _) = sign_up("ana", "ana@example.org", &guess).await;
        refused |= status == StatusCode::TOO_MANY_REQUESTS;
    }
    assert!(refused);
}
