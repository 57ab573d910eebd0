//! Reports: a table of those that are open.

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::event_row::{room_from, unreadable};
use super::{SqliteStore, accounts};
use crate::domain::{Report, ReportId, Timestamp, User, Username};
use crate::store::{Reports, StoreError};

fn add(connection: &Connection, report: &Report) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO reports (id, by, room, seq, reason, at) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
             ON CONFLICT (by, room, seq) DO UPDATE SET reason = ?5",
        )?
        .execute(params![
            report.id.to_string(),
            report.by.id.to_string(),
            report.room.as_str(),
            report.seq.cast_signed(),
            report.reason,
            report.at.as_millis(),
        ])
        .map(drop)
}

pub(super) fn list(
    connection: &Connection,
    before: Option<ReportId>,
    limit: usize,
) -> rusqlite::Result<Vec<Report>> {
    connection
        .prepare_cached(
            "SELECT reports.*, username FROM reports JOIN users ON users.id = reports.by
             WHERE reports.id < coalesce(?1, '~') ORDER BY reports.id DESC LIMIT ?2",
        )?
        .query_map(
            params![before.map(|before| before.to_string()), limit as i64],
            report_from,
        )?
        .collect()
}

fn report_from(row: &Row<'_>) -> rusqlite::Result<Report> {
    Ok(Report {
        id: ReportId::parse(row.get_ref("id")?.as_str()?).map_err(unreadable)?,
        by: User {
            id: accounts::id_from(row, "by")?,
            username: Username::stored(row.get_ref("username")?.as_str()?),
        },
        room: room_from(row, "room")?,
        seq: row.get::<_, i64>("seq")?.unsigned_abs(),
        reason: row.get("reason")?,
        at: Timestamp::from_millis(row.get("at")?),
    })
}

#[async_trait]
impl Reports for SqliteStore {
    async fn add_report(&self, report: Report) -> Result<(), StoreError> {
        const OPERATION: &str = "keep a report";
        self.writer
            .write(OPERATION, move |connection, _| {
                add(connection, &report).map_err(|error| StoreError::backend(OPERATION, error))
            })
            .await
    }

    async fn reports(
        &self,
        before: Option<ReportId>,
        limit: usize,
    ) -> Result<Vec<Report>, StoreError> {
        self.readers
            .read("list reports", move |connection| {
                list(connection, before, limit)
            })
            .await
    }

    async fn report(&self, id: ReportId) -> Result<Option<Report>, StoreError> {
        self.readers
            .read("find a report", move |connection| {
                connection
                    .prepare_cached(
                        "SELECT reports.*, username FROM reports JOIN users ON users.id = reports.by
                         WHERE reports.id = ?1",
                    )?
                    .query_row([id.to_string()], report_from)
                    .optional()
            })
            .await
    }

    async fn count_reports(&self) -> Result<u64, StoreError> {
        self.readers
            .read("count reports", |connection| {
                let mut count = connection.prepare_cached("SELECT count(*) FROM reports")?;
                count.query_row([], |row| row.get::<_, i64>(0).map(i64::unsigned_abs))
            })
            .await
    }

    async fn close_report(&self, id: ReportId) -> Result<bool, StoreError> {
        const OPERATION: &str = "close a report";
        self.writer
            .write(OPERATION, move |connection, _| {
                connection
                    .prepare_cached("DELETE FROM reports WHERE id = ?1")
                    .and_then(|mut delete| delete.execute([id.to_string()]))
                    .map(|deleted| deleted > 0)
                    .map_err(|error| StoreError::backend(OPERATION, error))
            })
            .await
    }
}
