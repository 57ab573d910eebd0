//! How far a request's sender has seen its rooms, at whichever node: carried in a cookie by browsers, as a
//! cursor by programs. It lives for seconds, as long as another node may lag behind.

use std::convert::Infallible;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;

use super::cookies::{self, SetCookies};
use super::extract::RoomPath;
use super::respond::ResponseFormat;
use crate::auth::headers;
use crate::domain::{EventId, RoomId, Seq};
use crate::state::AppState;
use crate::store::{Freshness, Seen};

const COOKIE: &str = "parlor-seen";

/// How far the sender has seen its rooms, and will have with the answer.
pub(super) struct Seeing {
    /// As it was sent; `None` when nothing was.
    sent: Option<Seen>,
    seen: Seen,
    /// A program that says nothing of what it has seen is answered as of now.
    must_be_now: bool,
    /// Nobody needs to carry anything where there is one process.
    is_shared: bool,
}

impl Seeing {
    /// How new the answer has to be.
    pub(super) fn freshness(&self) -> Freshness {
        match self.must_be_now {
            true => Freshness::Now,
            false => Freshness::Seen(self.seen.clone()),
        }
    }

    /// Says that the sender has a cursor, which shows whether an answer is behind it.
    pub(super) fn has_cursor(&mut self) {
        self.must_be_now = false;
    }

    /// The cookie for an answer that shows a room up to `seq`, or says that so much was written.
    pub(super) fn having_shown(mut self, room: &RoomId, seq: Seq) -> SetCookies {
        self.seen.note(room, seq);
        let is_news = self.is_shared && self.sent.as_ref() != Some(&self.seen);
        cookies::set(is_news.then(|| cookies::passing(COOKIE, self.seen.to_string())))
    }
}

impl FromRequestParts<AppState> for Seeing {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, app: &AppState) -> Result<Self, Infallible> {
        let is_shared = app.store.is_shared();
        let sent = headers::cookie(&parts.headers, COOKIE).map(Seen::parse);
        let mut seen = sent.clone().unwrap_or_default();
        let cursor = { parts.headers.get("last-event-id") }
            .and_then(|cursor| EventId::parse(cursor.to_str().ok()?).ok())
            .and_then(|cursor| cursor.within(app.store.epoch()));
        if let Some(seq) = cursor
            && let Ok(RoomPath(room)) = RoomPath::from_request_parts(parts, app).await
        {
            seen.note(&room, seq);
        }
        let is_program = !ResponseFormat::of(&parts.headers).is_html();
        Ok(Self {
            must_be_now: is_program && sent.is_none() && cursor.is_none(),
            sent,
            seen,
            is_shared,
        })
    }
}
