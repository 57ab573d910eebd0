//! Coming by an invitation: what it says, and making use of it.

use axum::extract::{Path, State};
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Redirect, Response};
use serde::Serialize;

use super::accounts::{self, Arrival, Door, SignUp};
use super::extract::SignedIn;
use super::form::Payload;
use super::invites;
use super::respond::{self, ResponseFormat, done, entered};
use super::seen::Seeing;
use crate::domain::{Guest, RoomId, Timestamp, Username};
use crate::error::AppError;
use crate::limits::Limited;
use crate::state::AppState;
use crate::store::Relation;
use crate::views::JoinPage;

/// An invitation as JSON, for people with its secret.
#[derive(Serialize)]
struct Shape<'a> {
    by: Option<&'a Username>,
    room: Option<&'a RoomId>,
    /// The room's name, or its id.
    title: Option<&'a str>,
    expires_at: Timestamp,
}

/// `GET /join/{secret}`: the person who invites, and the place. It spends nothing: programs that check mail follow
/// links.
pub(super) async fn show(
    State(app): State<AppState>,
    format: ResponseFormat,
    signed_in: Option<SignedIn>,
    Path(secret): Path<String>,
) -> Result<Response, AppError> {
    let invite = invites::find(&app, &secret).await?;
    let invite = invite.ok_or(AppError::InviteOver)?;
    // Its page again, perhaps, of somebody who has entered with it.
    if let (Some(SignedIn { user, .. }), Some(room)) = (&signed_in, &invite.room)
        && format.is_html()
        && let Relation::Member { .. } = app.store.relation(room, user).await?
    {
        return Ok(Redirect::to(&format!("/rooms/{room}")).into_response());
    }
    if !invite.is_good() {
        return Err(AppError::InviteOver);
    }
    let action = format!("/join/{secret}");
    if !format.is_html() {
        let (room, expires_at) = (invite.room.clone(), invite.expires_at);
        let invited = invites::in_words(&app, invite).await?;
        return Ok(match format {
            ResponseFormat::Text => respond::text(StatusCode::OK, format!("{}\n", invited.says())),
            _ => {
                let shape = Shape {
                    by: invited.by.as_ref(),
                    room: room.as_ref(),
                    title: invited.room.as_deref(),
                    expires_at,
                };
                respond::json(StatusCode::OK, &shape)
            }
        });
    }
    let Some(SignedIn { user, .. }) = signed_in else {
        let door = Door {
            action: &action,
            invite: &secret,
        };
        return accounts::show(&app, &door).await;
    };
    let page = JoinPage {
        user: &user,
        action: &action,
        has_room: invite.room.is_some(),
        invited: &invites::in_words(&app, invite).await?,
    };
    Ok(respond::html(StatusCode::OK, &page))
}

/// `POST /join/{secret}`: makes an account, or has somebody who is signed in enter the room.
pub(super) async fn create(
    State(app): State<AppState>,
    format: ResponseFormat,
    signed_in: Option<SignedIn>,
    arrival: Arrival,
    seeing: Seeing,
    Path(secret): Path<String>,
    Payload(sent): Payload<SignUp>,
) -> Result<Response, AppError> {
    let Some(SignedIn { user, .. }) = signed_in else {
        let door = Door {
            action: &format!("/join/{secret}"),
            invite: &secret,
        };
        return accounts::sign_up(&app, arrival, &sent, &door).await;
    };
    app.limits.take(&Limited::JoinsOf(user.id)).await?;
    let invite = invites::find(&app, &secret).await?;
    let invite = invite.ok_or(AppError::InviteOver)?;
    let Some(room) = invite.room else {
        if !invite.is_good() {
            return Err(AppError::InviteOver);
        }
        return Ok(done(&Method::POST, format, "/rooms"));
    };
    let spent = app
        .store
        .spend_invite(&invite.secret_hash, Guest::User(user));
    let seen = seeing.having_shown(&room, spent.await?);
    Ok((seen, entered(format, &room)).into_response())
}
