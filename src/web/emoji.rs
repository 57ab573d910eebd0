//! Emoji to choose from.

use axum::http::StatusCode;
use axum::response::Response;

use super::query::Query;
use super::respond;
use crate::domain::Emoji;
use crate::views::EmojiList;

/// How many are offered at once: as many as one looks over.
const OFFERED: usize = 64;

/// `GET /emoji?q=`: those whose names hold the words, the best first.
pub(super) async fn index(query: Query) -> Response {
    let emoji = Emoji::search(query.find("q").unwrap_or(""), OFFERED);
    respond::html(StatusCode::OK, &EmojiList { emoji })
}
