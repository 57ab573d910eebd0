//! Error responses: an [`AppError`] in the format that its request asked for.

use std::sync::Arc;

use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Redirect, Response};
use serde::Serialize;

use super::frame;
use super::respond::{self, ResponseFormat};
use super::sessions::login_path;
use crate::domain::Event;
use crate::error::{AppError, Question};
use crate::json;
use crate::live::text_line;
use crate::state::AppState;
use crate::views::{EnterPage, ErrorFrame, ErrorNotice, ErrorPage};

/// `application/problem+json` (RFC 9457).
#[derive(Serialize)]
struct Problem<'a> {
    r#type: &'static str,
    title: &'a str,
    status: u16,
    detail: &'a str,
    /// By input, when several were wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    errors: Option<serde_json::Map<String, serde_json::Value>>,
    /// The message as it is now, when it was edited before the sender's edit.
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<&'a Event>,
    /// And what its sender would have it say.
    #[serde(skip_serializing_if = "Option::is_none")]
    typed: Option<&'a str>,
    /// The value of `confirm` with which it is done.
    #[serde(skip_serializing_if = "Option::is_none")]
    confirm: Option<&'static str>,
    /// How many people that would tell.
    #[serde(skip_serializing_if = "Option::is_none")]
    people: Option<u64>,
}

/// The place that asks, where that decides the format of an error.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// A room's stream.
    Stream,
    /// The frame inside a room's page: a redirect or a page would stand inside it.
    Frame,
    Elsewhere,
}

impl Place {
    fn of(route: &str) -> Self {
        match route {
            "/rooms/{room}/events" => Self::Stream,
            "/rooms/{room}/live" | "/rooms/{room}/frame" | "/rooms/{room}/frame/again" => {
                Self::Frame
            }
            _ => Self::Elsewhere,
        }
    }
}

pub(super) async fn render(State(app): State<AppState>, request: Request, next: Next) -> Response {
    let format = ResponseFormat::of(request.headers());
    let route = request
        .extensions()
        .get::<MatchedPath>()
        .map(|path| path.as_str().to_owned());
    let place = route.as_deref().map_or(Place::Elsewhere, Place::of);
    let wanted = wanted_page(&request);
    let is_framed = place == Place::Frame && frame::is_framed(request.uri().query());
    let mut response = next.run(request).await;
    if response.status() == StatusCode::REQUEST_TIMEOUT {
        // From the timeout layer, which knows nothing of our errors.
        response
            .extensions_mut()
            .insert(Arc::new(AppError::RequestTimeout));
    }
    let Some(error) = response.extensions_mut().remove::<Arc<AppError>>() else {
        return response;
    };
    error.log();
    let mut answer = rendered(&error, format, place, &wanted);
    if let Some(wait) = error.retry_after() {
        answer
            .headers_mut()
            .insert(header::RETRY_AFTER, HeaderValue::from(wait.as_secs()));
    }
    // A header that is already there, such as Allow, stays.
    for (name, value) in response.headers() {
        if name != header::CONTENT_LENGTH && name != header::CONTENT_TYPE {
            answer.headers_mut().append(name, value.clone());
        }
    }
    if is_framed {
        return frame::held_open(&app, &error, answer);
    }
    answer
}

fn rendered(error: &AppError, format: ResponseFormat, place: Place, wanted: &str) -> Response {
    let status = error.status();
    let title = error.title();
    let detail = error.detail();
    match (format, error) {
        (ResponseFormat::Page, _) if place == Place::Frame => {
            respond::html(status, &line(error, wanted))
        }
        (ResponseFormat::Page, AppError::SignedOut) if place == Place::Elsewhere => {
            Redirect::to(&login_path(wanted)).into_response()
        }
        (ResponseFormat::Page, AppError::NotMember { room, exists, user })
            if place == Place::Elsewhere =>
        {
            let (room, exists) = (room, *exists);
            respond::html(status, &EnterPage { user, room, exists })
        }
        (ResponseFormat::Page, _) if place == Place::Elsewhere => {
            let detail = &detail;
            respond::html(status, &ErrorPage { title, detail })
        }
        (ResponseFormat::Fragment, _) => {
            let mut response = respond::html(status, &ErrorNotice { detail: &detail });
            if matches!(error, AppError::SignedOut)
                && let Ok(login) = HeaderValue::from_str(&login_path(wanted))
            {
                response.headers_mut().insert("hx-redirect", login);
            }
            response
        }
        (ResponseFormat::Json, _) | (ResponseFormat::Page, _) => problem(error, &detail),
        (ResponseFormat::Text | ResponseFormat::Ndjson, _) => {
            let now = match error {
                AppError::EditedSince { message, .. } => text_line(message),
                _ => String::new(),
            };
            respond::text(status, format!("{detail}\n{now}"))
        }
    }
}

/// One line, with a link that leaves the frame.
fn line(error: &AppError, room: &str) -> ErrorFrame {
    let (says, link, leads_to) = match error {
        AppError::SignedOut => (
            "You are signed out.".to_owned(),
            "Sign in",
            login_path(room),
        ),
        AppError::NotMember { .. } => (error.detail(), "Open the room", room.to_owned()),
        AppError::NotFound => (error.detail(), "To the rooms", "/rooms".to_owned()),
        _ => (error.detail(), "Load the room again", room.to_owned()),
    };
    ErrorFrame {
        says,
        link,
        leads_to,
    }
}

fn problem(error: &AppError, detail: &str) -> Response {
    let errors = match error {
        AppError::InvalidFields(fields) => Some(
            fields
                .iter()
                .map(|(name, says)| ((*name).to_owned(), says.as_str().into()))
                .collect(),
        ),
        _ => None,
    };
    let question = match error {
        AppError::AsksFirst(question) => Some(*question),
        _ => None,
    };
    let problem = Problem {
        r#type: "about:blank",
        title: error.title(),
        status: error.status().as_u16(),
        detail,
        errors,
        message: match error {
            AppError::EditedSince { message, .. } => Some(message),
            _ => None,
        },
        typed: match error {
            AppError::EditedSince { typed, .. } => Some(typed),
            _ => None,
        },
        confirm: question.map(Question::confirm),
        people: match question {
            Some(Question::TellsAll { others }) => Some(others),
            _ => None,
        },
    };
    let content_type = [(header::CONTENT_TYPE, "application/problem+json")];
    let body = json::to_string(&problem);
    (error.status(), content_type, body).into_response()
}

/// Where to go after signing in: the page somebody was on or asked for.
fn wanted_page(request: &Request) -> String {
    if let Some(current) = request.headers().get("hx-current-url") {
        let path = current
            .to_str()
            .ok()
            .and_then(|url| url.splitn(4, '/').nth(3))
            .unwrap_or("");
        return format!("/{path}");
    }
    let uri = request.uri();
    if let Some(room) = uri.path().strip_suffix("/live") {
        return room.to_owned();
    }
    if request.method().is_safe() {
        return uri.to_string();
    }
    // A link cannot post again.
    page_before(uri.path())
}

/// The page that a form or a button was on, which posts to this path.
fn page_before(path: &str) -> String {
    let parts: Vec<&str> = path.split('/').skip(1).collect();
    match parts[..] {
        ["rooms", room, "messages", id, ..] => format!("/rooms/{room}/messages/{id}"),
        ["rooms", room, page @ ("people" | "settings"), ..] => format!("/rooms/{room}/{page}"),
        ["rooms", room, ..] => format!("/rooms/{room}"),
        [page @ ("account" | "admin" | "invites"), ..] => format!("/{page}"),
        _ => path.to_owned(),
    }
}
