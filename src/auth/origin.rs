//! Whether a request that changes something comes from our own pages.

use axum::http::{HeaderMap, Method, header};

use crate::config::PublicUrl;

/// Whether to refuse: an unsafe method from another site. Browsers say so in `Sec-Fetch-Site`, on
/// plain HTTP only in `Origin`; what says neither is not a browser, and no cookie of ours is there.
pub fn is_cross_site(method: &Method, headers: &HeaderMap, public_url: &PublicUrl) -> bool {
    if method.is_safe() {
        return false;
    }
    if let Some(site) = headers.get("sec-fetch-site") {
        return site != "same-origin" && site != "none";
    }
    let Some(origin) = headers.get(header::ORIGIN) else {
        return false;
    };
    let host = headers
        .get(header::HOST)
        .and_then(|host| host.to_str().ok());
    let is_this_host = origin
        .to_str()
        .ok()
        .and_then(|origin| origin.split_once("://"))
        .is_some_and(|(_, authority)| {
            // The Host as the browser sent it, or, behind a proxy that rewrites it, ours.
            host.is_some_and(|host| host.eq_ignore_ascii_case(authority))
                || authority.eq_ignore_ascii_case(&public_url.authority)
        });
    !is_this_host
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_pages_change_things() {
        let public_url = PublicUrl {
            is_https: true,
            authority: "chat.example.org".to_owned(),
        };
        let refused = |pairs: &[(&'static str, &'static str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in pairs {
                headers.insert(*name, value.parse().unwrap());
            }
            is_cross_site(&Method::POST, &headers, &public_url)
        };
        assert!(!refused(&[]));
        assert!(!refused(&[("sec-fetch-site", "same-origin")]));
        assert!(!refused(&[("sec-fetch-site", "none")]));
        assert!(refused(&[("sec-fetch-site", "cross-site")]));
        assert!(refused(&[("sec-fetch-site", "same-site")]));
        assert!(refused(&[
            ("sec-fetch-site", "cross-site"),
            ("origin", "https://chat.example.org"),
        ]));
        assert!(!refused(&[("origin", "https://chat.example.org")]));
        assert!(!refused(&[
            ("origin", "http://LAN:3000"),
            ("host", "lan:3000")
        ]));
        assert!(refused(&[
            ("origin", "https://evil.example"),
            ("host", "lan:3000")
        ]));
        assert!(refused(&[("origin", "null")]));
        assert!(!is_cross_site(&Method::GET, &HeaderMap::new(), &public_url));
    }
}
