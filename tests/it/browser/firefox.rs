//! The core of the journey in Firefox ESR, with scripts and without.

use std::time::Duration;

use fantoccini::Locator;
use tokio::time::sleep;

use crate::support::{Backend, Browser, Server, eventually};

#[tokio::test(flavor = "multi_thread")]
async fn people_talk() {
    let server = Server::start(Backend::Sqlite).await;
    let ben = server.person("ben").await;
    ben.enters("tea").await;
    let ana = Browser::open_firefox().await;
    ana.signs_up(&server.base, "ana").await;
    ana.enters("tea").await;
    ana.is_following().await;
    ben.says("tea", "hello, ana").await;
    ana.shows(&["hello, ana"]).await;
    ana.says("hello, ben").await;
    ana.shows(&["hello, ana", "hello, ben"]).await;
    ana.until("document.querySelectorAll('#outbox li').length === 0")
        .await;
    assert_eq!(ben.log("tea").await.last().unwrap()["body"], "hello, ben");
    // The connection breaks, and what was said meanwhile comes once.
    ana.evaluate("document.getElementById('log')._htmx.sse.reader.cancel()")
        .await;
    ben.says("tea", "meanwhile").await;
    ana.shows(&["hello, ana", "hello, ben", "meanwhile"]).await;
    // In the lobby what is unread is counted live.
    ana.clicks(".bar .back").await;
    ana.find("form.enter").await;
    ben.says("tea", "to the lobby").await;
    ana.until("document.querySelector('li[data-room=tea] .unread')?.innerText.startsWith('1')")
        .await;
    ana.clicks(".account button").await;
    ana.find("form[action^='/login']").await;
    ana.signs_in("ana").await;
    ana.find("li[data-room=tea]").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn people_talk_without_scripts() {
    let mut server = Server::start(Backend::Sqlite).await;
    let ben = server.person("ben").await;
    ben.enters("tea").await;
    let ana = Browser::open_firefox_without_scripts().await;
    ana.signs_up(&server.base, "ana").await;
    ana.enters("tea").await;
    let in_frame = async |text: &str| {
        let is_there = async || {
            ana.leaves_frame().await;
            let xpath = format!("//div[@class='body' and contains(., '{text}')]");
            // A frame that is loaded again is another one.
            ana.enters_frame().await.is_ok()
                && ana.client.find(Locator::XPath(&xpath)).await.is_ok()
        };
        eventually(text, Duration::from_secs(20), is_there).await;
        ana.leaves_frame().await;
    };
    ben.says("tea", "live").await;
    in_frame("live").await;
    for seconds in [3, 9] {
        server.kill();
        sleep(Duration::from_secs(seconds)).await;
        server.start_again().await;
        let text = format!("after {seconds}");
        ben.says("tea", &text).await;
        in_frame(&text).await;
    }
    ana.types("#composer-text", "by a form").await;
    ana.clicks("#composer button").await;
    let own = Locator::XPath("//ol[@id='log']//div[@class='body' and contains(., 'by a form')]");
    ana.client.wait().for_element(own).await.unwrap();
    ana.clicks(".account button").await;
    ana.find("form[action^='/login']").await;
}
