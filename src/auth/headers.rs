//! A request's headers that identify its sender: cookies, bearer tokens, Host and Origin, read byte by
//! byte. Another application's part of a header neither hides nor outranks ours.

use axum::http::uri::Scheme;
use axum::http::{HeaderMap, Method, Uri, header};

use super::authority::Authority;
use crate::config::PublicUrl;

/// The value of the cookie of exactly this name. `None` when there is none, and when there are two:
/// one of them was put there by somebody else, and nothing tells which.
///
/// Names are compared as they were sent. A reader that decodes them, or trims more than spaces and
/// tabs, takes `%5F_Host-parlor` for `__Host-parlor`, which any sibling domain may set.
pub fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let values = headers.get_all(header::COOKIE).iter();
    let pairs = values.flat_map(|value| value.as_bytes().split(|byte| *byte == b';'));
    let mut found = pairs.filter_map(|pair| {
        let equals = pair.iter().position(|byte| *byte == b'=')?;
        let (this, value) = (&pair[..equals], &pair[equals + 1..]);
        (trimmed(this) == name.as_bytes()).then(|| trimmed(value))
    });
    let value = found.next()?;
    match found.next() {
        None => str::from_utf8(value).ok(),
        Some(_) => None,
    }
}

/// The tokens of all `Authorization: Bearer` headers (RFC 6750). Other schemes are for somebody else,
/// as a proxy's own password is.
pub fn bearers(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let values = headers.get_all(header::AUTHORIZATION).iter();
    values.filter_map(|value| {
        let value = str::from_utf8(value.as_bytes()).ok()?;
        let (scheme, token) = value.trim_matches([' ', '\t']).split_once([' ', '\t'])?;
        let is_bearer = scheme.eq_ignore_ascii_case("bearer");
        is_bearer.then(|| token.trim_matches([' ', '\t']))
    })
}

fn trimmed(bytes: &[u8]) -> &[u8] {
    let is_space = |byte: &u8| matches!(byte, b' ' | b'\t');
    let Some(start) = bytes.iter().position(|byte| !is_space(byte)) else {
        return &[];
    };
    let end = bytes.iter().rposition(|byte| !is_space(byte));
    &bytes[start..=end.unwrap_or(start)]
}

/// The authority that a request asks for: of its absolute address if it has one (RFC 9112, 3.2.2), or
/// of its `Host`. `None` when neither can be read.
fn asked_for(uri: &Uri, headers: &HeaderMap) -> Option<Authority> {
    match uri.authority() {
        Some(authority) => Authority::parse(authority.as_str()),
        None => Authority::parse(str::from_utf8(headers.get(header::HOST)?.as_bytes()).ok()?),
    }
}

/// Whether a request is for this server by a name that is its own: [`PublicUrl`]'s, an IP address or
/// `localhost`. By any other, a page of that name's owner could have had its name point here, and a
/// browser would let that page read the answer (DNS rebinding). Without a Host there is no browser.
pub fn is_for_us(uri: &Uri, headers: &HeaderMap, public_url: &PublicUrl) -> bool {
    if uri.authority().is_none() && !headers.contains_key(header::HOST) {
        return true;
    }
    asked_for(uri, headers).is_some_and(|asked| asked.is_fixed() || asked.host == public_url.host)
}

/// The name of the cookie that holds the token. A browser takes a `__Host-` one only over HTTPS, for
/// this host, from this host. On plain HTTP the port tells two servers on one host apart, which
/// cookies don't: the one that people type, or, when nobody has said, the one of this request.
pub fn cookie_name(uri: &Uri, headers: &HeaderMap, public_url: &PublicUrl) -> String {
    if public_url.is_https {
        return "__Host-parlor".to_owned();
    }
    let asked = match public_url.is_set {
        true => None,
        false => asked_for(uri, headers),
    };
    let port = asked.map_or(public_url.port, |asked| asked.port_or_default(false));
    format!("parlor-{port}")
}

/// Why a request that changes something does not seem to come from our own pages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CrossSite {
    /// The browser says so in `Sec-Fetch-Site`.
    AnotherSite,
    /// Its `Origin` is neither what the request asks for nor [`PublicUrl`]: another site, or a proxy
    /// that changes the Host.
    AnotherOrigin {
        /// The page's, as sent.
        origin: String,
        /// The request's, as sent.
        host: String,
        /// The setting.
        public_url: String,
    },
}

/// Whether to refuse, and why: an unsafe method from another site. Browsers say so in `Sec-Fetch-Site`,
/// on plain HTTP only in `Origin`; what says neither is not a browser, and no cookie of ours is there.
///
/// # Errors
///
/// [`CrossSite`] when the request comes from another site's page.
pub fn check_site(
    method: &Method,
    uri: &Uri,
    headers: &HeaderMap,
    public_url: &PublicUrl,
) -> Result<(), CrossSite> {
    if method.is_safe() {
        return Ok(());
    }
    if let Some(site) = headers.get("sec-fetch-site") {
        return match site == "same-origin" || site == "none" {
            true => Ok(()),
            false => Err(CrossSite::AnotherSite),
        };
    }
    let Some(origin) = headers.get(header::ORIGIN) else {
        return Ok(());
    };
    let asked = asked_for(uri, headers);
    if let Some((scheme, page)) = parse_origin(origin.as_bytes()) {
        let is_https = scheme == Scheme::HTTPS;
        let place = |one: &Authority| (one.host.clone(), one.port_or_default(is_https));
        let is_asked_for = asked.is_some_and(|asked| place(&asked) == place(&page));
        let is_public = place(&page) == (public_url.host.clone(), public_url.port);
        if is_https == public_url.is_https && (is_asked_for || is_public) {
            return Ok(());
        }
    }
    let shown = |name| shown(headers, name);
    Err(CrossSite::AnotherOrigin {
        origin: shown(header::ORIGIN),
        host: shown(header::HOST),
        public_url: public_url.to_string(),
    })
}

/// `scheme://host[:port]`, and nothing else (RFC 6454, 6.1).
fn parse_origin(origin: &[u8]) -> Option<(Scheme, Authority)> {
    let (scheme, authority) = str::from_utf8(origin).ok()?.split_once("://")?;
    let scheme = match scheme {
        _ if scheme.eq_ignore_ascii_case("http") => Scheme::HTTP,
        _ if scheme.eq_ignore_ascii_case("https") => Scheme::HTTPS,
        _ => return None,
    };
    Some((scheme, Authority::parse(authority)?))
}

/// A header as a person or a log may be shown it: printable ASCII, and not much of it.
pub fn shown(headers: &HeaderMap, name: header::HeaderName) -> String {
    const CHARS_MAX: usize = 100;
    let value = headers.get(name).map_or(&b""[..], |value| value.as_bytes());
    let chars = value.iter().take(CHARS_MAX).map(|byte| match byte {
        b' '..=b'~' => char::from(*byte),
        _ => '\u{fffd}',
    });
    chars.collect()
}

#[cfg(test)]
mod tests;
