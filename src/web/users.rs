use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};

use super::answer::{self, Form};
use super::body::Fields;
use super::client::ClientNetwork;
use super::cookies::SessionCookies;
use super::extract::SignedIn;
use super::sessions;
use crate::auth::password::NewPassword;
use crate::domain::{Email, Invalid, NewUser, User, UserId, Username};
use crate::error::AppError;
use crate::limits::Limited;
use crate::state::AppState;
use crate::store::{StoreError, UserField};
use crate::views::{Field, SignUpPage};

/// `GET /signup`.
pub(super) async fn new(user: Option<SignedIn>) -> Response {
    match user {
        Some(_) => Redirect::to("/rooms").into_response(),
        None => answer::html(StatusCode::OK, &page("", "", &[], None)),
    }
}

/// `POST /signup`: makes an account and signs in to it.
pub(super) async fn create(
    State(app): State<AppState>,
    ClientNetwork(network): ClientNetwork,
    form: Form,
    cookies: SessionCookies,
    fields: Fields,
) -> Result<Response, AppError> {
    let (username, email) = (fields.get("username"), fields.get("email"));
    let refused = |errors: Vec<(&'static str, String)>| {
        if form.is_html() {
            let page = page(username, email, &errors, None);
            Ok(answer::html(StatusCode::UNPROCESSABLE_ENTITY, &page))
        } else {
            Err(AppError::InvalidFields(errors))
        }
    };
    let put_off = |error: AppError| {
        if !form.is_html() {
            return Err(error);
        }
        let detail = error.detail();
        let page = page(username, email, &[], Some(&detail));
        Ok(answer::html_error(&error, &page))
    };
    let (name, address, password) = match (
        Username::parse(username),
        Email::parse(email),
        NewPassword::parse(fields.get("password")),
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
    // Each costs a hash, and tells whether a name is taken.
    if let Err(not_counted) = app.limits.take(&Limited::SignUpsFrom(network)).await {
        return put_off(not_counted.into());
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
        email: address,
        password_hash,
    });
    match added.await {
        Ok(()) => {}
        Err(StoreError::Taken(UserField::Username)) => {
            let says = "Somebody has this name, or one that looks like it. Choose another.";
            return refused(vec![("username", says.to_owned())]);
        }
        Err(StoreError::Taken(UserField::Email)) => {
            let says = "There is an account with this address. Sign in, or use another.";
            return refused(vec![("email", says.to_owned())]);
        }
        Err(error) => return Err(error.into()),
    }
    let signed_in = sessions::sign_in(&app, &cookies, user).await?;
    Ok(match form {
        Form::Page | Form::Fragment => Redirect::to("/rooms").into_response(),
        Form::Json | Form::Ndjson => signed_in.json(StatusCode::CREATED),
        Form::Text => signed_in.text(StatusCode::CREATED),
    })
}

fn page<'a>(
    username: &'a str,
    email: &'a str,
    errors: &'a [(&'static str, String)],
    error: Option<&'a str>,
) -> SignUpPage<'a> {
    let error_at = |name| {
        let wrong = errors.iter().find(|(wrong, _)| *wrong == name);
        wrong.map(|(_, says)| says.as_str())
    };
    SignUpPage {
        error,
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
