//! Response formats: which one a request wants, and responses in each.

use std::convert::Infallible;

use askama::Template;
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::{Html, IntoResponse, Redirect, Response};
use serde::Serialize;

use crate::domain::RoomId;
use crate::error::AppError;
use crate::{json, views};

/// The forms of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ResponseFormat {
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

impl ResponseFormat {
    /// By `HX-Request-Type`, and by the weights in `Accept` (RFC 9110, 12.5.1): the form that is liked
    /// best; of those liked the same the one that is named; of those a page, which browsers name
    /// beside others.
    pub(super) fn of(headers: &HeaderMap) -> Self {
        if headers
            .get("hx-request-type")
            .is_some_and(|kind| kind == "partial")
        {
            return Self::Fragment;
        }
        let ranges: Vec<MediaRange<'_>> = headers
            .get_all(header::ACCEPT)
            .iter()
            .filter_map(|accept| accept.to_str().ok())
            .flat_map(|accept| accept.split(','))
            .map(MediaRange::parse)
            .collect();
        let liked = |media_type: &str| {
            let fitting = ranges.iter().filter_map(|range| {
                let how_exactly = range.matches(media_type)?;
                Some((how_exactly, range.weight))
            });
            // The most exact range decides the weight.
            fitting.max_by_key(|(how_exactly, _)| *how_exactly)
        };
        let formats = [
            (Self::Page, "text/html"),
            (Self::Json, "application/json"),
            (Self::Json, "application/problem+json"),
            (Self::Ndjson, "application/x-ndjson"),
            (Self::Text, "text/plain"),
        ];
        let mut best = (Self::Page, (0, 0));
        for (format, media_type) in formats {
            if let Some((how_exactly, weight)) = liked(media_type)
                && weight > 0
                && (weight, how_exactly) > best.1
            {
                best = (format, (weight, how_exactly));
            }
        }
        best.0
    }

    /// Whether a person with a browser is asking for a page.
    pub(super) fn is_html(self) -> bool {
        matches!(self, Self::Page | Self::Fragment)
    }
}

/// One element of `Accept`, with its weight in thousandths.
struct MediaRange<'a> {
    name: &'a str,
    weight: u16,
}

impl<'a> MediaRange<'a> {
    fn parse(element: &'a str) -> Self {
        let mut parameters = element.split(';').map(str::trim);
        let name = parameters.next().unwrap_or("");
        let weight = parameters.find_map(|parameter| {
            let (name, value) = parameter.split_once('=')?;
            name.trim().eq_ignore_ascii_case("q").then(|| weight(value))
        });
        Self {
            name,
            weight: weight.unwrap_or(1_000),
        }
    }

    /// How exactly it means this type, from 1 (`*/*`) to 3; `None` if it does not.
    fn matches(&self, media_type: &str) -> Option<u8> {
        let (kind, _) = media_type.split_once('/')?;
        if self.name.eq_ignore_ascii_case(media_type) {
            Some(3)
        } else if self.name == "*/*" {
            Some(1)
        } else {
            let of_kind = self.name.strip_suffix("/*")?;
            of_kind.eq_ignore_ascii_case(kind).then_some(2)
        }
    }
}

/// A weight as a header has it, `0.5`, in thousandths. One that is none counts as the lowest.
fn weight(value: &str) -> u16 {
    let weight: f32 = value.trim().parse().unwrap_or(0.0);
    (weight.clamp(0.0, 1.0) * 1_000.0) as u16
}

impl<S: Sync> FromRequestParts<S> for ResponseFormat {
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

/// JSON that is safe to print.
pub(super) fn json<T: Serialize + ?Sized>(status: StatusCode, value: &T) -> Response {
    let content_type = [(header::CONTENT_TYPE, "application/json")];
    (status, content_type, json::to_string(value)).into_response()
}

/// Lines of text.
pub(super) fn text(status: StatusCode, text: String) -> Response {
    let content_type = [(header::CONTENT_TYPE, "text/plain; charset=utf-8")];
    (status, content_type, text).into_response()
}

/// The answer to a change that leaves nothing to be shown. A form is led on; it can only post.
pub(super) fn done(method: &Method, format: ResponseFormat, leads_to: &str) -> Response {
    match (method, format) {
        (&Method::POST, ResponseFormat::Page) => Redirect::to(leads_to).into_response(),
        _ => StatusCode::NO_CONTENT.into_response(),
    }
}

/// With the address of the next page (RFC 8288), for answers that have no other place for it.
pub(super) fn with_next(mut response: Response, next: Option<&str>) -> Response {
    let link = next.map(|next| HeaderValue::try_from(format!("<{next}>; rel=\"next\"")));
    if let Some(Ok(link)) = link {
        response.headers_mut().insert(header::LINK, link);
    }
    response
}

/// The answer to entering or making a room: it leads there.
pub(super) fn entered(format: ResponseFormat, room: &RoomId) -> Response {
    let path = format!("/rooms/{room}");
    match format {
        ResponseFormat::Page | ResponseFormat::Fragment => Redirect::to(&path).into_response(),
        ResponseFormat::Json | ResponseFormat::Ndjson => {
            let location = [(header::LOCATION, path)];
            let room = serde_json::json!({ "room": room });
            (location, json(StatusCode::CREATED, &room)).into_response()
        }
        ResponseFormat::Text => text(StatusCode::CREATED, format!("{path}\n")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_decide_which_form_is_sent() {
        for (accept, format) in [
            ("", ResponseFormat::Page),
            ("*/*", ResponseFormat::Page),
            (
                "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
                ResponseFormat::Page,
            ),
            ("text/html, text/event-stream", ResponseFormat::Page),
            ("application/json", ResponseFormat::Json),
            ("application/json, text/plain, */*", ResponseFormat::Json),
            ("application/problem+json", ResponseFormat::Json),
            ("text/html;q=0, application/json", ResponseFormat::Json),
            ("text/html; q=0.5, application/json", ResponseFormat::Json),
            (
                "text/html;q=0.9, application/json;q=0.8",
                ResponseFormat::Page,
            ),
            ("application/json, text/html", ResponseFormat::Page),
            ("text/html;q=0, */*", ResponseFormat::Json),
            ("application/json;q=0", ResponseFormat::Page),
            ("APPLICATION/JSON ; Q=1.0", ResponseFormat::Json),
            ("text/plain", ResponseFormat::Text),
            (
                "text/plain;q=0.2, application/x-ndjson;q=0.3",
                ResponseFormat::Ndjson,
            ),
            ("text/*", ResponseFormat::Page),
            ("text/*;q=0.5, text/plain", ResponseFormat::Text),
            ("application/*", ResponseFormat::Json),
            ("image/png", ResponseFormat::Page),
            ("application/json;q=much", ResponseFormat::Page),
            (";;,,;q=", ResponseFormat::Page),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT, accept.parse().unwrap());
            assert_eq!(ResponseFormat::of(&headers), format, "{accept}");
        }
    }
}
