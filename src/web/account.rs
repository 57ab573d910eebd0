//! One's own account: what it is, its password, and its sessions.

use std::net::IpAddr;

use axum::extract::{Path, State};
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Redirect, Response};
use serde::{Deserialize, Serialize};

use super::accounts::{count_sign_up, new_name, taken};
use super::client::ClientAddress;
use super::cookies::SessionCookies;
use super::extract::SignedIn;
use super::form::{Input, Payload, given};
use super::query::Query;
use super::respond::{self, ResponseFormat, done};
use super::sessions::check_password;
use crate::auth::password::NewPassword;
use crate::domain::{
    Account, AccountRole, Email, KeptMessages, Login, PasswordChange, ProfileChange, SeenSession,
    SessionId, Timestamp, User, Username,
};
use crate::error::AppError;
use crate::limits::Limited;
use crate::state::AppState;
use crate::store::StoreError;
use crate::views::{AccountForm, AccountPage, RefusedForm};

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
            page(&app, &signed_in, said, None).await
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

/// The page, with a line about what was just done, or the form that was refused.
async fn page(
    app: &AppState,
    signed_in: &SignedIn,
    said: &str,
    refused: Option<(&AppError, RefusedForm<'_>)>,
) -> Result<Response, AppError> {
    let account = app.store.account(signed_in.user.id).await?;
    let account = account.ok_or(AppError::SignedOut)?;
    let sessions = app.store.sessions_of(account.user.id).await?;
    let blocked = app.store.blocked_by(account.user.id).await?;
    let sessions = (&*sessions, signed_in.session.id);
    let form = refused.map(|(_, form)| form);
    let page = AccountPage::of(&account, sessions, &blocked, said, form);
    Ok(match refused {
        Some((error, _)) => respond::html_error(error, &page),
        None => respond::html(StatusCode::OK, &page),
    })
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
    if !format.is_html() {
        return Err(refused);
    }
    let errors = match &refused {
        AppError::InvalidFields(errors) => errors.clone(),
        AppError::TooMany { .. } if sent.email.is_none() => {
            vec![("username", RENAMED_TWICE.to_owned())]
        }
        AppError::TooMany { .. } => vec![("email", refused.detail())],
        _ => return Err(refused),
    };
    let form = RefusedForm {
        username: sent.username.as_deref(),
        email: sent.email.as_deref(),
        ..RefusedForm::of(AccountForm::Profile, &errors)
    };
    page(&app, &signed_in, "", Some((&refused, form))).await
}

async fn change_profile(
    app: &AppState,
    user: &User,
    address: IpAddr,
    sent: &Profile,
) -> Result<(), AppError> {
    let username = sent.username.as_deref().map(new_name).transpose();
    let username = username.map_err(|it| AppError::in_field("username", it))?;
    let username = username.filter(|name| *name != user.username);
    let email = sent.email.as_deref().map(Email::parse).transpose();
    let email = email.map_err(|it| AppError::in_field("email", it))?;
    if email.is_some() {
        prove(app, user, address, ("current", &sent.current)).await?;
        // As at a sign-up: the answer says whether there is an account with this address.
        count_sign_up(app, address).await?;
    }
    let renames = username.is_some().then_some(Limited::RenamesOf(user.id));
    if let Some(renames) = &renames {
        app.limits.take(renames).await?;
    }
    let change = ProfileChange { username, email };
    let set = app.store.set_profile(user.id, change).await;
    if set.is_err() {
        app.limits.refund(renames.as_slice()).await?;
    }
    match set {
        Ok(true) => Ok(()),
        Ok(false) => Err(AppError::SignedOut),
        Err(StoreError::Taken(field)) => Err(AppError::InvalidFields(vec![taken(field)])),
        Err(error) => Err(error.into()),
    }
}

/// The user's account, if what was typed in a field is its password. Counted like a sign-in: whoever finds an open
/// browser guesses no faster than others.
async fn prove(
    app: &AppState,
    user: &User,
    address: IpAddr,
    (field, typed): (&'static str, &str),
) -> Result<Account, AppError> {
    let login = Login::Username(user.username.key());
    let account = check_password(app, Some(login), address, typed).await?;
    let own = account.filter(|account| account.user.id == user.id);
    own.ok_or_else(|| AppError::in_field(field, NOT_YOUR_PASSWORD))
}

const RENAMED_TWICE: &str = "You can be called otherwise twice a month. Wait some days.";

const NOT_YOUR_PASSWORD: &str = "This is not your password.";

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
    let refused = match change_password(&app, &signed_in, address, &sent).await {
        Ok(()) => {
            return Ok(match format {
                ResponseFormat::Page | ResponseFormat::Fragment => {
                    Redirect::to("/account?said=password").into_response()
                }
                _ => StatusCode::NO_CONTENT.into_response(),
            });
        }
        Err(refused) => refused,
    };
    match &refused {
        AppError::InvalidFields(errors) if format.is_html() => {
            let form = RefusedForm::of(AccountForm::Password, errors);
            page(&app, &signed_in, "", Some((&refused, form))).await
        }
        _ => Err(refused),
    }
}

async fn change_password(
    app: &AppState,
    SignedIn { user, session }: &SignedIn,
    address: IpAddr,
    sent: &PasswordForm,
) -> Result<(), AppError> {
    let account = prove(app, user, address, ("current", &sent.current)).await?;
    let password = NewPassword::parse(&sent.password);
    let password = password.map_err(|it| AppError::in_field("password", it))?;
    let change = PasswordChange {
        user: user.id,
        from: account.password_hash,
        to: app.hasher.hash(password).await?,
        but: session.id,
    };
    match app.store.set_password(change).await? {
        true => Ok(()),
        // It was until a moment ago.
        false => Err(AppError::in_field("current", NOT_YOUR_PASSWORD)),
    }
}

/// The deletion of an account: its password, and whether the messages are kept.
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
    let form = RefusedForm {
        messages: sent.messages.trim(),
        ..RefusedForm::of(AccountForm::Deletion, &errors)
    };
    page(&app, &signed_in, "", Some((&refused, form))).await
}

async fn erase(
    app: &AppState,
    user: &User,
    address: IpAddr,
    sent: &Deletion,
) -> Result<(), AppError> {
    let messages = KeptMessages::parse(&sent.messages);
    let messages = messages.map_err(|it| AppError::in_field("messages", it))?;
    prove(app, user, address, ("password", &sent.password)).await?;
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
