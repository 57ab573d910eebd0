//! The cookies that Parlor sets, and their attributes.

use std::convert::Infallible;
use std::time::Duration;

use axum::extract::FromRequestParts;
use axum::http::header::SET_COOKIE;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName};
use axum::response::AppendHeaders;
use tower_cookies::Cookie;
use tower_cookies::cookie::SameSite;
use tower_cookies::cookie::time::Duration as CookieDuration;

use crate::auth::headers;
use crate::state::AppState;

/// A notice for the sign-in page of what just happened, in a cookie that lives until the page is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Said {
    /// Somebody signed out.
    SignedOut,
    /// Somebody signed in. If nobody is, the browser did not keep the session's cookie.
    SignedIn,
}

impl Said {
    const ALL: [Self; 2] = [Self::SignedOut, Self::SignedIn];

    fn cookie_name(self) -> &'static str {
        match self {
            Self::SignedOut => "parlor-signed-out",
            Self::SignedIn => "parlor-signed-in",
        }
    }
}

/// A request's cookies, as far as they are ours.
pub(super) struct SessionCookies {
    name: String,
    is_https: bool,
    said: Vec<Said>,
}

/// Cookies for an answer, in this order.
pub(super) type SetCookies = AppendHeaders<Vec<(HeaderName, String)>>;

impl SessionCookies {
    /// The token of the session, if the browser sent one.
    pub(super) fn token<'a>(parts: &'a Parts, app: &AppState) -> Option<&'a str> {
        let name = headers::cookie_name(&parts.uri, &parts.headers, &app.config.public_url);
        headers::cookie(&parts.headers, &name)
    }

    /// Has the browser keep a session's token, for as long as the session lasts.
    pub(super) fn keep(&self, token: String, lifetime: Duration) -> SetCookies {
        let mut kept = cookie(self.name.clone(), token, "/", self.is_https);
        kept.set_max_age(CookieDuration::seconds(lifetime.as_secs().cast_signed()));
        set([kept, Self::say(Said::SignedIn)])
    }

    /// Has the browser forget the session's token.
    pub(super) fn drop_token(&self) -> SetCookies {
        let mut gone = cookie(self.name.clone(), String::new(), "/", self.is_https);
        gone.make_removal();
        set([
            gone,
            Self::forget(Said::SignedIn),
            Self::say(Said::SignedOut),
        ])
    }

    /// The notice, and the cookie that takes it back, so that it is shown once.
    pub(super) fn take_said(&self) -> (Option<Said>, SetCookies) {
        let forgotten = self.said.iter().map(|said| Self::forget(*said));
        (self.said.first().copied(), set(forgotten))
    }

    /// Not a Secure cookie, even where the session's is one: a browser that drops that one should still
    /// bring this, so that the sign-in page can say what is wrong.
    fn say(said: Said) -> Cookie<'static> {
        const LASTS: CookieDuration = CookieDuration::seconds(30);
        let name = said.cookie_name().to_owned();
        let mut marker = cookie(name, "1".to_owned(), "/login", false);
        marker.set_max_age(LASTS);
        marker
    }

    fn forget(said: Said) -> Cookie<'static> {
        let name = said.cookie_name().to_owned();
        let mut gone = cookie(name, String::new(), "/login", false);
        gone.make_removal();
        gone
    }
}

/// A cookie that is no secret and is of use for a few seconds.
pub(super) fn passing(name: &str, value: String) -> Cookie<'static> {
    const LASTS: CookieDuration = CookieDuration::seconds(10);
    let mut passing = cookie(name.to_owned(), value, "/", false);
    passing.set_max_age(LASTS);
    passing
}

/// The one place that decides a cookie's attributes.
fn cookie(name: String, value: String, path: &'static str, is_secure: bool) -> Cookie<'static> {
    Cookie::build((name, value))
        .http_only(true)
        .same_site(SameSite::Lax)
        .path(path)
        .secure(is_secure)
        .build()
}

pub(super) fn set(cookies: impl IntoIterator<Item = Cookie<'static>>) -> SetCookies {
    let header = |cookie: Cookie<'_>| (SET_COOKIE, cookie.to_string());
    AppendHeaders(cookies.into_iter().map(header).collect())
}

impl FromRequestParts<AppState> for SessionCookies {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, app: &AppState) -> Result<Self, Infallible> {
        let public_url = &app.config.public_url;
        let was_sent =
            |said: &Said, sent: &HeaderMap| headers::cookie(sent, said.cookie_name()).is_some();
        let said = Said::ALL.into_iter();
        Ok(Self {
            name: headers::cookie_name(&parts.uri, &parts.headers, public_url),
            is_https: public_url.is_https,
            said: said.filter(|said| was_sent(said, &parts.headers)).collect(),
        })
    }
}
