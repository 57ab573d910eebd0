//! The files of `static/`, inside the binary: named by their content, so cached for ever.

use axum::extract::RawPathParams;
use axum::extract::rejection::RawPathParamsRejection;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use crate::error::AppError;

/// One file in the forms it is sent in. Made by `build.rs`.
struct Asset {
    name: &'static str,
    path: &'static str,
    etag: &'static str,
    content_type: &'static str,
    plain: &'static [u8],
    br: &'static [u8],
    gzip: &'static [u8],
}

static ASSETS: &[Asset] = &include!(concat!(env!("OUT_DIR"), "/assets.rs"));

/// Where the file of that name in `static/` is served.
///
/// # Panics
///
/// When there is none, which the first render of any page that names it shows.
pub fn path(name: &str) -> &'static str {
    let asset = ASSETS.iter().find(|asset| asset.name == name);
    asset.expect("the templates name files that are there").path
}

/// `GET /static/{file}`.
pub(super) async fn show(
    path: Result<RawPathParams, RawPathParamsRejection>,
    headers: HeaderMap,
) -> Result<Response, AppError> {
    let path = path.map_err(|_| AppError::NotFound)?;
    let file = path.iter().next().map_or("", |(_, file)| file);
    let asked = format!("/static/{file}");
    let exact = ASSETS.iter().find(|asset| asset.path == asked);
    let Some(asset) = exact else {
        let asset = of_another_version(file).ok_or(AppError::NotFound)?;
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

/// This version's file for an address that another version's page names: while nodes are upgraded one
/// after another, a page of one asks another for its files. What the pages promise each other does not
/// change often, so the file usually fits; `static/watchdog.js` sees to the rest. Nobody may keep it
/// under that address, where the other version has another.
fn of_another_version(file: &str) -> Option<&'static Asset> {
    let (rest, extension) = file.rsplit_once('.')?;
    let (stem, hash) = rest.rsplit_once('.')?;
    let is_hash = hash.len() == 16 && hash.bytes().all(|b| b.is_ascii_hexdigit());
    let name = format!("{stem}.{extension}");
    ASSETS.iter().find(|asset| is_hash && asset.name == name)
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
    use sha2::{Digest, Sha256};

    use super::*;

    #[test]
    fn vendored_scripts_are_what_their_note_says() {
        let note = include_str!("../../static/vendor/README.md");
        for name in ["htmx.min.js", "hx-sse.min.js"] {
            let asset = ASSETS.iter().find(|asset| asset.name == name).unwrap();
            let digest = Sha256::digest(asset.plain);
            let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
            assert!(note.contains(&hex), "{name}: {hex}");
        }
    }

    #[test]
    fn another_versions_address_leads_to_this_versions_file() {
        for asset in ASSETS {
            let (stem, extension) = asset.name.rsplit_once('.').unwrap();
            let of = |hash: &str| of_another_version(&format!("{stem}.{hash}.{extension}"));
            assert_eq!(of("0123456789abcdef").unwrap().name, asset.name);
            assert!(of("0123456789abcde").is_none());
            assert!(of("0123456789abcdeg").is_none());
        }
        assert!(of_another_version("nothing.0123456789abcdef.js").is_none());
        assert!(of_another_version("app.js").is_none());
        assert!(of_another_version("").is_none());
    }

    #[test]
    fn encodings_are_taken_unless_refused() {
        assert!(takes(" br", "br"));
        assert!(takes("gzip;q=0.5", "gzip"));
        assert!(!takes("br;q=0", "br"));
        assert!(!takes("brotli", "br"));
    }
}
