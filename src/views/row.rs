//! A row of the log: how one event is shown, the same to everybody.

use std::sync::Arc;
use std::time::Duration;

use askama::Template;
use linkify::{LinkFinder, LinkKind};
use unicode_properties::UnicodeEmoji;

use super::{Avatar, render};
use crate::domain::{Epoch, Event, EventId, EventKind, RoomId, Timestamp, UserId};

/// Messages of one author that are no further apart stand together.
const TOGETHER: Duration = Duration::from_secs(5 * 60);

/// As many pictures stand large; more are a text of their own.
const LARGE_EMOJI_MAX: usize = 8;

/// One event of the log, as the page shows it.
pub struct Row<'a> {
    pub(super) room: &'a RoomId,
    pub(super) id: EventId,
    pub(super) at: Timestamp,
    pub(super) author: &'a str,
    pub(super) author_id: UserId,
    pub(super) avatar: String,
    pub(super) kind: RowKind<'a>,
    pub(super) is_marked: bool,
    /// Whether it stands with the one above: a stream's rows don't know, and a page's script finds
    /// out.
    pub(super) follows: bool,
    /// Whether it is the first that the reader of the page has not read.
    pub(super) begins_new: bool,
    /// What they read last, if it is not on the page.
    pub(super) left_at: Option<EventId>,
    /// The day it begins, in UTC, on a page; a script has it in the reader's zone.
    pub(super) day: Option<String>,
}

pub(super) enum RowKind<'a> {
    Message {
        parts: Vec<Part<'a>>,
        /// Only pictures, which are shown large.
        is_emoji: bool,
    },
    Joined,
}

/// A piece of a message.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Part<'a> {
    Text(&'a str),
    /// An http(s) address.
    Link(&'a str),
    /// Between backticks.
    Code(&'a str),
    /// Between lines of three backticks.
    Block(&'a str),
}

#[derive(Template)]
#[template(path = "messages/_event.html")]
struct EventRow<'a> {
    row: Row<'a>,
}

impl<'a> Row<'a> {
    /// How an event is shown by itself.
    fn new(event: &'a Event, epoch: Epoch) -> Self {
        Self {
            room: &event.room,
            id: EventId {
                epoch,
                seq: event.seq,
            },
            at: event.at,
            author: &event.author.username,
            author_id: event.author.id,
            avatar: Avatar::path(&event.author.username),
            kind: match &event.kind {
                EventKind::Message { body } => RowKind::Message {
                    parts: parts(body.as_str()),
                    is_emoji: is_emoji(body.as_str()),
                },
                EventKind::Joined => RowKind::Joined,
            },
            is_marked: false,
            follows: false,
            begins_new: false,
            left_at: None,
            day: None,
        }
    }

    /// How it is shown below another on a page, or first.
    fn below(above: Option<&Event>, event: &'a Event, epoch: Epoch) -> Self {
        let mut row = Self::new(event, epoch);
        let day = event.at.day();
        if above.is_none_or(|above| above.at.day() != day) {
            row.day = Some(day);
        } else {
            row.follows = above.is_some_and(|above| stand_together(above, event));
        }
        row
    }

    /// Its HTML.
    pub(super) fn render(self) -> String {
        render(&EventRow { row: self })
    }

    /// The one that a permanent link points to. It says itself whose it is.
    #[must_use]
    pub fn marked_if(mut self, is_marked: bool) -> Self {
        self.is_marked = is_marked;
        self.follows &= !is_marked;
        self
    }

    /// Which event it shows.
    pub fn id(&self) -> EventId {
        self.id
    }
}

/// The rows of a page of the log, oldest first, with days told apart and messages put together.
pub fn rows(events: &[Arc<Event>], epoch: Epoch) -> Vec<Row<'_>> {
    let mut above: Option<&Event> = None;
    let below = |event| {
        let row = Row::below(above, event, epoch);
        above = Some(event);
        row
    };
    events.iter().map(|event| &**event).map(below).collect()
}

/// The first message of a page after `read` that is not the reader's own: where, and how it looks with
/// the line above it. There is none for who has never read anything.
pub fn first_new(events: &[Arc<Event>], read: EventId, reader: UserId) -> Option<(usize, Row<'_>)> {
    let is_new = |event: &Arc<Event>| {
        event.kind.body().is_some() && event.seq > read.seq && event.author.id != reader
    };
    let at = events.iter().position(is_new).filter(|_| read.seq > 0)?;
    let above = at.checked_sub(1).and_then(|above| events.get(above));
    let mut row = Row::below(above.map(|event| &**event), events.get(at)?, read.epoch);
    // Where all of the page is new, what was read last is before it.
    let begins_before = events.first().is_some_and(|event| event.seq > read.seq + 1);
    row.begins_new = true;
    row.left_at = begins_before.then_some(read);
    row.follows = false;
    Some((at, row))
}

fn stand_together(above: &Event, below: &Event) -> bool {
    let are_messages = above.kind.body().is_some() && below.kind.body().is_some();
    are_messages && above.author.id == below.author.id && below.at <= above.at.after(TOGETHER)
}

/// The row of one event, for all streams.
pub fn event_row(event: &Event, epoch: Epoch) -> String {
    Row::new(event, epoch).render()
}

/// Takes a text apart: code, which is shown as it is, and what is around it.
fn parts(text: &str) -> Vec<Part<'_>> {
    let mut parts = Vec::new();
    let mut rest = text;
    while let Some((before, code, after)) = fenced(rest) {
        add_line_parts(before, &mut parts);
        parts.push(Part::Block(code));
        rest = after;
    }
    add_line_parts(rest, &mut parts);
    parts
}

/// Finds the first block between lines of three backticks: what is before it, in it, after it.
fn fenced(text: &str) -> Option<(&str, &str, &str)> {
    const FENCE: &str = "```";
    let opening = match text.starts_with(FENCE) {
        true => 0,
        false => text.find("\n```")? + 1,
    };
    // A word may follow that says which language it is.
    let code = opening + text[opening..].find('\n')? + 1;
    let closing = match text[code..].starts_with(FENCE) {
        true => code,
        false => code + text[code..].find("\n```")? + 1,
    };
    let line = text[closing..].split('\n').next()?;
    if line.trim_end() != FENCE {
        return None;
    }
    let after = text[closing + line.len()..].trim_start_matches('\n');
    let before = text[..opening].trim_end_matches('\n');
    Some((before, text[code..closing].trim_end_matches('\n'), after))
}

fn add_line_parts<'a>(text: &'a str, parts: &mut Vec<Part<'a>>) {
    let mut rest = text;
    while let Some(opening) = rest.find('`') {
        let code = &rest[opening + 1..];
        let line = code.split('\n').next().unwrap_or(code);
        match line.find('`') {
            Some(closing) if closing > 0 => {
                add_links(&rest[..opening], parts);
                parts.push(Part::Code(&code[..closing]));
                rest = &code[closing + 1..];
            }
            _ => {
                add_links(&rest[..=opening], parts);
                rest = code;
            }
        }
    }
    add_links(rest, parts);
}

/// Finds the http(s) addresses in a text. What a link says is what it opens.
fn add_links<'a>(text: &'a str, parts: &mut Vec<Part<'a>>) {
    let mut finder = LinkFinder::new();
    finder.kinds(&[LinkKind::Url]);
    parts.extend(finder.spans(text).map(|span| {
        let text = span.as_str();
        let is_web = ["http://", "https://"].iter().any(|scheme| {
            text.get(..scheme.len())
                .is_some_and(|start| start.eq_ignore_ascii_case(scheme))
        });
        match span.kind() {
            Some(LinkKind::Url) if is_web => Part::Link(text),
            _ => Part::Text(text),
        }
    }));
}

/// Whether a text is a few pictures and nothing else.
fn is_emoji(text: &str) -> bool {
    // What joins pictures, varies them or stands between them.
    let is_joint = |c: char| {
        c.is_whitespace()
            || matches!(
                c,
                '\u{200d}' | '\u{fe0f}' | '\u{20e3}' | '\u{1f3fb}'..='\u{1f3ff}'
            )
    };
    let mut pictures = 0;
    for c in text.chars().filter(|c| !is_joint(*c)) {
        if !c.is_emoji_char() || c.is_ascii() {
            return false;
        }
        pictures += 1;
    }
    (1..=LARGE_EMOJI_MAX).contains(&pictures)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Author, MessageBody};

    #[test]
    fn only_web_addresses_become_links() {
        assert_eq!(
            parts("see https://a.example/x?y=1&z, or (HTTP://b.example)."),
            [
                Part::Text("see "),
                Part::Link("https://a.example/x?y=1&z"),
                Part::Text(", or ("),
                Part::Link("HTTP://b.example"),
                Part::Text(")."),
            ]
        );
        for text in [
            "javascript:alert(1)",
            "ftp://a.example",
            "javascript://a.example/%0aalert(1)",
        ] {
            assert!(
                parts(text).iter().all(|part| matches!(part, Part::Text(_))),
                "{text}"
            );
        }
    }

    #[test]
    fn code_is_shown_as_it_is() {
        assert_eq!(
            parts("try `a https://b.example` now"),
            [
                Part::Text("try "),
                Part::Code("a https://b.example"),
                Part::Text(" now"),
            ]
        );
        assert_eq!(
            parts("so:\n```rust\nlet a = `b`;\n\n  c\n```\nthere"),
            [
                Part::Text("so:"),
                Part::Block("let a = `b`;\n\n  c"),
                Part::Text("there"),
            ]
        );
        for text in [
            "it`s",
            "``",
            "a ` b\nc ` d",
            "```",
            "```\nnever closed",
            "``` on a line",
        ] {
            let plain: String = parts(text)
                .iter()
                .map(|part| match part {
                    Part::Text(text) => *text,
                    other => panic!("{text:?}: {other:?}"),
                })
                .collect();
            assert_eq!(plain, text);
        }
        assert_eq!(parts("```\nonly\n```"), [Part::Block("only")]);
    }

    #[test]
    fn a_few_pictures_are_large() {
        for text in ["😋", "👍🏽", "🏳️‍🌈 🎉", "❤️", "🇩🇪", "👨‍👩‍👧‍👦"]
        {
            assert!(is_emoji(text), "{text}");
        }
        for text in ["", "a", "1", "42", "#", "😋!", "©x", "🎉🎉🎉🎉🎉🎉🎉🎉🎉"]
        {
            assert!(!is_emoji(text), "{text}");
        }
    }

    #[test]
    fn messages_of_one_author_stand_together_for_five_minutes_and_within_a_day() {
        let (ana, ben) = (UserId::new(), UserId::new());
        let midnight = 86_400_000 * 20_000;
        let event = |seq: u64, author: UserId, minutes: i64, says: Option<&str>| {
            Arc::new(Event {
                room: RoomId::parse("tea").unwrap(),
                seq,
                messages: seq,
                at: Timestamp::from_millis(midnight + minutes * 60_000),
                author: Author {
                    id: author,
                    username: "ana".into(),
                },
                kind: match says {
                    Some(body) => EventKind::Message {
                        body: MessageBody::parse(body).unwrap(),
                    },
                    None => EventKind::Joined,
                },
            })
        };
        let events = [
            event(1, ana, -4, Some("a day ends")),
            event(2, ana, 1, Some("and one begins")),
            event(3, ana, 3, Some("with this")),
            event(4, ana, 9, Some("a while later")),
            event(5, ben, 10, Some("somebody else")),
            event(6, ben, 10, None),
            event(7, ben, 11, Some("after that")),
        ];
        let rows = rows(&events, 0);
        let shown: Vec<(bool, bool)> = rows
            .iter()
            .map(|row| (row.day.is_some(), row.follows))
            .collect();
        let (day, together, apart) = ((true, false), (false, true), (false, false));
        assert_eq!(shown, [day, day, together, apart, apart, apart, apart]);
    }
}
