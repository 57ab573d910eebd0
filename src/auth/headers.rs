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
mod tests {
    use axum::http::{HeaderName, HeaderValue};

    use super::*;

    fn headers(pairs: &[(&'static str, &[u8])]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            let value = HeaderValue::from_bytes(value).unwrap();
            headers.append(HeaderName::from_static(name), value);
        }
        headers
    }

    fn public_url(url: &str) -> PublicUrl {
        PublicUrl::parse(url).unwrap()
    }

    #[test]
    fn a_cookie_is_ours_byte_by_byte_and_once() {
        let name = "__Host-parlor";
        for (sent, found) in [
            (&[&b"__Host-parlor=T"[..]][..], Some("T")),
            (&[b"a=1; __Host-parlor=T; b=2"], Some("T")),
            (&[b"a=1;__Host-parlor=T;b=2"], Some("T")),
            (&[b"\t__Host-parlor = T "], Some("T")),
            (&[b"a=1", b"__Host-parlor=T"], Some("T")),
            (&[b"__Host-parlor=a=b"], Some("a=b")),
            // Others' are none of our business, whatever they are made of.
            (&[b"bad=\xff\xfe; __Host-parlor=T"], Some("T")),
            (&[b"\xff=x; ; =; __Host-parlor=T; lone"], Some("T")),
            (&[b"%5F_Host-parlor=EVIL; __Host-parlor=T"], Some("T")),
            (&[b"%5F_Host-parlor=EVIL"], None),
            (&[b"\xc2\xa0__Host-parlor=EVIL"], None),
            (
                &["\u{2003}__Host-parlor=EVIL; __Host-parlor=T".as_bytes()],
                Some("T"),
            ),
            (&[b"__host-parlor=EVIL"], None),
            (&[b"__Host-parlor"], None),
            (&[b"x__Host-parlor=EVIL"], None),
            // Two of the name: somebody else put one there.
            (&[b"__Host-parlor=T; __Host-parlor=EVIL"], None),
            (&[b"__Host-parlor=T", b"__Host-parlor=T"], None),
            (&[b"__Host-parlor=\xff"], None),
            (&[], None),
        ] {
            let sent: Vec<(&'static str, &[u8])> =
                sent.iter().map(|value| ("cookie", *value)).collect();
            assert_eq!(cookie(&headers(&sent), name), found, "{sent:?}");
        }
    }

    #[test]
    fn bearer_tokens_are_told_from_other_schemes() {
        let found = |values: &[&[u8]]| {
            let sent: Vec<(&'static str, &[u8])> = values
                .iter()
                .map(|value| ("authorization", *value))
                .collect();
            let headers = headers(&sent);
            bearers(&headers).map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(found(&[b"Bearer T"]), ["T"]);
        assert_eq!(found(&[b"bearer  T "]), ["T"]);
        assert_eq!(found(&[b"Basic eA==", b"Bearer T"]), ["T"]);
        assert_eq!(found(&[b"Bearer A", b"Bearer B"]), ["A", "B"]);
        for other in [
            &b"Basic eA=="[..],
            b"Bearer",
            b"",
            b"Digest x",
            b"Bearer\xffT",
            b"BearerT",
        ] {
            assert!(found(&[other]).is_empty(), "{other:?}");
        }
    }

    #[test]
    fn only_our_own_names_are_answered() {
        let ours = public_url("https://chat.example.org");
        let root = Uri::from_static("/");
        let is_for_us = |host: &[u8]| is_for_us(&root, &headers(&[("host", host)]), &ours);
        for host in [
            &b"chat.example.org"[..],
            b"CHAT.example.org:443",
            b"chat.example.org.",
            b"chat.example.org:3000",
            b"127.0.0.1:3000",
            b"192.168.1.5",
            b"[::1]:3000",
            b"[2001:db8::5]",
            b"localhost:3000",
            b"parlor.localhost",
        ] {
            assert!(is_for_us(host), "{}", String::from_utf8_lossy(host));
        }
        for host in [
            &b"evil.example"[..],
            b"evil.example:3000",
            b"chat.example.org.evil.example",
            b"evil-chat.example.org",
            b"localhost.evil.example",
            b"notlocalhost",
            b"127.0.0.1.evil.example",
            b"127.0.0.1@evil.example",
            b"[::1].evil.example",
            b"[::1",
            b"chat.example.org:x",
            b"chat.example.org\xff",
            b"chat.example.org/",
            b"",
        ] {
            assert!(!is_for_us(host), "{}", String::from_utf8_lossy(host));
        }
        // The address outranks the Host.
        let absolute = Uri::from_static("http://evil.example/rooms");
        let ours_by_host = headers(&[("host", b"chat.example.org")]);
        assert!(!super::is_for_us(&absolute, &ours_by_host, &ours));
        assert!(super::is_for_us(&root, &HeaderMap::new(), &ours));
    }

    #[test]
    fn a_cookies_name_tells_origins_apart() {
        let root = Uri::from_static("/");
        let name = |url: &PublicUrl, host: &'static [u8]| {
            cookie_name(&root, &headers(&[("host", host)]), url)
        };
        let https = public_url("https://chat.example.org");
        assert_eq!(name(&https, b"chat.example.org"), "__Host-parlor");
        let set = public_url("http://chat.lan:8080");
        assert_eq!(name(&set, b"127.0.0.1:3000"), "parlor-8080");
        assert_eq!(name(&public_url("http://chat.lan"), b"x:1"), "parlor-80");
        let unset = PublicUrl {
            is_set: false,
            ..public_url("http://127.0.0.1:3000")
        };
        assert_eq!(name(&unset, b"127.0.0.1:3000"), "parlor-3000");
        assert_eq!(name(&unset, b"192.168.1.5:8080"), "parlor-8080");
        assert_eq!(name(&unset, b"192.168.1.5"), "parlor-80");
        assert_eq!(name(&unset, b"?"), "parlor-3000");
    }

    #[test]
    fn only_our_own_pages_change_things() {
        let root = Uri::from_static("/");
        let check = |url: &str, pairs: &[(&'static str, &[u8])]| {
            check_site(&Method::POST, &root, &headers(pairs), &public_url(url))
        };
        let (https, http) = ("https://chat.example.org:443", "http://chat.lan:8080");
        for (url, pairs) in [
            (https, &[][..]),
            (https, &[("sec-fetch-site", &b"same-origin"[..])][..]),
            (https, &[("sec-fetch-site", b"none")]),
            (https, &[("origin", b"https://chat.example.org")]),
            (https, &[("origin", b"https://CHAT.example.org:443")]),
            (
                https,
                &[
                    ("origin", b"https://chat.example.org"),
                    ("host", b"10.0.0.2:3000"),
                ],
            ),
            (
                http,
                &[("origin", b"http://LAN:3000"), ("host", b"lan:3000")],
            ),
            (
                http,
                &[
                    ("origin", b"http://chat.lan:8080"),
                    ("host", b"127.0.0.1:3000"),
                ],
            ),
            (
                http,
                &[
                    ("origin", b"http://192.168.1.5"),
                    ("host", b"192.168.1.5:80"),
                ],
            ),
            (
                http,
                &[("origin", b"http://[::1]:3000"), ("host", b"[::1]:3000")],
            ),
        ] {
            assert_eq!(check(url, pairs), Ok(()), "{pairs:?}");
        }
        for (url, pairs) in [
            (https, &[("sec-fetch-site", &b"cross-site"[..])][..]),
            (https, &[("sec-fetch-site", b"same-site")]),
            (https, &[("sec-fetch-site", b"Same-Origin")]),
            (
                https,
                &[
                    ("sec-fetch-site", b"cross-site"),
                    ("origin", b"https://chat.example.org"),
                ],
            ),
            (https, &[("origin", b"http://chat.example.org")]),
            (
                https,
                &[
                    ("origin", b"http://chat.example.org"),
                    ("host", b"chat.example.org"),
                ],
            ),
            (https, &[("origin", b"https://chat.example.org:8443")]),
            (
                https,
                &[("origin", b"https://chat.example.org.evil.example")],
            ),
            (
                https,
                &[("origin", b"https://chat.example.org@evil.example")],
            ),
            (https, &[("origin", b"null")]),
            (https, &[("origin", b"")]),
            (https, &[("origin", b"https://\xff")]),
            (
                http,
                &[
                    ("origin", b"https://chat.lan:8080"),
                    ("host", b"chat.lan:8080"),
                ],
            ),
            (
                http,
                &[("origin", b"https://evil.example"), ("host", b"lan:3000")],
            ),
            // A proxy that drops the port from the Host.
            (http, &[("origin", b"http://lan:8080"), ("host", b"lan")]),
        ] {
            assert!(check(url, pairs).is_err(), "{pairs:?}");
        }
        let get = check_site(
            &Method::GET,
            &root,
            &headers(&[("origin", b"null")]),
            &public_url(http),
        );
        assert_eq!(get, Ok(()));
        let says = check(
            http,
            &[("origin", b"http://lan:8080"), ("host", b"lan\xff")],
        );
        let Err(CrossSite::AnotherOrigin {
            origin,
            host,
            public_url,
        }) = says
        else {
            panic!("{says:?}");
        };
        assert_eq!((&*origin, &*host), ("http://lan:8080", "lan\u{fffd}"));
        assert_eq!(public_url, http);
    }
}
