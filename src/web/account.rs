//! One's own account: what it is, its password, and its sessions.

use std::net::IpAddr;

use axum::extract::{Path, State};
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Redirect, Response};
use serde::{Deserialize, Serialize};

use super::accounts::{new_name, taken};
use super::client::ClientAddress;
use super::cookies::SessionCookies;
use super::extract::SignedIn;
use super::form::{Input, Payload, given};
use super::query::Query;
use super::respond::{self, ResponseFormat, done};
use super::sessions::check_password;
use crate::auth::password::NewPassword;
use crate::domain::{
    AccountRole, Email, Invalid, KeptMessages, Login, PasswordChange, SeenSession, SessionId,
    Timestamp, User, Username,
};
use crate::error::AppError;
use crate::limits::{Limited, RateLimited};
use crate::state::AppState;
use crate::store::StoreError;
use crate::views::{AccountErrors, AccountPage};

/// The account as JSON.
#[derive(Serialize)]
struct Shape<'a> {
    username: &'a Username,
    email: &'a str,
    role: AccountRole,
    sessions: Vec<SessionShape<'a>>,
    blocked: &'a [User],
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
                Some("saved" | "blocked") => "It is saved.",
                Some("session") => "That session is over.",
                _ => "",
            };
            page(&app, &signed_in, StatusCode::OK, said, AccountErrors::None).await
        }
        ResponseFormat::Json | ResponseFormat::Ndjson => {
            let sessions = app.store.sessions_of(account.user.id).await?;
            let shape = Shape {
                username: &account.user.username,
                email: account.email.as_str(),
                role: account.role,
                blocked: &app.store.blocked_by(account.user.id).await?,
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
    errors: AccountErrors<'_>,
) -> Result<Response, AppError> {
    let account = app.store.account(signed_in.user.id).await?;
    let account = account.ok_or(AppError::SignedOut)?;
    let sessions = app.store.sessions_of(account.user.id).await?;
    let blocked = app.store.blocked_by(account.user.id).await?;
    let sessions = (&*sessions, signed_in.session.id);
    let page = AccountPage::of(&account, sessions, &blocked, said, errors);
    Ok(respond::html(status, &page))
}

/// Another name, or another address.
#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Profile {
    #[serde(deserialize_with = "given")]
    username: Option<String>,
    #[serde(deserialize_with = "given")]
    email: Option<String>,
    /// The password, for another address: links to choose another one may be sent there.
    current: String,
}

impl Input for Profile {}

/// `POST /account`: from then on one is called so wherever one is shown, or signs in with another address.
pub(super) async fn update(
    State(app): State<AppState>,
    ClientAddress(address): ClientAddress,
    format: ResponseFormat,
    signed_in: SignedIn,
    Payload(sent): Payload<Profile>,
) -> Result<Response, AppError> {
    let refused = match change_profile(&app, &signed_in.user, address, &sent).await {
        Ok(()) => {
            let account = app.store.account(signed_in.user.id).await?;
            let account = account.ok_or(AppError::SignedOut)?;
            let (username, email) = (&account.user.username, account.email.as_str());
            return Ok(match format {
                ResponseFormat::Page | ResponseFormat::Fragment => {
                    Redirect::to("/account?said=saved").into_response()
                }
                ResponseFormat::Json | ResponseFormat::Ndjson => {
                    let profile = serde_json::json!({ "username": username, "email": email });
                    respond::json(StatusCode::OK, &profile)
                }
                ResponseFormat::Text => StatusCode::NO_CONTENT.into_response(),
            });
        }
        Err(refused) => refused,
    };
    let AppError::InvalidFields(errors) = &refused else {
        return Err(refused);
    };
    match format.is_html() {
        true => {
            let wrong = AccountErrors::Profile {
                username: sent.username.as_deref(),
                email: sent.email.as_deref(),
                errors,
            };
            page(&app, &signed_in, refused.status(), "", wrong).await
        }
        false => Err(refused),
    }
}

async fn change_profile(
    app: &AppState,
    user: &User,
    address: IpAddr,
    sent: &Profile,
) -> Result<(), AppError> {
    let wrong = |field, says: String| AppError::InvalidFields(vec![(field, says)]);
    let invalid = |field| move |invalid: Invalid| wrong(field, invalid.to_string());
    let name = sent.username.as_deref().map(new_name).transpose();
    let name = name.map_err(invalid("username"))?;
    let email = sent.email.as_deref().map(Email::parse).transpose();
    let email = email.map_err(invalid("email"))?;
    if let Some(email) = email {
        // Counted like a sign-in: whoever finds an open browser guesses no faster than others.
        let login = Login::Username(user.username.key());
        let checked = check_password(app, Some(login), address, &sent.current).await?;
        if checked.is_none_or(|account| account.user.id != user.id) {
            return Err(wrong("current", NOT_YOUR_PASSWORD.to_owned()));
        }
        set(app.store.set_email(user.id, email).await)?;
    }
    let Some(name) = name.filter(|name| *name != user.username) else {
        return Ok(());
    };
    let limited = Limited::RenamesOf(user.id);
    if let Err(error) = app.limits.take(&limited).await {
        return Err(match error {
            RateLimited::TooMany(_) => wrong("username", RENAMED_TWICE.to_owned()),
            error => error.into(),
        });
    }
    let renamed = set(app.store.rename(user.id, name).await);
    if renamed.is_err() {
        app.limits.refund(&[limited]).await?;
    }
    renamed
}

/// With the field of a name or an address that somebody else has.
fn set(done: Result<(), StoreError>) -> Result<(), AppError> {
    done.map_err(|error| match error {
        StoreError::Taken(field) => AppError::InvalidFields(vec![taken(field)]),
        error => error.into(),
    })
}

const NOT_YOUR_PASSWORD: &str = "This is not your password.";

const RENAMED_TWICE: &str = "You can be called otherwise twice a month. Wait some days.";

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
    let not_yours = || vec![("current", NOT_YOUR_PASSWORD.to_owned())];
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
            page(
                &app,
                &signed_in,
                status,
                "",
                AccountErrors::Password(&refused),
            )
            .await
        }
        false => Err(AppError::InvalidFields(refused)),
    }
}

/// The end of an account, with the password, and what becomes of what was written.
#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Deletion {
    password: String,
    messages: String,
}

impl Input for Deletion {}

/// `POST /account/delete`: nobody signs in any more, and nothing of the account is left but what is said to stay.
pub(super) async fn delete(
    State(app): State<AppState>,
    ClientAddress(address): ClientAddress,
    format: ResponseFormat,
    cookies: SessionCookies,
    signed_in: SignedIn,
    Payload(sent): Payload<Deletion>,
) -> Result<Response, AppError> {
    let user = &signed_in.user;
    let refused = match erase(&app, user, address, &sent).await {
        Ok(()) => {
            let answer = match format {
                ResponseFormat::Page | ResponseFormat::Fragment => {
                    Redirect::to("/login").into_response()
                }
                _ => StatusCode::NO_CONTENT.into_response(),
            };
            return Ok((cookies.drop_token(), answer).into_response());
        }
        Err(refused) => refused,
    };
    if !format.is_html() {
        return Err(refused);
    }
    let errors = match &refused {
        AppError::InvalidFields(errors) => errors.clone(),
        AppError::LastAdmin => vec![("form", refused.detail())],
        _ => return Err(refused),
    };
    let wrong = AccountErrors::Deletion(&errors);
    page(&app, &signed_in, refused.status(), "", wrong).await
}

async fn erase(
    app: &AppState,
    user: &User,
    address: IpAddr,
    sent: &Deletion,
) -> Result<(), AppError> {
    let wrong = |field, says: String| AppError::InvalidFields(vec![(field, says)]);
    let messages = KeptMessages::parse(&sent.messages);
    let messages = messages.map_err(|invalid| wrong("messages", invalid.to_string()))?;
    // Counted like a sign-in: whoever finds an open browser guesses no faster than others.
    let login = Login::Username(user.username.key());
    let checked = check_password(app, Some(login), address, &sent.password).await?;
    if checked.is_none_or(|account| account.user.id != user.id) {
        return Err(wrong("password", NOT_YOUR_PASSWORD.to_owned()));
    }
    Ok(app.store.erase(user.id, messages).await?)
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
