//! A page that stands without any one of its parts: either it works as the next poorer form does, or it
//! says so. Each test takes the part away.

use std::time::Duration;

use serde_json::json;
use tokio::time::{Instant, sleep};

use super::at_tea;
use super::looks::Look;
use crate::support::{Backend, Browser, Mood, Person, Proxy, Server, eventually};

/// How many messages of ana's say this, in the log.
async fn count(log: &Person, says: &str) -> usize {
    let log = log.log("tea").await;
    log.iter().filter(|event| event["body"] == says).count()
}

/// Ana hears ben and says something, whichever way her page has.
async fn they_talk(ana: &Browser, ben: &Person, about: &str) {
    let (bens, anas) = (format!("ben on {about}"), format!("ana on {about}"));
    ben.says("tea", &bens).await;
    ana.hears(&bens).await;
    ana.types("#composer-text", &anas).await;
    // Not by the driver, which needs some of what is missing.
    ana.evaluate("document.querySelector('#composer button').click()")
        .await;
    let said = async || count(ben, &anas).await == 1;
    eventually(&anas, Duration::from_secs(20), said).await;
    ana.hears(&anas).await;
    // It does not stand in the field any more, also where the page was loaded again.
    ana.until("document.getElementById('composer-text')?.value === ''")
        .await;
    ana.until("!document.querySelector('.pending')").await;
    assert_eq!(count(ben, &anas).await, 1, "{about}");
}

/// The ways in which a browser may refuse to keep something for a page.
const NO_STORAGE: [(&str, &str); 5] = [
    (
        "none",
        "Object.defineProperty(window, 'localStorage', { value: undefined })",
    ),
    (
        "null",
        "Object.defineProperty(window, 'localStorage', { value: null })",
    ),
    (
        "locked",
        "for (const kind of ['localStorage', 'sessionStorage']) Object.defineProperty(window, kind, \
         { get() { throw new DOMException('denied', 'SecurityError'); } })",
    ),
    (
        "full",
        "Storage.prototype.setItem = () => { throw new DOMException('full', 'QuotaExceededError'); }",
    ),
    (
        "broken",
        "for (const name of ['getItem', 'setItem', 'removeItem', 'key']) \
         Storage.prototype[name] = () => { throw new Error('an error of the disk'); }",
    ),
];

#[tokio::test(flavor = "multi_thread")]
async fn without_storage_only_what_is_kept_is_lost() {
    let (server, ben, ana) = at_tea().await;
    ben.enters("den").await;
    ana.clicks(".bar .back").await;
    ana.enters("den").await;
    let room = format!("{}/rooms/tea", server.base);
    for (number, (about, script)) in NO_STORAGE.into_iter().enumerate() {
        let script = ana.begins_with(script).await;
        ana.goto(&room).await;
        ana.is_following().await;
        ana.console().await;
        they_talk(&ana, &ben, about).await;
        // The second as well as the first, and what waits for the network.
        ana.evaluate(super::NOTHING_IS_SENT).await;
        ana.says("waits").await;
        ana.sees("Not sent yet.").await;
        ana.evaluate("fetch = honest; 0").await;
        ana.until("!document.querySelector('.pending')").await;
        ben.says("den", "elsewhere").await;
        let title = format!("document.title === '({}) tea – Parlor'", number + 1);
        ana.until(&title).await;
        assert_eq!(ana.console().await, Vec::<String>::new(), "{about}");
        ana.no_longer_begins_with(script).await;
    }
    assert_eq!(count(&ben, "waits").await, NO_STORAGE.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_kept_may_be_anything() {
    let (server, ben, ana) = at_tea().await;
    ana.evaluate(
        "(() => { const { user, room } = document.body.dataset; const mine = `parlor:${user}:${room}`; \
         localStorage.setItem(`${mine}:out:1`, 'no JSON'); \
         localStorage.setItem(`${mine}:out:2`, 'null'); \
         localStorage.setItem(`${mine}:out:3`, '{\"body\":7}'); \
         localStorage.setItem(`${mine}:draft`, 'long '.repeat(200_000)); })()",
    )
    .await;
    let began = Instant::now();
    ana.goto(&format!("{}/rooms/tea", server.base)).await;
    ana.is_following().await;
    ana.sees("Your draft had 1,000,000 characters").await;
    assert!(began.elapsed() < Duration::from_secs(10));
    let length = "document.getElementById('composer-text').value.length";
    assert_eq!(ana.evaluate(length).await, 4_000);
    ana.evaluate("document.getElementById('composer-text').value = ''")
        .await;
    they_talk(&ana, &ben, "what was kept").await;
    ana.client.refresh().await.unwrap();
    ana.is_following().await;
    assert_eq!(ana.evaluate(length).await, 0);
}

/// By the start of their files' names; `app` is the style sheet.
const SCRIPTS: [&str; 5] = ["watchdog", "app", "room", "htmx.min", "hx-sse.min"];

async fn any_script(of: fn(&'static str) -> Mood) {
    let server = Server::start(Backend::Sqlite).await;
    let proxy = Proxy::before(server.address()).await;
    let ben = server.person("ben").await;
    ben.enters("tea").await;
    let ana = Browser::open_impatient().await;
    ana.signs_up(&proxy.base, "ana").await;
    ana.enters("tea").await;
    for script in SCRIPTS {
        let mood = of(script);
        let about = format!("{mood:?}");
        proxy.is(mood);
        ana.devtools("Network.clearBrowserCache", json!({})).await;
        ana.goto("about:blank").await;
        ana.goto(&format!("{}/rooms/tea", proxy.base)).await;
        ana.find("#composer-text").await;
        ana.sees("Message").await;
        ana.evaluate("requestAnimationFrame(() => { window.isPainted = true; }); 0")
            .await;
        ana.until("window.isPainted === true").await;
        they_talk(&ana, &ben, &about).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn any_script_may_be_missing() {
    any_script(Mood::Loses).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn any_script_may_be_cut_off() {
    any_script(Mood::Cuts).await;
    any_script(Mood::Breaks).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn any_script_may_never_come() {
    any_script(Mood::Hangs).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_whose_scripts_do_not_work_says_so() {
    let (server, ben, ana) = at_tea().await;
    ben.says("tea", "https://example.org before").await;
    let look = Look::with(&ana);
    ana.devtools("Network.enable", json!({})).await;
    for (blocked, name) in [
        (vec!["*/static/room.*"], "room-without-its-stream"),
        (vec!["*/static/*.js"], "room-without-scripts-at-all"),
    ] {
        let urls = json!({ "urls": blocked });
        ana.devtools("Network.setBlockedURLs", urls).await;
        ana.devtools("Network.clearBrowserCache", json!({})).await;
        ana.goto(&format!("{}/rooms/tea", server.base)).await;
        // Not hidden, nor out of sight.
        let link = "document.querySelector('#again a')";
        ana.until(&format!(
            "getComputedStyle({link}).visibility === 'visible' && {link}.parentElement.clientHeight > 40"
        ))
        .await;
        if name == "room-without-its-stream" {
            ana.sees("A part of this page is missing.").await;
            ben.says("tea", "in the frame").await;
            ana.hears("in the frame").await;
        } else {
            ben.says("tea", "by the link").await;
            ana.clicks("#again a").await;
            ana.sees("by the link").await;
            ana.until(&format!("{link}?.parentElement.clientHeight > 40"))
                .await;
        }
        look.at(name).await;
    }
    ana.devtools("Network.setBlockedURLs", json!({ "urls": [] }))
        .await;
    ana.goto(&format!("{}/rooms/tea", server.base)).await;
    ana.is_following().await;
    ana.until("document.getElementById('again').hidden").await;
    assert_eq!(
        ana.evaluate("!!document.querySelector('iframe')").await,
        false
    );
}

/// Features that browsers lacked, or lack where pages are not from a secure place.
const FEATURES: [&str; 24] = [
    "BroadcastChannel",
    "ResizeObserver",
    "IntersectionObserver",
    "MutationObserver",
    "CSSStyleSheet.prototype.replaceSync",
    "Document.prototype.adoptedStyleSheets",
    "Navigator.prototype.locks",
    "Notification",
    "AbortController",
    "Intl",
    "DOMParser",
    "TextDecoder",
    "ReadableStream",
    "Response.prototype.body",
    "fetch",
    "crypto",
    "CSS",
    "matchMedia",
    "visualViewport",
    "Array.prototype.findLast",
    "Array.prototype.at",
    "HTMLFormElement.prototype.requestSubmit",
    "HTMLDialogElement.prototype.showModal",
    "Element.prototype.replaceChildren",
];

#[tokio::test(flavor = "multi_thread")]
async fn any_feature_of_the_browser_may_be_missing() {
    let (server, ben, ana) = at_tea().await;
    for feature in FEATURES {
        let (owner, name) = feature.rsplit_once('.').unwrap_or(("window", feature));
        let script = format!(
            "try {{ delete {owner}.{name}; }} catch {{}} if ('{name}' in {owner}) \
             Object.defineProperty({owner}, '{name}', {{ value: undefined, writable: true }});"
        );
        let script = ana.begins_with(&script).await;
        ana.goto(&format!("{}/rooms/tea", server.base)).await;
        let gone = format!("typeof {owner}.{name} === 'undefined'");
        assert_eq!(ana.evaluate(&gone).await, true, "{feature} is still there");
        they_talk(&ana, &ben, feature).await;
        ana.no_longer_begins_with(script).await;
    }
}

async fn a_stream_held_back(mood: Mood, within: Duration) {
    let server = Server::start(Backend::Sqlite).await;
    let proxy = Proxy::before(server.address()).await;
    let ben = server.person("ben").await;
    ben.enters("tea").await;
    let ana = Browser::open().await;
    ana.signs_up(&proxy.base, "ana").await;
    ana.enters("tea").await;
    proxy.is(mood.clone());
    ana.goto(&format!("{}/rooms/tea", proxy.base)).await;
    let began = Instant::now();
    if mood == Mood::HoldsRest {
        ana.is_following().await;
    }
    ben.says("tea", "one").await;
    eventually("the first comes", within, async || {
        ana.messages().await == ["one"]
    })
    .await;
    println!("{mood:?}: after {:?}", began.elapsed());
    ana.evaluate(
        "window.said = []; new MutationObserver(() => { said.push(document.getElementById('connection').textContent); })\
         .observe(document.getElementById('connection'), { childList: true })",
    )
    .await;
    // From then on they come as they are said, and so do one's own.
    let mut expected = vec!["one".to_owned()];
    for number in 0..5 {
        let began = Instant::now();
        let (bens, anas) = (format!("{mood:?} {number}"), format!("heard {number}"));
        ben.says("tea", &bens).await;
        ana.sees(&bens).await;
        ana.says(&anas).await;
        expected.extend([bens, anas]);
        let shown: Vec<&str> = expected.iter().map(String::as_str).collect();
        ana.shows(&shown).await;
        ana.until("!document.querySelector('.pending')").await;
        let took = began.elapsed();
        assert!(took < Duration::from_secs(5), "it took {took:?}");
    }
    let said = ana.evaluate("said.filter(Boolean)").await;
    assert_eq!(said, json!([]), "{mood:?}");
    // The stream is tried now and then, and taken up where the poll is.
    proxy.is(Mood::Honest);
    let state = "document.getElementById('log').dataset.state === 'stream'";
    let is_taken_up = async || ana.evaluate(state).await == true;
    // One that is held back still is given up after forty seconds.
    let longest = Duration::from_secs(60);
    eventually("the stream is taken up", longest, is_taken_up).await;
    for number in 0..5 {
        proxy.cut();
        expected.push(format!("cut {number}"));
        ben.says("tea", expected.last().unwrap()).await;
    }
    let shown: Vec<&str> = expected.iter().map(String::as_str).collect();
    ana.shows(&shown).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn behind_a_proxy_that_holds_streams_the_page_asks_again_and_again() {
    let soon = Duration::from_secs(12);
    for mood in [Mood::HoldsStreams, Mood::HoldsBodies, Mood::RefusesStreams] {
        a_stream_held_back(mood, soon).await;
    }
}

/// Only its silence tells, which the heartbeat breaks every 15 seconds elsewhere.
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_only_begins_is_not_believed_twice() {
    a_stream_held_back(Mood::HoldsRest, Duration::from_secs(55)).await;
}

/// Puts a text into the clipboard and presses the keys for pasting.
async fn paste(ana: &Browser, text: &str) {
    let text = serde_json::to_string(text).unwrap();
    ana.evaluate(&format!("navigator.clipboard.writeText({text})"))
        .await;
    ana.evaluate("document.getElementById('composer-text').focus()")
        .await;
    for kind in ["rawKeyDown", "keyUp"] {
        let key = json!({ "type": kind, "modifiers": 2, "key": "v", "code": "KeyV", "windowsVirtualKeyCode": 86,
                          "commands": ["paste"] });
        ana.devtools("Input.dispatchKeyEvent", key).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_long_is_refused_at_the_paste() {
    let (server, ben, ana) = at_tea().await;
    let permissions = json!({ "origin": server.base,
        "permissions": ["clipboardReadWrite", "clipboardSanitizedWrite"] });
    ana.devtools("Browser.grantPermissions", permissions).await;
    let value = "document.getElementById('composer-text').value";
    ana.types("#composer-text", "before ").await;
    paste(&ana, "short").await;
    ana.until(&format!("{value} === 'before short'")).await;
    for (text, length) in [
        ("x".repeat(1_000_000), "1,000,000"),
        ("y".repeat(4_001), "4,001"),
        ("👍".repeat(4_000), "4,000"),
        ("a\r\n".repeat(2_000), "4,000"),
        ("z".repeat(3_990), "3,990"),
    ] {
        let began = Instant::now();
        paste(&ana, &text).await;
        ana.sees(&format!("This text of {length} characters was not put in."))
            .await;
        let took = began.elapsed();
        assert!(took < Duration::from_secs(5), "it took {took:?}");
        assert_eq!(ana.evaluate(value).await, "before short");
    }
    Look::with(&ana).at("room-paste-refused").await;
    // By other ways than the keys.
    for event in [
        "new DragEvent('drop', { dataTransfer, cancelable: true })",
        "new InputEvent('beforeinput', { dataTransfer, inputType: 'insertFromDrop', cancelable: true })",
        "new InputEvent('beforeinput', { data: text, inputType: 'insertReplacementText', cancelable: true })",
    ] {
        let refused = format!(
            "(() => {{ const text = 'x'.repeat(5_000); const dataTransfer = new DataTransfer(); \
             dataTransfer.setData('text/plain', text); \
             return !document.getElementById('composer-text').dispatchEvent({event}); }})()"
        );
        assert_eq!(ana.evaluate(&refused).await, true, "{event}");
    }
    // A text that just fits is taken: an emoji is one character, as the server counts.
    ana.evaluate(&format!("{value} = ''")).await;
    paste(&ana, &"👍".repeat(4_000)).await;
    ana.until(&format!("{value}.length === 8_000")).await;
    ana.sees("4,000 of 4,000 characters").await;
    ana.until("!document.getElementById('composer-notice').textContent")
        .await;
    // Typing may go beyond, and is counted; it is not sent before it is shortened.
    ana.types("#composer-text", "and on").await;
    ana.sees("4,006 of 4,000 characters").await;
    Look::with(&ana).at("room-too-long").await;
    ana.types("#composer-text", "\u{e007}").await;
    ana.sees("A message has at most 4,000 characters.").await;
    ana.types("#composer-text", &"\u{e003}".repeat(6)).await;
    ana.sees("4,000 of 4,000 characters").await;
    ana.types("#composer-text", "\u{e007}").await;
    ana.until(&format!("{value} === ''")).await;
    let taken = async || count(&ben, &"👍".repeat(4_000)).await == 1;
    eventually("it is taken", Duration::from_secs(10), taken).await;
}

/// As a browser's translation does it: every text is wrapped, and another.
const TRANSLATE: &str = "(() => { const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT); \
     const all = []; while (texts.nextNode()) all.push(texts.currentNode); \
     for (const text of all) { if (!text.data.trim()) continue; \
       const [outer, inner] = [document.createElement('font'), document.createElement('font')]; \
       outer.append(inner); text.before(outer); inner.textContent = `${text.data} `; text.remove(); } })(); 0";

#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_is_translated_goes_on() {
    let (server, ben, ana) = at_tea().await;
    ben.enters("den").await;
    ana.clicks(".bar .back").await;
    ana.enters("den").await;
    ben.says("tea", "zero").await;
    ana.goto(&format!("{}/rooms/den", server.base)).await;
    ana.is_following().await;
    let badge = "document.querySelector('.side li[data-room=tea] .unread')";
    for (number, text) in [(2, "one"), (3, "two")] {
        ana.evaluate(TRANSLATE).await;
        ben.says("tea", text).await;
        ana.until(&format!("{badge}.innerText.startsWith('{number}')"))
            .await;
        ana.until(&format!("document.title.startsWith('({number})')"))
            .await;
    }
    // The wide list and the number beside the way back; and in the lobby.
    let elsewhere = "document.getElementById('elsewhere').textContent";
    ana.until(&format!("{elsewhere}.startsWith('3')")).await;
    // A waiting message is known again, though it reads another way by now.
    ana.evaluate(super::NOTHING_IS_SENT).await;
    ana.says("from ana").await;
    ana.sees("Not sent yet.").await;
    ana.evaluate(TRANSLATE).await;
    ana.evaluate("fetch = honest; 0").await;
    ana.until("document.querySelector('#log > :last-child').innerText.includes('from ana')")
        .await;
    ana.until("!document.querySelector('.pending')").await;
    ana.clicks(".bar .back").await;
    ana.find("form.enter").await;
    ana.evaluate(TRANSLATE).await;
    ben.says("tea", "three").await;
    ana.until(
        "document.querySelector('.rooms li[data-room=tea] .unread').innerText.startsWith('4')",
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_turns_words_around_leaves_links_alone() {
    let (_server, ben, ana) = at_tea().await;
    ben.says(
        "tea",
        "\u{202e}abc https://example.org/left `code` \u{202e}",
    )
    .await;
    ana.sees("https://example.org/left").await;
    // Where the first and the last letter stand.
    for css in ["a", "code"] {
        let runs = format!(
            "(() => {{ const text = document.querySelector('#log .body {css}').firstChild; \
             const at = (from) => {{ const range = document.createRange(); range.setStart(text, from); \
               range.setEnd(text, from + 1); return range.getBoundingClientRect().left; }}; \
             return at(0) < at(text.length - 1); }})()"
        );
        assert_eq!(ana.evaluate(&runs).await, true, "{css}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_found_on_every_keyboard() {
    let (_server, ben, ana) = at_tea().await;
    ben.enters("den").await;
    let press = async |key: &str, code: &str, modifiers: u32| {
        let down =
            json!({ "type": "rawKeyDown", "key": key, "code": code, "modifiers": modifiers });
        ana.devtools("Input.dispatchKeyEvent", down).await;
    };
    let (alt, control, meta, shift) = (1, 2, 4, 8);
    let is_open = "document.getElementById('jump').open";
    for (key, code, modifiers, opens) in [
        ("k", "KeyK", control, true),
        ("k", "KeyK", meta, true),
        ("K", "KeyK", control, true),
        ("л", "KeyK", control, true),
        ("Л", "KeyK", control, true),
        ("κ", "KeyK", control, true),
        ("k", "KeyV", control, true),
        ("t", "KeyK", control, false),
        ("k", "KeyK", control | alt, false),
        ("K", "KeyK", control | shift, false),
        ("k", "KeyK", 0, false),
    ] {
        press(key, code, modifiers).await;
        let opened = ana.evaluate(is_open).await;
        assert_eq!(opened, opens, "{key} at {code} with {modifiers}");
        ana.evaluate("document.getElementById('jump').close()")
            .await;
    }
    // On a tablet Enter alone breaks the line, and with Control it sends.
    ana.has_size(820, 1180, true).await;
    ana.until("matchMedia('(hover: none) and (pointer: coarse)').matches")
        .await;
    let value = "document.getElementById('composer-text').value";
    for modifiers in [control, meta, control | shift] {
        ana.evaluate(&format!(
            "{value} = 'with {modifiers}'; document.getElementById('composer-text').focus()"
        ))
        .await;
        press("Enter", "Enter", 0).await;
        assert_ne!(ana.evaluate(value).await, "");
        press("Enter", "Enter", modifiers).await;
        ana.sees(&format!("with {modifiers}")).await;
        ana.until(&format!("{value} === ''")).await;
    }
    // Enter goes to the room that is typed, at once, whatever is suggested below.
    ana.looks_like(1280, 800, false).await;
    ana.evaluate("document.getElementById('composer-text').blur()")
        .await;
    press("k", "KeyK", control).await;
    ana.types("#jump-room", "den\u{e007}").await;
    ana.until("document.body.dataset.room === 'den'").await;
    sleep(Duration::from_millis(100)).await;
}
