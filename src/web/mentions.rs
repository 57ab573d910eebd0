//! Mentions: whom a new message is for, and what is for oneself.

use std::collections::HashMap;
use std::fmt;
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
use crate::error::{AppError, Question};
use crate::live::text_line;
use crate::markup;
use crate::state::AppState;
use crate::store::MentionPlace;
use crate::views::MentionsPage;

/// Finds the people whom a text by `author` is for, which perhaps answers somebody. With @room its sender has to
/// say that they mean it.
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
            return Err(AppError::AsksFirst(Question::TellsAll { others }));
        }
    }
    Ok(Mentions::new(named, answered, is_for_all, author.id)?)
}

/// The sender's mentions as JSON.
#[derive(Serialize)]
struct Listed<'a> {
    /// Unread ones first, of both the newest first.
    mentions: Vec<ListedMention<'a>>,
    /// The value of `before` to go on with; null at the end.
    older: Option<String>,
}

#[derive(Serialize)]
struct ListedMention<'a> {
    unread: bool,
    #[serde(flatten)]
    event: &'a Event,
}

/// Where a page begins: unread ones stand before those that are read. As text `unread:` or `read:` and a
/// place, `1764200000000.42.tea`, or nothing.
#[derive(Debug, PartialEq)]
struct Cursor {
    in_unread: bool,
    before: Option<MentionPlace>,
}

/// `GET /mentions`: what is for its sender, in all their rooms.
pub(super) async fn index(
    State(app): State<AppState>,
    format: ResponseFormat,
    SignedIn { user, .. }: SignedIn,
    query: Query,
) -> Result<Response, AppError> {
    let limit = log_range::limit(&query)?.unwrap_or(PAGE);
    let cursor = query.find("before").map(Cursor::parse).transpose()?;
    let goes_on = cursor.is_some();
    let cursor = cursor.unwrap_or(Cursor {
        in_unread: true,
        before: None,
    });
    let (unread, read, older) = page(&app, &user, cursor, limit).await?;
    let older = older.map(|cursor| cursor.to_string());
    let next = older
        .as_ref()
        .map(|older| format!("/mentions?before={older}"));
    let response = match format {
        ResponseFormat::Page | ResponseFormat::Fragment => {
            let page = MentionsPage {
                user: &user,
                epoch: app.store.epoch(),
                unread: &unread,
                read: &read,
                titles: titles(&app, &user, unread.iter().chain(&read)).await?,
                older,
                goes_on,
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
    };
    Ok(respond::with_next(response, next.as_deref()))
}

/// The titles of the rooms of some events.
async fn titles(
    app: &AppState,
    user: &User,
    events: impl Iterator<Item = &Arc<Event>>,
) -> Result<HashMap<RoomId, String>, AppError> {
    let mut titles = HashMap::new();
    for event in events {
        if !titles.contains_key(&event.room) {
            let settings = app.store.kept_settings(&event.room).await?;
            let title = settings.title(&event.room, &user.id).into_owned();
            titles.insert(event.room.clone(), title);
        }
    }
    Ok(titles)
}

/// A page of unread mentions and, where they end, of those that are read; and where the next begins.
async fn page(
    app: &AppState,
    user: &User,
    from: Cursor,
    limit: usize,
) -> Result<(Vec<Arc<Event>>, Vec<Arc<Event>>, Option<Cursor>), AppError> {
    let after = |events: &[Arc<Event>]| events.last().map(|last| MentionPlace::of(last));
    let mut unread = Vec::new();
    let mut before = from.before;
    if from.in_unread {
        let page = app
            .store
            .unread_mentions(user, before.take(), limit)
            .await?;
        unread = page.events;
        let is_full = unread.len() == limit;
        if !page.is_last || is_full {
            let older = Cursor {
                in_unread: !page.is_last,
                before: after(&unread).filter(|_| !page.is_last),
            };
            return Ok((unread, Vec::new(), Some(older)));
        }
    }
    let page = app.store.read_mentions(user, before, limit - unread.len());
    let page = page.await?;
    let older = after(&page.events)
        .filter(|_| !page.is_last)
        .map(|last| Cursor {
            in_unread: false,
            before: Some(last),
        });
    Ok((unread, page.events, older))
}

impl Cursor {
    fn parse(text: &str) -> Result<Self, Invalid> {
        let cursor = || {
            let (part, place) = text.split_once(':')?;
            let in_unread = match part {
                "unread" => true,
                "read" => false,
                _ => return None,
            };
            if place.is_empty() {
                let before = None;
                return Some(Self { in_unread, before });
            }
            let mut parts = place.splitn(3, '.');
            let at = Timestamp::from_millis(parts.next()?.parse().ok()?);
            let seq = parts.next()?.parse::<Seq>().ok()?;
            let room = RoomId::known(parts.next()?).ok()?;
            i64::try_from(seq).ok()?;
            let before = Some(MentionPlace { at, room, seq });
            Some(Self { in_unread, before })
        };
        cursor().ok_or(Invalid(
            "before takes what “older” of the page before says.",
        ))
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let part = if self.in_unread { "unread" } else { "read" };
        match &self.before {
            None => write!(f, "{part}:"),
            Some(MentionPlace { at, room, seq }) => {
                write!(f, "{part}:{}.{seq}.{room}", at.as_millis())
            }
        }
    }
}
