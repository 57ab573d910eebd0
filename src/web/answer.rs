//! In which form a request wants its answer, and answers in those forms.

use std::convert::Infallible;

use askama::Template;
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{Html, IntoResponse, Response};

use crate::error::AppError;
use crate::views;

/// The forms of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// A whole page: browsers, and whoever does not say.
    Page,
    /// A piece of one: htmx.
    Fragment,
    /// Programs.
    Json,
    /// People at a terminal.
    Text,
    /// A line of JSON per event: programs, on a stream.
    Ndjson,
}

impl Form {
    /// By `HX-Request-Type` and `Accept`. Who takes HTML gets it: a browser lists more than it.
    pub(super) fn of(headers: &HeaderMap) -> Self {
        if headers
            .get("hx-request-type")
            .is_some_and(|kind| kind == "partial")
        {
            return Self::Fragment;
        }
        let accepts = |media_type: &str| {
            headers
                .get_all(header::ACCEPT)
                .iter()
                .filter_map(|accept| accept.to_str().ok())
                .flat_map(|accept| accept.split(','))
                .any(|one| {
                    let name = one.split(';').next().unwrap_or("").trim();
                    name.eq_ignore_ascii_case(media_type)
                })
        };
        if accepts("text/html") {
            Self::Page
        } else if accepts("application/json") || accepts("application/problem+json") {
            Self::Json
        } else if accepts("application/x-ndjson") {
            Self::Ndjson
        } else if accepts("text/plain") {
            Self::Text
        } else {
            Self::Page
        }
    }

    /// Whether a person with a browser is asking for a page.
    pub(super) fn is_html(self) -> bool {
        matches!(self, Self::Page | Self::Fragment)
    }
}

impl<S: Sync> FromRequestParts<S> for Form {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self::of(&parts.headers))
    }
}

/// A rendered template.
pub(super) fn html(status: StatusCode, template: &impl Template) -> Response {
    (status, Html(views::render(template))).into_response()
}

/// The same, with parts of so many bytes in it.
pub(super) fn html_around(
    parts_bytes: usize,
    status: StatusCode,
    template: &impl Template,
) -> Response {
    let page = views::render_around(parts_bytes, template);
    (status, Html(page)).into_response()
}

/// A page or fragment that says what went wrong, with when to come back.
pub(super) fn html_error(error: &AppError, template: &impl Template) -> Response {
    error.log();
    let mut response = html(error.status(), template);
    if let Some(wait) = error.retry_after() {
        let headers = response.headers_mut();
        headers.insert(header::RETRY_AFTER, wait.as_secs().into());
    }
    response
}

/// Lines of text.
pub(super) fn text(status: StatusCode, text: String) -> Response {
    let content_type = [(header::CONTENT_TYPE, "text/plain; charset=utf-8")];
    (status, content_type, text).into_response()
}
