//! Notices: what a stream says besides events, in each format.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use super::encode::{Format, sse};
use super::hub::TYPING_LASTS;
use super::room::{Names, Room};
use super::streams::CloseReason;
use crate::domain::{RoomId, Roster};

/// How long a client waits before it comes back, in milliseconds.
pub const RETRY_MS: u32 = 2_000;

/// When the server goes away everybody comes back at once; this spreads them.
const RETRY_JITTER_MS: Range<u32> = 500..5_000;

/// A client whose place another of its user's streams took: it would take the place of the next.
const RETRY_EVICTED_MS: u32 = 10_000;

/// Something a stream says besides events.
pub(super) enum Notice {
    /// The roster has changed.
    Roster(Arc<Roster>),
    /// These people are typing; for a few seconds.
    Typing(Names),
    /// Nothing has happened for a while.
    Heartbeat,
}

impl Notice {
    /// Its bytes, to be sent as they are; perhaps none.
    pub(super) fn encode(&self, room: &Room, format: Format) -> Bytes {
        match self {
            Self::Roster(roster) => presence(format, room, roster),
            Self::Typing(names) => typing(format, &room.id, names),
            Self::Heartbeat => heartbeat(format),
        }
    }
}

/// In the line formats there are events only.
fn presence(format: Format, room: &Room, roster: &Roster) -> Bytes {
    let notice = match format {
        Format::Json => serde_json::json!({
            "room": room.id,
            "count": roster.count,
            "names": roster.names,
        }),
        Format::Html => serde_json::json!({ "here": (room.renderer.roster)(roster) }),
        Format::Text | Format::TextWithIds | Format::Ndjson | Format::Page => {
            return Bytes::new();
        }
    };
    sse(None, Some("presence"), &notice.to_string()).into()
}

/// Good for some seconds, or until a message of theirs.
fn typing(format: Format, room: &RoomId, names: &[Arc<str>]) -> Bytes {
    let notice = match format {
        Format::Json | Format::Html => serde_json::json!({
            "room": room,
            "names": names,
            "secs": TYPING_LASTS.as_secs(),
        }),
        Format::Text | Format::TextWithIds | Format::Ndjson | Format::Page => {
            return Bytes::new();
        }
    };
    sse(None, Some("typing"), &notice.to_string()).into()
}

fn heartbeat(format: Format) -> Bytes {
    Bytes::from_static(match format {
        Format::Json => b": heartbeat\n\n",
        // Named, because a comment never reaches a script.
        Format::Html => b"event: heartbeat\ndata: 1\n\n",
        // An empty line, which readers of lines pass over. Proxies cut what is silent for a minute.
        Format::Text | Format::TextWithIds | Format::Ndjson => b"\n",
        Format::Page => b"<!-- -->\n",
    })
}

/// The last bytes of a stream; perhaps none.
pub(super) fn goodbye(format: Format, reason: CloseReason) -> Bytes {
    let retry_ms = match reason {
        CloseReason::SignedOut | CloseReason::Removed | CloseReason::Changed => RETRY_MS,
        CloseReason::Evicted => RETRY_EVICTED_MS,
        CloseReason::ShutDown => {
            let random = getrandom::u32().unwrap_or(0);
            RETRY_JITTER_MS.start + random % (RETRY_JITTER_MS.end - RETRY_JITTER_MS.start)
        }
    };
    let name = match reason {
        CloseReason::SignedOut => "signed-out",
        CloseReason::Removed => "removed",
        CloseReason::Evicted | CloseReason::Changed | CloseReason::ShutDown => "goodbye",
    };
    match format {
        Format::Json | Format::Html => {
            format!("retry: {retry_ms}\n{}", sse(None, Some(name), "1")).into()
        }
        Format::Text | Format::TextWithIds | Format::Ndjson => Bytes::new(),
        Format::Page => Bytes::from_static(b"</ol></main></body></html>\n"),
    }
}
