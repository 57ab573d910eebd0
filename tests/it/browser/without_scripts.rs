//! With scripts switched off.

use std::time::Duration;

use fantoccini::Locator;
use tokio::time::sleep;

use super::looks::Look;
use crate::support::{Backend, Browser, IN_FRAME, Server};

#[tokio::test(flavor = "multi_thread")]
async fn the_whole_journey_without_scripts() {
    let server = Server::start(Backend::Sqlite).await;
    let ben = server.person("ben").await;
    ben.enters("tea").await;
    for number in 1..=60 {
        ben.says("tea", &format!("old {number}")).await;
    }
    let ana = Browser::open_without_scripts().await;
    let look = Look::with(&ana);
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
        ana.enters_frame().await.unwrap();
        let wait = ana.client.wait().at_most(Duration::from_secs(20));
        let xpath = format!("//div[@class='body' and contains(., '{text}')]");
        let found = wait.for_element(Locator::XPath(&xpath)).await;
        ana.leaves_frame().await;
        assert!(found.is_ok(), "{text} did not arrive in the frame");
    };
    ben.says("tea", "live without scripts").await;
    in_frame("live without scripts").await;
    look.only_at("room-without-scripts").await;
    ben.says("tea", "and once more").await;
    in_frame("and once more").await;
    // Seen there, it is read.
    sleep(Duration::from_millis(1_500)).await;
    ana.clicks(".bar .back").await;
    ana.find("li[data-room=tea]").await;
    let badges = "document.querySelectorAll('li[data-room=tea] .unread').length";
    assert_eq!(ana.evaluate(badges).await, 0);
    ana.clicks("li[data-room=tea] a").await;
    ana.find("iframe.live").await;

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
    look.only_at("refused-without-scripts").await;
    ana.clicks(".aside a").await;
    ana.find("iframe.live").await;

    // Unread messages are counted when a page is loaded, and a line says where the reading stopped.
    ana.clicks(".bar .back").await;
    ana.find("form.enter").await;
    ben.says("tea", "while ana is elsewhere").await;
    ana.goto(&format!("{}/rooms", server.base)).await;
    let unread = ana.find("li[data-room=tea] .unread").await;
    assert_eq!(unread.text().await.unwrap(), "1\nunread");
    look.only_at("lobby-without-scripts").await;
    ana.clicks("li[data-room=tea] a").await;
    ana.sees("New since you left").await;
    // A session that ends meanwhile takes no text with it.
    let name = server.cookie();
    let cookie = ana.client.get_named_cookie(&name).await.unwrap();
    ana.client.delete_cookie(&name).await.unwrap();
    ana.types("#composer-text", "written for nothing?").await;
    ana.clicks("#composer button").await;
    ana.sees("Sign in in another tab, then send this again.")
        .await;
    look.only_at("signed-out-without-scripts").await;
    ana.client.add_cookie(cookie).await.unwrap();
    ana.clicks("#composer button").await;
    ana.find("iframe.live").await;
    ana.sees("written for nothing?").await;
    ana.clicks(".account button").await;
    ana.find("form[action='/login']").await;
}

/// Ana in a room without scripts, at this address.
pub(super) async fn ana_at_tea(base: &str) -> Browser {
    let ana = Browser::open_without_scripts().await;
    ana.signs_up(base, "ana").await;
    ana.enters("tea").await;
    ana.find("iframe.live").await;
    ana
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frame_whose_reader_has_signed_out_says_so_in_a_line() {
    let server = Server::start(Backend::Sqlite).await;
    let ana = ana_at_tea(&server.base).await;
    ana.signs_out_elsewhere(&server.base).await;
    let line = format!("{IN_FRAME}?.querySelector('main')?.innerText ?? ''");
    ana.until(&format!("({line}) === 'You are signed out. Sign in'"))
        .await;
    // It asks no more all the time.
    let asked = || server.output().matches("status=401").count();
    let before = asked();
    sleep(Duration::from_secs(4)).await;
    assert_eq!(asked(), before);
    // Its link leaves the frame.
    ana.enters_frame().await.unwrap();
    ana.clicks("main a").await;
    ana.leaves_frame().await;
    ana.find("form[action^='/login']").await;
    assert_eq!(
        ana.evaluate("document.querySelectorAll('iframe').length")
            .await,
        0
    );
}

/// The holes: what a person could click or read that does nothing where no script runs.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_stands_there_that_needs_scripts() {
    let server = Server::start(Backend::Sqlite).await;
    let ana = ana_at_tea(&server.base).await;
    let dead = "document.querySelectorAll('dialog, button[type=button], [hidden]:empty:not(#elsewhere)').length";
    assert_eq!(ana.evaluate(dead).await, 0, "in a room");
    ana.clicks(".bar .back").await;
    ana.find("li[data-room=tea]").await;
    assert_eq!(ana.evaluate(dead).await, 0, "in the lobby");
}
