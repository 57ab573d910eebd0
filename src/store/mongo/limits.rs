//! Rate limits that all nodes share: the generic cell rate algorithm in one atomic update, by
//! MongoDB's clock. A count may be lost in a failover; that forgives a little.

use std::time::Duration;

use mongodb::Collection;
use mongodb::bson::{Bson, Document, doc};
use mongodb::options::ReturnDocument;

use super::MongoStore;
use super::collections::Collections;
use super::errors::unreadable;
use super::retry::retry;
use crate::store::{Bucket, Buckets, StoreError};

/// As a number of milliseconds.
fn ms(span: Duration) -> Bson {
    Bson::Int64(i64::try_from(span.as_millis()).unwrap_or(i64::MAX))
}

#[async_trait::async_trait]
impl Buckets for MongoStore {
    async fn take(&self, buckets: &[Bucket]) -> Result<Result<(), Duration>, StoreError> {
        for bucket in buckets {
            if let Err(wait) = self.collections.take_one(bucket).await? {
                return Ok(Err(wait));
            }
        }
        Ok(Ok(()))
    }

    async fn refund(&self, buckets: &[Bucket]) -> Result<(), StoreError> {
        for Bucket { key, rate } in buckets {
            let less = doc! { "$subtract": ["$full_at", ms(rate.every)] };
            let update = vec![doc! { "$set": { "full_at": less } }];
            retry("give back to a limit", || {
                self.limits()
                    .update_one(doc! { "_id": key }, update.clone())
            })
            .await?;
        }
        Ok(())
    }

    async fn remember(&self, key: &str, lasts: Duration) -> Result<(), StoreError> {
        let update = vec![doc! { "$set": { "full_at": { "$add": ["$$NOW", ms(lasts)] } } }];
        retry("remember a network", || {
            self.limits()
                .update_one(doc! { "_id": key }, update.clone())
                .upsert(true)
        })
        .await
        .map(drop)
    }

    async fn is_remembered(&self, key: &str) -> Result<bool, StoreError> {
        let still = doc! { "_id": key, "$expr": { "$gt": ["$full_at", "$$NOW"] } };
        let find = || self.limits().find_one(still.clone());
        Ok(retry("look for a network", find).await?.is_some())
    }
}

impl MongoStore {
    fn limits(&self) -> &Collection<Document> {
        &self.collections.limits
    }
}

impl Collections {
    async fn take_one(&self, bucket: &Bucket) -> Result<Result<(), Duration>, StoreError> {
        let Bucket { key, rate } = bucket;
        // When the bucket would be full again, were one more taken.
        let full = doc! { "$ifNull": ["$full_at", "$$NOW"] };
        let next = doc! { "$add": [ { "$max": [full, "$$NOW"] }, ms(rate.every) ] };
        let room_at = doc! { "$subtract": ["$next", ms(rate.every * rate.burst)] };
        let update = vec![
            doc! { "$set": { "next": next } },
            doc! { "$set": { "wait_ms": { "$subtract": [room_at, "$$NOW"] } } },
            doc! { "$set": { "full_at": {
                "$cond": [ { "$lte": ["$wait_ms", 0] }, "$next", "$full_at" ]
            } } },
            doc! { "$unset": "next" },
        ];
        // Repeated after a lost answer it counts twice, on the safe side.
        let counted: Option<Document> = retry("count for a limit", || {
            self.limits
                .find_one_and_update(doc! { "_id": key }, update.clone())
                .upsert(true)
                .return_document(ReturnDocument::After)
        })
        .await?;
        let wait_ms = counted
            .unwrap_or_default()
            .get_i64("wait_ms")
            .map_err(unreadable("count for a limit"))?;
        Ok(match u64::try_from(wait_ms) {
            Ok(wait_ms) if wait_ms > 0 => Err(Duration::from_millis(wait_ms)),
            _ => Ok(()),
        })
    }
}
