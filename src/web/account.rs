//! One's own account: what it is, its password, and its sessions.

use axum::extract::{Path, State};
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Redirect, Response};
use serde::{Deserialize, Serialize};

use super::client::ClientAddress;
use super::extract::SignedIn;
use super::form::{Input, Payload};
use super::query::Query;
use super::respond::{self, ResponseFormat, done};
use super::sessions::check_password;
use crate::auth::password::NewPassword;
use crate::domain::{
    AccountRole, Login, PasswordChange, SeenSession, SessionId, Timestamp, Username,
};
use crate::error::AppError;
use crate::state::AppState;
use crate::views::AccountPage;

/// The account as JSON.
#[derive(Serialize)]
struct Shape<'a> {
    username: &'a Username,
    email: &'a str,
    role: AccountRole,
    sessions: Vec<SessionShape<'a>>,
}

#[derive(Serialize)]
struct SessionShape<'a> {
    id: SessionId,
    device: &'a str,
    address: &'a str,
    created_at: Timestamp,
    seen_at: Timestamp,
    expires_at: Timestamp,
    /// Whether it is the one that asks.
    current: bool,
}

/// `GET /account`.
pub(super) async fn show(
    State(app): State<AppState>,
    format: ResponseFormat,
    signed_in: SignedIn,
    query: Query,
) -> Result<Response, AppError> {
    let account = app.store.account(signed_in.user.id).await?;
    let account = account.ok_or(AppError::SignedOut)?;
    let current = signed_in.session.id;
    match format {
        ResponseFormat::Page | ResponseFormat::Fragment => {
            let said = match query.find("said") {
                Some("password") => {
                    "Your password is changed, and everybody else who was signed in with it is out."
                }
                Some("session") => "That session is over.",
                _ => "",
            };
            page(&app, &signed_in, StatusCode::OK, said, &[]).await
        }
        ResponseFormat::Json | ResponseFormat::Ndjson => {
            let sessions = app.store.sessions_of(account.user.id).await?;
            let shape = Shape {
                username: &account.user.username,
                email: account.email.as_str(),
                role: account.role,
                sessions: { sessions.iter() }
                    .map(|one| session_shape(one, current))
                    .collect(),
            };
            Ok(respond::json(StatusCode::OK, &shape))
        }
        ResponseFormat::Text => {
            let (name, role) = (account.user.username.as_str(), account.role.as_str());
            let email = account.email.as_str();
            let text = format!("username\t{name}\nemail\t{email}\nrole\t{role}\n");
            Ok(respond::text(StatusCode::OK, text))
        }
    }
}

fn session_shape(one: &SeenSession, current: SessionId) -> SessionShape<'_> {
    SessionShape {
        id: one.session.id,
        device: &one.device,
        address: &one.address,
        created_at: one.session.created_at,
        seen_at: one.seen_at,
        expires_at: one.session.expires_at,
        current: one.session.id == current,
    }
}

/// The page, with what was just done or what is wrong.
async fn page(
    app: &AppState,
    signed_in: &SignedIn,
    status: StatusCode,
    said: &str,
    errors: &[(&'static str, String)],
) -> Result<Response, AppError> {
    let account = app.store.account(signed_in.user.id).await?;
    let account = account.ok_or(AppError::SignedOut)?;
    let sessions = app.store.sessions_of(account.user.id).await?;
    let page = AccountPage::of(&account, &sessions, signed_in.session.id, said, errors);
    Ok(respond::html(status, &page))
}

/// A new password, with the one there is.
#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct PasswordForm {
    current: String,
    password: String,
}

impl Input for PasswordForm {}

/// `POST /account/password`: from then on it is another one, and every other session is over.
pub(super) async fn set_password(
    State(app): State<AppState>,
    ClientAddress(address): ClientAddress,
    format: ResponseFormat,
    signed_in: SignedIn,
    Payload(sent): Payload<PasswordForm>,
) -> Result<Response, AppError> {
    let user = &signed_in.user;
    let password = match NewPassword::parse(&sent.password) {
        Ok(password) => Ok(password),
        Err(invalid) => Err(vec![("password", invalid.to_string())]),
    };
    // Counted like a sign-in: whoever finds an open browser guesses no faster than others.
    let login = Login::Username(user.username.key());
    let checked = check_password(&app, Some(login), address, &sent.current).await?;
    let checked = checked.filter(|account| account.user.id == user.id);
    let not_yours = || vec![("current", "This is not your password.".to_owned())];
    let refused = match (password, checked) {
        (Ok(password), Some(account)) => {
            let change = PasswordChange {
                user: user.id,
                from: account.password_hash,
                to: app.hasher.hash(password).await?,
                but: signed_in.session.id,
            };
            if app.store.set_password(change).await? {
                return Ok(match format {
                    ResponseFormat::Page | ResponseFormat::Fragment => {
                        Redirect::to("/account?said=password").into_response()
                    }
                    _ => StatusCode::NO_CONTENT.into_response(),
                });
            }
            not_yours()
        }
        (Err(refused), Some(_)) => refused,
        (_, None) => not_yours(),
    };
    match format.is_html() {
        true => {
            let status = StatusCode::UNPROCESSABLE_ENTITY;
            page(&app, &signed_in, status, "", &refused).await
        }
        false => Err(AppError::InvalidFields(refused)),
    }
}

/// `POST /account/sessions/{id}/end`, or `DELETE` without the last part: ends one of one's sessions, or all `others`.
pub(super) async fn end_session(
    State(app): State<AppState>,
    method: Method,
    format: ResponseFormat,
    SignedIn { user, session }: SignedIn,
    Path(id): Path<String>,
) -> Result<Response, AppError> {
    if id == "others" {
        let but = Some(session.id);
        app.store.revoke_sessions(user.id, but).await?;
    } else {
        let id = SessionId::parse(&id).map_err(|_| AppError::NotFound)?;
        let own = app.store.sessions_of(user.id).await?;
        if own.iter().all(|one| one.session.id != id) {
            return Err(AppError::NotFound);
        }
        app.store.revoke_session(id).await?;
    }
    Ok(done(&method, format, "/account?said=session"))
}
