//! Changes, and a server that is killed in between.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use reqwest::header::ACCEPT;
use reqwest::{Method, Response, StatusCode};
use serde_json::Value;
use tokio::task::JoinSet;

use super::at_tea;
use crate::support::{Backend, Person, eventually};

on_both_stores!(what_was_answered_is_there_after_a_kill);

/// The state in which a writer knows its messages when the server has gone.
#[derive(Default)]
struct Known {
    /// The message that is edited: its number, the last edit that was answered and the last that was sent.
    edited: u64,
    answered: usize,
    sent: usize,
    /// Messages whose deletion was answered, with their texts.
    deleted: Vec<(u64, String)>,
    /// Messages that were not to be deleted.
    kept: Vec<(u64, String)>,
    /// The message on which reactions are put and taken off: its number, and whether it was on when that was
    /// answered last. `None` while a change is under way.
    reacted: u64,
    is_on: Option<bool>,
}

async fn send(
    who: &Person,
    method: Method,
    path: &str,
    form: &[(&str, &str)],
) -> reqwest::Result<Response> {
    let request = who.request(method, &format!("/rooms/tea/messages{path}"));
    request
        .header(ACCEPT, "application/json")
        .form(form)
        .send()
        .await
}

/// Posts; `None` when the server has gone.
async fn says(who: &Person, body: &str) -> Option<u64> {
    let answer = send(who, Method::POST, "", &[("body", body)]).await.ok()?;
    answer.json::<Value>().await.ok()?["seq"].as_u64()
}

/// Whether a change was answered with success.
async fn changes(who: &Person, method: Method, path: &str, form: &[(&str, &str)]) -> bool {
    let answer = send(who, method, path, form).await;
    answer.is_ok_and(|answer| answer.status().is_success())
}

async fn change_until_it_breaks(who: Person, name: String, count: Arc<AtomicUsize>) -> Known {
    let mut known = Known::default();
    let Some(edited) = says(&who, "edit 0").await else {
        return known;
    };
    (known.edited, known.reacted) = (edited, edited);
    for number in 1.. {
        known.sent = number;
        let (path, body) = (format!("/{edited}"), format!("edit {number}"));
        if !changes(&who, Method::PATCH, &path, &[("body", &body)]).await {
            return known;
        }
        known.answered = number;
        let was_on = known.is_on.take().unwrap_or(false);
        let method = if was_on { Method::DELETE } else { Method::PUT };
        let path = format!("/{edited}/reactions/👍");
        if !changes(&who, method, &path, &[]).await {
            return known;
        }
        known.is_on = Some(!was_on);
        // Ends so that none is the start of another.
        let text = format!("SECRET-{name}-{number}.");
        let Some(seq) = says(&who, &text).await else {
            return known;
        };
        if number % 4 == 0 {
            let text = text.replace("SECRET", "KEPT");
            let path = format!("/{seq}");
            if changes(&who, Method::PATCH, &path, &[("body", &text)]).await {
                known.kept.push((seq, text));
            }
        } else if changes(&who, Method::DELETE, &format!("/{seq}"), &[]).await {
            known.deleted.push((seq, text));
        }
        count.fetch_add(1, Ordering::Relaxed);
    }
    known
}

/// Invariant: an edit, a deletion or a reaction that was answered is there after a kill, and one that was not
/// is there as a whole or not at all; what is deleted is in no file.
async fn what_was_answered_is_there_after_a_kill(backend: Backend) {
    let (mut server, ana, _ben) = at_tea(backend).await;
    for round in 0..3 {
        let count = Arc::new(AtomicUsize::new(0));
        let mut writers = JoinSet::new();
        for writer in 0..5 {
            let (ana, count) = (ana.clone(), Arc::clone(&count));
            writers.spawn(change_until_it_breaks(
                ana,
                format!("{round}-{writer}"),
                count,
            ));
        }
        let enough = async || count.load(Ordering::Relaxed) > 20 * (round + 1);
        eventually("changes were made", Duration::from_secs(30), enough).await;
        server.kill();
        let all = writers.join_all().await;
        server.start_again().await;

        // Checks that there is no gap.
        let log = ana.log("tea").await;
        let event = async |seq: u64| ana.json(&format!("/rooms/tea/messages/{seq}")).await;
        for known in all {
            let message = event(known.edited).await;
            let edit = message["body"]
                .as_str()
                .unwrap()
                .strip_prefix("edit ")
                .unwrap();
            let edit: usize = edit.parse().unwrap();
            assert!((known.answered..=known.sent).contains(&edit), "{message}");
            // The state and the log say the same.
            let is_edit =
                |event: &&Value| event["type"] == "edited" && event["target"] == known.edited;
            let last = log.iter().rfind(is_edit).map(|event| &event["seq"]);
            assert_eq!(last, message.get("rev"));
            if let Some(is_on) = known.is_on {
                assert_eq!(message["reactions"].is_array(), is_on, "{message}");
            }
            for (seq, text) in &known.deleted {
                let message = event(*seq).await;
                assert!(
                    message["deleted_at"].is_string() && message["body"].is_null(),
                    "{text}"
                );
            }
            for (seq, text) in &known.kept {
                assert_eq!(event(*seq).await["body"], text.as_str());
            }
            if backend == Backend::Sqlite {
                for file in fs::read_dir(server.dir().join("data")).unwrap() {
                    // The socket is not read.
                    let Ok(bytes) = fs::read(file.unwrap().path()) else {
                        continue;
                    };
                    for (_, text) in &known.deleted {
                        let found = memchr::memmem::find(&bytes, text.as_bytes());
                        assert_eq!(found, None, "{text}");
                    }
                }
            }
        }
    }
    let status = send(&ana, Method::GET, "", &[]).await.unwrap().status();
    assert_eq!(status, StatusCode::OK);
}
