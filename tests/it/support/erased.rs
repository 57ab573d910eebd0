//! Where something that was deleted may still stand.

use std::fs;

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
