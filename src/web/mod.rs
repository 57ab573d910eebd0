//! HTTP: the routes, the layers around them, and a handler for each.

mod account;
mod account_export;
mod accounts;
mod admin;
mod assets;
mod audit;
mod avatars;
mod blocks;
mod client;
mod cookies;
mod device;
mod directs;
mod emoji;
mod errors;
mod extract;
mod form;
mod frame;
mod handoff;
mod health;
mod in_flight;
mod invites;
mod joining;
mod layers;
mod lobby;
mod log_range;
mod memberships;
mod mentions;
mod message;
mod messages;
mod paging;
mod people;
mod query;
mod reactions;
mod read_markers;
mod reports;
mod resets;
mod respond;
mod room_deletion;
mod room_events;
mod room_labels;
mod room_settings;
mod rooms;
mod seen;
mod sessions;
mod style_sheets;
mod typing;

use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::StatusCode;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::response::Redirect;
use axum::routing::{delete, get, post, put};
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::compression::predicate::SizeAbove;
use tower_http::compression::{CompressionLayer, CompressionLevel};
use tower_http::timeout::TimeoutLayer;

use crate::error::AppError;
use crate::state::AppState;

pub use accounts::new_name;
pub use client::Peer;
pub use handoff::{HandedOff, HandoffSupported, OpenStream};
pub use invites::new_invite;
pub use resets::new_reset;

/// The most bytes a request's body has: a message of 4,000 characters of four bytes, each byte
/// percent-encoded, and some room.
const BODY_BYTES_MAX: usize = 64 * 1024;

/// The smallest answer that is worth compressing: what is smaller fits a few packets anyway.
const COMPRESSED_FROM_BYTES: u64 = 4 * 1024;

/// How long a request may take, its body included. Waiting for messages takes 30 seconds at most,
/// waiting for the database 15.
const REQUEST_MAX: Duration = Duration::from_secs(45);

/// All routes, by page; whoever is not signed in is turned away by the handlers' extractors.
pub fn app(state: AppState) -> Router {
    let streams = Router::new()
        .route("/rooms/{room}/events", get(room_events::show).head(no_head))
        .route("/rooms/{room}/live", get(room_events::live).head(no_head));

    let pages = Router::new()
        .route("/", get(home))
        .route("/signup", get(accounts::new).post(accounts::create))
        .route("/login", get(sessions::new).post(sessions::create))
        .route("/logout", post(sessions::destroy))
        .route("/rooms", get(lobby::index).post(rooms::create))
        .route("/rooms/{room}", get(rooms::show))
        .route("/mentions", get(mentions::index))
        .route("/account", get(account::show).post(account::update))
        .route("/account/password", post(account::set_password))
        .route("/account/blocks", post(blocks::create))
        .route("/account/export", get(account_export::show))
        .route("/account/delete", post(account::delete))
        .route("/account/sessions/{id}", delete(account::end_session))
        .route("/account/sessions/{id}/end", post(account::end_session))
        .route("/admin", get(admin::index))
        .route("/admin/people/{username}/role", post(admin::set_role))
        .route("/admin/people/{username}/reset", post(resets::create))
        .route(
            "/admin/people/{username}/deactivate",
            post(admin::deactivate),
        )
        .route("/admin/people/{username}/delete", post(admin::delete))
        .route("/admin/people/{username}/sign-out", post(admin::sign_out))
        .route("/admin/reports", get(reports::index))
        .route("/admin/reports/{id}/close", post(reports::close))
        .route("/admin/rooms", get(admin::rooms))
        .route("/admin/audit", get(audit::index))
        .route("/admin/sign-up", post(admin::set_sign_up))
        .route("/forgot", get(resets::forgot).post(resets::send))
        .route("/reset/{secret}", get(resets::show).post(resets::spend))
        .route("/invites", get(invites::index).post(invites::create))
        .route("/invites/{id}", delete(invites::revoke))
        .route("/invites/{id}/revoke", post(invites::revoke))
        .route("/join/{secret}", get(joining::show).post(joining::create))
        .route("/new", get(rooms::new))
        .route("/directs", get(directs::new).post(directs::create))
        .route(
            "/rooms/{room}/settings",
            get(room_settings::show).post(room_settings::update),
        )
        .route(
            "/rooms/{room}/people",
            get(people::index).post(people::create),
        )
        .route(
            "/rooms/{room}/people/{username}",
            delete(memberships::remove),
        )
        .route(
            "/rooms/{room}/people/{username}/role",
            post(memberships::set_role),
        )
        .route(
            "/rooms/{room}/people/{username}/remove",
            post(memberships::remove),
        )
        .route(
            "/rooms/{room}/people/{username}/ban",
            post(memberships::ban)
                .put(memberships::ban)
                .delete(memberships::ban),
        )
        .route("/rooms/{room}/delete", post(room_deletion::create))
        .route("/rooms/{room}/level", post(memberships::set_level))
        .route("/rooms/{room}/leave", post(memberships::leave))
        .route("/rooms/{room}/read", post(read_markers::create))
        .route("/rooms/{room}/typing", post(typing::create))
        .route(
            "/rooms/{room}/messages",
            get(messages::index).post(messages::create),
        )
        .route(
            "/rooms/{room}/messages/{seq}",
            get(message::show)
                .post(message::update)
                .patch(message::update)
                .delete(message::destroy),
        )
        .route(
            "/rooms/{room}/messages/{seq}/delete",
            post(message::destroy),
        )
        .route("/rooms/{room}/messages/{seq}/report", post(reports::create))
        .route(
            "/rooms/{room}/messages/{seq}/reactions",
            post(reactions::create),
        )
        .route(
            "/rooms/{room}/messages/{seq}/reactions/{emoji}",
            put(reactions::update).delete(reactions::update),
        )
        // Within the compression: what it has not read yet is the whole answer.
        .layer(from_fn_with_state(state.clone(), in_flight::count))
        // A room's page is a tenth of its size then. Streams are never compressed: each event would
        // wait for the next.
        .layer(
            CompressionLayer::new()
                .quality(CompressionLevel::Fastest)
                .compress_when(SizeAbove::new(COMPRESSED_FROM_BYTES)),
        )
        // A stream has no end that could come too late, so this is around the pages only.
        .layer(TimeoutLayer::with_status_code(
            StatusCode::REQUEST_TIMEOUT,
            REQUEST_MAX,
        ));

    let public = Router::new()
        .route("/healthz", get(health::alive))
        .route("/readyz", get(health::ready))
        .route("/rooms/{room}/frame", get(frame::around))
        .route("/rooms/{room}/frame/again", get(frame::before))
        .route("/emoji", get(emoji::index))
        .route("/reacted.css", get(style_sheets::reacted))
        .route("/folded.css", get(blocks::style_sheet))
        .route("/reader.css", get(style_sheets::reader))
        .route("/manifest.webmanifest", get(avatars::manifest))
        .route("/avatars/1/{file}", get(avatars::show))
        .route("/static/{file}", get(assets::show));

    Router::new()
        .merge(pages)
        .merge(streams)
        .merge(public)
        .fallback(async || AppError::NotFound)
        .method_not_allowed_fallback(async || AppError::MethodNotAllowed)
        // From the outside inwards, put around the routes all at once: log, add the headers, give
        // errors the form the request asked for, turn a panic into such an error, refuse what
        // is not for us or comes from other sites, wait so long for the database and no longer.
        .layer((
            from_fn_with_state(state.clone(), layers::log),
            from_fn_with_state(state.clone(), layers::add_headers),
            from_fn_with_state(state.clone(), errors::render),
            CatchPanicLayer::custom(layers::panicked),
            from_fn_with_state(state.clone(), layers::refuse_foreign),
            from_fn(layers::with_deadline),
            DefaultBodyLimit::max(BODY_BYTES_MAX),
        ))
        .with_state(state)
}

/// A stream's head alone is nothing to ask for; it would take one of the user's places.
async fn no_head() -> AppError {
    AppError::MethodNotAllowed
}

async fn home(State(_): State<AppState>, user: Option<extract::SignedIn>) -> Redirect {
    Redirect::to(match user {
        Some(_) => "/rooms",
        None => "/login",
    })
}
