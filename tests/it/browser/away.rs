//! The server is away, and the frame of a page without scripts comes back by itself.

use std::time::Duration;

use tokio::time::sleep;

use super::without_scripts::ana_at_tea;
use crate::support::{Backend, Browser, IN_FRAME, Mood, Proxy, Server};

/// Waits until these messages stand in the frame.
async fn in_frame(ana: &Browser, messages: &str) {
    let bodies = "Array.from(FRAME?.querySelectorAll('.body') ?? [], (e) => e.innerText).join()";
    let bodies = bodies.replace("FRAME", IN_FRAME);
    ana.until(&format!("{bodies} === '{messages}'")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_frame_comes_back_however_long_the_server_is_away() {
    let mut server = Server::start(Backend::Sqlite).await;
    let ben = server.person("ben").await;
    ben.enters("tea").await;
    let ana = ana_at_tea(&server.base).await;
    let mut said = String::from("before");
    ben.says("tea", "before").await;
    in_frame(&ana, &said).await;
    let steps = ana.evaluate("history.length").await;
    for seconds in [0, 3, 9, 60] {
        server.kill();
        sleep(Duration::from_secs(seconds)).await;
        server.start_again().await;
        ben.says("tea", &format!("after {seconds}")).await;
        said += &format!(",after {seconds}");
        in_frame(&ana, &said).await;
    }
    // Back leads to the lobby, not through what the frame has shown.
    assert_eq!(ana.evaluate("history.length").await, steps);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_frame_comes_back_after_a_proxys_own_page() {
    let server = Server::start(Backend::Sqlite).await;
    let ben = server.person("ben").await;
    ben.enters("tea").await;
    let proxy = Proxy::before(server.address()).await;
    let ana = ana_at_tea(&proxy.base).await;
    ben.says("tea", "before").await;
    in_frame(&ana, "before").await;
    proxy.is(Mood::BadGateway);
    ben.says("tea", "meanwhile").await;
    let shown = format!("{IN_FRAME}?.body?.innerText.includes('Bad Gateway') ?? false");
    ana.until(&shown).await;
    sleep(Duration::from_secs(9)).await;
    proxy.is(Mood::Honest);
    in_frame(&ana, "before,meanwhile").await;
}
