//! Promise 9: everybody converges.

use std::cell::Cell;
use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use reqwest::header::{ACCEPT, HeaderMap};
use reqwest::{Method, Response, StatusCode};
use serde_json::Value;
use tokio::runtime::Handle;
use tokio::task::spawn_blocking;

use super::at_tea;
use crate::support::{Backend, Listener, Person};

on_both_stores!(who_resumes_ends_with_the_same_page_as_who_watched);

/// Something that ana or ben does in the room; `of` is one of its messages, the same again after the last.
#[derive(Debug, Clone)]
enum Act {
    Say {
        who: usize,
    },
    Reply {
        who: usize,
        of: usize,
    },
    Edit {
        of: usize,
    },
    Delete {
        of: usize,
    },
    React {
        who: usize,
        of: usize,
        emoji: usize,
        on: bool,
    },
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let (who, of) = (0..2_usize, 0..40_usize);
    let react = (who.clone(), of.clone(), 0..3_usize, any::<bool>());
    let act = prop_oneof![
        1 => who.clone().prop_map(|who| Act::Say { who }),
        1 => (who, of.clone()).prop_map(|(who, of)| Act::Reply { who, of }),
        3 => of.clone().prop_map(|of| Act::Edit { of }),
        1 => of.prop_map(|of| Act::Delete { of }),
        4 => react.prop_map(|(who, of, emoji, on)| Act::React { who, of, emoji, on }),
    ];
    prop::collection::vec(act, 20..120)
}

/// A room in which things happen.
struct Scene {
    room: String,
    people: [Person; 2],
    /// The messages, each with its author.
    said: Vec<(u64, usize)>,
}

impl Scene {
    async fn in_room(room: String, people: [Person; 2]) -> Self {
        for person in &people {
            person.enters(&room).await;
        }
        let said = Vec::new();
        let mut scene = Self { room, people, said };
        for who in [0, 1] {
            scene.says(who, &[("body", "the first @ana @ben")]).await;
        }
        scene
    }

    async fn send(
        &self,
        who: usize,
        method: Method,
        path: &str,
        form: &[(&str, &str)],
    ) -> Response {
        let path = format!("/rooms/{}/messages{path}", self.room);
        let request = self.people[who].request(method, &path).form(form);
        request
            .header(ACCEPT, "application/json")
            .send()
            .await
            .unwrap()
    }

    async fn says(&mut self, who: usize, form: &[(&str, &str)]) {
        let answer = self.send(who, Method::POST, "", form).await;
        // Unless what it answers is deleted.
        if answer.status() == StatusCode::CREATED {
            let event: Value = answer.json().await.unwrap();
            self.said.push((event["seq"].as_u64().unwrap(), who));
        }
    }

    async fn plays(&mut self, acts: &[Act]) {
        for (number, act) in acts.iter().enumerate() {
            let message = |of: usize| self.said[of % self.said.len()];
            let body = format!("number {number}");
            match *act {
                Act::Say { who } => self.says(who, &[("body", &body)]).await,
                Act::Reply { who, of } => {
                    let to = message(of).0.to_string();
                    self.says(who, &[("body", &body), ("reply_to", &to)]).await;
                }
                Act::Edit { of } => {
                    let (seq, author) = message(of);
                    let form = [("body", body.as_str())];
                    self.send(author, Method::PATCH, &format!("/{seq}"), &form)
                        .await;
                }
                Act::Delete { of } => {
                    let (seq, author) = message(of);
                    self.send(author, Method::DELETE, &format!("/{seq}"), &[])
                        .await;
                }
                Act::React { who, of, emoji, on } => {
                    let (seq, emoji) = (message(of).0, ["👍", "🎉", "❤️"][emoji]);
                    let method = if on { Method::PUT } else { Method::DELETE };
                    self.send(who, method, &format!("/{seq}/reactions/{emoji}"), &[])
                        .await;
                }
            }
        }
    }

    async fn head(&self) -> u64 {
        let log = self.people[0]
            .json(&format!("/rooms/{}/messages", self.room))
            .await;
        log["head"].as_u64().unwrap()
    }

    /// A stream of JSON, or of rows.
    async fn follows(&self, who: usize, format: &str, after: u64) -> Listener {
        let path = format!("/rooms/{}/events?format={format}&after={after}", self.room);
        self.people[who].listens_at(&path, HeaderMap::new()).await
    }
}

/// The messages of a stream of JSON, each as it was told last.
async fn states(stream: &mut Listener, upto: u64, states: &mut BTreeMap<u64, Value>) {
    loop {
        let event = stream.next_event().await.unwrap();
        let seq = event.seq();
        let told = event.json();
        match &told["message"] {
            Value::Null if told["type"] == "message" => drop(states.insert(seq, told)),
            Value::Null => {}
            message => drop(states.insert(told["target"].as_u64().unwrap(), message.clone())),
        }
        if seq == upto {
            return;
        }
    }
}

/// The rows of a stream of the page's, each as it came last; a quote as its message is by then.
async fn rows(stream: &mut Listener, upto: u64, rows: &mut BTreeMap<u64, String>) {
    loop {
        let event = stream.next_event().await.unwrap();
        if event.name.is_none() {
            let at = event.data.find("id=\"m-").expect("a row") + 6;
            let end = event.data[at..].find('"').unwrap();
            let seq: u64 = event.data[at..at + end].parse().unwrap();
            let row = event
                .data
                .replace("<hx-partial", "")
                .replace("</hx-partial>", "");
            let row = row[row.find("<li").unwrap()..].trim().to_owned();
            rows.insert(seq, row);
        }
        if event.seq() == upto {
            return;
        }
    }
}

/// The rows without their quotes, which the page moves along by itself.
fn without_quotes(rows: &BTreeMap<u64, String>) -> BTreeMap<u64, String> {
    let own = |row: &String| match row.split_once("<a class=\"quote\"") {
        Some((before, quote)) => before.to_owned() + quote.split_once("</a>").unwrap().1,
        None => row.clone(),
    };
    rows.iter().map(|(seq, row)| (*seq, own(row))).collect()
}

async fn converges(room: String, people: [Person; 2], acts: &[Act]) -> Result<(), TestCaseError> {
    let mut scene = Scene::in_room(room, people).await;
    let mut watching = scene.follows(1, "json", 0).await;
    let mut watching_rows = scene.follows(1, "html", 0).await;
    let (before, after) = acts.split_at(acts.len() / 2);
    scene.plays(before).await;
    let half = scene.head().await;
    let (mut resumed, mut resumed_rows) = (BTreeMap::new(), BTreeMap::new());
    states(&mut scene.follows(0, "json", 0).await, half, &mut resumed).await;
    rows(
        &mut scene.follows(0, "html", 0).await,
        half,
        &mut resumed_rows,
    )
    .await;
    let page = format!("/rooms/{}", scene.room);
    // Kept from here on.
    scene.people[1].json(&page).await;
    scene.plays(after).await;
    let head = scene.head().await;

    let (mut watched, mut watched_rows) = (BTreeMap::new(), BTreeMap::new());
    states(&mut watching, head, &mut watched).await;
    rows(&mut watching_rows, head, &mut watched_rows).await;
    if head > half {
        states(
            &mut scene.follows(0, "json", half).await,
            head,
            &mut resumed,
        )
        .await;
        rows(
            &mut scene.follows(0, "html", half).await,
            head,
            &mut resumed_rows,
        )
        .await;
    }
    let (mut slept, mut slept_rows) = (BTreeMap::new(), BTreeMap::new());
    states(&mut scene.follows(1, "json", 0).await, head, &mut slept).await;
    rows(
        &mut scene.follows(1, "html", 0).await,
        head,
        &mut slept_rows,
    )
    .await;

    let path = format!("/rooms/{}/messages?limit=200", scene.room);
    let history = scene.people[0].json(&path).await;
    let history = history["events"].as_array().unwrap().iter();
    let history = history.filter(|event| event["type"] == "message");
    let history: BTreeMap<u64, Value> = history
        .map(|event| (event["seq"].as_u64().unwrap(), event.clone()))
        .collect();
    prop_assert_eq!(history.len(), scene.said.len());
    let page = scene.people[1].json(&page).await;
    for event in page["events"].as_array().unwrap() {
        if event["type"] == "message" {
            prop_assert_eq!(event, &history[&event["seq"].as_u64().unwrap()]);
        }
    }
    prop_assert_eq!(&watched, &history);
    prop_assert_eq!(&resumed, &history);
    prop_assert_eq!(&slept, &history);
    let slept_rows = without_quotes(&slept_rows);
    prop_assert_eq!(&without_quotes(&watched_rows), &slept_rows);
    prop_assert_eq!(&without_quotes(&resumed_rows), &slept_rows);
    Ok(())
}

/// Invariant: a reader that watched any changes, one that was cut off in between and resumed, and one that
/// slept through all of them end with what the room's history has, as JSON and as rows.
async fn who_resumes_ends_with_the_same_page_as_who_watched(backend: Backend) {
    let (server, ana, ben) = at_tea(backend).await;
    let runtime = Handle::current();
    let all = move || {
        let rooms = Cell::new(0);
        let config = Config {
            cases: 6,
            max_shrink_iters: 40,
            failure_persistence: None,
            ..Config::default()
        };
        TestRunner::new(config).run(&acts(), |acts| {
            let room = format!("room-{}", rooms.replace(rooms.get() + 1));
            runtime.block_on(converges(room, [ana.clone(), ben.clone()], &acts))
        })
    };
    let ran = spawn_blocking(all).await.unwrap();
    if let Err(failed) = ran {
        panic!("{failed}");
    }
    drop(server);
}
