//! Sign-up: the form, and making an account.

use std::net::IpAddr;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use serde::Deserialize;

use super::client::ClientAddress;
use super::cookies::SessionCookies;
use super::device::Device;
use super::extract::SignedIn;
use super::form::{Input, Payload};
use super::query::Query;
use super::respond::{self, ResponseFormat};
use super::sessions;
use crate::auth::password::NewPassword;
use crate::domain::{Account, Email, Invalid, Login, Mentions, NewUser, User, UserId, Username};
use crate::error::AppError;
use crate::limits::{self, Limited};
use crate::state::AppState;
use crate::store::{StoreError, UserField};
use crate::views::{Field, SignUpPage};

/// `GET /signup`.
pub(super) async fn new(user: Option<SignedIn>, query: Query) -> Response {
    let invite = query.find("invite").unwrap_or("");
    match user {
        Some(_) => Redirect::to("/rooms").into_response(),
        None => respond::html(StatusCode::OK, &page("", "", invite, &[], None)),
    }
}

/// The fields of a sign-up.
#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct SignUp {
    username: String,
    email: String,
    password: String,
    /// The secret of the link that the server has printed, while nobody is here.
    invite: String,
}

impl Input for SignUp {}

/// `POST /signup`: makes an account and signs in to it.
pub(super) async fn create(
    State(app): State<AppState>,
    ClientAddress(client): ClientAddress,
    format: ResponseFormat,
    (cookies, device): (SessionCookies, Device),
    Payload(sent): Payload<SignUp>,
) -> Result<Response, AppError> {
    let SignUp {
        username,
        email,
        password: typed_password,
        invite,
    } = &sent;
    let refused = |errors: Vec<(&'static str, String)>| {
        if format.is_html() {
            let page = page(username, email, invite, &errors, None);
            Ok(respond::html(StatusCode::UNPROCESSABLE_ENTITY, &page))
        } else {
            Err(AppError::InvalidFields(errors))
        }
    };
    let put_off = |error: AppError| {
        if !format.is_html() {
            return Err(error);
        }
        let detail = error.detail();
        let page = page(username, email, invite, &[], Some(&detail));
        Ok(respond::html_error(&error, &page))
    };
    let (name, address, password) = match (
        Username::parse(username).and_then(not_reserved),
        Email::parse(email),
        NewPassword::parse(typed_password),
    ) {
        (Ok(name), Ok(address), Ok(password)) => (name, address, password),
        (username, email, password) => {
            let errors = [
                ("username", username.err()),
                ("email", email.err()),
                ("password", password.err()),
            ];
            let wrong = |(name, error): (_, Option<Invalid>)| Some((name, error?.to_string()));
            return refused(errors.into_iter().filter_map(wrong).collect());
        }
    };
    if is_closed_to_strangers(&app, &sent.invite).await? {
        return put_off(AppError::NotInvited);
    }
    // Each costs a hash, and tells whether a name is taken.
    let counted: Vec<Limited> = limits::networks(client)
        .into_iter()
        .map(Limited::SignUpsFrom)
        .collect();
    if let Err(limited) = app.limits.take_all(&counted).await {
        return put_off(limited.into());
    }

    let user = User {
        id: UserId::new(),
        username: name,
    };
    let password_hash = match app.hasher.hash(password).await {
        Ok(hash) => hash,
        Err(error) => return put_off(error.into()),
    };
    let added = app.store.add_user(NewUser {
        user: user.clone(),
        email: address.clone(),
        password_hash: password_hash.clone(),
    });
    let account = match added.await {
        Ok(role) => Account {
            user,
            email: address,
            role,
            password_hash,
        },
        Err(StoreError::Taken(field)) => {
            let again = sign_up_again(&app, &user.username, &address, client, typed_password);
            match again.await {
                Ok(Some(account)) => account,
                Ok(None) => return refused(vec![taken(field)]),
                Err(error) => return put_off(error),
            }
        }
        Err(error) => return put_off(error.into()),
    };
    // From here its owner gets in, whatever others try from elsewhere.
    app.limits.trust_network(account.user.id, client).await?;
    let signed_in = sessions::sign_in(&app, &cookies, account, device).await?;
    let (signed_in, kept) = signed_in.ok_or(AppError::BadCredentials)?;
    let answer = match format {
        ResponseFormat::Page | ResponseFormat::Fragment => Redirect::to("/rooms").into_response(),
        ResponseFormat::Json | ResponseFormat::Ndjson => signed_in.json(StatusCode::CREATED),
        ResponseFormat::Text => signed_in.text(StatusCode::CREATED),
    };
    Ok((kept, answer).into_response())
}

/// The first account is an admin's, so of a server that others reach it is made by whoever has the link that was
/// printed at its start.
async fn is_closed_to_strangers(app: &AppState, invite: &str) -> Result<bool, AppError> {
    let is_open = app.config.bind_addr.ip().is_loopback() || invite == app.keys.first_invite();
    Ok(!is_open && app.store.has_no_users().await?)
}

/// Nobody is called what stands for everybody.
fn not_reserved(name: Username) -> Result<Username, Invalid> {
    let room = Username::parse(Mentions::ROOM)?;
    match name.key() == room.key() || name.shape() == room.shape() {
        true => Err(Invalid(
            "“room” stands for everybody in a room. Choose another name.",
        )),
        false => Ok(name),
    }
}

/// The account whose sign-up this repeats: "Sign up" was clicked twice on a slow line. The second is the first
/// if all three inputs are the same, and counts like a sign-in, which it is then.
async fn sign_up_again(
    app: &AppState,
    name: &Username,
    address: &Email,
    client: IpAddr,
    password: &str,
) -> Result<Option<Account>, AppError> {
    let login = Login::Email(address.key());
    let account = app.store.find_account(&login).await?;
    if account.is_none_or(|account| account.user.username != *name) {
        return Ok(None);
    }
    sessions::check_password(app, Some(login), client, password).await
}

fn taken(field: UserField) -> (&'static str, String) {
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
    username: &'a str,
    email: &'a str,
    invite: &'a str,
    errors: &'a [(&'static str, String)],
    error: Option<&'a str>,
) -> SignUpPage<'a> {
    let error_at = |name| {
        let wrong = errors.iter().find(|(wrong, _)| *wrong == name);
        wrong.map(|(_, says)| says.as_str())
    };
    SignUpPage {
        error,
        invite,
        fields: [
            Field {
                name: "username",
                label: "Name",
                kind: "text",
                autocomplete: "username",
                value: username,
                hint: "What others see: 2 to 32 letters, digits, “-”, “_” or “.”.",
                error: error_at("username"),
                is_first: true,
            },
            Field {
                name: "email",
                label: "Email",
                kind: "email",
                autocomplete: "email",
                value: email,
                hint: "To sign in with. Others don’t see it, and nothing is sent to it.",
                error: error_at("email"),
                is_first: false,
            },
            Field {
                name: "password",
                label: "Password",
                kind: "password",
                autocomplete: "new-password",
                value: "",
                hint: "At least 10 characters.",
                error: error_at("password"),
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
