//! Mentions: whom a new message is for, and what is for oneself.

use std::collections::HashMap;
use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde::Serialize;

use super::extract::SignedIn;
use super::log_range::{self, PAGE};
use super::query::Query;
use super::respond::{self, ResponseFormat};
use crate::domain::{Author, Event, Invalid, Mentions, RoomId, Seq, Timestamp, User, Username};
use crate::error::AppError;
use crate::live::text_line;
use crate::markup;
use crate::state::AppState;
use crate::store::MentionPlace;
use crate::views::MentionsPage;

/// Whom a text by `author` is for, which perhaps answers somebody. With @room its sender has to say that they
/// mean it.
pub(super) async fn of(
    app: &AppState,
    room: &RoomId,
    author: &User,
    text: &str,
    answered: Option<Author>,
    is_confirmed: bool,
) -> Result<Mentions, AppError> {
    let names = markup::names(text);
    let key = |name: &str| Username::stored(name).key();
    let everybody = key(Mentions::ROOM);
    let names: Vec<Vec<String>> = { names.iter() }
        .map(|forms| forms.iter().copied().map(key).collect())
        .collect();
    let mut keys: Vec<String> = names.iter().flatten().cloned().collect();
    keys.sort_unstable();
    keys.dedup();
    let members = match keys.is_empty() {
        true => Vec::new(),
        false => app.store.members_named(room, keys).await?,
    };
    let members: HashMap<String, Author> = { members.iter() }
        .map(|user| (user.username.key(), Author::from(user)))
        .collect();
    let mut is_for_all = false;
    let mut named = Vec::new();
    for forms in &names {
        let form = forms
            .iter()
            .find(|form| **form == everybody || members.contains_key(*form));
        match form {
            Some(form) if *form == everybody => is_for_all = true,
            Some(form) => named.extend(members.get(form).cloned()),
            None => {}
        }
    }
    if is_for_all && !is_confirmed {
        let others = app.store.count_members(room).await?.saturating_sub(1);
        if others > 0 {
            return Err(AppError::AsksFirst { others });
        }
    }
    Ok(Mentions::new(named, answered, is_for_all, author.id)?)
}

/// The sender's mentions as JSON.
#[derive(Serialize)]
struct Listed<'a> {
    /// Unread ones first, of both the newest first.
    mentions: Vec<ListedMention<'a>>,
    /// What `before` takes to go on; null where nothing is older.
    older: Option<String>,
}

#[derive(Serialize)]
struct ListedMention<'a> {
    unread: bool,
    #[serde(flatten)]
    event: &'a Event,
}

/// `GET /mentions`: what is for its sender, in all their rooms.
pub(super) async fn index(
    State(app): State<AppState>,
    format: ResponseFormat,
    SignedIn { user, .. }: SignedIn,
    query: Query,
) -> Result<Response, AppError> {
    let limit = log_range::limit(&query)?.unwrap_or(PAGE);
    let before = query.find("before").map(place).transpose()?;
    let unread = match before {
        None => app.store.unread_mentions(&user).await?,
        Some(_) => Vec::new(),
    };
    let read = app.store.read_mentions(&user, before, limit).await?;
    let older = read.events.last().filter(|_| !read.is_last);
    let older = older.map(|last| cursor(&MentionPlace::of(last)));
    let read = read.events;
    Ok(match format {
        ResponseFormat::Page | ResponseFormat::Fragment => {
            let page = MentionsPage {
                user: &user,
                epoch: app.store.epoch(),
                unread: &unread,
                read: &read,
                older,
                goes_on: query.find("before").is_some(),
            };
            respond::html(StatusCode::OK, &page)
        }
        ResponseFormat::Json | ResponseFormat::Ndjson => {
            let listed = |unread| move |event| ListedMention { unread, event };
            let mentions = { unread.iter().map(|event| &**event).map(listed(true)) }
                .chain(read.iter().map(|event| &**event).map(listed(false)))
                .collect();
            respond::json(StatusCode::OK, &Listed { mentions, older })
        }
        ResponseFormat::Text => {
            let line = |state: &'static str| {
                move |event: &Arc<Event>| format!("{state}\t{}\t{}", event.room, text_line(event))
            };
            let lines = unread.iter().map(line("unread"));
            let lines = lines.chain(read.iter().map(line("read")));
            respond::text(StatusCode::OK, lines.collect())
        }
    })
}

fn cursor(place: &MentionPlace) -> String {
    let MentionPlace { at, room, seq } = place;
    format!("{}.{seq}.{room}", at.as_millis())
}

fn place(cursor: &str) -> Result<MentionPlace, Invalid> {
    let place = || {
        let mut parts = cursor.splitn(3, '.');
        let at = parts.next()?.parse().ok()?;
        let seq = parts.next()?.parse::<Seq>().ok()?;
        let room = RoomId::parse(parts.next()?).ok()?;
        let at = Timestamp::from_millis(at);
        i64::try_from(seq)
            .is_ok()
            .then_some(MentionPlace { at, room, seq })
    };
    place().ok_or(Invalid(
        "before takes what “older” of the page before says.",
    ))
}
