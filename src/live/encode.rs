//! The bytes of an event in each format of a stream.

use std::fmt::Write;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use serde::Serialize;

use super::renderer::Renderer;
use crate::domain::{ChangeKind, Epoch, Event, EventId, EventKind, Message, MessageBody, Seq};
use crate::json;

/// The forms in which a stream is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Server-sent events with JSON in named events: for programs.
    Json,
    /// Server-sent events with rows of the page in unnamed ones: what the page's script swaps in.
    Html,
    /// A line for each event, for people at a terminal.
    Text,
    /// The same with the event's id first: what `after` takes to go on from there.
    TextWithIds,
    /// A line of JSON for each event.
    Ndjson,
    /// Bare rows of the page: a document that never ends, for browsers without scripts.
    Page,
}

/// An event with its bytes in each format, made when first asked for and shared from then on.
pub(super) struct Encoded {
    event: Arc<Event>,
    epoch: Epoch,
    json: OnceLock<Bytes>,
    html: OnceLock<Bytes>,
    text: OnceLock<Bytes>,
    text_with_ids: OnceLock<Bytes>,
    ndjson: OnceLock<Bytes>,
    page: OnceLock<Bytes>,
}

impl Encoded {
    pub(super) fn new(event: Arc<Event>, epoch: Epoch) -> Self {
        Self {
            event,
            epoch,
            json: OnceLock::new(),
            html: OnceLock::new(),
            text: OnceLock::new(),
            text_with_ids: OnceLock::new(),
            ndjson: OnceLock::new(),
            page: OnceLock::new(),
        }
    }

    pub(super) fn seq(&self) -> Seq {
        self.event.seq
    }

    /// The event's bytes, to be sent as they are.
    pub(super) fn bytes(&self, format: Format, renderer: Renderer) -> Bytes {
        let cell = match format {
            Format::Json => &self.json,
            Format::Html => &self.html,
            Format::Text => &self.text,
            Format::TextWithIds => &self.text_with_ids,
            Format::Ndjson => &self.ndjson,
            Format::Page => &self.page,
        };
        cell.get_or_init(|| encode(&self.event, format, self.epoch, renderer).into())
            .clone()
    }

    /// The event.
    pub(super) fn event(&self) -> &Arc<Event> {
        &self.event
    }

    /// The bytes that move a reader's place past the event, where what it changes follows in the same
    /// write.
    pub(super) fn passed_over(&self, format: Format) -> Option<Bytes> {
        match format {
            Format::Html => Some(passed_over(self.id()).into()),
            Format::Page => Some(Bytes::new()),
            Format::Json | Format::Text | Format::TextWithIds | Format::Ndjson => None,
        }
    }

    fn id(&self) -> EventId {
        EventId {
            epoch: self.epoch,
            seq: self.event.seq,
        }
    }

    /// About what it takes in memory once it is encoded in the usual formats.
    pub(super) fn weight(&self) -> usize {
        1_000 + 3 * self.event.message().map_or(0, Message::weight)
    }
}

/// Moves a reader's place in the log on. A named event is not put into the page.
fn passed_over(id: EventId) -> String {
    sse(Some(id), Some("passed-over"), "1")
}

fn encode(event: &Event, format: Format, epoch: Epoch, renderer: Renderer) -> String {
    let id = EventId {
        epoch,
        seq: event.seq,
    };
    match format {
        Format::Json => sse(Some(id), Some(name(&event.kind)), &json::to_string(event)),
        Format::Ndjson => json_with_id(event, id) + "\n",
        Format::Html => match (renderer.row)(event, epoch) {
            row if row.is_empty() => passed_over(id),
            row => sse(Some(id), None, &row),
        },
        Format::Text => text_line(event),
        Format::TextWithIds => match text_line(event) {
            line if line.is_empty() => line,
            line => format!("{id} {line}"),
        },
        // It cannot be put in place of what is there already: the document ends instead, and the next one
        // shows it.
        Format::Page if !event.kind.is_entry() => String::new(),
        Format::Page => (renderer.row)(event, epoch),
    }
}

/// The name of a kind of event in a stream. Another version's may hold anything; one that could break
/// the framing is not used.
fn name(kind: &EventKind) -> &str {
    let name = kind.name();
    let is_safe = (1..=64).contains(&name.len())
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'));
    if is_safe { name } else { "unknown" }
}

/// Without a frame around it the id stands inside: what `after` takes to go on from there.
fn json_with_id(event: &Event, id: EventId) -> String {
    #[derive(Serialize)]
    struct Line<'a> {
        id: String,
        #[serde(flatten)]
        event: &'a Event,
    }
    let id = id.to_string();
    json::to_string(&Line { id, event })
}

/// `09:00:00 ana: hello`, always one line, or none for an event that is not shown: see
/// [`crate::domain::MessageBody::on_one_line`].
pub fn text_line(event: &Event) -> String {
    let at = event.at.time_of_day();
    let who = &event.author.username;
    let body = event.message().and_then(|message| message.body.as_ref());
    let says = body.map(MessageBody::on_one_line);
    match (&event.kind, says) {
        (EventKind::Message(_), Some(says)) => format!("{at} {who}: {says}\n"),
        (EventKind::Message(_), None) => format!("{at} {who}: (deleted)\n"),
        (EventKind::Changed(changed), says) => match (&changed.what, says) {
            (ChangeKind::Deleted, _) => format!("{at} {who} deleted a message\n"),
            // Nothing is left of what was changed.
            (_, None) => String::new(),
            (ChangeKind::Edited, Some(says)) => format!("{at} {who} edited: {says}\n"),
            (ChangeKind::Reacted { emoji, on: true }, Some(says)) => {
                format!("{at} {who} {emoji} to: {says}\n")
            }
            (ChangeKind::Reacted { emoji, on: false }, Some(says)) => {
                format!("{at} {who} took back {emoji} to: {says}\n")
            }
        },
        (kind, _) => kind.deed().map_or_else(String::new, |deed| {
            let deed = MessageBody::stored(&deed);
            format!("{at} {who} {}\n", deed.on_one_line())
        }),
    }
}

/// One server-sent event (WHATWG HTML, 9.2). `data` may hold anything: each of its lines gets a
/// field of its own, and `\r`, which would end a line too, is dropped. `name` is ours.
pub fn sse(id: Option<EventId>, name: Option<&str>, data: &str) -> String {
    let mut frame = String::with_capacity(data.len() + 64);
    if let Some(id) = id {
        let _ = writeln!(frame, "id: {id}");
    }
    if let Some(name) = name {
        let _ = writeln!(frame, "event: {name}");
    }
    for line in data.split('\n') {
        frame.push_str("data: ");
        frame.extend(line.chars().filter(|c| *c != '\r'));
        frame.push('\n');
    }
    frame.push('\n');
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_data_can_leave_its_field() {
        let id = EventId { epoch: 0, seq: 7 };
        assert_eq!(
            sse(
                Some(id),
                Some("message"),
                "a\nid: 9\r\rdata: b\u{2028}c\n\n"
            ),
            "id: 7\nevent: message\ndata: a\ndata: id: 9data: b\u{2028}c\ndata: \ndata: \n\n"
        );
        assert_eq!(sse(None, None, ""), "data: \n\n");
    }
}
