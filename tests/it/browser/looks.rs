//! The looks of pages, and whether anybody can use them.
//!
//! Every picture is left in `target/screenshots`, to be looked at; `tests/screenshots` puts some of
//! them into `docs/`.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::sleep;

use super::at_tea;
use crate::support::{Backend, Browser, Server, tool};

/// Looks at pages as people with other eyes and hands do.
pub struct Look<'a> {
    browser: &'a Browser,
    axe: String,
}

/// Targets that are too small for a thumb. Links within a text are as large as the text.
const SMALL_TARGETS: &str = "Array.from(document.querySelectorAll('a, button, input:not([type=hidden]), textarea'))\
     .filter((e) => e.checkVisibility() && !e.closest('.body, .meta, .notice, td'))\
     .map((e) => [e.outerHTML, (e.closest('label') ?? e).getBoundingClientRect()])\
     .filter(([, { width, height }]) => width < 44 || height < 44)\
     .map(([html, { width, height }]) => `${width} × ${height}: ${html}`)";

/// Fields that a phone would zoom into at focus.
const SMALL_INPUTS: &str = "Array.from(document.querySelectorAll('input:not([type=hidden]), textarea'))\
     .filter((e) => parseFloat(getComputedStyle(e).fontSize) < 16).map((e) => e.outerHTML)";

const SCROLLS_SIDEWAYS: &str = "document.documentElement.scrollWidth > innerWidth";

impl<'a> Look<'a> {
    pub fn with(browser: &'a Browser) -> Self {
        let axe = std::fs::read_to_string(tool("axe.min.js")).unwrap();
        Self { browser, axe }
    }

    /// At a page on a phone and on a desk, by day and by night: a picture of each, and no
    /// complaint.
    pub async fn at(&self, name: &str) {
        for (width, height, shape) in [(390, 844, "phone"), (1280, 800, "desk")] {
            for is_dark in [false, true] {
                self.browser.looks_like(width, height, is_dark).await;
                let scheme = if is_dark { "dark" } else { "light" };
                sleep(Duration::from_millis(150)).await;
                self.closely_at(&format!("{name}-{shape}-{scheme}")).await;
                if shape == "phone" {
                    for complaint in [SMALL_TARGETS, SMALL_INPUTS] {
                        let found = self.browser.evaluate(complaint).await;
                        assert_eq!(found, json!([]), "{name} on a phone");
                    }
                }
            }
        }
        self.browser.looks_like(1280, 800, false).await;
    }

    /// Pictures of a page without scripts, in which axe, a script, does not run.
    pub async fn only_at(&self, name: &str) {
        for (width, height, shape) in [(390, 844, "phone"), (1280, 800, "desk")] {
            self.browser.looks_like(width, height, false).await;
            sleep(Duration::from_millis(150)).await;
            self.browser.screenshot(&format!("{name}-{shape}")).await;
            let scrolls = self.browser.evaluate(SCROLLS_SIDEWAYS).await;
            assert_eq!(scrolls, false, "{name} scrolls sideways on a {shape}");
        }
    }

    /// At a page as it is now.
    async fn closely_at(&self, name: &str) {
        self.browser.screenshot(name).await;
        // Not as a page's own script, which the policy would refuse.
        self.browser.evaluate(&self.axe).await;
        assert_eq!(self.complaints("document, {}").await, json!([]), "{name}");
        // Messages are to be read with ease: 7 to 1.
        let texts = "{ include: ['.message:not(.pending) .body'] }, \
                     { runOnly: ['color-contrast-enhanced'] }";
        let has_texts = "!!document.querySelector('.message:not(.pending) .body')";
        if self.browser.evaluate(has_texts).await == true {
            assert_eq!(self.complaints(texts).await, json!([]), "texts of {name}");
        }
        let scrolls = self.browser.evaluate(SCROLLS_SIDEWAYS).await;
        assert_eq!(scrolls, false, "{name} scrolls sideways");
    }

    async fn complaints(&self, of: &str) -> Value {
        let run = format!(
            "axe.run({of}).then((run) => run.violations.flatMap((v) => \
             v.nodes.map((n) => `${{v.id}}: ${{n.html}}`)))"
        );
        self.browser.evaluate(&run).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_page_is_accessible_and_looks_right() {
    let server = Server::start(Backend::Sqlite).await;
    let ben = server.person("ben").await;
    for room in ["kitchen", "reading-club", "outside"] {
        ben.enters(room).await;
    }
    ben.says("outside", "nobody here but me").await;
    let base = &server.base;
    let ana = Browser::open().await;
    let look = Look::with(&ana);
    ana.goto(&format!("{base}/login")).await;
    look.at("sign-in").await;
    ana.types("#username", "ana").await;
    ana.types("#password", "not the password").await;
    ana.clicks("main button").await;
    ana.sees("do not go together").await;
    look.at("sign-in-refused").await;
    ana.goto(&format!("{base}/signup")).await;
    look.at("sign-up").await;
    ana.evaluate("document.querySelector('form').noValidate = true")
        .await;
    ana.types("#username", "a").await;
    ana.clicks("main button").await;
    ana.sees("at least 2 characters").await;
    look.at("sign-up-refused").await;
    ana.signs_up(base, "ana").await;
    look.at("lobby-empty").await;
    ana.enters("garden").await;
    ana.clicks(".bar .back").await;
    ana.enters("reading-club").await;
    ana.clicks(".bar .back").await;
    ana.enters("kitchen").await;
    ana.sees("ana joined").await;
    ana.is_following().await;
    ana.sees("ana is here").await;
    look.at("room-empty").await;

    let cem = server.person("cem").await;
    cem.enters("kitchen").await;
    let _bens = ben.listens("kitchen", 0).await;
    let _cems = cem.listens("kitchen", 0).await;
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
        (Some(&cem), "😋"),
        (Some(&cem), "@ana is there any butter left?"),
        (None, "I’ll bring some."),
        (None, "Anything else?"),
    ] {
        match who {
            Some(person) => drop(person.says("kitchen", text).await),
            None => ana.says(text).await,
        }
        let first_line = text.lines().next().unwrap();
        ana.sees(first_line).await;
        ana.until("!document.querySelector('.pending')").await;
    }
    // The recipe is liked, and somebody answers.
    let log = ben.log("kitchen").await;
    let recipe = log.iter().find(|event| {
        let body = event["body"].as_str();
        body.is_some_and(|body| body.contains("recipe"))
    });
    let recipe = recipe.unwrap()["seq"].to_string();
    for (who, emoji) in [(&cem, "👍"), (&ben, "👍"), (&cem, "🍞")] {
        let path = format!("/rooms/kitchen/messages/{recipe}/reactions");
        who.post(&path, &[("emoji", emoji)]).await;
    }
    let reply = [("body", "I’ll try it **tonight**."), ("reply_to", &recipe)];
    cem.post("/rooms/kitchen/messages", &reply).await;
    ana.sees("I’ll try it tonight.").await;
    ana.until("document.querySelectorAll('.reactions button').length === 2")
        .await;
    for text in [
        "We meet on Thursday.",
        "@ana bring the second book, please.",
        "Or the third.",
    ] {
        ben.says("reading-club", text).await;
    }
    ana.sees("ana, ben and cem are here").await;
    ana.until("document.title === '(1 mention, 3 unread) kitchen – Parlor'")
        .await;
    look.at("room").await;
    ana.goto(&format!("{base}/rooms/kitchen/messages/4")).await;
    look.at("permalink").await;
    ana.goto(&format!("{base}/rooms/outside")).await;
    look.at("room-outside").await;
    ana.goto(&format!("{base}/rooms/nowhere")).await;
    look.at("room-missing").await;
    ana.goto(&format!("{base}/nothing")).await;
    look.at("not-found").await;
    ana.goto(&format!("{base}/rooms")).await;
    look.at("lobby").await;
    ana.types("#room", "two words").await;
    ana.clicks("form.enter button").await;
    ana.sees("has only letters").await;
    look.at("lobby-refused").await;
    ana.goto(&format!("{base}/rooms")).await;
    ana.clicks(".account button").await;
    ana.sees("You are signed out.").await;
    look.at("signed-out").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_state_of_a_room_is_accessible_and_looks_right() {
    let (mut server, ben, ana) = at_tea().await;
    let look = Look::with(&ana);
    ben.enters("den").await;
    for number in 0..70 {
        let text = format!(
            "Number {number}: something of an ordinary length, so that it wraps on a phone."
        );
        ben.says("den", &text).await;
    }
    ana.clicks(".bar .back").await;
    ana.enters("den").await;
    ana.is_following().await;
    ben.says("tea", "anybody?").await;
    ana.until("document.title === '(1) den – Parlor'").await;
    look.at("room-unread").await;
    // Once the window has its size again.
    sleep(Duration::from_millis(300)).await;
    ana.evaluate("scroller.scrollTop = 400").await;
    sleep(Duration::from_millis(300)).await;
    ben.post("/rooms/den/typing", &[]).await;
    ben.says("den", "below").await;
    ana.sees("1 new message").await;
    look.at("room-below").await;
    for (dialog, opens) in [("jump", "/"), ("keys", "?")] {
        ana.clicks("#composer-text").await;
        let keys = format!("\u{e013}{opens}");
        let active = ana.client.active_element().await.unwrap();
        active.send_keys(&keys).await.unwrap();
        ana.until(&format!("document.getElementById('{dialog}').open"))
            .await;
        look.at(&format!("room-{dialog}")).await;
        ana.evaluate("document.querySelector('dialog[open]').close()")
            .await;
    }
    ana.goto(&format!("{}/rooms/tea", server.base)).await;
    ana.is_following().await;
    look.at("room-new").await;
    ana.clicks("#older a, #composer-text").await;
    ana.goto(&format!("{}/rooms/den/messages/30", server.base))
        .await;
    look.at("permalink-long").await;
    ana.goto(&format!("{}/rooms/den/messages?before=2", server.base))
        .await;
    look.at("history").await;
    ana.goto(&format!("{}/rooms/tea", server.base)).await;
    ana.is_following().await;
    server.kill();
    ana.says("Is anybody there? This is to be read when they are back.")
        .await;
    ana.says("And this.").await;
    ana.sees("Not sent yet.").await;
    ana.sees("Connecting again…").await;
    look.at("room-cut-off").await;
}

/// Texts that chats stumble over.
fn difficult_texts() -> Vec<String> {
    let long_word =
        "Donaudampfschiffahrtselektrizitätenhauptbetriebswerkbauunterbeamtengesellschaft".repeat(3);
    let long_address = format!(
        "https://example.org/{}?q={}",
        "path/".repeat(30),
        "%20".repeat(30)
    );
    let essay = "An essay goes on. "
        .repeat(230)
        .chars()
        .take(4_000)
        .collect();
    vec![
        long_word,
        format!("Before {long_address} and after."),
        "שלום לכולם, מה שלומכם היום?\nשורה שנייה (עם סוגריים) ו-English באמצע.".to_owned(),
        "مرحبا بالجميع، هذا نص باللغة العربية مع رقم 42 و https://example.org في الوسط.".to_owned(),
        "English with עברית inside, and back. 日本語と中文も混ぜる。".to_owned(),
        "\u{202e}turned around\u{202c} and h̷̢e̶ḷ̸l̴o̷ Z̸̢a̵̧l̶g̷o̴".to_owned(),
        "👍".to_owned(),
        "🎉🎂👨‍👩‍👧‍👦🏳️‍🌈".to_owned(),
        "Run `cargo test --all` and then:\n```rust\nfn main() {\n    println!(\"a line that is much longer than any screen would ever show, whatever its width, and then some\");\n}\n```\nDone.".to_owned(),
        "<script>alert(1)</script> & <b>not bold</b>".to_owned(),
        "one\n\n\n\nfar below".to_owned(),
        "    indented\n  less".to_owned(),
        essay,
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn difficult_texts_look_right() {
    let (_server, ben, ana) = at_tea().await;
    let texts = difficult_texts();
    for (number, text) in texts.iter().enumerate() {
        ben.says("tea", text).await;
        if number % 4 == 3 {
            ana.says("Hm.").await;
            ana.until("document.querySelector('#log > :last-child .body')?.innerText === 'Hm.'")
                .await;
        }
    }
    ana.until(
        "document.querySelector('#log > :last-child .body')?.innerText.startsWith('An essay')",
    )
    .await;
    let look = Look::with(&ana);
    for (width, height, shape) in [(360, 5_600, "phone"), (1280, 2_600, "desk")] {
        // All of it in one picture.
        ana.looks_like(width, height, false).await;
        sleep(Duration::from_millis(150)).await;
        look.closely_at(&format!("room-texts-{shape}")).await;
        // Nothing leaves its row, but for code, which scrolls in a box of its own.
        let leaves = "Array.from(document.querySelectorAll('.body')).filter((body) => \
             body.scrollWidth > body.clientWidth + 1 || body.getBoundingClientRect().right > innerWidth)\
             .map((body) => body.innerText.slice(0, 40))";
        assert_eq!(ana.evaluate(leaves).await, json!([]), "on a {shape}");
        let code = "(() => { const pre = document.querySelector('pre'); return pre.scrollWidth > pre.clientWidth; })()";
        assert_eq!(ana.evaluate(code).await, true);
    }
    let large = "Array.from(document.querySelectorAll('.body.emoji'), (e) => e.innerText)";
    assert_eq!(ana.evaluate(large).await, json!(["👍", "🎉🎂👨‍👩‍👧‍👦🏳️‍🌈"]));
    // And in the lobby.
    ana.looks_like(360, 740, false).await;
    ana.clicks(".bar .back").await;
    ana.find("form.enter").await;
    look.closely_at("lobby-texts-phone").await;
}

/// The room left for messages, and whether the composer can be used.
const ROOM_TO_READ: &str = "(() => { const list = scroller.getBoundingClientRect(); \
     const last = document.querySelector('#log > :last-child').getBoundingClientRect(); \
     const composer = document.getElementById('composer').getBoundingClientRect(); \
     return { list: list.height, below: Math.round(last.bottom - list.bottom), \
              composer: composer.bottom <= innerHeight && composer.top >= list.bottom - 1 }; })()";

#[tokio::test(flavor = "multi_thread")]
async fn a_phone_with_its_keyboard_open_shows_the_last_words() {
    let (_server, ben, ana) = at_tea().await;
    for number in 0..30 {
        ben.says(
            "tea",
            &format!("Number {number}, of an ordinary length for a message."),
        )
        .await;
    }
    ana.sees("Number 29").await;
    let look = Look::with(&ana);
    for (width, height, open) in [
        (360, 640, 340),
        (390, 844, 500),
        (430, 932, 560),
        (640, 360, 190),
    ] {
        ana.has_size(width, height, true).await;
        ana.until(&format!("({ROOM_TO_READ}).below <= 0")).await;
        // Most browsers make the page smaller when the keyboard comes.
        ana.has_size(width, open, true).await;
        ana.until(&format!("({ROOM_TO_READ}).below <= 0")).await;
        let left = ana.evaluate(ROOM_TO_READ).await;
        assert_eq!(left["composer"], true, "{width} × {open}: {left}");
        assert!(
            left["list"].as_f64().unwrap() > 70.0,
            "{width} × {open}: {left}"
        );
        look.closely_at(&format!("room-keyboard-{width}")).await;
    }
    // Others lay it over the page.
    ana.has_size(390, 844, true).await;
    ana.evaluate(
        "Object.defineProperty(visualViewport, 'height', { get: () => 500, configurable: true }); \
         visualViewport.dispatchEvent(new Event('resize')); 0",
    )
    .await;
    let bottom = "document.getElementById('composer').getBoundingClientRect().bottom";
    ana.until(&format!("{bottom} <= 500 && ({ROOM_TO_READ}).below <= 0"))
        .await;
    ana.evaluate(
        "delete visualViewport.height; visualViewport.dispatchEvent(new Event('resize')); 0",
    )
    .await;
    ana.until(&format!("{bottom} > 800")).await;
    // An app on the phone's first screen.
    let errors = ana
        .devtools("Page.getInstallabilityErrors", json!({}))
        .await;
    assert_eq!(errors["installabilityErrors"], json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn letters_may_be_as_large_as_one_likes() {
    let server = Server::start(Backend::Sqlite).await;
    let ben = server.person("ben").await;
    ben.enters("tea").await;
    for number in 0..12 {
        ben.says(
            "tea",
            &format!("Number {number}, of an ordinary length for a message."),
        )
        .await;
    }
    for (letters, sizes) in [
        // 400 % of 1280 × 1024.
        (16, vec![(320, 256, "zoom")]),
        (
            32,
            vec![(390, 844, "letters-phone"), (1280, 800, "letters-desk")],
        ),
    ] {
        let ana = Browser::open_with_letters(letters).await;
        let look = Look::with(&ana);
        ana.signs_up(&server.base, &format!("ana{letters}")).await;
        let size = ana
            .evaluate("getComputedStyle(document.body).fontSize")
            .await;
        assert_eq!(size, format!("{letters}px"));
        for (width, height, name) in &sizes {
            ana.has_size(*width, *height, false).await;
            look.closely_at(&format!("lobby-{name}")).await;
        }
        ana.enters("tea").await;
        ana.is_following().await;
        for (width, height, name) in &sizes {
            ana.has_size(*width, *height, false).await;
            ana.until(&format!("({ROOM_TO_READ}).below <= 0")).await;
            let left = ana.evaluate(ROOM_TO_READ).await;
            assert_eq!(left["composer"], true, "{name}: {left}");
            assert!(left["list"].as_f64().unwrap() > 100.0, "{name}: {left}");
            look.closely_at(&format!("room-{name}")).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_readers_own_colours_and_calm_are_kept() {
    let (_server, ben, ana) = at_tea().await;
    ben.enters("den").await;
    ben.says("tea", "A text with `code` and https://example.org in it.")
        .await;
    ana.says("And one of my own.").await;
    ana.sees("And one of my own.").await;
    ana.prefers("prefers-reduced-motion", "reduce").await;
    let moving = "Array.from(document.querySelectorAll('*')).filter((e) => { const { transitionDuration: t, \
                  animationName: a } = getComputedStyle(e); return t !== '0s' || a !== 'none'; }).length";
    assert_eq!(ana.evaluate(moving).await, 0);
    ana.prefers("prefers-reduced-motion", "no-preference").await;
    assert_ne!(ana.evaluate(moving).await, 0);
    // Not with axe, which does not know these colours.
    ana.prefers("forced-colors", "active").await;
    assert_eq!(
        ana.evaluate("matchMedia('(forced-colors: active)').matches")
            .await,
        true
    );
    ana.screenshot("room-forced-colours").await;
    let edges = "Array.from(document.querySelectorAll('button, input:not([type=hidden]), textarea, code'))\
                 .filter((e) => e.checkVisibility() && parseFloat(getComputedStyle(e).borderTopWidth) < 1)\
                 .map((e) => e.outerHTML)";
    assert_eq!(ana.evaluate(edges).await, json!([]));
    ana.clicks(".bar .back").await;
    ana.find("form.enter").await;
    ana.screenshot("lobby-forced-colours").await;
    assert_eq!(ana.evaluate(edges).await, json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_room_is_light_and_comes_without_a_jerk() {
    let (_server, ben, ana) = at_tea().await;
    for number in 0..60 {
        let text = format!("Number {number}: about as long as what people usually write, I think.");
        ben.says("tea", &text).await;
    }
    // Once it is read, a page begins at its end.
    sleep(Duration::from_secs(2)).await;
    ana.console().await;
    for (width, height) in [(390, 844), (1280, 800)] {
        ana.looks_like(width, height, false).await;
        ana.devtools("Network.clearBrowserCache", json!({})).await;
        ana.client.refresh().await.unwrap();
        ana.is_following().await;
        ana.sees("ana is here").await;
        sleep(Duration::from_secs(1)).await;
        let bytes = ana
            .evaluate(
                "performance.getEntriesByType('navigation').concat(performance.getEntriesByType('resource'))\
                 .filter(({ name }) => !name.includes('/events?')).map((e) => [e.name, e.transferSize])",
            )
            .await;
        let bytes: Vec<(String, u64)> = serde_json::from_value(bytes).unwrap();
        for script in ["watchdog", "room", "htmx", "hx-sse"] {
            let came = bytes
                .iter()
                .any(|(name, size)| name.contains(&format!("/{script}.")) && *size > 0);
            assert!(came, "{script} did not come over the wire: {bytes:?}");
        }
        let sum: u64 = bytes.iter().map(|(_, size)| size).sum();
        assert!(sum < 60_000, "{sum} bytes: {bytes:#?}");
        println!("first load of a room of 50 messages: {sum} bytes over the wire");
        let shift = ana.evaluate(LAYOUT_SHIFT).await;
        assert_eq!(shift, json!(0), "at {width} × {height}");
    }
    assert_eq!(ana.console().await, Vec::<String>::new());
}

/// By how much what was shown has moved since the page was opened (CLS).
const LAYOUT_SHIFT: &str = "new Promise((done) => { let sum = 0; \
     new PerformanceObserver((list) => { for (const { value } of list.getEntries()) sum += value; })\
     .observe({ type: 'layout-shift', buffered: true }); setTimeout(() => done(sum), 300); })";

/// The rule's cases, which the server is held to as well.
#[tokio::test(flavor = "multi_thread")]
async fn rows_are_put_together_as_the_shared_cases_say() {
    let (_server, _ben, ana) = at_tea().await;
    let zone = json!({ "timezoneId": "UTC" });
    ana.devtools("Emulation.setTimezoneOverride", zone).await;
    let shared: serde_json::Value = serde_json::from_str(include_str!("../../rows.json")).unwrap();
    let rule = include_str!("../../../static/js/rows.js").replace("export function", "function");
    let shown = ana
        .evaluate(&format!(
            "(() => {{ {rule}\n\
             return {}.map((rows) => {{ \
               const list = document.createElement('ol'); \
               list.innerHTML = rows.map(({{ at, by, joined }}, n) => `<li id=\"m-${{n}}\" data-author=\"${{by}}\" \
                 class=\"${{joined ? 'notice' : 'message'}}\"><time datetime=\"${{new Date(1728e9 + at * 6e4).toISOString()}}\"></li>`).join(''); \
               arrange(list); \
               return Array.from(list.querySelectorAll('[id]'), (row) => (row.classList.contains('follows') ? 'together' \
                 : row.previousElementSibling?.matches('.day') ? 'day' : 'apart')); \
             }}); }})()",
            shared["cases"]
        ))
        .await;
    let expected: Vec<Vec<&serde_json::Value>> = shared["cases"]
        .as_array()
        .unwrap()
        .iter()
        .map(|rows| {
            rows.as_array()
                .unwrap()
                .iter()
                .map(|row| &row["is"])
                .collect()
        })
        .collect();
    assert_eq!(shown, json!(expected));
}
