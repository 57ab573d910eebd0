//! Read markers: how far somebody has read a room.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use serde::Deserialize;

use super::extract::RoomMember;
use super::form::{Input, Payload};
use crate::domain::{EventId, RoomId, Seq, User};
use crate::error::AppError;
use crate::limits::Limited;
use crate::state::AppState;

/// How far somebody has read.
#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct ReadMark {
    seq: String,
}

impl Input for ReadMark {}

/// `POST /rooms/{room}/read`: the reader has seen the log up to `seq`.
pub(super) async fn create(
    State(app): State<AppState>,
    RoomMember {
        signed_in, room, ..
    }: RoomMember,
    Payload(sent): Payload<ReadMark>,
) -> Result<StatusCode, AppError> {
    let seq = EventId::parse(&sent.seq)?;
    let seq = seq.within(app.store.epoch()).unwrap_or(0);
    app.limits
        .take(&Limited::ReadingOf(signed_in.user.id))
        .await?;
    app.store.mark_read(&room, &signed_in.user, seq).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Notes what an answer shows. Beside the answer and not before it: reading works while nothing can be
/// written.
pub(super) fn note_read(app: &AppState, room: &RoomId, user: &User, seq: Seq) {
    let (store, room, user) = (Arc::clone(&app.store), room.clone(), user.clone());
    tokio::spawn(async move {
        if let Err(error) = store.mark_read(&room, &user, seq).await {
            tracing::warn!(%room, ?error, "cannot note what was read");
        }
    });
}
