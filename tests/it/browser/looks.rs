//! What pages look like, and that anybody can use them.

use std::time::Duration;

use serde_json::json;
use tokio::time::sleep;

use crate::support::{Backend, Browser, Server, tool};

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
