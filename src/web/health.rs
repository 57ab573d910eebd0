//! Health checks: whether the process lives, and whether it is ready.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;

use super::respond;
use crate::state::AppState;

/// `GET /healthz`: the process lives.
pub(super) async fn alive() -> Response {
    respond::text(StatusCode::OK, "ok\n".to_owned())
}

/// `GET /readyz`: the store answers, and other nodes' messages arrive.
pub(super) async fn ready(State(app): State<AppState>) -> Response {
    match app.store.ready().await {
        Ok(()) => respond::text(StatusCode::OK, "ready\n".to_owned()),
        Err(error) => {
            tracing::warn!(?error, "not ready");
            let says = "not ready: the database does not answer as it should\n";
            respond::text(StatusCode::SERVICE_UNAVAILABLE, says.to_owned())
        }
    }
}
