//! Mentioning people, and being mentioned.

use std::time::Duration;

use fantoccini::Locator;
use reqwest::Method;
use reqwest::header::ACCEPT;

use super::at_tea;
use super::changes::{ENTER, ESCAPE};
use super::looks::Look;
use crate::support::{Backend, Browser, Person, Server, eventually};

const DOWN: &str = "\u{e015}";
const UP: &str = "\u{e013}";
const TAB: &str = "\u{e004}";

/// The name that a screen reader says is chosen in the list.
const CHOSEN: &str = "document.getElementById(document.getElementById('composer-text')\
     .getAttribute('aria-activedescendant') ?? 'composer-text').dataset.name";

async fn tells_all(who: &Person, room: &str, body: &str) {
    let request = who.request(Method::POST, &format!("/rooms/{room}/messages"));
    let form = [("body", body), ("confirm", "room")];
    let sent = request.header(ACCEPT, "application/json").form(&form);
    assert_eq!(sent.send().await.unwrap().status(), 201);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_is_completed_by_keyboard() {
    let (server, ben, ana) = at_tea().await;
    for name in ["bea", "benjamin"] {
        server.person(name).await.enters("tea").await;
    }
    ben.says("tea", "I spoke last").await;
    ana.shows(&["I spoke last"]).await;
    let typed = async |keys: &str| {
        let focused = ana.client.active_element().await.unwrap();
        focused.send_keys(keys).await.unwrap();
    };
    let value = async |expected: &str| {
        let is = format!("document.getElementById('composer-text').value === '{expected}'");
        ana.until(&is).await;
    };
    typed("mail me@b").await;
    typed(" hi @b").await;
    // The last speaker first; the arrows go round.
    ana.until(&format!("{CHOSEN} === 'ben'")).await;
    ana.hears("3 names. The arrows choose, Enter takes.").await;
    Look::with(&ana).at("room-names").await;
    typed(DOWN).await;
    ana.until(&format!("{CHOSEN} === 'bea'")).await;
    typed(&format!("{UP}{UP}")).await;
    ana.until(&format!("{CHOSEN} === 'benjamin'")).await;
    typed(DOWN).await;
    typed(DOWN).await;
    typed(ENTER).await;
    value("mail me@b hi @bea ").await;
    ana.until("document.getElementById('people').hidden").await;
    typed("and @benj").await;
    ana.until(&format!("{CHOSEN} === 'benjamin'")).await;
    typed(TAB).await;
    value("mail me@b hi @bea and @benjamin ").await;
    // Given up, Enter sends what was typed.
    typed("@be").await;
    ana.until(&format!("{CHOSEN} === 'ben'")).await;
    typed(ESCAPE).await;
    ana.until("document.getElementById('people').hidden").await;
    typed(ENTER).await;
    let sent = "mail me@b hi @bea and @benjamin @be";
    ana.shows(&["I spoke last", sent]).await;
    // A name that was offered for less is not taken for more, however slow the server is.
    ana.evaluate(
        "window.honest = fetch; window.fetch = async (url, options) => { \
         if (url.includes('/people')) await new Promise((done) => setTimeout(done, 600)); \
         return honest(url, options); }; 0",
    )
    .await;
    typed("@be").await;
    ana.until(&format!("{CHOSEN} === 'ben'")).await;
    typed(&format!("xx{ENTER}")).await;
    typed(&format!("@bea{ENTER}")).await;
    ana.shows(&["I spoke last", sent, "@bexx", "@bea"]).await;
    tokio::time::sleep(Duration::from_millis(900)).await;
    ana.until("document.getElementById('people').hidden").await;
    ana.evaluate("fetch = honest; 0").await;
    // By mouse or finger.
    typed("@be").await;
    ana.until(&format!("{CHOSEN} === 'ben'")).await;
    ana.clicks("#people [data-name=bea]").await;
    value("@bea ").await;
    ana.until("document.activeElement.id === 'composer-text'")
        .await;
    let log = ben.log("tea").await;
    let mentions = log[log.len() - 3]["mentions"].as_array().unwrap().len();
    assert_eq!(mentions, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn everybody_is_asked_about_first() {
    let (_server, ben, ana) = at_tea().await;
    ana.says("@room: tea").await;
    ana.sees("@room tells everybody else in this room: one person.")
        .await;
    Look::with(&ana).at("room-asks-first").await;
    // Other messages do not wait for it.
    ana.says("meanwhile").await;
    ana.shows(&["meanwhile"]).await;
    let send = "//button[.='Send to everybody']";
    let send = ana.client.find(Locator::XPath(send)).await.unwrap();
    send.click().await.unwrap();
    ana.shows(&["meanwhile", "@room: tea"]).await;
    ana.until("!document.querySelector('#outbox .message')")
        .await;
    assert_eq!(ben.log("tea").await.last().unwrap()["mentions_room"], true);
    ana.says("not @room").await;
    let back = "//button[.='Take it back']";
    ana.sees("one person.").await;
    let back = ana.client.find(Locator::XPath(back)).await.unwrap();
    back.click().await.unwrap();
    ana.until("document.getElementById('composer-text').value === 'not @room'")
        .await;
    assert_eq!(ben.log("tea").await.last().unwrap()["body"], "@room: tea");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_for_me_stands_out_and_is_counted() {
    let (server, ben, ana) = at_tea().await;
    let marks = "Array.from(document.querySelectorAll('#log .message'), (row) => \
         getComputedStyle(row.querySelector('.meta'), '::after').content === '\"mentions you\"').join()";
    ben.says("tea", "for nobody").await;
    ben.says("tea", "for @ana").await;
    tells_all(&ben, "tea", "for @room").await;
    ana.until(&format!("{marks} === 'false,true,true'")).await;
    ana.says("for @ben and @ana").await;
    ana.until(&format!("{marks} === 'false,true,true,false'"))
        .await;
    Look::with(&ana).at("room-mentions").await;

    // Elsewhere, in the title before what is unread, and on the list.
    let rooms = Browser::open().await;
    rooms.goto(&server.base).await;
    rooms.signs_in("ana").await;
    for room in ["den", "loft"] {
        ben.enters(room).await;
        rooms.goto(&format!("{}/rooms", server.base)).await;
        rooms.enters(room).await;
    }
    rooms.is_following().await;
    ben.says("den", "for nobody").await;
    ben.says("den", "for @ana").await;
    rooms
        .until("document.title === '(1 mention, 2 unread) loft – Parlor'")
        .await;
    ben.says("den", "@ana once more").await;
    rooms
        .until("document.title === '(2 mentions, 3 unread) loft – Parlor'")
        .await;
    // As far as the level counts them.
    let levels = Person::sign_in(&server.base, "ana").await;
    for (level, title) in [
        ("nothing", "loft – Parlor"),
        ("mentions", "(2 mentions, 2 unread) loft – Parlor"),
        ("all", "(2 mentions, 3 unread) loft – Parlor"),
    ] {
        let form = [("level", level)];
        levels.post("/rooms/den/level", &form).await;
        rooms.until(&format!("document.title === '{title}'")).await;
    }
    rooms
        .until("document.querySelector('[data-room=den] .mentioned').innerText.startsWith('@2')")
        .await;
    rooms
        .until("document.querySelector('.to-mentions .mentioned').innerText.startsWith('@2')")
        .await;
    rooms.goto(&format!("{}/rooms", server.base)).await;
    rooms
        .until("document.querySelector('[data-room=den] .mentioned').innerText.startsWith('@2')")
        .await;
    Look::with(&rooms).at("lobby-mentions").await;
    rooms.clicks(".to-mentions a").await;
    rooms.sees("once more").await;
    Look::with(&rooms).at("mentions").await;
    rooms.clicks("main li a").await;
    rooms
        .until("!!document.querySelector('.marked[data-mentions]')")
        .await;
    rooms.clicks(".bar .back").await;
    rooms.is_following().await;
    rooms.until("document.title === 'den – Parlor'").await;
    // Reading is noted a moment later.
    let is_read = async || {
        rooms.goto(&format!("{}/mentions", server.base)).await;
        !rooms.text().await.contains("Unread")
    };
    eventually("it is read", Duration::from_secs(5), is_read).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mentions_work_without_scripts() {
    let server = Server::start(Backend::Sqlite).await;
    let ben = server.person("ben").await;
    ben.enters("tea").await;
    let ana = Browser::open_without_scripts().await;
    ana.signs_up(&server.base, "ana").await;
    ana.goto(&format!("{}/mentions", server.base)).await;
    ana.sees("Nobody has mentioned you yet").await;
    Look::with(&ana).only_at("mentions-empty").await;
    ana.goto(&format!("{}/rooms", server.base)).await;
    ana.enters("tea").await;
    ana.types("#composer-text", "@room: tea").await;
    ana.clicks(".composer button").await;
    ana.sees("everybody else in this room: one person").await;
    Look::with(&ana).only_at("asks-first").await;
    ana.clicks(".composer button").await;
    ana.sees("ana joined").await;
    assert_eq!(ben.log("tea").await.last().unwrap()["mentions_room"], true);
    ben.says("tea", "for @ana").await;
    ana.goto(&format!("{}/mentions", server.base)).await;
    ana.clicks("main li a").await;
    ana.sees("for @ana").await;
    let shows = "getComputedStyle(document.querySelector('.marked .meta'), '::after').content";
    assert_eq!(ana.evaluate(shows).await, "\"mentions you\"");
}
