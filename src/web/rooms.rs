//! Rooms: the lobby, entering a room, a room's page.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{Html, IntoResponse, Redirect, Response};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::time::{Instant, timeout_at};

use super::extract::{RoomMember, SignedIn, read_only};
use super::form::{Input, Payload};
use super::query::{self, Query};
use super::respond::{self, ResponseFormat};
use super::seen::Seeing;
use crate::domain::{
    Access, Author, Event, EventId, Invalid, Label, OpenRoom, Posting, RoomId, RoomSettings,
    RoomSummary, Roster, Seq, User, id_from_name,
};
use crate::error::{AppError, ROOM_TAKEN, ReadOnly};
use crate::fnv::fnv1a;
use crate::limits::Limited;
use crate::live::text_line;
use crate::state::AppState;
use crate::store::{Freshness, History, Seen, StoreError};
use crate::views::{
    self, Avatar, CachedHtml, Composer, Field, LobbyPage, NewRoomPage, Reacted, RoomForm, RoomPage,
};

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
    room: &'a RoomId,
    name: Option<&'a Label>,
    topic: Option<&'a Label>,
    access: Access,
    /// The people of a direct room.
    #[serde(skip_serializing_if = "<[Author]>::is_empty")]
    people: &'a [Author],
    head: Seq,
    /// The newest message, abridged: a thousand whole ones would be megabytes.
    last: Option<Event>,
    unread: u64,
    /// How many of those are for the reader, up to 100.
    mentions: usize,
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

fn open_room(open: &OpenRoom) -> Open<'_> {
    Open {
        room: &open.room,
        name: open.settings.name.as_ref(),
        topic: open.settings.topic.as_ref(),
        people: open.people,
    }
}

/// How many open rooms are listed.
const OPEN_LISTED: usize = 50;

/// A room as JSON.
#[derive(Serialize)]
struct Room<'a> {
    room: &'a RoomId,
    name: Option<&'a Label>,
    topic: Option<&'a Label>,
    access: Access,
    /// The people of a direct room.
    #[serde(skip_serializing_if = "<[Author]>::is_empty")]
    people: &'a [Author],
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
            let word = query.find("q").unwrap_or("");
            let typed = Typed {
                word,
                ..Typed::default()
            };
            lobby_of(&app, user, &rooms, StatusCode::OK, typed).await?
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
                room: &room.room,
                people: &room.settings.people,
                name: room.settings.name.as_ref(),
                topic: room.settings.topic.as_ref(),
                access: room.settings.access,
                head: room.head,
                last: room.last.as_ref().map(|last| last.abridged()),
                unread: room.unread,
                mentions: room.mentions,
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

/// Tells these rooms from others, in whichever order they are listed.
fn which_of(rooms: &[RoomSummary]) -> String {
    let hash = |room: &RoomSummary| fnv1a(room.room.as_str());
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

/// The room that somebody enters, or makes with settings of their own.
#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct NewRoom {
    room: String,
    name: String,
    topic: String,
    access: String,
}

impl Input for NewRoom {}

impl NewRoom {
    /// Whether a room is to be made, not to be entered. A form sends its fields empty.
    fn makes(&self) -> bool {
        [&self.name, &self.topic, &self.access]
            .iter()
            .any(|field| !field.trim().is_empty())
    }

    /// The settings of the room that is made, or what is wrong with them.
    fn settings(&self) -> Result<RoomSettings, Vec<(&'static str, String)>> {
        let access = match self.access.trim() {
            "" => Ok(Access::default()),
            access => Access::parse(access),
        };
        match (Label::name(&self.name), Label::topic(&self.topic), access) {
            (Ok(name), Ok(topic), Ok(access)) => Ok(RoomSettings {
                access,
                name,
                topic,
                ..RoomSettings::default()
            }),
            (name, topic, access) => {
                let errors = [
                    ("name", name.err()),
                    ("topic", topic.err()),
                    ("access", access.err()),
                ];
                let wrong = |(name, error): (_, Option<Invalid>)| Some((name, error?.to_string()));
                Err(errors.into_iter().filter_map(wrong).collect())
            }
        }
    }

    /// The id that was typed, or one that is made of the name: of a private room nobody can guess it.
    fn id(&self, settings: &RoomSettings) -> Result<RoomId, Invalid> {
        if !self.room.trim().is_empty() {
            return RoomId::parse(&self.room);
        }
        let name = settings
            .name
            .as_ref()
            .and_then(|name| id_from_name(name.as_str()));
        match (name, settings.access) {
            (Some(id), Access::Open | Access::Unlisted) => Ok(id),
            (Some(id), Access::Private | Access::Direct) => {
                // With a dash and eight more.
                let stem = id.as_str().chars().take(RoomId::CHARS_MAX - 9);
                RoomId::parse(&format!("{}-{}", stem.collect::<String>(), random_word()))
            }
            (None, _) => RoomId::parse(&format!("room-{}", random_word())),
        }
    }
}

/// Eight letters and digits that nobody can guess.
fn random_word() -> String {
    let uuid = super::messages::new_nonce();
    uuid.chars()
        .filter(char::is_ascii_alphanumeric)
        .take(8)
        .collect()
}

/// `GET /new`: a room to be made.
pub(super) async fn new(SignedIn { user, .. }: SignedIn) -> Response {
    let page = NewRoomPage::of(&user, RoomForm::default());
    respond::html(StatusCode::OK, &page)
}

/// `POST /rooms`: enters the room, which is made if it was not there; or makes one that must not be.
pub(super) async fn create(
    State(app): State<AppState>,
    format: ResponseFormat,
    SignedIn { user, .. }: SignedIn,
    seeing: Seeing,
    Payload(sent): Payload<NewRoom>,
) -> Result<Response, AppError> {
    let refused = |status: StatusCode, room: &str, errors: Vec<(&'static str, String)>| {
        let form = RoomForm {
            room,
            name: &sent.name,
            topic: &sent.topic,
            access: Access::parse(&sent.access).unwrap_or_default(),
            posting: Posting::default(),
            errors: &errors,
        };
        match format.is_html() {
            true => Ok(respond::html(status, &NewRoomPage::of(&user, form))),
            false if status == StatusCode::CONFLICT => Err(AppError::RoomTaken),
            false => Err(AppError::InvalidFields(errors)),
        }
    };
    let made = match sent.makes().then(|| sent.settings()).transpose() {
        Ok(made) => made,
        Err(errors) => return refused(StatusCode::UNPROCESSABLE_ENTITY, &sent.room, errors),
    };
    let room = match (&made, RoomId::parse(&sent.room)) {
        (Some(made), _) => match sent.id(made) {
            Ok(room) => room,
            Err(invalid) => {
                let errors = vec![("room", invalid.to_string())];
                return refused(StatusCode::UNPROCESSABLE_ENTITY, &sent.room, errors);
            }
        },
        (None, Ok(room)) => room,
        (None, Err(invalid)) if format.is_html() => {
            let status = StatusCode::UNPROCESSABLE_ENTITY;
            let typed = Typed {
                room: &sent.room,
                error: Some(&invalid.to_string()),
                word: "",
            };
            return lobby(&app, &user, &seeing.freshness(), status, typed).await;
        }
        (None, Err(invalid)) => return Err(invalid.into()),
    };
    app.limits.take(&Limited::JoinsOf(user.id)).await?;
    let joined = match app.store.join(&room, &user, made.as_ref()).await {
        Ok(joined) => joined,
        Err(StoreError::RoomTaken) if made.is_some() => {
            let errors = vec![("room", ROOM_TAKEN.to_owned())];
            return refused(StatusCode::CONFLICT, room.as_str(), errors);
        }
        Err(StoreError::RoomTaken) if format.is_html() => {
            let typed = Typed {
                room: &sent.room,
                error: Some(ROOM_TAKEN),
                word: "",
            };
            return lobby(
                &app,
                &user,
                &seeing.freshness(),
                StatusCode::CONFLICT,
                typed,
            )
            .await;
        }
        Err(error) => return Err(error.into()),
    };
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
            let own = rooms.iter().find(|other| other.room == room);
            let settings = own.map(|own| Arc::clone(&own.settings)).unwrap_or_default();
            let read_only = read_only(&app, &room, user.id).await?;
            let page = RoomPage {
                user,
                room: &room,
                settings: &settings,
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
                read_only: read_only.map(ReadOnly::says),
                composer: Composer {
                    nonce: super::messages::new_nonce(),
                    ..Composer::default()
                },
            };
            let parts_bytes = page.log.bytes() + page.side.bytes();
            respond::html_around(parts_bytes, StatusCode::OK, &page)
        }
        ResponseFormat::Json | ResponseFormat::Ndjson => {
            let settings = app.store.settings(&room).await?.unwrap_or_default();
            let room = Room {
                room: &room,
                name: settings.name.as_ref(),
                topic: settings.topic.as_ref(),
                access: settings.access,
                people: &settings.people,
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
    let has_some = rooms.iter().any(RoomSummary::is_listed);
    has_some.then(|| app.fragments.lobby(user.id, rooms))
}

/// What was typed in the lobby.
#[derive(Default)]
struct Typed<'a> {
    /// The room to be entered, and why it is not.
    room: &'a str,
    error: Option<&'a str>,
    /// What open rooms are looked for by.
    word: &'a str,
}

async fn lobby(
    app: &AppState,
    user: &User,
    freshness: &Freshness,
    status: StatusCode,
    typed: Typed<'_>,
) -> Result<Response, AppError> {
    let rooms = app.store.rooms_of(user, freshness).await?;
    lobby_of(app, user, &rooms, status, typed).await
}

async fn lobby_of(
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
        rooms: shown,
        mentions: mentions(&**rooms),
        open: &open[..open.len().min(OPEN_LISTED)],
        has_more: open.len() > OPEN_LISTED,
        word: typed.word,
    };
    Ok(respond::html_around(parts_bytes, status, &page))
}

/// Open rooms that somebody is not in.
async fn open_rooms(
    app: &AppState,
    rooms: &[RoomSummary],
    word: &str,
    limit: usize,
) -> Result<Vec<OpenRoom>, AppError> {
    let own: Vec<RoomId> = rooms.iter().map(|room| room.room.clone()).collect();
    Ok(app.store.open_rooms(&own, word, limit).await?)
}
