//! Rooms: making one, entering one, a room's page.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};

use super::extract::{RoomMember, SignedIn, read_only};
use super::form::{Input, Payload};
use super::lobby::{self, Typed};
use super::query::Query;
use super::respond::{self, ResponseFormat};
use super::room_labels::RoomLabels;
use super::seen::Seeing;
use crate::domain::{
    Access, Event, EventId, Invalid, Label, Posting, RoomId, RoomSettings, Roster, Seq, User,
    id_from_name,
};
use crate::error::{AppError, FieldErrors, ROOM_TAKEN, ReadOnly, field_errors};
use crate::limits::Limited;
use crate::live::text_line;
use crate::state::AppState;
use crate::store::{History, StoreError};
use crate::views::{self, Avatar, Composer, NewRoomPage, Reacted, RoomForm, RoomPage};

/// A room as JSON.
#[derive(Serialize)]
struct Room<'a> {
    #[serde(flatten)]
    labels: RoomLabels<'a>,
    head: Seq,
    /// Where a stream goes on.
    cursor: String,
    present: &'a Roster,
    /// The newest, oldest first.
    events: &'a [Arc<Event>],
}

/// How many events the room's page begins with.
const NEWEST: usize = 50;

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
    fn settings(&self) -> Result<RoomSettings, FieldErrors> {
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
            (name, topic, access) => Err(field_errors([
                ("name", name.err()),
                ("topic", topic.err()),
                ("access", access.err()),
            ])),
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

/// `GET /new?name=`: a room to be made; to programs the id that the name offers, null where it makes none.
pub(super) async fn new(
    format: ResponseFormat,
    SignedIn { user, .. }: SignedIn,
    query: Query,
) -> Response {
    let name = query.word("name", Label::NAME_CHARS_MAX);
    if format.is_html() {
        let form = RoomForm {
            name: &name,
            ..RoomForm::default()
        };
        return respond::html(StatusCode::OK, &NewRoomPage::of(&user, form));
    }
    let room = id_from_name(&name);
    match format {
        ResponseFormat::Text => {
            let id = room.as_ref().map_or("", RoomId::as_str);
            respond::text(StatusCode::OK, format!("{id}\n"))
        }
        _ => respond::json(StatusCode::OK, &serde_json::json!({ "room": room })),
    }
}

/// `POST /rooms`: enters the room, which is made if it was not there; or makes one that must not be.
pub(super) async fn create(
    State(app): State<AppState>,
    format: ResponseFormat,
    SignedIn { user, .. }: SignedIn,
    seeing: Seeing,
    Payload(sent): Payload<NewRoom>,
) -> Result<Response, AppError> {
    match sent.makes() {
        true => make(&app, format, &user, seeing, &sent).await,
        false => enter(&app, format, &user, seeing, &sent.room).await,
    }
}

async fn make(
    app: &AppState,
    format: ResponseFormat,
    user: &User,
    seeing: Seeing,
    sent: &NewRoom,
) -> Result<Response, AppError> {
    let refused = |error: AppError, room: &str| {
        if !format.is_html() {
            return Err(error);
        }
        let errors = match &error {
            AppError::InvalidFields(errors) => errors.clone(),
            AppError::RoomTaken => vec![("room", ROOM_TAKEN.to_owned())],
            error => vec![("form", error.detail())],
        };
        let form = RoomForm {
            room,
            name: &sent.name,
            topic: &sent.topic,
            access: Access::parse(&sent.access).unwrap_or_default(),
            posting: Posting::default(),
            errors: &errors,
            asks: None,
            is_second: false,
        };
        Ok(respond::html_error(&error, &NewRoomPage::of(user, form)))
    };
    let made = match sent.settings() {
        Ok(made) => made,
        Err(errors) => return refused(AppError::InvalidFields(errors), &sent.room),
    };
    let room = match sent.id(&made) {
        Ok(room) => room,
        Err(invalid) => {
            let errors = vec![("room", invalid.to_string())];
            return refused(AppError::InvalidFields(errors), &sent.room);
        }
    };
    if let Err(limited) = app.limits.take(&Limited::JoinsOf(user.id)).await {
        return refused(limited.into(), &sent.room);
    }
    match app.store.join(&room, user, Some(&made)).await {
        Ok(joined) => {
            let seen = seeing.having_shown(&room, joined);
            Ok((seen, respond::entered(format, &room)).into_response())
        }
        Err(error) => refused(error.into(), room.as_str()),
    }
}

async fn enter(
    app: &AppState,
    format: ResponseFormat,
    user: &User,
    seeing: Seeing,
    typed: &str,
) -> Result<Response, AppError> {
    let refused = async |status: StatusCode, why: &str| {
        let typed = Typed {
            room: typed,
            error: Some(why),
            word: "",
        };
        lobby::page(app, user, &seeing.freshness(), status, typed).await
    };
    let room = match RoomId::parse(typed) {
        Ok(room) => room,
        Err(invalid) if format.is_html() => {
            return refused(StatusCode::UNPROCESSABLE_ENTITY, &invalid.to_string()).await;
        }
        Err(invalid) => return Err(invalid.into()),
    };
    app.limits.take(&Limited::JoinsOf(user.id)).await?;
    match app.store.join(&room, user, None).await {
        Ok(joined) => {
            let seen = seeing.having_shown(&room, joined);
            Ok((seen, respond::entered(format, &room)).into_response())
        }
        Err(StoreError::RoomTaken) if format.is_html() => {
            refused(StatusCode::CONFLICT, ROOM_TAKEN).await
        }
        Err(error) => Err(error.into()),
    }
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
                mentions: lobby::mentions(rooms.iter().filter(|other| other.room != room)),
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
                labels: RoomLabels::of(&room, &settings),
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
