//! Sign-up: the form, and making an account.

use std::net::IpAddr;

use axum::extract::{FromRequestParts, State};
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use serde::Deserialize;

use super::client::ClientAddress;
use super::cookies::SessionCookies;
use super::device::Device;
use super::extract::SignedIn;
use super::form::{Input, Payload};
use super::query::Query;
use super::respond::{self, ResponseFormat};
use super::seen::Seeing;
use super::{invites, sessions};
use crate::auth::password::NewPassword;
use crate::domain::{
    Account, AccountRole, Email, Guest, Invalid, Invite, Login, Mentions, NewUser, Seq,
    SignUpPolicy, User, UserId, Username,
};
use crate::error::{AppError, FieldErrors, error_of, field_errors};
use crate::limits::{self, Limited};
use crate::state::AppState;
use crate::store::{StoreError, UserField};
use crate::views::{Field, Invited, SignUpPage};

/// `GET /signup`.
pub(super) async fn new(
    State(app): State<AppState>,
    user: Option<SignedIn>,
    query: Query,
) -> Result<Response, AppError> {
    if user.is_some() {
        return Ok(Redirect::to("/rooms").into_response());
    }
    let door = Door {
        action: "/signup",
        invite: query.find("invite").unwrap_or(""),
    };
    show(&app, &door).await
}

/// The place of a sign-up.
pub(super) struct Door<'a> {
    /// The address of its form.
    pub(super) action: &'a str,
    /// The secret of the invitation that has led there, or of the link that the server prints while nobody is
    /// here. Empty without.
    pub(super) invite: &'a str,
}

/// The form, or why there is none.
pub(super) async fn show(app: &AppState, door: &Door<'_>) -> Result<Response, AppError> {
    let invited = invites::invited(app, door.invite).await?;
    let sent = SignUp::default();
    let mut page = page(&sent, door, invited.as_ref(), &[], None);
    let closed = match admit(app, door.invite).await {
        // The first of all is told when they send it.
        Ok(_) | Err(AppError::NotInvited) => String::new(),
        Err(refused @ (AppError::SignUpRefused(_) | AppError::InviteOver)) => refused.detail(),
        Err(error) => return Err(error),
    };
    page.closed = &closed;
    Ok(respond::html(StatusCode::OK, &page))
}

/// The fields of a sign-up.
#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct SignUp {
    username: String,
    email: String,
    password: String,
    /// See [`Door::invite`]; where that is not in the address.
    invite: String,
}

impl Input for SignUp {}

/// The request of a sign-up, beside the fields.
pub(super) struct Arrival {
    client: IpAddr,
    format: ResponseFormat,
    cookies: SessionCookies,
    device: Device,
    seeing: Seeing,
}

impl FromRequestParts<AppState> for Arrival {
    type Rejection = AppError;

    async fn from_request_parts(parts: &mut Parts, app: &AppState) -> Result<Self, AppError> {
        let ClientAddress(client) = ClientAddress::from_request_parts(parts, app).await?;
        let Ok(format) = ResponseFormat::from_request_parts(parts, app).await;
        let Ok(cookies) = SessionCookies::from_request_parts(parts, app).await;
        let Ok(device) = Device::from_request_parts(parts, app).await;
        let Ok(seeing) = Seeing::from_request_parts(parts, app).await;
        Ok(Self {
            client,
            format,
            cookies,
            device,
            seeing,
        })
    }
}

/// `POST /signup`.
pub(super) async fn create(
    State(app): State<AppState>,
    arrival: Arrival,
    Payload(sent): Payload<SignUp>,
) -> Result<Response, AppError> {
    let door = Door {
        action: "/signup",
        invite: &sent.invite,
    };
    sign_up(&app, arrival, &sent, &door).await
}

/// Makes an account and signs in to it.
pub(super) async fn sign_up(
    app: &AppState,
    arrival: Arrival,
    sent: &SignUp,
    door: &Door<'_>,
) -> Result<Response, AppError> {
    let invited = invites::invited(app, door.invite).await?;
    let (format, client) = (arrival.format, arrival.client);
    let refused = |error: AppError| {
        if !format.is_html() {
            return Err(error);
        }
        let (errors, detail) = match &error {
            AppError::InvalidFields(errors) => (errors.as_slice(), None),
            error => (&[][..], Some(error.detail())),
        };
        let page = page(sent, door, invited.as_ref(), errors, detail.as_deref());
        Ok(respond::html_error(&error, &page))
    };
    let (user, email, password) = match parsed(sent) {
        Ok(parsed) => parsed,
        Err(errors) => return refused(AppError::InvalidFields(errors)),
    };
    let (name, address) = (user.username.clone(), email.clone());
    let (account, invite, entered) = match make(app, client, door, user, email, password).await {
        Ok(made) => made,
        // "Sign up" may have been clicked twice.
        Err(error @ (AppError::InvalidFields(_) | AppError::InviteOver)) => {
            let says_whose = matches!(error, AppError::InvalidFields(_));
            let password = &sent.password;
            match sign_up_again(app, &name, &address, client, password, says_whose).await {
                Ok(Some(account)) if account.is_deactivated => {
                    return refused(AppError::Deactivated);
                }
                Ok(Some(account)) => (account, None, 0),
                Ok(None) => return refused(error),
                Err(error) => return refused(error),
            }
        }
        Err(error) => return refused(error),
    };
    let room = invite.and_then(|invite| invite.room);
    // From here its owner gets in, whatever others try from elsewhere.
    app.limits.trust_network(account.user.id, client).await?;
    let signed_in = sessions::sign_in(app, &arrival.cookies, account, arrival.device).await?;
    let (signed_in, kept) = signed_in.ok_or(AppError::BadCredentials)?;
    let path = room.as_ref().map(|room| format!("/rooms/{room}"));
    let answer = match format {
        ResponseFormat::Page | ResponseFormat::Fragment => {
            Redirect::to(path.as_deref().unwrap_or("/rooms")).into_response()
        }
        ResponseFormat::Json | ResponseFormat::Ndjson => signed_in.json(StatusCode::CREATED),
        ResponseFormat::Text => signed_in.text(StatusCode::CREATED),
    };
    let location = path.filter(|_| !format.is_html());
    let location = location.map(|path| [(header::LOCATION, path)]);
    let seen = room.map(|room| arrival.seeing.having_shown(&room, entered));
    Ok((kept, location, seen, answer).into_response())
}

/// The fields as what they have to be, or what is wrong with them.
fn parsed(sent: &SignUp) -> Result<(User, Email, NewPassword), FieldErrors> {
    match (
        new_name(&sent.username),
        Email::parse(&sent.email),
        NewPassword::parse(&sent.password),
    ) {
        (Ok(username), Ok(email), Ok(password)) => {
            let id = UserId::new();
            Ok((User { id, username }, email, password))
        }
        (username, email, password) => Err(field_errors([
            ("username", username.err()),
            ("email", email.err()),
            ("password", password.err()),
        ])),
    }
}

/// An account that was made, the invitation by which it was, and how far one must see its room.
type Made = (Account, Option<Invite>, Seq);

/// Makes an account, in one step with a use of the invitation. It is counted: each costs a hash, and tells whether a
/// name is taken.
async fn make(
    app: &AppState,
    client: IpAddr,
    door: &Door<'_>,
    user: User,
    email: Email,
    password: NewPassword,
) -> Result<Made, AppError> {
    let invite = match admit(app, door.invite).await {
        // It may be a repetition of the sign-up that has used it up.
        Err(over @ AppError::InviteOver) => {
            count_sign_up(app, client).await?;
            return Err(over);
        }
        admitted => admitted?,
    };
    count_sign_up(app, client).await?;
    let new = NewUser {
        user,
        email,
        password_hash: app.hasher.hash(password).await?,
    };
    let added = match &invite {
        None => app.store.add_user(new.clone()).await.map(|role| (role, 0)),
        Some(invite) => {
            let guest = Guest::New(new.clone());
            let spent = app.store.spend_invite(&invite.secret_hash, guest).await;
            spent.map(|entered| (AccountRole::Member, entered))
        }
    };
    match added {
        Ok((role, entered)) => Ok((account_of(new, role), invite, entered)),
        Err(StoreError::Taken(field)) => Err(AppError::InvalidFields(vec![taken(field)])),
        Err(error) => Err(error.into()),
    }
}

/// Counts an attempt that tells whether a name or an address is somebody's.
pub(super) async fn count_sign_up(app: &AppState, client: IpAddr) -> Result<(), AppError> {
    let networks = limits::networks(client).into_iter();
    let counted: Vec<Limited> = networks.map(Limited::SignUpsFrom).collect();
    Ok(app.limits.take_all(&counted).await?)
}

fn account_of(new: NewUser, role: AccountRole) -> Account {
    let NewUser {
        user,
        email,
        password_hash,
    } = new;
    Account {
        user,
        email,
        role,
        is_deactivated: false,
        password_hash,
    }
}

/// The policy of sign-ups in force.
pub(super) async fn sign_up_policy(app: &AppState) -> Result<SignUpPolicy, AppError> {
    let chosen = app.store.sign_up_policy().await?;
    Ok(chosen.unwrap_or(app.config.sign_up))
}

/// The invitation by which somebody may make an account; `None` where they need none. The first account is an
/// admin's, so of a server that others reach it takes the link that was printed at its start.
async fn admit(app: &AppState, invite: &str) -> Result<Option<Invite>, AppError> {
    let policy = sign_up_policy(app).await?;
    let is_local = app.config.bind_addr.ip().is_loopback();
    let is_first = invite == app.keys.first_invite();
    let is_plain = is_local && policy == SignUpPolicy::Open && invite.is_empty();
    if !is_plain && app.store.has_no_users().await? {
        return match is_local || is_first {
            true => Ok(None),
            false => Err(AppError::NotInvited),
        };
    }
    let found = match invite {
        "" => None,
        // Its time is over, and it leads nowhere else.
        _ if is_first => None,
        secret => Some(
            invites::good(app, secret)
                .await?
                .ok_or(AppError::InviteOver)?,
        ),
    };
    match policy {
        SignUpPolicy::Open => Ok(found),
        SignUpPolicy::Invite => match found {
            Some(invite) if invites::is_to_server(app, &invite).await? => Ok(Some(invite)),
            _ => Err(AppError::SignUpRefused(policy)),
        },
        SignUpPolicy::Closed => Err(AppError::SignUpRefused(policy)),
    }
}

/// A name for a new account: nobody is called what stands for everybody.
///
/// # Errors
///
/// [`Invalid`] also when it breaks a rule of names.
pub fn new_name(raw: &str) -> Result<Username, Invalid> {
    let name = Username::parse(raw)?;
    let room = Username::parse(Mentions::ROOM)?;
    match name.key() == room.key() || name.shape() == room.shape() {
        true => Err(Invalid(
            "“room” stands for everybody in a room. Choose another name.",
        )),
        false => Ok(name),
    }
}

/// The account whose sign-up this repeats: "Sign up" was clicked twice on a slow line. The second is the first
/// if all three inputs are the same. It counts like a sign-in, and, unless the form `says_whose` an address is, takes as long whether or not there
/// is such an account.
async fn sign_up_again(
    app: &AppState,
    name: &Username,
    address: &Email,
    client: IpAddr,
    password: &str,
    says_whose: bool,
) -> Result<Option<Account>, AppError> {
    let login = Login::Email(address.key());
    // The form says whose an address is, so somebody who tries names need not wait for a hash.
    if says_whose && app.store.find_account(&login).await?.is_none() {
        return Ok(None);
    }
    let account = sessions::check_password(app, Some(login), client, password).await?;
    Ok(account.filter(|account| account.user.username == *name))
}

pub(super) fn taken(field: UserField) -> (&'static str, String) {
    let (name, says) = match field {
        UserField::Username => (
            "username",
            "Somebody has this name, or one that looks like it. Choose another.",
        ),
        UserField::Email => (
            "email",
            "There is an account with this address. Sign in, or use another.",
        ),
    };
    (name, says.to_owned())
}

fn page<'a>(
    sent: &'a SignUp,
    door: &'a Door<'_>,
    invited: Option<&'a Invited>,
    errors: &'a [(&'static str, String)],
    error: Option<&'a str>,
) -> SignUpPage<'a> {
    SignUpPage {
        error,
        action: door.action,
        invite: door.invite,
        invited,
        closed: "",
        fields: [
            Field {
                name: "username",
                label: "Name",
                kind: "text",
                autocomplete: "username",
                value: &sent.username,
                hint: "What others see: 2 to 32 letters, digits, “-”, “_” or “.”.",
                error: error_of(errors, "username"),
                is_first: true,
            },
            Field {
                name: "email",
                label: "Email",
                kind: "email",
                autocomplete: "email",
                value: &sent.email,
                hint: "To sign in with. Only admins see it.",
                error: error_of(errors, "email"),
                is_first: false,
            },
            Field {
                name: "password",
                label: "Password",
                kind: "password",
                autocomplete: "new-password",
                value: "",
                hint: "At least 10 characters.",
                error: error_of(errors, "password"),
                is_first: false,
            },
        ],
    }
}

/// The user of this name; nobody goes by an address here.
pub(super) async fn called(app: &AppState, name: &str) -> Result<Option<User>, AppError> {
    let name = name.trim();
    let name = name.strip_prefix('@').unwrap_or(name);
    let account = app.store.find_account(&Login::named(name)).await?;
    Ok(account.map(|account| account.user))
}
