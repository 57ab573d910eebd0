//! Writing and sending: shown at once, never lost, never twice.

use std::time::Duration;

use serde_json::json;
use tokio::time::sleep;

use super::{NOTHING_IS_SENT, at_tea};
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
    // A text that is too long comes back into the composer, with the reason.
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
    // A text that was not sent outlives a reload.
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
    ana.evaluate(NOTHING_IS_SENT).await;
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
    ana.evaluate(NOTHING_IS_SENT).await;
    ana.says("do not lose this").await;
    ana.says("nor this").await;
    ana.sees("Not sent yet.").await;
    ana.signs_out_elsewhere(&server.base).await;
    ana.find("form[action='/login']").await;
    // Even its tab may go.
    ana.client.close_window().await.unwrap();
    let left = ana.client.windows().await.unwrap().remove(0);
    ana.client.switch_to_window(left).await.unwrap();
    ana.signs_in("ana").await;
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
    ana.evaluate(NOTHING_IS_SENT).await;
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

#[tokio::test(flavor = "multi_thread")]
async fn a_page_speaks_for_nobody_but_who_it_was_made_for() {
    let server = Server::start(Backend::Sqlite).await;
    let ben = server.person("ben").await;
    ben.enters("tea").await;
    let browser = Browser::open().await;
    browser.signs_up(&server.base, "ana").await;
    browser.enters("tea").await;
    browser.is_following().await;
    // Ana's page cannot send, and while it tries somebody else signs in in her browser.
    browser.evaluate(NOTHING_IS_SENT).await;
    browser.says("from ana").await;
    browser.sees("Not sent yet.").await;
    let page = browser.client.window().await.unwrap();
    let other = browser.client.new_window(true).await.unwrap().handle;
    let sign_out_and_in_as = async |name: &str| {
        browser.goto(&format!("{}/rooms", server.base)).await;
        browser.clicks(".account button").await;
        browser.find("form[action='/login']").await;
        browser.signs_in(name).await;
        browser.find("form.enter").await;
    };
    browser.client.switch_to_window(other).await.unwrap();
    sign_out_and_in_as("ben").await;
    browser.client.switch_to_window(page).await.unwrap();
    // Her page becomes his, or led to the sign-in when she was out and he not yet in; it says nothing in his name.
    browser
        .until("document.body.dataset.name === 'ben' || document.querySelector('form[action=\"/login\"]') !== null")
        .await;
    browser.goto(&format!("{}/rooms/tea", server.base)).await;
    browser.until("document.body.dataset.name === 'ben'").await;
    browser.is_following().await;
    browser.says("from ben").await;
    browser.shows(&["from ben"]).await;
    let said = |log: Vec<serde_json::Value>| -> Vec<(String, String)> {
        let said = log.into_iter().filter(|event| event["type"] == "message");
        said.map(|event| {
            let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
            (text(&event["author"]["username"]), text(&event["body"]))
        })
        .collect()
    };
    let (ana, ben_says) = (
        ("ana".to_owned(), "from ana".to_owned()),
        ("ben".to_owned(), "from ben".to_owned()),
    );
    assert_eq!(said(ben.log("tea").await), std::slice::from_ref(&ben_says));
    // Hers waits for her.
    sign_out_and_in_as("ana").await;
    browser.enters("tea").await;
    browser.shows(&["from ben", "from ana"]).await;
    assert_eq!(said(ben.log("tea").await), [ben_says, ana]);
    // Nor does a request that is sent all the same.
    let id = browser.evaluate("document.body.dataset.user").await;
    let form = [("body", "forged")];
    let path = format!("/rooms/tea/messages?as={}", id.as_str().unwrap());
    let answer = ben.request(reqwest::Method::POST, &path).form(&form).send();
    let status = answer.await.unwrap().status();
    assert_eq!(status, reqwest::StatusCode::UNAUTHORIZED);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_servers_own_answer_counts_as_sent() {
    let (_server, ben, ana) = at_tea().await;
    // Something in between answers in its place: a portal, a proxy that wants a password.
    ana.evaluate(
        "window.honest = fetch; window.lies = ['200', '302', '401', '403', '404', '502']; \
         window.fetch = async (url, options) => { \
           if (!String(url.url ?? url).includes('/messages')) return honest(url, options); \
           const lie = lies.shift(); \
           if (!lie) return honest(url, options); \
           const status = lie === '302' ? 200 : Number(lie); \
           return new Response('<h1>Welcome to our network</h1>', \
             { status, headers: { 'Content-Type': 'text/html' } }); }; 0",
    )
    .await;
    ana.says("through the portal").await;
    ana.sees("Not sent yet.").await;
    for _ in 0..20 {
        ana.evaluate("document.querySelector('#outbox button')?.click()")
            .await;
        sleep(Duration::from_millis(200)).await;
    }
    ana.shows(&["through the portal"]).await;
    ana.until("!document.querySelector('.pending')").await;
    assert_eq!(ben.log("tea").await.len(), 3, "two joins and a message");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_writes_faster_than_is_allowed_loses_nothing() {
    let server = Server::start_with(Backend::Sqlite, &[("RATE_LIMITS", "on")]).await;
    let ana = Browser::open().await;
    ana.signs_up(&server.base, "ana").await;
    ana.enters("tea").await;
    ana.is_following().await;
    ana.evaluate(
        "(() => { const text = document.getElementById('composer-text'); \
         for (let n = 1; n <= 40; n += 1) { text.value = `number ${n}`; \
           document.getElementById('composer').requestSubmit(); } })()",
    )
    .await;
    let all: Vec<String> = (1..=40).map(|number| format!("number {number}")).collect();
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    ana.shows(&all).await;
    ana.until("!document.querySelector('.pending')").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_old_goes_out_only_when_asked() {
    let server = Server::start(Backend::Sqlite).await;
    let ana = Browser::open().await;
    ana.signs_up(&server.base, "ana").await;
    ana.enters("tea").await;
    ana.evaluate(NOTHING_IS_SENT).await;
    ana.says("lunch?").await;
    ana.sees("Not sent yet.").await;
    // An hour passes.
    ana.evaluate(
        "(() => { for (const key of Object.keys(localStorage)) { \
         const kept = JSON.parse(localStorage[key]); kept.at -= 3_600_000; \
         localStorage[key] = JSON.stringify(kept); } })()",
    )
    .await;
    ana.goto(&format!("{}/rooms", server.base)).await;
    ana.sees("not sent yet").await;
    ana.screenshot("lobby-unsent-desk-light").await;
    ana.clicks("li[data-room=tea] a").await;
    ana.is_following().await;
    ana.sees("Not sent yet.").await;
    sleep(Duration::from_secs(2)).await;
    assert_eq!(ana.messages().await, Vec::<String>::new());
    // It holds up nothing that is written now.
    ana.says("good evening").await;
    ana.shows(&["good evening"]).await;
    ana.until("document.querySelectorAll('.pending').length === 1")
        .await;
    ana.clicks("#outbox button").await;
    ana.shows(&["good evening", "lunch?"]).await;
    ana.until("!document.querySelector('.pending')").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_will_never_go_out_can_be_taken_back() {
    let (_server, ben, ana) = at_tea().await;
    // Something in between refuses this text, and will for ever.
    ana.evaluate(
        "window.honest = fetch; window.fetch = async (url, options) => { \
           const body = options?.body ? new URLSearchParams(options.body).get('body') : ''; \
           if (body !== 'DROP TABLE') return honest(url, options); \
           return new Response('<h1>Blocked</h1>', { status: 403, \
             headers: { 'Content-Type': 'text/html', 'Retry-After': 'Wed, 21 Oct 2037 07:28:00 GMT' } }); }; 0",
    )
    .await;
    ana.says("DROP TABLE").await;
    ana.says("what else?").await;
    ana.sees("Not sent yet.").await;
    let buttons = "Array.from(document.querySelectorAll('#outbox button'), (e) => e.innerText)";
    assert_eq!(
        ana.evaluate(buttons).await,
        json!(["Try again", "Take it back"])
    );
    ana.screenshot("room-refused-desk-light").await;
    // With the keyboard, too: from the composer to the row, and on to its buttons.
    ana.types("#composer-text", "\u{e013}").await;
    let focused = "document.activeElement.className";
    assert_eq!(ana.evaluate(focused).await, "message pending follows");
    ana.evaluate("document.querySelector('#outbox button:last-child').focus()")
        .await;
    let active = ana.client.active_element().await.unwrap();
    active.send_keys("\u{e007}").await.unwrap();
    ana.shows(&["what else?"]).await;
    let text = "document.activeElement.value";
    assert_eq!(ana.evaluate(text).await, "DROP TABLE");
    assert_eq!(ben.log("tea").await.len(), 3);
    ana.client.refresh().await.unwrap();
    ana.is_following().await;
    ana.shows(&["what else?"]).await;
    ana.until("!document.querySelector('.pending')").await;
}
