//! One message: its page, edits and its deletion.

use std::sync::Arc;

use axum::extract::{FromRequestParts, Path, State};
use axum::http::request::Parts;
use axum::http::{HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Redirect, Response};
use serde::Deserialize;

use super::extract::{RoomMember, decides, read_only};
use super::form::{Input, Payload};
use super::log_range::PAGE;
use super::messages::{find, head, new_nonce, newer, older};
use super::query::Query;
use super::respond::{self, ResponseFormat, done};
use super::seen::Seeing;
use crate::domain::{
    Act, AuditEntry, Author, Event, EventId, EventKind, MessageBody, NewChange, NewEvent, NewKind,
    Refusal, RoomId, Seq, User,
};
use crate::error::AppError;
use crate::limits::Limited;
use crate::live::text_line;
use crate::markup;
use crate::state::AppState;
use crate::store::{Appended, audited};
use crate::views::{EditRefusedPage, HistoryPage, MessageActions, Refused, event_row, rows};

/// The event of the path, for a member of its room.
pub(super) struct Target {
    pub(super) user: User,
    pub(super) room: RoomId,
    pub(super) seq: Seq,
}

impl FromRequestParts<AppState> for Target {
    type Rejection = AppError;

    async fn from_request_parts(parts: &mut Parts, app: &AppState) -> Result<Self, AppError> {
        #[derive(Deserialize)]
        struct Place {
            seq: String,
        }
        let member = RoomMember::from_request_parts(parts, app).await?;
        let place = Path::<Place>::from_request_parts(parts, app).await;
        let Path(Place { seq }) = place.map_err(|_| AppError::NotFound)?;
        let id = EventId::parse(&seq).map_err(|_| AppError::NotFound)?;
        let seq = id.within(app.store.epoch()).ok_or(AppError::NotFound)?;
        Ok(Self {
            user: member.signed_in.user,
            room: member.room,
            seq,
        })
    }
}

impl Target {
    /// Whether its reader decides about the room.
    async fn owns_room(&self, app: &AppState) -> Result<bool, AppError> {
        decides(app, &self.room, self.user.id).await
    }

    /// Where a message has its page.
    pub(super) fn path(&self, app: &AppState) -> String {
        let (epoch, seq) = (app.store.epoch(), self.seq);
        format!("/rooms/{}/messages/{}", self.room, EventId { epoch, seq })
    }

    /// Counts a change to it.
    pub(super) async fn count(&self, app: &AppState) -> Result<(), AppError> {
        Ok(app.limits.take(&Limited::PostsOf(self.user.id)).await?)
    }

    /// Makes a change to the message. How far one must see the room to see it is answered, and the
    /// message as it is then.
    pub(super) async fn change(
        &self,
        app: &AppState,
        change: NewChange,
    ) -> Result<(Seq, Arc<Event>), AppError> {
        // Deleting stays possible in an archived room: a text that must go must not be kept by the archive.
        let is_deletion = matches!(change, NewChange::Delete { .. });
        if !is_deletion && let Some(why) = read_only(app, &self.room, self.user.id).await? {
            return Err(AppError::ReadOnly(why));
        }
        let new = NewEvent {
            author: Author::from(&self.user),
            kind: NewKind::Change {
                target: self.seq,
                change,
            },
            nonce: None,
        };
        let appended = app.store.append(&self.room, new).await?;
        if let Appended::Unchanged(message) = &appended {
            let changed = message.message().map_or(0, |message| message.changed);
            return Ok((changed, Arc::clone(message)));
        }
        let event = appended.event();
        let message = match &event.kind {
            EventKind::Changed(changed) => changed.message.clone(),
            _ => None,
        };
        let message = message.ok_or(AppError::Refused(Refusal::NoMessage))?;
        Ok((event.seq, message))
    }
}

/// `GET /rooms/{room}/messages/{seq}`: one event, on a page in its surroundings, with what can be done to
/// it.
pub(super) async fn show(
    State(app): State<AppState>,
    format: ResponseFormat,
    target: Target,
    query: Query,
) -> Result<Response, AppError> {
    let found = find(&app, &target.room, target.seq).await?;
    let event = found.ok_or(AppError::NotFound)?;
    let said = match query.find("said") {
        Some("reported") => "The admins of this server have it now.",
        _ => "",
    };
    match format {
        ResponseFormat::Page | ResponseFormat::Fragment => match event.target() {
            // A change has no place of its own.
            Some(seq) => Ok(Redirect::to(&Target { seq, ..target }.path(&app)).into_response()),
            None => page(&app, &target, &event, StatusCode::OK, said, None).await,
        },
        ResponseFormat::Json | ResponseFormat::Ndjson => Ok(respond::json(StatusCode::OK, &*event)),
        ResponseFormat::Text => Ok(respond::text(StatusCode::OK, text_line(&event))),
    }
}

/// A message's page; after an edit or a report that was refused with what was typed, and why.
pub(super) async fn page(
    app: &AppState,
    target: &Target,
    event: &Arc<Event>,
    status: StatusCode,
    said: &'static str,
    refused: Option<Refused<'_>>,
) -> Result<Response, AppError> {
    let (room, seq) = (&target.room, target.seq);
    let mut around = app.store.page_before(room, seq, PAGE / 2).await?;
    around.extend(
        app.store
            .page_after(room, seq.saturating_sub(1), PAGE / 2)
            .await?,
    );
    let (head, epoch) = (head(app, room).await?, app.store.epoch());
    let rows = rows(&around, epoch).into_iter().map(|row| {
        let is_marked = row.id().seq == seq;
        row.marked_if(is_marked)
    });
    let is_own = event.author.id == target.user.id;
    let may_delete = is_own || target.owns_room(app).await?;
    let actions = MessageActions::to(
        event,
        target.user.id,
        may_delete,
        epoch,
        new_nonce(),
        refused,
    );
    let settings = app.store.kept_settings(room).await?;
    let page = HistoryPage {
        user: &target.user,
        room,
        title: &settings.title(room, &target.user.id),
        rows: rows.collect(),
        older: older(&around, epoch),
        newer: newer(&around, epoch, head),
        said,
        actions,
    };
    Ok(respond::html(status, &page))
}

/// A message's new text.
#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Edit {
    body: String,
    /// The edit that its sender has seen, 0 for none.
    rev: String,
}

impl Input for Edit {
    const RAW: Option<&'static str> = Some("body");
    const SCALARS: &'static [&'static str] = &["rev"];
}

/// `POST /rooms/{room}/messages/{seq}`, or `PATCH`: gives the message another text.
pub(super) async fn update(
    State(app): State<AppState>,
    format: ResponseFormat,
    uri: Uri,
    target: Result<Target, AppError>,
    seeing: Seeing,
    Payload(sent): Payload<Edit>,
) -> Result<Response, AppError> {
    let target = match target {
        Ok(target) => target,
        // Nobody knows yet whose it is, but it is theirs who sent it: they get it back.
        Err(error @ (AppError::SignedOut | AppError::Unavailable(_)))
            if format == ResponseFormat::Page =>
        {
            let page = EditRefusedPage {
                path: uri.path(),
                text: &sent.body,
                rev: &sent.rev,
                error: &error.detail(),
                is_signed_out: matches!(error, AppError::SignedOut),
            };
            return Ok(respond::html_error(&error, &page));
        }
        Err(error) => return Err(error),
    };
    match edit(&app, &target, &sent).await {
        Ok((seq, message)) => {
            let response = match format {
                ResponseFormat::Page => Redirect::to(&target.path(&app)).into_response(),
                ResponseFormat::Fragment => {
                    let row = event_row(&message, app.store.epoch());
                    (StatusCode::OK, axum::response::Html(row)).into_response()
                }
                ResponseFormat::Json | ResponseFormat::Ndjson => {
                    respond::json(StatusCode::OK, &*message)
                }
                ResponseFormat::Text => respond::text(StatusCode::OK, text_line(&message)),
            };
            Ok((seeing.having_shown(&target.room, seq), response).into_response())
        }
        // Nothing that was typed is lost.
        Err(error) if format == ResponseFormat::Page && is_editors(&error) => {
            error.log();
            let found = find(&app, &target.room, target.seq).await?;
            let event = found.ok_or(AppError::NotFound)?;
            let refused = Some(Refused::Edit {
                text: &sent.body,
                why: &error.detail(),
            });
            let mut response = page(&app, &target, &event, error.status(), "", refused).await?;
            if let Some(wait) = error.retry_after() {
                let wait = HeaderValue::from(wait.as_secs());
                response.headers_mut().insert(header::RETRY_AFTER, wait);
            }
            Ok(response)
        }
        Err(error) => Err(error),
    }
}

/// Whether the editor can do something about it on the message's page.
fn is_editors(error: &AppError) -> bool {
    matches!(
        error,
        AppError::Invalid(_)
            | AppError::EditedSince { .. }
            | AppError::Refused(Refusal::Deleted)
            | AppError::ReadOnly(_)
            | AppError::TooMany { .. }
            | AppError::Busy
            | AppError::StorageFull
            | AppError::Unavailable(_)
    )
}

async fn edit(app: &AppState, target: &Target, sent: &Edit) -> Result<(Seq, Arc<Event>), AppError> {
    let body = MessageBody::parse(&markup::with_emoji(&sent.body))?;
    let rev = match sent.rev.as_str() {
        "" => None,
        // Of another epoch it is of none of these edits.
        rev => Some(
            EventId::parse(rev)?
                .within(app.store.epoch())
                .unwrap_or(Seq::MAX),
        ),
    };
    target.count(app).await?;
    let edited = target.change(app, NewChange::Edit { body, rev }).await;
    edited.map_err(|error| match error {
        AppError::Refused(Refusal::EditedSince(message)) => AppError::EditedSince {
            message,
            typed: sent.body.clone(),
        },
        error => error,
    })
}

/// `POST /rooms/{room}/messages/{seq}/delete`, or `DELETE` without the last part.
pub(super) async fn destroy(
    State(app): State<AppState>,
    method: Method,
    format: ResponseFormat,
    target: Target,
    seeing: Seeing,
) -> Result<Response, AppError> {
    target.count(&app).await?;
    let by_author = NewChange::Delete { as_owner: false };
    let deleted = match target.change(&app, by_author).await {
        Err(AppError::Refused(Refusal::NotAuthor)) if target.owns_room(&app).await? => {
            let by_owner = NewChange::Delete { as_owner: true };
            let entry = AuditEntry::new(Some(&target.user), Act::DeleteMessage);
            let entry = entry.in_room(&target.room).with(target.seq.to_string());
            audited(&*app.store, entry, target.change(&app, by_owner)).await
        }
        deleted => deleted,
    };
    let (seq, _) = deleted?;
    let response = done(&method, format, &format!("/rooms/{}", target.room));
    Ok((seeing.having_shown(&target.room, seq), response).into_response())
}
