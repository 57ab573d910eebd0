//! The audit log: a collection that is only added to.

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use mongodb::bson::{DateTime, Document, doc};
use tokio_stream::StreamExt;

use super::collections::{Collections, insert_once};
use super::errors::unreadable;
use super::retry::retry;
use super::{MongoStore, accounts};
use crate::domain::{AuditEntry, AuditId, RoomId, Timestamp, User, UserId};
use crate::store::{Audit, StoreError};

const READ: &str = "read the audit log";

fn document_of(entry: &AuditEntry) -> Document {
    let id = |user: &Option<User>| user.as_ref().map(|user| user.id.to_string());
    doc! {
        "_id": entry.id.to_string(),
        "at": DateTime::from_millis(entry.at.as_millis()),
        "by": id(&entry.by),
        "act": &entry.act,
        "user": id(&entry.user),
        "room": entry.room.as_ref().map(RoomId::as_str),
        "detail": entry.detail.as_deref(),
        "failed": entry.has_failed,
    }
}

fn entry_from(
    entry: &Document,
    names: &HashMap<UserId, Arc<str>>,
) -> Result<AuditEntry, StoreError> {
    let missing = unreadable(READ);
    let text = |key| entry.get_str(key).ok();
    let wrong = |error| StoreError::backend(READ, error);
    let user = |key| {
        let id = UserId::parse(text(key)?).ok()?;
        let name = names.get(&id).map_or("", |name| &**name);
        Some(accounts::user_of(id, name))
    };
    let at = entry.get_datetime("at").map_err(&missing)?;
    Ok(AuditEntry {
        id: AuditId::parse(entry.get_str("_id").map_err(&missing)?).map_err(wrong)?,
        at: Timestamp::from_millis(at.timestamp_millis()),
        by: user("by"),
        act: entry.get_str("act").map_err(&missing)?.to_owned(),
        user: user("user"),
        room: text("room").and_then(|room| RoomId::known(room).ok()),
        detail: text("detail").map(str::to_owned),
        has_failed: entry.get_bool("failed").unwrap_or(false),
    })
}

async fn list(
    collections: &Collections,
    before: Option<AuditId>,
    limit: usize,
) -> Result<Vec<AuditEntry>, StoreError> {
    let earlier = match before {
        Some(before) => doc! { "_id": { "$lt": before.to_string() } },
        None => doc! {},
    };
    let found = retry(READ, || async {
        let found = collections.audit.find(earlier.clone());
        let found = found.sort(doc! { "_id": -1 }).limit(limit as i64);
        found.await?.collect::<Result<Vec<_>, _>>().await
    });
    let found = found.await?;
    let people = { found.iter() }
        .flat_map(|entry| [entry.get_str("by").ok(), entry.get_str("user").ok()])
        .filter_map(|id| UserId::parse(id?).ok());
    let names = collections.states.names(people.collect()).await?;
    let entry = |entry| entry_from(entry, &names);
    found.iter().map(entry).collect()
}

#[async_trait]
impl Audit for MongoStore {
    async fn add_audit(&self, entry: &AuditEntry) -> Result<(), StoreError> {
        let by_id = doc! { "_id": entry.id.to_string() };
        let (audit, new) = (&self.collections.audit, document_of(entry));
        insert_once("add to the audit log", audit, by_id, new).await
    }

    async fn audit(
        &self,
        before: Option<AuditId>,
        limit: usize,
    ) -> Result<Vec<AuditEntry>, StoreError> {
        list(&self.collections, before, limit).await
    }
}
