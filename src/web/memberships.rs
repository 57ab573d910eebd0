//! Memberships: leaving a room.

use axum::extract::State;
use axum::http::Method;
use axum::response::{IntoResponse, Response};

use super::extract::{RoomPath, SignedIn};
use super::message::done;
use super::respond::ResponseFormat;
use super::seen::Seeing;
use crate::error::AppError;
use crate::limits::Limited;
use crate::state::AppState;

/// `POST /rooms/{room}/leave`: its sender is no member from here on, also if they were none.
pub(super) async fn leave(
    State(app): State<AppState>,
    format: ResponseFormat,
    SignedIn { user, .. }: SignedIn,
    RoomPath(room): RoomPath,
    seeing: Seeing,
) -> Result<Response, AppError> {
    app.limits.take(&Limited::JoinsOf(user.id)).await?;
    let left = app.store.leave(&room, &user).await?;
    let response = done(&Method::POST, format, "/rooms");
    Ok((seeing.having_shown(&room, left), response).into_response())
}
