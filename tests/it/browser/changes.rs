//! Changing messages: edits in place, replies, reactions and deletions, by mouse and by keyboard.

use std::time::Duration;

use fantoccini::Locator;
use serde_json::{Value, json};

use crate::support::{Backend, Browser, Server, eventually};

use super::at_tea;
use super::looks::Look;

pub(super) const EDIT_KEY: &str = "\u{e013}";
pub(super) const ENTER: &str = "\u{e007}";
pub(super) const ESCAPE: &str = "\u{e00c}";

/// Types into whatever has the focus.
async fn press(browser: &Browser, keys: &str) {
    let focused = browser.client.active_element().await.unwrap();
    focused.send_keys(keys).await.unwrap();
}

/// Moves a finger over a row, from its middle.
async fn swipe(browser: &Browser, row: &str, right: i64, down: i64) {
    let middle = format!(
        "(({{ x, y, width, height }}) => [x + width / 2, y + height / 2].map(Math.round))\
         (document.querySelector('{row}').getBoundingClientRect())"
    );
    let middle = browser.evaluate(&middle).await;
    let (x, y) = (middle[0].as_i64().unwrap(), middle[1].as_i64().unwrap());
    let touch = async |what: &str, points: Value| {
        let event = json!({ "type": what, "touchPoints": points });
        browser.devtools("Input.dispatchTouchEvent", event).await;
    };
    touch("touchStart", json!([{ "x": x, "y": y }])).await;
    for step in 1..=5 {
        let at = json!([{ "x": x + right * step / 5, "y": y + down * step / 5 }]);
        touch("touchMove", at).await;
    }
    touch("touchEnd", json!([])).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_is_edited_in_place() {
    let (_server, ben, ana) = at_tea().await;
    ana.says("the frist").await;
    ana.shows(&["the frist"]).await;
    ben.says("tea", "from ben").await;
    ana.shows(&["the frist", "from ben"]).await;
    // The last of one's own, from the empty composer.
    press(&ana, EDIT_KEY).await;
    ana.until("!!document.activeElement.closest('.editing')")
        .await;
    Look::with(&ana).at("room-edit").await;
    press(&ana, ESCAPE).await;
    ana.until("document.activeElement.matches('.message')")
        .await;
    ana.shows(&["the frist", "from ben"]).await;
    press(&ana, "e").await;
    ana.until("document.activeElement.value === 'the frist'")
        .await;
    ana.evaluate("document.activeElement.value = 'the first'")
        .await;
    press(&ana, ENTER).await;
    ana.shows(&["the first", "from ben"]).await;
    ana.until("!!document.querySelector('.message .edited')")
        .await;
    ana.until("document.getElementById('changes').textContent === 'ana edited: the first'")
        .await;
    ana.until("document.activeElement.matches('.message')")
        .await;
    // What is refused stays in the field.
    press(&ana, "e").await;
    ana.until("document.activeElement.value === 'the first'")
        .await;
    ana.evaluate("document.activeElement.value = ' '").await;
    press(&ana, ENTER).await;
    ana.sees("Write something first.").await;
    press(&ana, ESCAPE).await;
    ana.shows(&["the first", "from ben"]).await;
    assert_eq!(ben.log("tea").await[2]["body"], "the first");
}

#[tokio::test(flavor = "multi_thread")]
async fn reactions_replies_and_deletions_reach_everybody() {
    let (server, ben, ana) = at_tea().await;
    let said = ben.says("tea", "cake on Friday?").await;
    ana.shows(&["cake on Friday?"]).await;
    let row = format!("#m-{said}");
    // By keyboard: to the message, to its toolbar, and on.
    press(&ana, "\u{e00a}\u{e013}\u{e000}").await;
    ana.until(&format!("document.activeElement.matches('{row}')"))
        .await;
    ana.until(&format!("!!document.querySelector('{row} .toolbar')"))
        .await;
    Look::with(&ana).at("room-toolbar").await;
    ana.clicks(&format!("{row} .toolbar button")).await;
    let pressed = format!(
        "document.querySelector('{row} .reactions [aria-pressed=true]')?.textContent === '👍 1'"
    );
    ana.until(&pressed).await;
    let path = format!("/rooms/tea/messages/{said}/reactions/👍");
    ben.request(reqwest::Method::PUT, &path)
        .send()
        .await
        .unwrap();
    ana.until(&format!(
        "document.querySelector('{row} .reactions button').textContent === '👍 2'"
    ))
    .await;
    ana.until(&format!(
        "document.querySelector('{row} .reactions button').getAttribute('aria-label') === '👍 2: ana, ben'"
    ))
    .await;
    // Another one, by its name.
    press(&ana, "+").await;
    ana.until("!!document.querySelector('#emoji[open] [data-emoji]')")
        .await;
    press(&ana, "birthday cake").await;
    ana.until("document.querySelector('#emoji [data-emoji]').dataset.emoji === '🎂'")
        .await;
    Look::with(&ana).at("room-emoji").await;
    press(&ana, ENTER).await;
    ana.until(&format!(
        "document.querySelectorAll('{row} .reactions [aria-pressed=true]').length === 2"
    ))
    .await;
    ana.until(&format!("document.activeElement.matches('{row}')"))
        .await;

    // A reply, which follows what becomes of the message above it.
    press(&ana, "r").await;
    ana.until(
        "document.activeElement.id === 'composer-text' && !!document.getElementById('replying')",
    )
    .await;
    ana.says("I bring it").await;
    ana.shows(&["cake on Friday?", "I bring it"]).await;
    ana.until("!document.getElementById('replying')").await;
    ana.until("document.querySelector('.quote').innerText.includes('cake on Friday?')")
        .await;
    Look::with(&ana).at("room-changes").await;
    // A finger swipes a message aside: that is a reply, as well.
    ana.has_size(360, 740, true).await;
    swipe(&ana, &row, 20, 0).await;
    ana.until("!document.getElementById('replying')").await;
    swipe(&ana, &row, 90, 60).await;
    ana.until("!document.getElementById('replying')").await;
    swipe(&ana, &row, 90, 5).await;
    ana.until("document.getElementById('replying').innerText.includes('cake on Friday?')")
        .await;
    ana.until(&format!("!document.querySelector('{row}').style.transform"))
        .await;
    ana.clicks("#replying button").await;
    // It is there again after the page is loaded anew, one's own reactions with it.
    ana.client.refresh().await.unwrap();
    ana.is_following().await;
    ana.until(&format!(
        "document.querySelectorAll('{row} .reactions [aria-pressed=true]').length === 2"
    ))
    .await;
    let edit = [("body", "cake on Saturday?")];
    ben.post(&format!("/rooms/tea/messages/{said}"), &edit)
        .await;
    ana.until("document.querySelector('.quote').innerText.includes('cake on Saturday?')")
        .await;
    ben.post(&format!("/rooms/tea/messages/{said}/delete"), &[])
        .await;
    ana.until(&format!("!!document.querySelector('{row} .deleted')"))
        .await;
    ana.until("document.querySelector('.quote').innerText.includes('deleted')")
        .await;
    ana.until("document.getElementById('changes').textContent === 'A message was deleted.'")
        .await;

    // One's own is asked about first.
    press(&ana, EDIT_KEY).await;
    ana.until("!!document.activeElement.closest('.editing')")
        .await;
    press(&ana, ESCAPE).await;
    press(&ana, "d").await;
    ana.until("document.getElementById('delete').open").await;
    Look::with(&ana).at("room-delete").await;
    ana.clicks("#delete .danger").await;
    ana.until("document.querySelectorAll('.deleted').length === 2")
        .await;
    drop(server);
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_works_without_scripts() {
    let server = Server::start(Backend::Sqlite).await;
    let ben = server.person("ben").await;
    ben.enters("tea").await;
    let said = ben.says("tea", "cake on Friday?").await;
    let ana = Browser::open_without_scripts().await;
    ana.signs_up(&server.base, "ana").await;
    ana.enters("tea").await;
    // In the frame, a message that changes is there as it is now.
    let is_in_frame = async |text: &str| {
        let has_entered = ana.enters_frame().await.is_ok();
        let xpath = format!("//div[@class='body' and contains(., '{text}')]");
        let found = ana.client.find(Locator::XPath(&xpath)).await;
        ana.leaves_frame().await;
        has_entered && found.is_ok()
    };
    let patience = Duration::from_secs(15);
    let later = ben.says("tea", "who birngs tea?").await;
    let has_come = async || is_in_frame("who birngs tea?").await;
    eventually("it comes", patience, has_come).await;
    let edit = [("body", "who brings tea?")];
    ben.post(&format!("/rooms/tea/messages/{later}"), &edit)
        .await;
    let is_renewed =
        async || is_in_frame("who brings tea?").await && !is_in_frame("who birngs tea?").await;
    eventually("it is renewed", patience, is_renewed).await;
    ana.clicks(&format!("#m-{said} .time")).await;
    ana.clicks(".react button[value='🎉']").await;
    ana.sees("also yours").await;
    Look::with(&ana).only_at("message-without-scripts").await;
    ana.clicks(".reaction button").await;
    ana.clicks(".actions summary").await;
    ana.types("#reply-text", "I bring it").await;
    ana.clicks(".actions details button").await;
    ana.sees("I bring it").await;
    // Ana's own is the last.
    let log = ben.log("tea").await;
    let own = log.last().unwrap();
    assert_eq!(
        (own["body"].as_str(), own["reply_to"].as_u64()),
        (Some("I bring it"), Some(said))
    );
    let kinds: Vec<_> = log
        .iter()
        .filter(|event| event["type"] == "reacted")
        .collect();
    assert_eq!(kinds.len(), 2);
    let own = own["seq"].as_u64().unwrap();
    ana.clicks(&format!("#m-{own} .time")).await;
    ana.clicks(".actions details:nth-of-type(2) summary").await;
    ana.types("#edit-text", " and candles").await;
    ana.clicks(".actions details:nth-of-type(2) button").await;
    ana.sees("and candles").await;
    ana.clicks(".actions details:nth-of-type(3) summary").await;
    ana.clicks(".actions .danger").await;
    ana.sees("This message was deleted.").await;
    assert_eq!(ben.log("tea").await.last().unwrap()["type"], "deleted");
}
