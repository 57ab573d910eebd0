//! Deleting a room, whose owner types its id to say that they mean it.

use axum::extract::State;
use axum::http::{Method, StatusCode};
use axum::response::Response;
use serde::Deserialize;

use super::extract::RoomOwner;
use super::form::{Input, Payload};
use super::respond::{self, ResponseFormat, done};
use super::room_settings::level_of;
use super::seen::Seeing;
use crate::domain::{Act, AuditEntry};
use crate::error::{AppError, exists};
use crate::state::AppState;
use crate::store::audited;
use crate::views::RoomSettingsPage;

/// The id of the room that is meant.
#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Deletion {
    confirm: String,
}

impl Input for Deletion {
    const RAW: Option<&'static str> = Some("confirm");
}

/// `POST /rooms/{room}/delete`, by an owner: everything of it is gone.
pub(super) async fn create(
    State(app): State<AppState>,
    format: ResponseFormat,
    RoomOwner { user, room }: RoomOwner,
    seeing: Seeing,
    Payload(sent): Payload<Deletion>,
) -> Result<Response, AppError> {
    if !sent.confirm.trim().eq_ignore_ascii_case(room.as_str()) {
        let why = format!("To delete this room, type its id here: {room}");
        if !format.is_html() {
            return Err(AppError::in_field("confirm", why));
        }
        let settings = app.store.settings(&room).await?.unwrap_or_default();
        let level = level_of(&app, &user, &room, &seeing).await?;
        let mut page = RoomSettingsPage::of(&user, &room, &settings, true, level);
        page.form.is_second = true;
        page.not_deleted = Some((&sent.confirm, &why));
        return Ok(respond::html(StatusCode::UNPROCESSABLE_ENTITY, &page));
    }
    let entry = AuditEntry::new(Some(&user), Act::DeleteRoom).in_room(&room);
    audited(&*app.store, entry, exists(app.store.delete_room(&room))).await?;
    Ok(done(&Method::POST, format, "/rooms"))
}
