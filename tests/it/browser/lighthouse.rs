//! Lighthouse: what Chromium's own people measure of a page.

use std::process::Stdio;

use serde_json::Value;
use tokio::process::Command;

use crate::support::{Backend, Person, Server, tool};

/// The best of a few runs: it simulates a slow phone from what this machine does, and a moment in
/// which the machine does something else is not the page's.
const TRIES: usize = 3;

const CATEGORIES: [(&str, f64); 3] = [
    ("accessibility", 1.0),
    ("best-practices", 1.0),
    ("performance", 0.98),
];

#[tokio::test(flavor = "multi_thread")]
async fn sign_in_lobby_and_room_score_full_marks() {
    let server = Server::start(Backend::Sqlite).await;
    let ana = server.person("ana").await;
    for room in ["kitchen", "reading-club", "tea"] {
        ana.enters(room).await;
    }
    for number in 0..60 {
        let text = format!("message {number}, about as long as what people usually write");
        ana.says("tea", &text).await;
    }
    for path in ["/login", "/rooms", "/rooms/tea"] {
        for form_factor in ["mobile", "desktop"] {
            let mut short = Vec::new();
            for _ in 0..TRIES {
                short = falls_short(&server, &ana, path, form_factor).await;
                if short.is_empty() {
                    break;
                }
            }
            assert!(short.is_empty(), "{path} on {form_factor}: {short:#?}");
        }
    }
}

/// The scores below what they should be, with the audits that cost them something.
async fn falls_short(
    server: &Server,
    person: &Person,
    path: &str,
    form_factor: &str,
) -> Vec<String> {
    let report = tempfile::NamedTempFile::new().unwrap();
    let headers = serde_json::json!({ "Cookie": format!("{}={}", server.cookie(), person.token) });
    let mut lighthouse = Command::new("node");
    lighthouse
        .arg(tool("lighthouse/node_modules/lighthouse/cli/index.js"))
        .arg(format!("{}{path}", person.base))
        .args(["--quiet", "--output=json", "--output-path"])
        .arg(report.path())
        .arg("--only-categories=performance,accessibility,best-practices")
        .arg(format!("--extra-headers={headers}"))
        // A room's stream never ends, so nothing says that it has loaded but the time.
        .arg("--max-wait-for-load=6000")
        .arg(
            "--chrome-flags=--headless --no-sandbox --disable-gpu --disable-quic --no-first-run \
             --disable-background-networking --disable-component-update --disable-sync \
             --disable-dev-shm-usage",
        )
        .env("CHROME_PATH", tool("chromium"))
        .kill_on_drop(true)
        .stdin(Stdio::null());
    if form_factor == "desktop" {
        lighthouse.arg("--preset=desktop");
    }
    let output = lighthouse.output().await.unwrap();
    let says = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "lighthouse failed: {says}");
    let report: Value = serde_json::from_reader(report.reopen().unwrap()).unwrap();
    let mut short = Vec::new();
    for (category, at_least) in CATEGORIES {
        let category = &report["categories"][category];
        let score = category["score"].as_f64().unwrap_or(0.0);
        if score >= at_least {
            continue;
        }
        let mut why = format!("{} {score}:", category["title"]);
        for audit in category["auditRefs"].as_array().unwrap() {
            let audit = &report["audits"][audit["id"].as_str().unwrap()];
            if audit["score"].as_f64().is_some_and(|score| score < 1.0) {
                why += &format!(" {} ({})", audit["id"], audit["displayValue"]);
            }
        }
        short.push(why);
    }
    short
}
