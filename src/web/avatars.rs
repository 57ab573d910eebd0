//! Pictures made from names, and the manifest: what belongs to nobody and changes only with us.

use axum::extract::Path;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};

use crate::domain::Username;
use crate::error::AppError;
use crate::views::{self, Avatar, Manifest};

/// `GET /avatars/1/{name}.svg`, for any name that somebody could have.
pub(super) async fn show(Path(file): Path<String>) -> Result<Response, AppError> {
    let name = file
        .strip_suffix(".svg")
        .and_then(|name| Username::parse(name).ok())
        .ok_or(AppError::NotFound)?;
    let picture = views::render(&Avatar::of(&name));
    let headers = [
        (header::CONTENT_TYPE, "image/svg+xml"),
        (header::CACHE_CONTROL, "public, max-age=31536000, immutable"),
    ];
    Ok((headers, picture).into_response())
}

/// `GET /manifest.webmanifest`.
pub(super) async fn manifest() -> Response {
    let headers = [
        (
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/manifest+json"),
        ),
        (
            header::CACHE_CONTROL,
            HeaderValue::from_static("public, max-age=3600"),
        ),
    ];
    (headers, views::render(&Manifest)).into_response()
}
