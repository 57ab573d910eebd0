//! Reports: somebody shows the admins a message, and they look after it.

use axum::extract::{Path, State};
use axum::http::{Method, StatusCode};
use axum::response::Response;
use serde::{Deserialize, Serialize};

use super::audit::audited;
use super::extract::Admin;
use super::form::{Input, Payload};
use super::message::Target;
use super::messages::find;
use super::respond::{self, ResponseFormat, done};
use crate::domain::{Act, AuditEntry, EventId, Report, ReportId, RoomId, Seq, Timestamp, User};
use crate::error::AppError;
use crate::limits::Limited;
use crate::state::AppState;
use crate::views::{ReportRow, ReportsPage};

/// How many reports an admin is shown.
const LISTED: usize = 200;

/// What is wrong with a message.
#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct NewReport {
    reason: String,
}

impl Input for NewReport {
    const RAW: Option<&'static str> = Some("reason");
}

/// `POST /rooms/{room}/messages/{seq}/report`: shows a message to the admins.
pub(super) async fn create(
    State(app): State<AppState>,
    format: ResponseFormat,
    target: Target,
    Payload(sent): Payload<NewReport>,
) -> Result<Response, AppError> {
    app.limits.take(&Limited::JoinsOf(target.user.id)).await?;
    let reason = Report::parse_reason(&sent.reason);
    let reason = reason.map_err(|it| AppError::in_field("reason", it))?;
    let found = find(&app, &target.room, target.seq).await?;
    if found.is_none_or(|event| !event.kind.is_message()) {
        return Err(AppError::NotFound);
    }
    let path = target.path(&app);
    let report = Report {
        id: ReportId::new(),
        by: target.user,
        room: target.room,
        seq: target.seq,
        reason,
        at: Timestamp::now(),
    };
    app.store.add_report(report).await?;
    Ok(done(
        &Method::POST,
        format,
        &format!("{path}?said=reported"),
    ))
}

/// A report as JSON.
#[derive(Serialize)]
struct Shape<'a> {
    id: ReportId,
    by: &'a User,
    room: &'a RoomId,
    seq: Seq,
    /// The message's page.
    path: String,
    reason: &'a str,
    at: Timestamp,
}

impl<'a> Shape<'a> {
    fn of(report: &'a Report, message: EventId) -> Self {
        Self {
            id: report.id,
            by: &report.by,
            room: &report.room,
            seq: report.seq,
            path: format!("/rooms/{}/messages/{message}", report.room),
            reason: &report.reason,
            at: report.at,
        }
    }
}

/// `GET /admin/reports`: those that nobody has closed, the newest first.
pub(super) async fn index(
    State(app): State<AppState>,
    format: ResponseFormat,
    Admin(user): Admin,
) -> Result<Response, AppError> {
    let reports = app.store.reports(LISTED).await?;
    let epoch = app.store.epoch();
    let place = |report: &Report| EventId {
        epoch,
        seq: report.seq,
    };
    Ok(match format {
        ResponseFormat::Page | ResponseFormat::Fragment => {
            let row = |report: &Report| ReportRow {
                message: place(report),
                report: report.clone(),
            };
            let page = ReportsPage {
                user: &user,
                rows: reports.iter().map(row).collect(),
            };
            respond::html(StatusCode::OK, &page)
        }
        ResponseFormat::Json | ResponseFormat::Ndjson => {
            let reports: Vec<Shape<'_>> = { reports.iter() }
                .map(|report| Shape::of(report, place(report)))
                .collect();
            let reports = serde_json::json!({ "reports": reports });
            respond::json(StatusCode::OK, &reports)
        }
        ResponseFormat::Text => {
            let line = |report: &Report| {
                let (by, room) = (report.by.username.as_str(), &report.room);
                let reason = report.reason.replace('\n', " ");
                format!("{}\t{by}\t{room}\t{}\t{reason}\n", report.at, place(report))
            };
            respond::text(StatusCode::OK, reports.iter().map(line).collect())
        }
    })
}

/// `POST /admin/reports/{id}/close`: it is looked after.
pub(super) async fn close(
    State(app): State<AppState>,
    format: ResponseFormat,
    Admin(user): Admin,
    Path(id): Path<String>,
) -> Result<Response, AppError> {
    let id = ReportId::parse(&id).map_err(|_| AppError::NotFound)?;
    let reports = app.store.reports(LISTED).await?;
    let report = reports.iter().find(|report| report.id == id);
    let report = report.ok_or(AppError::NotFound)?;
    let entry = AuditEntry::new(Some(&user), Act::CloseReport).in_room(&report.room);
    let entry = entry.with(report.seq.to_string());
    audited(&app, entry, app.store.close_report(id)).await?;
    Ok(done(&Method::POST, format, "/admin/reports"))
}
