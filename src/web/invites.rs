//! Invitations: making links, listing them, and taking them back.

use std::borrow::Cow;
use std::time::Duration;

use axum::extract::{Path, State};
use axum::http::{Method, StatusCode};
use axum::response::Response;
use serde::{Deserialize, Serialize};

use super::audit::audited;
use super::extract::{SignedIn, decides, is_admin, viewer_of};
use super::form::{Input, Payload};
use super::query::Query;
use super::respond::{self, ResponseFormat, done};
use crate::config::Config;
use crate::domain::{
    Access, Act, AuditEntry, Invalid, Invite, InviteId, LinkSecret, RoomId, Timestamp, User,
    UserId, Username,
};
use crate::error::{AppError, field_errors};
use crate::limits::Limited;
use crate::state::AppState;
use crate::store::{Invites, Relation, StoreError};
use crate::views::{InviteForm, InvitePage, InviteRow, Invited, InvitesPage, QrCode};

/// How many of all links an admin is shown.
const LISTED: usize = 500;

/// An invitation as JSON.
#[derive(Serialize)]
struct Shape<'a> {
    id: InviteId,
    /// Null of whoever runs the server.
    by: Option<&'a Username>,
    room: Option<&'a RoomId>,
    uses_left: u32,
    created_at: Timestamp,
    expires_at: Timestamp,
    /// Once, to whoever makes it.
    #[serde(skip_serializing_if = "Option::is_none")]
    link: Option<&'a str>,
}

impl<'a> Shape<'a> {
    fn of(invite: &'a Invite, link: Option<&'a str>) -> Self {
        Self {
            id: invite.id,
            by: invite.by.as_ref().map(|by| &by.username),
            room: invite.room.as_ref(),
            uses_left: invite.uses_left,
            created_at: invite.created_at,
            expires_at: invite.expires_at,
            link,
        }
    }
}

/// The links as JSON.
#[derive(Serialize)]
struct Shapes<'a> {
    invites: Vec<Shape<'a>>,
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
    let Some(settings) = app.store.settings(room).await? else {
        return Ok(false);
    };
    let is_member = matches!(
        app.store.relation(room, user).await?,
        Relation::Member { .. }
    );
    Ok(is_member && settings.access != Access::Private || decides(app, room, user.id).await?)
}

/// The invitation with this secret; `None` when it is over, or was made by somebody who may invite no more.
pub(super) async fn good(app: &AppState, secret: &str) -> Result<Option<Invite>, AppError> {
    let found = app.store.find_invite(&LinkSecret::hash(secret)).await?;
    let Some(invite) = found else {
        return Ok(None);
    };
    let is_good = match &invite.by {
        None => true,
        Some(by) => {
            let account = app.store.account(by.id).await?;
            account.is_some_and(|account| !account.is_deactivated)
                && may_invite(app, by, invite.room.as_ref()).await?
        }
    };
    Ok(is_good.then_some(invite))
}

/// Whether it lets in where not everybody may make an account.
pub(super) async fn is_to_server(app: &AppState, invite: &Invite) -> Result<bool, AppError> {
    match &invite.by {
        None => Ok(true),
        Some(by) => is_admin(app, by.id).await,
    }
}

/// An invitation in words, to be shown to whoever has its secret; `None` when it is none.
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

/// `GET /invites`: one's own, and those of others where one is an admin.
pub(super) async fn index(
    State(app): State<AppState>,
    format: ResponseFormat,
    SignedIn { user, .. }: SignedIn,
    query: Query,
) -> Result<Response, AppError> {
    if format.is_html() {
        let sent = NewInvite {
            room: query.find("room").unwrap_or("").to_owned(),
            ..NewInvite::default()
        };
        return page(&app, &user, StatusCode::OK, &sent, &[]).await;
    }
    let (invites, _) = listed(&app, &user).await?;
    Ok(match format {
        ResponseFormat::Text => {
            let line = |invite: &Invite| {
                let by = invite.by.as_ref().map_or("-", |by| by.username.as_str());
                let room = invite.room.as_ref().map_or("-", RoomId::as_str);
                let (id, uses, until) = (invite.id, invite.uses_left, invite.expires_at);
                format!("{id}\t{by}\t{room}\t{uses}\t{until}\n")
            };
            respond::text(StatusCode::OK, invites.iter().map(line).collect())
        }
        _ => {
            let shapes = { invites.iter() }.map(|invite| Shape::of(invite, None));
            let shapes = Shapes {
                invites: shapes.collect(),
            };
            respond::json(StatusCode::OK, &shapes)
        }
    })
}

/// The links that somebody may see, and whether they are an admin.
async fn listed(app: &AppState, user: &User) -> Result<(Vec<Invite>, bool), AppError> {
    let is_admin = is_admin(app, user.id).await?;
    let by = (!is_admin).then_some(user.id);
    Ok((app.store.invites(by, LISTED).await?, is_admin))
}

/// The page, with what was typed and what is wrong with it.
async fn page(
    app: &AppState,
    user: &User,
    status: StatusCode,
    sent: &NewInvite,
    errors: &[(&'static str, String)],
) -> Result<Response, AppError> {
    let (invites, is_admin) = listed(app, user).await?;
    let room = RoomId::known(&sent.room).ok();
    let may_invite = may_invite(app, user, room.as_ref()).await?;
    let mut rows = Vec::new();
    for invite in invites {
        let room = match &invite.room {
            None => None,
            Some(room) => Some(title(app, room).await?),
        };
        rows.push(InviteRow { invite, room });
    }
    let title = match &room {
        Some(room) if may_invite => title(app, room).await?.into(),
        _ => Cow::Borrowed(""),
    };
    let page = InvitesPage {
        user,
        is_admin,
        form: may_invite.then_some(InviteForm {
            room: room.as_ref(),
            title: &title,
            uses: &sent.uses,
            days: &sent.days,
            errors,
        }),
        rows: &rows,
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
                return page(&app, &user, status, &sent, &errors).await;
            }
            return Err(AppError::InvalidFields(errors));
        }
    };
    let own = app
        .store
        .invites(Some(user.id), Invite::PER_USER_MAX)
        .await?;
    if own.len() >= Invite::PER_USER_MAX {
        return Err(Invalid("You have 100 links that are good. Take some back first.").into());
    }
    let entry = to_room(AuditEntry::new(Some(&user), Act::Invite), room.as_ref());
    let making = new_invite(&*app.store, &app.config, Some(&user), room, uses, lasts);
    let (invite, link) = audited(&app, entry, making).await?;
    Ok(match format {
        ResponseFormat::Page | ResponseFormat::Fragment => {
            let room = match &invite.room {
                None => None,
                Some(room) => Some(title(&app, room).await?),
            };
            let page = InvitePage {
                user: &user,
                row: &InviteRow { invite, room },
                link: &link,
                code: QrCode::of(&link),
            };
            respond::html(StatusCode::OK, &page)
        }
        ResponseFormat::Json | ResponseFormat::Ndjson => {
            let shape = Shape::of(&invite, Some(&link));
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
    let by = match is_admin(&app, user.id).await? {
        true => None,
        false => Some(user.id),
    };
    let known = app.store.invites(by, LISTED).await?;
    if known.iter().all(|invite| invite.id != id) {
        return Err(AppError::NotFound);
    }
    let entry = AuditEntry::new(Some(&user), Act::RevokeInvite);
    audited(&app, entry, app.store.revoke_invite(id, by)).await?;
    Ok(done(&method, format, "/invites"))
}
