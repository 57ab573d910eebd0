//! Administration: the people of this server, and what they may do.

use axum::extract::{Path, State};
use axum::http::{Method, StatusCode};
use axum::response::Response;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serialize;

use super::accounts::called;
use super::extract::Admin;
use super::form::Payload;
use super::memberships::NewRole;
use super::query::Query;
use super::respond::{self, ResponseFormat, done};
use crate::domain::{AccountRole, UserId, Username};
use crate::error::AppError;
use crate::limits::Limited;
use crate::state::AppState;
use crate::views::AdminPage;

/// How many people a page lists.
const LISTED: usize = 100;

/// The people as JSON.
#[derive(Serialize)]
struct People<'a> {
    people: Vec<PersonShape<'a>>,
    /// The value of `after` that goes on from there; null at the end.
    next: Option<&'a str>,
}

#[derive(Serialize)]
struct PersonShape<'a> {
    id: UserId,
    username: &'a Username,
    role: AccountRole,
}

/// `GET /admin`: the people of this server, by name.
pub(super) async fn index(
    State(app): State<AppState>,
    format: ResponseFormat,
    Admin(user): Admin,
    query: Query,
) -> Result<Response, AppError> {
    let after = query.find("after").unwrap_or("").chars();
    let after = after.take(4 * Username::CHARS_MAX).collect();
    let mut people = app.store.users(after, LISTED + 1).await?;
    let has_more = people.len() > LISTED;
    people.truncate(LISTED);
    let next = people.last().filter(|_| has_more);
    let next = next.map(|(last, _)| last.username.key());
    Ok(match format {
        ResponseFormat::Page | ResponseFormat::Fragment => {
            let page = AdminPage {
                user: &user,
                people: &people,
                next: next.as_deref().map(path_of),
            };
            respond::html(StatusCode::OK, &page)
        }
        ResponseFormat::Json | ResponseFormat::Ndjson => {
            let people = people.iter().map(|(user, role)| PersonShape {
                id: user.id,
                username: &user.username,
                role: *role,
            });
            let people = People {
                people: people.collect(),
                next: next.as_deref(),
            };
            respond::json(StatusCode::OK, &people)
        }
        ResponseFormat::Text => {
            let lines = people
                .iter()
                .map(|(user, role)| format!("{}\t{}\n", user.username.as_str(), role.as_str()));
            let next = next.as_deref().map(path_of);
            respond::with_next(
                respond::text(StatusCode::OK, lines.collect()),
                next.as_deref(),
            )
        }
    })
}

/// The address of the page after somebody.
fn path_of(after: &str) -> String {
    format!(
        "/admin?after={}",
        utf8_percent_encode(after, NON_ALPHANUMERIC)
    )
}

/// `POST /admin/people/{username}/role`.
pub(super) async fn set_role(
    State(app): State<AppState>,
    format: ResponseFormat,
    Admin(user): Admin,
    Path(name): Path<String>,
    Payload(sent): Payload<NewRole>,
) -> Result<Response, AppError> {
    app.limits.take(&Limited::JoinsOf(user.id)).await?;
    let role = AccountRole::parse(&sent.role)?;
    let other = called(&app, &name).await?.ok_or(AppError::NotFound)?;
    app.store.set_account_role(other.id, role).await?;
    // Whoever has stepped down may not see that page.
    let leads_to = if other.id == user.id && role == AccountRole::Member {
        "/rooms"
    } else {
        "/admin"
    };
    Ok(done(&Method::POST, format, leads_to))
}
