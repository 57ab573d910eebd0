//! The stream of a page: one, wherever its reader goes and whatever is cut.

use std::time::{Duration, Instant};

use tokio::time::{sleep, timeout};

use super::at_tea;
use crate::support::{Backend, Browser, Mood, Person, Proxy, Server, assert_contains};

#[tokio::test(flavor = "multi_thread")]
async fn twelve_tabs_on_plain_http() {
    let (server, ben, ana) = at_tea().await;
    twelve_tabs(&server.base, &ben, &ana).await;
}

/// There browsers have no locks by which tabs could agree who asks, and no notifications.
#[tokio::test(flavor = "multi_thread")]
async fn twelve_tabs_on_another_machines_plain_http() {
    let server = Server::start_elsewhere().await;
    let base = &server.base;
    let ben = server.person("ben").await;
    ben.enters("tea").await;
    ben.enters("den").await;
    let ana = Browser::open().await;
    ana.signs_up(base, "ana").await;
    ana.enters("den").await;
    ana.clicks(".bar .back").await;
    ana.enters("tea").await;
    ana.is_following().await;
    assert_eq!(ana.evaluate("isSecureContext").await, false);
    assert_eq!(ana.evaluate("navigator.locks === undefined").await, true);
    let offer = "document.getElementById('notifications').hidden";
    assert_eq!(ana.evaluate(offer).await, true);
    ben.says("den", "one").await;
    ana.until("document.title === '(1) tea – Parlor'").await;
    twelve_tabs(base, &ben, &ana).await;
    ben.says("den", "two").await;
    ana.until("document.title === '(2) tea – Parlor'").await;
    // When the hidden ones begin to ask now and then, they are in nobody's way.
    sleep(Duration::from_secs(62)).await;
    for number in 0..5 {
        let began = Instant::now();
        let text = format!("not held up {number}");
        ana.says(&text).await;
        ana.sees(&text).await;
        ana.until("!document.querySelector('.pending')").await;
        let took = began.elapsed();
        assert!(took < Duration::from_secs(5), "it took {took:?}");
        sleep(Duration::from_secs(2)).await;
    }
    assert_eq!(ana.console().await, Vec::<String>::new());
}

async fn twelve_tabs(base: &str, ben: &Person, ana: &Browser) {
    let mut tabs = vec![ana.client.window().await.unwrap()];
    let room = format!("{base}/rooms/tea");
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
    // By then the page has heard of all of it and waits for what else is unread.
    sleep(Duration::from_secs(9)).await;
    server.terminate();
    assert_contains(&server.output(), "shutting down streams=2");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_connection_that_is_refused_recovers() {
    let server = Server::start(Backend::Sqlite).await;
    let proxy = Proxy::before(server.address()).await;
    let ben = server.person("ben").await;
    ben.enters("tea").await;
    let ana = Browser::open().await;
    ana.signs_up(&proxy.base, "ana").await;
    proxy.is(Mood::RefusesStreams);
    ana.enters("tea").await;
    timeout(Duration::from_secs(20), async {
        while proxy.refused() < 2 {
            sleep(Duration::from_millis(50)).await;
        }
    })
    .await
    .expect("the page asks again");
    ben.says("tea", "while refused").await;
    proxy.is(Mood::Honest);
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
    ana.signs_out_elsewhere(&server.base).await;
    ana.find("form[action='/login']").await;
    ana.signs_in("ana").await;
    ana.find("#composer-text").await;
    ana.until("document.getElementById('composer-text').value === 'not yet sent'")
        .await;
}
