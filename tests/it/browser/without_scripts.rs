//! With scripts switched off.

use std::time::Duration;

use fantoccini::Locator;
use tokio::time::sleep;

use super::looks::Look;
use crate::support::{Backend, Browser, Server};

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
        ana.client.enter_frame(0).await.unwrap();
        let wait = ana.client.wait().at_most(Duration::from_secs(20));
        let xpath = format!("//div[@class='body' and contains(., '{text}')]");
        let found = wait.for_element(Locator::XPath(&xpath)).await;
        ana.client.clone().enter_parent_frame().await.unwrap();
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
    let unread = ana.find("li[data-room=tea] .unread").await;
    let count = unread.html(true).await.unwrap();
    assert!(!unread.is_displayed().await.unwrap(), "{count}");
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

    // What is unread is counted when a page is loaded, and a line says where the reading stopped.
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
