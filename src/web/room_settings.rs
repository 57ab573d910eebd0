//! A room's settings: its name, its topic, and who may enter.

use axum::extract::State;
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};

use super::extract::{RoomOwner, RoomViewer};
use super::form::{Input, Payload, flag, given};
use super::respond::{self, ResponseFormat, done};
use super::seen::Seeing;
use crate::domain::{
    Access, Act, AuditEntry, Label, Level, Posting, RoomId, RoomSettings, Seq, Setting, User,
};
use crate::error::{AppError, Question};
use crate::state::AppState;
use crate::store::{StoreError, audited};
use crate::views::{RoomForm, RoomSettingsPage};

/// The settings as JSON.
#[derive(Serialize)]
struct Settings<'a> {
    room: &'a RoomId,
    name: Option<&'a Label>,
    topic: Option<&'a Label>,
    access: Access,
    posting: Posting,
    archived: bool,
    /// The reader's own; of members alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    level: Option<Level>,
}

/// `GET /rooms/{room}/settings`.
pub(super) async fn show(
    State(app): State<AppState>,
    format: ResponseFormat,
    viewer: RoomViewer,
    seeing: Seeing,
) -> Result<Response, AppError> {
    let (room, user) = (&viewer.room, &viewer.user);
    let settings = app.store.settings(room).await?.unwrap_or_default();
    let level = level_of(&app, user, room, &seeing).await?;
    Ok(match format {
        ResponseFormat::Page | ResponseFormat::Fragment => {
            let page = RoomSettingsPage::of(user, room, &settings, viewer.decides, level);
            respond::html(StatusCode::OK, &page)
        }
        ResponseFormat::Json | ResponseFormat::Ndjson => {
            let settings = Settings {
                room,
                name: settings.name.as_ref(),
                topic: settings.topic.as_ref(),
                access: settings.access,
                posting: settings.posting,
                archived: settings.is_archived,
                level,
            };
            respond::json(StatusCode::OK, &settings)
        }
        ResponseFormat::Text => {
            let label = |label: &Option<Label>| {
                let label = label.as_ref().map(Label::as_str);
                label.unwrap_or_default().to_owned()
            };
            let (name, topic) = (label(&settings.name), label(&settings.topic));
            let access = settings.access.as_str();
            let (posting, archived) = (settings.posting.as_str(), u8::from(settings.is_archived));
            let level = level.map_or(String::new(), |level| {
                format!("level\t{}\n", level.as_str())
            });
            let text = format!(
                "name\t{name}\ntopic\t{topic}\naccess\t{access}\nposting\t{posting}\n\
                 archived\t{archived}\n{level}"
            );
            respond::text(StatusCode::OK, text)
        }
    })
}

/// The level of a member.
pub(super) async fn level_of(
    app: &AppState,
    user: &User,
    room: &RoomId,
    seeing: &Seeing,
) -> Result<Option<Level>, AppError> {
    let rooms = app.store.rooms_of(user, &seeing.freshness()).await?;
    let own = rooms.iter().find(|own| own.room == *room);
    Ok(own.map(|own| own.level))
}

/// Settings to be changed: those that are sent. An empty name or topic takes it away.
#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Change {
    #[serde(deserialize_with = "given")]
    name: Option<String>,
    #[serde(deserialize_with = "given")]
    topic: Option<String>,
    #[serde(deserialize_with = "given")]
    access: Option<String>,
    #[serde(deserialize_with = "given")]
    posting: Option<String>,
    /// `1` or `0`.
    #[serde(deserialize_with = "given")]
    archived: Option<String>,
    /// Says that the sender means to open a private room.
    confirm: String,
}

impl Input for Change {
    const SCALARS: &'static [&'static str] = &["archived"];
}

impl Change {
    /// Each with its value, or what is wrong with them.
    fn settings(&self) -> Result<Vec<Setting>, Vec<(&'static str, String)>> {
        let (mut settings, mut errors) = (Vec::new(), Vec::new());
        let archived = |raw: &str| flag(raw, "archived is 1 or 0.").map(Setting::Archived);
        let parsed = [
            (
                "name",
                self.name
                    .as_deref()
                    .map(|raw| Label::name(raw).map(Setting::Name)),
            ),
            (
                "topic",
                self.topic
                    .as_deref()
                    .map(|raw| Label::topic(raw).map(Setting::Topic)),
            ),
            (
                "access",
                self.access
                    .as_deref()
                    .map(|raw| Access::parse(raw).map(Setting::Access)),
            ),
            (
                "posting",
                self.posting
                    .as_deref()
                    .map(|raw| Posting::parse(raw).map(Setting::Posting)),
            ),
            ("archived", self.archived.as_deref().map(archived)),
        ];
        for (name, setting) in parsed {
            match setting {
                None => {}
                Some(Ok(setting)) => settings.push(setting),
                Some(Err(invalid)) => errors.push((name, invalid.to_string())),
            }
        }
        if errors.is_empty() {
            Ok(settings)
        } else {
            Err(errors)
        }
    }
}

/// `POST /rooms/{room}/settings`, by an owner.
pub(super) async fn update(
    State(app): State<AppState>,
    format: ResponseFormat,
    RoomOwner { user, room }: RoomOwner,
    seeing: Seeing,
    Payload(sent): Payload<Change>,
) -> Result<Response, AppError> {
    let now = app.store.settings(&room).await?.unwrap_or_default();
    let level = level_of(&app, &user, &room, &seeing).await?;
    let again = |errors, asks| again(&user, &room, &sent, (&now, level), errors, asks);
    let settings = match sent.settings() {
        Ok(settings) => settings,
        Err(errors) if format.is_html() => {
            let page = again(&errors, None);
            return Ok(respond::html(StatusCode::UNPROCESSABLE_ENTITY, &page));
        }
        Err(errors) => return Err(AppError::InvalidFields(errors)),
    };
    if let Some(question) = question(&app, &room, &now, &settings).await?
        && sent.confirm != question.confirm()
    {
        if !format.is_html() {
            return Err(AppError::AsksFirst(question));
        }
        let says = question.says();
        let page = again(&[], Some(&says));
        return Ok(respond::html(StatusCode::UNPROCESSABLE_ENTITY, &page));
    }
    let mut seen = 0;
    for setting in settings {
        match set(&app, &room, &user, &now, setting).await {
            Ok(seq) => seen = seq.max(seen),
            Err(error) if format.is_html() => {
                let error = AppError::from(error);
                let errors = [("form", error.detail())];
                let page = again(&errors, None);
                return Ok(respond::html_error(&error, &page));
            }
            Err(error) => return Err(error.into()),
        }
    }
    let response = done(&Method::POST, format, &format!("/rooms/{room}"));
    Ok((seeing.having_shown(&room, seen), response).into_response())
}

/// Changes a setting; one that is so already is not noted.
async fn set(
    app: &AppState,
    room: &RoomId,
    by: &User,
    now: &RoomSettings,
    setting: Setting,
) -> Result<Seq, StoreError> {
    let is_new = now.with(&setting).is_some();
    let entry = AuditEntry::new(Some(by), Act::SetRoom).in_room(room);
    let entry = entry.with(setting.in_words());
    let change = app.store.set(room, by, setting);
    match is_new {
        true => audited(&*app.store, entry, change).await,
        false => change.await,
    }
}

/// The question to an owner before a private room is opened.
async fn question(
    app: &AppState,
    room: &RoomId,
    now: &RoomSettings,
    settings: &[Setting],
) -> Result<Option<Question>, AppError> {
    let opens = |setting: &Setting| matches!(setting, Setting::Access(access) if *access != Access::Private);
    if now.access != Access::Private || !settings.iter().any(opens) {
        return Ok(None);
    }
    let newest = app.store.page_before(room, u64::MAX, 1).await?;
    let messages = newest.last().map_or(0, |last| last.messages);
    Ok(Some(Question::Opens { messages }))
}

/// The page with what was typed.
fn again<'a>(
    user: &'a User,
    room: &'a RoomId,
    sent: &'a Change,
    (now, level): (&'a RoomSettings, Option<Level>),
    errors: &'a [(&'static str, String)],
    asks: Option<&'a str>,
) -> RoomSettingsPage<'a> {
    let typed = sent.access.as_deref().map(Access::parse);
    let mut page = RoomSettingsPage::of(user, room, now, true, level);
    page.form = RoomForm {
        room: room.as_str(),
        name: sent.name.as_deref().unwrap_or(page.form.name),
        topic: sent.topic.as_deref().unwrap_or(page.form.topic),
        access: typed.and_then(Result::ok).unwrap_or(now.access),
        posting: match &sent.posting {
            Some(posting) => Posting::parse(posting).unwrap_or(now.posting),
            None => now.posting,
        },
        errors,
        asks,
        is_second: false,
    };
    page
}
