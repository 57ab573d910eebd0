//! Writing and sending: shown at once, never lost, never twice.

use std::time::Duration;

use serde_json::json;
use tokio::time::sleep;

use super::at_tea;
use crate::support::{Backend, Browser, Person, Proxy, Server};

#[tokio::test(flavor = "multi_thread")]
async fn two_people_talk() {
    let server = Server::start(Backend::Sqlite).await;
    let (ana, ben) = tokio::join!(Browser::open(), Browser::open());
    for (browser, name) in [(&ana, "ana"), (&ben, "ben")] {
        browser.signs_up(&server.base, name).await;
        browser.enters("tea").await;
        browser.is_following().await;
    }
    ana.sees("ben joined").await;
    ana.says("Is there any tea left?").await;
    ben.shows(&["Is there any tea left?"]).await;
    ben.says("Half a pot. See https://tea.example/brewing?cups=2&strong for how.")
        .await;
    let said = [
        "Is there any tea left?",
        "Half a pot. See https://tea.example/brewing?cups=2&strong for how.",
    ];
    ana.shows(&said).await;
    ben.shows(&said).await;
    let link = ana.find("#log .body a").await;
    let target = link.attr("href").await.unwrap().unwrap();
    assert_eq!(target, "https://tea.example/brewing?cups=2&strong");
    ana.sees("ana and ben are here").await;

    // Shift+Enter breaks the line, Enter sends.
    ana.types("#composer-text", "two\u{e008}\u{e007}\u{e000}lines\u{e007}")
        .await;
    ben.shows(&[said[0], said[1], "two\nlines"]).await;
    assert_eq!(
        ana.evaluate("document.activeElement.id").await,
        "composer-text"
    );
    assert_eq!(
        ana.evaluate("document.getElementById('composer-text').value")
            .await,
        ""
    );
    // What is too long comes back into the composer, with the reason.
    ana.evaluate("document.getElementById('composer-text').value = 'long '.repeat(1000)")
        .await;
    ana.clicks("#composer button").await;
    ana.sees("at most 4,000 characters").await;
    let kept = ana
        .evaluate("document.getElementById('composer-text').value.length")
        .await;
    assert_eq!(kept, 5_000);
    for browser in [&ana, &ben] {
        let complaints = browser.console().await;
        let unexpected = complaints.iter().filter(|line| !line.contains("422"));
        assert_eq!(unexpected.count(), 0, "{complaints:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn four_quick_messages_are_four() {
    let server = Server::start(Backend::Sqlite).await;
    let ana = Browser::open().await;
    ana.signs_up(&server.base, "ana").await;
    ana.enters("tea").await;
    ana.is_following().await;
    ana.types(
        "#composer-text",
        "one\u{e007}two\u{e007}three\u{e007}four\u{e007}five",
    )
    .await;
    ana.shows(&["one", "two", "three", "four"]).await;
    assert_eq!(
        ana.evaluate("document.getElementById('composer-text').value")
            .await,
        "five"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_while_typing_loses_nothing() {
    let mut server = Server::start(Backend::Sqlite).await;
    let ana = Browser::open().await;
    ana.signs_up(&server.base, "ana").await;
    let ben = server.person("ben").await;
    ben.enters("tea").await;
    ana.enters("tea").await;
    ana.is_following().await;
    ana.says("before").await;
    ana.shows(&["before"]).await;
    ana.types("#composer-text", "half a sent").await;
    server.kill();
    ana.sees("Connecting again…").await;
    ana.types("#composer-text", "ence\u{e007}").await;
    ana.sees("Not sent yet.").await;
    assert_eq!(
        ana.evaluate("document.querySelector('#outbox .body').innerText")
            .await,
        "half a sentence"
    );
    ana.types("#composer-text", "and the next").await;
    server.start_again().await;
    ben.says("tea", "meanwhile").await;
    ana.until("document.querySelectorAll('#log .body').length === 3")
        .await;
    let mut shown = ana.messages().await;
    shown[1..].sort();
    assert_eq!(shown, ["before", "half a sentence", "meanwhile"]);
    assert_eq!(
        ana.evaluate("document.getElementById('composer-text').value")
            .await,
        "and the next"
    );
    ana.until("document.getElementById('connection').textContent === ''")
        .await;
    ana.types("#composer-text", "\u{e007}").await;
    ana.until("document.querySelectorAll('#log .body').length === 4")
        .await;
    // What was typed and not sent outlives a reload.
    ana.types("#composer-text", "a draft").await;
    ana.client.refresh().await.unwrap();
    ana.find("#composer-text").await;
    ana.until("document.getElementById('composer-text').value === 'a draft'")
        .await;
    assert_eq!(
        ben.log("tea").await.len(),
        6,
        "two joins and four messages, none twice"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_shows_at_once_and_becomes_the_real_one_in_its_place() {
    let (server, ben, ana) = at_tea().await;
    for number in 0..40 {
        ben.says("tea", &format!("before {number}")).await;
    }
    ana.until("document.querySelectorAll('#log .body').length === 40")
        .await;
    let pause = |signal: &str| {
        let pid = server.pid().to_string();
        let sent = std::process::Command::new("kill")
            .args([signal, &pid])
            .status();
        assert!(sent.unwrap().success());
    };
    pause("-STOP");
    ana.types("#composer-text", "one\u{e007}`two`\u{e007}")
        .await;
    ana.until("document.querySelectorAll('#outbox .pending').length === 2")
        .await;
    assert_eq!(
        ana.evaluate("document.getElementById('composer-text').value")
            .await,
        ""
    );
    let place = "document.querySelectorAll('#outbox .body, #log .body')";
    let tops = format!(
        "Array.from({place}, (e) => [e.innerText.replaceAll('`', ''), Math.round(e.getBoundingClientRect().top)]).slice(-3)"
    );
    let before = ana.evaluate(&tops).await;
    // From here on every frame is looked at: never none of it, never twice.
    ana.evaluate(
        "window.seen = new Set(); (function look() { \
         seen.add(['one', 'two'].map((text) => Array.from(document.querySelectorAll('.body'))\
         .filter((e) => e.innerText.replaceAll('`', '') === text).length).join()); \
         requestAnimationFrame(look); })()",
    )
    .await;
    pause("-CONT");
    ana.until("document.querySelectorAll('#log .body').length === 42 && !document.querySelector('.pending')")
        .await;
    assert_eq!(ana.evaluate(&tops).await, before, "it moved");
    assert_eq!(
        ana.evaluate("Array.from(seen)").await,
        json!(["1,1"]),
        "it flickered"
    );
    // Both came at once, perhaps in one piece, and still stand together.
    let follows = "document.querySelector('#log > :last-child').classList.contains('follows')";
    assert_eq!(ana.evaluate(follows).await, true);
    assert_eq!(ben.log("tea").await.len(), 44);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_could_not_be_sent_waits_through_a_reload() {
    let server = Server::start(Backend::Sqlite).await;
    let proxy = Proxy::before(server.address()).await;
    let ana = Browser::open().await;
    ana.signs_up(&proxy.base, "ana").await;
    ana.enters("tea").await;
    ana.is_following().await;
    // Posts fail, pages don't.
    ana.evaluate("htmx.ajax = async () => { throw new Error('no network'); }")
        .await;
    ana.says("do not lose this").await;
    ana.sees("Not sent yet.").await;
    ana.sees("Try again").await;
    ana.client.refresh().await.unwrap();
    ana.shows(&["do not lose this"]).await;
    ana.until("!document.querySelector('.pending')").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_could_not_be_sent_waits_until_its_author_is_back() {
    let server = Server::start(Backend::Sqlite).await;
    let ana = Browser::open().await;
    ana.signs_up(&server.base, "ana").await;
    ana.enters("tea").await;
    ana.is_following().await;
    ana.evaluate("htmx.ajax = async () => { throw new Error('no network'); }")
        .await;
    ana.says("do not lose this").await;
    ana.says("nor this").await;
    ana.sees("Not sent yet.").await;
    let room = ana.client.window().await.unwrap();
    let other = ana.client.new_window(true).await.unwrap().handle;
    ana.client.switch_to_window(other).await.unwrap();
    ana.goto(&format!("{}/rooms", server.base)).await;
    ana.clicks(".account button").await;
    ana.find("form[action='/login']").await;
    ana.client.switch_to_window(room).await.unwrap();
    ana.find("form[action='/login']").await;
    // Even its tab may go.
    ana.client.close_window().await.unwrap();
    let left = ana.client.windows().await.unwrap().remove(0);
    ana.client.switch_to_window(left).await.unwrap();
    ana.types("#username", "ana").await;
    ana.types("#password", crate::support::PASSWORD).await;
    ana.clicks("main button").await;
    ana.enters("tea").await;
    ana.shows(&["do not lose this", "nor this"]).await;
    ana.until("!document.querySelector('.pending')").await;
    let kept = "Object.keys(localStorage).filter((key) => key.includes(':out:')).length";
    assert_eq!(ana.evaluate(kept).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn drafts_are_kept_per_room() {
    let (_server, ben, ana) = at_tea().await;
    ben.enters("den").await;
    ana.types("#composer-text", "for the tea room").await;
    ana.clicks(".bar .back").await;
    ana.enters("den").await;
    let draft = "document.getElementById('composer-text').value";
    assert_eq!(ana.evaluate(draft).await, "");
    ana.types("#composer-text", "for the den").await;
    for (room, says) in [("tea", "for the tea room"), ("den", "for the den")] {
        ana.clicks(&format!(".side li[data-room={room}] a")).await;
        ana.until(&format!(
            "document.body.dataset.room === '{room}' && {draft} === '{says}'"
        ))
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_fails_again_and_again_leaves_the_reader_alone() {
    let (_server, ben, ana) = at_tea().await;
    for number in 0..40 {
        ben.says("tea", &format!("number {number}")).await;
    }
    ana.sees("number 39").await;
    ana.evaluate("htmx.ajax = async () => { throw new Error('no network'); }")
        .await;
    ana.says("stuck").await;
    ana.sees("Not sent yet.").await;
    ana.evaluate("scroller.scrollTop = 100").await;
    // It is said once, however often it is tried.
    ana.evaluate(
        "window.said = 0; new MutationObserver(() => { said += 1; })\
         .observe(document.getElementById('outbox'), { childList: true, subtree: true })",
    )
    .await;
    sleep(Duration::from_secs(3)).await;
    assert_eq!(ana.evaluate("scroller.scrollTop").await, 100);
    assert_eq!(ana.evaluate("said").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_typing_is_said_calmly() {
    let (server, ben, ana) = at_tea().await;
    let (cem, dan) = (server.person("cem").await, server.person("dan").await);
    let mut bens = ben.listens("tea", 0).await;
    // Nothing moves for it.
    let top = "document.getElementById('composer').getBoundingClientRect().top";
    let before = ana.evaluate(top).await;
    let line = "document.getElementById('typing').textContent";
    let type_all = async |people: &[&Person]| {
        for person in people {
            person.enters("tea").await;
            person.post("/rooms/tea/typing", &[]).await;
        }
    };
    type_all(&[&ben]).await;
    ana.until(&format!("{line} === 'ben is typing…'")).await;
    type_all(&[&ben, &cem]).await;
    ana.until(&format!("{line} === 'ben and cem are typing…'"))
        .await;
    type_all(&[&ben, &cem, &dan]).await;
    ana.until(&format!("{line} === 'Several people are typing…'"))
        .await;
    ana.screenshot("room-typing-desk-light").await;
    assert_eq!(ana.evaluate(top).await, before);
    // With their message it is over at once, else after a while.
    cem.says("tea", "that was it").await;
    ana.until(&format!("{line} === 'ben and dan are typing…'"))
        .await;
    ana.until(&format!("{line} === ''")).await;

    // One's own is for the others only.
    ana.types("#composer-text", "well, ").await;
    let notice = bens.next_notice("typing").await.json();
    let mut names = notice["names"].clone();
    while names != json!(["ana"]) {
        names = bens.next_notice("typing").await.json()["names"].clone();
    }
    sleep(Duration::from_millis(500)).await;
    assert_eq!(ana.evaluate(line).await, "");
}
