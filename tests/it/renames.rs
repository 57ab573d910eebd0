//! Being called otherwise, and signing in with another address.

use std::sync::Arc;
use std::time::Duration;

use parlor::domain::{Email, Guest, KeptMessages, Login, ProfileChange, UserId, Username};
use parlor::store::{Store, StoreError, UserField};
use reqwest::{Method, StatusCode};
use serde_json::Value;
use tokio::task::JoinSet;

use crate::access::{makes, posts, sends};
use crate::store_contract::{message, new_user, open, room};
use crate::support::{
    Backend, NONE, PASSWORD, Person, Server, assert_contains, assert_lacks, copies, eventually,
};

on_both_stores!(
    a_name_is_somebodys_for_good,
    a_profile_changes_in_one_step,
    a_new_address_ends_the_links_to_the_old_one,
    of_fifty_who_want_a_name_one_gets_it,
    of_fifty_who_want_a_name_at_two_nodes_one_gets_it,
    nobody_gets_a_name_that_is_being_given_up,
    a_rename_shows_everywhere,
    a_name_changes_twice_a_month,
    an_address_takes_the_password,
);

fn is_taken<T>(done: &Result<T, StoreError>) -> bool {
    matches!(done, Err(StoreError::Taken(UserField::Username)))
}

async fn renamed(store: &Arc<dyn Store>, user: UserId, name: Username) -> Result<bool, StoreError> {
    let username = Some(name);
    let change = ProfileChange {
        username,
        email: None,
    };
    store.set_profile(user, change).await
}

fn name(raw: &str) -> Username {
    Username::parse(raw).unwrap()
}

async fn a_name_is_somebodys_for_good(backend: Backend) {
    let opened = open(backend).await;
    let store = &opened.store;
    let (ana, ben) = (opened.user("ana").await, opened.user("ben").await);
    store.join(&room("tea"), &ana, None).await.unwrap();
    store
        .append(&room("tea"), message(&ana, "hello", None))
        .await
        .unwrap();
    renamed(store, ana.id, name("Anna")).await.unwrap();
    let account = store.account(ana.id).await.unwrap().unwrap();
    assert_eq!(account.user.username.as_str(), "Anna");
    let events = store.page_after(&room("tea"), 0, 10).await.unwrap();
    assert!(events.iter().all(|event| &*event.author.username == "Anna"));
    let found = store.find_account(&Login::named("ANNA")).await.unwrap();
    assert_eq!(found.unwrap().user.id, ana.id);
    assert!(
        store
            .find_account(&Login::named("ana"))
            .await
            .unwrap()
            .is_none()
    );
    // Neither what she was called nor what she is, nor what looks like it.
    for taken in ["ana", "ANA", "anna", "АNA"] {
        let Ok(taken) = Username::parse(taken) else {
            continue;
        };
        assert!(
            is_taken(&renamed(store, ben.id, taken.clone()).await),
            "{taken:?}"
        );
        let mut new = new_user("other");
        new.user.username = taken;
        let added = store.add_user(new).await.map(drop);
        assert!(is_taken(&added), "{added:?}");
    }
    // Nothing of a rename that was refused stays.
    let account = store.account(ben.id).await.unwrap().unwrap();
    assert_eq!(account.user.username.as_str(), "ben");
    // She may go back, and the case may change.
    for again in ["ana", "Ana", "anna"] {
        renamed(store, ana.id, name(again)).await.unwrap();
    }
    assert!(is_taken(&renamed(store, ben.id, name("ana")).await));
}

/// Invariant: of a new name and a new address both are set or neither, and nothing of an account that was deleted.
async fn a_profile_changes_in_one_step(backend: Backend) {
    let opened = open(backend).await;
    let store = &opened.store;
    let (ana, ben) = (opened.user("ana").await, opened.user("ben").await);
    let change = |username: &str, email: &str| ProfileChange {
        username: Some(name(username)),
        email: Some(Email::parse(email).unwrap()),
    };
    let taken = store.set_profile(ben.id, change("benno", "ANA@example.org"));
    let taken = taken.await;
    assert!(
        matches!(taken, Err(StoreError::Taken(UserField::Email))),
        "{taken:?}"
    );
    assert!(is_taken(
        &store.set_profile(ben.id, change("ana", "b@c.d")).await
    ));
    let account = async || store.account(ben.id).await.unwrap().unwrap();
    let as_it_was = account().await;
    assert_eq!(as_it_was.user.username.as_str(), "ben");
    assert_eq!(as_it_was.email.as_str(), "ben@example.org");
    // Nor is the name kept for him.
    assert!(renamed(store, ana.id, name("benno")).await.unwrap());

    assert!(
        store
            .set_profile(ben.id, change("bo", "b@c.d"))
            .await
            .unwrap()
    );
    let changed = account().await;
    assert_eq!(changed.user.username.as_str(), "bo");
    assert_eq!(changed.email.as_str(), "b@c.d");

    store.erase(ben.id, KeptMessages::Keep).await.unwrap();
    assert!(
        !store
            .set_profile(ben.id, change("bob", "e@f.g"))
            .await
            .unwrap()
    );
    let former = account().await;
    assert_eq!(former.user.username.as_str(), Username::FORMER);
    assert_eq!(former.email.as_str(), "");
    assert!(renamed(store, ana.id, name("bob")).await.unwrap());
}

/// Invariant: whoever reads the letters to an old address gets in no more.
async fn a_new_address_ends_the_links_to_the_old_one(backend: Backend) {
    let server = Server::start(backend).await;
    let other = server.another_node_on(backend).await;
    let there = &other.as_ref().unwrap_or(&server).base;
    let admin = server.person("ann").await;
    let ana = server.person("ana").await;
    let reset = posts_for(&admin, "/admin/people/ana/reset").await;
    assert_eq!(ana.get(&reset).await.status(), StatusCode::OK);
    let form = [("email", "new@example.org"), ("current", PASSWORD)];
    assert_eq!(
        posts(&ana.at(there), "/account", &form).await,
        StatusCode::OK
    );
    assert_eq!(ana.get(&reset).await.status(), StatusCode::NOT_FOUND);
    let spent = Person::nobody(&server.base);
    let spent = spent
        .post(&reset, &[("password", "another password")])
        .await;
    assert_eq!(spent.status(), StatusCode::NOT_FOUND);
}

/// The path of the link that a form makes.
async fn posts_for(who: &Person, path: &str) -> String {
    let answer = sends(who, Method::POST, path, &[("reset", "yes")]).await;
    let link: Value = answer.json().await.unwrap();
    let link = link["link"].as_str().unwrap();
    link[link.find("/reset/").unwrap()..].to_owned()
}

/// Invariant: of those who race for one name one gets it, whether they are renamed or sign up.
async fn of_fifty_who_want_a_name_one_gets_it(backend: Backend) {
    let opened = open(backend).await;
    let store = &opened.store;
    let mut all = JoinSet::new();
    for number in 0..50 {
        let user = match number % 2 {
            0 => Some(opened.user(&format!("user{number}")).await),
            _ => None,
        };
        let store = Arc::clone(store);
        all.spawn(async move {
            let done = match user {
                Some(user) => renamed(&store, user.id, name("wanted")).await.map(drop),
                None => {
                    let mut new = new_user("wanted");
                    new.email = new_user(&format!("new{number}")).email;
                    store.add_user(new).await.map(drop)
                }
            };
            assert!(done.is_ok() || is_taken(&done), "{done:?}");
            usize::from(done.is_ok())
        });
    }
    let got: usize = all.join_all().await.into_iter().sum();
    assert_eq!(got, 1);
}

async fn of_fifty_who_want_a_name_at_two_nodes_one_gets_it(backend: Backend) {
    let server = Server::start(backend).await;
    let other = server.another_node_on(backend).await;
    let there = &other.as_ref().unwrap_or(&server).base;
    let mut all = JoinSet::new();
    for number in 0..50 {
        let person = server.person(&format!("user{number}")).await;
        let person = if number % 2 == 0 {
            person
        } else {
            person.at(there)
        };
        all.spawn(async move { posts(&person, "/account", &[("username", "wanted")]).await });
    }
    let done = all.join_all().await;
    let got = done.iter().filter(|status| **status == StatusCode::OK);
    assert_eq!(got.count(), 1, "{done:?}");
    let taken = { done.iter() }.filter(|status| **status == StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(taken.count(), 49, "{done:?}");
}

/// Invariant: however close they come, nobody signs up with a name that its owner gives up.
async fn nobody_gets_a_name_that_is_being_given_up(backend: Backend) {
    let opened = open(backend).await;
    let store = &opened.store;
    for round in 0..10 {
        let old = format!("ana{round}");
        let ana = opened.user(&old).await;
        let mut all = JoinSet::new();
        for number in 0..10 {
            let (store, old) = (Arc::clone(store), old.clone());
            all.spawn(async move {
                let mut new = new_user(&old);
                new.email = new_user(&format!("new{round}.{number}")).email;
                store.add_user(new).await.map(drop)
            });
        }
        renamed(store, ana.id, name(&format!("anna{round}")))
            .await
            .unwrap();
        for done in all.join_all().await {
            assert!(is_taken(&done), "{done:?}");
        }
    }
    let hash = "no such invitation";
    let guest = Guest::New(new_user("ana3"));
    assert!(store.spend_invite(hash, guest).await.is_err());
}

/// Invariant: within two seconds nobody is shown under an earlier name, at any node, but in what was written.
async fn a_rename_shows_everywhere(backend: Backend) {
    let server = Server::start(backend).await;
    let other = server.another_node_on(backend).await;
    let there = &other.as_ref().unwrap_or(&server).base;
    let (admin, ana) = (server.person("admin").await, server.person("oldname").await);
    let ben = server.person("ben").await;
    makes(&admin, &[("room", "tea"), ("access", "open")]).await;
    for person in [&ana, &ben] {
        person.enters("tea").await;
    }
    let said = ana.says("tea", "hello").await;
    let bens = ben.says("tea", "hi there").await;
    let react = format!("/rooms/tea/messages/{bens}/reactions");
    posts(&ana, &react, &[("emoji", "👍")]).await;
    let reply = [("body", "and you"), ("reply_to", &said.to_string())];
    posts(&ben, "/rooms/tea/messages", &reply).await;
    let with = sends(&ben, Method::POST, "/directs", &[("with", "oldname")]).await;
    let direct: Value = with.json().await.unwrap();
    let direct = direct["room"].as_str().unwrap().to_owned();
    ben.says(&direct, "alone").await;
    posts(
        &admin,
        "/rooms/tea/people/oldname/role",
        &[("role", "owner")],
    )
    .await;
    let bens = ben.at(there);
    let everywhere = async |person: &Person| {
        let mut all = String::new();
        for accept in ["text/html", "application/json", "text/plain"] {
            for path in [
                "/rooms".to_owned(),
                "/rooms/tea".to_owned(),
                "/rooms/tea/messages".to_owned(),
                "/rooms/tea/messages?after=0".to_owned(),
                "/rooms/tea/people".to_owned(),
                format!("/rooms/tea/messages/{said}"),
                format!("/rooms/{direct}"),
                "/mentions".to_owned(),
            ] {
                all += &person.get_as(accept, &path).await.text().await.unwrap();
            }
        }
        all
    };
    assert_contains(&everywhere(&bens).await, "oldname");
    // Somebody follows, and her own page is open.
    let mut follows = bens.listens("tea", 0).await;
    follows.numbers(3).await;
    let _own = ana.listens("tea", 0).await;
    let renamed = ana.post("/account", &[("username", "newname")]).await;
    assert_eq!(renamed.status(), StatusCode::SEE_OTHER);
    assert_lacks(&everywhere(&ben).await, "oldname");
    let is_shown = async || !everywhere(&bens).await.contains("oldname");
    eventually("the other node shows it", Duration::from_secs(2), is_shown).await;
    assert_contains(&everywhere(&bens).await, "newname");
    let page = ana.get("/account?said=saved").await.text().await.unwrap();
    assert_contains(&page, "value=\"newname\"");
    assert_contains(&page, "It is saved.");
    // A replay has it from the start.
    let mut again = bens.listens("tea", 0).await;
    again.numbers(6).await;
    assert_lacks(&again.raw, "oldname");
    ana.says("tea", "it is me").await;
    let told = follows.next_event().await;
    drop(told);
    let log = admin
        .get_as("text/plain", "/admin/audit")
        .await
        .text()
        .await
        .unwrap();
    assert_contains(&log, "made newname owner of tea");
    let login = async |name: &str| {
        let form = [("username", name), ("password", PASSWORD)];
        Person::nobody(there).post("/login", &form).await.status()
    };
    assert_eq!(login("newname").await, StatusCode::SEE_OTHER);
    assert_eq!(login("oldname").await, StatusCode::UNAUTHORIZED);
    if backend == Backend::Sqlite {
        // Only her address still has it.
        let form = [("email", "new@example.org"), ("current", PASSWORD)];
        assert_eq!(posts(&ana, "/account", &form).await, StatusCode::OK);
    }
    drop((follows, again));
    if backend == Backend::MongoDb {
        // Who is here is kept for a moment.
        let mut kept = copies(&server, backend, "\"oldname\"").await;
        kept.retain(|collection| collection != "presence");
        assert_eq!(kept, NONE);
    }
}

async fn a_name_changes_twice_a_month(backend: Backend) {
    let server = Server::start_with(backend, &[("RATE_LIMITS", "on")]).await;
    let ana = server.person("ana").await;
    server.person("ben").await;
    let renamed = async |name: &str| posts(&ana, "/account", &[("username", name)]).await;
    for refused in ["b", "ben", "BEN", "room", "two words"] {
        assert_eq!(
            renamed(refused).await,
            StatusCode::UNPROCESSABLE_ENTITY,
            "{refused}"
        );
    }
    let page = ana.post("/account", &[("username", "ben")]).await;
    let page = page.text().await.unwrap();
    assert_contains(&page, "Somebody has this name");
    assert_contains(&page, "value=\"ben\"");
    // The same name again, and refusals, are not counted.
    assert_eq!(renamed("ana").await, StatusCode::OK);
    assert_eq!(renamed("anna").await, StatusCode::OK);
    assert_eq!(renamed("anne").await, StatusCode::OK);
    assert_eq!(renamed("anja").await, StatusCode::TOO_MANY_REQUESTS);
    let page = ana.post("/account", &[("username", "anja")]).await;
    assert_contains(&page.text().await.unwrap(), "twice a month");
}

async fn an_address_takes_the_password(backend: Backend) {
    let server = Server::start(backend).await;
    let ana = server.person("ana").await;
    server.person("ben").await;
    for (form, field) in [
        ([("email", "new@example.org"), ("current", "")], "current"),
        (
            [("email", "new@example.org"), ("current", "not it, no")],
            "current",
        ),
        ([("email", "nowhere"), ("current", PASSWORD)], "email"),
        (
            [("email", "ben@example.org"), ("current", PASSWORD)],
            "email",
        ),
    ] {
        let answer = sends(&ana, Method::POST, "/account", &form).await;
        assert_eq!(
            answer.status(),
            StatusCode::UNPROCESSABLE_ENTITY,
            "{form:?}"
        );
        let problem: Value = answer.json().await.unwrap();
        assert!(problem["errors"][field].is_string(), "{problem}");
        let page = ana.post("/account", &form).await.text().await.unwrap();
        assert_contains(&page, &format!("value=\"{}\"", form[0].1));
    }
    let form = [("email", "new@example.org"), ("current", PASSWORD)];
    let changed = sends(&ana, Method::POST, "/account", &form).await;
    let changed: Value = changed.json().await.unwrap();
    assert_eq!(changed["email"], "new@example.org");
    for (email, status) in [
        ("new@example.org", StatusCode::SEE_OTHER),
        ("ana@example.org", StatusCode::UNAUTHORIZED),
    ] {
        let form = [("username", email), ("password", PASSWORD)];
        let login = Person::nobody(&server.base).post("/login", &form).await;
        assert_eq!(login.status(), status, "{email}");
    }
}
