//! The download of one's own data.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use serde::Serialize;

use super::extract::SignedIn;
use super::room_labels::RoomLabels;
use super::seen::Seeing;
use crate::domain::{AccountRole, Event, Level, User, UserId, Username};
use crate::error::AppError;
use crate::json::to_string;
use crate::limits::Limited;
use crate::state::AppState;
use crate::store::{LogPlace, StoreError};

/// `GET /account/export`: one's account, rooms and blocks, and all messages one has written, a line of JSON each.
pub(super) async fn show(
    State(app): State<AppState>,
    SignedIn { user, .. }: SignedIn,
    seeing: Seeing,
) -> Result<Response, AppError> {
    app.limits.take(&Limited::JoinsOf(user.id)).await?;
    let account = app.store.account(user.id).await?;
    let account = account.ok_or(AppError::SignedOut)?;
    let mut lines = line(&Record::Account {
        id: user.id,
        username: &account.user.username,
        email: account.email.as_str(),
        role: account.role,
    });
    for other in &app.store.blocked_by(user.id).await? {
        lines += &line(&Record::Blocked { user: other });
    }
    for room in &*app.store.rooms_of(&user, &seeing.freshness()).await? {
        lines += &line(&Record::Room {
            labels: RoomLabels::of(&room.room, &room.settings),
            level: room.level,
        });
    }
    let headers = [
        (header::CONTENT_TYPE, "application/x-ndjson"),
        (
            header::CONTENT_DISPOSITION,
            "attachment; filename=\"parlor-account.ndjson\"",
        ),
    ];
    let messages = Messages {
        app,
        author: user.id,
        next: Next::First(lines),
    };
    let body = Body::from_stream(stream::try_unfold(messages, Messages::piece));
    Ok((headers, body).into_response())
}

/// A line.
#[derive(Serialize)]
#[serde(tag = "record", rename_all = "lowercase")]
enum Record<'a> {
    Account {
        id: UserId,
        username: &'a Username,
        email: &'a str,
        role: AccountRole,
    },
    /// Somebody whom one has blocked.
    Blocked { user: &'a User },
    /// A room that one is in.
    Room {
        #[serde(flatten)]
        labels: RoomLabels<'a>,
        level: Level,
    },
    /// A message of one's own.
    Message { message: &'a Event },
}

fn line(record: &Record<'_>) -> String {
    to_string(record) + "\n"
}

/// The rest of the answer.
struct Messages {
    app: AppState,
    author: UserId,
    next: Next,
}

enum Next {
    /// The lines before the messages.
    First(String),
    /// The messages after this place.
    After(Option<LogPlace>),
    End,
}

impl Messages {
    /// The next piece, and what is left; `None` at the end.
    async fn piece(self) -> Result<Option<(String, Self)>, StoreError> {
        let after = match self.next {
            Next::First(lines) => {
                let next = Next::After(None);
                return Ok(Some((lines, Self { next, ..self })));
            }
            Next::After(after) => after,
            Next::End => return Ok(None),
        };
        let written = self.app.store.written_by(self.author, after).await?;
        let record = |event: &Arc<Event>| line(&Record::Message { message: event });
        let lines = written.messages.iter().map(record).collect();
        let next = written
            .next
            .map_or(Next::End, |last| Next::After(Some(last)));
        Ok(Some((lines, Self { next, ..self })))
    }
}
