//! Invitations: links by which people come to the server or to a room, and who may sign up.

use std::sync::Arc;
use std::time::Duration;

use parlor::domain::{Guest, Invite, InviteId, LinkSecret, Timestamp, User};
use parlor::store::{Relation, StoreError, UserField};
use reqwest::header::ACCEPT;
use reqwest::{Method, StatusCode};
use serde_json::Value;
use tokio::task::JoinSet;

use crate::access::{makes, posts, sends};
use crate::store_contract::{Opened, new_user, open, room};
use crate::support::{
    Backend, NONE, PASSWORD, Person, Server, assert_contains, assert_lacks, copies, eventually,
};

on_both_stores!(
    an_invitation_is_spent_with_an_account,
    an_invitation_lets_into_a_private_room,
    somebody_who_clicks_twice_spends_one_use,
    of_fifty_who_spend_an_invitation_one_comes,
    of_fifty_at_two_nodes_one_comes,
    a_link_leads_here,
    a_link_leads_into_a_room,
    whoever_may_invite_does,
    links_are_taken_back,
    who_may_sign_up_is_an_admins_choice,
);

fn invite(by: &User, to: Option<&str>, uses: u32, lasts: Duration) -> (LinkSecret, Invite) {
    let secret = LinkSecret::new();
    let created_at = Timestamp::now();
    let invite = Invite {
        id: InviteId::new(),
        secret_hash: secret.own_hash(),
        by: Some(by.clone()),
        room: to.map(room),
        uses_left: uses,
        created_at,
        expires_at: created_at.after(lasts),
    };
    (secret, invite)
}

const DAY: Duration = Duration::from_secs(86_400);

async fn kept(opened: &Opened, by: &User, to: Option<&str>, uses: u32) -> String {
    let (_, invite) = invite(by, to, uses, DAY);
    opened.store.add_invite(invite.clone()).await.unwrap();
    invite.secret_hash
}

async fn an_invitation_is_spent_with_an_account(backend: Backend) {
    let opened = open(backend).await;
    let store = &opened.store;
    let ana = opened.user("ana").await;
    let hash = kept(&opened, &ana, None, 2).await;
    // Looking spends nothing.
    for _ in 0..3 {
        let found = store.find_invite(&hash).await.unwrap().unwrap();
        assert_eq!((found.uses_left, found.by.as_ref()), (2, Some(&ana)));
    }
    let spend = async |hash: &str, name: &str| {
        let guest = Guest::New(new_user(name));
        store.spend_invite(hash, guest).await
    };
    assert_eq!(spend(&hash, "ben").await.unwrap(), 0);
    // A name that is taken costs no use.
    let mut bens = new_user("BEN");
    bens.email = new_user("other").email;
    let taken = store.spend_invite(&hash, Guest::New(bens)).await;
    let taken = taken.unwrap_err();
    assert!(
        matches!(taken, StoreError::Taken(UserField::Username)),
        "{taken:?}"
    );
    assert_eq!(
        store.find_invite(&hash).await.unwrap().unwrap().uses_left,
        1
    );
    spend(&hash, "cleo").await.unwrap();
    // It is found until its time is over, and lets in nobody.
    let used_up = store.find_invite(&hash).await.unwrap().unwrap();
    assert!(!used_up.is_good());
    let by_id = store.invite(used_up.id).await.unwrap();
    assert_eq!(by_id, Some(used_up));
    let over = spend(&hash, "dan").await.unwrap_err();
    assert!(matches!(over, StoreError::InviteOver), "{over:?}");
    assert_eq!(store.invites(None, None, 10).await.unwrap(), []);
    let (secret, late) = invite(&ana, None, 1, Duration::ZERO);
    store.add_invite(late).await.unwrap();
    for none in [
        secret.own_hash(),
        String::new(),
        LinkSecret::hash("nothing"),
    ] {
        assert_eq!(store.find_invite(&none).await.unwrap(), None);
        let over = spend(&none, "dan").await.unwrap_err();
        assert!(matches!(over, StoreError::InviteOver), "{over:?}");
    }
    let all = store
        .accounts(String::new(), String::new(), 10)
        .await
        .unwrap();
    let names: Vec<&str> = all.iter().map(|one| one.user.username.as_str()).collect();
    assert_eq!(names, ["ana", "ben", "cleo"], "nobody came without a use");
}

async fn an_invitation_lets_into_a_private_room(backend: Backend) {
    let opened = open(backend).await;
    let store = &opened.store;
    let (ana, ben) = (opened.user("ana").await, opened.user("ben").await);
    let den = room("den");
    let private = parlor::domain::RoomSettings {
        access: parlor::domain::Access::Private,
        ..parlor::domain::RoomSettings::default()
    };
    store.join(&den, &ana, Some(&private)).await.unwrap();
    let hash = kept(&opened, &ana, Some("den"), 2).await;
    let left = async || {
        let found = store.find_invite(&hash).await.unwrap();
        found.map_or(0, |found| found.uses_left)
    };
    let spend = async |guest: Guest| store.spend_invite(&hash, guest).await;
    // Somebody who is kept out stays out, and costs no use.
    store.ban(&den, &ana, &ben).await.unwrap();
    let banned = spend(Guest::User(ben.clone())).await.unwrap_err();
    assert!(matches!(banned, StoreError::Banned), "{banned:?}");
    assert_eq!(left().await, 2);
    store.unban(&den, &ben).await.unwrap();
    assert!(spend(Guest::User(ben.clone())).await.unwrap() > 0);
    let is_in = async |user: &User| {
        let relation = store.relation(&den, user).await.unwrap();
        matches!(relation, Relation::Member { .. })
    };
    assert!(is_in(&ben).await);
    // Nor does whoever is there already.
    assert_eq!(spend(Guest::User(ben.clone())).await.unwrap(), 0);
    assert_eq!(spend(Guest::User(ana.clone())).await.unwrap(), 0);
    assert_eq!(left().await, 1);
    let cleo = new_user("cleo");
    assert!(spend(Guest::New(cleo.clone())).await.unwrap() > 0);
    assert!(is_in(&cleo.user).await);
    // Somebody who was removed does not come back by a link that is used up.
    store.remove(&den, &ana, &ben).await.unwrap();
    let over = spend(Guest::User(ben.clone())).await.unwrap_err();
    assert!(matches!(over, StoreError::InviteOver), "{over:?}");
    assert!(!is_in(&ben).await);
}

async fn somebody_who_clicks_twice_spends_one_use(backend: Backend) {
    let opened = open(backend).await;
    let store = &opened.store;
    let ana = opened.user("ana").await;
    for round in 0..10 {
        let den = format!("den{round}");
        store.join(&room(&den), &ana, None).await.unwrap();
        let ben = opened.user(&format!("ben{round}")).await;
        let uses = 1 + round % 3;
        let hash = kept(&opened, &ana, Some(&den), uses).await;
        let mut all = JoinSet::new();
        for _ in 0..6 {
            let (store, hash, ben) = (Arc::clone(store), hash.clone(), ben.clone());
            all.spawn(async move { store.spend_invite(&hash, Guest::User(ben)).await });
        }
        for spent in all.join_all().await {
            spent.unwrap();
        }
        let left = store.find_invite(&hash).await.unwrap().unwrap();
        assert_eq!(left.uses_left, uses - 1, "round {round}");
        assert_eq!(store.count_members(&room(&den)).await.unwrap(), 2);
    }
}

/// Invariant: of those who race for the last use, one gets it, and nobody else has an account or is in the room.
async fn of_fifty_who_spend_an_invitation_one_comes(backend: Backend) {
    let opened = open(backend).await;
    let store = &opened.store;
    let ana = opened.user("ana").await;
    store.join(&room("tea"), &ana, None).await.unwrap();
    let mut users = Vec::new();
    for number in 0..25 {
        users.push(opened.user(&format!("old{number}")).await);
    }
    let hash = kept(&opened, &ana, Some("tea"), 1).await;
    let mut all = JoinSet::new();
    for number in 0..50 {
        let guest = match users.get(number) {
            Some(user) => Guest::User(user.clone()),
            None => Guest::New(new_user(&format!("new{number}"))),
        };
        let (store, hash) = (Arc::clone(store), hash.clone());
        all.spawn(async move {
            match store.spend_invite(&hash, guest).await {
                Ok(_) => 1,
                Err(StoreError::InviteOver) => 0,
                Err(error) => panic!("{error:?}"),
            }
        });
    }
    let came: usize = all.join_all().await.into_iter().sum();
    assert_eq!(came, 1);
    assert_eq!(store.count_members(&room("tea")).await.unwrap(), 2);
    let accounts = store
        .accounts(String::new(), String::new(), 100)
        .await
        .unwrap();
    let member = async |user: &User| {
        let relation = store.relation(&room("tea"), user).await.unwrap();
        matches!(relation, Relation::Member { .. })
    };
    for account in &accounts {
        let name = account.user.username.as_str();
        if name.starts_with("new") {
            assert!(member(&account.user).await, "{name} has an account");
        }
    }
}

/// A link of whoever is signed in, as a path.
async fn link(person: &Person, form: &[(&str, &str)]) -> String {
    let answer = sends(person, Method::POST, "/invites", form).await;
    assert_eq!(answer.status(), StatusCode::CREATED);
    let made: Value = answer.json().await.unwrap();
    let link = made["link"].as_str().unwrap();
    link.strip_prefix(&person.base).unwrap().to_owned()
}

/// Signs up at a path.
async fn signs_up(base: &str, path: &str, name: &str) -> reqwest::Response {
    let email = format!("{name}@example.org");
    let form = [
        ("username", name),
        ("email", &email),
        ("password", PASSWORD),
    ];
    let nobody = Person::nobody(base);
    let request = nobody.request(Method::POST, path).form(&form);
    let request = request.header(ACCEPT, "application/json");
    request.send().await.unwrap()
}

async fn of_fifty_at_two_nodes_one_comes(backend: Backend) {
    let server = Server::start(backend).await;
    let other = server.another_node_on(backend).await;
    let admin = server.person("admin").await;
    posts(&admin, "/admin/sign-up", &[("sign_up", "invite")]).await;
    let path = link(&admin, &[]).await;
    let mut all = JoinSet::new();
    for number in 0..50 {
        let at = if number % 2 == 0 {
            Some(&server)
        } else {
            other.as_ref()
        };
        let base = at.unwrap_or(&server).base.clone();
        let path = path.clone();
        all.spawn(async move {
            loop {
                let answer = signs_up(&base, &path, &format!("user{number}")).await;
                // As many passwords are hashed at a time as may wait.
                if answer.status() != StatusCode::SERVICE_UNAVAILABLE {
                    return answer.status();
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        });
    }
    let answers = all.join_all().await;
    let came = answers
        .iter()
        .filter(|status| **status == StatusCode::CREATED);
    assert_eq!(came.count(), 1, "{answers:?}");
    let listed = admin.json("/admin").await;
    assert_eq!(listed["people"].as_array().unwrap().len(), 2);
}

async fn a_link_leads_here(backend: Backend) {
    let server = Server::start(backend).await;
    let other = server.another_node_on(backend).await;
    let there = &other.as_ref().unwrap_or(&server).base;
    let admin = server.person("admin").await;
    posts(&admin, "/admin/sign-up", &[("sign_up", "invite")]).await;
    let nobody = Person::nobody(there);
    let page = nobody.get("/signup").await.text().await.unwrap();
    assert_contains(&page, "New people come to this server by invitation.");
    assert_lacks(&page, "name=\"password\"");
    let refused = signs_up(there, "/signup", "ben").await;
    assert_eq!(refused.status(), StatusCode::FORBIDDEN);
    let path = link(&admin, &[("uses", "2")]).await;
    // Programs that check mail look, and spend nothing.
    for _ in 0..3 {
        let page = nobody.get(&path).await;
        assert_eq!(page.status(), StatusCode::OK);
        let page = page.text().await.unwrap();
        assert_contains(&page, "admin invites you to this server.");
        assert_contains(&page, &format!("action=\"{path}\""));
        let head = nobody.request(Method::HEAD, &path).send().await.unwrap();
        assert_eq!(head.status(), StatusCode::OK);
    }
    let seen = nobody.json(&path).await;
    assert_eq!(
        (&seen["by"], &seen["room"]),
        (&"admin".into(), &Value::Null)
    );
    let text = nobody
        .get_as("text/plain", &path)
        .await
        .text()
        .await
        .unwrap();
    assert_eq!(text, "admin invites you to this server.\n");
    // The typed text is kept, and costs nothing.
    let page = nobody
        .post(&path, &[("username", "b"), ("email", "x")])
        .await;
    assert_eq!(page.status(), StatusCode::UNPROCESSABLE_ENTITY);
    let page = page.text().await.unwrap();
    assert_contains(&page, "value=\"x\"");
    assert_contains(&page, "admin invites you to this server.");
    let came = signs_up(there, &path, "ben").await;
    assert_eq!(came.status(), StatusCode::CREATED);
    let session: Value = came.json().await.unwrap();
    assert_eq!(session["user"]["username"], "ben");
    // Twice on a slow line: the second is the first.
    let again = signs_up(there, &path, "ben").await;
    assert_eq!(again.status(), StatusCode::CREATED);
    // The secret is taken at the ordinary address, too.
    let secret = path.strip_prefix("/join/").unwrap();
    let form = [
        ("username", "cleo"),
        ("email", "cleo@example.org"),
        ("password", PASSWORD),
        ("invite", secret),
    ];
    let came = nobody.post("/signup", &form).await;
    assert_eq!(came.status(), StatusCode::SEE_OTHER);
    assert_eq!(came.headers()["location"], "/rooms");
    for base in [&server.base, there] {
        let over = Person::nobody(base).get(&path).await;
        assert_eq!(over.status(), StatusCode::NOT_FOUND);
        assert_contains(&over.text().await.unwrap(), "This invitation was used");
    }
    // Also of the last use.
    let again = signs_up(there, &path, "ben").await;
    assert_eq!(again.status(), StatusCode::CREATED);
    let late = signs_up(there, &path, "dan").await;
    assert_eq!(late.status(), StatusCode::NOT_FOUND);
    let members = admin.json("/admin").await;
    let roles = members["people"].as_array().unwrap();
    assert!(roles[1..].iter().all(|one| one["role"] == "member"));
    assert_eq!(roles.len(), 3);
    let written = server.output() + &other.as_ref().map_or(String::new(), Server::output);
    assert_lacks(&written, secret);
    // It is kept as a hash alone, and so is one that nobody has used.
    let unused = link(&admin, &[]).await;
    for secret in [secret, unused.strip_prefix("/join/").unwrap()] {
        assert_eq!(copies(&server, backend, secret).await, NONE);
    }
    assert_contains(&written, "/join/…");
}

async fn a_link_leads_into_a_room(backend: Backend) {
    let server = Server::start(backend).await;
    let other = server.another_node_on(backend).await;
    let there = &other.as_ref().unwrap_or(&server).base;
    let (admin, ana) = (server.person("admin").await, server.person("ana").await);
    let ben = server.person("ben").await.at(there);
    let den = [("room", "den"), ("name", "The Den"), ("access", "private")];
    makes(&ana, &den).await;
    let said = ana.says("den", "hello").await;
    let path = link(&ana, &[("room", "den"), ("uses", "2")]).await;
    let seen = ben.json(&path).await;
    assert_eq!(
        (&seen["room"], &seen["title"]),
        (&"den".into(), &"The Den".into())
    );
    let page = ben.get(&path).await.text().await.unwrap();
    assert_contains(&page, "ana invites you to The Den.");
    assert_eq!(ben.get("/rooms/den").await.status(), StatusCode::NOT_FOUND);
    let entered = ben.post(&path, &[]).await;
    assert_eq!(entered.status(), StatusCode::SEE_OTHER);
    assert_eq!(entered.headers()["location"], "/rooms/den");
    let log = ben.log("den").await;
    assert_eq!(log[said as usize - 1]["body"], "hello");
    let joined = log.last().unwrap();
    assert_eq!(
        (&joined["type"], &joined["by"]["username"]),
        (&"joined".into(), &"ana".into())
    );
    // From there on the link leads to the room.
    assert_eq!(ben.get(&path).await.headers()["location"], "/rooms/den");
    assert_eq!(ben.post(&path, &[]).await.status(), StatusCode::SEE_OTHER);
    // Somebody new is in the room at once.
    let came = signs_up(there, &path, "cleo").await;
    assert_eq!(came.status(), StatusCode::CREATED);
    assert_eq!(came.headers()["location"], "/rooms/den");
    let cleo = Person::sign_in(there, "cleo").await;
    assert_eq!(cleo.get("/rooms/den").await.status(), StatusCode::OK);
    assert_eq!(
        ana.json("/rooms/den/people").await["people"]
            .as_array()
            .unwrap()
            .len(),
        3
    );
    // It is used up: people who came by it open it again, or click twice, and are in; nobody else is.
    assert_eq!(ben.get(&path).await.headers()["location"], "/rooms/den");
    assert_eq!(posts(&ben, &path, &[]).await, StatusCode::CREATED);
    let twice = signs_up(there, &path, "cleo").await;
    assert_eq!(twice.status(), StatusCode::CREATED);
    assert_eq!(admin.get(&path).await.status(), StatusCode::NOT_FOUND);
    assert_eq!(posts(&admin, &path, &[]).await, StatusCode::NOT_FOUND);
    // A member's link to a room makes no account where an admin's invitation is needed.
    posts(&admin, "/admin/sign-up", &[("sign_up", "invite")]).await;
    let path = link(&ana, &[("room", "den"), ("uses", "9")]).await;
    let page = Person::nobody(there).get(&path).await.text().await.unwrap();
    assert_contains(&page, "ana invites you to The Den.");
    assert_contains(&page, "New people come to this server by invitation.");
    assert_contains(&page, &format!("/login?next={path}"));
    let refused = signs_up(there, &path, "dan").await;
    assert_eq!(refused.status(), StatusCode::FORBIDDEN);
    assert_eq!(admin.post(&path, &[]).await.status(), StatusCode::SEE_OTHER);
    // Somebody who is kept out stays out.
    posts(&ana, "/rooms/den/people/ben/ban", &[]).await;
    assert_eq!(posts(&ben, &path, &[]).await, StatusCode::FORBIDDEN);
    // A link is as good as its maker: who may invite no more lets nobody in.
    posts(&admin, "/rooms/den/people/ana/remove", &[]).await;
    let is_over = async || {
        let status = Person::nobody(there).get(&path).await.status();
        status == StatusCode::NOT_FOUND
    };
    eventually("the link is over", Duration::from_secs(3), is_over).await;
    // They can still take it back, and hear nothing of the room.
    posts(&admin, "/rooms/den/people", &[("username", "admin")]).await;
    posts(&admin, "/rooms/den/settings", &[("name", "Another name")]).await;
    let listed = ana.json("/invites").await;
    let links = listed["invites"].as_array().unwrap();
    assert_eq!((links.len(), &links[0]["good"]), (1, &false.into()));
    let page = ana.get("/invites").await.text().await.unwrap();
    assert_contains(&page, "It opens nothing now: you may not invite there.");
    assert_lacks(&page, "Another name");
    let page = admin.get("/invites").await.text().await.unwrap();
    assert_contains(
        &page,
        "It opens nothing now: its maker may not invite there.",
    );
    let revoke = format!("/invites/{}/revoke", links[0]["id"].as_str().unwrap());
    assert_eq!(posts(&ben, &revoke, &[]).await, StatusCode::NOT_FOUND);
    assert_eq!(posts(&ana, &revoke, &[]).await, StatusCode::NO_CONTENT);
    assert_eq!(posts(&ana, &revoke, &[]).await, StatusCode::NOT_FOUND);
    let log = admin.get_as("text/plain", "/admin/audit").await;
    let log = log.text().await.unwrap();
    assert_contains(&log, "\tana\ttook back a link to den\n");
}

async fn whoever_may_invite_does(backend: Backend) {
    let server = Server::start(backend).await;
    let (admin, ana) = (server.person("admin").await, server.person("ana").await);
    let ben = server.person("ben").await;
    for access in ["open", "private"] {
        makes(&ana, &[("room", access), ("access", access)]).await;
        posts(
            &ana,
            &format!("/rooms/{access}/people"),
            &[("username", "ben")],
        )
        .await;
    }
    let with = sends(&ana, Method::POST, "/directs", &[("with", "ben")]).await;
    let direct: Value = with.json().await.unwrap();
    let direct = direct["room"].as_str().unwrap();
    let cleo = server.person("cleo").await;
    for (person, to, status) in [
        (&admin, "", StatusCode::CREATED),
        (&admin, "open", StatusCode::CREATED),
        (&admin, "private", StatusCode::CREATED),
        (&admin, direct, StatusCode::NOT_FOUND),
        (&admin, "nothing", StatusCode::NOT_FOUND),
        (&ana, "", StatusCode::FORBIDDEN),
        (&ana, "open", StatusCode::CREATED),
        (&ana, "private", StatusCode::CREATED),
        (&ana, direct, StatusCode::FORBIDDEN),
        (&ben, "open", StatusCode::CREATED),
        (&ben, "private", StatusCode::FORBIDDEN),
        (&cleo, "open", StatusCode::FORBIDDEN),
        (&cleo, "private", StatusCode::NOT_FOUND),
        (&cleo, "nothing", StatusCode::NOT_FOUND),
        (&cleo, "no room", StatusCode::UNPROCESSABLE_ENTITY),
    ] {
        let made = posts(person, "/invites", &[("room", to)]).await;
        assert_eq!(made, status, "{} to {to:?}", person.name);
    }
    for form in [[("uses", "0")], [("uses", "many")], [("days", "366")]] {
        let answer = sends(&admin, Method::POST, "/invites", &form).await;
        assert_eq!(answer.status(), StatusCode::UNPROCESSABLE_ENTITY);
        let problem: Value = answer.json().await.unwrap();
        assert!(problem["errors"][form[0].0].is_string(), "{problem}");
        let page = admin.post("/invites", &form).await;
        assert_eq!(page.status(), StatusCode::UNPROCESSABLE_ENTITY);
        let page = page.text().await.unwrap();
        assert_contains(&page, &format!("value=\"{}\"", form[0].1));
    }
    let page = ana.get("/rooms/private/people").await.text().await.unwrap();
    assert_contains(&page, "/invites?room=private");
    let page = ben.get("/rooms/private/people").await.text().await.unwrap();
    assert_lacks(&page, "/invites?room=private");
    let page = ben.get("/invites?room=private").await.text().await.unwrap();
    assert_lacks(&page, "Make a link");
    let page = ana.get("/invites?room=private").await.text().await.unwrap();
    assert_contains(&page, "Make a link");
    // As numbers, too.
    let request = admin.request(Method::POST, "/invites");
    let request = request.json(&serde_json::json!({ "uses": 3, "days": 1 }));
    let answer = request
        .header(ACCEPT, "application/json")
        .send()
        .await
        .unwrap();
    let made: Value = answer.json().await.unwrap();
    assert_eq!(made["uses_left"], 3);
    let page = admin.post("/invites", &[]).await;
    let page = page.text().await.unwrap();
    assert_contains(&page, "/join/");
    assert_contains(&page, "aria-label=\"The link as a QR code\"");
}

async fn links_are_taken_back(backend: Backend) {
    let server = Server::start(backend).await;
    let (admin, ana) = (server.person("admin").await, server.person("ana").await);
    let ben = server.person("ben").await;
    for person in [&ana, &ben] {
        person.enters("tea").await;
    }
    let anas = link(&ana, &[("room", "tea")]).await;
    let bens = link(&ben, &[("room", "tea")]).await;
    let listed = async |person: &Person| {
        let listed = person.json("/invites").await;
        listed["invites"].as_array().unwrap().clone()
    };
    let own = listed(&ana).await;
    assert_eq!(own.len(), 1);
    assert_eq!(own[0]["by"], "ana");
    assert!(own[0].get("link").is_none(), "it is shown once");
    let all = listed(&admin).await;
    assert_eq!(
        (&all[0]["by"], &all[1]["by"]),
        (&"ben".into(), &"ana".into())
    );
    let revoke = |id: &Value| format!("/invites/{}/revoke", id.as_str().unwrap());
    // Nobody takes back another's, but an admin.
    assert_eq!(
        posts(&ben, &revoke(&own[0]["id"]), &[]).await,
        StatusCode::NOT_FOUND
    );
    assert_eq!(
        posts(&ana, &revoke(&own[0]["id"]), &[]).await,
        StatusCode::NO_CONTENT
    );
    let nobody = Person::nobody(&server.base);
    assert_eq!(nobody.get(&anas).await.status(), StatusCode::NOT_FOUND);
    assert_eq!(nobody.get(&bens).await.status(), StatusCode::OK);
    let path = format!("/invites/{}", all[0]["id"].as_str().unwrap());
    let taken = sends(&admin, Method::DELETE, &path, &[]).await;
    assert_eq!(taken.status(), StatusCode::NO_CONTENT);
    assert_eq!(nobody.get(&bens).await.status(), StatusCode::NOT_FOUND);
    assert_eq!(listed(&admin).await.len(), 0);
    // Of one person at most a hundred are good at a time.
    for _ in 0..100 {
        link(&ana, &[("room", "tea")]).await;
    }
    let more = posts(&ana, "/invites", &[("room", "tea")]).await;
    assert_eq!(more, StatusCode::UNPROCESSABLE_ENTITY);
    // An admin sees everybody's, a page at a time.
    link(&admin, &[]).await;
    let first = admin.json("/invites").await;
    let links = first["invites"].as_array().unwrap();
    assert_eq!((links.len(), &links[0]["by"]), (100, &"admin".into()));
    let next = format!("/invites?before={}", first["next"].as_str().unwrap());
    let page = admin.get("/invites").await.text().await.unwrap();
    assert_contains(&page, &format!("href=\"{next}\""));
    let second = admin.json(&next).await;
    assert_eq!(second["invites"].as_array().unwrap().len(), 1);
    assert!(second["next"].is_null());
    let answer = admin.get("/invites?before=x").await;
    assert_eq!(answer.status(), StatusCode::UNPROCESSABLE_ENTITY);
}

async fn who_may_sign_up_is_an_admins_choice(backend: Backend) {
    let mut server = Server::start_with(backend, &[("SIGNUP", "closed")]).await;
    let other = server.another_node_on(backend).await;
    let there = other.as_ref().unwrap_or(&server).base.clone();
    // The first comes in all the same.
    let admin = server.person("admin").await;
    let refused = signs_up(&there, "/signup", "ana").await;
    assert_eq!(refused.status(), StatusCode::FORBIDDEN);
    let page = Person::nobody(&there)
        .get("/signup")
        .await
        .text()
        .await
        .unwrap();
    assert_contains(&page, "This server takes no new people.");
    let path = link(&admin, &[]).await;
    let refused = signs_up(&there, &path, "ana").await;
    assert_eq!(refused.status(), StatusCode::FORBIDDEN);
    assert_eq!(admin.json("/admin").await["sign_up"], "closed");
    for (policy, status) in [
        ("sometimes", StatusCode::UNPROCESSABLE_ENTITY),
        ("invite", StatusCode::NO_CONTENT),
    ] {
        let chosen = posts(&admin, "/admin/sign-up", &[("sign_up", policy)]).await;
        assert_eq!(chosen, status, "{policy}");
    }
    // Nothing was spent while nobody might.
    assert_eq!(
        signs_up(&there, &path, "ana").await.status(),
        StatusCode::CREATED
    );
    let ana = Person::sign_in(&there, "ana").await;
    let not_hers = posts(&ana, "/admin/sign-up", &[("sign_up", "open")]).await;
    assert_eq!(not_hers, StatusCode::FORBIDDEN);
    posts(&admin, "/admin/sign-up", &[("sign_up", "open")]).await;
    assert_eq!(
        signs_up(&there, "/signup", "ben").await.status(),
        StatusCode::CREATED
    );
    // The choice outlives a restart, whatever the setting says.
    server.terminate();
    server.start_again().await;
    let came = signs_up(&server.base, "/signup", "cleo").await;
    assert_eq!(came.status(), StatusCode::CREATED);
}
