//! Reading: what stands where, what is unread, and nothing that moves.

use std::time::Duration;

use serde_json::json;
use tokio::time::sleep;

use super::at_tea;
use crate::support::{Backend, Browser, Person, Server};

/// Ana in a room where ben has said a lot before she came.
async fn at_long_tea() -> (Server, Person, Browser) {
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
    (server, ben, ana)
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
async fn the_list_stays_where_it_is_read() {
    let (_server, ben, ana) = at_long_tea().await;
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
    ana.until("(document.querySelector('li[data-room=tea] .unread')?.hidden ?? true)")
        .await;
    assert_eq!(ana.evaluate("document.title").await, "Rooms – Parlor");
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

/// The words that a screen reader would say: rows that come into the log while it is a live region.
const LISTEN: &str = "window.heard = []; new MutationObserver((changes) => {\
     for (const { addedNodes, target } of changes) {\
       if (!target.closest('[role=log]') || target.closest('[aria-live=off]')) continue;\
       for (const added of addedNodes) if (added.nodeType === 1) heard.push(added.querySelector('.body')?.innerText);\
     } }).observe(document.getElementById('scroller'), { childList: true, subtree: true })";

#[tokio::test(flavor = "multi_thread")]
async fn only_what_is_new_is_read_aloud() {
    let (_server, ben, ana) = at_long_tea().await;
    ana.evaluate(LISTEN).await;
    ana.evaluate("scroller.scrollTop = 0").await;
    ana.sees("number 45").await;
    // For a moment more nothing is, lest the old ones are.
    sleep(Duration::from_millis(1_500)).await;
    ben.says("tea", "something new").await;
    ana.sees("1 new message").await;
    ana.says("and an answer").await;
    ana.until("document.querySelector('#log > :last-child').innerText.includes('and an answer')")
        .await;
    assert_eq!(
        ana.evaluate("heard").await,
        json!(["something new", "and an answer"])
    );
    // Its node in the accessibility tree.
    let tree = ana.devtools("Accessibility.getFullAXTree", json!({})).await;
    let nodes = tree["nodes"].as_array().unwrap();
    let count_of = |role: &str| {
        let of_role = nodes.iter().filter(|node| node["role"]["value"] == role);
        of_role.count()
    };
    assert_eq!(count_of("log"), 1);
    assert!(count_of("status") >= 1);
    for landmark in ["banner", "navigation", "main"] {
        assert_eq!(count_of(landmark), 1, "{landmark}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_to_a_message_shows_it_in_its_surroundings() {
    let (server, ben, ana) = at_tea().await;
    for number in 0..80 {
        ben.says("tea", &format!("number {number}")).await;
    }
    let page = format!("{}/rooms/tea/messages/40", server.base);
    ana.goto(&page).await;
    let marked = ana.find(".marked .body").await;
    assert_eq!(marked.text().await.unwrap(), "number 37");
    let shown = "(() => { const { top, bottom } = document.querySelector('.marked').getBoundingClientRect(); \
                 return top > 60 && bottom < innerHeight - 60; })()";
    ana.until(shown).await;
    ana.sees("number 36").await;
    ana.sees("number 38").await;
    ana.screenshot("permalink-long-desk-light").await;
    ana.clicks(".foot a").await;
    ana.sees("number 79").await;
}

/// Keeps what happens to a page's title, icon and notifications while it is hidden.
const WATCH_HIDDEN: &str = "(() => { window.hiddenTitles = []; window.notified = [];\
     const Real = Notification;\
     window.Notification = class extends Real { constructor(title, options) {\
       super(title, options); notified.push([document.hidden, title, options.body]); } };\
     new MutationObserver(() => { if (document.hidden) hiddenTitles.push(document.title\
       + (document.querySelector('link[rel=icon]').href.includes('icon-new') ? ' •' : '')); })\
     .observe(document.head, { childList: true, subtree: true, characterData: true, attributes: true }); })()";

#[tokio::test(flavor = "multi_thread")]
async fn a_hidden_tab_tells_of_what_is_new() {
    let (server, ben, ana) = at_tea().await;
    ben.enters("den").await;
    ana.clicks(".bar .back").await;
    ana.enters("den").await;
    ana.is_following().await;
    // Off until it is asked for.
    ana.devtools(
        "Browser.grantPermissions",
        json!({ "origin": server.base, "permissions": ["notifications"] }),
    )
    .await;
    ana.evaluate(WATCH_HIDDEN).await;
    let room = ana.client.window().await.unwrap();
    let other = ana.client.new_window(true).await.unwrap().handle;
    let leave_and_come_back = async |meanwhile: &str| {
        ana.client.switch_to_window(other.clone()).await.unwrap();
        sleep(Duration::from_secs(1)).await;
        ben.says("tea", meanwhile).await;
        sleep(Duration::from_secs(6)).await;
        ana.client.switch_to_window(room.clone()).await.unwrap();
        ana.until("!document.hidden").await;
    };
    leave_and_come_back("one").await;
    let titles = ana.evaluate("hiddenTitles.at(-1)").await;
    assert_eq!(titles, "(1) den – Parlor •");
    assert_eq!(ana.evaluate("notified").await, json!([]));
    ana.clicks("#notifications button").await;
    ana.until("document.querySelector('#notifications button').ariaPressed === 'true'")
        .await;
    leave_and_come_back("two").await;
    assert_eq!(
        ana.evaluate("hiddenTitles.at(-1)").await,
        "(2) den – Parlor •"
    );
    assert_eq!(
        ana.evaluate("notified").await,
        json!([
            [
                false,
                "Parlor",
                "You will be told of new messages like this."
            ],
            [true, "tea", "ben: two\n2 unread"],
        ])
    );
    // While the page is looked at there is none; and it can be switched off.
    ben.says("tea", "three").await;
    ana.until("document.title.startsWith('(3)')").await;
    ana.clicks("#notifications button").await;
    leave_and_come_back("four").await;
    assert_eq!(ana.evaluate("notified.length").await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn tabs_agree_on_what_is_unread() {
    let (server, ben, ana) = at_tea().await;
    ben.enters("den").await;
    let tea = ana.client.window().await.unwrap();
    let other = ana.client.new_window(true).await.unwrap().handle;
    ana.client.switch_to_window(other.clone()).await.unwrap();
    ana.goto(&format!("{}/rooms", server.base)).await;
    let badge = "document.querySelector('li[data-room=tea] .unread')";
    ben.says("tea", "one").await;
    ana.until(&format!("{badge}.innerText.startsWith('1')"))
        .await;
    // Read in one, it is read in the other, within moments.
    ana.client.switch_to_window(tea).await.unwrap();
    ana.shows(&["one"]).await;
    sleep(Duration::from_millis(1_500)).await;
    ana.client.switch_to_window(other).await.unwrap();
    ana.until(&format!("{badge}.hidden")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_long_absence_one_can_begin_where_one_left() {
    let (server, ben, ana) = at_tea().await;
    ben.says("tea", "the last that ana saw").await;
    ana.sees("the last that ana saw").await;
    sleep(Duration::from_millis(1_500)).await;
    ana.clicks(".bar .back").await;
    for number in 0..80 {
        ben.says("tea", &format!("number {number}")).await;
    }
    // A look from afar is no reading.
    let page = format!("{}/rooms/tea", server.base);
    let other = ana.client.new_window(true).await.unwrap().handle;
    let lobby = ana.client.window().await.unwrap();
    ana.client.switch_to_window(other.clone()).await.unwrap();
    ana.goto(&page).await;
    ana.sees("New since you left. Begin there").await;
    ana.screenshot("room-long-absence-desk-light").await;
    // Nothing comes above it by itself; as one scrolls up, the line goes where it belongs.
    sleep(Duration::from_secs(1)).await;
    ana.until("document.querySelectorAll('.message').length === 50")
        .await;
    ana.evaluate("scroller.scrollTop += 300").await;
    sleep(Duration::from_millis(200)).await;
    ana.evaluate("scroller.scrollTop = 0").await;
    ana.until("document.querySelectorAll('.message').length > 70")
        .await;
    ana.until(
        "document.querySelector('.new').nextElementSibling.querySelector('.body').innerText === 'number 0'",
    )
    .await;
    let line = ana.evaluate("document.querySelector('.new').innerText");
    assert_eq!(line.await, "New since you left");
    ana.goto(&page).await;
    ana.sees("New since you left. Begin there").await;
    ana.clicks(".new a").await;
    let marked = ana.find(".marked .body").await;
    assert_eq!(marked.text().await.unwrap(), "the last that ana saw");
    ana.sees("number 0").await;
    ana.client.close_window().await.unwrap();
    ana.client.switch_to_window(lobby).await.unwrap();
    ana.until("document.querySelector('li[data-room=tea] .unread').innerText.startsWith('80')")
        .await;
    // Read to its end it is read.
    ana.clicks("li[data-room=tea] a").await;
    ana.is_following().await;
    ana.evaluate("scroller.scrollTop = scroller.scrollHeight")
        .await;
    sleep(Duration::from_millis(1_500)).await;
    ana.clicks(".bar .back").await;
    ana.until("(document.querySelector('li[data-room=tea] .unread')?.hidden ?? true)")
        .await;
}

/// Invariant: a lobby that is open says what a new one would, also of what is deleted.
#[tokio::test(flavor = "multi_thread")]
async fn an_open_lobby_follows_what_is_said_last() {
    let (server, ben, ana) = at_tea().await;
    ben.enters("den").await;
    ben.says("den", "in the den").await;
    ana.goto(&format!("{}/rooms", server.base)).await;
    ana.enters("den").await;
    ana.goto(&format!("{}/rooms", server.base)).await;
    let tea = "document.querySelector('li[data-room=tea] .last').innerText";
    ana.until(&format!("{tea}.includes('Nobody')")).await;
    ana.evaluate("document.querySelector('li[data-room=den] a').focus()")
        .await;
    let said = ben.says("tea", "a *secret*").await;
    ana.until(&format!("{tea} === 'ben a secret'")).await;
    let rooms = "Array.from(document.querySelectorAll('ul.rooms li'), (e) => e.dataset.room)";
    assert_eq!(ana.evaluate(rooms).await, json!(["tea", "den"]));
    let focused = "document.activeElement.closest('li').dataset.room";
    assert_eq!(ana.evaluate(focused).await, json!("den"));
    let delete = format!("/rooms/tea/messages/{said}/delete");
    ben.post(&delete, &[("delete", "yes")]).await;
    ana.until(&format!("{tea} === 'ben deleted a message'"))
        .await;
    assert_eq!(
        ana.evaluate("document.body.innerHTML.includes('secret')")
            .await,
        json!(false)
    );
}
