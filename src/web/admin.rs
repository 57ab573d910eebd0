//! Administration: the people of this server, and their rights.

use axum::extract::{FromRequestParts, Path, State};
use axum::http::request::Parts;
use axum::http::{Method, StatusCode};
use axum::response::Response;
use serde::{Deserialize, Serialize};

use super::accounts::{called, sign_up_policy};
use super::extract::{Admin, SignedIn};
use super::form::{Input, Payload, on};
use super::memberships::NewRole;
use super::paging::{address, cut};
use super::query::Query;
use super::respond::{self, ResponseFormat, done};
use super::room_labels::RoomLabels;
use crate::domain::{
    Account, AccountRole, Act, AuditEntry, Invalid, KeptMessages, Label, ListedRoom, SignUpPolicy,
    User, UserId, Username,
};
use crate::error::{AppError, field_errors};
use crate::limits::Limited;
use crate::state::AppState;
use crate::store::audited;
use crate::views::{AdminPage, AdminRoomsPage, RefusedDeletion};

/// How many people a page lists.
const LISTED: usize = 100;

/// The people as JSON.
#[derive(Serialize)]
struct People<'a> {
    people: Vec<PersonShape<'a>>,
    /// The value of `after` that goes on from there; null at the end.
    next: Option<&'a str>,
    /// The policy of sign-ups.
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
    let word = query.word("q", 4 * Username::CHARS_MAX);
    let after = query.word("after", 4 * Username::CHARS_MAX);
    if format.is_html() {
        let people = listed(&app, &word, after).await?;
        return page(&app, &user, StatusCode::OK, (&word, people), None).await;
    }
    let (people, next) = listed(&app, &word, after).await?;
    Ok(match format {
        ResponseFormat::Page
        | ResponseFormat::Fragment
        | ResponseFormat::Json
        | ResponseFormat::Ndjson => {
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
                sign_up: sign_up_policy(&app).await?.as_str(),
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
            respond::with_next(text, next_path(&word, next.as_deref()).as_deref())
        }
    })
}

/// Some people, and the value of `after` that goes on from there.
type ListedPeople = (Vec<Account>, Option<String>);

/// A page of the people with a word, and what the next page is after.
async fn listed(app: &AppState, word: &str, after: String) -> Result<ListedPeople, AppError> {
    let people = app.store.accounts(word.to_owned(), after, LISTED + 1);
    let mut people = people.await?;
    let has_more = cut(&mut people, LISTED);
    let next = people.last().filter(|_| has_more);
    let next = next.map(|last| last.user.username.key());
    Ok((people, next))
}

fn next_path(word: &str, next: Option<&str>) -> Option<String> {
    next.map(|next| address("/admin", &[("q", word), ("after", next)]))
}

/// The page; where somebody's account was not deleted, with what was typed for that.
async fn page(
    app: &AppState,
    user: &User,
    status: StatusCode,
    (word, (people, next)): (&str, ListedPeople),
    not_deleted: Option<RefusedDeletion<'_>>,
) -> Result<Response, AppError> {
    let page = AdminPage {
        user,
        query: word,
        people: &people,
        next: next_path(word, next.as_deref()),
        sign_up: sign_up_policy(app).await?,
        reports: app.store.count_reports().await?,
        not_deleted,
    };
    Ok(respond::html(status, &page))
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
    let word = query.word("q", Label::NAME_CHARS_MAX);
    let after = query.word("after", Label::NAME_CHARS_MAX);
    let found = app.store.all_rooms(word.to_lowercase(), after, LISTED + 1);
    let mut found = found.await?;
    let has_more = cut(&mut found, LISTED);
    let next = found.last().filter(|_| has_more);
    let next = next.map(|last| last.room.as_str());
    let next_path = next.map(|next| address("/admin/rooms", &[("q", &*word), ("after", next)]));
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
    audited(
        &*app.store,
        entry,
        app.store.set_account_role(user.id, role),
    )
    .await?;
    // That page is not for somebody who has stepped down.
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

/// `POST /admin/people/{username}/deactivate`: its sessions end and nobody signs in to it; or, with `on=0`, they
/// are let in again.
pub(super) async fn deactivate(
    State(app): State<AppState>,
    format: ResponseFormat,
    Subject { admin, user }: Subject,
    Payload(sent): Payload<Deactivation>,
) -> Result<Response, AppError> {
    let is_on = on(&sent.on)?;
    if is_on && user.id == admin.id {
        return Err(Invalid("You cannot close your own account. Ask another admin.").into());
    }
    let act = if is_on { Act::Close } else { Act::Open };
    let entry = AuditEntry::new(Some(&admin), act).about(&user);
    audited(
        &*app.store,
        entry,
        app.store.set_deactivated(user.id, is_on),
    )
    .await?;
    Ok(done(&Method::POST, format, "/admin"))
}

/// The name of the account that is to be deleted, typed again, and what becomes of its messages.
#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Deletion {
    confirm: String,
    messages: String,
}

impl Input for Deletion {}

/// `POST /admin/people/{username}/delete`: deletes somebody's account, as they would themselves.
pub(super) async fn delete(
    State(app): State<AppState>,
    format: ResponseFormat,
    Subject { admin, user }: Subject,
    Payload(sent): Payload<Deletion>,
) -> Result<Response, AppError> {
    if user.id == admin.id {
        return Err(Invalid("You delete your own account on its page.").into());
    }
    let name = user.username.as_str();
    let messages = KeptMessages::parse(&sent.messages);
    let is_meant = Username::stored(sent.confirm.trim()).key() == user.username.key();
    let messages = match messages {
        Ok(messages) if is_meant => messages,
        messages => {
            let why =
                (!is_meant).then(|| format!("To delete this account, type its name here: {name}"));
            let errors = field_errors([("messages", messages.err())]).into_iter();
            let errors: Vec<_> = errors.chain(why.map(|why| ("confirm", why))).collect();
            if !format.is_html() {
                return Err(AppError::InvalidFields(errors));
            }
            let refused = RefusedDeletion {
                user: user.id,
                confirm: &sent.confirm,
                messages: &sent.messages,
                errors: &errors,
            };
            let status = StatusCode::UNPROCESSABLE_ENTITY;
            let account = app.store.account(user.id).await?;
            let people = (account.into_iter().collect(), None);
            return page(&app, &admin, status, (name, people), Some(refused)).await;
        }
    };
    let entry = AuditEntry::new(Some(&admin), Act::DeleteAccount).about(&user);
    audited(&*app.store, entry, app.store.erase(user.id, messages)).await?;
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
    audited(&*app.store, entry, app.store.revoke_sessions(user.id, but)).await?;
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
    audited(&*app.store, entry, app.store.set_sign_up_policy(policy)).await?;
    Ok(done(&Method::POST, format, "/admin"))
}
