//! Invitations: making links, listing them, and taking them back.

use std::borrow::Cow;
use std::time::Duration;

use axum::extract::{Path, State};
use axum::http::{Method, StatusCode};
use axum::response::Response;
use serde::{Deserialize, Serialize};

use super::accounts::sign_up_policy;
use super::extract::{SignedIn, decides, is_admin, viewer_of};
use super::form::{Input, Payload};
use super::paging::{address, cut};
use super::query::Query;
use super::respond::{self, ResponseFormat, done};
use crate::config::Config;
use crate::domain::{
    Access, Act, AuditEntry, Invalid, Invite, InviteId, LinkSecret, RoomId, SignUpPolicy,
    Timestamp, User, UserId, Username,
};
use crate::error::{AppError, exists, field_errors};
use crate::limits::Limited;
use crate::state::AppState;
use crate::store::{Invites, Relation, StoreError, audited};
use crate::views::{InviteForm, InvitePage, InviteRow, Invited, InvitesPage, QrCode};

/// The number of links on a page.
const LISTED: usize = 100;

/// An invitation as JSON.
#[derive(Serialize)]
struct Shape<'a> {
    id: InviteId,
    /// Null for the operator.
    by: Option<&'a Username>,
    room: Option<&'a RoomId>,
    uses_left: u32,
    created_at: Timestamp,
    expires_at: Timestamp,
    /// Whether it opens anything now: not while its maker may not invite.
    good: bool,
    /// Once, to its maker.
    #[serde(skip_serializing_if = "Option::is_none")]
    link: Option<&'a str>,
}

impl<'a> Shape<'a> {
    fn of(invite: &'a Invite, is_good: bool, link: Option<&'a str>) -> Self {
        Self {
            id: invite.id,
            by: invite.by.as_ref().map(|by| &by.username),
            room: invite.room.as_ref(),
            uses_left: invite.uses_left,
            created_at: invite.created_at,
            expires_at: invite.expires_at,
            good: is_good,
            link,
        }
    }
}

/// The links as JSON.
#[derive(Serialize)]
struct Shapes<'a> {
    invites: Vec<Shape<'a>>,
    /// The value of `before` that goes on from there; null at the end.
    next: Option<InviteId>,
}

/// Whether somebody may invite now: to the server an admin; to a room its people, of a private one its owners; to a
/// conversation nobody.
pub(super) async fn may_invite(
    app: &AppState,
    user: &User,
    room: Option<&RoomId>,
) -> Result<bool, AppError> {
    let Some(room) = room.filter(|room| !room.is_direct()) else {
        return Ok(room.is_none() && is_admin(app, user.id).await?);
    };
    // Of somebody who is not in it, the same is asked about a hidden room and about none.
    let settings = app.store.settings(room).await?;
    let relation = app.store.relation(room, user).await?;
    let decides = match relation {
        Relation::Member { .. } => decides(app, room, user.id).await?,
        _ => is_admin(app, user.id).await?,
    };
    let is_member = matches!(relation, Relation::Member { .. });
    Ok(settings.is_some_and(|it| is_member && it.access != Access::Private || decides))
}

/// The invitation with this secret; `None` when it is over, or was made by somebody who may invite no more. It may be
/// used up.
pub(super) async fn find(app: &AppState, secret: &str) -> Result<Option<Invite>, AppError> {
    let found = app.store.find_invite(&LinkSecret::hash(secret)).await?;
    let Some(invite) = found else {
        return Ok(None);
    };
    Ok(is_allowed(app, &invite).await?.then_some(invite))
}

/// The same of one that lets in one more.
pub(super) async fn good(app: &AppState, secret: &str) -> Result<Option<Invite>, AppError> {
    Ok(find(app, secret).await?.filter(Invite::is_good))
}

/// Whether its maker may still invite.
async fn is_allowed(app: &AppState, invite: &Invite) -> Result<bool, AppError> {
    let Some(by) = &invite.by else {
        return Ok(true);
    };
    let account = app.store.account(by.id).await?;
    Ok(account.is_some_and(|account| !account.is_deactivated)
        && may_invite(app, by, invite.room.as_ref()).await?)
}

/// Whether it is good for an account where people need an invitation to make one.
pub(super) async fn is_to_server(app: &AppState, invite: &Invite) -> Result<bool, AppError> {
    match &invite.by {
        None => Ok(true),
        Some(by) => is_admin(app, by.id).await,
    }
}

/// An invitation in words, for people with its secret; `None` when it is none.
pub(super) async fn invited(app: &AppState, secret: &str) -> Result<Option<Invited>, AppError> {
    if secret.is_empty() {
        return Ok(None);
    }
    match good(app, secret).await? {
        Some(invite) => in_words(app, invite).await.map(Some),
        None => Ok(None),
    }
}

pub(super) async fn in_words(app: &AppState, invite: Invite) -> Result<Invited, AppError> {
    let room = match &invite.room {
        None => None,
        Some(room) => Some(title(app, room).await?),
    };
    Ok(Invited {
        by: invite.by.map(|by| by.username),
        room,
    })
}

async fn title(app: &AppState, room: &RoomId) -> Result<String, AppError> {
    let settings = app.store.settings(room).await?.unwrap_or_default();
    // Of no conversation, so it is the same to all readers.
    Ok(settings.title(room, &UserId::new()).into_owned())
}

/// Makes an invitation with its link, which is known to nobody else: the store has its hash.
///
/// # Errors
///
/// When the store cannot keep it.
pub async fn new_invite<S: Invites + ?Sized>(
    store: &S,
    config: &Config,
    by: Option<&User>,
    room: Option<RoomId>,
    uses: u32,
    lasts: Duration,
) -> Result<(Invite, String), StoreError> {
    let (secret, created_at) = (LinkSecret::new(), Timestamp::now());
    let invite = Invite {
        id: InviteId::new(),
        secret_hash: secret.own_hash(),
        by: by.cloned(),
        room,
        uses_left: uses,
        created_at,
        expires_at: created_at.after(lasts),
    };
    store.add_invite(invite.clone()).await?;
    Ok((invite, format!("{}/join/{secret}", config.public_url)))
}

/// `GET /invites?before=`: one's own, and those of others where one is an admin.
pub(super) async fn index(
    State(app): State<AppState>,
    format: ResponseFormat,
    SignedIn { user, .. }: SignedIn,
    query: Query,
) -> Result<Response, AppError> {
    // Each is looked up: whether it is still good.
    app.limits.take(&Limited::JoinsOf(user.id)).await?;
    let before = query.before(InviteId::parse, "before is the id of a link.")?;
    if format.is_html() {
        let sent = NewInvite {
            room: query.find("room").unwrap_or("").to_owned(),
            ..NewInvite::default()
        };
        return page(&app, &user, StatusCode::OK, &sent, before, &[]).await;
    }
    let Listed { rows, next, .. } = listed(&app, &user, before).await?;
    Ok(match format {
        ResponseFormat::Text => {
            let line = |row: &InviteRow| {
                let invite = &row.invite;
                let by = invite.by.as_ref().map_or("-", |by| by.username.as_str());
                let room = invite.room.as_ref().map_or("-", RoomId::as_str);
                let (id, uses, until) = (invite.id, invite.uses_left, invite.expires_at);
                let good = if row.is_good { "good" } else { "not good" };
                format!("{id}\t{by}\t{room}\t{uses}\t{until}\t{good}\n")
            };
            let text = respond::text(StatusCode::OK, rows.iter().map(line).collect());
            respond::with_next(text, next.map(|next| next_path(next, None)).as_deref())
        }
        _ => {
            let shapes = { rows.iter() }.map(|row| Shape::of(&row.invite, row.is_good, None));
            let shapes = Shapes {
                invites: shapes.collect(),
                next,
            };
            respond::json(StatusCode::OK, &shapes)
        }
    })
}

fn next_path(next: InviteId, room: Option<&RoomId>) -> String {
    let mut query = vec![("before", next.to_string())];
    query.extend(room.map(|room| ("room", room.to_string())));
    address("/invites", &query)
}

/// The links that somebody may see.
struct Listed {
    rows: Vec<InviteRow>,
    next: Option<InviteId>,
    is_admin: bool,
}

async fn listed(app: &AppState, user: &User, before: Option<InviteId>) -> Result<Listed, AppError> {
    let (is_admin, policy) = (is_admin(app, user.id).await?, sign_up_policy(app).await?);
    let by = (!is_admin).then_some(user.id);
    let mut invites = app.store.invites(by, before, LISTED + 1).await?;
    let has_more = cut(&mut invites, LISTED);
    let next = invites.last().filter(|_| has_more).map(|last| last.id);
    let mut rows: Vec<InviteRow> = Vec::new();
    for invite in invites {
        // Most are of a few people to a few rooms.
        let is_like =
            |row: &&InviteRow| row.invite.by == invite.by && row.invite.room == invite.room;
        let (is_good, room) = match rows.iter().find(is_like) {
            Some(row) => (row.is_good, row.room.clone()),
            None => {
                let is_useful = invite.room.is_some() || policy != SignUpPolicy::Closed;
                let is_good = is_useful && is_allowed(app, &invite).await?;
                let room = match &invite.room {
                    // Its maker may know no more what it is called now.
                    Some(room) if !is_good && !is_admin => Some(room.to_string()),
                    Some(room) => Some(title(app, room).await?),
                    None => None,
                };
                (is_good, room)
            }
        };
        rows.push(InviteRow {
            invite,
            room,
            is_good,
        });
    }
    Ok(Listed {
        rows,
        next,
        is_admin,
    })
}

/// The page, with what was typed and what is wrong with it.
async fn page(
    app: &AppState,
    user: &User,
    status: StatusCode,
    sent: &NewInvite,
    before: Option<InviteId>,
    errors: &[(&'static str, String)],
) -> Result<Response, AppError> {
    let Listed {
        rows,
        next,
        is_admin,
    } = listed(app, user, before).await?;
    let room = RoomId::known(&sent.room).ok();
    let may_invite = may_invite(app, user, room.as_ref()).await?;
    let title = match &room {
        Some(room) if may_invite => title(app, room).await?.into(),
        _ => Cow::Borrowed(""),
    };
    let page = InvitesPage {
        user,
        is_admin,
        sign_up: sign_up_policy(app).await?,
        form: may_invite.then_some(InviteForm {
            room: room.as_ref(),
            title: &title,
            uses: &sent.uses,
            days: &sent.days,
            errors,
        }),
        rows: &rows,
        next: next.map(|next| next_path(next, room.as_ref())),
    };
    Ok(respond::html(status, &page))
}

/// A link to be made.
#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct NewInvite {
    uses: String,
    days: String,
    room: String,
}

impl Input for NewInvite {
    const SCALARS: &'static [&'static str] = &["uses", "days"];
}

fn to_room(entry: AuditEntry, room: Option<&RoomId>) -> AuditEntry {
    match room {
        Some(room) => entry.in_room(room),
        None => entry,
    }
}

/// `POST /invites`: a link, shown once.
pub(super) async fn create(
    State(app): State<AppState>,
    format: ResponseFormat,
    SignedIn { user, .. }: SignedIn,
    Payload(sent): Payload<NewInvite>,
) -> Result<Response, AppError> {
    app.limits.take(&Limited::JoinsOf(user.id)).await?;
    let room = match sent.room.trim() {
        "" => None,
        room => Some(RoomId::known(room)?),
    };
    if !may_invite(&app, &user, room.as_ref()).await? {
        return Err(match &room {
            None => AppError::NotAdmin,
            // One that somebody may not know of is like none.
            Some(room) => viewer_of(&app, user, room.clone())
                .await
                .map_or_else(|error| error, |_| AppError::NotOwner),
        });
    }
    let (uses, lasts) = match (
        Invite::parse_uses(&sent.uses),
        Invite::parse_days(&sent.days),
    ) {
        (Ok(uses), Ok(lasts)) => (uses, lasts),
        (uses, days) => {
            let errors = field_errors([("uses", uses.err()), ("days", days.err())]);
            if format.is_html() {
                let status = StatusCode::UNPROCESSABLE_ENTITY;
                return page(&app, &user, status, &sent, None, &errors).await;
            }
            return Err(AppError::InvalidFields(errors));
        }
    };
    let own = app
        .store
        .invites(Some(user.id), None, Invite::PER_USER_MAX)
        .await?;
    if own.len() >= Invite::PER_USER_MAX {
        return Err(Invalid("You have 100 links that are good. Take some back first.").into());
    }
    let entry = to_room(AuditEntry::new(Some(&user), Act::Invite), room.as_ref());
    let making = new_invite(&*app.store, &app.config, Some(&user), room, uses, lasts);
    let (invite, link) = audited(&*app.store, entry, making).await?;
    Ok(match format {
        ResponseFormat::Page | ResponseFormat::Fragment => {
            let room = match &invite.room {
                None => None,
                Some(room) => Some(title(&app, room).await?),
            };
            let page = InvitePage {
                user: &user,
                row: &InviteRow {
                    invite,
                    room,
                    is_good: true,
                },
                link: &link,
                code: QrCode::of(&link),
            };
            respond::html(StatusCode::OK, &page)
        }
        ResponseFormat::Json | ResponseFormat::Ndjson => {
            let shape = Shape::of(&invite, true, Some(&link));
            respond::json(StatusCode::CREATED, &shape)
        }
        ResponseFormat::Text => respond::text(StatusCode::CREATED, format!("{link}\n")),
    })
}

/// `POST /invites/{id}/revoke`, or `DELETE` without the last part: the link opens nothing from here on.
pub(super) async fn revoke(
    State(app): State<AppState>,
    method: Method,
    format: ResponseFormat,
    SignedIn { user, .. }: SignedIn,
    Path(id): Path<String>,
) -> Result<Response, AppError> {
    let id = InviteId::parse(&id).map_err(|_| AppError::NotFound)?;
    let invite = app.store.invite(id).await?.ok_or(AppError::NotFound)?;
    let is_own = invite.by.is_some_and(|by| by.id == user.id);
    if !is_own && !is_admin(&app, user.id).await? {
        return Err(AppError::NotFound);
    }
    let entry = AuditEntry::new(Some(&user), Act::RevokeInvite);
    let entry = to_room(entry, invite.room.as_ref());
    audited(&*app.store, entry, exists(app.store.revoke_invite(id))).await?;
    Ok(done(&method, format, "/invites"))
}
