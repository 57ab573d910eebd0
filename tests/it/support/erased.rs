//! Searches for deleted text.

use std::fs;
use std::time::Duration;

use ::mongodb::bson::{Document, doc};
use futures_util::TryStreamExt;

use super::{Backend, Server};

/// Nowhere.
pub const NONE: [String; 0] = [];

/// The files of a server's data directory, or the collections of its database, that hold some text.
pub async fn copies(server: &Server, backend: Backend, text: &str) -> Vec<String> {
    let mut copies = Vec::new();
    match backend {
        Backend::Sqlite => {
            for file in fs::read_dir(server.dir().join("data")).unwrap() {
                let file = file.unwrap();
                // The socket is not read.
                let Ok(bytes) = fs::read(file.path()) else {
                    continue;
                };
                let text = text.as_bytes();
                if bytes.windows(text.len()).any(|bytes| bytes == text) {
                    copies.push(file.path().display().to_string());
                }
            }
        }
        Backend::MongoDb => {
            let client = ::mongodb::Client::with_uri_str(server.mongodb_uri());
            let database = client.await.unwrap().default_database().unwrap();
            for name in database.list_collection_names().await.unwrap() {
                let all = database.collection::<Document>(&name).find(doc! {}).await;
                let all: Vec<Document> = all.unwrap().try_collect().await.unwrap();
                if format!("{all:?}").contains(text) {
                    copies.push(name);
                }
            }
        }
    }
    copies
}

/// Looks for the moment at which to kill a server, so that it has begun something and is not done.
pub struct Aim {
    pause: Duration,
    /// Moments that were too early, and too late.
    early: Duration,
    late: Option<Duration>,
    tries: u32,
    hits: u32,
}

impl Default for Aim {
    fn default() -> Self {
        Self {
            pause: Duration::from_millis(40),
            early: Duration::ZERO,
            late: None,
            tries: 0,
            hits: 0,
        }
    }
}

impl Aim {
    const HITS: u32 = 2;

    /// The time from the beginning to the next kill; `None` once enough have come in the midst.
    pub fn next(&mut self) -> Option<Duration> {
        if self.hits == Self::HITS {
            return None;
        }
        assert!(self.tries < 20, "it was never killed in the midst of it");
        self.tries += 1;
        Some(self.pause)
    }

    /// Takes in whether it had begun then, and whether it was done.
    pub fn hit(&mut self, has_begun: bool, is_done: bool) {
        match (has_begun, is_done) {
            (true, false) => self.hits += 1,
            (true, true) => self.late = Some(self.pause),
            (false, _) => self.early = self.pause,
        }
        // The next may be slower or faster than this one.
        let late = self.late.unwrap_or(self.early * 4 + self.pause);
        if late.saturating_sub(self.early) < Duration::from_millis(4) {
            (self.early, self.late) = (self.early / 2, Some(late * 2));
        }
        self.pause = (self.early + late) / 2;
    }
}
