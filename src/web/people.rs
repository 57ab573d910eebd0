//! The people of a room, to be mentioned.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde::Serialize;

use super::extract::RoomMember;
use super::query::Query;
use super::respond::{self, ResponseFormat};
use crate::domain::{Mentions, RoomId, User, UserId, Username};
use crate::error::AppError;
use crate::state::AppState;
use crate::store::{Freshness, Seen};
use crate::views::{PeopleOptions, PeoplePage};

/// How many are offered while a name is typed: as many as one looks over.
const OFFERED: usize = 8;

/// How many a page lists.
const LISTED: usize = 100;

/// How many of the last messages tell who spoke last.
const SPOKEN_IN: usize = 50;

/// The people as JSON.
#[derive(Serialize)]
struct People<'a> {
    people: &'a [User],
}

/// `GET /rooms/{room}/people?q=`: those whose names begin so, those who spoke last first.
pub(super) async fn index(
    State(app): State<AppState>,
    format: ResponseFormat,
    RoomMember {
        signed_in, room, ..
    }: RoomMember,
    query: Query,
) -> Result<Response, AppError> {
    let typed = query.find("q").unwrap_or("").trim();
    let typed = typed.strip_prefix('@').unwrap_or(typed);
    let user = &signed_in.user;
    Ok(match format {
        ResponseFormat::Fragment => {
            let people = find(&app, &room, typed, OFFERED, Some(user.id)).await?;
            let room = Mentions::ROOM.starts_with(&typed.to_lowercase());
            let people = &people;
            respond::html(StatusCode::OK, &PeopleOptions { people, room })
        }
        ResponseFormat::Page => {
            let page = PeoplePage {
                user,
                room: &room,
                query: typed,
                people: &find(&app, &room, typed, LISTED, None).await?,
            };
            respond::html(StatusCode::OK, &page)
        }
        ResponseFormat::Json | ResponseFormat::Ndjson => {
            let people = find(&app, &room, typed, LISTED, None).await?;
            respond::json(StatusCode::OK, &People { people: &people })
        }
        ResponseFormat::Text => {
            let people = find(&app, &room, typed, LISTED, None).await?;
            let lines = people
                .iter()
                .map(|user| format!("{}\n", user.username.as_str()));
            respond::text(StatusCode::OK, lines.collect())
        }
    })
}

/// The people whose names begin with what was typed: first those who spoke last, then by name.
async fn find(
    app: &AppState,
    room: &RoomId,
    typed: &str,
    limit: usize,
    but: Option<UserId>,
) -> Result<Vec<User>, AppError> {
    // Nobody types more of a name.
    let typed: String = typed.chars().take(Username::CHARS_MAX).collect();
    let prefix = Username::stored(&typed).key();
    let kept = Freshness::Seen(Seen::default());
    let newest = app.store.newest(room, SPOKEN_IN, &kept).await?;
    let mut people: Vec<User> = Vec::new();
    let messages = newest
        .entries
        .iter()
        .rev()
        .filter(|event| event.kind.is_message());
    let speakers = messages.map(|event| User {
        id: event.author.id,
        username: Username::stored(&event.author.username),
    });
    let called = speakers.filter(|user| user.username.key().starts_with(&prefix));
    let more = app.store.members_called(room, prefix.clone(), limit + 1);
    for user in called.chain(more.await?) {
        let is_there = people.iter().any(|other| other.id == user.id);
        if !is_there && but != Some(user.id) {
            people.push(user);
        }
    }
    people.truncate(limit);
    Ok(people)
}
