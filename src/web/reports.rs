//! Reports: somebody shows the admins a message, and they look after it.

use axum::extract::{Path, State};
use axum::http::{Method, StatusCode};
use axum::response::Response;
use serde::{Deserialize, Serialize};

use super::extract::Admin;
use super::form::{Input, Payload};
use super::message::{Target, page};
use super::messages::find;
use super::paging::cut;
use super::query::Query;
use super::respond::{self, ResponseFormat, done};
use crate::domain::{
    Act, AuditEntry, Event, EventId, Invalid, Report, ReportId, RoomId, Seq, Timestamp, User,
};
use crate::error::{AppError, exists};
use crate::limits::Limited;
use crate::state::AppState;
use crate::store::audited;
use crate::views::{Refused, ReportRow, ReportsPage};

/// The number of reports on a page.
const LISTED: usize = 200;

/// The reason of a report: it may be empty.
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
    let found = find(&app, &target.room, target.seq).await?;
    let found = found.filter(|event| event.kind.is_message());
    let event = found.ok_or(AppError::NotFound)?;
    let reason = match Report::parse_reason(&sent.reason) {
        Ok(reason) => reason,
        // Without its form on the page there is no field to give the text back in.
        Err(Invalid(why)) if format == ResponseFormat::Page && has_form(&target, &event) => {
            let (status, reason) = (StatusCode::UNPROCESSABLE_ENTITY, &*sent.reason);
            let refused = Some(Refused::Report { reason, why });
            return page(&app, &target, &event, status, "", refused).await;
        }
        Err(invalid) => return Err(AppError::in_field("reason", invalid)),
    };
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

/// Whether a message's page has a form to report it.
fn has_form(target: &Target, event: &Event) -> bool {
    let has_text = event
        .message()
        .is_some_and(|message| message.body.is_some());
    has_text && event.author.id != target.user.id
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
    query: Query,
) -> Result<Response, AppError> {
    let before = query.before(ReportId::parse, "before is the id of a report.")?;
    let mut reports = app.store.reports(before, LISTED + 1).await?;
    let has_more = cut(&mut reports, LISTED);
    let next = reports.last().filter(|_| has_more).map(|last| last.id);
    let next_path = next.map(|next| format!("/admin/reports?before={next}"));
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
                next: next_path,
            };
            respond::html(StatusCode::OK, &page)
        }
        ResponseFormat::Json | ResponseFormat::Ndjson => {
            let reports: Vec<Shape<'_>> = { reports.iter() }
                .map(|report| Shape::of(report, place(report)))
                .collect();
            let reports = serde_json::json!({ "reports": reports, "next": next });
            respond::json(StatusCode::OK, &reports)
        }
        ResponseFormat::Text => {
            let line = |report: &Report| {
                let (by, room) = (report.by.username.as_str(), &report.room);
                let reason = report.reason.replace(['\n', '\t'], " ");
                format!("{}\t{by}\t{room}\t{}\t{reason}\n", report.at, place(report))
            };
            let text = respond::text(StatusCode::OK, reports.iter().map(line).collect());
            respond::with_next(text, next_path.as_deref())
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
    let report = app.store.report(id).await?.ok_or(AppError::NotFound)?;
    let entry = AuditEntry::new(Some(&user), Act::CloseReport).in_room(&report.room);
    let entry = entry.with(report.seq.to_string());
    audited(&*app.store, entry, exists(app.store.close_report(id))).await?;
    Ok(done(&Method::POST, format, "/admin/reports"))
}
