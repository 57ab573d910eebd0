//! Extractors that guard: a handler that takes one runs only for users who may be there.

use std::time::Instant;

use axum::extract::{FromRequestParts, OptionalFromRequestParts, RawPathParams};
use axum::http::request::Parts;

use super::cookies::SessionCookies;
use super::device::Device;
use super::query::Query;
use crate::auth::headers;
use crate::auth::token::{Claims, Verified};
use crate::domain::{Posting, RoomId, Seq, Session, User, UserId};
use crate::error::{AppError, ReadOnly};
use crate::in_flight::Ticket;
use crate::limits::Limited;
use crate::state::AppState;
use crate::store::Relation;

/// Somebody with a live session; whoever the address says, where it says (`as=` and a user's id).
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
        let claims = claims(parts, app).ok_or(AppError::SignedOut)?;
        let (session, user) = app
            .store
            .find_session(claims.sid)
            .await?
            .filter(|(session, _)| session.user == claims.sub)
            .ok_or(AppError::SignedOut)?;
        if let Some(ticket) = parts.extensions.get::<Ticket>() {
            ticket.admit(user.id)?;
        }
        if app.noted_sessions.is_due(session.id, Instant::now()) {
            let (app, id) = (app.clone(), session.id);
            let Ok(device) = Device::from_request_parts(parts, &app).await;
            // Nobody waits for it, and it is tried again later.
            tokio::spawn(async move { app.store.note_seen(id, &device.address).await });
        }
        // A page of somebody who has signed out meanwhile must not speak for who signed in since.
        let Ok(query) = Query::from_request_parts(parts, app).await;
        if query
            .find("as")
            .is_some_and(|made_for| made_for != user.id.to_string())
        {
            return Err(AppError::SignedOut);
        }
        Ok(Self { user, session })
    }
}

/// The claims of the first token of ours, in the header that programs use or in the cookie. Tokens that
/// proxies and other applications put there are passed over.
fn claims(parts: &Parts, app: &AppState) -> Option<Claims> {
    let tokens = headers::bearers(&parts.headers).chain(SessionCookies::token(parts, app));
    for token in tokens {
        match app.keys.verify(token) {
            Verified::Live(claims) => return Some(claims),
            Verified::Over => return None,
            Verified::NotOurs => {}
        }
    }
    None
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

/// The room of the path, whether there is one or not.
pub(super) struct RoomPath(pub(super) RoomId);

impl<S: Send + Sync> FromRequestParts<S> for RoomPath {
    type Rejection = AppError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, AppError> {
        let path = RawPathParams::from_request_parts(parts, state)
            .await
            .map_err(|_| AppError::NotFound)?;
        let room = path.iter().find(|(name, _)| *name == "room");
        room.and_then(|(_, raw)| RoomId::known(raw).ok())
            .map(Self)
            .ok_or(AppError::NotFound)
    }
}

/// Somebody who is in the room of the path.
pub(super) struct RoomMember {
    pub(super) signed_in: SignedIn,
    pub(super) room: RoomId,
    /// How far they have read it.
    pub(super) read: Seq,
}

impl RoomMember {
    /// Looks session and membership up again: either may have ended meanwhile.
    pub(super) async fn is_still(&self, app: &AppState) -> Result<(), AppError> {
        if !self.signed_in.is_still(app).await? {
            return Err(AppError::SignedOut);
        }
        let (room, user) = (&self.room, &self.signed_in.user);
        match app.store.relation(room, user).await? {
            Relation::Member { .. } => Ok(()),
            relation => Err(no_member(relation, room.clone(), user.clone())),
        }
    }
}

/// The refusal for everybody who is no member of a room.
fn no_member(relation: Relation, room: RoomId, user: User) -> AppError {
    match relation {
        Relation::Banned => AppError::Banned,
        relation => AppError::NotMember {
            room,
            exists: relation != Relation::NoRoom,
            user,
        },
    }
}

/// The refusal, after it is counted: guessing which rooms there are is slow.
async fn refused(app: &AppState, relation: Relation, room: RoomId, user: User) -> AppError {
    match app.limits.take(&Limited::MissesOf(user.id)).await {
        Ok(()) => no_member(relation, room, user),
        Err(limited) => limited.into(),
    }
}

impl FromRequestParts<AppState> for RoomMember {
    type Rejection = AppError;

    async fn from_request_parts(parts: &mut Parts, app: &AppState) -> Result<Self, AppError> {
        let signed_in =
            <SignedIn as FromRequestParts<AppState>>::from_request_parts(parts, app).await?;
        let RoomPath(room) = RoomPath::from_request_parts(parts, app).await?;
        match app.store.relation(&room, &signed_in.user).await? {
            Relation::Member { read } => Ok(Self {
                signed_in,
                room,
                read,
            }),
            relation => Err(refused(app, relation, room, signed_in.user).await),
        }
    }
}

/// Whether somebody decides about a room now: an owner, or an admin where it is no conversation.
pub(super) async fn decides(app: &AppState, room: &RoomId, user: UserId) -> Result<bool, AppError> {
    let is_owner = app.store.owners(room).await?.contains(&user);
    Ok(is_owner || administers(app, room, user).await?)
}

async fn administers(app: &AppState, room: &RoomId, user: UserId) -> Result<bool, AppError> {
    Ok(!room.is_direct() && is_admin(app, user).await?)
}

/// Whether somebody is an admin now.
pub(super) async fn is_admin(app: &AppState, user: UserId) -> Result<bool, AppError> {
    let account = app.store.account(user).await?;
    Ok(account.is_some_and(|account| account.is_admin()))
}

/// Somebody who may see who is in the room of the path, and its settings: a member, or an admin.
pub(super) struct RoomViewer {
    pub(super) user: User,
    pub(super) room: RoomId,
    /// Whether they decide about it.
    pub(super) decides: bool,
}

impl FromRequestParts<AppState> for RoomViewer {
    type Rejection = AppError;

    async fn from_request_parts(parts: &mut Parts, app: &AppState) -> Result<Self, AppError> {
        let signed_in =
            <SignedIn as FromRequestParts<AppState>>::from_request_parts(parts, app).await?;
        let RoomPath(room) = RoomPath::from_request_parts(parts, app).await?;
        viewer_of(app, signed_in.user, room).await
    }
}

/// The same of a room that stands elsewhere.
pub(super) async fn viewer_of(
    app: &AppState,
    user: User,
    room: RoomId,
) -> Result<RoomViewer, AppError> {
    let relation = app.store.relation(&room, &user).await?;
    let is_member = matches!(relation, Relation::Member { .. });
    let decides = match is_member {
        true => decides(app, &room, user.id).await?,
        // Of a hidden room, too, of which others hear nothing.
        false => {
            administers(app, &room, user.id).await? && app.store.settings(&room).await?.is_some()
        }
    };
    match is_member || decides {
        true => Ok(RoomViewer {
            user,
            room,
            decides,
        }),
        false => Err(refused(app, relation, room, user).await),
    }
}

/// Somebody who decides about the room of the path, and does so now: it is counted.
pub(super) struct RoomOwner {
    pub(super) user: User,
    pub(super) room: RoomId,
}

impl FromRequestParts<AppState> for RoomOwner {
    type Rejection = AppError;

    async fn from_request_parts(parts: &mut Parts, app: &AppState) -> Result<Self, AppError> {
        let viewer = RoomViewer::from_request_parts(parts, app).await?;
        let RoomViewer {
            user,
            room,
            decides,
        } = viewer;
        if !decides {
            return Err(AppError::NotOwner);
        }
        app.limits.take(&Limited::JoinsOf(user.id)).await?;
        Ok(Self { user, room })
    }
}

/// An admin of this server.
pub(super) struct Admin(pub(super) User);

impl FromRequestParts<AppState> for Admin {
    type Rejection = AppError;

    async fn from_request_parts(parts: &mut Parts, app: &AppState) -> Result<Self, AppError> {
        let signed_in =
            <SignedIn as FromRequestParts<AppState>>::from_request_parts(parts, app).await?;
        match is_admin(app, signed_in.user.id).await? {
            true => Ok(Self(signed_in.user)),
            false => Err(AppError::NotAdmin),
        }
    }
}

/// Why somebody may not write in a room; `None` when they may.
pub(super) async fn read_only(
    app: &AppState,
    room: &RoomId,
    user: UserId,
) -> Result<Option<ReadOnly>, AppError> {
    let settings = app.store.kept_settings(room).await?;
    let is_for_owners = settings.posting == Posting::Owners;
    Ok(match settings.is_archived {
        true => Some(ReadOnly::Archived),
        false if is_for_owners && !decides(app, room, user).await? => Some(ReadOnly::OwnersWrite),
        false => None,
    })
}
