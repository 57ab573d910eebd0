use super::*;
use crate::domain::testing::event;

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
