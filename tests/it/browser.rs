//! The pages in real Chromium, as people use them.

use std::time::Duration;

use fantoccini::Locator;
use serde_json::json;
use tokio::time::{sleep, timeout};

use crate::support::{Backend, Browser, Person, Proxy, Server, assert_contains, tool};

/// Ben at a terminal and ana in a browser, both in the same room.
async fn at_tea() -> (Server, Person, Browser) {
    let server = Server::start(Backend::Sqlite).await;
    let ben = server.person("ben").await;
    ben.enters("tea").await;
    let ana = Browser::open().await;
    ana.signs_up(&server.base, "ana").await;
    ana.enters("tea").await;
    ana.is_following().await;
    (server, ben, ana)
}

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
    ana.until("document.getElementById('connection').hidden")
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
async fn messages_of_one_author_stand_together() {
    let (_server, ben, ana) = at_tea().await;
    ben.says("tea", "one").await;
    ben.says("tea", "two").await;
    ana.says("three").await;
    ana.shows(&["one", "two", "three"]).await;
    ben.says("tea", "four").await;
    ben.says("tea", "five").await;
    ana.shows(&["one", "two", "three", "four", "five"]).await;
    let together = "Array.from(document.querySelectorAll('#log .message'), (e) => e.classList.contains('follows'))";
    let expected = json!([false, true, false, false, true]);
    assert_eq!(ana.evaluate(together).await, expected);
    // As the server puts them when the page is loaded, and with one line for today.
    ana.client.refresh().await.unwrap();
    ana.find("#composer-text").await;
    assert_eq!(ana.evaluate(together).await, expected);
    assert_eq!(
        ana.evaluate("document.querySelectorAll('.day').length")
            .await,
        1
    );
    let pictures = "Array.from(document.querySelectorAll('#log .message:not(.follows) .avatar'), (e) => e.naturalWidth > 0)";
    ana.until(&format!(
        "({pictures}).length === 3 && ({pictures}).every(Boolean)"
    ))
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_reach_messages_and_rooms() {
    let (_server, ben, ana) = at_tea().await;
    for text in ["one", "two", "three"] {
        ben.says("tea", text).await;
    }
    ana.shows(&["one", "two", "three"]).await;
    let focused =
        "document.activeElement.querySelector('.body')?.innerText ?? document.activeElement.id";
    let press = async |keys: &str| {
        let focused = ana.client.active_element().await.unwrap();
        focused.send_keys(keys).await.unwrap();
    };
    assert_eq!(ana.evaluate(focused).await, "composer-text");
    for (keys, there) in [
        ("\u{e013}", "three"),
        ("\u{e013}", "two"),
        ("\u{e015}", "three"),
        ("\u{e015}", "composer-text"),
        ("\u{e013}\u{e00c}", "composer-text"),
    ] {
        press(keys).await;
        assert_eq!(ana.evaluate(focused).await, there, "{keys:?}");
    }
    // In the composer they are what one writes.
    press("/?").await;
    assert_eq!(
        ana.evaluate("document.getElementById('composer-text').value")
            .await,
        "/?"
    );
    press("\u{e003}\u{e003}\u{e013}?").await;
    ana.sees("From message to message").await;
    ana.screenshot("room-keys-desk-light").await;
    press("\u{e00c}").await;
    ana.until("!document.querySelector('dialog[open]')").await;
    press("\u{e009}k\u{e000}").await;
    ana.until("document.getElementById('jump').open").await;
    ana.screenshot("room-jump-desk-light").await;
    press("den\u{e007}").await;
    ana.until("document.title.endsWith('den – Parlor')").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_unread_is_counted_and_marked() {
    let (_server, ben, ana) = at_tea().await;
    ben.enters("den").await;
    ana.clicks(".bar .back").await;
    ana.enters("den").await;
    ana.is_following().await;
    // In the other room something is said: beside its name, and in the tab's title and icon.
    ben.says("tea", "one").await;
    ben.says("tea", "two").await;
    ana.until("document.querySelector('li[data-room=tea] .unread').innerText.startsWith('2')")
        .await;
    ana.until("document.title === '(2) den – Parlor'").await;
    ana.until("document.querySelector('link[rel=icon]').href.includes('icon-new')")
        .await;
    ana.screenshot("room-unread-desk-light").await;
    ana.clicks(".bar .back").await;
    ana.until("document.querySelector('li[data-room=tea] .unread').innerText.startsWith('2')")
        .await;
    // There a line says where the reading stopped; once seen it is read.
    ana.clicks("li[data-room=tea] a").await;
    ana.is_following().await;
    ana.sees("New since you left").await;
    ana.screenshot("room-new-desk-light").await;
    let after_line =
        "document.querySelector('.new').nextElementSibling.querySelector('.body').innerText";
    assert_eq!(ana.evaluate(after_line).await, "one");
    ben.says("tea", "three").await;
    ana.shows(&["one", "two", "three"]).await;
    sleep(Duration::from_millis(1_500)).await;
    ana.clicks(".bar .back").await;
    ana.find("form.enter").await;
    ana.until("document.querySelector('li[data-room=tea] .unread').hidden")
        .await;
    assert_eq!(ana.evaluate("document.title").await, "Rooms – Parlor");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_whole_journey_without_scripts() {
    let server = Server::start(Backend::Sqlite).await;
    let ben = server.person("ben").await;
    ben.enters("tea").await;
    for number in 1..=60 {
        ben.says("tea", &format!("old {number}")).await;
    }
    let ana = Browser::open_without_scripts().await;
    ana.goto(&server.base).await;
    ana.clicks("a[href='/signup']").await;
    ana.types("#username", "a").await;
    ana.types("#email", "ana@example.org").await;
    ana.types("#password", crate::support::PASSWORD).await;
    ana.clicks("main button").await;
    ana.sees("at least 2 characters").await;
    assert_eq!(
        ana.find("#email")
            .await
            .attr("value")
            .await
            .unwrap()
            .unwrap(),
        "ana@example.org"
    );
    ana.types("#username", "na").await;
    ana.types("#password", crate::support::PASSWORD).await;
    ana.clicks("main button").await;
    ana.sees("You are in no room yet").await;
    ana.enters("tea").await;
    ana.sees("old 60").await;

    // Messages arrive live, in the frame.
    ana.find("iframe.live").await;
    let in_frame = async |text: &str| {
        ana.client.enter_frame(0).await.unwrap();
        let wait = ana.client.wait().at_most(Duration::from_secs(20));
        let xpath = format!("//div[@class='body' and contains(., '{text}')]");
        let found = wait.for_element(Locator::XPath(&xpath)).await;
        ana.client.clone().enter_parent_frame().await.unwrap();
        assert!(found.is_ok(), "{text} did not arrive in the frame");
    };
    ben.says("tea", "live without scripts").await;
    in_frame("live without scripts").await;
    ana.screenshot("room-desk-without-scripts").await;
    ana.looks_like(390, 844, false).await;
    ana.screenshot("room-phone-without-scripts").await;
    ana.looks_like(1280, 800, false).await;
    ben.says("tea", "and once more").await;
    in_frame("and once more").await;

    // Older ones by a link, and back. A person scrolls up to it; the driver cannot by itself in a
    // list that is turned around.
    ana.evaluate("document.querySelector('#older').scrollIntoView()")
        .await;
    ana.clicks("#older a").await;
    ana.sees("old 1").await;
    ana.clicks(".foot a").await;
    ana.types("#composer-text", "posted without scripts").await;
    ana.clicks("#composer button").await;
    ana.sees("posted without scripts").await;
    ana.types("#composer-text", "   ").await;
    ana.clicks("#composer button").await;
    ana.sees("Write something first.").await;
    ana.clicks(".aside a").await;
    ana.clicks(".account button").await;
    ana.find("form[action='/login']").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_frame_comes_back_after_a_restart() {
    let mut server = Server::start(Backend::Sqlite).await;
    let ben = server.person("ben").await;
    let ana = Browser::open_without_scripts().await;
    ana.signs_up(&server.base, "ana").await;
    ana.enters("tea").await;
    ben.enters("tea").await;
    ana.find("iframe.live").await;
    ben.says("tea", "before").await;
    server.kill();
    server.start_again().await;
    ben.says("tea", "after").await;
    let in_frame = "Array.from(document.querySelector('iframe').contentDocument\
                    .querySelectorAll('.body'), (e) => e.innerText).join()";
    ana.until(&format!("{in_frame} === 'before,after'")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn twelve_tabs_on_plain_http() {
    let (server, ben, ana) = at_tea().await;
    let mut tabs = vec![ana.client.window().await.unwrap()];
    let room = format!("{}/rooms/tea", server.base);
    for _ in 2..=12 {
        let tab = ana.client.new_window(true).await.unwrap().handle;
        ana.client.switch_to_window(tab.clone()).await.unwrap();
        ana.goto(&room).await;
        ana.find("#composer-text").await;
        tabs.push(tab);
    }
    // The browser's own clock: what the driver and this machine's other work take is not loading.
    let loaded = "performance.getEntriesByType('navigation')[0].loadEventEnd";
    let loaded_ms = ana.evaluate(loaded).await.as_f64().unwrap();
    assert!(
        (1.0..2_000.0).contains(&loaded_ms),
        "the 12th tab took {loaded_ms} ms"
    );
    ana.is_following().await;
    for number in 0..5 {
        ben.says("tea", &format!("to every tab {number}")).await;
    }
    let all: Vec<String> = (0..5)
        .map(|number| format!("to every tab {number}"))
        .collect();
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    for tab in tabs {
        ana.client.switch_to_window(tab).await.unwrap();
        ana.shows(&all).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tab_hidden_for_a_minute_misses_nothing() {
    let (_server, ben, ana) = at_tea().await;
    let room = ana.client.window().await.unwrap();
    let other = ana.client.new_window(true).await.unwrap().handle;
    ana.client.switch_to_window(other).await.unwrap();
    let mut said = Vec::new();
    for number in 0..12 {
        let text = format!("while nobody looked {number}");
        ben.says("tea", &text).await;
        said.push(text);
        sleep(Duration::from_secs(5)).await;
    }
    ana.client.switch_to_window(room).await.unwrap();
    let said: Vec<&str> = said.iter().map(String::as_str).collect();
    ana.shows(&said).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn back_and_forward_show_what_was_said_meanwhile() {
    let (_server, ben, ana) = at_tea().await;
    ben.says("tea", "one").await;
    ana.shows(&["one"]).await;
    ana.clicks(".bar .back").await;
    ana.find("form.enter").await;
    ben.says("tea", "two").await;
    ana.client.back().await.unwrap();
    ana.shows(&["one", "two"]).await;
    ben.says("tea", "three").await;
    ana.shows(&["one", "two", "three"]).await;
    ana.client.back().await.unwrap();
    ana.find("form.enter").await;
    ben.says("tea", "four").await;
    ana.client.forward().await.unwrap();
    ana.shows(&["one", "two", "three", "four"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn moving_from_room_to_room_leaves_one_stream() {
    let mut server = Server::start(Backend::Sqlite).await;
    let ben = server.person("ben").await;
    let ana = Browser::open().await;
    ana.signs_up(&server.base, "ana").await;
    for room in ["tea", "coffee", "milk", "water"] {
        ben.enters(room).await;
        ana.enters(room).await;
        ana.is_following().await;
        ana.clicks(".bar .back").await;
        ana.find("form.enter").await;
    }
    ana.enters("tea").await;
    ana.is_following().await;
    for room in ["coffee", "milk", "water", "tea"] {
        ben.says(room, &format!("in {room}")).await;
    }
    ana.shows(&["in tea"]).await;
    server.terminate();
    assert_contains(&server.output(), "shutting down streams=1");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_connection_that_is_refused_recovers() {
    let server = Server::start(Backend::Sqlite).await;
    let proxy = Proxy::before(server.address()).await;
    let ben = server.person("ben").await;
    ben.enters("tea").await;
    let ana = Browser::open().await;
    ana.signs_up(&proxy.base, "ana").await;
    proxy.refuse_streams(true);
    ana.enters("tea").await;
    timeout(Duration::from_secs(20), async {
        while proxy.refused() < 2 {
            sleep(Duration::from_millis(50)).await;
        }
    })
    .await
    .expect("the page asks again");
    ben.says("tea", "while refused").await;
    proxy.refuse_streams(false);
    ana.shows(&["while refused"]).await;
    // A wire that is cut is taken up again where it was.
    for number in 0..5 {
        proxy.cut();
        ben.says("tea", &format!("cut {number}")).await;
    }
    ana.shows(&["while refused", "cut 0", "cut 1", "cut 2", "cut 3", "cut 4"])
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn signing_out_elsewhere_ends_the_page() {
    let server = Server::start(Backend::Sqlite).await;
    let ana = Browser::open().await;
    ana.signs_up(&server.base, "ana").await;
    ana.enters("tea").await;
    ana.is_following().await;
    ana.types("#composer-text", "not yet sent").await;
    let room = ana.client.window().await.unwrap();
    let other = ana.client.new_window(true).await.unwrap().handle;
    ana.client.switch_to_window(other).await.unwrap();
    ana.goto(&format!("{}/rooms", server.base)).await;
    ana.clicks(".account button").await;
    ana.find("form[action='/login']").await;
    ana.client.switch_to_window(room).await.unwrap();
    ana.find("form[action='/login']").await;
    ana.types("#username", "ana").await;
    ana.types("#password", crate::support::PASSWORD).await;
    ana.clicks("main button").await;
    ana.find("#composer-text").await;
    ana.until("document.getElementById('composer-text').value === 'not yet sent'")
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_list_stays_where_it_is_read() {
    let server = Server::start(Backend::Sqlite).await;
    let ben = server.person("ben").await;
    ben.enters("tea").await;
    for number in 1..=120 {
        ben.says("tea", &format!("number {number}")).await;
    }
    let ana = Browser::open().await;
    ana.signs_up(&server.base, "ana").await;
    ana.enters("tea").await;
    ana.is_following().await;
    let from_bottom = "scroller.scrollHeight - scroller.scrollTop - scroller.clientHeight";
    ana.until(&format!("{from_bottom} < 2")).await;
    ben.says("tea", "a new one\nof\nthree lines").await;
    ana.sees("of\nthree lines").await;
    ana.until(&format!("{from_bottom} < 2")).await;

    // Reading above, nothing moves.
    let top_of =
        |seq: u32| format!("document.getElementById('m-{seq}').getBoundingClientRect().top");
    ana.evaluate("scroller.scrollTop = 300").await;
    sleep(Duration::from_millis(200)).await;
    let before = ana.evaluate(&top_of(90)).await;
    ben.says("tea", "another").await;
    ana.until("document.getElementById('m-124') !== null").await;
    assert_eq!(ana.evaluate(&top_of(90)).await, before);
    ana.sees("1 new message").await;
    ben.says("tea", "and one more").await;
    ana.sees("2 new messages").await;
    ana.clicks("#below").await;
    ana.until(&format!(
        "{from_bottom} < 2 && document.getElementById('below').hidden"
    ))
    .await;

    // Older ones come in above without a jump.
    let first: u32 = 123 - 50 + 1;
    let to_top = format!("scroller.scrollTop = 0; {}", top_of(first + 3));
    let before = ana.evaluate(&to_top).await.as_f64().unwrap();
    ana.until(&format!(
        "document.getElementById('m-{}') !== null",
        first - 10
    ))
    .await;
    sleep(Duration::from_millis(200)).await;
    let after = ana.evaluate(&top_of(first + 3)).await.as_f64().unwrap();
    // The link itself moved up with what it brought.
    assert!((after - before).abs() < 60.0, "{before} → {after}");
    let shifts = ana
        .evaluate(
            "new Promise((done) => new PerformanceObserver((list) => done(list.getEntries()\
             .filter((e) => !e.hadRecentInput).reduce((sum, e) => sum + e.value, 0)))\
             .observe({ type: 'layout-shift', buffered: true }) || setTimeout(() => done(0), 500))",
        )
        .await;
    assert!(shifts.as_f64().unwrap_or(0.0) < 0.1, "{shifts}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_page_is_accessible_and_looks_right() {
    let axe = std::fs::read_to_string(tool("axe.min.js")).unwrap();
    let server = Server::start(Backend::Sqlite).await;
    let ben = server.person("ben").await;
    for room in ["kitchen", "reading-club", "outside"] {
        ben.enters(room).await;
    }
    ben.says("outside", "nobody here but me").await;
    let base = &server.base;
    let ana = Browser::open().await;
    let checked = async |name: &str| {
        for (width, height, shape) in [(390, 844, "phone"), (1280, 800, "desk")] {
            for is_dark in [false, true] {
                ana.looks_like(width, height, is_dark).await;
                let scheme = if is_dark { "dark" } else { "light" };
                sleep(Duration::from_millis(150)).await;
                ana.screenshot(&format!("{name}-{shape}-{scheme}")).await;
                // Not as a page's own script, which the policy would refuse.
                ana.evaluate(&axe).await;
                let found = ana
                    .evaluate(
                        "axe.run().then((run) => run.violations.flatMap((v) => \
                         v.nodes.map((n) => `${v.id}: ${n.html}`)))",
                    )
                    .await;
                assert_eq!(found, json!([]), "{name} on a {shape}, {scheme}");
                let wide = "document.documentElement.scrollWidth <= innerWidth";
                assert_eq!(
                    ana.evaluate(wide).await,
                    true,
                    "{name} scrolls sideways on a {shape}"
                );
            }
        }
    };
    ana.goto(&format!("{base}/login")).await;
    checked("sign-in").await;
    ana.types("#username", "ana").await;
    ana.types("#password", "not the password").await;
    ana.clicks("main button").await;
    ana.sees("do not go together").await;
    checked("sign-in-refused").await;
    ana.goto(&format!("{base}/signup")).await;
    checked("sign-up").await;
    ana.evaluate("document.querySelector('form').noValidate = true")
        .await;
    ana.types("#username", "a").await;
    ana.clicks("main button").await;
    ana.sees("at least 2 characters").await;
    checked("sign-up-refused").await;
    ana.signs_up(base, "ana").await;
    checked("lobby-empty").await;
    ana.enters("kitchen").await;
    ana.sees("ana joined").await;
    ana.is_following().await;
    ana.sees("ana is here").await;
    checked("room-empty").await;

    for (who, text) in [
        (
            Some(&ben),
            "Morning! I left some bread on the counter, help yourselves.",
        ),
        (
            None,
            "Thank you! Is that the one from https://bakery.example/rye?",
        ),
        (
            Some(&ben),
            "It is. The recipe, more or less:\n```\n500 g rye\n400 g water\n 10 g salt\n```\nand a day of `patience`.",
        ),
        (None, "😋"),
        (
            Some(&ben),
            "שלום, and a wordthatgoesonandonandonandonandonandonandonandonandonandonandonandonandon",
        ),
        (None, "I’ll bring butter."),
    ] {
        match who {
            Some(ben) => drop(ben.says("kitchen", text).await),
            None => {
                ana.evaluate(&format!(
                    "document.getElementById('composer-text').value = {text:?}"
                ))
                .await;
                ana.clicks("#composer button").await;
            }
        }
        let first_line = text.lines().next().unwrap();
        ana.sees(first_line).await;
    }
    checked("room").await;
    ana.goto(&format!("{base}/rooms/kitchen/messages/4")).await;
    checked("permalink").await;
    ana.goto(&format!("{base}/rooms/outside")).await;
    checked("room-outside").await;
    ana.goto(&format!("{base}/rooms/nowhere")).await;
    checked("room-missing").await;
    ana.goto(&format!("{base}/nothing")).await;
    checked("not-found").await;
    ana.goto(&format!("{base}/rooms")).await;
    ana.enters("reading-club").await;
    ana.goto(&format!("{base}/rooms")).await;
    checked("lobby").await;
    ana.types("#room", "two words").await;
    ana.clicks("form.enter button").await;
    ana.sees("has only letters").await;
    checked("lobby-refused").await;
}
