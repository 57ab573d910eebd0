//! Memberships: leaving a room, and what its owners decide about who is in it.

use axum::extract::{FromRequestParts, RawPathParams, State};
use axum::http::request::Parts;
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;

use super::accounts::called;
use super::extract::{RoomMember, RoomOwner, RoomPath, SignedIn};
use super::form::{Input, Payload, on};
use super::respond::{ResponseFormat, done};
use super::seen::Seeing;
use crate::domain::{Act, AuditEntry, Invalid, Level, Role, RoomId, User};
use crate::error::{AppError, exists};
use crate::limits::Limited;
use crate::state::AppState;
use crate::store::audited;

/// `POST /rooms/{room}/leave`: its sender is no member from here on, also if they were none.
pub(super) async fn leave(
    State(app): State<AppState>,
    format: ResponseFormat,
    SignedIn { user, .. }: SignedIn,
    RoomPath(room): RoomPath,
    seeing: Seeing,
) -> Result<Response, AppError> {
    if room.is_direct() {
        return Err(
            Invalid("A conversation is its people’s for good. You need not read it.").into(),
        );
    }
    app.limits.take(&Limited::JoinsOf(user.id)).await?;
    let left = app.store.leave(&room, &user).await?;
    let response = done(&Method::POST, format, "/rooms");
    Ok((seeing.having_shown(&room, left), response).into_response())
}

/// The level that somebody chooses.
#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct NewLevel {
    level: String,
}

impl Input for NewLevel {
    const RAW: Option<&'static str> = Some("level");
}

/// `POST /rooms/{room}/level`: chooses what of the room counts as unread to a member.
pub(super) async fn set_level(
    State(app): State<AppState>,
    format: ResponseFormat,
    member: RoomMember,
    Payload(sent): Payload<NewLevel>,
) -> Result<Response, AppError> {
    let (user, room) = (&member.signed_in.user, &member.room);
    let level = Level::parse(&sent.level)?;
    app.limits.take(&Limited::ReadingOf(user.id)).await?;
    app.store.set_level(room, user.id, level).await?;
    Ok(done(&Method::POST, format, &format!("/rooms/{room}")))
}

/// The person of the path, about whom an owner of its room decides.
pub(super) struct Target {
    owner: User,
    room: RoomId,
    user: User,
}

impl FromRequestParts<AppState> for Target {
    type Rejection = AppError;

    async fn from_request_parts(parts: &mut Parts, app: &AppState) -> Result<Self, AppError> {
        let RoomOwner { user: owner, room } = RoomOwner::from_request_parts(parts, app).await?;
        let path = RawPathParams::from_request_parts(parts, app)
            .await
            .map_err(|_| AppError::NotFound)?;
        let name = path.iter().find(|(name, _)| *name == "username");
        let (_, name) = name.ok_or(AppError::NotFound)?;
        let user = called(app, name).await?.ok_or(NOBODY)?;
        Ok(Self { owner, room, user })
    }
}

const NOBODY: AppError = AppError::NotFound;

impl Target {
    fn entry(&self, act: Act) -> AuditEntry {
        let entry = AuditEntry::new(Some(&self.owner), act);
        entry.about(&self.user).in_room(&self.room)
    }

    fn done(&self, method: &Method, format: ResponseFormat) -> Response {
        done(method, format, &format!("/rooms/{}/people", self.room))
    }
}

/// The role that somebody is given.
#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct NewRole {
    pub(super) role: String,
}

impl Input for NewRole {
    const RAW: Option<&'static str> = Some("role");
}

/// `POST /rooms/{room}/people/{username}/role`.
pub(super) async fn set_role(
    State(app): State<AppState>,
    method: Method,
    format: ResponseFormat,
    target: Target,
    Payload(sent): Payload<NewRole>,
) -> Result<Response, AppError> {
    let role = Role::parse(&sent.role)?;
    let set = exists(app.store.set_role(&target.room, target.user.id, role));
    let entry = target.entry(Act::SetRoomRole).with(role.as_str());
    audited(&*app.store, entry, set).await?;
    Ok(target.done(&method, format))
}

/// `POST /rooms/{room}/people/{username}/remove`, or `DELETE` without the last part.
pub(super) async fn remove(
    State(app): State<AppState>,
    method: Method,
    format: ResponseFormat,
    target: Target,
    seeing: Seeing,
) -> Result<Response, AppError> {
    let Target { owner, room, user } = &target;
    let left = match user.id == owner.id {
        true => app.store.leave(room, user).await?,
        false => {
            let entry = target.entry(Act::Remove);
            audited(&*app.store, entry, app.store.remove(room, owner, user)).await?
        }
    };
    let response = target.done(&method, format);
    Ok((seeing.having_shown(room, left), response).into_response())
}

/// Whether somebody is to be kept out.
#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Ban {
    on: String,
}

impl Input for Ban {
    const SCALARS: &'static [&'static str] = &["on"];
}

/// `POST /rooms/{room}/people/{username}/ban`: keeps them out, or with `on=0` lets them in again; as `PUT` and
/// `DELETE`, too.
pub(super) async fn ban(
    State(app): State<AppState>,
    method: Method,
    format: ResponseFormat,
    target: Target,
    seeing: Seeing,
    Payload(sent): Payload<Ban>,
) -> Result<Response, AppError> {
    let Target { owner, room, user } = &target;
    let is_on = match (&method, sent.on.trim()) {
        (&Method::PUT, _) => true,
        (&Method::DELETE, _) => false,
        (_, raw) => on(raw)?,
    };
    if is_on && user.id == owner.id {
        return Err(Invalid("You cannot keep yourself out. Leave the room instead.").into());
    }
    let left = if is_on {
        let entry = target.entry(Act::Ban);
        audited(&*app.store, entry, app.store.ban(room, owner, user)).await?
    } else {
        let entry = target.entry(Act::Unban);
        audited(&*app.store, entry, app.store.unban(room, user)).await?;
        0
    };
    let response = match method {
        Method::PUT => StatusCode::NO_CONTENT.into_response(),
        method => target.done(&method, format),
    };
    Ok((seeing.having_shown(room, left), response).into_response())
}
