use std::cell::RefCell;
use std::time::Duration;

use super::*;
use crate::domain::testing::{event, reaction};
use crate::domain::{ChangeKind, Changed, EventKind, MessageBody, NewChange, Timestamp};

pub(in crate::live) fn renderer() -> Renderer {
    Renderer {
        row: |event, _| format!("<li>{}</li>", event.seq),
        roster: |roster| format!("{} here", roster.count),
    }
}

pub(in crate::live) fn room() -> Room {
    Room::new(RoomId::parse("tea").unwrap(), 0, renderer())
}

fn taken(room: &Room, cursor: Seq) -> Option<(String, Seq)> {
    match room.take(cursor, Format::Text) {
        Taken::Events(bytes, upto) => Some((String::from_utf8(bytes.into()).unwrap(), upto)),
        Taken::Nothing => None,
        Taken::Behind => panic!("behind at {cursor}"),
    }
}

#[test]
fn the_next_event_is_taken_an_earlier_one_ignored_a_later_one_waits() {
    let room = room();
    room.reaches(4);
    assert_eq!(room.accept(event(5)), Accepted::Done);
    assert_eq!(room.accept(event(5)), Accepted::Done);
    assert_eq!(room.accept(event(3)), Accepted::Done);
    assert_eq!(room.head(), Some(5));

    assert_eq!(room.accept(event(8)), Accepted::Gap);
    assert_eq!(room.head(), Some(5), "a gap is not shown");
    assert_eq!(
        room.accept(event(9)),
        Accepted::Done,
        "one reader is enough"
    );
    assert_eq!(room.missing_after(), Some(5));
    for seq in 6..=9 {
        room.accept(event(seq));
    }
    assert_eq!(room.missing_after(), None);
    assert_eq!(room.head(), Some(9));
    let (text, upto) = taken(&room, 5).unwrap();
    assert_eq!((text.lines().count(), upto), (4, 9));
    assert!(taken(&room, 9).is_none());
    assert!(taken(&room, 12).is_none());
}

#[test]
fn the_ring_is_bounded_and_who_falls_off_reads_the_store() {
    let room = room();
    room.reaches(0);
    for seq in 1..=1_000 {
        room.accept(event(seq));
    }
    assert!(matches!(room.take(0, Format::Text), Taken::Behind));
    assert!(matches!(room.take(743, Format::Text), Taken::Behind));
    let (text, upto) = taken(&room, 744).unwrap();
    assert_eq!(upto, 1_000);
    assert!(text.starts_with("00:00:00 ana: number 745\n"), "{text}");
}

#[test]
fn a_cursor_below_a_head_that_was_only_read_is_behind() {
    let room = room();
    room.reaches(10);
    assert!(matches!(room.take(7, Format::Json), Taken::Behind));
    assert!(taken(&room, 10).is_none());
}

/// Invariant: a burst of reactions reaches streams of rows once a second at most, and programs at once; a
/// message takes along those that wait.
#[test]
fn reactions_wait_for_each_other_a_second() {
    let mut tail = Tail::default();
    tail.begin_at(0);
    let began = Instant::now();
    let encoded = |event| Arc::new(Encoded::new(event, 0));
    let (mut shown, mut seq, mut last) = (Vec::new(), 0, 0);
    // One each 10 ms for five seconds, and a look each second.
    for ms in (0..5_000_u64).step_by(10) {
        let now = began + Duration::from_millis(ms);
        if ms % 1_000 == 700 {
            tail.show_reactions(now);
        }
        seq += 1;
        tail.push(encoded(reaction(seq, 1)), now);
        let heads = tail.heads();
        assert_eq!(heads.of(Format::Json), seq);
        if heads.of(Format::Html) > last {
            last = heads.of(Format::Html);
            shown.push(ms);
        }
    }
    assert!((4..=6).contains(&shown.len()), "{shown:?}");
    assert!(
        shown.windows(2).all(|pair| pair[1] - pair[0] >= 950),
        "{shown:?}"
    );
    seq += 1;
    tail.push(encoded(event(seq)), began + Duration::from_millis(5_001));
    assert_eq!(tail.heads().of(Format::Html), seq);
}

/// Invariant: of several changes to a message in one write, only the last carries its row.
#[test]
fn only_the_last_of_several_changes_carries_the_row() {
    let room = room();
    room.reaches(0);
    room.accept(event(1));
    for seq in 2..=5 {
        room.accept(reaction(seq, 1));
    }
    let Taken::Events(bytes, 5) = room.take(1, Format::Html) else {
        panic!("four events");
    };
    let sent = String::from_utf8(bytes.into()).unwrap();
    assert_eq!(sent.matches("event: passed-over").count(), 3, "{sent}");
    assert_eq!(sent.matches("<li>").count(), 1, "{sent}");
    assert!(sent.trim_end().ends_with("data: <li>5</li>"), "{sent}");
}

/// Invariant: a reader far behind a burst gets the row once, at the end, and not with each page of it.
#[test]
fn a_row_that_is_still_to_come_is_not_sent_before() {
    let room = room();
    room.reaches(300);
    let page = |changes: std::ops::RangeInclusive<Seq>, changed| {
        let change = |seq| {
            let mut event = Event::clone(&reaction(seq, 1));
            let state = Event::clone(&reaction(changed, 1));
            if let (EventKind::Changed(change), EventKind::Changed(state)) =
                (&mut event.kind, state.kind)
            {
                change.message = state.message;
            }
            Arc::new(event)
        };
        let (bytes, upto) = room
            .encode(changes.clone().map(change).collect(), Format::Html)
            .unwrap();
        assert_eq!(upto, *changes.end());
        let sent = String::from_utf8(bytes.into()).unwrap();
        assert_eq!(
            sent.matches("\nid: ").count() + 1,
            changes.count(),
            "each has its number"
        );
        sent.matches("<li>").count()
    };
    assert_eq!(page(2..=101, 300), 0);
    assert_eq!(page(250..=250, 300), 0);
    assert_eq!(page(201..=300, 300), 1);
    // A change beyond the head may come late.
    assert_eq!(page(2..=101, 301), 1);
}

/// Invariant: events that were read before a deletion was heard of are not taken.
#[test]
fn nothing_that_was_read_before_a_deletion_is_taken() {
    let room = room();
    room.reaches(0);
    let token = room.token();
    let read: Vec<_> = (1..=3).map(event).collect();
    let mut deletion = Event::clone(&reaction(4, 2));
    deletion.kind = EventKind::Changed(Changed {
        target: 2,
        what: ChangeKind::Deleted,
        message: None,
    });
    assert_eq!(room.accept(Arc::new(deletion)), Accepted::Gap);
    room.accept_read(read.clone(), token);
    assert_eq!(room.head(), Some(0));
    room.accept_read(read, room.token());
    assert_eq!(room.head(), Some(3));
}

type WhileRendering = Box<dyn FnOnce()>;

thread_local! {
    /// To happen when the next row is rendered, on this thread.
    static WHILE_RENDERING: RefCell<Option<WhileRendering>> = RefCell::default();
}

/// Renders texts, and lets things happen in the midst of it.
fn hooked() -> Renderer {
    Renderer {
        row: |event, _| {
            let body = event.message().and_then(|message| message.body.clone());
            if let Some(happen) = WHILE_RENDERING.take() {
                happen();
            }
            body.map_or_else(|| "deleted".to_owned(), |body| body.as_str().to_owned())
        },
        ..renderer()
    }
}

/// The change of this number to the message 1.
fn change_of_the_first(seq: Seq, change: NewChange) -> Arc<Event> {
    let message = event(1);
    let at = Timestamp::from_millis(0);
    let after = message.after_change(&change, message.author.id, seq, at);
    let kind = EventKind::Changed(Changed {
        target: 1,
        what: ChangeKind::from(&change),
        message: after.unwrap().map(Arc::new),
    });
    let message = Event::clone(&message);
    Arc::new(Event {
        seq,
        kind,
        ..message
    })
}

/// Invariant: a message that changes while its row is rendered is sent as it is in the end, whoever reads it
/// when; and what was rendered before a deletion is not sent at all.
#[test]
fn a_message_that_changes_while_its_row_is_rendered_ends_as_it_is() {
    let body = MessageBody::parse("edited").unwrap();
    let edit = NewChange::Edit { body, rev: None };
    for (change, text) in [
        (edit, "edited"),
        (NewChange::Delete { as_owner: false }, "deleted"),
    ] {
        let tea = RoomId::parse("tea").unwrap();
        let room = Arc::new(Room::new(tea, 0, hooked()));
        room.reaches(0);
        room.accept(event(1));
        let (there, change) = (Arc::clone(&room), change_of_the_first(2, change));
        let is_deletion = change.kind.is_deletion();
        WHILE_RENDERING.set(Some(Box::new(move || {
            there.accept(change);
        })));
        let read = |mut cursor: Seq| {
            let mut all = String::new();
            while let Taken::Events(bytes, upto) = room.take(cursor, Format::Html) {
                all += std::str::from_utf8(&bytes).unwrap();
                cursor = upto;
            }
            all
        };
        let token = room.token();
        let first = read(0);
        assert!(
            first.trim_end().ends_with(&format!("data: {text}")),
            "{first}"
        );
        assert_eq!(room.is_current(token), !is_deletion);
        // Nothing of before is kept for the next.
        let second = read(0);
        assert!(
            second.contains(text) && !second.contains("number 1"),
            "{second}"
        );
    }
}
