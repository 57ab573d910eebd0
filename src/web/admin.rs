//! Administration: the people of this server, and what they may do.

use axum::extract::{FromRequestParts, Path, State};
use axum::http::request::Parts;
use axum::http::{Method, StatusCode};
use axum::response::Response;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Deserialize, Serialize};

use super::accounts::{called, sign_up_policy};
use super::audit::audited;
use super::extract::{Admin, SignedIn};
use super::form::{Input, Payload, flag};
use super::memberships::NewRole;
use super::query::Query;
use super::respond::{self, ResponseFormat, done};
use super::room_labels::RoomLabels;
use crate::domain::{
    Account, AccountRole, Act, AuditEntry, Invalid, Label, ListedRoom, SignUpPolicy, User, UserId,
    Username,
};
use crate::error::AppError;
use crate::limits::Limited;
use crate::state::AppState;
use crate::views::{AdminPage, AdminRoomsPage};

/// How many people a page lists.
const LISTED: usize = 100;

/// The people as JSON.
#[derive(Serialize)]
struct People<'a> {
    people: Vec<PersonShape<'a>>,
    /// The value of `after` that goes on from there; null at the end.
    next: Option<&'a str>,
    /// Who may make an account.
    sign_up: &'static str,
}

#[derive(Serialize)]
struct PersonShape<'a> {
    id: UserId,
    username: &'a Username,
    email: &'a str,
    role: AccountRole,
    deactivated: bool,
}

/// `GET /admin?q=`: the people of this server, by name, and who may sign up.
pub(super) async fn index(
    State(app): State<AppState>,
    format: ResponseFormat,
    Admin(user): Admin,
    query: Query,
) -> Result<Response, AppError> {
    let short = |name| {
        let typed = query.find(name).unwrap_or("").trim().chars();
        typed.take(4 * Username::CHARS_MAX).collect::<String>()
    };
    let (word, after) = (short("q"), short("after"));
    let accounts = app.store.accounts(word.to_lowercase(), after, LISTED + 1);
    let mut people = accounts.await?;
    let has_more = people.len() > LISTED;
    people.truncate(LISTED);
    let next = people.last().filter(|_| has_more);
    let next = next.map(|last| last.user.username.key());
    let next_path = next.as_deref().map(|next| path_of(&word, next));
    let sign_up = sign_up_policy(&app).await?;
    Ok(match format {
        ResponseFormat::Page | ResponseFormat::Fragment => {
            let page = AdminPage {
                user: &user,
                query: &word,
                people: &people,
                next: next_path,
                sign_up,
                reports: app.store.count_reports().await?,
            };
            respond::html(StatusCode::OK, &page)
        }
        ResponseFormat::Json | ResponseFormat::Ndjson => {
            let people = people.iter().map(|account| PersonShape {
                id: account.user.id,
                username: &account.user.username,
                email: account.email.as_str(),
                role: account.role,
                deactivated: account.is_deactivated,
            });
            let people = People {
                people: people.collect(),
                next: next.as_deref(),
                sign_up: sign_up.as_str(),
            };
            respond::json(StatusCode::OK, &people)
        }
        ResponseFormat::Text => {
            let line = |account: &Account| {
                let (name, role) = (account.user.username.as_str(), account.role.as_str());
                match account.is_deactivated {
                    true => format!("{name}\t{role}\tdeactivated\n"),
                    false => format!("{name}\t{role}\n"),
                }
            };
            let text = respond::text(StatusCode::OK, people.iter().map(line).collect());
            respond::with_next(text, next_path.as_deref())
        }
    })
}

/// The address of the page after somebody.
fn path_of(word: &str, after: &str) -> String {
    let encoded = |text| utf8_percent_encode(text, NON_ALPHANUMERIC);
    format!("/admin?q={}&after={}", encoded(word), encoded(after))
}

/// A room as JSON.
#[derive(Serialize)]
struct RoomShape<'a> {
    #[serde(flatten)]
    labels: RoomLabels<'a>,
    people: u64,
    archived: bool,
}

impl<'a> RoomShape<'a> {
    fn of(listed: &'a ListedRoom) -> Self {
        Self {
            labels: RoomLabels::of(&listed.room, &listed.settings),
            people: listed.people,
            archived: listed.settings.is_archived,
        }
    }
}

/// `GET /admin/rooms?q=`: all rooms but conversations, by id.
pub(super) async fn rooms(
    State(app): State<AppState>,
    format: ResponseFormat,
    Admin(user): Admin,
    query: Query,
) -> Result<Response, AppError> {
    let short = |name| {
        let typed = query.find(name).unwrap_or("").trim().chars();
        typed.take(Label::NAME_CHARS_MAX).collect::<String>()
    };
    let (word, after) = (short("q"), short("after"));
    let found = app.store.all_rooms(word.to_lowercase(), after, LISTED + 1);
    let mut found = found.await?;
    let has_more = found.len() > LISTED;
    found.truncate(LISTED);
    let next = found.last().filter(|_| has_more);
    let next = next.map(|last| last.room.as_str());
    let encoded = |text| utf8_percent_encode(text, NON_ALPHANUMERIC);
    let next_path = next.map(|next| {
        let (word, next) = (encoded(&word), encoded(next));
        format!("/admin/rooms?q={word}&after={next}")
    });
    Ok(match format {
        ResponseFormat::Page | ResponseFormat::Fragment => {
            let page = AdminRoomsPage {
                user: &user,
                query: &word,
                rooms: &found,
                next: next_path,
            };
            respond::html(StatusCode::OK, &page)
        }
        ResponseFormat::Json | ResponseFormat::Ndjson => {
            let rooms: Vec<RoomShape<'_>> = found.iter().map(RoomShape::of).collect();
            let rooms = serde_json::json!({ "rooms": rooms, "next": next });
            respond::json(StatusCode::OK, &rooms)
        }
        ResponseFormat::Text => {
            let line = |listed: &ListedRoom| {
                let access = match listed.settings.is_archived {
                    true => "archived",
                    false => listed.settings.access.as_str(),
                };
                format!("{}\t{access}\t{}\n", listed.room, listed.people)
            };
            let text = respond::text(StatusCode::OK, found.iter().map(line).collect());
            respond::with_next(text, next_path.as_deref())
        }
    })
}

/// The person of the path, about whom an admin decides now: it is counted.
pub(super) struct Subject {
    pub(super) admin: User,
    pub(super) user: User,
}

impl FromRequestParts<AppState> for Subject {
    type Rejection = AppError;

    async fn from_request_parts(parts: &mut Parts, app: &AppState) -> Result<Self, AppError> {
        let Admin(admin) = Admin::from_request_parts(parts, app).await?;
        let Path(name) = Path::<String>::from_request_parts(parts, app)
            .await
            .map_err(|_| AppError::NotFound)?;
        app.limits.take(&Limited::JoinsOf(admin.id)).await?;
        let user = called(app, &name).await?.ok_or(AppError::NotFound)?;
        Ok(Self { admin, user })
    }
}

/// `POST /admin/people/{username}/role`.
pub(super) async fn set_role(
    State(app): State<AppState>,
    format: ResponseFormat,
    Subject { admin, user }: Subject,
    Payload(sent): Payload<NewRole>,
) -> Result<Response, AppError> {
    let role = AccountRole::parse(&sent.role)?;
    let entry = AuditEntry::new(Some(&admin), Act::SetRole).about(&user);
    let entry = entry.with(role.as_str());
    audited(&app, entry, app.store.set_account_role(user.id, role)).await?;
    // Whoever has stepped down may not see that page.
    let leads_to = if user.id == admin.id && role == AccountRole::Member {
        "/rooms"
    } else {
        "/admin"
    };
    Ok(done(&Method::POST, format, leads_to))
}

/// Whether nobody may sign in to an account.
#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Deactivation {
    on: String,
}

impl Input for Deactivation {
    const SCALARS: &'static [&'static str] = &["on"];
}

/// `POST /admin/people/{username}/deactivate`: nobody signs in to it, and whoever is, is out; or, with `on=0`, they
/// are let in again.
pub(super) async fn deactivate(
    State(app): State<AppState>,
    format: ResponseFormat,
    Subject { admin, user }: Subject,
    Payload(sent): Payload<Deactivation>,
) -> Result<Response, AppError> {
    let is_on = match sent.on.trim() {
        "" => true,
        on => flag(on, "on is 1 or 0.")?,
    };
    if is_on && user.id == admin.id {
        return Err(Invalid("You cannot close your own account. Ask another admin.").into());
    }
    let act = if is_on { Act::Close } else { Act::Open };
    let entry = AuditEntry::new(Some(&admin), act).about(&user);
    audited(&app, entry, app.store.set_deactivated(user.id, is_on)).await?;
    Ok(done(&Method::POST, format, "/admin"))
}

/// `POST /admin/people/{username}/sign-out`: ends all their sessions, an admin's own but for the one that asks.
pub(super) async fn sign_out(
    State(app): State<AppState>,
    format: ResponseFormat,
    SignedIn { session, .. }: SignedIn,
    Subject { admin, user }: Subject,
) -> Result<Response, AppError> {
    let but = (user.id == admin.id).then_some(session.id);
    let entry = AuditEntry::new(Some(&admin), Act::SignOut).about(&user);
    audited(&app, entry, app.store.revoke_sessions(user.id, but)).await?;
    Ok(done(&Method::POST, format, "/admin"))
}

/// A policy of sign-ups.
#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct NewPolicy {
    sign_up: String,
}

impl Input for NewPolicy {
    const RAW: Option<&'static str> = Some("sign_up");
}

/// `POST /admin/sign-up`: who may make an account from here on.
pub(super) async fn set_sign_up(
    State(app): State<AppState>,
    format: ResponseFormat,
    Admin(admin): Admin,
    Payload(sent): Payload<NewPolicy>,
) -> Result<Response, AppError> {
    let policy = SignUpPolicy::parse(&sent.sign_up)?;
    let entry = AuditEntry::new(Some(&admin), Act::SignUp).with(policy.as_str());
    audited(&app, entry, app.store.set_sign_up_policy(policy)).await?;
    Ok(done(&Method::POST, format, "/admin"))
}
