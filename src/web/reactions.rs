//! Reactions to messages. They are put on and taken off, never toggled, so doing either again does nothing.

use axum::extract::{Path, State};
use axum::http::Method;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;

use super::form::{Input, Payload, flag};
use super::message::Target;
use super::respond::{ResponseFormat, done};
use super::seen::Seeing;
use crate::domain::{Emoji, NewChange};
use crate::error::AppError;
use crate::state::AppState;

/// A reaction as a form has it.
#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct NewReaction {
    emoji: String,
    /// `1`, which it also is when it is not sent, or `0`.
    on: String,
}

impl Input for NewReaction {
    const RAW: Option<&'static str> = Some("emoji");
    const SCALARS: &'static [&'static str] = &["on"];
}

/// The emoji of the path.
#[derive(Deserialize)]
pub(super) struct EmojiPath {
    emoji: String,
}

/// `POST /rooms/{room}/messages/{seq}/reactions`.
pub(super) async fn create(
    State(app): State<AppState>,
    asked: Asked,
    Payload(sent): Payload<NewReaction>,
) -> Result<Response, AppError> {
    let on = match sent.on.as_str() {
        "" => true,
        on => flag(on, "on is 1 or 0.")?,
    };
    react(&app, asked, &sent.emoji, on).await
}

/// `PUT /rooms/{room}/messages/{seq}/reactions/{emoji}`, or `DELETE`.
pub(super) async fn update(
    State(app): State<AppState>,
    asked: Asked,
    Path(EmojiPath { emoji }): Path<EmojiPath>,
) -> Result<Response, AppError> {
    let on = asked.0 == Method::PUT;
    react(&app, asked, &emoji, on).await
}

/// A reaction's message, and how its sender is answered.
type Asked = (Method, ResponseFormat, Target, Seeing);

async fn react(
    app: &AppState,
    (method, format, target, seeing): Asked,
    emoji: &str,
    on: bool,
) -> Result<Response, AppError> {
    let emoji = Emoji::parse(emoji)?;
    target.count(app).await?;
    let (seq, _) = target.change(app, NewChange::React { emoji, on }).await?;
    let response = done(&method, format, &target.path(app));
    Ok((seeing.having_shown(&target.room, seq), response).into_response())
}
