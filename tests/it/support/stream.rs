use std::collections::VecDeque;
use std::time::Duration;

use futures_util::{Stream, StreamExt};
use reqwest::{Response, StatusCode};
use serde_json::Value;
use tokio::time::timeout;

/// One server-sent event as a client reads it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SseEvent {
    pub id: Option<String>,
    pub name: Option<String>,
    pub data: String,
}

impl SseEvent {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.data).unwrap()
    }

    pub fn seq(&self) -> u64 {
        self.id.as_deref().unwrap().parse().unwrap()
    }
}

/// An open stream, read event by event as the HTML standard says.
pub struct Listener {
    pub status: StatusCode,
    pub headers: reqwest::header::HeaderMap,
    bytes: std::pin::Pin<Box<dyn Stream<Item = reqwest::Result<bytes::Bytes>> + Send>>,
    rest: Vec<u8>,
    read: VecDeque<SseEvent>,
    /// Everything that came, as it came.
    pub raw: String,
}

const PATIENCE: Duration = Duration::from_secs(20);

impl Listener {
    pub fn new(answer: Response) -> Self {
        Self {
            status: answer.status(),
            headers: answer.headers().clone(),
            bytes: Box::pin(answer.bytes_stream()),
            rest: Vec::new(),
            read: VecDeque::new(),
            raw: String::new(),
        }
    }

    /// The next event of any kind; `None` when the stream has ended or broken off.
    pub async fn next(&mut self) -> Option<SseEvent> {
        loop {
            if let Some(event) = self.read.pop_front() {
                return Some(event);
            }
            if !self.more().await {
                return None;
            }
        }
    }

    /// Waits for more bytes, whatever they are; `false` when the stream has ended.
    pub async fn more(&mut self) -> bool {
        let more = timeout(PATIENCE, self.bytes.next()).await;
        match more.expect("nothing came for too long") {
            Some(Ok(more)) => {
                self.raw += &String::from_utf8_lossy(&more);
                self.rest.extend_from_slice(&more);
                self.parse();
                true
            }
            _ => false,
        }
    }

    /// The next event of the log: notices are passed over, but not for ever.
    pub async fn next_event(&mut self) -> Option<SseEvent> {
        let next = async {
            loop {
                let event = self.next().await?;
                if event.id.is_some() {
                    return Some(event);
                }
            }
        };
        let next = timeout(PATIENCE, next).await;
        next.expect("only notices came for too long")
    }

    /// The next notice of that name: everything before it is passed over.
    pub async fn next_notice(&mut self, name: &str) -> SseEvent {
        let next = async {
            loop {
                let event = self.next().await.expect("the stream ended");
                if event.id.is_none() && event.name.as_deref() == Some(name) {
                    return event;
                }
            }
        };
        // The slowest to come is that somebody has gone with their node.
        let next = timeout(2 * PATIENCE, next).await;
        next.unwrap_or_else(|_| panic!("no {name} for too long"))
    }

    /// The numbers of the next `count` events.
    pub async fn numbers(&mut self, count: usize) -> Vec<u64> {
        let mut numbers = Vec::new();
        while numbers.len() < count {
            numbers.push(self.next_event().await.expect("the stream ended").seq());
        }
        numbers
    }

    /// The next bytes as they came, for formats without events.
    pub async fn text_until(&mut self, part: &str) -> String {
        let read = async {
            while !self.raw.contains(part) {
                let more = self.bytes.next().await.expect("the stream ended");
                self.raw += &String::from_utf8_lossy(&more.unwrap());
            }
        };
        if timeout(PATIENCE, read).await.is_err() {
            panic!("no {part:?} in {:?}", self.raw);
        }
        self.raw.clone()
    }

    /// Waits for the end of the stream.
    pub async fn ends(&mut self) {
        while self.next().await.is_some() {}
    }

    fn parse(&mut self) {
        while let Some(end) = self.rest.windows(2).position(|two| two == b"\n\n") {
            let block: Vec<u8> = self.rest.drain(..end + 2).collect();
            let block = String::from_utf8(block).unwrap();
            assert!(!block.contains('\r'), "a carriage return in {block:?}");
            let mut event = SseEvent::default();
            let mut data = Vec::new();
            for line in block.lines().filter(|line| !line.is_empty()) {
                let (field, value) = line.split_once(": ").unwrap_or((line, ""));
                match field {
                    "id" => event.id = Some(value.to_owned()),
                    "event" => event.name = Some(value.to_owned()),
                    "data" => data.push(value),
                    "data:" => data.push(""),
                    "retry" | "" => {}
                    _ => panic!("a line that is no field: {line:?}"),
                }
            }
            event.data = data.join("\n");
            if !data.is_empty() {
                self.read.push_back(event);
            }
        }
    }
}
