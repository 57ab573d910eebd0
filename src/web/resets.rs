//! Resets: a link by which somebody who has forgotten their password chooses another.

use std::time::Duration;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use serde::Deserialize;
use serde_json::json;

use super::admin::Subject;
use super::client::ClientAddress;
use super::form::{Input, Payload};
use super::respond::{self, ResponseFormat};
use crate::auth::password::NewPassword;
use crate::config::Config;
use crate::domain::{Act, AuditEntry, Email, LinkSecret, Login, Reset, Timestamp, UserId};
use crate::error::AppError;
use crate::limits::{self, Limited};
use crate::mail::Mailer;
use crate::state::AppState;
use crate::store::{Resets, StoreError, audited};
use crate::views::{ForgotPage, ResetLinkPage, ResetPage, SentPage};

/// The life of a link.
const GOOD_FOR: Duration = Duration::from_hours(24);

/// Makes a link for somebody, once, in the place of any before. It is known to nobody else: the store has its hash.
///
/// # Errors
///
/// When the store cannot keep it.
pub async fn new_reset<S: Resets + ?Sized>(
    store: &S,
    config: &Config,
    user: UserId,
) -> Result<String, StoreError> {
    let secret = LinkSecret::new();
    let reset = Reset {
        secret_hash: secret.own_hash(),
        user,
        expires_at: Timestamp::now().after(GOOD_FOR),
    };
    store.add_reset(reset).await?;
    Ok(format!("{}/reset/{secret}", config.public_url))
}

/// `POST /admin/people/{username}/reset`: a link for somebody, shown once.
pub(super) async fn create(
    State(app): State<AppState>,
    format: ResponseFormat,
    Subject {
        admin: user,
        user: other,
    }: Subject,
) -> Result<Response, AppError> {
    let entry = AuditEntry::new(Some(&user), Act::Reset).about(&other);
    let making = new_reset(&*app.store, &app.config, other.id);
    let link = audited(&*app.store, entry, making).await?;
    Ok(match format {
        ResponseFormat::Page | ResponseFormat::Fragment => {
            let page = ResetLinkPage {
                user: &user,
                other: &other,
                link: &link,
            };
            respond::html(StatusCode::OK, &page)
        }
        ResponseFormat::Json | ResponseFormat::Ndjson => {
            respond::json(StatusCode::CREATED, &json!({ "link": link }))
        }
        ResponseFormat::Text => respond::text(StatusCode::CREATED, format!("{link}\n")),
    })
}

/// `GET /forgot`: asks for the address of the account whose password is forgotten.
pub(super) async fn forgot(State(app): State<AppState>) -> Response {
    let page = ForgotPage::of(app.mailer.is_some(), "", None);
    respond::html(StatusCode::OK, &page)
}

/// An address.
#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Forgotten {
    email: String,
}

impl Input for Forgotten {
    const RAW: Option<&'static str> = Some("email");
}

/// `POST /forgot`: sends a link there, if it is somebody's address. The answer is the same, at once, for any.
pub(super) async fn send(
    State(app): State<AppState>,
    ClientAddress(client): ClientAddress,
    format: ResponseFormat,
    Payload(sent): Payload<Forgotten>,
) -> Result<Response, AppError> {
    let Some(mailer) = app.mailer.clone() else {
        return Err(AppError::NoMail);
    };
    let email = match Email::parse(&sent.email) {
        Ok(email) => email,
        Err(invalid) if format.is_html() => {
            let why = invalid.to_string();
            let page = ForgotPage::of(true, &sent.email, Some(&why));
            return Ok(respond::html(StatusCode::UNPROCESSABLE_ENTITY, &page));
        }
        Err(invalid) => {
            return Err(AppError::in_field("email", invalid));
        }
    };
    let networks = limits::networks(client).into_iter();
    let mut counted: Vec<Limited> = networks.map(Limited::SignUpsFrom).collect();
    counted.push(Limited::LettersTo(email.key()));
    app.limits.take_all(&counted).await?;
    // In a task of its own, so that how long it takes says nothing either.
    tokio::spawn(async move {
        if let Err(error) = write_to(&app, &mailer, &email).await {
            tracing::warn!(?error, "cannot send a link to choose another password");
        }
    });
    Ok(match format {
        ResponseFormat::Page | ResponseFormat::Fragment => respond::html(StatusCode::OK, &SentPage),
        _ => StatusCode::NO_CONTENT.into_response(),
    })
}

async fn write_to(app: &AppState, mailer: &Mailer, email: &Email) -> anyhow::Result<()> {
    let account = app.store.find_account(&Login::Email(email.key())).await?;
    let Some(account) = account.filter(|account| !account.is_deactivated) else {
        return Ok(());
    };
    let link = new_reset(&*app.store, &app.config, account.user.id).await?;
    let (name, url) = (account.user.username.as_str(), &app.config.public_url);
    let text = format!(
        "Somebody, you perhaps, has forgotten the password of {name} at {url}.\n\n\
         Choose another one within 24 hours:\n\n{link}\n\n\
         If it was not you, do nothing: the password stays as it is.\n"
    );
    mailer
        .send(&account.email, "Choose another password", text)
        .await
}

/// `GET /reset/{secret}`: asks for another password, and spends nothing: programs that check mail follow links.
pub(super) async fn show(
    State(app): State<AppState>,
    Path(secret): Path<String>,
) -> Result<Response, AppError> {
    let user = app.store.reset_for(&LinkSecret::hash(&secret)).await?;
    let user = user.ok_or(AppError::ResetOver)?;
    let page = ResetPage::of(&user, &secret, None);
    Ok(respond::html(StatusCode::OK, &page))
}

/// The other password.
#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct NewOne {
    password: String,
}

impl Input for NewOne {
    const RAW: Option<&'static str> = Some("password");
}

/// `POST /reset/{secret}`: spends the link. All sessions of its user are over.
pub(super) async fn spend(
    State(app): State<AppState>,
    ClientAddress(client): ClientAddress,
    format: ResponseFormat,
    Path(secret): Path<String>,
    Payload(sent): Payload<NewOne>,
) -> Result<Response, AppError> {
    let secret_hash = LinkSecret::hash(&secret);
    let user = app.store.reset_for(&secret_hash).await?;
    let user = user.ok_or(AppError::ResetOver)?;
    let password = match NewPassword::parse(&sent.password) {
        Ok(password) => password,
        Err(invalid) if format.is_html() => {
            let why = invalid.to_string();
            let page = ResetPage::of(&user, &secret, Some(&why));
            return Ok(respond::html(StatusCode::UNPROCESSABLE_ENTITY, &page));
        }
        Err(invalid) => {
            return Err(AppError::in_field("password", invalid));
        }
    };
    // Each costs a hash.
    let counted: Vec<Limited> = limits::networks(client)
        .into_iter()
        .map(Limited::SignUpsFrom)
        .collect();
    app.limits.take_all(&counted).await?;
    let hash = app.hasher.hash(password).await?;
    let user = app.store.spend_reset(&secret_hash, &hash).await?;
    let user = user.ok_or(AppError::ResetOver)?;
    // Its owner gets in from here. The password is changed also where this cannot be noted.
    let _ = app.limits.trust_network(user.id, client).await;
    Ok(match format {
        ResponseFormat::Page | ResponseFormat::Fragment => Redirect::to("/login").into_response(),
        _ => StatusCode::NO_CONTENT.into_response(),
    })
}
