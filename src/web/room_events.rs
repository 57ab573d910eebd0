//! Streams: a room's log as it grows.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, Version, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use tokio::time::{Sleep, sleep};
use tokio_stream::{Stream, StreamExt};

use super::extract::{RoomMember, SignedIn};
use super::handoff::{HandedOff, HandoffSupported, OpenStream};
use super::query::Query;
use super::read_markers::note_read;
use super::respond::ResponseFormat;
use crate::domain::{Epoch, EventId, Invalid, RoomId, Seq, User, UserId};
use crate::error::AppError;
use crate::live::{ByteStream, Format, RETRY_MS, Subscriber, sse};
use crate::state::AppState;
use crate::views::{self, LivePage, ResetRow};

/// `GET /rooms/{room}/events`.
pub(super) async fn show(
    State(app): State<AppState>,
    wanted: ResponseFormat,
    query: Query,
    headers: HeaderMap,
    handoff: Option<Extension<HandoffSupported>>,
    member: Result<RoomMember, AppError>,
) -> Result<Response, AppError> {
    let format = match (query.find("format"), wanted) {
        (Some("html"), _) => Format::Html,
        (Some("json"), _)
        | (None, ResponseFormat::Page | ResponseFormat::Fragment | ResponseFormat::Json) => {
            Format::Json
        }
        (None, ResponseFormat::Text) => match query.find("ids") {
            None | Some("0") => Format::Text,
            Some(_) => Format::TextWithIds,
        },
        (None, ResponseFormat::Ndjson) => Format::Ndjson,
        (Some(_), _) => {
            return Err(Invalid("format takes json or html.").into());
        }
    };
    let last_event_id = headers
        .get("last-event-id")
        .and_then(|id| id.to_str().ok())
        .filter(|id| !id.is_empty());
    // A client that comes back says so in the header, beside the address it first used.
    let after = last_event_id.or(query.find("after"));
    let opened = match member {
        Ok(member) => {
            let handoff = handoff.map(|Extension(handoff)| handoff);
            open(&app, format, &member, after, handoff).await
        }
        Err(error) => Err(error),
    };
    match opened {
        Ok(stream) => Ok(through_proxies(stream, &headers)),
        // htmx would put any other answer into the page, or ask again for ever.
        Err(error) if format == Format::Html => Ok(answer_page_stream(&error)),
        Err(error) => Err(error),
    }
}

/// `GET /rooms/{room}/live`: a document that never ends.
pub(super) async fn live(
    State(app): State<AppState>,
    query: Query,
    headers: HeaderMap,
    member: RoomMember,
) -> Result<Response, AppError> {
    let mut response = open(&app, Format::Page, &member, query.find("after"), None).await?;
    // Ended by the end of the connection, not by a last chunk: a browser takes a document that
    // lacks its last chunk for one that is still loading, and never refreshes it.
    *response.version_mut() = Version::HTTP_10;
    Ok(through_proxies(response, &headers))
}

/// Has a proxy that compresses leave a stream alone. Caddy up to 2.6 does not heed `no-transform`: it
/// compresses an answer whose first piece is over 512 bytes, and holds it back until there is more. One
/// that has an encoding it lets pass. HTTP advises against naming this one (RFC 9110, 8.4.1), so it is
/// named to proxies only.
fn through_proxies(mut stream: Response, headers: &HeaderMap) -> Response {
    const PROXIES_ADD: [&str; 3] = ["x-forwarded-for", "forwarded", "via"];
    if PROXIES_ADD.iter().any(|name| headers.contains_key(*name)) {
        let identity = HeaderValue::from_static("identity");
        stream
            .headers_mut()
            .insert(header::CONTENT_ENCODING, identity);
    }
    stream
}

async fn open(
    app: &AppState,
    format: Format,
    member: &RoomMember,
    after: Option<&str>,
    handoff: Option<HandoffSupported>,
) -> Result<Response, AppError> {
    // Before a stream is opened: what is refused must not take another's place.
    let after = match after.map(EventId::parse) {
        None => None,
        Some(Ok(after)) => Some(after),
        // A page's own address can only be wrong by an error of ours or a visitor's playing: it
        // is reset, as if its epoch were over.
        Some(Err(_)) if format == Format::Html => Some(EventId {
            epoch: Epoch::MAX,
            seq: Seq::MAX,
        }),
        Some(Err(invalid)) => return Err(invalid.into()),
    };
    let RoomMember {
        signed_in, room, ..
    } = member;
    let SignedIn { user, session } = signed_in;
    let mut subscriber = app.hub.follow(room, format, user, session).await?;
    // An end of session or membership between the first look and the stream's registration was not heard.
    member.is_still(app).await?;
    let epoch = app.store.epoch();
    let knows_its_place = match after {
        None => true,
        Some(after) => match after.within(epoch) {
            Some(seq) => subscriber.start_after(seq).await?,
            None => false,
        },
    };
    let mut preamble = preamble(format, room, user.id);
    if !knows_its_place {
        let head = EventId {
            epoch,
            seq: subscriber.head(),
        };
        preamble += &reset(format, room, head);
    }
    if format == Format::Html {
        subscriber.show_presence_first();
    }
    let reader = (format == Format::Page).then_some((room, user));
    Ok(streaming(app, preamble, subscriber, reader, handoff))
}

/// The bytes of a page without scripts, which cannot say what its reader has read: what it shows is read.
struct PageStream {
    bytes: ByteStream,
    app: AppState,
    room: RoomId,
    user: User,
    noted: Seq,
    /// When the next note may be made.
    note_at: Pin<Box<Sleep>>,
}

impl PageStream {
    const NOTE_EVERY: Duration = Duration::from_secs(1);

    fn new(bytes: ByteStream, app: &AppState, room: &RoomId, user: &User) -> Self {
        Self {
            bytes,
            app: app.clone(),
            room: room.clone(),
            user: user.clone(),
            noted: 0,
            note_at: Box::pin(sleep(Duration::ZERO)),
        }
    }

    fn note(&mut self) {
        let shown = self.bytes.cursor();
        if shown > self.noted {
            self.noted = shown;
            note_read(&self.app, &self.room, &self.user, shown);
        }
    }
}

impl Stream for PageStream {
    type Item = Bytes;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        let next = Pin::new(&mut self.bytes).poll_next(cx);
        // Pending: hyper has sent everything before.
        if next.is_pending()
            && self.bytes.cursor() > self.noted
            && self.note_at.as_mut().poll(cx).is_ready()
        {
            self.note();
            let again = tokio::time::Instant::now() + Self::NOTE_EVERY;
            self.note_at.as_mut().reset(again);
        }
        next
    }
}

impl Drop for PageStream {
    fn drop(&mut self) {
        self.note();
    }
}

/// A stream as a response: its body, or, if the server offered that, the stream itself, handed off to go
/// on without one.
fn streaming(
    app: &AppState,
    preamble: String,
    subscriber: Subscriber,
    reader: Option<(&RoomId, &User)>,
    handoff: Option<HandoffSupported>,
) -> Response {
    let format = subscriber.format();
    let mut response = match (handoff, reader) {
        (Some(HandoffSupported), None) => {
            // Neither empty nor of any length, so that no layer says how long it is.
            let mut response =
                Response::new(Body::from_stream(tokio_stream::pending::<NeverFails>()));
            let opened = OpenStream {
                preamble,
                subscriber,
            };
            response.extensions_mut().insert(HandedOff::new(opened));
            response
        }
        (_, reader) => {
            let bytes = ByteStream::new(subscriber, &app.hub);
            match reader {
                None => body(preamble, bytes),
                Some((room, user)) => body(preamble, PageStream::new(bytes, app, room, user)),
            }
        }
    };
    set_stream_headers(response.headers_mut(), format);
    response
}

type NeverFails = Result<Bytes, Infallible>;

fn body(preamble: String, bytes: impl Stream<Item = Bytes> + Send + 'static) -> Response {
    // Sent at once, so that proxies pass the head on and clients know they are connected.
    let first = (!preamble.is_empty()).then(|| Bytes::from(preamble));
    let all = tokio_stream::iter(first).chain(bytes).map(NeverFails::Ok);
    Response::new(Body::from_stream(all))
}

fn set_stream_headers(headers: &mut HeaderMap, format: Format) {
    let content_type = match format {
        Format::Json | Format::Html => "text/event-stream",
        Format::Text | Format::TextWithIds => "text/plain; charset=utf-8",
        Format::Ndjson => "application/x-ndjson",
        Format::Page => "text/html; charset=utf-8",
    };
    for (name, value) in [
        (header::CONTENT_TYPE.as_str(), content_type),
        (header::CACHE_CONTROL.as_str(), "no-store, no-transform"),
        // nginx holds answers back until a buffer is full; not this one.
        ("x-accel-buffering", "no"),
    ] {
        if let Ok(name) = header::HeaderName::try_from(name) {
            headers.insert(name, HeaderValue::from_static(value));
        }
    }
}

/// An error as the page's own stream has it.
fn answer_page_stream(error: &AppError) -> Response {
    error.log();
    let (status, says) = match error {
        AppError::SignedOut => (StatusCode::OK, sse(None, Some("signed-out"), "1")),
        // Come back later: the body is not read, and asking again is what it does.
        AppError::Unavailable(_) | AppError::Busy | AppError::Internal(_) => {
            (StatusCode::SERVICE_UNAVAILABLE, String::new())
        }
        // Any other error shows when the page is loaded again.
        _ => (StatusCode::OK, sse(None, Some("reset"), "1")),
    };
    let mut response = (status, says).into_response();
    set_stream_headers(response.headers_mut(), Format::Html);
    response
}

fn preamble(format: Format, room: &RoomId, user: UserId) -> String {
    match format {
        // htmx reads a `retry:` only beside data or a name, and some libraries make an empty message of
        // one that stands alone.
        Format::Json | Format::Html => {
            format!("retry: {RETRY_MS}\n{}", sse(None, Some("hello"), "1"))
        }
        Format::Text | Format::TextWithIds | Format::Ndjson => String::new(),
        Format::Page => views::render(&LivePage { room, user }),
    }
}

fn reset(format: Format, room: &RoomId, head: EventId) -> String {
    let head = head.to_string();
    match format {
        Format::Json | Format::Html => {
            let notice = serde_json::json!({ "room": room, "head": head });
            sse(None, Some("reset"), &notice.to_string())
        }
        Format::Ndjson => {
            serde_json::json!({ "type": "reset", "room": room, "head": head }).to_string() + "\n"
        }
        Format::Text | Format::TextWithIds => {
            format!("the log ends at {head}; going on from there\n")
        }
        Format::Page => views::render(&ResetRow { room }),
    }
}
