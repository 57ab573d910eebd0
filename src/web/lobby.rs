//! The lobby: one's rooms, and open ones to enter.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{Html, IntoResponse, Response};
use serde::Serialize;
use tokio::time::{Instant, timeout_at};

use super::extract::{SignedIn, is_admin};
use super::query::{self, Query};
use super::respond::{self, ResponseFormat};
use super::room_labels::RoomLabels;
use super::seen::Seeing;
use crate::domain::{Event, Label, Level, ListedRoom, RoomId, RoomSummary, Seq, User};
use crate::error::AppError;
use crate::fnv::fnv1a;
use crate::live::text_line;
use crate::state::AppState;
use crate::store::{Freshness, Seen};
use crate::views::{CachedHtml, Field, LobbyPage};

/// The lobby as JSON.
#[derive(Serialize)]
struct Lobby<'a> {
    rooms: Vec<LobbyRoom<'a>>,
    /// Open rooms that the reader may enter, where they look for some (`q`).
    #[serde(skip_serializing_if = "Option::is_none")]
    open: Option<Vec<Open<'a>>>,
    /// The cursor to wait beyond: another one once a log has grown, a room was entered or a mention was read.
    cursor: String,
}

/// A room of the lobby as JSON.
#[derive(Serialize)]
struct LobbyRoom<'a> {
    #[serde(flatten)]
    labels: RoomLabels<'a>,
    head: Seq,
    /// The newest message, abridged: a thousand whole ones would be megabytes.
    last: Option<Event>,
    unread: u64,
    /// How many of those are for the reader, up to 100.
    mentions: usize,
    level: Level,
}

/// A room to be entered as JSON.
#[derive(Serialize)]
struct Open<'a> {
    room: &'a RoomId,
    name: Option<&'a Label>,
    topic: Option<&'a Label>,
    /// How many are in it.
    people: u64,
}

fn open_room(open: &ListedRoom) -> Open<'_> {
    Open {
        room: &open.room,
        name: open.settings.name.as_ref(),
        topic: open.settings.topic.as_ref(),
        people: open.people,
    }
}

/// How many open rooms are listed.
const OPEN_LISTED: usize = 50;

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
            let word = query.find("q").unwrap_or("");
            let typed = Typed {
                word,
                ..Typed::default()
            };
            page_of(&app, user, &rooms, StatusCode::OK, typed).await?
        }
        // The list alone, for a lobby that is open.
        ResponseFormat::Fragment => {
            let list = shown(&app, user, &rooms);
            let list = list.map_or_else(String::new, |list| list.to_string());
            (StatusCode::OK, Html(list)).into_response()
        }
        ResponseFormat::Json | ResponseFormat::Ndjson => {
            let cursor = cursor(&rooms);
            let open = match query.find("q") {
                Some(word) => Some(open_rooms(&app, &rooms, word, OPEN_LISTED).await?),
                None => None,
            };
            let open = open
                .as_ref()
                .map(|open| open.iter().map(open_room).collect());
            let listed = rooms.iter().filter(|room| room.is_listed());
            let rooms = listed.map(|room| LobbyRoom {
                labels: RoomLabels::of(&room.room, &room.settings),
                head: room.head,
                last: room.last.as_ref().map(|last| last.abridged()),
                unread: room.unread,
                mentions: room.mentions,
                level: room.level,
            });
            let rooms = rooms.collect();
            let lobby = Lobby {
                rooms,
                open,
                cursor,
            };
            respond::json(StatusCode::OK, &lobby)
        }
        ResponseFormat::Text => {
            let listed = rooms.iter().filter(|room| room.is_listed());
            let lines = listed.map(|room| match &room.last {
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
    let heads = heads(rooms);
    if !rooms.iter().any(RoomSummary::is_listed) {
        return heads.to_string();
    }
    format!("{heads}.{}.{}", mentions(rooms), which_of(rooms))
}

fn heads(rooms: &[RoomSummary]) -> Seq {
    let listed = rooms.iter().filter(|room| room.is_listed());
    listed.map(|room| room.head).sum()
}

/// Tells these rooms, at their levels, from others, in whichever order they are listed.
fn which_of(rooms: &[RoomSummary]) -> String {
    let hash = |room: &RoomSummary| match room.level {
        Level::All => fnv1a(room.room.as_str()),
        level => fnv1a(&format!("{} {}", room.room, level.as_str())),
    };
    let listed = rooms.iter().filter(|room| room.is_listed());
    let which = listed.map(hash).fold(0, u32::wrapping_add);
    format!("{which:x}")
}

/// Whether these are from before what the sender of a cursor has seen.
fn is_behind(rooms: &[RoomSummary], after: &str) -> bool {
    let known = heads(rooms);
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
    let ids = |rooms: &[RoomSummary]| -> Vec<RoomId> {
        let mut ids: Vec<RoomId> = rooms.iter().map(|room| room.room.clone()).collect();
        ids.sort_unstable();
        ids
    };
    let mut watched = ids(&rooms);
    // From here on what is appended wakes us, and what was before is read.
    let mut growth = app.hub.watch_logs(watched.clone(), session);
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
        // There is another, which is not listed yet: a conversation in which nothing was said.
        let now = ids(&rooms);
        if now != watched {
            growth = app.hub.watch_logs(now.clone(), session);
            watched = now;
            continue;
        }
        let _ = timeout_at(until, growth.changed()).await;
        if !signed_in.is_still(app).await? {
            return Err(AppError::SignedOut);
        }
    }
}

/// How many unread mentions there are in some rooms.
pub(super) fn mentions<'a>(rooms: impl IntoIterator<Item = &'a RoomSummary>) -> usize {
    rooms.into_iter().map(|room| room.mentions).sum()
}

fn shown(app: &AppState, user: &User, rooms: &Arc<[RoomSummary]>) -> Option<CachedHtml> {
    let has_some = rooms.iter().any(RoomSummary::is_listed);
    has_some.then(|| app.fragments.lobby(user.id, rooms))
}

/// The values typed in the lobby.
#[derive(Default)]
pub(super) struct Typed<'a> {
    /// The room to be entered, and why it is not.
    pub(super) room: &'a str,
    pub(super) error: Option<&'a str>,
    /// The word that open rooms are searched by.
    pub(super) word: &'a str,
}

/// The lobby with what was typed there.
pub(super) async fn page(
    app: &AppState,
    user: &User,
    freshness: &Freshness,
    status: StatusCode,
    typed: Typed<'_>,
) -> Result<Response, AppError> {
    let rooms = app.store.rooms_of(user, freshness).await?;
    page_of(app, user, &rooms, status, typed).await
}

async fn page_of(
    app: &AppState,
    user: &User,
    rooms: &Arc<[RoomSummary]>,
    status: StatusCode,
    typed: Typed<'_>,
) -> Result<Response, AppError> {
    let open = open_rooms(app, rooms, typed.word, OPEN_LISTED + 1).await?;
    let shown = shown(app, user, rooms);
    let field = Field {
        name: "room",
        label: "Room id",
        kind: "text",
        autocomplete: "off",
        value: typed.room,
        hint: "Letters a–z, digits, “-” and “_”.",
        error: typed.error,
        is_first: true,
    };
    let parts_bytes = shown.as_ref().map_or(0, CachedHtml::bytes);
    let page = LobbyPage {
        user,
        field,
        is_admin: shown.is_none() && is_admin(app, user.id).await?,
        rooms: shown,
        mentions: mentions(&**rooms),
        open: &open[..open.len().min(OPEN_LISTED)],
        has_more: open.len() > OPEN_LISTED,
        word: typed.word,
    };
    Ok(respond::html_around(parts_bytes, status, &page))
}

/// Open rooms that somebody is not in, with a word in their ids, names or topics.
async fn open_rooms(
    app: &AppState,
    rooms: &[RoomSummary],
    word: &str,
    limit: usize,
) -> Result<Vec<ListedRoom>, AppError> {
    let open = app.store.open_rooms().await?;
    let own: HashSet<&RoomId> = rooms.iter().map(|room| &room.room).collect();
    let word = word.trim().to_lowercase();
    let found = open
        .iter()
        .filter(|open| !own.contains(&open.room) && open.has(&word));
    Ok(found.take(limit).cloned().collect())
}
