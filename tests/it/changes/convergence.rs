//! Promise 9: everybody converges.

use std::collections::BTreeMap;

use reqwest::header::HeaderMap;
use serde_json::Value;

use super::{at_tea, delete, edit, react};
use crate::support::{Backend, Listener, Person};

on_both_stores!(who_resumes_ends_with_the_same_page_as_who_watched);

/// A small generator of random numbers that can be told again.
struct Chance(u64);

impl Chance {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
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

async fn some_changes(
    people: [&Person; 2],
    chance: &mut Chance,
    count: usize,
    said: &mut Vec<(u64, usize)>,
) {
    for number in 0..count {
        let who = chance.below(2) as usize;
        let (seq, author) = said[chance.below(said.len() as u64) as usize];
        match chance.below(6) {
            0 => {
                let form = [("body", "a reply"), ("reply_to", &seq.to_string())];
                let answer = people[who].request(reqwest::Method::POST, "/rooms/tea/messages");
                let answer = answer.header("accept", "application/json").form(&form);
                let answer = answer.send().await.unwrap();
                // Unless that one is deleted.
                if answer.status() == 201 {
                    let event: Value = answer.json().await.unwrap();
                    said.push((event["seq"].as_u64().unwrap(), who));
                }
            }
            1 | 2 => drop(edit(people[author], seq, &format!("edit {number}")).await),
            3 if number % 3 == 0 => drop(delete(people[author], seq).await),
            _ => {
                let emoji = ["👍", "🎉", "❤️"][chance.below(3) as usize];
                react(people[who], seq, emoji, chance.below(3) > 0).await;
            }
        }
    }
}

/// Invariant: a reader that watched 200 changes, one that was cut off in between and resumed, and one that
/// slept through all of them end with what the room's page and history have.
async fn who_resumes_ends_with_the_same_page_as_who_watched(backend: Backend) {
    let (_server, ana, ben) = at_tea(backend).await;
    let mut said = Vec::new();
    for number in 0..12 {
        said.push((ana.says("tea", &format!("number {number}")).await, 0));
    }
    let mut chance = Chance(0x9e37_79b9_7f4a_7c15);
    let mut watching = ben.listens("tea", 0).await;
    let html = "/rooms/tea/events?format=html&after=";
    let mut watched_rows = ben.listens_at(&format!("{html}0"), HeaderMap::new()).await;
    some_changes([&ana, &ben], &mut chance, 100, &mut said).await;

    let half = ana.json("/rooms/tea/messages").await["head"]
        .as_u64()
        .unwrap();
    let (mut resumed, mut resumed_rows) = (BTreeMap::new(), BTreeMap::new());
    {
        let mut stream = ana.listens("tea", 0).await;
        states(&mut stream, half, &mut resumed).await;
        let mut stream = ana.listens_at(&format!("{html}0"), HeaderMap::new()).await;
        rows(&mut stream, half, &mut resumed_rows).await;
    }
    some_changes([&ana, &ben], &mut chance, 100, &mut said).await;
    let head = ana.json("/rooms/tea/messages").await["head"]
        .as_u64()
        .unwrap();
    assert!(head > 100, "{head}");

    let (mut watched, mut seen_rows) = (BTreeMap::new(), BTreeMap::new());
    states(&mut watching, head, &mut watched).await;
    rows(&mut watched_rows, head, &mut seen_rows).await;
    let mut stream = ana.listens("tea", half).await;
    states(&mut stream, head, &mut resumed).await;
    let mut stream = ana
        .listens_at(&format!("{html}{half}"), HeaderMap::new())
        .await;
    rows(&mut stream, head, &mut resumed_rows).await;
    let (mut slept, mut slept_rows) = (BTreeMap::new(), BTreeMap::new());
    states(&mut ben.listens("tea", 0).await, head, &mut slept).await;
    let mut stream = ben.listens_at(&format!("{html}0"), HeaderMap::new()).await;
    rows(&mut stream, head, &mut slept_rows).await;

    let history = ana.json("/rooms/tea/messages?limit=200").await;
    let history = history["events"].as_array().unwrap().iter();
    let history = history.filter(|event| event["type"] == "message");
    let history: BTreeMap<u64, Value> = history
        .map(|event| (event["seq"].as_u64().unwrap(), event.clone()))
        .collect();
    assert!(history.len() > 12);
    assert_eq!(watched, history);
    assert_eq!(resumed, history);
    assert_eq!(slept, history);

    // A row's own part; the page moves quotes along by itself.
    let own = |rows: &BTreeMap<u64, String>| -> BTreeMap<u64, String> {
        let own = |row: &String| match row.split_once("<a class=\"quote\"") {
            Some((before, quote)) => before.to_owned() + quote.split_once("</a>").unwrap().1,
            None => row.clone(),
        };
        rows.iter().map(|(seq, row)| (*seq, own(row))).collect()
    };
    assert_eq!(own(&seen_rows), own(&slept_rows));
    assert_eq!(own(&resumed_rows), own(&slept_rows));
}
