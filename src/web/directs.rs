//! Direct rooms: a conversation of just its people.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;

use super::accounts::called;
use super::blocks::in_the_way;
use super::extract::SignedIn;
use super::form::{Input, Payload};
use super::query::Query;
use super::respond::{self, ResponseFormat};
use super::seen::Seeing;
use crate::domain::{Login, RoomId, User, UserId};
use crate::error::AppError;
use crate::limits::Limited;
use crate::state::AppState;
use crate::store::{Relation, StoreError};
use crate::views::{DirectPage, Field};

/// The most people of a direct room, whoever starts it included: with more of them a room is better.
const PEOPLE_MAX: usize = 9;

/// `GET /directs`: whom to write to.
pub(super) async fn new(SignedIn { user, .. }: SignedIn, query: Query) -> Response {
    let with = query.find("with").unwrap_or("");
    respond::html(StatusCode::OK, &page(&user, with, None))
}

/// The names of the others, with commas or spaces between them.
#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct NewDirect {
    with: String,
}

impl Input for NewDirect {
    const RAW: Option<&'static str> = Some("with");
}

/// `POST /directs`: leads to the one room of these people, whoever asks for it first.
pub(super) async fn create(
    State(app): State<AppState>,
    format: ResponseFormat,
    SignedIn { user, .. }: SignedIn,
    seeing: Seeing,
    Payload(sent): Payload<NewDirect>,
) -> Result<Response, AppError> {
    app.limits.take(&Limited::JoinsOf(user.id)).await?;
    let refused = |why: String| match format.is_html() {
        true => {
            let page = page(&user, &sent.with, Some(&why));
            Ok(respond::html(StatusCode::UNPROCESSABLE_ENTITY, &page))
        }
        false => Err(AppError::in_field("with", why)),
    };
    let people = match people(&app, &user, &sent.with).await? {
        Ok(people) => people,
        Err(why) => return refused(why),
    };
    let ids: Vec<UserId> = people.iter().map(|user| user.id).collect();
    let relation = app.store.relation(&RoomId::direct(&ids), &user).await?;
    if relation == Relation::NoRoom {
        if let Some(why) = in_the_way(&app, &user, &people).await? {
            return refused(why);
        }
        app.limits.take(&Limited::DirectsOf(user.id)).await?;
    }
    let (room, seq) = match app.store.join_direct(&people).await {
        Ok(joined) => joined,
        Err(StoreError::TooManyRooms) => {
            let why = "One of you is in 1,000 conversations, which is the most.";
            return refused(why.to_owned());
        }
        Err(error) => return Err(error.into()),
    };
    let seen = seeing.having_shown(&room, seq);
    Ok((seen, respond::entered(format, &room)).into_response())
}

/// The people whose names were typed, with whoever typed them; or what is wrong.
async fn people(
    app: &AppState,
    user: &User,
    typed: &str,
) -> Result<Result<Vec<User>, String>, AppError> {
    let others = match others(user, typed) {
        Ok(others) => others,
        Err(why) => return Ok(Err(why)),
    };
    let mut people = vec![user.clone()];
    for name in others {
        match called(app, name).await? {
            Some(other) => people.push(other),
            None => return Ok(Err(format!("Nobody on this server is called {name}."))),
        }
    }
    Ok(Ok(people))
}

/// The names of others that were typed, each once, however often and however it is spelled.
fn others<'a>(user: &User, typed: &'a str) -> Result<Vec<&'a str>, String> {
    let names = typed.split(|c: char| c == ',' || c.is_whitespace());
    let names: Vec<&str> = names.filter(|name| !name.is_empty()).collect();
    if names.is_empty() {
        return Err("Type the name of whom you write to.".to_owned());
    }
    let mut known = vec![Login::Username(user.username.key())];
    let mut others = Vec::new();
    for name in names {
        let login = Login::named(name.trim_start_matches('@'));
        if known.contains(&login) {
            continue;
        }
        if known.len() == PEOPLE_MAX {
            return Err(format!(
                "A conversation has at most {} others. Make a private room for more.",
                PEOPLE_MAX - 1
            ));
        }
        known.push(login);
        others.push(name);
    }
    Ok(others)
}

fn page<'a>(user: &'a User, with: &'a str, error: Option<&'a str>) -> DirectPage<'a> {
    DirectPage {
        user,
        field: Field {
            name: "with",
            label: "To",
            kind: "text",
            autocomplete: "off",
            value: with,
            hint: "A name, or several with commas between them. Only you and they can read it.",
            error,
            is_first: true,
        },
    }
}
