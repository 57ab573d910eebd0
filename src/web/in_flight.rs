//! Counts requests in flight, and sends their answers in pieces.

use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::{Body, HttpBody};
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use hyper::body::{Frame, SizeHint};

use crate::in_flight::Ticket;
use crate::state::AppState;

/// How much of an answer goes to the connection at once. The connection holds so much at most; the rest
/// stays here, and is counted, until there is room for it.
const PIECE_BYTES: usize = 64 * 1024;

/// Counts each request, and its answer until it is sent.
pub(super) async fn count(
    State(app): State<AppState>,
    mut request: Request,
    next: Next,
) -> Response {
    let ticket = app.in_flight.ticket();
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
    /// Bytes that the body has given and hyper has not taken.
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
