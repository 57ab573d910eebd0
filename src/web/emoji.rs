//! Emoji to choose from, and the style sheet that tells a reader's own reactions apart.

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::query::Query;
use super::respond;
use crate::domain::Emoji;
use crate::views::{EmojiList, Reacted};

/// How many are offered at once: as many as one looks over.
const OFFERED: usize = 64;

/// `GET /emoji?q=`: those whose names hold the words, the best first.
pub(super) async fn index(query: Query) -> Response {
    let emoji = Emoji::search(query.find("q").unwrap_or(""), OFFERED);
    respond::html(StatusCode::OK, &EmojiList { emoji })
}

/// `GET /reacted.css?of=`: says all in its address, and never changes.
pub(super) async fn reacted(query: Query) -> Response {
    const YEAR: &str = "private, max-age=31536000, immutable";
    let css = Reacted::parse(query.find("of").unwrap_or("")).style_sheet();
    let headers = [
        (header::CONTENT_TYPE, "text/css; charset=utf-8"),
        (header::CACHE_CONTROL, YEAR),
    ];
    (headers, css).into_response()
}
