//! Chromium, driven through ChromeDriver, and Firefox, through geckodriver.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use fantoccini::elements::Element;
use fantoccini::error::CmdError;
use fantoccini::wd::WebDriverCompatibleCommand;
use fantoccini::{Client, ClientBuilder, Locator};
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use super::free_port;
use super::tool;

/// One browser with a profile of its own. It ends with the test, also when that fails.
pub struct Browser {
    pub client: Client,
    program: Program,
    driver: Child,
    _profile: TempDir,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Program {
    Chromium,
    Firefox,
}

const PATIENCE: Duration = Duration::from_secs(20);

/// The document in the frame of a room's page that goes on, as an expression; nothing while the browser
/// shows an error there.
pub const IN_FRAME: &str = "document.querySelector('iframe.live')?.contentDocument\
     ?.querySelector('iframe')?.contentDocument";

impl Browser {
    /// A name under which the browser reaches this machine like any other on the network.
    pub const ELSEWHERE: &str = "parlor.test";

    /// 1280 × 800, light, with scripts.
    pub async fn open() -> Self {
        Self::open_with(json!({}), "normal").await
    }

    /// The same, but pages' scripts are off, as a visitor switches them off.
    pub async fn open_without_scripts() -> Self {
        let off = json!({ "profile.managed_default_content_settings.javascript": 2 });
        // The live frame never finishes loading; whoever waits for that waits for ever.
        Self::open_with(off, "none").await
    }

    /// The same as [`Self::open`], but a page counts as loaded at once: for pages that never are.
    pub async fn open_impatient() -> Self {
        Self::open_with(json!({}), "none").await
    }

    /// The same as [`Self::open`], but the reader has chosen letters of this size.
    pub async fn open_with_letters(pixels: u32) -> Self {
        let large = json!({ "webkit.webprefs.default_font_size": pixels });
        Self::open_with(large, "normal").await
    }

    /// Firefox ESR: 1280 × 800, light, with scripts.
    pub async fn open_firefox() -> Self {
        Self::open_firefox_with(json!({}), "normal").await
    }

    /// The same without scripts. It can be told nothing but what a person can do: no expressions.
    pub async fn open_firefox_without_scripts() -> Self {
        Self::open_firefox_with(json!({ "javascript.enabled": false }), "none").await
    }

    async fn open_firefox_with(preferences: Value, wait_for_load: &str) -> Self {
        let profile = tempfile::tempdir().unwrap();
        let arguments = [
            "-headless",
            "-profile",
            &profile.path().display().to_string(),
            "-width=1280",
            "-height=800",
        ];
        let capabilities = json!({
            "moz:firefoxOptions": {
                "args": arguments,
                "binary": tool("firefox-esr"),
                "prefs": preferences,
            },
            "pageLoadStrategy": wait_for_load,
        });
        Self::drive(Program::Firefox, profile, capabilities).await
    }

    async fn open_with(preferences: Value, wait_for_load: &str) -> Self {
        let profile = tempfile::tempdir().unwrap();
        let arguments = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--disable-dev-shm-usage",
            "--window-size=1280,800",
            "--lang=en-GB",
            // Another machine's name, as far as the browser knows: without HTTPS it is given less.
            &format!("--host-resolver-rules=MAP {} 127.0.0.1", Self::ELSEWHERE),
            &format!("--user-data-dir={}", profile.path().display()),
        ];
        let capabilities = json!({
            "goog:chromeOptions": {
                "args": arguments,
                "binary": tool("chromium"),
                "prefs": preferences,
            },
            "pageLoadStrategy": wait_for_load,
            "goog:loggingPrefs": { "browser": "ALL" },
        });
        Self::drive(Program::Chromium, profile, capabilities).await
    }

    async fn drive(program: Program, profile: TempDir, capabilities: Value) -> Self {
        let Value::Object(capabilities) = capabilities else {
            unreachable!("an object is written above");
        };
        let (driver, names_profile) = match program {
            Program::Chromium => ("chromedriver", "--user-data-dir="),
            Program::Firefox => ("geckodriver", "-profile "),
        };
        let port = free_port();
        // A shell that ends them when our end of its input closes. The driver alone would leave the
        // browser running, which is known by its profile.
        let end =
            "profile=$0$1; shift; \"$@\" & cat > /dev/null; kill $!; pkill -9 -f -- \"$profile\"";
        let driver = Command::new("sh")
            .args(["-c", end])
            .arg(names_profile)
            .arg(profile.path())
            .arg(tool(driver))
            .arg(format!("--port={port}"))
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let address = format!("http://127.0.0.1:{port}");
        let until = Instant::now() + Duration::from_secs(30);
        let client = loop {
            let connecting = ClientBuilder::new(HttpConnector::new())
                .capabilities(capabilities.clone())
                .connect(&address)
                .await;
            match connecting {
                Ok(client) => break client,
                Err(error) => assert!(Instant::now() < until, "no browser: {error}"),
            }
            sleep(Duration::from_millis(100)).await;
        };
        Self {
            client,
            program,
            driver,
            _profile: profile,
        }
    }

    pub async fn goto(&self, url: &str) {
        self.client.goto(url).await.unwrap();
    }

    /// Waits for an element.
    pub async fn find(&self, css: &str) -> Element {
        let wait = self.client.wait().at_most(PATIENCE);
        let found = wait.for_element(Locator::Css(css)).await;
        match found {
            Ok(element) => element,
            Err(error) => panic!("no {css}: {error}\n{}", self.text().await),
        }
    }

    pub async fn types(&self, css: &str, text: &str) {
        // Found may be a moment before it can be used.
        let until = Instant::now() + PATIENCE;
        while let Err(error) = self.find(css).await.send_keys(text).await {
            assert!(Instant::now() < until, "cannot type into {css}: {error}");
            sleep(Duration::from_millis(50)).await;
        }
    }

    pub async fn clicks(&self, css: &str) {
        let until = Instant::now() + PATIENCE;
        while let Err(error) = self.find(css).await.click().await {
            assert!(Instant::now() < until, "cannot click {css}: {error}");
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// The visible text of the page.
    pub async fn text(&self) -> String {
        let text = self.evaluate("document.body.innerText").await;
        text.as_str().unwrap_or("").to_owned()
    }

    /// Waits until an expression is true in the page.
    pub async fn until(&self, expression: &str) {
        let until = Instant::now() + PATIENCE;
        while self.evaluate(expression).await != true {
            if Instant::now() >= until {
                let log = self.console().await;
                panic!("never: {expression}\n{}\n{log:?}", self.text().await);
            }
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// Waits until the page shows this text.
    pub async fn sees(&self, text: &str) {
        let text = serde_json::to_string(text).unwrap();
        self.until(&format!("document.body.innerText.includes({text})"))
            .await;
    }

    /// The value of an expression, also where the page's own scripts are off.
    pub async fn evaluate(&self, expression: &str) -> Value {
        if self.program == Program::Firefox {
            let script = format!("return ({expression})");
            return self.client.execute(&script, Vec::new()).await.unwrap();
        }
        let parameters = json!({
            "expression": expression,
            "awaitPromise": true,
            "returnByValue": true,
        });
        let answer = self.devtools("Runtime.evaluate", parameters).await;
        answer["result"]["value"].clone()
    }

    /// A command of the DevTools protocol.
    pub async fn devtools(&self, method: &str, parameters: Value) -> Value {
        let command = DevTools(json!({ "cmd": method, "params": parameters }));
        let answer = self.client.issue_cmd(command).await;
        answer.unwrap_or_else(|error| panic!("{method}: {error}"))
    }

    /// Runs a script in every document before its own, from now on; answers what takes that back.
    pub async fn begins_with(&self, script: &str) -> Value {
        let source = json!({ "source": script });
        self.devtools("Page.addScriptToEvaluateOnNewDocument", source)
            .await
    }

    pub async fn no_longer_begins_with(&self, script: Value) {
        self.devtools("Page.removeScriptToEvaluateOnNewDocument", script)
            .await;
    }

    /// Waits until the page or its frame shows this text.
    pub async fn hears(&self, text: &str) {
        let text = serde_json::to_string(text).unwrap();
        self.until(&format!(
            "(document.body.innerText + ({IN_FRAME}?.body?.innerText ?? '')).includes({text})"
        ))
        .await;
    }

    /// Has what follows look into the frame's document that goes on.
    pub async fn enters_frame(&self) -> Result<(), CmdError> {
        for _ in 0..2 {
            let frame = self.client.find(Locator::Css("iframe")).await?;
            frame.enter_frame().await?;
        }
        Ok(())
    }

    /// The same with the page itself again.
    pub async fn leaves_frame(&self) {
        self.client.issue_cmd(LeaveFrames).await.unwrap();
    }

    /// The complaints of the page and the browser since the last call.
    pub async fn console(&self) -> Vec<String> {
        let log = self.client.issue_cmd(Log).await.unwrap();
        let entries = log.as_array().cloned().unwrap_or_default();
        entries
            .iter()
            .map(|entry| entry["message"].to_string())
            .collect()
    }

    /// A phone or a desk, light or dark.
    pub async fn looks_like(&self, width: u32, height: u32, is_dark: bool) {
        let is_phone = width < 600;
        self.has_size(width, height, is_phone).await;
        let scheme = if is_dark { "dark" } else { "light" };
        self.prefers("prefers-color-scheme", scheme).await;
    }

    /// A window of that size; a phone is touched and not pointed at.
    pub async fn has_size(&self, width: u32, height: u32, is_phone: bool) {
        let size = json!({
            "width": width,
            "height": height,
            "deviceScaleFactor": 1,
            "mobile": is_phone,
        });
        self.devtools("Emulation.setDeviceMetricsOverride", size)
            .await;
        let touch = json!({ "enabled": is_phone });
        self.devtools("Emulation.setTouchEmulationEnabled", touch)
            .await;
    }

    /// A media feature as the reader's system has it, and no other.
    pub async fn prefers(&self, feature: &str, value: &str) {
        let features = json!({ "features": [{ "name": feature, "value": value }] });
        self.devtools("Emulation.setEmulatedMedia", features).await;
    }

    /// Puts a picture of the page into `target/screenshots`.
    pub async fn screenshot(&self, name: &str) -> PathBuf {
        let shot = self
            .devtools("Page.captureScreenshot", json!({ "format": "png" }))
            .await;
        let png = BASE64_STANDARD
            .decode(shot["data"].as_str().unwrap())
            .unwrap();
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("target/screenshots");
        std::fs::create_dir_all(&folder).unwrap();
        let file = folder.join(format!("{name}.png"));
        std::fs::write(&file, png).unwrap();
        file
    }

    /// Fills the sign-up form as a person would.
    pub async fn signs_up(&self, base: &str, name: &str) {
        self.goto(&format!("{base}/signup")).await;
        self.types("#username", name).await;
        self.types("#email", &format!("{name}@example.org")).await;
        self.types("#password", super::PASSWORD).await;
        self.clicks("main button").await;
        self.find("form.enter").await;
    }

    /// Fills the sign-in form that is shown.
    pub async fn signs_in(&self, name: &str) {
        self.types("#username", name).await;
        self.types("#password", super::PASSWORD).await;
        self.clicks("main button").await;
    }

    /// Signs out in another tab, and comes back to this one.
    pub async fn signs_out_elsewhere(&self, base: &str) {
        let here = self.client.window().await.unwrap();
        let there = self.client.new_window(true).await.unwrap().handle;
        self.client.switch_to_window(there).await.unwrap();
        self.goto(&format!("{base}/rooms")).await;
        self.clicks(".account button").await;
        self.find("form[action='/login']").await;
        self.client.switch_to_window(here).await.unwrap();
    }

    /// Enters a room from the lobby.
    pub async fn enters(&self, room: &str) {
        self.types("#room", room).await;
        self.clicks("form.enter button").await;
        self.find("#composer-text").await;
    }

    /// Writes a message and presses Enter.
    pub async fn says(&self, text: &str) {
        self.types("#composer-text", &format!("{text}\u{e007}"))
            .await;
    }

    /// The texts of the messages on the page, in order.
    pub async fn messages(&self) -> Vec<String> {
        let list = self
            .evaluate("Array.from(document.querySelectorAll('#log .body'), (e) => e.innerText)")
            .await;
        serde_json::from_value(list).unwrap()
    }

    /// Waits until the page shows these messages and no others.
    pub async fn shows(&self, messages: &[&str]) {
        let until = Instant::now() + PATIENCE;
        loop {
            let shown = self.messages().await;
            if shown == messages {
                return;
            }
            assert!(
                Instant::now() < until,
                "shown: {shown:?}\nexpected: {messages:?}"
            );
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// Waits until the room's stream is open.
    pub async fn is_following(&self) {
        self.until("!!document.getElementById('log')?._htmx?.sse?.reader")
            .await;
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        drop(self.driver.stdin.take());
        let _ = self.driver.wait();
    }
}

#[derive(Debug)]
struct DevTools(Value);

impl WebDriverCompatibleCommand for DevTools {
    fn endpoint(
        &self,
        base: &url::Url,
        session: Option<&str>,
    ) -> Result<url::Url, url::ParseError> {
        base.join(&format!(
            "session/{}/goog/cdp/execute",
            session.unwrap_or_default()
        ))
    }

    fn method_and_body(&self, _: &url::Url) -> (reqwest::Method, Option<String>) {
        (reqwest::Method::POST, Some(self.0.to_string()))
    }
}

#[derive(Debug)]
struct LeaveFrames;

impl WebDriverCompatibleCommand for LeaveFrames {
    fn endpoint(
        &self,
        base: &url::Url,
        session: Option<&str>,
    ) -> Result<url::Url, url::ParseError> {
        base.join(&format!("session/{}/frame", session.unwrap_or_default()))
    }

    fn method_and_body(&self, _: &url::Url) -> (reqwest::Method, Option<String>) {
        (
            reqwest::Method::POST,
            Some(json!({ "id": null }).to_string()),
        )
    }
}

#[derive(Debug)]
struct Log;

impl WebDriverCompatibleCommand for Log {
    fn endpoint(
        &self,
        base: &url::Url,
        session: Option<&str>,
    ) -> Result<url::Url, url::ParseError> {
        base.join(&format!("session/{}/se/log", session.unwrap_or_default()))
    }

    fn method_and_body(&self, _: &url::Url) -> (reqwest::Method, Option<String>) {
        let body = json!({ "type": "browser" });
        (reqwest::Method::POST, Some(body.to_string()))
    }
}
