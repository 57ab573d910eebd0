//! Requests in flight, and the answers that wait for their clients to read them: bounded per user and
//! in all, so that clients which ask for much and read nothing cost a bounded amount of memory.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, HttpBody};
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use hyper::body::{Frame, SizeHint};

use crate::domain::UserId;
use crate::error::AppError;
use crate::state::AppState;

/// The most bytes of one user's answers that wait to be sent: a dozen of the largest.
const USER_BYTES_MAX: usize = 8 * 1024 * 1024;

/// The same of everybody's.
const BYTES_MAX: usize = 64 * 1024 * 1024;

/// How much of an answer goes to the connection at once. The connection holds so much at most; the rest
/// stays here, and is counted, until there is room for it.
const PIECE_BYTES: usize = 64 * 1024;

/// When to come back after a refusal: somebody reads by then, or has gone.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// What is in flight in this process. Cheap to clone.
#[derive(Clone)]
pub struct InFlight(Arc<Shared>);

struct Shared {
    requests_per_user: usize,
    counts: Mutex<Counts>,
}

#[derive(Default)]
struct Counts {
    bytes: usize,
    users: HashMap<UserId, OfUser>,
}

#[derive(Default)]
struct OfUser {
    requests: usize,
    bytes: usize,
}

impl InFlight {
    /// So many requests of one user at once, and no more.
    pub fn new(requests_per_user: usize) -> Self {
        Self(Arc::new(Shared {
            requests_per_user,
            counts: Mutex::default(),
        }))
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        // Changed by additions and subtractions, none of which panics.
        self.0.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One request's share. It stands among the request's extensions, and goes with the answer's body.
#[derive(Clone)]
pub(super) struct Ticket(Arc<Share>);

struct Share {
    in_flight: InFlight,
    /// Known once the request turns out to be somebody's.
    user: OnceLock<UserId>,
    /// The answer's, once there is one.
    bytes: OnceLock<usize>,
}

impl Ticket {
    /// Counts the request for a user.
    pub(super) fn admit(&self, user: UserId) -> Result<(), AppError> {
        let mut counts = self.0.in_flight.counts();
        if self.0.user.get().is_some() {
            return Ok(());
        }
        let of_user = counts.users.entry(user).or_default();
        if of_user.requests >= self.0.in_flight.0.requests_per_user {
            return Err(too_many());
        }
        of_user.requests += 1;
        let _ = self.0.user.set(user);
        Ok(())
    }

    /// Counts the answer.
    fn hold(&self, bytes: usize) -> Result<(), AppError> {
        let mut counts = self.0.in_flight.counts();
        if counts.bytes + bytes > BYTES_MAX {
            return Err(AppError::Busy);
        }
        let of_user = self
            .0
            .user
            .get()
            .and_then(|user| counts.users.get_mut(user));
        if let Some(of_user) = of_user {
            // One answer may always be sent, however large it is.
            if of_user.bytes > 0 && of_user.bytes + bytes > USER_BYTES_MAX {
                return Err(too_many());
            }
            of_user.bytes += bytes;
        }
        counts.bytes += bytes;
        let _ = self.0.bytes.set(bytes);
        Ok(())
    }
}

fn too_many() -> AppError {
    AppError::TooMany {
        retry_after: RETRY_AFTER,
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let bytes = self.bytes.get().copied().unwrap_or(0);
        let mut counts = self.in_flight.counts();
        counts.bytes -= bytes;
        if let Some(user) = self.user.get()
            && let Some(of_user) = counts.users.get_mut(user)
        {
            of_user.requests -= 1;
            of_user.bytes -= bytes;
            if of_user.requests == 0 {
                counts.users.remove(user);
            }
        }
    }
}

/// Counts each request, and its answer until it is sent.
pub(super) async fn count(
    State(app): State<AppState>,
    mut request: Request,
    next: Next,
) -> Response {
    let ticket = Ticket(Arc::new(Share {
        in_flight: app.in_flight.clone(),
        user: OnceLock::new(),
        bytes: OnceLock::new(),
    }));
    request.extensions_mut().insert(ticket.clone());
    let response = next.run(request).await;
    let bytes = response.body().size_hint().exact().unwrap_or(0);
    match ticket.hold(usize::try_from(bytes).unwrap_or(usize::MAX)) {
        Ok(()) => response.map(|body| {
            Body::new(Counted {
                body,
                piece: Bytes::new(),
                _ticket: ticket,
            })
        }),
        Err(refused) => refused.into_response(),
    }
}

/// An answer's body, in pieces, with its ticket.
struct Counted {
    body: Body,
    /// What the body has given and is not sent yet.
    piece: Bytes,
    _ticket: Ticket,
}

impl HttpBody for Counted {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if self.piece.is_empty() {
            let frame = std::task::ready!(Pin::new(&mut self.body).poll_frame(cx));
            match frame.map(|frame| frame.map(Frame::into_data)) {
                Some(Ok(Ok(data))) => self.piece = data,
                Some(Ok(Err(trailers))) => return Poll::Ready(Some(Ok(trailers))),
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => return Poll::Ready(None),
            }
        }
        let bytes = self.piece.len().min(PIECE_BYTES);
        Poll::Ready(Some(Ok(Frame::data(self.piece.split_to(bytes)))))
    }

    fn is_end_stream(&self) -> bool {
        self.piece.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let rest = self.body.size_hint();
        let piece = self.piece.len() as u64;
        let mut hint = SizeHint::new();
        hint.set_lower(rest.lower() + piece);
        if let Some(upper) = rest.upper() {
            hint.set_upper(upper + piece);
        }
        hint
    }
}
