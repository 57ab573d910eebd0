//! Messages: pages of a room's log, single messages, posting.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use serde::{Deserialize, Serialize};
use tokio::time::timeout;
use tokio_stream::StreamExt;

use super::extract::{RoomMember, SignedIn, read_only};
use super::form::{Input, Payload};
use super::log_range::{End, Range};
use super::mentions;
use super::query::Query;
use super::read_markers::note_read;
use super::respond::{self, ResponseFormat};
use super::seen::Seeing;
use crate::domain::{
    Author, Epoch, Event, EventId, EventKind, Invalid, Mentions, MessageBody, NewEvent, NewKind,
    Nonce, Refusal, RoomId, Seq, User,
};
use crate::error::AppError;
use crate::limits::Limited;
use crate::live::{ByteStream, Format, text_line};
use crate::markup;
use crate::state::AppState;
use crate::views::{
    Composer, ComposerFragment, HistoryFragment, HistoryPage, RefusedPage, changed_rows, rows,
};

/// A page of the log as JSON.
#[derive(Serialize)]
struct LogPage<'a> {
    /// Oldest first.
    events: &'a [Arc<Event>],
    /// The log's highest number.
    head: Seq,
    /// Where to go on: what `after` takes. It is the last event's id, or what was asked for.
    cursor: String,
}

/// `GET /rooms/{room}/messages`: a page of the log, oldest first.
pub(super) async fn index(
    State(app): State<AppState>,
    format: ResponseFormat,
    member: RoomMember,
    seeing: Seeing,
    query: Query,
) -> Result<Response, AppError> {
    let RoomMember {
        signed_in, room, ..
    } = &member;
    let epoch = app.store.epoch();
    let range = Range::parse(&query, epoch)?;
    let mut end = None;
    let events = match range.end {
        End::Newest => {
            let freshness = seeing.freshness();
            let newest = app.store.newest(room, range.limit, &freshness).await?;
            end = Some(newest.head);
            newest.entries
        }
        End::Before(before) => app.store.page_before(room, before, range.limit).await?,
        End::After(after) => {
            let events = app.store.page_after(room, after, range.limit).await?;
            if events.is_empty() && !range.wait.is_zero() {
                wait_beyond(&app, &member, after, range.wait).await?;
                app.store.page_after(room, after, range.limit).await?
            } else {
                events
            }
        }
    };
    let cursor = EventId {
        epoch,
        seq: match (events.last(), range.end) {
            (_, End::Newest) => end.unwrap_or(0),
            (Some(last), _) => last.seq,
            (None, End::After(after)) => after,
            (None, End::Before(_)) => 0,
        },
    };
    match format {
        ResponseFormat::Page => page(&app, &signed_in.user, room, &events).await,
        ResponseFormat::Fragment => {
            let fragment = HistoryFragment {
                room,
                rows: rows(&events, epoch),
                changed: changed_rows(&events, epoch),
                older: match range.end {
                    End::Newest | End::Before(_) => older(&events, epoch),
                    End::After(_) => None,
                },
            };
            // Rows alone do not say where they end: the last events may have none.
            let next = matches!(range.end, End::After(_))
                .then(|| format!("/rooms/{room}/messages?after={cursor}"));
            let response = respond::html(StatusCode::OK, &fragment);
            Ok(respond::with_next(response, next.as_deref()))
        }
        ResponseFormat::Json | ResponseFormat::Ndjson => {
            let page = LogPage {
                head: head(&app, room).await?,
                events: &events,
                cursor: cursor.to_string(),
            };
            Ok(respond::json(StatusCode::OK, &page))
        }
        ResponseFormat::Text => Ok(respond::text(StatusCode::OK, lines(&events))),
    }
}

/// Waits like a stream does, so that whatever ends a stream ends this too.
async fn wait_beyond(
    app: &AppState,
    member: &RoomMember,
    after: Seq,
    longest: Duration,
) -> Result<(), AppError> {
    let SignedIn { user, session } = &member.signed_in;
    let mut subscriber = app
        .hub
        .follow(&member.room, Format::Ndjson, user, session)
        .await?;
    member.is_still(app).await?;
    if !subscriber.start_after(after).await? {
        // Beyond the head: the answer says where the head is.
        return Ok(());
    }
    let mut bytes = ByteStream::new(subscriber, &app.hub);
    let grown = async { while bytes.cursor() == after && bytes.next().await.is_some() {} };
    let _ = timeout(longest, grown).await;
    member.is_still(app).await
}

/// A page of history by itself.
async fn page(
    app: &AppState,
    user: &User,
    room: &RoomId,
    events: &[Arc<Event>],
) -> Result<Response, AppError> {
    let head = head(app, room).await?;
    let epoch = app.store.epoch();
    let settings = app.store.kept_settings(room).await?;
    let page = HistoryPage {
        user,
        room,
        title: &settings.title(room, &user.id),
        rows: rows(events, epoch),
        older: older(events, epoch),
        newer: newer(events, epoch, head),
        said: "",
        actions: None,
    };
    Ok(respond::html(StatusCode::OK, &page))
}

/// A message as it is sent.
#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct NewMessage {
    body: String,
    nonce: String,
    /// The id of the message above it.
    reply_to: String,
    /// `room` from a sender who means everybody.
    confirm: String,
    /// `1` from a page that somebody looks at.
    seen: String,
}

impl Input for NewMessage {
    const RAW: Option<&'static str> = Some("body");
    const SCALARS: &'static [&'static str] = &["reply_to", "seen"];
}

impl NewMessage {
    fn nonce(&self) -> Option<&str> {
        Some(self.nonce.as_str()).filter(|nonce| !nonce.is_empty())
    }
}

/// `POST /rooms/{room}/messages`. The message reaches its sender as it reaches everybody: through
/// the room's stream.
pub(super) async fn create(
    State(app): State<AppState>,
    format: ResponseFormat,
    (Path(room), headers, query): (Path<String>, HeaderMap, Query),
    member: Result<RoomMember, AppError>,
    seeing: Seeing,
    Payload(mut sent): Payload<NewMessage>,
) -> Result<Response, AppError> {
    // A body of text has no other place for it.
    if let Some(confirm) = query.find("confirm") {
        confirm.clone_into(&mut sent.confirm);
    }
    let typed = &sent.body;
    let (room, user) = match member {
        Ok(RoomMember {
            signed_in, room, ..
        }) => (room, signed_in.user),
        // Nobody knows yet whose it is, but it is theirs who sent it: they get it back.
        Err(error @ AppError::Unavailable(_)) if format.is_html() => {
            let room = RoomId::known(&room)?;
            return Ok(refused(format, &room, &sent, &error));
        }
        // A redirect would lose it. A script keeps it itself, and is sent to sign in.
        Err(error @ AppError::SignedOut) if format == ResponseFormat::Page && !typed.is_empty() => {
            let room = RoomId::known(&room)?;
            return Ok(refused(format, &room, &sent, &error));
        }
        Err(error) => return Err(error),
    };
    match post(&app, &user, &room, &headers, &sent).await {
        Ok(event) => {
            // A page that posts shows the log; a script says whether somebody looks at it. A program
            // may post without reading.
            if format == ResponseFormat::Page || !sent.seen.is_empty() {
                note_read(&app, &room, &user, event.seq);
            }
            let seen = seeing.having_shown(&room, event.seq);
            Ok((seen, posted(format, app.store.epoch(), &event)).into_response())
        }
        Err(error) if format.is_html() => Ok(refused(format, &room, &sent, &error)),
        Err(error) => Err(error),
    }
}

async fn post(
    app: &AppState,
    user: &User,
    room: &RoomId,
    headers: &HeaderMap,
    sent: &NewMessage,
) -> Result<Arc<Event>, AppError> {
    let body = MessageBody::parse(&markup::with_emoji(&sent.body))?;
    let key = headers.get("idempotency-key").map(|key| key.to_str());
    let nonce = match (sent.nonce(), key) {
        (Some(nonce), _) => Some(Nonce::parse(nonce)?),
        (None, Some(key)) => Some(Nonce::parse(key.unwrap_or(""))?),
        (None, None) => None,
    };
    app.limits.take(&Limited::PostsOf(user.id)).await?;
    if let Some(why) = read_only(app, room, user.id).await? {
        // A retry of a post that was kept is answered as the first was, also where nobody may write now.
        match &nonce {
            Some(nonce) if is_sent(app, room, user, nonce).await? => {}
            _ => return Err(AppError::ReadOnly(why)),
        }
    }
    let replied_to = match sent.reply_to.as_str() {
        "" => None,
        id => Some(replied_to(app, room, id).await?),
    };
    let answered = replied_to.as_ref().map(|message| message.author.clone());
    let is_confirmed = sent.confirm == Mentions::ROOM;
    let found = mentions::of(app, room, user, body.as_str(), answered, is_confirmed).await;
    let mentions = match (found, &nonce) {
        // If this is a retry, its mentions were found before: the append answers with them.
        (Err(_), Some(nonce)) if is_sent(app, room, user, nonce).await? => Mentions::default(),
        (found, _) => found?,
    };
    let event = NewEvent {
        author: Author::from(user),
        kind: NewKind::Message {
            body,
            reply_to: replied_to.map(|message| message.seq),
            mentions,
        },
        nonce,
    };
    let appended = app.store.append(room, event).await?;
    Ok(Arc::clone(appended.event()))
}

/// Whether the user has sent a message with this nonce.
async fn is_sent(
    app: &AppState,
    room: &RoomId,
    user: &User,
    nonce: &Nonce,
) -> Result<bool, AppError> {
    Ok(app
        .store
        .find_by_nonce(room, user.id, nonce)
        .await?
        .is_some())
}

/// A message that is there. It stays there, so nothing can come between.
async fn replied_to(app: &AppState, room: &RoomId, id: &str) -> Result<Arc<Event>, AppError> {
    const NONE: Invalid = Invalid("reply_to takes the id of a message in this room, like 42.");
    let id = EventId::parse(id).map_err(|_| NONE)?;
    let seq = id.within(app.store.epoch()).ok_or(NONE)?;
    let event = find(app, room, seq).await?.ok_or(NONE)?;
    match &event.kind {
        EventKind::Message(message) if message.deleted_at.is_some() => {
            Err(AppError::Refused(Refusal::Deleted))
        }
        EventKind::Message(_) => Ok(event),
        _ => Err(NONE.into()),
    }
}

/// The event of a number, if there is one.
pub(super) async fn find(
    app: &AppState,
    room: &RoomId,
    seq: Seq,
) -> Result<Option<Arc<Event>>, AppError> {
    let found = app.store.page_after(room, seq.saturating_sub(1), 1).await?;
    Ok(found.into_iter().find(|event| event.seq == seq))
}

fn posted(format: ResponseFormat, epoch: Epoch, event: &Event) -> Response {
    let (room, seq) = (&event.room, event.seq);
    let id = EventId { epoch, seq };
    let location = [(header::LOCATION, format!("/rooms/{room}/messages/{id}"))];
    match format {
        ResponseFormat::Page => Redirect::to(&format!("/rooms/{room}")).into_response(),
        ResponseFormat::Fragment => {
            let composer = Composer {
                nonce: new_nonce(),
                ..Composer::default()
            };
            let composer = ComposerFragment { room, composer };
            // Where the message stands, for the script that shows it until the stream brings it.
            (location, respond::html(StatusCode::OK, &composer)).into_response()
        }
        ResponseFormat::Json | ResponseFormat::Ndjson => {
            (location, respond::json(StatusCode::CREATED, event)).into_response()
        }
        ResponseFormat::Text => {
            let mut response = respond::text(StatusCode::CREATED, text_line(event));
            response.headers_mut().extend(
                location
                    .into_iter()
                    .filter_map(|(name, path)| Some((name, HeaderValue::try_from(path).ok()?))),
            );
            response
        }
    }
}

/// Gives the text back, with what to do about it. It touches no database, which may be what
/// refused.
fn refused(format: ResponseFormat, room: &RoomId, sent: &NewMessage, error: &AppError) -> Response {
    let asks = match error {
        AppError::AsksFirst(question) => Some(question.says()),
        _ => None,
    };
    let detail = match &asks {
        Some(tells) => format!("{tells} Send it again to do so, or take @room out."),
        None => error.detail(),
    };
    let composer = Composer {
        // The same, where the first attempt may have gone through after all.
        nonce: match (error, sent.nonce()) {
            (AppError::Unavailable(_) | AppError::Busy | AppError::StorageFull, Some(nonce)) => {
                nonce.to_owned()
            }
            _ => new_nonce(),
        },
        text: &sent.body,
        error: Some(&detail),
        reply_to: &sent.reply_to,
        asks: asks.is_some(),
    };
    match format {
        ResponseFormat::Fragment => {
            respond::html_error(error, &ComposerFragment { room, composer })
        }
        _ => {
            let page = RefusedPage {
                room,
                composer,
                is_signed_out: matches!(error, AppError::SignedOut),
            };
            respond::html_error(error, &page)
        }
    }
}

/// For the next message of a form.
pub(super) fn new_nonce() -> String {
    uuid::Uuid::new_v4().to_string()
}

/// Where what is older than these ends, if there is anything.
pub(super) fn older(events: &[Arc<Event>], epoch: Epoch) -> Option<EventId> {
    let seq = events.first()?.seq;
    (seq > 1).then_some(EventId { epoch, seq })
}

/// Where what is newer than these begins, if there is anything.
pub(super) fn newer(events: &[Arc<Event>], epoch: Epoch, head: Seq) -> Option<EventId> {
    let seq = events.last()?.seq;
    (seq < head).then_some(EventId { epoch, seq })
}

fn lines(events: &[Arc<Event>]) -> String {
    events.iter().map(|event| text_line(event)).collect()
}

pub(super) async fn head(app: &AppState, room: &RoomId) -> Result<Seq, AppError> {
    let heads = app.store.heads(std::slice::from_ref(room)).await?;
    Ok(heads.first().copied().unwrap_or(0))
}
