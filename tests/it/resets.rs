//! Links by which somebody who has forgotten their password chooses another.

use std::sync::Arc;
use std::time::Duration;

use parlor::domain::{LinkSecret, Reset, Timestamp};
use reqwest::header::ACCEPT;
use reqwest::{Method, StatusCode};
use serde_json::Value;
use tokio::task::JoinSet;

use crate::access::posts;
use crate::store_contract::open;
use crate::support::{
    Backend, NONE, PASSWORD, Person, Server, assert_contains, assert_lacks, copies, eventually,
};

on_both_stores!(
    a_link_is_spent_once,
    a_reset_lets_its_owner_in_and_everybody_else_out,
    of_fifty_who_spend_a_link_one_does,
);

const NEW: &str = "four other words here";

async fn a_link_is_spent_once(backend: Backend) {
    let opened = open(backend).await;
    let store = &opened.store;
    let (ana, ben) = (opened.user("ana").await, opened.user("ben").await);
    let add = async |secret: &str, user: &parlor::domain::User, lasts: Duration| {
        let reset = Reset {
            secret_hash: LinkSecret::hash(secret),
            user: user.id,
            expires_at: Timestamp::now().after(lasts),
        };
        store.add_reset(reset).await.unwrap();
    };
    let day = Duration::from_secs(86_400);
    add("first", &ana, day).await;
    add("second", &ana, day).await;
    add("bens", &ben, day).await;
    add("over", &opened.user("cleo").await, Duration::ZERO).await;
    let whose = async |secret: &str| {
        let user = store.reset_for(&LinkSecret::hash(secret)).await.unwrap();
        user.map(|user| user.username.as_str().to_owned())
    };
    // Looking spends nothing; a newer one takes the place of the one before.
    for _ in 0..3 {
        assert_eq!(whose("second").await.as_deref(), Some("ana"));
    }
    for none in ["first", "over", "nothing", ""] {
        assert_eq!(whose(none).await, None, "{none}");
        let spent = store
            .spend_reset(&LinkSecret::hash(none), "x")
            .await
            .unwrap();
        assert_eq!(spent, None, "{none}");
    }
    let hash = LinkSecret::hash("second");
    assert_eq!(
        store.spend_reset(&hash, "new").await.unwrap(),
        Some(ana.clone())
    );
    assert_eq!(store.spend_reset(&hash, "newer").await.unwrap(), None);
    let account = store.account(ana.id).await.unwrap().unwrap();
    assert_eq!(account.password_hash, "new");
    assert_eq!(whose("bens").await.as_deref(), Some("ben"));
}

/// Invariant: of those who spend one link at once, one chooses the password.
async fn of_fifty_who_spend_a_link_one_does(backend: Backend) {
    let opened = open(backend).await;
    let store = &opened.store;
    let ana = opened.user("ana").await;
    let hash = LinkSecret::hash("secret");
    let reset = Reset {
        secret_hash: hash.clone(),
        user: ana.id,
        expires_at: Timestamp::now().after(Duration::from_secs(60)),
    };
    store.add_reset(reset).await.unwrap();
    let mut all = JoinSet::new();
    for number in 0..50 {
        let (store, hash) = (Arc::clone(store), hash.clone());
        all.spawn(async move {
            let own = format!("hash {number}");
            let spent = store.spend_reset(&hash, &own).await.unwrap();
            spent.map(|_| own)
        });
    }
    let spent: Vec<String> = all.join_all().await.into_iter().flatten().collect();
    let account = store.account(ana.id).await.unwrap().unwrap();
    assert_eq!(spent, [account.password_hash]);
}

async fn a_reset_lets_its_owner_in_and_everybody_else_out(backend: Backend) {
    let server = Server::start(backend).await;
    let other = server.another_node_on(backend).await;
    let (admin, ana) = (server.person("admin").await, server.person("ana").await);
    let there = ana.at(&other.as_ref().unwrap_or(&server).base);
    assert_eq!(there.get("/rooms").await.status(), StatusCode::OK);
    let refused = posts(&ana, "/admin/people/ana/reset", &[]).await;
    assert_eq!(refused, StatusCode::FORBIDDEN);
    let answer = admin.request(Method::POST, "/admin/people/ana/reset");
    let answer = answer
        .header(ACCEPT, "application/json")
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), StatusCode::CREATED);
    let link: Value = answer.json().await.unwrap();
    let link = link["link"].as_str().unwrap().to_owned();
    let path = link.strip_prefix(&server.base).unwrap().to_owned();
    let nobody = Person::nobody(&server.base);
    for _ in 0..2 {
        let page = nobody.get(&path).await;
        assert_eq!(page.status(), StatusCode::OK);
        assert_contains(&page.text().await.unwrap(), "Choose a password, ana");
    }
    let page = nobody.post(&path, &[("password", "short")]).await;
    assert_eq!(page.status(), StatusCode::UNPROCESSABLE_ENTITY);
    assert_contains(&page.text().await.unwrap(), "at least 10 characters");
    let chosen = nobody.post(&path, &[("password", NEW)]).await;
    assert_eq!(chosen.status(), StatusCode::SEE_OTHER);
    assert_eq!(chosen.headers()["location"], "/login");
    let over = nobody.get(&path).await;
    assert_eq!(over.status(), StatusCode::NOT_FOUND);
    assert_contains(&over.text().await.unwrap(), "This link was used");
    assert_eq!(
        posts(&nobody, &path, &[("password", NEW)]).await,
        StatusCode::NOT_FOUND
    );
    assert_eq!(ana.get("/rooms").await.status(), StatusCode::SEE_OTHER);
    let is_out = async || there.get("/rooms").await.status() == StatusCode::SEE_OTHER;
    eventually("the other node knows", Duration::from_secs(2), is_out).await;
    for (password, status) in [
        (PASSWORD, StatusCode::UNAUTHORIZED),
        (NEW, StatusCode::SEE_OTHER),
    ] {
        let form = [("username", "ana"), ("password", password)];
        assert_eq!(nobody.post("/login", &form).await.status(), status);
    }
    // The secret is in no log.
    let secret = path.strip_prefix("/reset/").unwrap();
    assert_lacks(&server.output(), secret);
    assert_contains(&server.output(), "/reset/…");
    // It is kept as a hash alone.
    let unused = admin.request(Method::POST, "/admin/people/ana/reset");
    let unused = unused.header(ACCEPT, "text/plain").send().await.unwrap();
    let unused = unused.text().await.unwrap();
    let (_, unused) = unused.trim().split_once("/reset/").unwrap();
    for secret in [secret, unused] {
        assert_eq!(copies(&server, backend, secret).await, NONE);
    }
}
