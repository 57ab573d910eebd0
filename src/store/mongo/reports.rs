//! Reports: a collection of those that are open.

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use mongodb::bson::{DateTime, Document, doc};
use tokio_stream::StreamExt;

use super::collections::Collections;
use super::errors::unreadable;
use super::event_document::{seq_from, signed};
use super::retry::retry;
use super::{MongoStore, accounts};
use crate::domain::{Report, ReportId, RoomId, Timestamp, UserId};
use crate::store::{Reports, StoreError};

const LIST: &str = "list reports";

async fn find(
    collections: &Collections,
    filter: Document,
    limit: usize,
) -> Result<Vec<Report>, StoreError> {
    let found = retry(LIST, || async {
        let found = collections.reports.find(filter.clone());
        let found = found.sort(doc! { "_id": -1 }).limit(limit as i64);
        found.await?.collect::<Result<Vec<Document>, _>>().await
    });
    let found = found.await?;
    let by = { found.iter() }.filter_map(|it| UserId::parse(it.get_str("by").ok()?).ok());
    let names = collections.states.names(by.collect()).await?;
    found.iter().map(|it| report_from(it, &names)).collect()
}

fn report_from(report: &Document, names: &HashMap<UserId, Arc<str>>) -> Result<Report, StoreError> {
    let missing = unreadable(LIST);
    let wrong = |error| StoreError::backend(LIST, error);
    let text = |key| report.get_str(key).map_err(&missing);
    let by = UserId::parse(text("by")?).map_err(wrong)?;
    let at = report.get_datetime("at").map_err(&missing)?;
    Ok(Report {
        id: ReportId::parse(text("_id")?).map_err(wrong)?,
        by: accounts::user_of(by, names.get(&by).map_or("", |name| &**name)),
        room: RoomId::known(text("room")?).map_err(wrong)?,
        seq: seq_from(report)?,
        reason: text("reason")?.to_owned(),
        at: Timestamp::from_millis(at.timestamp_millis()),
    })
}

#[async_trait]
impl Reports for MongoStore {
    async fn add_report(&self, report: Report) -> Result<(), StoreError> {
        const OPERATION: &str = "keep a report";
        let reports = &self.collections.reports;
        let same = doc! {
            "by": report.by.id.to_string(), "room": report.room.as_str(), "seq": signed(report.seq),
        };
        let new = doc! {
            "$set": { "reason": &report.reason },
            "$setOnInsert": {
                "_id": report.id.to_string(), "at": DateTime::from_millis(report.at.as_millis()),
            },
        };
        let put = || reports.update_one(same.clone(), new.clone()).upsert(true);
        retry(OPERATION, put).await.map(drop)
    }

    async fn reports(
        &self,
        before: Option<ReportId>,
        limit: usize,
    ) -> Result<Vec<Report>, StoreError> {
        let earlier = before.map(|before| doc! { "_id": { "$lt": before.to_string() } });
        find(&self.collections, earlier.unwrap_or_default(), limit).await
    }

    async fn report(&self, id: ReportId) -> Result<Option<Report>, StoreError> {
        let by_id = doc! { "_id": id.to_string() };
        Ok(find(&self.collections, by_id, 1).await?.pop())
    }

    async fn count_reports(&self) -> Result<u64, StoreError> {
        let reports = &self.collections.reports;
        retry("count reports", || reports.count_documents(doc! {})).await
    }

    async fn close_report(&self, id: ReportId) -> Result<bool, StoreError> {
        let by_id = doc! { "_id": id.to_string() };
        let reports = &self.collections.reports;
        let deleted = retry("close a report", || reports.delete_one(by_id.clone())).await?;
        Ok(deleted.deleted_count > 0)
    }
}
