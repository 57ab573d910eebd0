//! Every route, for everybody, in every kind of room: the status that each must give.

use std::collections::{BTreeSet, HashMap};

use reqwest::header::ACCEPT;
use reqwest::{Method, StatusCode};
use serde_json::Value;

use super::{makes, posts, sends};
use crate::support::{Backend, Person, Server};

on_both_stores!(
    every_route_answers_as_the_table_says,
    whoever_was_signed_out_gets_back_to_a_page,
);

/// The group of people who may use a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum For {
    /// Everybody.
    All,
    /// Whoever is signed in.
    SignedIn,
    /// Members of the room.
    Members,
    /// Its owners; or the author of the message, who is one here.
    Owners,
    /// Belongs to one person: a request is refused as nobody's, or as wrong.
    Own,
    /// Admins of the server.
    Admins,
}

type Route = (
    &'static str,
    &'static str,
    For,
    &'static [(&'static str, &'static str)],
);

/// The routes with what is sent. `MESSAGE` is the number of a message of the owner's.
const TABLE: [Route; 82] = [
    ("GET", "/", For::All, &[]),
    ("GET", "/signup", For::All, &[]),
    ("POST", "/signup", For::All, &[]),
    ("GET", "/login", For::All, &[]),
    ("POST", "/login", For::All, &[]),
    ("GET", "/healthz", For::All, &[]),
    ("GET", "/readyz", For::All, &[]),
    ("GET", "/emoji", For::All, &[]),
    ("GET", "/reacted.css", For::All, &[]),
    ("GET", "/reader.css", For::All, &[]),
    ("GET", "/manifest.webmanifest", For::All, &[]),
    ("GET", "/avatars/1/{file}", For::All, &[]),
    ("GET", "/static/{file}", For::All, &[]),
    ("GET", "/rooms/{room}/frame", For::All, &[]),
    ("GET", "/rooms/{room}/frame/again", For::All, &[]),
    ("GET", "/new", For::SignedIn, &[]),
    ("GET", "/directs", For::SignedIn, &[]),
    ("POST", "/directs", For::SignedIn, &[("with", "owner")]),
    ("GET", "/rooms", For::SignedIn, &[]),
    ("POST", "/rooms", For::SignedIn, &[("room", "entered")]),
    ("GET", "/mentions", For::SignedIn, &[]),
    ("GET", "/rooms/{room}", For::Members, &[]),
    ("GET", "/rooms/{room}/events", For::Members, &[]),
    ("GET", "/rooms/{room}/live", For::Members, &[]),
    ("GET", "/rooms/{room}/people", For::Members, &[]),
    ("GET", "/rooms/{room}/settings", For::Members, &[]),
    ("GET", "/rooms/{room}/messages", For::Members, &[]),
    ("GET", "/rooms/{room}/messages/{seq}", For::Members, &[]),
    (
        "POST",
        "/rooms/{room}/messages",
        For::Members,
        &[("body", "x")],
    ),
    ("POST", "/rooms/{room}/read", For::Members, &[("seq", "1")]),
    ("POST", "/rooms/{room}/typing", For::Members, &[]),
    (
        "POST",
        "/rooms/{room}/level",
        For::Members,
        &[("level", "all")],
    ),
    (
        "POST",
        "/rooms/{room}/messages/{seq}/reactions",
        For::Members,
        &[("emoji", "👍")],
    ),
    (
        "PUT",
        "/rooms/{room}/messages/{seq}/reactions/{emoji}",
        For::Members,
        &[],
    ),
    (
        "DELETE",
        "/rooms/{room}/messages/{seq}/reactions/{emoji}",
        For::Members,
        &[],
    ),
    (
        "POST",
        "/rooms/{room}/settings",
        For::Owners,
        &[("topic", "x")],
    ),
    (
        "POST",
        "/rooms/{room}/people",
        For::Owners,
        &[("username", "owner")],
    ),
    (
        "POST",
        "/rooms/{room}/people/{username}/role",
        For::Owners,
        &[("role", "owner")],
    ),
    (
        "DELETE",
        "/rooms/{room}/people/{username}",
        For::Owners,
        &[],
    ),
    (
        "POST",
        "/rooms/{room}/people/{username}/remove",
        For::Owners,
        &[],
    ),
    (
        "POST",
        "/rooms/{room}/people/{username}/ban",
        For::Owners,
        &[("on", "0")],
    ),
    (
        "PUT",
        "/rooms/{room}/people/{username}/ban",
        For::Owners,
        &[],
    ),
    (
        "DELETE",
        "/rooms/{room}/people/{username}/ban",
        For::Owners,
        &[],
    ),
    (
        "POST",
        "/rooms/{room}/messages/{seq}",
        For::Owners,
        &[("body", "y")],
    ),
    (
        "PATCH",
        "/rooms/{room}/messages/{seq}",
        For::Owners,
        &[("body", "z")],
    ),
    (
        "POST",
        "/rooms/{room}/messages/{seq}/delete",
        For::Owners,
        &[],
    ),
    ("DELETE", "/rooms/{room}/messages/{seq}", For::Owners, &[]),
    // Without its id typed nothing is deleted.
    ("POST", "/rooms/{room}/delete", For::Owners, &[]),
    ("GET", "/account", For::SignedIn, &[]),
    ("GET", "/account/export", For::SignedIn, &[]),
    ("POST", "/account", For::SignedIn, &[]),
    ("POST", "/account/password", For::Own, &[]),
    ("POST", "/account/delete", For::Own, &[]),
    (
        "POST",
        "/account/blocks",
        For::SignedIn,
        &[("username", "somebody"), ("on", "0")],
    ),
    ("GET", "/folded.css", For::All, &[]),
    ("DELETE", "/account/sessions/{id}", For::Own, &[]),
    ("POST", "/account/sessions/{id}/end", For::Own, &[]),
    ("GET", "/invites", For::SignedIn, &[]),
    ("POST", "/invites", For::Admins, &[]),
    ("DELETE", "/invites/{id}", For::Own, &[]),
    ("POST", "/invites/{id}/revoke", For::Own, &[]),
    ("GET", "/join/{secret}", For::All, &[]),
    ("POST", "/join/{secret}", For::All, &[]),
    (
        "POST",
        "/admin/people/{username}/deactivate",
        For::Admins,
        &[("on", "0")],
    ),
    (
        "POST",
        "/admin/people/{username}/sign-out",
        For::Admins,
        &[],
    ),
    (
        "POST",
        "/admin/people/{username}/delete",
        For::Admins,
        &[("messages", "keep")],
    ),
    ("GET", "/admin/audit", For::Admins, &[]),
    ("GET", "/admin/rooms", For::Admins, &[]),
    ("GET", "/admin/reports", For::Admins, &[]),
    ("POST", "/admin/reports/{id}/close", For::Admins, &[]),
    (
        "POST",
        "/rooms/{room}/messages/{seq}/report",
        For::Members,
        &[],
    ),
    (
        "POST",
        "/admin/sign-up",
        For::Admins,
        &[("sign_up", "open")],
    ),
    ("GET", "/forgot", For::All, &[]),
    ("POST", "/forgot", For::All, &[]),
    ("GET", "/reset/{secret}", For::All, &[]),
    ("POST", "/reset/{secret}", For::All, &[]),
    ("POST", "/admin/people/{username}/reset", For::Admins, &[]),
    ("GET", "/admin", For::Admins, &[]),
    (
        "POST",
        "/admin/people/{username}/role",
        For::Admins,
        &[("role", "member")],
    ),
    // Whoever is no member has left.
    ("POST", "/rooms/{room}/leave", For::SignedIn, &[]),
    ("POST", "/logout", For::All, &[]),
    ("HEAD", "/healthz", For::All, &[]),
];

const EVERYBODY: [&str; 7] = [
    "stranger", "outsider", "removed", "banned", "admin", "member", "owner",
];

/// An admin may read it without being in the room.
const IS_VIEWED: [&str; 2] = ["/people", "/settings"];

/// The routes that the program has, as its source says: method and path.
fn routes() -> BTreeSet<(String, String)> {
    let source = include_str!("../../../src/web/mod.rs");
    let mut routes = BTreeSet::new();
    for route in source.split(".route(").skip(1) {
        let path = route.split('"').nth(1).expect("a path");
        // Its methods stand between the path and the end of the call.
        let mut depth = 1;
        let end = route.find(|c| {
            depth += i32::from(c == '(') - i32::from(c == ')');
            depth == 0
        });
        let methods = &route[..end.expect("the end of a route")];
        for method in ["get", "post", "put", "patch", "delete"] {
            if methods.contains(&format!("{method}(")) {
                routes.insert((method.to_uppercase(), path.to_owned()));
            }
        }
    }
    routes
}

async fn every_route_answers_as_the_table_says(backend: Backend) {
    let known: BTreeSet<(String, String)> = { TABLE.iter() }
        .map(|(method, path, ..)| ((*method).to_owned(), (*path).to_owned()))
        .filter(|(method, _)| method != "HEAD")
        .collect();
    assert_eq!(routes(), known, "every route has a line in the table");

    let server = Server::start(backend).await;
    let mut people = HashMap::new();
    for name in ["admin", "owner", "member", "outsider", "removed", "banned"] {
        people.insert(name, server.person(name).await);
    }
    server.person("somebody").await;
    let owner = &people["owner"];
    let mut messages = HashMap::new();
    for access in ["open", "unlisted", "private", "archived"] {
        let kind = if access == "archived" { "open" } else { access };
        makes(owner, &[("room", access), ("access", kind)]).await;
        for added in ["member", "removed", "banned"] {
            let add = format!("/rooms/{access}/people");
            posts(owner, &add, &[("username", added)]).await;
        }
        posts(owner, &format!("/rooms/{access}/people/banned/ban"), &[]).await;
        messages.insert(access, owner.says(access, "hello").await);
        // A moment ago.
        posts(
            owner,
            &format!("/rooms/{access}/people/removed/remove"),
            &[],
        )
        .await;
    }
    posts(owner, "/rooms/archived/settings", &[("archived", "1")]).await;
    let with = [("with", "member")];
    let direct = sends(owner, Method::POST, "/directs", &with).await;
    let direct: Value = direct.json().await.unwrap();
    let direct = direct["room"].as_str().unwrap();
    messages.insert("direct", owner.says(direct, "hello").await);
    people.insert("stranger", Person::nobody(&server.base));

    let mut wrong = Vec::new();
    for (method, path, whom, form) in TABLE {
        // The owner's own requests come last: some of them can be made only once.
        for name in EVERYBODY {
            for access in ["open", "unlisted", "private", "direct", "archived"] {
                let is_room_role = path.ends_with("role") && path.contains("{room}");
                let username = if is_room_role { "owner" } else { "somebody" };
                let path = path
                    .replace("{room}", if access == "direct" { direct } else { access })
                    .replace("{seq}", &messages[access].to_string())
                    .replace("{emoji}", "%F0%9F%91%8D")
                    .replace("{username}", username)
                    .replace("{id}", "01a21bcb-a1c4-7383-b5ee-3227617084b9")
                    .replace("{file}", "nothing");
                let ends = path.ends_with("/leave") && ["member", "owner"].contains(&name);
                if ends && access != "direct" || path == "/logout" {
                    // They are needed for the rest.
                    continue;
                }
                let who = &people[name];
                let request = who.request(method.parse::<Method>().unwrap(), &path);
                let request = request.header(ACCEPT, "application/json").form(form);
                let status = request.send().await.unwrap().status();
                let expected = expected(method, whom, name, access, &path);
                let is_as_said = match expected {
                    Some(expected) => status == expected,
                    None if whom == For::All => {
                        status != StatusCode::FORBIDDEN && !status.is_server_error()
                    }
                    None => status.is_success(),
                };
                if !is_as_said {
                    wrong.push(format!("{method} {path} by {name}: {status}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    for name in ["member", "owner"] {
        for access in ["open", "unlisted", "private", "archived"] {
            let leave = format!("/rooms/{access}/leave");
            let left = posts(&people[name], &leave, &[]).await;
            assert_eq!(left, StatusCode::NO_CONTENT, "{leave} by {name}");
            let path = format!("/rooms/{access}");
            let page = people[name].get_as("application/json", &path).await;
            assert!(page.status().is_client_error(), "{leave} by {name}");
        }
    }
    for name in EVERYBODY {
        let out = posts(&people[name], "/logout", &[]).await;
        assert_eq!(out, StatusCode::NO_CONTENT, "{name}");
        let lobby = people[name].get_as("application/json", "/rooms").await;
        assert_eq!(lobby.status(), StatusCode::UNAUTHORIZED, "{name}");
    }
}

/// Whatever somebody does once their session is over, signing in leads to a page.
async fn whoever_was_signed_out_gets_back_to_a_page(backend: Backend) {
    let server = Server::start(backend).await;
    let (owner, nobody) = (server.person("owner").await, Person::nobody(&server.base));
    makes(&owner, &[("room", "tea"), ("access", "open")]).await;
    let message = owner.says("tea", "hello").await.to_string();
    // A message that was typed is shown again instead, so that it is not lost.
    let typed = ["/rooms/{room}/messages", "/rooms/{room}/messages/{seq}"];
    let posts =
        { TABLE.iter() }.filter(|(method, path, ..)| *method == "POST" && !typed.contains(path));
    for (_, path, whom, form) in posts.filter(|(_, _, whom, _)| *whom != For::All) {
        let path = path
            .replace("{room}", "tea")
            .replace("{seq}", &message)
            .replace("{username}", "owner")
            .replace("{id}", "others");
        let answer = nobody.post(&path, form).await;
        let sent = format!("{path} for {whom:?}");
        assert_eq!(answer.status(), StatusCode::SEE_OTHER, "{sent}");
        let login = answer.headers()["location"].to_str().unwrap();
        let next = login
            .split_once("?next=")
            .map_or("/rooms", |(_, next)| next);
        let next = next.replace("%2F", "/");
        let page = owner.get(&next).await;
        assert_eq!(page.status(), StatusCode::OK, "{sent}: {next}");
    }
}

/// The status of a refusal; `None` where there is none.
fn expected(method: &str, whom: For, name: &str, access: &str, path: &str) -> Option<StatusCode> {
    let is_direct = access == "direct";
    let is_room_deletion = path.ends_with("/delete") && !path.contains("/messages/");
    let is_outside = ["admin", "outsider", "removed", "banned"].contains(&name);
    match whom {
        For::All => None,
        _ if name == "stranger" => Some(StatusCode::UNAUTHORIZED),
        For::SignedIn if is_direct && path.ends_with("/leave") => {
            Some(StatusCode::UNPROCESSABLE_ENTITY)
        }
        For::SignedIn => None,
        For::Own if path.starts_with("/account/password") || path == "/account/delete" => {
            Some(StatusCode::UNPROCESSABLE_ENTITY)
        }
        For::Own => Some(StatusCode::NOT_FOUND),
        For::Admins if name == "admin" && path.ends_with("/close") => Some(StatusCode::NOT_FOUND),
        For::Admins if name == "admin" && path.ends_with("/delete") => {
            Some(StatusCode::UNPROCESSABLE_ENTITY)
        }
        For::Admins if name == "admin" => None,
        For::Admins => Some(StatusCode::FORBIDDEN),
        For::Owners if name == "admin" && !is_direct && is_room_deletion => {
            Some(StatusCode::UNPROCESSABLE_ENTITY)
        }
        // They decide about rooms, and read what is written there once they are seen to enter.
        For::Owners if name == "admin" && !is_direct && !path.contains("/messages") => None,
        For::Members
            if name == "admin" && !is_direct && IS_VIEWED.iter().any(|end| path.ends_with(end)) =>
        {
            None
        }
        _ if is_outside && (is_direct || access == "private") => Some(StatusCode::NOT_FOUND),
        _ if is_outside => Some(StatusCode::FORBIDDEN),
        // But deleting, which an archive must not prevent, and reading.
        For::Members | For::Owners
            if access == "archived"
                && is_writing(method, path)
                && !(whom == For::Owners && name == "member") =>
        {
            Some(StatusCode::FORBIDDEN)
        }
        For::Members => None,
        // Nobody owns it; what one wrote is still one's own.
        For::Owners if is_direct && !path.contains("/messages/") => Some(StatusCode::FORBIDDEN),
        For::Owners if name == "member" => Some(StatusCode::FORBIDDEN),
        For::Owners if is_room_deletion => Some(StatusCode::UNPROCESSABLE_ENTITY),
        For::Owners => None,
    }
}

/// Whether it is to write in a room; deleting and reporting is not.
fn is_writing(method: &str, path: &str) -> bool {
    let is_message = path.contains("/messages") && !path.ends_with("/report");
    let is_deletion =
        path.ends_with("/delete") || method == "DELETE" && !path.contains("/reactions");
    is_message && method != "GET" && !is_deletion
}
