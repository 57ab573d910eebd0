//! People whom one does not want to hear from: they start no conversation, and what they write is folded.

use axum::extract::State;
use axum::http::{Method, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;

use super::accounts::called;
use super::extract::SignedIn;
use super::form::{Input, Payload, on};
use super::respond::{ResponseFormat, done};
use crate::domain::{Invalid, User};
use crate::error::AppError;
use crate::limits::Limited;
use crate::state::AppState;
use crate::store::BLOCKS_PER_USER_MAX;
use crate::views::folding_style_sheet;

/// Somebody, and whether they are to be blocked.
#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Block {
    username: String,
    on: String,
}

impl Input for Block {
    const RAW: Option<&'static str> = Some("username");
    const SCALARS: &'static [&'static str] = &["on"];
}

/// `POST /account/blocks`: blocks somebody, or with `on=0` does so no longer.
pub(super) async fn create(
    State(app): State<AppState>,
    format: ResponseFormat,
    SignedIn { user, .. }: SignedIn,
    Payload(sent): Payload<Block>,
) -> Result<Response, AppError> {
    app.limits.take(&Limited::JoinsOf(user.id)).await?;
    let is_on = on(&sent.on)?;
    let wrong = |says: &str| AppError::in_field("username", says);
    let whom = called(&app, &sent.username).await?;
    let whom = whom.ok_or_else(|| wrong("Nobody on this server is called so."))?;
    if whom.id == user.id {
        return Err(wrong("You cannot block yourself."));
    }
    if is_on && app.store.blocked_by(user.id).await?.len() >= BLOCKS_PER_USER_MAX {
        return Err(Invalid("You block 1,000 people, which is the most.").into());
    }
    app.store.set_block(user.id, whom.id, is_on).await?;
    Ok(done(&Method::POST, format, "/account?said=blocked#blocked"))
}

/// `GET /folded.css`: folds what those have written whom the reader blocks. Of nobody it is empty.
pub(super) async fn style_sheet(
    State(app): State<AppState>,
    signed_in: Option<SignedIn>,
) -> Result<Response, AppError> {
    let blocked = match &signed_in {
        Some(signed_in) => app.store.blocked_by(signed_in.user.id).await?,
        None => Vec::new(),
    };
    let content_type = [(header::CONTENT_TYPE, "text/css; charset=utf-8")];
    Ok((content_type, folding_style_sheet(&blocked)).into_response())
}

/// Why somebody starts no conversation with these people; `None` when nothing is in the way.
pub(super) async fn in_the_way(
    app: &AppState,
    user: &User,
    people: &[User],
) -> Result<Option<String>, AppError> {
    let others = people.iter().filter(|other| other.id != user.id);
    let ids: Vec<_> = others.clone().map(|other| other.id).collect();
    let blocking = app.store.blocking(&ids, user.id).await?;
    let named = |ids: &[crate::domain::UserId]| {
        let mut others = others.clone();
        let found = others.find(|other| ids.contains(&other.id));
        found.map(|other| other.username.as_str().to_owned())
    };
    if let Some(name) = named(&blocking) {
        return Ok(Some(format!("{name} takes no conversations from you.")));
    }
    let blocked = app.store.blocked_by(user.id).await?;
    let blocked: Vec<_> = blocked.iter().map(|other| other.id).collect();
    Ok(named(&blocked).map(|name| format!("You have blocked {name}. Unblock them first.")))
}
