//! One's own account: its password and its sessions.

use std::sync::Arc;
use std::time::Duration;

use parlor::domain::{LinkSecret, PasswordChange, Reset, Session, SessionId, Timestamp};
use reqwest::header::{ACCEPT, USER_AGENT};
use reqwest::{Method, StatusCode};
use serde_json::Value;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::access::posts;
use crate::store_contract::{open, sign_in};
use crate::support::{Backend, PASSWORD, Person, Server, assert_contains, eventually};

on_both_stores!(
    what_is_ones_own_is_taken_along,
    a_changed_password_ends_all_other_sessions,
    what_is_wrong_with_a_password_is_said,
    sessions_are_listed_and_ended,
    no_sign_in_survives_a_change_of_its_password,
    a_reset_outlives_a_change_that_was_checked_before,
);

const NEW: &str = "four other words here";

async fn signs_in(who: &Person, password: &str) -> StatusCode {
    let form = [("username", who.name.as_str()), ("password", password)];
    let nobody = Person::nobody(&who.base);
    let request = nobody.request(Method::POST, "/login").form(&form);
    request
        .header(ACCEPT, "application/json")
        .send()
        .await
        .unwrap()
        .status()
}

/// Invariant: within two seconds of a change nothing that was signed in before is, at any node, but who made it.
async fn a_changed_password_ends_all_other_sessions(backend: Backend) {
    let server = Server::start(backend).await;
    let other = server.another_node_on(backend).await;
    let ana = server.person("ana").await;
    ana.enters("tea").await;
    let elsewhere = ana.signs_in_again().await;
    let there = elsewhere.at(&other.as_ref().unwrap_or(&server).base);
    let own = ana.get("/rooms/tea/events").await;
    assert_eq!(own.status(), StatusCode::OK);
    let mut ends = JoinSet::new();
    for who in [elsewhere.clone(), there.clone()] {
        let stream = who.get("/rooms/tea/events").await;
        assert_eq!(stream.status(), StatusCode::OK);
        ends.spawn(async move { stream.text().await.unwrap() });
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    let form = [("current", PASSWORD), ("password", NEW)];
    let changed = ana.post("/account/password", &form).await;
    assert_eq!(changed.status(), StatusCode::SEE_OTHER);
    let ends = timeout(Duration::from_secs(2), ends.join_all()).await;
    for said in ends.expect("streams go on") {
        assert_contains(&said, "event: signed-out\n");
    }
    let is_out = async || there.get("/rooms/tea").await.status() == StatusCode::SEE_OTHER;
    eventually("the other node knows", Duration::from_secs(2), is_out).await;
    assert_eq!(ana.get("/rooms/tea").await.status(), StatusCode::OK);
    assert_eq!(signs_in(&ana, PASSWORD).await, StatusCode::UNAUTHORIZED);
    assert_eq!(signs_in(&ana, NEW).await, StatusCode::OK);
    let page = ana
        .get("/account?said=password")
        .await
        .text()
        .await
        .unwrap();
    assert_contains(&page, "Your password is changed");
    drop(own);
}

async fn what_is_wrong_with_a_password_is_said(backend: Backend) {
    let server = Server::start(backend).await;
    let ana = server.person("ana").await;
    for (current, password, says) in [
        ("not mine at all", NEW, "This is not your password."),
        ("", NEW, "This is not your password."),
        (PASSWORD, "short", "at least 10 characters"),
        (PASSWORD, "1234567890", "on lists that are tried first"),
        (PASSWORD, "", "at least 10 characters"),
    ] {
        let form = [("current", current), ("password", password)];
        let page = ana.post("/account/password", &form).await;
        assert_eq!(page.status(), StatusCode::UNPROCESSABLE_ENTITY);
        assert_contains(&page.text().await.unwrap(), says);
        let status = posts(&ana, "/account/password", &form).await;
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
    }
    assert_eq!(signs_in(&ana, PASSWORD).await, StatusCode::OK);
}

async fn sessions_are_listed_and_ended(backend: Backend) {
    let server = Server::start(backend).await;
    let (ana, ben) = (server.person("ana").await, server.person("ben").await);
    let form = [("username", "ana"), ("password", PASSWORD)];
    let agent = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0";
    let browser = Person::nobody(&ana.base);
    let request = browser.request(Method::POST, "/login").form(&form);
    request.header(USER_AGENT, agent).send().await.unwrap();
    for _ in 0..2 {
        ana.signs_in_again().await;
    }
    let account = ana.json("/account").await;
    assert_eq!(account["username"], "ana");
    assert_eq!(account["email"], "ana@example.org");
    assert_eq!(account["role"], "admin");
    let sessions = account["sessions"].as_array().unwrap();
    assert_eq!(sessions.len(), 4);
    let current: Vec<&Value> = sessions
        .iter()
        .filter(|one| one["current"] == true)
        .collect();
    assert_eq!(current.len(), 1);
    assert_eq!(current[0]["address"], "127.0.0.1");
    let firefox = sessions
        .iter()
        .find(|one| one["device"] == "Firefox on Linux");
    let firefox = firefox.unwrap()["id"].as_str().unwrap();
    let page = ana.get("/account").await.text().await.unwrap();
    assert_contains(&page, "Firefox on Linux");

    // Nobody ends another's.
    let end = format!("/account/sessions/{firefox}/end");
    assert_eq!(posts(&ben, &end, &[]).await, StatusCode::NOT_FOUND);
    assert_eq!(
        posts(&ana, "/account/sessions/nonsense/end", &[]).await,
        StatusCode::NOT_FOUND
    );
    let lobby = browser
        .with_cookie(Method::GET, "/rooms")
        .send()
        .await
        .unwrap();
    assert_eq!(lobby.status(), StatusCode::OK);
    assert_eq!(ana.post(&end, &[]).await.status(), StatusCode::SEE_OTHER);
    let lobby = browser
        .with_cookie(Method::GET, "/rooms")
        .send()
        .await
        .unwrap();
    assert_eq!(lobby.status(), StatusCode::SEE_OTHER);
    assert_eq!(posts(&ana, &end, &[]).await, StatusCode::NOT_FOUND);
    let others = posts(&ana, "/account/sessions/others/end", &[]).await;
    assert_eq!(others, StatusCode::NO_CONTENT);
    let account = ana.json("/account").await;
    assert_eq!(account["sessions"].as_array().unwrap().len(), 1);
    assert_eq!(ben.get("/rooms").await.status(), StatusCode::OK);
}

/// The change of a password that was checked against the first there was.
fn change(session: Session, to: &str) -> PasswordChange {
    PasswordChange {
        user: session.user,
        from: sign_in(session).password_hash,
        to: to.to_owned(),
        but: session.id,
    }
}

/// Invariant: whoever knows the password and changes it while its owner resets it does not have the last word; and a
/// change takes back the link.
async fn a_reset_outlives_a_change_that_was_checked_before(backend: Backend) {
    let opened = open(backend).await;
    let store = &opened.store;
    for round in 0..20 {
        let user = opened.user(&format!("ana{round}")).await;
        let thief = Session {
            id: SessionId::new(),
            user: user.id,
            created_at: Timestamp::now(),
            expires_at: Timestamp::now().after(Duration::from_secs(60)),
        };
        assert!(store.add_session(sign_in(thief)).await.unwrap());
        let secret_hash = LinkSecret::hash(&format!("secret {round}"));
        let reset = Reset {
            secret_hash: secret_hash.clone(),
            user: user.id,
            expires_at: thief.expires_at,
        };
        store.add_reset(reset).await.unwrap();
        let stolen = change(thief, "stolen");
        let spent = match round {
            // One after the other.
            0 => {
                let spent = store.spend_reset(&secret_hash, "owned").await.unwrap();
                assert!(!store.set_password(stolen).await.unwrap());
                spent
            }
            1 => {
                assert!(store.set_password(stolen).await.unwrap());
                store.spend_reset(&secret_hash, "owned").await.unwrap()
            }
            _ => {
                let spending = store.spend_reset(&secret_hash, "owned");
                let (changed, spent) = tokio::join!(store.set_password(stolen), spending);
                let spent = spent.unwrap();
                assert!(changed.unwrap() || spent.is_some(), "one is done");
                spent
            }
        };
        let password = store.account(user.id).await.unwrap().unwrap().password_hash;
        let expected = if spent.is_some() { "owned" } else { "stolen" };
        assert_eq!(password, expected, "round {round}");
        let is_in = store.find_session(thief.id).await.unwrap().is_some();
        assert_eq!(is_in, spent.is_none(), "round {round}");
        assert_eq!(store.reset_for(&secret_hash).await.unwrap(), None);
    }
}

/// Invariant: a sign-in whose password was checked before it was changed does not outlive the change.
async fn no_sign_in_survives_a_change_of_its_password(backend: Backend) {
    let opened = open(backend).await;
    let store = &opened.store;
    let ana = opened.user("ana").await;
    let session = || Session {
        id: SessionId::new(),
        user: ana.id,
        created_at: Timestamp::now(),
        expires_at: Timestamp::now().after(Duration::from_secs(60)),
    };
    let own = session();
    assert!(store.add_session(sign_in(own)).await.unwrap());
    let mut all = JoinSet::new();
    let mut ids = Vec::new();
    for number in 0..40 {
        let (store, session) = (Arc::clone(store), session());
        ids.push(session.id);
        all.spawn(async move {
            if number == 20 {
                let change = change(own, "$argon2id$another");
                assert!(store.set_password(change).await.unwrap());
            } else {
                store.add_session(sign_in(session)).await.unwrap();
            }
        });
    }
    all.join_all().await;
    for id in ids {
        assert_eq!(store.find_session(id).await.unwrap(), None);
    }
    let left = store.sessions_of(ana.id).await.unwrap();
    assert_eq!(
        left.iter().map(|one| one.session.id).collect::<Vec<_>>(),
        [own.id]
    );
    assert!(!store.add_session(sign_in(session())).await.unwrap());
}

async fn what_is_ones_own_is_taken_along(backend: Backend) {
    let server = Server::start(backend).await;
    let (ana, ben) = (server.person("ana").await, server.person("ben").await);
    for room in ["den", "tea"] {
        ana.enters(room).await;
        ben.enters(room).await;
    }
    ana.says_often("tea", "mine", 450).await;
    let deleted = ana.says("tea", "not any more").await;
    ana.post(&format!("/rooms/tea/messages/{deleted}/delete"), &[])
        .await;
    ben.says("tea", "THEIRS").await;
    ana.says("den", "the first").await;
    ana.post("/account/blocks", &[("username", "ben")]).await;
    let answer = ana.get("/account/export").await;
    assert_eq!(answer.headers()["content-type"], "application/x-ndjson");
    assert_contains(
        answer.headers()["content-disposition"].to_str().unwrap(),
        "attachment",
    );
    let text = answer.text().await.unwrap();
    let lines: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let of = |kind: &str| {
        lines
            .iter()
            .filter(|line| line["record"] == kind)
            .collect::<Vec<_>>()
    };
    assert_eq!(of("account")[0]["email"], "ana@example.org");
    assert_eq!(of("room").len(), 2);
    assert_eq!(of("blocked")[0]["user"]["username"], "ben");
    let messages = of("message");
    assert_eq!(messages.len(), 451);
    assert_eq!(messages[0]["message"]["body"], "the first");
    let numbers: Vec<u64> = { messages[1..].iter() }
        .map(|line| line["message"]["seq"].as_u64().unwrap())
        .collect();
    assert!(numbers.is_sorted_by(|a, b| a < b));
    for other in ["THEIRS", "not any more", "argon2"] {
        assert!(!text.contains(other), "{other}");
    }
}
