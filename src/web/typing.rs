//! Typing: telling a room's subscribers who is.

use axum::extract::State;
use axum::http::StatusCode;

use super::extract::{RoomMember, read_only};
use crate::error::AppError;
use crate::limits::Limited;
use crate::state::AppState;

/// `POST /rooms/{room}/typing`: tells who follows the room.
pub(super) async fn create(
    State(app): State<AppState>,
    RoomMember {
        signed_in, room, ..
    }: RoomMember,
) -> Result<StatusCode, AppError> {
    let user = &signed_in.user;
    app.limits.take(&Limited::TypingOf(user.id)).await?;
    if read_only(&app, &room, user.id).await?.is_none() {
        app.hub.types(&room, user);
    }
    Ok(StatusCode::NO_CONTENT)
}
