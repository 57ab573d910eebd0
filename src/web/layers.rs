//! The layers around every handler.

use std::any::Any;
use std::time::Instant;

use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Version, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tracing::Instrument;

use super::client;
use crate::auth::headers;
use crate::error::AppError;
use crate::state::AppState;
use crate::store::deadline::with_db_deadline;

/// The policy for our pages: they load their own files and forms, nothing inline, no frame but the
/// live one.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
     img-src 'self'; connect-src 'self'; frame-src 'self'; manifest-src 'self'; \
     form-action 'self'; base-uri 'none'; frame-ancestors 'self'";

const PERMISSIONS_POLICY: &str = "camera=(), microphone=(), geolocation=(), payment=(), usb=(), \
     interest-cohort=()";

/// Refuses requests for another host, and those of other sites' pages that would change something.
pub(super) async fn refuse_foreign(
    State(app): State<AppState>,
    request: Request,
    next: Next,
) -> Response {
    let (method, uri, headers) = (request.method(), request.uri(), request.headers());
    let public_url = &app.config.public_url;
    // A proxy and we could take two of them for different ones (RFC 9112, 3.2).
    let hosts = headers.get_all(header::HOST).iter().count();
    if hosts > 1 || (hosts == 0 && request.version() == Version::HTTP_11) {
        return AppError::BadHost.into_response();
    }
    // A container's health check asks by any name, and learns nothing.
    let is_watching = matches!(uri.path(), "/healthz" | "/readyz");
    if !is_watching && !headers::is_for_us(uri, headers, public_url) {
        let host = headers::shown(headers, header::HOST);
        return AppError::Misdirected { host }.into_response();
    }
    if let Err(refused) = headers::check_site(method, uri, headers, public_url) {
        return AppError::CrossSite(refused).into_response();
    }
    next.run(request).await
}

pub(super) fn panicked(panic: Box<dyn Any + Send>) -> Response {
    let says = panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("no message");
    AppError::Internal(format!("a handler panicked: {says}").into()).into_response()
}

pub(super) async fn add_headers(
    State(app): State<AppState>,
    request: Request,
    next: Next,
) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "SAMEORIGIN"),
        (header::REFERRER_POLICY, "same-origin"),
        (
            HeaderName::from_static("permissions-policy"),
            PERMISSIONS_POLICY,
        ),
        (
            HeaderName::from_static("cross-origin-resource-policy"),
            "same-origin",
        ),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    if app.config.public_url.is_https {
        headers.insert(
            header::STRICT_TRANSPORT_SECURITY,
            HeaderValue::from_static("max-age=31536000"),
        );
        // Elsewhere browsers ignore it, and complain on every page.
        headers.insert(
            HeaderName::from_static("cross-origin-opener-policy"),
            HeaderValue::from_static("same-origin"),
        );
    }
    // Pages are about one person and one moment. Only files that never change say otherwise.
    if !headers.contains_key(header::CACHE_CONTROL) {
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(
            header::VARY,
            HeaderValue::from_static(
                "accept, accept-encoding, authorization, cookie, hx-request-type",
            ),
        );
    }
    response
}

/// Bounds how long a request waits for the database in all. The stream after an
/// answer's head is not part of it.
pub(super) async fn with_deadline(request: Request, next: Next) -> Response {
    with_db_deadline(next.run(request)).await
}

/// Gives each request an id, in the log and in the answer, and logs how it ended: by its route, and by
/// its client's address, so that a person or a program that bans can act on it. The query is left out:
/// it may hold what people typed. Requests for no route of ours, and those made in
/// passing, that somebody types or has read something, are for debugging only.
pub(super) async fn log(State(app): State<AppState>, request: Request, next: Next) -> Response {
    let began = Instant::now();
    let id = uuid::Uuid::new_v4().simple().to_string();
    let method = request.method().clone();
    let route = request
        .extensions()
        .get::<MatchedPath>()
        .map(|path| path.as_str().to_owned());
    // A secret in an address opens what is behind it.
    let path = match route.as_deref() {
        Some("/reset/{secret}") => "/reset/…".to_owned(),
        Some("/join/{secret}") => "/join/…".to_owned(),
        _ => shortened(request.uri().path()),
    };
    let client = client::address(request.extensions(), request.headers(), &app.config);
    let client = client.map_or_else(String::new, |client| client.to_string());
    let span = tracing::info_span!("request", id, %method, route, client);

    let mut response = next.run(request).instrument(span.clone()).await;

    let status = response.status();
    let took_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    let _entered = span.enter();
    if status.is_server_error() {
        tracing::warn!(status = status.as_u16(), took_ms, path, "answered");
    } else if !method.is_safe() && status != StatusCode::NO_CONTENT && route.is_some() {
        tracing::info!(status = status.as_u16(), took_ms, path, "answered");
    } else {
        tracing::debug!(status = status.as_u16(), took_ms, path, "answered");
    }
    insert_id(response.headers_mut(), &id);
    response
}

/// As much of a path as says which of our pages it is.
fn shortened(path: &str) -> String {
    const CHARS_MAX: usize = 80;
    let mut chars = path.chars();
    let start: String = chars.by_ref().take(CHARS_MAX).collect();
    match chars.next() {
        Some(_) => start + "…",
        None => start,
    }
}

fn insert_id(headers: &mut HeaderMap, id: &str) {
    if let Ok(id) = HeaderValue::from_str(id) {
        headers.insert("x-request-id", id);
    }
}
