//! Aggregation pipelines that look at many rooms at once.

use mongodb::Collection;
use mongodb::bson::{Bson, Document, doc};
use tokio_stream::StreamExt;

use super::retry::retry;
use crate::store::StoreError;

/// Adds the newest event of the log that `room_field` names and `filter` takes, as an array of
/// one or none: a look-up in the index for each room, where grouping would read the logs.
pub(super) fn newest(room_field: &str, into: &str, filter: Document) -> Document {
    doc! { "$lookup": {
        "from": "events",
        "localField": room_field,
        "foreignField": "room",
        "pipeline": [ { "$match": filter }, { "$sort": { "seq": -1 } }, { "$limit": 1 } ],
        "as": into,
    } }
}

pub(super) async fn aggregate<const N: usize>(
    collection: &Collection<Document>,
    pipeline: [Document; N],
) -> Result<Vec<Document>, StoreError> {
    retry("list rooms", || async {
        let found = collection.aggregate(pipeline.clone());
        found.await?.collect::<Result<Vec<_>, _>>().await
    })
    .await
}

pub(super) fn first<'a>(document: &'a Document, array: &str) -> Option<&'a Document> {
    document
        .get_array(array)
        .ok()?
        .first()
        .and_then(Bson::as_document)
}
