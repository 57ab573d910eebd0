//! Writers and readers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use reqwest::header::HeaderMap;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, timeout};

use crate::history::History;
use crate::support::{Listener, Person};

pub const ROOMS: [&str; 3] = ["hot", "tea", "den"];

/// A message that was acknowledged.
#[derive(Debug, Clone)]
pub struct Acknowledged {
    pub room: &'static str,
    pub seq: u64,
    pub body: String,
}

/// Posts until `stop`, each message until it is acknowledged: again with the same nonce, at
/// whichever node. Answers what was acknowledged.
pub async fn writer(
    name: String,
    at: Vec<Person>,
    history: History,
    stop: Arc<AtomicBool>,
) -> Vec<Acknowledged> {
    let mut choices = history.choices(&name);
    let mut acknowledged = Vec::new();
    for number in 0.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        // Half of it in one room.
        let room = ROOMS[choices.usize(..4).saturating_sub(1)];
        let body = format!("{name} {number}");
        let nonce = body.replace(' ', "-");
        // Once everything works again it does not take long.
        let longest = Instant::now() + Duration::from_secs(90);
        loop {
            let node = choices.usize(..at.len());
            let patience = Duration::from_millis(choices.u64(1_500..20_000));
            let posting = at[node].tries_to_say(room, &body, Some(&nonce));
            let answer = match timeout(patience, posting).await {
                Ok(Ok(answer)) => answer,
                Ok(Err(error)) => {
                    history.note(
                        &name,
                        json!({ "post": body, "node": node, "failed": error.to_string() }),
                    );
                    pause(&mut choices).await;
                    continue;
                }
                Err(_) => {
                    history.note(
                        &name,
                        json!({ "post": body, "node": node, "failed": "gave up" }),
                    );
                    continue;
                }
            };
            let status = answer.status();
            let retry_after = answer.headers().contains_key("retry-after");
            let Ok(said) = answer.json::<Value>().await else {
                continue;
            };
            history.note(
                &name,
                json!({ "post": body, "room": room, "node": node, "status": status.as_u16(), "seq": said["seq"] }),
            );
            match status {
                StatusCode::CREATED => {
                    if said["body"] != body {
                        history.broken(&name, format!("{body} was answered with {said}"));
                    }
                    let seq = said["seq"].as_u64().unwrap();
                    acknowledged.push(Acknowledged { room, seq, body });
                    break;
                }
                StatusCode::SERVICE_UNAVAILABLE if retry_after => pause(&mut choices).await,
                _ => {
                    history.broken(&name, format!("{body} at node {node}: {status} {said}"));
                    pause(&mut choices).await;
                }
            }
            if Instant::now() > longest {
                history.broken(&name, format!("{body} was not taken for 90 seconds"));
                break;
            }
        }
        sleep(Duration::from_millis(choices.u64(1..20))).await;
    }
    acknowledged
}

/// A message of which every change was acknowledged.
#[derive(Debug)]
pub struct Settled {
    pub room: &'static str,
    pub seq: u64,
    /// `None` when it was deleted.
    pub body: Option<String>,
    /// Whether the changer's reaction is on.
    pub is_liked: bool,
}

/// Posts, and then edits, reacts to and perhaps deletes what it has posted, each change at whichever node and
/// again until it is acknowledged. Answers what must be so in the end.
pub async fn changer(
    name: String,
    at: Vec<Person>,
    history: History,
    stop: Arc<AtomicBool>,
) -> Vec<Settled> {
    let mut choices = history.choices(&name);
    let mut settled = Vec::new();
    for number in 0.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let room = ROOMS[choices.usize(..ROOMS.len())];
        let body = format!("{name} changes {number}");
        let nonce = body.replace(' ', "-");
        let form = [("body", body.as_str()), ("nonce", &nonce)];
        let path = format!("/rooms/{room}/messages");
        let mut ask = Insistent {
            name: &name,
            at: &at,
            history: &history,
            choices: &mut choices,
            has_given_up: false,
        };
        let Some(said) = ask.until_done(Method::POST, &path, &form).await else {
            break;
        };
        let seq = said["seq"].as_u64().unwrap();
        let path = format!("{path}/{seq}");
        let mut now = Settled {
            room,
            seq,
            body: Some(body.clone()),
            is_liked: false,
        };
        for round in 0..ask.choices.usize(1..4) {
            let (method, path, body) = match ask.choices.usize(..8) {
                0..4 => (
                    Method::PATCH,
                    path.clone(),
                    Some(format!("{body}, {round}")),
                ),
                4..6 => (Method::PUT, format!("{path}/reactions/👍"), None),
                6 => (Method::DELETE, format!("{path}/reactions/👍"), None),
                _ => (Method::DELETE, path.clone(), None),
            };
            let form: Vec<(&str, &str)> = body.iter().map(|body| ("body", body.as_str())).collect();
            ask.has_given_up = false;
            if ask.until_done(method.clone(), &path, &form).await.is_none() {
                break;
            }
            let is_reaction = path.contains("/reactions/");
            match (method, is_reaction) {
                (Method::PATCH, _) => now.body = body,
                (method, true) => now.is_liked = method == Method::PUT,
                _ => {
                    (now.body, now.is_liked) = (None, false);
                    break;
                }
            }
            // A change given up at one node may still be done there, late: nothing else is to come before that.
            if ask.has_given_up {
                break;
            }
        }
        settled.push(now);
        sleep(Duration::from_millis(choices.u64(1..40))).await;
    }
    settled
}

/// A private room of which every act about its guest was acknowledged.
#[derive(Debug)]
pub struct Kept {
    pub room: String,
    pub guest: String,
    pub is_member: bool,
    pub is_owner: bool,
}

/// Makes private rooms, and adds, removes and promotes a guest, each act at whichever node and again until it is
/// acknowledged. Answers what must be so in the end.
pub async fn keeper(
    name: String,
    guest: String,
    at: Vec<Person>,
    history: History,
    stop: Arc<AtomicBool>,
) -> Vec<Kept> {
    let mut choices = history.choices(&name);
    let mut all = Vec::new();
    for number in 0.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let room = format!("{name}-{number}").to_lowercase();
        let mut ask = Insistent {
            name: &name,
            at: &at,
            history: &history,
            choices: &mut choices,
            has_given_up: false,
        };
        let form = [("room", room.as_str()), ("access", "private")];
        if ask
            .until_done(Method::POST, "/rooms", &form)
            .await
            .is_none()
        {
            break;
        }
        let people = format!("/rooms/{room}/people");
        let mut kept = Kept {
            room,
            guest: guest.clone(),
            is_member: false,
            is_owner: false,
        };
        for _ in 0..ask.choices.usize(1..6) {
            let act = if kept.is_member {
                ask.choices.usize(1..4)
            } else {
                0
            };
            let (path, form) = match act {
                0 => (people.clone(), [("username", guest.as_str())]),
                1 => (format!("{people}/{guest}/remove"), [("remove", "yes")]),
                2 => (format!("{people}/{guest}/role"), [("role", "owner")]),
                _ => (format!("{people}/{guest}/role"), [("role", "member")]),
            };
            ask.has_given_up = false;
            if ask.until_done(Method::POST, &path, &form).await.is_none() {
                break;
            }
            (kept.is_member, kept.is_owner) = (act != 1, act == 2);
            // One given up at one node may still be done there, late: nothing else is to come before that.
            if ask.has_given_up {
                break;
            }
        }
        all.push(kept);
        sleep(Duration::from_millis(choices.u64(1..40))).await;
    }
    all
}

/// Asks any node until one says that it is done.
struct Insistent<'a> {
    name: &'a str,
    at: &'a [Person],
    history: &'a History,
    choices: &'a mut fastrand::Rng,
    /// Whether a request was not waited for to its end.
    has_given_up: bool,
}

impl Insistent<'_> {
    async fn until_done(
        &mut self,
        method: Method,
        path: &str,
        form: &[(&str, &str)],
    ) -> Option<Value> {
        let longest = Instant::now() + Duration::from_secs(90);
        while Instant::now() < longest {
            let node = self.choices.usize(..self.at.len());
            let patience = Duration::from_millis(self.choices.u64(1_500..20_000));
            let request = self.at[node].request(method.clone(), path).form(form);
            let asking = request.header("accept", "application/json").send();
            let Ok(Ok(answer)) = timeout(patience, asking).await else {
                self.has_given_up = true;
                pause(self.choices).await;
                continue;
            };
            let status = answer.status();
            let what = json!({ "asks": method.as_str(), "of": path, "node": node, "status": status.as_u16() });
            self.history.note(self.name, what);
            let Ok(text) = answer.text().await else {
                self.has_given_up = true;
                continue;
            };
            match status {
                StatusCode::NO_CONTENT => return Some(Value::Null),
                StatusCode::OK | StatusCode::CREATED => return serde_json::from_str(&text).ok(),
                StatusCode::SERVICE_UNAVAILABLE => {
                    self.has_given_up = true;
                    pause(self.choices).await;
                }
                _ => {
                    let how = format!("{method} {path} at node {node}: {status} {text}");
                    self.history.broken(self.name, how);
                    return None;
                }
            }
        }
        let how = format!("{method} {path} was not done for 90 seconds");
        self.history.broken(self.name, how);
        None
    }
}

/// Puts the message that a change brings into its place: what a reader has then is what there is now.
pub fn take_in(read: &mut Vec<Value>, mut event: Value) -> bool {
    if let Some(target) = event["target"].as_u64() {
        let message = event["message"].take();
        let is_there = message["seq"] == target;
        if let Some(place) = read.get_mut(target as usize - 1)
            && is_there
        {
            *place = message;
        }
        read.push(event);
        return is_there;
    }
    read.push(event);
    true
}

/// Asks for a room's page at any node, as a browser behind a balancer does, and posts now and then: the log
/// never shrinks, and what it has posted is there. It carries the cookie from node to node.
pub async fn visitor(
    name: String,
    room: &'static str,
    at: Vec<Person>,
    history: History,
    stop: Arc<AtomicBool>,
) -> usize {
    let mut choices = history.choices(&name);
    let (mut seen, mut cookie, mut pages) = (0, String::new(), 0);
    for number in 0.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let node = choices.usize(..at.len());
        let is_post = number % 4 == 0;
        let request = match is_post {
            true => {
                let body = format!("{name} {number}");
                let nonce = body.replace(' ', "-");
                let form = [("body", body), ("nonce", nonce)];
                let post = at[node].request(Method::POST, &format!("/rooms/{room}/messages"));
                post.header("accept", "application/json").form(&form)
            }
            false => {
                let page = at[node].request(Method::GET, &format!("/rooms/{room}"));
                page.header("accept", "text/html")
            }
        };
        let asking = request.header("cookie", &cookie).send();
        let Ok(Ok(answer)) = timeout(Duration::from_secs(5), asking).await else {
            pause(&mut choices).await;
            continue;
        };
        let status = answer.status();
        if let Some(set) = answer.headers().get("set-cookie") {
            let set = set.to_str().unwrap().split(';').next().unwrap();
            set.clone_into(&mut cookie);
        }
        let Ok(text) = answer.text().await else {
            continue;
        };
        match status {
            StatusCode::CREATED => {
                let said: Value = serde_json::from_str(&text).unwrap();
                seen = seen.max(said["seq"].as_u64().unwrap());
            }
            StatusCode::OK => {
                let ids = text.split("id=\"m-").skip(1);
                let ids = ids.filter_map(|id| id.split('"').next()?.parse().ok());
                let head: u64 = ids.max().unwrap_or(0);
                if head < seen {
                    let how = format!("node {node} shows {head} after {seen} ({cookie})");
                    history.broken(&name, how);
                }
                seen = seen.max(head);
                pages += 1;
            }
            StatusCode::SERVICE_UNAVAILABLE => pause(&mut choices).await,
            _ => history.broken(&name, format!("node {node}: {status} {text}")),
        }
        sleep(Duration::from_millis(choices.u64(1..30))).await;
    }
    pages
}

async fn pause(choices: &mut fastrand::Rng) {
    sleep(Duration::from_millis(choices.u64(20..300))).await;
}

/// A reader's orders.
pub struct Orders {
    /// Where to stop, once it is known: 0 means not yet.
    pub until: AtomicU64,
}

/// Follows a room from its first event, cutting its stream now and then and resuming with the id it
/// read last, on one node or, with several, on any. Answers the bodies, in order.
pub async fn reader(
    name: String,
    room: &'static str,
    at: Vec<Person>,
    history: History,
    orders: Arc<Orders>,
) -> Vec<Value> {
    let mut choices = history.choices(&name);
    let mut read: Vec<Value> = Vec::new();
    let mut last_progress = Instant::now();
    loop {
        let head = orders.until.load(Ordering::Relaxed);
        if head > 0 && read.len() as u64 >= head {
            return read;
        }
        if head == 0 {
            last_progress = Instant::now();
        } else if last_progress.elapsed() > Duration::from_secs(60) {
            history.broken(&name, format!("stands still at {} of {head}", read.len()));
            return read;
        }
        let node = choices.usize(..at.len());
        let cut_after = Duration::from_millis(choices.u64(50..4_000));
        let before = read.len();
        let _ = timeout(
            cut_after,
            read_on(&name, room, &at[node], node, &history, &mut read, &orders),
        )
        .await;
        if read.len() > before {
            last_progress = Instant::now();
        } else {
            sleep(Duration::from_millis(choices.u64(10..100))).await;
        }
    }
}

/// One stream, to its end or the log's.
async fn read_on(
    name: &str,
    room: &str,
    person: &Person,
    node: usize,
    history: &History,
    read: &mut Vec<Value>,
    orders: &Orders,
) {
    let mut headers = HeaderMap::new();
    if !read.is_empty() {
        headers.insert("last-event-id", read.len().to_string().parse().unwrap());
    }
    let path = format!("/rooms/{room}/events?after=0");
    let request = person.request(Method::GET, &path);
    let Ok(answer) = request.headers(headers).send().await else {
        return;
    };
    let mut stream = Listener::new(answer);
    match stream.status {
        StatusCode::OK => {}
        StatusCode::SERVICE_UNAVAILABLE => return,
        status => return history.broken(name, format!("node {node} answers {status}")),
    }
    while let Some(event) = stream.next().await {
        match event.name.as_deref() {
            Some("message" | "joined" | "edited" | "deleted" | "reacted") => {}
            Some("hello" | "presence" | "goodbye") => continue,
            other => {
                let after = read.len();
                return history.broken(
                    name,
                    format!("{other:?} from node {node} after {after}: {}", event.data),
                );
            }
        }
        let expected = read.len() as u64 + 1;
        let seq = event.seq();
        if seq != expected {
            return history.broken(
                name,
                format!("{seq} from node {node} instead of {expected}"),
            );
        }
        if !take_in(read, event.json()) {
            history.broken(
                name,
                format!("{seq} from node {node} came without its message"),
            );
        }
        if orders.until.load(Ordering::Relaxed) == seq {
            return;
        }
    }
}
