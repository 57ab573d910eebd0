//! Style sheets for one reader: what a page tells apart for them. Their addresses say all that is in them.

use axum::http::header;
use axum::response::{IntoResponse, Response};

use super::query::Query;
use crate::domain::UserId;
use crate::error::AppError;
use crate::views::{Reacted, reader_style_sheet};

/// `GET /reacted.css?of=`: the reader's own reactions. It never changes.
pub(super) async fn reacted(query: Query) -> Response {
    const YEAR: &str = "private, max-age=31536000, immutable";
    css(
        Reacted::parse(query.find("of").unwrap_or("")).style_sheet(),
        YEAR,
    )
}

/// `GET /reader.css?of=`: their messages, and those that mention them.
pub(super) async fn reader(query: Query) -> Result<Response, AppError> {
    const DAY: &str = "private, max-age=86400";
    let reader = UserId::parse(query.find("of").unwrap_or("")).map_err(|_| AppError::NotFound)?;
    Ok(css(reader_style_sheet(reader), DAY))
}

fn css(sheet: String, caching: &'static str) -> Response {
    let headers = [
        (header::CONTENT_TYPE, "text/css; charset=utf-8"),
        (header::CACHE_CONTROL, caching),
    ];
    (headers, sheet).into_response()
}
