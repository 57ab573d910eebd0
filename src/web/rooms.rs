//! Rooms: the lobby, entering a room, a room's page.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{Html, IntoResponse, Redirect, Response};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::time::{Instant, timeout_at};

use super::extract::{RoomMember, SignedIn};
use super::form::{Input, Payload};
use super::query::{self, Query};
use super::respond::{self, ResponseFormat};
use super::seen::Seeing;
use crate::domain::{Event, EventId, RoomId, RoomSummary, Roster, Seq, User};
use crate::error::AppError;
use crate::fnv::fnv1a;
use crate::limits::Limited;
use crate::live::text_line;
use crate::state::AppState;
use crate::store::{Freshness, History, Seen};
use crate::views::{self, Avatar, CachedHtml, Composer, Field, LobbyPage, Reacted, RoomPage};

/// The lobby as JSON.
#[derive(Serialize)]
struct Lobby<'a> {
    rooms: Vec<LobbyRoom<'a>>,
    /// The cursor to wait beyond: another one once a log has grown, a room was entered or a mention was read.
    cursor: String,
}

/// A room of the lobby as JSON.
#[derive(Serialize)]
struct LobbyRoom<'a> {
    room: &'a RoomId,
    head: Seq,
    /// The newest message, abridged: a thousand whole ones would be megabytes.
    last: Option<Event>,
    unread: u64,
    /// How many of those are for the reader, up to 100.
    mentions: usize,
}

/// A room as JSON.
#[derive(Serialize)]
struct Room<'a> {
    room: &'a RoomId,
    head: Seq,
    /// Where a stream goes on.
    cursor: String,
    present: &'a Roster,
    /// The newest, oldest first.
    events: &'a [Arc<Event>],
}

/// How many events the room's page begins with.
const NEWEST: usize = 50;

/// `GET /rooms`: the lobby.
pub(super) async fn index(
    State(app): State<AppState>,
    format: ResponseFormat,
    signed_in: SignedIn,
    mut seeing: Seeing,
    query: Query,
) -> Result<Response, AppError> {
    let wait = query::wait(&query)?;
    let user = &signed_in.user;
    let after = query.find("after");
    if after.is_some() {
        seeing.has_cursor();
    }
    let mut rooms = app.store.rooms_of(user, &seeing.freshness()).await?;
    if after.is_some_and(|after| is_behind(&rooms, after)) {
        rooms = app.store.rooms_of(user, &Freshness::Now).await?;
    }
    if let Some(after) = after
        && !wait.is_zero()
        && cursor(&rooms) == after
    {
        rooms = rooms_beyond(&app, &signed_in, rooms, after, wait).await?;
    }
    Ok(match format {
        ResponseFormat::Page => {
            let summary = (shown(&app, user, &rooms), mentions(&*rooms));
            lobby(StatusCode::OK, user, summary, "", None)
        }
        // The list alone, for a lobby that is open.
        ResponseFormat::Fragment => {
            let list = shown(&app, user, &rooms);
            let list = list.map_or_else(String::new, |list| list.to_string());
            (StatusCode::OK, Html(list)).into_response()
        }
        ResponseFormat::Json | ResponseFormat::Ndjson => {
            let cursor = cursor(&rooms);
            let rooms = rooms.iter().map(|room| LobbyRoom {
                room: &room.room,
                head: room.head,
                last: room.last.as_ref().map(|last| last.abridged()),
                unread: room.unread,
                mentions: room.mentions,
            });
            let rooms = rooms.collect();
            respond::json(StatusCode::OK, &Lobby { rooms, cursor })
        }
        ResponseFormat::Text => {
            let lines = rooms.iter().map(|room| match &room.last {
                Some(last) => format!("{}\t{}", room.room, text_line(&last.abridged())),
                None => format!("{}\t\n", room.room),
            });
            respond::text(StatusCode::OK, lines.collect())
        }
    })
}

/// Logs only grow, so while the rooms are the same the sum of the heads never repeats. What is heard of a mention
/// may come after what is heard of its log.
fn cursor(rooms: &[RoomSummary]) -> String {
    let heads: Seq = rooms.iter().map(|room| room.head).sum();
    if rooms.is_empty() {
        return heads.to_string();
    }
    format!("{heads}.{}.{}", mentions(rooms), which_of(rooms))
}

/// Tells these rooms from others, in whichever order they are listed.
fn which_of(rooms: &[RoomSummary]) -> String {
    let hash = |room: &RoomSummary| fnv1a(room.room.as_str());
    let which = rooms.iter().map(hash).fold(0, u32::wrapping_add);
    format!("{which:x}")
}

/// Whether these are from before what the sender of a cursor has seen.
fn is_behind(rooms: &[RoomSummary], after: &str) -> bool {
    let known = rooms.iter().map(|room| room.head).sum::<Seq>();
    let mut parts = after.split('.');
    let heads = parts.next().unwrap_or(after);
    let is_of_others = parts.nth(1).is_some_and(|which| which != which_of(rooms));
    is_of_others || heads.parse::<Seq>().is_ok_and(|heads| known < heads)
}

/// The rooms once something has been said in one of them, or `longest` is over.
async fn rooms_beyond(
    app: &AppState,
    signed_in: &SignedIn,
    rooms: Arc<[RoomSummary]>,
    after: &str,
    longest: Duration,
) -> Result<Arc<[RoomSummary]>, AppError> {
    let SignedIn { user, session } = signed_in;
    let ids = rooms.iter().map(|room| room.room.clone()).collect();
    // From here on what is appended wakes us, and what was before is read.
    let mut growth = app.hub.watch_logs(ids, session);
    if !signed_in.is_still(app).await? {
        return Err(AppError::SignedOut);
    }
    // A change that wakes us is in the cache already.
    let known = Freshness::Seen(Seen::default());
    let until = Instant::now() + longest;
    loop {
        let rooms = app.store.rooms_of(user, &known).await?;
        // An event of before may be told again.
        if cursor(&rooms) != after || Instant::now() >= until {
            return Ok(rooms);
        }
        let _ = timeout_at(until, growth.changed()).await;
        if !signed_in.is_still(app).await? {
            return Err(AppError::SignedOut);
        }
    }
}

/// The room that somebody enters.
#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct NewRoom {
    room: String,
}

impl Input for NewRoom {}

/// `POST /rooms`: enters the room, which is made if it was not there.
pub(super) async fn create(
    State(app): State<AppState>,
    format: ResponseFormat,
    SignedIn { user, .. }: SignedIn,
    seeing: Seeing,
    Payload(sent): Payload<NewRoom>,
) -> Result<Response, AppError> {
    let typed = &sent.room;
    let room = match RoomId::parse(typed) {
        Ok(room) => room,
        Err(invalid) if format.is_html() => {
            let rooms = app.store.rooms_of(&user, &seeing.freshness()).await?;
            let (status, error) = (StatusCode::UNPROCESSABLE_ENTITY, invalid.to_string());
            let summary = (shown(&app, &user, &rooms), mentions(&*rooms));
            return Ok(lobby(status, &user, summary, typed, Some(&error)));
        }
        Err(invalid) => return Err(invalid.into()),
    };
    app.limits.take(&Limited::JoinsOf(user.id)).await?;
    let joined = app.store.join(&room, &user, None).await?;
    let path = format!("/rooms/{room}");
    let seen = seeing.having_shown(&room, joined);
    let response = match format {
        ResponseFormat::Page | ResponseFormat::Fragment => Redirect::to(&path).into_response(),
        ResponseFormat::Json | ResponseFormat::Ndjson => {
            let location = [(header::LOCATION, path)];
            let room = json!({ "room": room });
            (location, respond::json(StatusCode::CREATED, &room)).into_response()
        }
        ResponseFormat::Text => respond::text(StatusCode::CREATED, format!("{path}\n")),
    };
    Ok((seen, response).into_response())
}

/// `GET /rooms/{room}`.
pub(super) async fn show(
    State(app): State<AppState>,
    format: ResponseFormat,
    RoomMember {
        signed_in,
        room,
        read,
    }: RoomMember,
    seeing: Seeing,
) -> Result<Response, AppError> {
    let user = &signed_in.user;
    let freshness = seeing.freshness();
    let History {
        entries: events,
        head,
    } = app.store.newest(&room, NEWEST, &freshness).await?;
    let epoch = app.store.epoch();
    let present = app.hub.present(&room);
    let response = match format {
        ResponseFormat::Page | ResponseFormat::Fragment => {
            let rooms = app.store.rooms_of(user, &freshness).await?;
            let read = EventId { epoch, seq: read };
            let page = RoomPage {
                user,
                room: &room,
                here: views::here(&present),
                log: app.fragments.log(&room, &events, read, user.id),
                side: app.fragments.side(user.id, &rooms, &room),
                avatar: Avatar::path(user.username.as_str()),
                older: super::messages::older(&events, epoch),
                // The head that this very page was read at, so that nothing falls between it and the
                // stream.
                cursor: EventId { epoch, seq: head },
                reacted: Reacted::on(&events, user.id),
                is_new: events.last().is_none_or(|last| last.messages == 0),
                mentions: mentions(rooms.iter().filter(|other| other.room != room)),
                composer: Composer {
                    nonce: super::messages::new_nonce(),
                    ..Composer::default()
                },
            };
            let parts_bytes = page.log.bytes() + page.side.bytes();
            respond::html_around(parts_bytes, StatusCode::OK, &page)
        }
        ResponseFormat::Json | ResponseFormat::Ndjson => {
            let room = Room {
                room: &room,
                head,
                cursor: EventId { epoch, seq: head }.to_string(),
                present: &present,
                events: &events,
            };
            respond::json(StatusCode::OK, &room)
        }
        ResponseFormat::Text => {
            let lines = events.iter().map(|event| text_line(event));
            respond::text(StatusCode::OK, lines.collect())
        }
    };
    Ok((seeing.having_shown(&room, head), response).into_response())
}

/// How many unread mentions there are in some rooms.
fn mentions<'a>(rooms: impl IntoIterator<Item = &'a RoomSummary>) -> usize {
    rooms.into_iter().map(|room| room.mentions).sum()
}

fn shown(app: &AppState, user: &User, rooms: &Arc<[RoomSummary]>) -> Option<CachedHtml> {
    (!rooms.is_empty()).then(|| app.fragments.lobby(user.id, rooms))
}

fn lobby(
    status: StatusCode,
    user: &User,
    (rooms, mentions): (Option<CachedHtml>, usize),
    typed: &str,
    error: Option<&str>,
) -> Response {
    let field = Field {
        name: "room",
        label: "Room id",
        kind: "text",
        autocomplete: "off",
        value: typed,
        hint: "Letters a–z, digits, “-” and “_”.",
        error,
        is_first: true,
    };
    let parts_bytes = rooms.as_ref().map_or(0, CachedHtml::bytes);
    let page = LobbyPage {
        user,
        field,
        rooms,
        mentions,
    };
    respond::html_around(parts_bytes, status, &page)
}
