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
    let name =
        |url: &PublicUrl, host: &'static [u8]| cookie_name(&root, &headers(&[("host", host)]), url);
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
