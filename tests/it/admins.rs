//! The first admin, and those after.

use std::process::Command;
use std::time::Duration;

use parlor::domain::{AccountRole, KeptMessages, ProfileChange, Session, SessionId, Timestamp};
use parlor::store::StoreError;
use reqwest::header::ACCEPT;
use reqwest::{Method, StatusCode};
use serde_json::Value;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::access::{makes, posts, sends};
use crate::store_contract::{new_user, open, room, sign_in};
use crate::support::{
    Backend, MongoDb, NONE, PASSWORD, Person, Server, assert_contains, assert_lacks, copies,
    eventually, free_port,
};

on_both_stores!(
    the_first_account_is_an_admins,
    an_admin_is_always_left,
    of_fifty_who_sign_up_first_one_is_an_admin,
    admins_decide_about_rooms,
    beyond_loopback_the_first_account_takes_a_link,
    the_command_line_makes_admins,
    a_closed_account_is_out,
    an_admin_who_may_sign_in_is_left,
    an_admin_is_left_at_two_nodes,
    where_nobody_is_an_admin_people_may_go,
    admins_delete_accounts,
    admins_find_people_and_sign_them_out,
    what_admins_and_owners_do_is_noted,
);

async fn the_first_account_is_an_admins(backend: Backend) {
    let opened = open(backend).await;
    let store = &opened.store;
    assert!(store.has_no_users().await.unwrap());
    let mut all = JoinSet::new();
    for number in 0..30 {
        let (store, user) = (
            std::sync::Arc::clone(store),
            new_user(&format!("user{number}")),
        );
        all.spawn(async move { (user.user.id, store.add_user(user).await.unwrap()) });
    }
    let mut admins = Vec::new();
    for (id, role) in all.join_all().await {
        let account = store.account(id).await.unwrap().unwrap();
        assert_eq!(account.role, role);
        admins.extend((role == AccountRole::Admin).then_some(id));
    }
    assert_eq!(admins.len(), 1);
    assert!(!store.has_no_users().await.unwrap());
    let listed = store
        .accounts(String::new(), String::new(), 100)
        .await
        .unwrap();
    assert_eq!(listed.len(), 30);
    let names: Vec<String> = listed.iter().map(|one| one.user.username.key()).collect();
    assert!(names.is_sorted());
}

/// Invariant: however many step down at once, one admin stays.
async fn an_admin_is_always_left(backend: Backend) {
    let opened = open(backend).await;
    let store = &opened.store;
    let mut admins = Vec::new();
    for name in ["ana", "ben", "cleo", "dan"] {
        let user = opened.user(name).await;
        store
            .set_account_role(user.id, AccountRole::Admin)
            .await
            .unwrap();
        admins.push(user.id);
    }
    for round in 0..5 {
        let mut all = JoinSet::new();
        for admin in admins.clone() {
            let store = std::sync::Arc::clone(store);
            all.spawn(async move { store.set_account_role(admin, AccountRole::Member).await });
        }
        let mut refused = 0;
        for done in all.join_all().await {
            if let Err(error) = done {
                assert!(matches!(error, StoreError::LastAdmin), "{error:?}");
                refused += 1;
            }
        }
        let left = store
            .accounts(String::new(), String::new(), 10)
            .await
            .unwrap();
        let left = left.iter().filter(|one| one.role == AccountRole::Admin);
        assert_eq!((refused, left.count()), (1, 1), "round {round}");
        for admin in &admins {
            store
                .set_account_role(*admin, AccountRole::Admin)
                .await
                .unwrap();
        }
    }
}

/// Invariant: the same of admins who step down, or delete their accounts, at two nodes at once.
async fn an_admin_is_left_at_two_nodes(backend: Backend) {
    let server = Server::start(backend).await;
    let other = server.another_node_on(backend).await;
    let there = &other.as_ref().unwrap_or(&server).base;
    let first = server.person("admin").await;
    let mut admins = vec![first.clone()];
    for number in 0..49 {
        let name = format!("admin{number}");
        let person = server.person(&name).await;
        let role = format!("/admin/people/{name}/role");
        posts(&first, &role, &[("role", "admin")]).await;
        admins.push(match number % 2 {
            0 => person.at(there),
            _ => person,
        });
    }
    let mut all = JoinSet::new();
    for (number, admin) in admins.iter().cloned().enumerate() {
        all.spawn(async move {
            let role = format!("/admin/people/{}/role", admin.name);
            let erase = [("password", PASSWORD), ("messages", "keep")];
            match number % 3 {
                0 => posts(&admin, "/account/delete", &erase).await,
                _ => posts(&admin, &role, &[("role", "member")]).await,
            }
        });
    }
    let done = all.join_all().await;
    let refused = { done.iter() }.filter(|status| **status == StatusCode::CONFLICT);
    assert_eq!(refused.count(), 1, "{done:?}");
    let mut left = 0;
    for admin in &admins {
        left += usize::from(
            admin.get_as("application/json", "/admin").await.status() == StatusCode::OK,
        );
    }
    assert_eq!(left, 1, "{done:?}");
}

/// A store from before there were admins has none. Its people are not kept for that.
async fn where_nobody_is_an_admin_people_may_go(backend: Backend) {
    let opened = open(backend).await;
    let store = &opened.store;
    let (ana, ben) = (opened.user("ana").await, opened.user("ben").await);
    opened.make_all_members().await;
    let role = store.set_account_role(ben.id, AccountRole::Member).await;
    role.unwrap();
    store.set_deactivated(ben.id, true).await.unwrap();
    store.erase(ana.id, KeptMessages::Keep).await.unwrap();
    // And nothing is given to an account that was deleted.
    assert!(
        !store
            .set_profile(ana.id, ProfileChange::default())
            .await
            .unwrap()
    );
    let role = store.set_account_role(ana.id, AccountRole::Admin).await;
    role.unwrap();
    store.set_deactivated(ana.id, false).await.unwrap();
    let account = store.account(ana.id).await.unwrap().unwrap();
    assert_eq!(account.role, AccountRole::Member);
    assert!(account.is_deactivated);
    let tea = room("tea");
    store.join(&tea, &ben, None).await.unwrap();
    store.add(&tea, &ben, &ana).await.unwrap();
    assert_eq!(store.count_members(&tea).await.unwrap(), 1);
    store
        .set_account_role(ben.id, AccountRole::Admin)
        .await
        .unwrap();
    store.set_deactivated(ben.id, false).await.unwrap();
    let last = store.erase(ben.id, KeptMessages::Keep).await.unwrap_err();
    assert!(matches!(last, StoreError::LastAdmin), "{last:?}");
}

async fn admins_delete_accounts(backend: Backend) {
    let server = Server::start(backend).await;
    let (admin, ana) = (server.person("admin").await, server.person("zyxana").await);
    for person in [&admin, &ana] {
        person.enters("tea").await;
    }
    ana.says("tea", "HERTEXT").await;
    let delete = "/admin/people/zyxana/delete";
    for (form, field) in [
        ([("confirm", "zyx"), ("messages", "delete")], "confirm"),
        ([("confirm", "zyxana"), ("messages", "")], "messages"),
    ] {
        let answer = sends(&admin, Method::POST, delete, &form).await;
        assert_eq!(answer.status(), StatusCode::UNPROCESSABLE_ENTITY);
        let problem: Value = answer.json().await.unwrap();
        assert!(problem["errors"][field].is_string(), "{problem}");
        let page = admin.post(delete, &form).await;
        assert_eq!(page.status(), StatusCode::UNPROCESSABLE_ENTITY);
        let page = page.text().await.unwrap();
        assert_contains(&page, &format!("name=\"confirm\" value=\"{}\"", form[0].1));
        assert_contains(&page, "<details class=\"acts\" open>");
    }
    let form = [("confirm", "Zyxana"), ("messages", "delete")];
    assert_eq!(posts(&ana, delete, &form).await, StatusCode::FORBIDDEN);
    let own = [("confirm", "admin"), ("messages", "keep")];
    let own = posts(&admin, "/admin/people/admin/delete", &own).await;
    assert_eq!(own, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(posts(&admin, delete, &form).await, StatusCode::NO_CONTENT);
    assert_eq!(posts(&admin, delete, &form).await, StatusCode::NOT_FOUND);
    for text in ["zyxana", "HERTEXT"] {
        assert_eq!(copies(&server, backend, text).await, NONE, "{text}");
    }
    assert_eq!(ana.get("/rooms").await.status(), StatusCode::SEE_OTHER);
    let log = admin.get_as("text/plain", "/admin/audit").await;
    assert_contains(
        &log.text().await.unwrap(),
        "deleted former member’s account",
    );
}

async fn of_fifty_who_sign_up_first_one_is_an_admin(backend: Backend) {
    let server = Server::start(backend).await;
    let other = server.another_node_on(backend).await;
    let bases = [
        server.base.clone(),
        other.as_ref().unwrap_or(&server).base.clone(),
    ];
    let mut all = JoinSet::new();
    for number in 0..50 {
        let base = bases[number % 2].clone();
        all.spawn(async move { Person::sign_up(&base, &format!("user{number}")).await });
    }
    let mut admins = Vec::new();
    for person in all.join_all().await {
        let answer = person.get_as("application/json", "/admin").await;
        if answer.status() == StatusCode::OK {
            admins.push((person, answer.json::<Value>().await.unwrap()));
        }
    }
    assert_eq!(admins.len(), 1);
    let (admin, listed) = &admins[0];
    let people = listed["people"].as_array().unwrap();
    assert_eq!(people.len(), 50);
    let roles = people.iter().filter(|one| one["role"] == "admin");
    assert_eq!(
        roles.map(|one| &one["username"]).collect::<Vec<_>>(),
        [&admin.name]
    );
}

async fn admins_decide_about_rooms(backend: Backend) {
    let server = Server::start(backend).await;
    let (admin, ana) = (server.person("admin").await, server.person("ana").await);
    posts(&ana, "/rooms", &[("room", "den"), ("access", "private")]).await;
    let said = ana.says("den", "hello").await;
    let people = admin.json("/rooms/den/people").await;
    assert_eq!(people["people"][0]["username"], "ana");
    assert_contains(
        &admin.get("/rooms/den/people").await.text().await.unwrap(),
        "Add somebody",
    );
    // They are seen to enter before they read.
    assert_eq!(
        admin.get("/rooms/den").await.status(),
        StatusCode::NOT_FOUND
    );
    assert_eq!(
        posts(&admin, "/rooms/den/people", &[("username", "admin")]).await,
        201
    );
    let path = format!("/rooms/den/messages/{said}/delete");
    assert_eq!(posts(&admin, &path, &[]).await, StatusCode::NO_CONTENT);
    let log = ana.log("den").await;
    assert_eq!(log[2]["author"]["username"], "admin");
    assert_eq!(
        posts(&admin, "/rooms/den/settings", &[("name", "Den")]).await,
        204
    );
    assert_eq!(
        posts(&admin, "/rooms/den/people/ana/role", &[("role", "member")]).await,
        204
    );
    // A conversation is none of theirs.
    let ben = server.person("ben").await;
    let led = ana.post("/directs", &[("with", "ben")]).await;
    let direct = led.headers()["location"].to_str().unwrap().to_owned();
    for path in ["", "/people", "/settings"] {
        let refused = admin.get(&format!("{direct}{path}")).await;
        assert_eq!(refused.status(), StatusCode::NOT_FOUND);
    }
    let led = admin.post("/directs", &[("with", "ben")]).await;
    let own = led.headers()["location"].to_str().unwrap().to_owned();
    assert_eq!(
        posts(&admin, &format!("{own}/settings"), &[("name", "x")]).await,
        403
    );
    // And members are none.
    assert_eq!(ben.get("/admin").await.status(), StatusCode::FORBIDDEN);
    let role = "/admin/people/ben/role";
    assert_eq!(
        posts(&ben, role, &[("role", "admin")]).await,
        StatusCode::FORBIDDEN
    );
    assert_eq!(posts(&admin, role, &[("role", "king")]).await, 422);
    assert_eq!(
        posts(&admin, role, &[("role", "admin")]).await,
        StatusCode::NO_CONTENT
    );
    assert_eq!(ben.get("/admin").await.status(), StatusCode::OK);
    let own = "/admin/people/admin/role";
    assert_eq!(
        posts(&admin, own, &[("role", "member")]).await,
        StatusCode::NO_CONTENT
    );
    assert_eq!(admin.get("/admin").await.status(), StatusCode::FORBIDDEN);
    let last = posts(&ben, role, &[("role", "member")]).await;
    assert_eq!(last, StatusCode::CONFLICT);
    let page = ben
        .post(role, &[("role", "member")])
        .await
        .text()
        .await
        .unwrap();
    assert_contains(&page, "There would be no admin left.");
}

async fn beyond_loopback_the_first_account_takes_a_link(backend: Backend) {
    let port = free_port();
    let address = format!("0.0.0.0:{port}");
    let base = format!("http://127.0.0.1:{port}");
    let settings = [("BIND_ADDR", address.as_str()), ("PUBLIC_URL", &base)];
    let server = Server::start_with(backend, &settings).await;
    let output = server.output();
    let link = output
        .split_whitespace()
        .find(|word| word.contains("/signup?invite="));
    let link = link.expect("a link at the start").to_owned();
    let (_, secret) = link.split_once("?invite=").unwrap();
    let signs_up = async |name: &str, invite: &str| {
        let email = format!("{name}@example.org");
        let form = [
            ("username", name),
            ("email", &email),
            ("password", PASSWORD),
            ("invite", invite),
        ];
        let nobody = Person::nobody(&base);
        let request = nobody.request(reqwest::Method::POST, "/signup").form(&form);
        request
            .header(ACCEPT, "application/json")
            .send()
            .await
            .unwrap()
            .status()
    };
    for wrong in ["", "x", &secret[1..]] {
        assert_eq!(signs_up("ana", wrong).await, StatusCode::FORBIDDEN);
    }
    let nobody = Person::nobody(&base);
    let form = [
        ("username", "ana"),
        ("email", "a@example.org"),
        ("password", PASSWORD),
    ];
    let page = nobody.post("/signup", &form).await;
    assert_eq!(page.status(), StatusCode::FORBIDDEN);
    let page = page.text().await.unwrap();
    assert_contains(&page, "printed at its start");
    assert_contains(&page, "value=\"ana\"");
    let page = nobody.get(&format!("/signup?invite={secret}")).await;
    assert_contains(&page.text().await.unwrap(), &format!("value=\"{secret}\""));
    assert_eq!(signs_up("ana", secret).await, StatusCode::CREATED);
    // From then on it is like any.
    assert_eq!(signs_up("ben", "").await, StatusCode::CREATED);
    assert_eq!(signs_up("cleo", secret).await, StatusCode::CREATED);
    let cleo = Person::sign_in(&base, "cleo").await;
    assert_eq!(cleo.get("/admin").await.status(), StatusCode::FORBIDDEN);
}

async fn the_command_line_makes_admins(backend: Backend) {
    let dir = tempfile::tempdir().unwrap();
    let mut settings = vec![
        ("DATA_DIR", dir.path().display().to_string()),
        ("JWT_SECRET", "command-line-".repeat(4)),
    ];
    if backend == Backend::MongoDb {
        settings.push(("MONGODB_URI", MongoDb::shared().await.fresh_uri()));
    }
    let borrowed: Vec<(&str, &str)> = settings
        .iter()
        .map(|(name, value)| (*name, value.as_str()))
        .collect();
    let mut server = Server::start_with(Backend::Sqlite, &borrowed).await;
    for name in ["ana", "ben"] {
        server.person(name).await;
    }
    let user = |act: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_parlor"));
        let command = command
            .current_dir(dir.path())
            .env_clear()
            .envs(settings.iter().cloned());
        let output = command.arg("user").args(act).output().unwrap();
        let says = String::from_utf8(output.stdout).unwrap();
        let errors = String::from_utf8(output.stderr).unwrap();
        (output.status.success(), says, errors)
    };
    // While it runs.
    let (is_done, _, errors) = user(&["promote", "ben"]);
    assert!(is_done, "{errors}");
    let ben = Person::sign_in(&server.base, "ben").await;
    assert_eq!(ben.get("/admin").await.status(), StatusCode::OK);
    assert!(user(&["demote", "ben"]).0);
    assert_eq!(ben.get("/admin").await.status(), StatusCode::FORBIDDEN);
    server.terminate();
    assert_eq!(user(&["list"]).1, "ana\tadmin\nben\tmember\n");
    let (is_done, _, errors) = user(&["demote", "ana"]);
    assert!(!is_done);
    assert_contains(&errors, "promote another first");
    assert_contains(&user(&["promote", "nobody"]).2, "nobody is called nobody");
    let (is_done, _, errors) = user(&["promote", "BEN"]);
    assert!(is_done, "{errors}");
    assert_contains(&errors, "ben is an admin now");
    let (is_done, _, errors) = user(&["demote", "ana"]);
    assert!(is_done, "{errors}");
    let (is_done, link, errors) = user(&["reset", "ana"]);
    assert!(is_done && link.contains("/reset/"), "{link}{errors}");
    let (_, lines, _) = user(&["list", "--json"]);
    let first: Value = serde_json::from_str(lines.lines().next().unwrap()).unwrap();
    assert_eq!(first["role"], "member");
    assert_lacks(&lines, PASSWORD);
    server.start_again().await;
    let ben = Person::sign_in(&server.base, "ben").await;
    assert_eq!(ben.get("/admin").await.status(), StatusCode::OK);
}

/// Invariant: within two seconds nothing of a closed account is signed in at any node, and nothing lets it in.
async fn a_closed_account_is_out(backend: Backend) {
    let server = Server::start(backend).await;
    let other = server.another_node_on(backend).await;
    let (admin, ana) = (server.person("admin").await, server.person("ana").await);
    makes(&ana, &[("room", "tea"), ("access", "open")]).await;
    ana.says("tea", "hello").await;
    let there = ana.at(&other.as_ref().unwrap_or(&server).base);
    let invite = sends(&ana, Method::POST, "/invites", &[("room", "tea")]).await;
    let invite: Value = invite.json().await.unwrap();
    let invite = invite["link"].as_str().unwrap().to_owned();
    let invite = invite.strip_prefix(&server.base).unwrap();
    let reset = sends(&admin, Method::POST, "/admin/people/ana/reset", &[]).await;
    let reset: Value = reset.json().await.unwrap();
    let reset = reset["link"].as_str().unwrap().to_owned();
    let reset = reset.strip_prefix(&server.base).unwrap();
    let mut streams = Vec::new();
    for path in ["/rooms/tea/events", "/rooms/tea/live"] {
        streams.push(there.get(path).await);
    }
    let waits = there.clone();
    let waits = tokio::spawn(async move {
        waits
            .get_as("application/json", "/rooms?after=0&wait=30")
            .await
    });
    let close = "/admin/people/ana/deactivate";
    assert_eq!(posts(&ana, close, &[]).await, StatusCode::FORBIDDEN);
    assert_eq!(posts(&admin, close, &[]).await, StatusCode::NO_CONTENT);
    for stream in streams {
        let end = timeout(Duration::from_secs(2), stream.text()).await;
        end.expect("a stream goes on").unwrap();
    }
    waits.abort();
    let is_out = async || there.get("/rooms").await.status() == StatusCode::SEE_OTHER;
    eventually("the other node knows", Duration::from_secs(2), is_out).await;
    let nobody = Person::nobody(&there.base);
    let login = [("username", "ana"), ("password", PASSWORD)];
    let refused = nobody.post("/login", &login).await;
    assert_eq!(refused.status(), StatusCode::FORBIDDEN);
    assert_contains(&refused.text().await.unwrap(), "has closed this account");
    // Only the password gets the answer that an account is closed.
    let guess = [("username", "ana"), ("password", "not her password")];
    assert_eq!(
        nobody.post("/login", &guess).await.status(),
        StatusCode::UNAUTHORIZED
    );
    for path in [invite, reset] {
        assert_eq!(
            nobody.get(path).await.status(),
            StatusCode::NOT_FOUND,
            "{path}"
        );
    }
    let listed = admin.json("/admin?q=ana").await;
    assert_eq!(listed["people"][0]["deactivated"], true);
    // Her messages and her place stay.
    admin.enters("tea").await;
    let people = admin.json("/rooms/tea/people").await;
    assert_eq!(people["people"][1]["username"], "ana");
    assert_eq!(
        posts(&admin, close, &[("on", "0")]).await,
        StatusCode::NO_CONTENT
    );
    let again = Person::sign_in(&there.base, "ana").await;
    assert_eq!(again.get("/rooms/tea").await.status(), StatusCode::OK);
    let own = posts(&admin, "/admin/people/admin/deactivate", &[]).await;
    assert_eq!(own, StatusCode::UNPROCESSABLE_ENTITY);
}

/// Invariant: however many admins close each other's accounts at once, one is left who may sign in, and nobody signs
/// in to a closed account, however close the two come.
async fn an_admin_who_may_sign_in_is_left(backend: Backend) {
    let opened = open(backend).await;
    let store = &opened.store;
    let mut admins = Vec::new();
    for name in ["ana", "ben", "cleo", "dan"] {
        let user = opened.user(name).await;
        store
            .set_account_role(user.id, AccountRole::Admin)
            .await
            .unwrap();
        admins.push(user.id);
    }
    for round in 0..5 {
        let mut all = JoinSet::new();
        let mut signing_in = JoinSet::new();
        for user in admins.clone() {
            let closing = std::sync::Arc::clone(store);
            all.spawn(async move { closing.set_deactivated(user, true).await });
            let store = std::sync::Arc::clone(store);
            signing_in.spawn(async move {
                let now = Timestamp::now();
                let session = Session {
                    id: SessionId::new(),
                    user,
                    created_at: now,
                    expires_at: now.after(Duration::from_secs(600)),
                };
                store.add_session(sign_in(session)).await.unwrap();
                session
            });
        }
        let refused = { all.join_all().await.into_iter() }.filter_map(Result::err);
        let refused: Vec<StoreError> = refused.collect();
        assert!(
            matches!(refused[..], [StoreError::LastAdmin]),
            "{refused:?}"
        );
        let sessions = signing_in.join_all().await;
        for user in &admins {
            let account = store.account(*user).await.unwrap().unwrap();
            let own = sessions.iter().find(|session| session.user == *user);
            let live = store.find_session(own.unwrap().id).await.unwrap();
            if account.is_deactivated {
                assert!(live.is_none(), "round {round}");
            }
            store.set_deactivated(*user, false).await.unwrap();
        }
    }
}

async fn admins_find_people_and_sign_them_out(backend: Backend) {
    let server = Server::start(backend).await;
    let (admin, ana) = (server.person("admin").await, server.person("ana").await);
    for name in ["anabel", "ben.a", "cleo_1"] {
        server.person(name).await;
    }
    let found = async |word: &str| {
        let listed = admin.json(&format!("/admin?q={word}")).await;
        let people = listed["people"].as_array().unwrap().clone();
        let names = people
            .iter()
            .map(|one| one["username"].as_str().unwrap().to_owned());
        names.collect::<Vec<_>>().join(" ")
    };
    for (word, names) in [
        ("ana", "ana anabel"),
        ("ANA", "ana anabel"),
        ("ben.a%40exam", "ben.a"),
        // Nothing is a pattern.
        (".*", ""),
        ("n.a", "ben.a"),
        ("%25", ""),
        ("_", "cleo_1"),
        ("%5CE.*%5CQ", ""),
        ("nobody", ""),
    ] {
        assert_eq!(found(word).await, names, "{word}");
    }
    let page = admin.get("/admin?q=nobody").await.text().await.unwrap();
    assert_contains(&page, "Nobody has this in their name or address.");
    let elsewhere = ana.signs_in_again().await;
    let out = posts(&admin, "/admin/people/ana/sign-out", &[]).await;
    assert_eq!(out, StatusCode::NO_CONTENT);
    for session in [&ana, &elsewhere] {
        assert_eq!(session.get("/rooms").await.status(), StatusCode::SEE_OTHER);
    }
    Person::sign_in(&server.base, "ana").await;
    // Of one's own, all but the one that asks.
    let other = admin.signs_in_again().await;
    posts(&admin, "/admin/people/admin/sign-out", &[]).await;
    assert_eq!(other.get("/rooms").await.status(), StatusCode::SEE_OTHER);
    assert_eq!(admin.get("/admin").await.status(), StatusCode::OK);
}

/// Invariant: whatever an admin or an owner does has an entry, and nothing else does.
async fn what_admins_and_owners_do_is_noted(backend: Backend) {
    let server = Server::start(backend).await;
    let (admin, ana) = (server.person("admin").await, server.person("ana").await);
    let ben = server.person("ben").await;
    makes(&ana, &[("room", "den"), ("access", "private")]).await;
    let tea = "/rooms/den";
    posts(&ana, &format!("{tea}/people"), &[("username", "ben")]).await;
    let said = ben.says("den", "something").await;
    let own = ana.says("den", "mine").await;
    for (who, path, form, entry) in [
        (
            &ana,
            "/rooms/den/people/ben/role",
            &[("role", "owner")][..],
            "made ben owner of den",
        ),
        (
            &ana,
            "/rooms/den/people/ben/role",
            &[("role", "member")],
            "made ben member of den",
        ),
        (
            &ana,
            "/rooms/den/settings",
            &[("topic", "a secret")],
            "changed den: its topic",
        ),
        (
            &ana,
            "/rooms/den/settings",
            &[("posting", "owners")],
            "changed den: posting owners",
        ),
        (
            &ana,
            &format!("/rooms/den/messages/{said}/delete"),
            &[],
            &format!("deleted message {said} in den"),
        ),
        (
            &ana,
            "/rooms/den/people/ben/remove",
            &[],
            "removed ben from den",
        ),
        (
            &ana,
            "/rooms/den/people/ben/ban",
            &[],
            "keeps ben out of den",
        ),
        (
            &ana,
            "/rooms/den/people/ben/ban",
            &[("on", "0")],
            "lets ben into den again",
        ),
        (&ana, "/invites", &[("room", "den")], "made a link to den"),
        (
            &admin,
            "/rooms/den/settings",
            &[("archived", "1")],
            "changed den: archived",
        ),
        (&admin, "/invites", &[], "made a link to this server"),
        (
            &admin,
            "/admin/people/ben/role",
            &[("role", "admin")],
            "made ben admin",
        ),
        (
            &admin,
            "/admin/people/ben/reset",
            &[],
            "made a link to reset ben’s password",
        ),
        (
            &admin,
            "/admin/people/ben/sign-out",
            &[],
            "signed ben out everywhere",
        ),
        (
            &admin,
            "/admin/people/ben/deactivate",
            &[],
            "closed ben’s account",
        ),
        (
            &admin,
            "/admin/people/ben/deactivate",
            &[("on", "0")],
            "opened ben’s account",
        ),
        (
            &admin,
            "/admin/sign-up",
            &[("sign_up", "invite")],
            "chose who may sign up: invite",
        ),
    ] {
        let status = posts(who, path, form).await;
        assert!(status.is_success(), "{path}: {status}");
        let log = admin.json("/admin/audit").await;
        let last = &log["entries"][0];
        assert_eq!(last["by"]["username"], who.name, "{path}");
        let text = admin.get_as("text/plain", "/admin/audit").await;
        let text = text.text().await.unwrap();
        let line = text.lines().next().unwrap();
        assert!(
            line.ends_with(&format!("\t{}\t{entry}", who.name)),
            "{line}"
        );
    }
    let before = admin.get_as("text/plain", "/admin/audit").await;
    let before = before.text().await.unwrap();
    assert_eq!(before.lines().count(), 18);
    assert_lacks(&before, "a secret");
    // Nothing is noted of a change to the same, of what anybody may do, and of refusals.
    posts(&ana, "/rooms/den/settings", &[("topic", "a secret")]).await;
    posts(&ana, &format!("/rooms/den/messages/{own}/delete"), &[]).await;
    posts(&ana, "/admin/sign-up", &[("sign_up", "open")]).await;
    posts(&ana, "/rooms/den/leave", &[]).await;
    ana.get("/admin/audit").await;
    let after = admin.get_as("text/plain", "/admin/audit").await;
    assert_eq!(after.text().await.unwrap(), before);
    // Also of somebody who is no admin any more; and of an act that fails another entry says so.
    posts(&admin, "/admin/people/ben/role", &[("role", "member")]).await;
    let last = posts(&admin, "/admin/people/admin/role", &[("role", "member")]).await;
    assert_eq!(last, StatusCode::CONFLICT);
    let log = admin.json("/admin/audit").await;
    assert_eq!(log["entries"][0]["failed"], true);
    assert_eq!(log["entries"][1]["failed"], false);
    let page = admin.get("/admin/audit").await.text().await.unwrap();
    assert_contains(&page, "made admin member: it did not come to it");
    let lines = admin.get_as("application/x-ndjson", "/admin/audit").await;
    let lines = lines.text().await.unwrap();
    let first: Value = serde_json::from_str(lines.lines().next().unwrap()).unwrap();
    assert_eq!(first, log["entries"][0]);
    // From page to page, each once.
    for _ in 0..200 {
        posts(&admin, "/admin/people/ben/sign-out", &[]).await;
    }
    let mut seen = std::collections::HashSet::new();
    let mut path = "/admin/audit".to_owned();
    loop {
        let page = admin.json(&path).await;
        for entry in page["entries"].as_array().unwrap() {
            assert!(seen.insert(entry["id"].as_str().unwrap().to_owned()));
        }
        match page["next"].as_str() {
            Some(next) => path = format!("/admin/audit?before={next}"),
            None => break,
        }
    }
    assert_eq!(seen.len(), 221);
    let wrong = admin
        .get_as("application/json", "/admin/audit?before=x")
        .await;
    assert_eq!(wrong.status(), StatusCode::UNPROCESSABLE_ENTITY);
}
