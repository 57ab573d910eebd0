//! The frame of a room's page that shows new messages where no script does, and comes back however
//! long the server is away.
//!
//! A document that refreshes itself comes back once: if nobody answers then, the browser's error page
//! stands there, or a proxy's, and neither asks again. So what refreshes is a document of ours around
//! the one that goes on. It and a second one lead to each other, both out of the browser's cache; one
//! that led to itself would be asked for anew. They are the same for everybody, and the page begins with
//! the second one, so that both are there before they are needed.

use std::time::Duration;

use askama::Template;
use axum::body::Body;
use axum::http::{StatusCode, Version, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use tokio::time::timeout;
use tokio_stream::StreamExt;

use super::extract::RoomPath;
use super::query::Query;
use super::respond;
use crate::domain::{EventId, Invalid};
use crate::error::AppError;
use crate::state::AppState;
use crate::views::{AroundFrame, BeforeFrame};

/// `GET /rooms/{room}/frame`: stands around the document that goes on, and comes back when that ends.
pub(super) async fn around(RoomPath(room): RoomPath, query: Query) -> Result<Response, AppError> {
    let after = after(&query)?;
    Ok(kept(&AroundFrame { room: &room, after }))
}

/// `GET /rooms/{room}/frame/again`: leads to that one at once.
pub(super) async fn before(RoomPath(room): RoomPath, query: Query) -> Result<Response, AppError> {
    let after = after(&query)?;
    Ok(kept(&BeforeFrame { room: &room, after }))
}

fn after(query: &Query) -> Result<EventId, Invalid> {
    EventId::parse(query.find("after").unwrap_or_default())
}

/// Kept by the browser for as long as somebody may leave a page open.
fn kept(page: &impl Template) -> Response {
    const YEAR: &str = "private, max-age=31536000, immutable";
    let kept = [(header::CACHE_CONTROL, YEAR)];
    (kept, respond::html(StatusCode::OK, page)).into_response()
}

/// Whether an answer stands in the frame: at its end the frame asks again.
pub(super) fn is_framed(query: Option<&str>) -> bool {
    let mut pairs = form_urlencoded::parse(query.unwrap_or_default().as_bytes());
    pairs.any(|(name, value)| name == "framed" && value == "1")
}

/// Says what went wrong at once, and ends only when asking again may help.
pub(super) fn held_open(app: &AppState, error: &AppError, answer: Response) -> Response {
    const UNLESS_SAID: Duration = Duration::from_secs(30);
    let hub = app.hub.clone();
    let wait = error.retry_after().unwrap_or(UNLESS_SAID);
    let (mut head, body) = answer.into_parts();
    let rest = tokio_stream::once(()).then(move |()| {
        let hub = hub.clone();
        async move {
            let _ = timeout(wait, hub.streams().have_shut_down()).await;
            Ok(Bytes::new())
        }
    });
    // As with the document that goes on, its end is the connection's.
    head.version = Version::HTTP_10;
    head.headers.remove(header::CONTENT_LENGTH);
    let body = body.into_data_stream();
    Response::from_parts(head, Body::from_stream(body.chain(rest)))
}
