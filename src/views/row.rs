//! A row of the log: how one event is shown, the same to everybody.

use std::sync::Arc;
use std::time::Duration;

use askama::Template;

use super::{Avatar, render};
use crate::domain::{
    Epoch, Event, EventId, EventKind, Label, Mentioned, Mentions, Message, MessageBody, RoomId,
    Seq, Setting, Timestamp, UserId, Username,
};
use crate::markup::{self, Mark, Part};

/// Messages of one author that are no further apart stand together.
const TOGETHER: Duration = Duration::from_secs(5 * 60);

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
    /// The last event they have read, if it is not on the page.
    pub(super) left_at: Option<EventId>,
    /// The day it begins, in UTC, on a page; a script has it in the reader's zone.
    pub(super) day: Option<String>,
}

pub(super) enum RowKind<'a> {
    Message {
        message: &'a Message,
        parts: Vec<Part<'a>>,
        /// Only emoji, which are shown large.
        is_emoji: bool,
    },
    /// The author's deed, in words.
    Deed {
        deed: String,
        /// The setting that it changes, which shows elsewhere on the page, too.
        setting: Option<&'a Setting>,
    },
    /// Nothing: this version does not know what it is.
    PassedOver,
}

#[derive(Template)]
#[template(path = "messages/_event.html")]
struct EventRow<'a> {
    row: Row<'a>,
}

/// A row that is put in the place of the one there is.
#[derive(Template)]
#[template(path = "messages/_changed.html")]
struct ChangedRow<'a> {
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
                EventKind::Message(message) => {
                    let text = message.body.as_ref().map_or("", MessageBody::as_str);
                    RowKind::Message {
                        message,
                        parts: parts_of(message, text),
                        is_emoji: markup::is_emoji(text),
                    }
                }
                kind => match kind.deed() {
                    Some(deed) => RowKind::Deed {
                        deed,
                        setting: match kind {
                            EventKind::Set(setting) => Some(setting),
                            _ => None,
                        },
                    },
                    None => RowKind::PassedOver,
                },
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

    /// The ids of those whom the message is for, and `room`, as the page's style sheet looks for them.
    pub(super) fn mentions(mentions: &Mentions) -> String {
        mentions.keys().collect::<Vec<_>>().join(" ")
    }

    /// The same of one name.
    pub(super) fn whom(mentioned: &Mentioned) -> String {
        match mentioned {
            Mentioned::User(id) => id.to_string(),
            Mentioned::Room => Mentions::ROOM.to_owned(),
        }
    }

    /// The id of the message that this one quotes.
    pub(super) fn quoted(&self, seq: &Seq) -> EventId {
        let (epoch, seq) = (self.id.epoch, *seq);
        EventId { epoch, seq }
    }

    /// A changed setting for the page's script: its kind, and its new value.
    pub(super) fn setting_of(setting: &Setting) -> (&'static str, &str) {
        match setting {
            Setting::Name(name) => ("name", name.as_ref().map_or("", Label::as_str)),
            Setting::Topic(topic) => ("topic", topic.as_ref().map_or("", Label::as_str)),
            Setting::Access(_) => ("access", ""),
            Setting::Posting(_) | Setting::Archived(_) => ("writing", ""),
        }
    }

    /// Which event it shows.
    pub fn id(&self) -> EventId {
        self.id
    }
}

fn parts_of<'a>(message: &Message, text: &'a str) -> Vec<Part<'a>> {
    if message.mentions.is_empty() {
        return markup::parts(text);
    }
    let by_key = message.mentions.by_key();
    markup::parts_with_names(text, |name| {
        by_key.get(&Username::stored(name).key()).copied()
    })
}

/// The rows of those events of a page of the log that are shown, oldest first, with days told apart
/// and messages put together.
pub fn rows(events: &[Arc<Event>], epoch: Epoch) -> Vec<Row<'_>> {
    let mut above: Option<&Event> = None;
    let below = |event| {
        let row = Row::below(above, event, epoch);
        above = Some(event);
        row
    };
    shown(events).map(below).collect()
}

/// The rows of messages that some events of the log change, each once.
pub fn changed_rows(events: &[Arc<Event>], epoch: Epoch) -> Vec<Row<'_>> {
    let mut rows: Vec<Row<'_>> = Vec::new();
    for event in events {
        if let EventKind::Changed(changed) = &event.kind
            && let Some(message) = &changed.message
        {
            rows.retain(|row| row.id.seq != message.seq);
            rows.push(Row::new(message, epoch));
        }
    }
    rows
}

fn shown(events: &[Arc<Event>]) -> impl Iterator<Item = &Event> {
    let events = events.iter().map(|event| &**event);
    events.filter(|event| event.kind.is_shown())
}

/// The first message of a page after `read` that is not the reader's own: at which of the page's rows,
/// and how it looks with the line above it. There is none for who has never read anything.
pub fn first_new(events: &[Arc<Event>], read: EventId, reader: UserId) -> Option<(usize, Row<'_>)> {
    let is_new = |event: &Event| {
        event.kind.is_message() && event.seq > read.seq && event.author.id != reader
    };
    let at = shown(events).position(is_new).filter(|_| read.seq > 0)?;
    let above = at.checked_sub(1).and_then(|above| shown(events).nth(above));
    let mut row = Row::below(above, shown(events).nth(at)?, read.epoch);
    // Where all of the page is new, what was read last is before it.
    let begins_before = events.first().is_some_and(|event| event.seq > read.seq + 1);
    row.begins_new = true;
    row.left_at = begins_before.then_some(read);
    row.follows = false;
    Some((at, row))
}

fn stand_together(above: &Event, below: &Event) -> bool {
    let are_messages = above.kind.is_message() && below.kind.is_message();
    are_messages && above.author.id == below.author.id && below.at <= above.at.after(TOGETHER)
}

/// The row of one event, for all streams; of a change, the message's, to be put in its place. Empty for an
/// event that is not shown.
pub fn event_row(event: &Event, epoch: Epoch) -> String {
    match &event.kind {
        EventKind::Changed(changed) => {
            changed
                .message
                .as_ref()
                .map_or_else(String::new, |message| {
                    render(&ChangedRow {
                        row: Row::new(message, epoch),
                    })
                })
        }
        EventKind::Unknown { .. } => String::new(),
        _ => Row::new(event, epoch).render(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Author, Emoji, Reaction, Reactions};

    fn message_with(reactions: Reactions) -> Event {
        let message = Message::new(MessageBody::parse("hello").unwrap(), None);
        Event {
            room: RoomId::parse("tea").unwrap(),
            seq: 42,
            messages: 1,
            at: Timestamp::from_millis(0),
            author: Author {
                id: UserId::new(),
                username: "ana".into(),
            },
            kind: EventKind::Message(Message {
                reactions,
                ..message
            }),
        }
    }

    /// Invariant: a thousand reactions add a kilobyte to a row at most, in as many kinds as people use; in
    /// twenty, which is the most there are, a little more.
    #[test]
    fn a_row_grows_little_by_a_thousand_reactions() {
        let emoji = [
            "👍", "🎉", "😂", "😮", "😢", "🍵", "🚀", "👀", "🙏", "🔥", "💯", "🥳", "🤔", "😍",
            "😎", "🍲", "🍰", "🎂", "🐛", "🌱",
        ];
        let bare = event_row(&message_with(Reactions::default()), 0).len();
        for kinds in 1..=20 {
            let reactions = (1..=1_000).map(|seq: u64| Reaction {
                seq,
                emoji: Emoji::parse(emoji[seq as usize % kinds]).unwrap(),
                user: UserId::new(),
            });
            let name = |_| Some("a-name-of-usual-length".into());
            let reactions = Reactions::new(reactions.collect(), name);
            let grown = event_row(&message_with(reactions), 0).len() - bare;
            let most = if kinds <= 17 { 1_024 } else { 1_200 };
            assert!(grown <= most, "{grown} bytes for {kinds} kinds");
        }
    }

    /// The rule's cases, which the page's script is held to as well.
    #[test]
    fn rows_are_put_together_as_the_shared_cases_say() {
        let (ana, ben) = (UserId::new(), UserId::new());
        let midnight = 86_400_000 * 20_000;
        let shared: serde_json::Value =
            serde_json::from_str(include_str!("../../tests/rows.json")).unwrap();
        for case in shared["cases"].as_array().unwrap() {
            let event = |seq: u64, row: &serde_json::Value| {
                Arc::new(Event {
                    room: RoomId::parse("tea").unwrap(),
                    seq,
                    messages: seq,
                    at: Timestamp::from_millis(midnight + row["at"].as_i64().unwrap() * 60_000),
                    author: Author {
                        id: if row["by"] == "ana" { ana } else { ben },
                        username: "ana".into(),
                    },
                    kind: match row["joined"] == true {
                        true => EventKind::Joined { by: None },
                        false => EventKind::Message(Message::new(
                            MessageBody::parse("hello").unwrap(),
                            None,
                        )),
                    },
                })
            };
            let expected = case.as_array().unwrap();
            let mut events: Vec<_> = (1..).zip(expected).map(|(n, row)| event(n, row)).collect();
            // An event of another version is passed over, and so tells nothing apart.
            let mut unknown = Event::clone(&events[1]);
            unknown.kind = EventKind::Unknown {
                name: "of another version".into(),
                body: None,
            };
            events.insert(2, Arc::new(unknown));
            let shown = rows(&events, 0)
                .into_iter()
                .map(|row| match (row.day, row.follows) {
                    (Some(_), false) => "day",
                    (None, true) => "together",
                    (None, false) => "apart",
                    (Some(_), true) => "both",
                });
            let expected: Vec<&str> = expected
                .iter()
                .map(|row| row["is"].as_str().unwrap())
                .collect();
            assert_eq!(shown.collect::<Vec<_>>(), expected);
        }
    }
}
