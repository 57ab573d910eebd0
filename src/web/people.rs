//! The people of a room: who they are, and who is added.

use std::collections::HashSet;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use serde::{Deserialize, Serialize};

use super::accounts::called;
use super::extract::{RoomOwner, RoomViewer};
use super::form::{Input, Payload};
use super::invites::may_invite;
use super::paging::{address, cut};
use super::query::Query;
use super::respond::{self, ResponseFormat};
use super::seen::Seeing;
use crate::domain::{
    Act, AuditEntry, Mentions, Role, RoomId, Seq, Timestamp, User, UserId, Username,
};
use crate::error::AppError;
use crate::state::AppState;
use crate::store::{Freshness, Seen, StoreError, audited};
use crate::views::{PeopleOptions, PeoplePage, PersonRow};

/// How many are offered while a name is typed: as many as one looks over.
const OFFERED: usize = 8;

/// How many a page lists.
const LISTED: usize = 100;

/// How many of those who are kept out an owner is shown.
const BANNED_LISTED: usize = 200;

/// How many of the last messages tell who spoke last.
const SPOKEN_IN: usize = 50;

/// The people as JSON.
#[derive(Serialize)]
struct People<'a> {
    people: Vec<PersonShape<'a>>,
    /// The value of `after` that goes on from there; null at the end.
    next: Option<String>,
    /// The people who are kept out, for those who decide about the room.
    #[serde(skip_serializing_if = "Option::is_none")]
    banned: Option<Vec<User>>,
}

/// Somebody as JSON.
#[derive(Serialize)]
struct PersonShape<'a> {
    id: UserId,
    username: &'a Username,
    role: Role,
    joined_at: Timestamp,
    /// Whether they are in the room now.
    here: bool,
}

impl<'a> From<&'a PersonRow> for PersonShape<'a> {
    fn from(row: &'a PersonRow) -> Self {
        Self {
            id: row.person.user.id,
            username: &row.person.user.username,
            role: row.role(),
            joined_at: row.person.joined_at,
            here: row.is_here,
        }
    }
}

/// `GET /rooms/{room}/people?q=`: those whose names begin so. While a name is typed they are offered, those who
/// spoke last first.
pub(super) async fn index(
    State(app): State<AppState>,
    format: ResponseFormat,
    viewer: RoomViewer,
    query: Query,
) -> Result<Response, AppError> {
    let typed = query.find("q").unwrap_or("").trim();
    let typed = typed.strip_prefix('@').unwrap_or(typed);
    let after = query.find("after").unwrap_or("");
    let (room, user) = (&viewer.room, &viewer.user);
    if format == ResponseFormat::Fragment {
        let people = &offered(&app, room, typed, user.id).await?;
        let room = Mentions::ROOM.starts_with(&typed.to_lowercase());
        return Ok(respond::html(
            StatusCode::OK,
            &PeopleOptions { people, room },
        ));
    }
    if format == ResponseFormat::Page {
        let list = List { typed, after };
        return page(&app, &viewer, list, StatusCode::OK, None).await;
    }
    let (people, next) = listed(&app, room, typed, after).await?;
    Ok(match format {
        ResponseFormat::Text => {
            let line = |row: &PersonRow| {
                let (name, role) = (row.person.user.username.as_str(), row.role().as_str());
                let here = if row.is_here { "here" } else { "-" };
                format!("{name}\t{role}\t{}\t{here}\n", row.person.joined_at)
            };
            let text = respond::text(StatusCode::OK, people.iter().map(line).collect());
            let next = next.map(|next| path_of(room, typed, &next));
            respond::with_next(text, next.as_deref())
        }
        _ => {
            let people = People {
                people: people.iter().map(PersonShape::from).collect(),
                next,
                banned: match viewer.decides {
                    true => Some(app.store.banned(room, BANNED_LISTED).await?),
                    false => None,
                },
            };
            respond::json(StatusCode::OK, &people)
        }
    })
}

/// Chooses the people that a page lists.
#[derive(Default)]
struct List<'a> {
    typed: &'a str,
    after: &'a str,
}

/// The page; after somebody was not added with their name, and why.
async fn page(
    app: &AppState,
    RoomViewer {
        user,
        room,
        decides,
    }: &RoomViewer,
    List { typed, after }: List<'_>,
    status: StatusCode,
    refused: Option<(&str, &str)>,
) -> Result<Response, AppError> {
    let (people, next) = listed(app, room, typed, after).await?;
    let settings = app.store.settings(room).await?.unwrap_or_default();
    let banned = match decides {
        true => app.store.banned(room, BANNED_LISTED).await?,
        false => Vec::new(),
    };
    let page = PeoplePage {
        user,
        room,
        title: &settings.title(room, &user.id),
        query: typed,
        people: &people,
        next: next.map(|next| path_of(room, typed, &next)),
        invites: may_invite(app, user, Some(room)).await?,
        decides: *decides,
        banned: &banned,
        typed: refused.map_or("", |(typed, _)| typed),
        error: refused.map(|(_, why)| why),
    };
    Ok(respond::html(status, &page))
}

/// The address of the page after somebody.
fn path_of(room: &RoomId, typed: &str, after: &str) -> String {
    let path = format!("/rooms/{room}/people");
    address(&path, &[("q", typed), ("after", after)])
}

fn prefix_of(typed: &str) -> String {
    // Nobody types more of a name.
    let typed: String = typed.chars().take(Username::CHARS_MAX).collect();
    Username::stored(&typed).key()
}

/// A page of the people whose names begin with what was typed, and what the next page is after.
async fn listed(
    app: &AppState,
    room: &RoomId,
    typed: &str,
    after: &str,
) -> Result<(Vec<PersonRow>, Option<String>), AppError> {
    let after: String = after.chars().take(4 * Username::CHARS_MAX).collect();
    let people = app.store.people(room, prefix_of(typed), after, LISTED + 1);
    let mut people = people.await?;
    let has_more = cut(&mut people, LISTED);
    let next = people.last().filter(|_| has_more);
    let next = next.map(|last| last.user.username.key());
    let owners: HashSet<UserId> = app.store.owners(room).await?.into_iter().collect();
    let ids: Vec<UserId> = people.iter().map(|person| person.user.id).collect();
    let present = app.hub.present_among(room, &ids);
    let row = |person: crate::domain::Person| PersonRow {
        is_owner: owners.contains(&person.user.id),
        is_here: present.contains(&person.user.id),
        person,
    };
    Ok((people.into_iter().map(row).collect(), next))
}

/// The people whose names begin with what was typed: first those who spoke last, then by name.
async fn offered(
    app: &AppState,
    room: &RoomId,
    typed: &str,
    but: UserId,
) -> Result<Vec<User>, AppError> {
    let prefix = prefix_of(typed);
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
    let more = app.store.members_called(room, prefix.clone(), OFFERED + 1);
    for user in called.chain(more.await?) {
        let is_there = people.iter().any(|other| other.id == user.id);
        if !is_there && but != user.id {
            people.push(user);
        }
    }
    people.truncate(OFFERED);
    Ok(people)
}

/// Somebody to be added.
#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Addition {
    username: String,
}

impl Input for Addition {
    const RAW: Option<&'static str> = Some("username");
}

async fn add(app: &AppState, room: &RoomId, by: &User, user: &User) -> Result<Seq, StoreError> {
    let entry = AuditEntry::new(Some(by), Act::AddToRoom).about(user);
    audited(
        &*app.store,
        entry.in_room(room),
        app.store.add(room, by, user),
    )
    .await
}

/// `POST /rooms/{room}/people`, by an owner: adds somebody to the room.
pub(super) async fn create(
    State(app): State<AppState>,
    format: ResponseFormat,
    RoomOwner { user, room }: RoomOwner,
    seeing: Seeing,
    Payload(sent): Payload<Addition>,
) -> Result<Response, AppError> {
    let added = match called(&app, &sent.username).await? {
        Some(other) => match add(&app, &room, &user, &other).await {
            Ok(seq) => Ok((other, seq)),
            Err(StoreError::Banned) => Err("They are kept out. Let them in again first."),
            // It was deleted a moment ago.
            Err(StoreError::RoomTaken) => return Err(AppError::NotFound),
            Err(StoreError::TooManyRooms) => Err("They are in 1,000 rooms, which is the most."),
            Err(error) => return Err(error.into()),
        },
        None => Err("Nobody on this server is called so."),
    };
    match added {
        Ok((other, seq)) => {
            let response = match format {
                ResponseFormat::Page | ResponseFormat::Fragment => {
                    Redirect::to(&format!("/rooms/{room}/people")).into_response()
                }
                ResponseFormat::Json | ResponseFormat::Ndjson => {
                    respond::json(StatusCode::CREATED, &other)
                }
                ResponseFormat::Text => {
                    let line = format!("{}\n", other.username.as_str());
                    respond::text(StatusCode::CREATED, line)
                }
            };
            Ok((seeing.having_shown(&room, seq), response).into_response())
        }
        Err(why) if format.is_html() => {
            let (status, refused) = (StatusCode::UNPROCESSABLE_ENTITY, (&*sent.username, why));
            let viewer = RoomViewer {
                user,
                room,
                decides: true,
            };
            page(&app, &viewer, List::default(), status, Some(refused)).await
        }
        Err(why) => Err(AppError::in_field("username", why)),
    }
}
