//! With the keyboard alone.

use std::time::Duration;

use tokio::time::sleep;

use super::{NOTHING_IS_SENT, at_tea};

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
    ana.until("document.querySelector('#jump-rooms option').value === 'tea'")
        .await;
    ana.screenshot("room-jump-desk-light").await;
    press("den\u{e007}").await;
    ana.until("document.title.endsWith('den – Parlor')").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn focus_is_never_lost_to_what_comes_and_goes() {
    let (_server, ben, ana) = at_tea().await;
    for number in 0..220 {
        ben.says("tea", &format!("number {number}")).await;
    }
    // Once they are read, the page begins at their end.
    ana.sees("number 219").await;
    sleep(Duration::from_secs(2)).await;
    ana.client.refresh().await.unwrap();
    ana.is_following().await;
    // The link for older messages is replaced by what it brings.
    ana.evaluate("document.querySelector('#older a').focus()")
        .await;
    ana.until("document.querySelectorAll('.message').length > 90")
        .await;
    ana.until("document.activeElement !== document.body").await;
    let focused = "document.activeElement.textContent";
    assert_eq!(ana.evaluate(focused).await, "Older messages");
    // A button under a message goes when the message is sent.
    ana.evaluate(NOTHING_IS_SENT).await;
    ana.says("later").await;
    ana.find("#outbox button").await;
    ana.evaluate("document.querySelector('#outbox button').focus(); fetch = honest; 0")
        .await;
    ana.until("!document.querySelector('#outbox li')").await;
    let focused = "document.activeElement.id";
    assert_eq!(ana.evaluate(focused).await, "composer-text");
}
