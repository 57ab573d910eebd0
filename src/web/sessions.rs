//! Sign-in and sign-out.

use std::net::IpAddr;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Deserialize, Serialize};

use super::client::ClientAddress;
use super::cookies::{Said, SessionCookies, SetCookies};
use super::device::Device;
use super::extract::SignedIn;
use super::form::{Input, Payload};
use super::query::Query;
use super::respond::{self, ResponseFormat};
use crate::auth::password::Turn;
use crate::config::Config;
use crate::domain::{Account, Login, Session, SessionId, SignIn, Timestamp, User};
use crate::error::AppError;
use crate::limits::{self, Limited};
use crate::state::AppState;
use crate::views::{Field, SignInPage};

/// The characters that stay readable in a query's value.
const QUERY_VALUE: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'/')
    .remove(b'-')
    .remove(b'_')
    .remove(b'.');

/// The sign-in page that leads back to `wanted`.
pub(super) fn login_path(wanted: &str) -> String {
    match own_path(wanted) {
        Some("/" | "/rooms") | None => "/login".to_owned(),
        Some(path) => format!("/login?next={}", utf8_percent_encode(path, QUERY_VALUE)),
    }
}

/// `path`, if it stays on this host, written as addresses are. `//host`, `/\host` and
/// `javascript:` do not.
fn own_path(path: &str) -> Option<&str> {
    let mut chars = path.chars();
    let stays = chars.next() == Some('/')
        && !matches!(chars.next(), Some('/' | '\\'))
        && path.chars().all(|c| c.is_ascii_graphic() && c != '\\');
    stays.then_some(path)
}

/// `GET /login`.
pub(super) async fn new(
    State(app): State<AppState>,
    cookies: SessionCookies,
    query: Query,
    user: Option<SignedIn>,
) -> Response {
    let next = query.find("next").and_then(own_path);
    if user.is_some() {
        return Redirect::to(next.unwrap_or("/rooms")).into_response();
    }
    let mut page = page("", next, None);
    let (said, forgotten) = cookies.take_said();
    match said {
        Some(Said::SignedOut) => page.said = "You are signed out.".to_owned(),
        Some(Said::SignedIn) => page.said = cookie_lost(&app.config),
        None => {}
    }
    (forgotten, respond::html(StatusCode::OK, &page)).into_response()
}

/// Why somebody who has just signed in is not.
fn cookie_lost(config: &Config) -> String {
    match config.public_url.is_https {
        true => format!(
            "You signed in, but your browser did not keep the cookie that says so: it does that only \
             over HTTPS. Open {} and sign in there.",
            config.public_url
        ),
        false => "You signed in, but your browser did not keep the cookie that says so. Allow \
                  cookies for this address, and sign in again."
            .to_owned(),
    }
}

/// The fields of a sign-in.
#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Credentials {
    /// Or an email address.
    username: String,
    password: String,
    /// The page to go to afterwards.
    next: String,
}

impl Input for Credentials {}

/// `POST /login`. Every wrong pair gets the same answer in the same time, and is counted.
pub(super) async fn create(
    State(app): State<AppState>,
    ClientAddress(address): ClientAddress,
    format: ResponseFormat,
    cookies: SessionCookies,
    device: Device,
    Payload(sent): Payload<Credentials>,
) -> Result<Response, AppError> {
    let typed = &sent.username;
    let next = own_path(&sent.next);
    let refused = |error: AppError| {
        if !format.is_html() {
            return Err(error);
        }
        let detail = error.detail();
        let page = page(typed, next, Some(&detail));
        Ok(respond::html_error(&error, &page))
    };

    let login = Login::parse(typed);
    let account = match check_password(&app, login, address, &sent.password).await {
        Ok(Some(account)) => account,
        Ok(None) => return refused(AppError::BadCredentials),
        Err(error) => return refused(error),
    };
    if account.is_deactivated {
        return refused(AppError::Deactivated);
    }
    let sessions = Limited::SessionsOf(account.user.id);
    if let Err(limited) = app.limits.take(&sessions).await {
        return refused(limited.into());
    }

    let Some((signed_in, kept)) = sign_in(&app, &cookies, account, device).await? else {
        // It was the right one a moment ago.
        return refused(AppError::BadCredentials);
    };
    let answer = match format {
        ResponseFormat::Page | ResponseFormat::Fragment => {
            Redirect::to(next.unwrap_or("/rooms")).into_response()
        }
        ResponseFormat::Json | ResponseFormat::Ndjson => signed_in.json(StatusCode::OK),
        ResponseFormat::Text => signed_in.text(StatusCode::OK),
    };
    Ok((kept, answer).into_response())
}

/// The account that was signed in to, if name and password go together. Every attempt is counted, by
/// what was typed, so that the answer says nothing about whose an address is, until it turns out to be
/// right.
pub(super) async fn check_password(
    app: &AppState,
    login: Option<Login>,
    address: IpAddr,
    password: &str,
) -> Result<Option<Account>, AppError> {
    let account = match &login {
        Some(login) => app.store.find_account(login).await?,
        None => None,
    };
    let is_known = match &account {
        Some(account) => {
            app.limits
                .is_trusted_network(account.user.id, address)
                .await?
        }
        None => false,
    };
    let typed = match login {
        Some(Login::Email(key)) => format!("address {key}"),
        Some(Login::Username(key)) => format!("name {key}"),
        None => "nobody".to_owned(),
    };
    let networks = limits::networks(address);
    let mut counted = Vec::new();
    if let Some(own) = networks.first() {
        counted.push(Limited::SignInsToFrom(typed.clone(), *own));
    }
    counted.extend(networks.into_iter().map(Limited::SignInsFrom));
    if !is_known {
        counted.push(Limited::SignInsToFromAfar(typed));
    }
    // Before the hash, which is what guessing costs us.
    app.limits.take_all(&counted).await?;
    let provider = Limited::SignInsFromProvider(limits::provider(address));
    let turn = match app.limits.take(&provider).await {
        _ if is_known => Turn::KnownSignIn,
        Ok(()) => Turn::SignIn,
        Err(_) => Turn::SuspectSignIn,
    };
    let hash = account.as_ref().map(|found| found.password_hash.as_str());
    let fits = app.hasher.verify(turn, password, hash).await?;
    let Some(account) = account.filter(|_| fits) else {
        return Ok(None);
    };
    counted.push(provider);
    app.limits.refund(&counted).await?;
    app.limits.trust_network(account.user.id, address).await?;
    Ok(Some(account))
}

/// `POST /logout`: the session is over at once, on every node.
pub(super) async fn destroy(
    State(app): State<AppState>,
    format: ResponseFormat,
    cookies: SessionCookies,
    signed_in: Option<SignedIn>,
) -> Result<Response, AppError> {
    if let Some(signed_in) = signed_in {
        app.store.revoke_session(signed_in.session.id).await?;
    }
    let answer = match format {
        ResponseFormat::Page | ResponseFormat::Fragment => Redirect::to("/login").into_response(),
        ResponseFormat::Json | ResponseFormat::Ndjson | ResponseFormat::Text => {
            StatusCode::NO_CONTENT.into_response()
        }
    };
    Ok((cookies.drop_token(), answer).into_response())
}

/// A new session, as its owner learns of it.
#[derive(Serialize)]
pub(super) struct NewSession {
    token: String,
    expires_at: Timestamp,
    user: User,
}

impl NewSession {
    pub(super) fn json(self, status: StatusCode) -> Response {
        respond::json(status, &self)
    }

    /// The bare token: `TOKEN=$(curl …)`.
    pub(super) fn text(self, status: StatusCode) -> Response {
        respond::text(status, self.token + "\n")
    }
}

/// Starts a session, never one that the client named; with the cookies that have a browser keep it. `None` when the
/// password has been changed since it was checked.
pub(super) async fn sign_in(
    app: &AppState,
    cookies: &SessionCookies,
    Account {
        user,
        password_hash,
        ..
    }: Account,
    device: Device,
) -> Result<Option<(NewSession, SetCookies)>, AppError> {
    let created_at = Timestamp::now();
    let session = Session {
        id: SessionId::new(),
        user: user.id,
        created_at,
        expires_at: created_at.after(app.config.session_lifetime),
    };
    let token = app
        .keys
        .sign(&session)
        .map_err(|error| AppError::Internal(error.into()))?;
    let sign_in = SignIn {
        session,
        device: device.name,
        address: device.address,
        password_hash,
    };
    if !app.store.add_session(sign_in).await? {
        return Ok(None);
    }

    let kept = cookies.keep(token.clone(), app.config.session_lifetime);
    let signed_in = NewSession {
        token,
        expires_at: session.expires_at,
        user,
    };
    Ok(Some((signed_in, kept)))
}

fn page<'a>(username: &'a str, next: Option<&'a str>, error: Option<&'a str>) -> SignInPage<'a> {
    SignInPage {
        fields: [
            Field {
                name: "username",
                label: "Name or email",
                kind: "text",
                autocomplete: "username",
                value: username,
                hint: "",
                error: None,
                is_first: true,
            },
            Field {
                name: "password",
                label: "Password",
                kind: "password",
                autocomplete: "current-password",
                value: "",
                hint: "",
                error: None,
                is_first: false,
            },
        ],
        error,
        next,
        said: String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn next_stays_here() {
        for path in ["/", "/rooms/tea", "/rooms/tea/messages?before=3"] {
            assert_eq!(own_path(path), Some(path));
        }
        for path in [
            "",
            "//evil.example",
            "/\\evil.example",
            "https://evil.example",
            "javascript:alert(1)",
            "/a\\b",
            "/a\nb",
            "rooms",
            "/\t/evil.example",
        ] {
            assert_eq!(own_path(path), None, "{path:?}");
        }
        assert_eq!(
            login_path("/rooms/tea?before=3"),
            "/login?next=/rooms/tea%3Fbefore%3D3"
        );
        assert_eq!(login_path("//evil.example"), "/login");
    }
}
