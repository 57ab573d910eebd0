//! The audit log: acts are noted in it, and admins read it.

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::extract::Admin;
use super::paging::cut;
use super::query::Query;
use super::respond::{self, ResponseFormat};
use crate::domain::{AuditEntry, AuditId};
use crate::error::AppError;
use crate::json;
use crate::state::AppState;
use crate::views::AuditPage;

/// The number of entries on a page.
const LISTED: usize = 200;

/// The entries as JSON.
#[derive(Serialize)]
struct Shape<'a> {
    entries: &'a [AuditEntry],
    /// The value of `before` that goes on from there; null at the end.
    next: Option<AuditId>,
}

/// `GET /admin/audit?before=`: the newest entries first.
pub(super) async fn index(
    State(app): State<AppState>,
    format: ResponseFormat,
    Admin(user): Admin,
    query: Query,
) -> Result<Response, AppError> {
    let before = query.before(AuditId::parse, "before is the id of an entry.")?;
    let mut entries = app.store.audit(before, LISTED + 1).await?;
    let has_more = cut(&mut entries, LISTED);
    let next = entries.last().filter(|_| has_more).map(|last| last.id);
    let next_path = next.map(|next| format!("/admin/audit?before={next}"));
    Ok(match format {
        ResponseFormat::Page | ResponseFormat::Fragment => {
            let page = AuditPage {
                user: &user,
                entries: &entries,
                next: next_path,
            };
            respond::html(StatusCode::OK, &page)
        }
        ResponseFormat::Json => {
            let entries = &entries;
            respond::json(StatusCode::OK, &Shape { entries, next })
        }
        ResponseFormat::Ndjson => {
            let lines = entries.iter().map(|entry| json::to_string(entry) + "\n");
            let content_type = [(header::CONTENT_TYPE, "application/x-ndjson")];
            let lines = (content_type, lines.collect::<String>()).into_response();
            respond::with_next(lines, next_path.as_deref())
        }
        ResponseFormat::Text => {
            let line = |entry: &AuditEntry| {
                let by = entry.by.as_ref().map_or("-", |by| by.username.as_str());
                format!("{}\t{by}\t{}\n", entry.at, entry.says())
            };
            let text = respond::text(StatusCode::OK, entries.iter().map(line).collect());
            respond::with_next(text, next_path.as_deref())
        }
    })
}
