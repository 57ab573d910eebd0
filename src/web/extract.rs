//! Guards: a handler that takes one of these runs only for who may be there.

use axum::extract::{FromRequestParts, OptionalFromRequestParts, RawPathParams};
use axum::http::header;
use axum::http::request::Parts;
use tower_cookies::Cookies;

use super::sessions::cookie_name;
use crate::domain::{RoomId, Seq, Session, User};
use crate::error::AppError;
use crate::state::AppState;
use crate::store::Access;

/// Somebody with a live session.
pub(super) struct SignedIn {
    pub(super) user: User,
    pub(super) session: Session,
}

impl SignedIn {
    /// Looks the session up again: it may have been revoked meanwhile.
    pub(super) async fn is_still(&self, app: &AppState) -> Result<bool, AppError> {
        Ok(app.store.find_session(self.session.id).await?.is_some())
    }
}

impl FromRequestParts<AppState> for SignedIn {
    type Rejection = AppError;

    async fn from_request_parts(parts: &mut Parts, app: &AppState) -> Result<Self, AppError> {
        let token = match bearer(parts) {
            Some(token) => token.to_owned(),
            None => {
                let cookies = parts.extensions.get::<Cookies>();
                let cookie = cookies.and_then(|all| all.get(cookie_name(&app.config)));
                cookie.ok_or(AppError::SignedOut)?.value().to_owned()
            }
        };
        let claims = app.keys.verify(&token).ok_or(AppError::SignedOut)?;
        let (session, user) = app
            .store
            .find_session(claims.sid)
            .await?
            .filter(|(session, _)| session.user == claims.sub)
            .ok_or(AppError::SignedOut)?;
        Ok(Self { user, session })
    }
}

impl OptionalFromRequestParts<AppState> for SignedIn {
    type Rejection = AppError;

    async fn from_request_parts(
        parts: &mut Parts,
        app: &AppState,
    ) -> Result<Option<Self>, AppError> {
        match <Self as FromRequestParts<AppState>>::from_request_parts(parts, app).await {
            Ok(signed_in) => Ok(Some(signed_in)),
            Err(AppError::SignedOut) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

fn bearer(parts: &Parts) -> Option<&str> {
    let value = parts.headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme
        .eq_ignore_ascii_case("bearer")
        .then_some(token.trim())
}

/// Somebody who is in the room of the path.
pub(super) struct RoomMember {
    pub(super) signed_in: SignedIn,
    pub(super) room: RoomId,
    /// How far they have read it.
    pub(super) read: Seq,
}

impl FromRequestParts<AppState> for RoomMember {
    type Rejection = AppError;

    async fn from_request_parts(parts: &mut Parts, app: &AppState) -> Result<Self, AppError> {
        let signed_in =
            <SignedIn as FromRequestParts<AppState>>::from_request_parts(parts, app).await?;
        let path = RawPathParams::from_request_parts(parts, app)
            .await
            .map_err(|_| AppError::NotFound)?;
        let room = path
            .iter()
            .find(|(name, _)| *name == "room")
            .and_then(|(_, raw)| RoomId::parse(raw).ok())
            .ok_or(AppError::NotFound)?;
        let access = app.store.access(&room, &signed_in.user).await?;
        match access {
            Access::Member { read } => Ok(Self {
                signed_in,
                room,
                read,
            }),
            Access::Outside | Access::NoRoom => Err(AppError::Outside {
                room,
                exists: access == Access::Outside,
                user: signed_in.user,
            }),
        }
    }
}
