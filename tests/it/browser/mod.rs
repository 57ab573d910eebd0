//! The pages in real Chromium, as people use them.

mod access;
mod away;
mod changes;
mod connection;
mod firefox;
mod keyboard;
mod leaving;
mod lighthouse;
mod looks;
mod mentions;
mod parts;
mod reading;
mod sending;
mod without_scripts;

use crate::support::{Backend, Browser, Person, Server};

/// In a page: posts fail, and nothing else does. `fetch = honest` mends it.
const NOTHING_IS_SENT: &str = "window.honest = fetch; window.fetch = async (url, options) => { \
     if (options?.method === 'POST') throw new TypeError('no network'); \
     return honest(url, options); }; 0";

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
