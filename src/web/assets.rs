//! Serves the files of `static/`.

use axum::extract::RawPathParams;
use axum::extract::rejection::RawPathParamsRejection;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use crate::assets;
use crate::error::AppError;

/// `GET /static/{file}`.
pub(super) async fn show(
    path: Result<RawPathParams, RawPathParamsRejection>,
    headers: HeaderMap,
) -> Result<Response, AppError> {
    let path = path.map_err(|_| AppError::NotFound)?;
    let file = path.iter().next().map_or("", |(_, file)| file);
    let Some(asset) = assets::find(file) else {
        let asset = assets::of_another_version(file).ok_or(AppError::NotFound)?;
        let uncached = [
            (header::CACHE_CONTROL, "no-store"),
            (header::CONTENT_TYPE, asset.content_type),
        ];
        return Ok((uncached, asset.plain).into_response());
    };
    let cached = [
        (header::CACHE_CONTROL, "public, max-age=31536000, immutable"),
        (header::ETAG, asset.etag),
        (header::VARY, "accept-encoding"),
    ];
    if headers
        .get(header::IF_NONE_MATCH)
        .is_some_and(|etag| etag == asset.etag)
    {
        return Ok((StatusCode::NOT_MODIFIED, cached).into_response());
    }
    let accepts = |encoding: &str| {
        headers
            .get(header::ACCEPT_ENCODING)
            .and_then(|accepted| accepted.to_str().ok())
            .is_some_and(|accepted| accepted.split(',').any(|one| takes(one, encoding)))
    };
    let (encoding, bytes) = if accepts("br") {
        (Some("br"), asset.br)
    } else if accepts("gzip") {
        (Some("gzip"), asset.gzip)
    } else {
        (None, asset.plain)
    };
    let content_type = [(header::CONTENT_TYPE, asset.content_type)];
    let mut response = (cached, content_type, bytes).into_response();
    if let Some(encoding) = encoding {
        response
            .headers_mut()
            .insert(header::CONTENT_ENCODING, HeaderValue::from_static(encoding));
    }
    Ok(response)
}

/// Whether one element of `Accept-Encoding` takes this encoding: `br;q=0` does not.
fn takes(element: &str, encoding: &str) -> bool {
    let (name, parameters) = element.split_once(';').unwrap_or((element, ""));
    let refused = parameters
        .trim()
        .strip_prefix("q=")
        .and_then(|q| q.parse::<f32>().ok())
        .is_some_and(|q| q == 0.0);
    name.trim().eq_ignore_ascii_case(encoding) && !refused
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encodings_are_taken_unless_refused() {
        assert!(takes(" br", "br"));
        assert!(takes("gzip;q=0.5", "gzip"));
        assert!(!takes("br;q=0", "br"));
        assert!(!takes("brotli", "br"));
    }
}
