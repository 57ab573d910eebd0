use super::*;
use crate::domain::testing::event;
use crate::domain::{Author, ChangeKind, Changed, EventKind, Level, Mentions};

fn end(head: Seq) -> LogEnd {
    LogEnd {
        head,
        messages: head,
        last_message: Some(event(head)),
        settings: Arc::default(),
        newest: Some((1..=head).map(event).collect()),
    }
}

/// A commit can be read a moment before it is told.
#[test]
fn an_event_is_in_a_page_once_whoever_read_it_before_it_was_told() {
    let tea = RoomId::parse("tea").unwrap();
    let ana = UserId::new();
    let membership = Membership {
        room: tea.clone(),
        read: 1,
        read_messages: 1,
        mentions: Vec::new(),
        level: Level::All,
    };
    let appended = |seq| Durable::Change(Change::Appended(event(seq)));
    // Two reads: first an end for somebody's list, then a page.
    for (of_list, of_page) in [(5, 5), (5, 6), (6, 5), (6, 6)] {
        let cache = ReadCache::default();
        let token = cache.token();
        cache.keep_memberships(&token, ana, vec![membership.clone()]);
        let listed = LogEnd {
            newest: None,
            ..end(of_list)
        };
        cache.keep_ends(&token, ana, vec![(tea.clone(), listed)]);
        cache.keep_page(&token, &tea, end(of_page));
        cache.apply(&appended(6));
        cache.apply(&appended(7));
        if let Some(page) = cache.newest(&tea, 50) {
            let seqs: Vec<Seq> = page.entries.iter().map(|event| event.seq).collect();
            assert_eq!(seqs, [1, 2, 3, 4, 5, 6, 7], "{of_list} {of_page}");
        }
        let CachedList::List(list) = cache.rooms_of(ana) else {
            panic!("the list is kept");
        };
        assert_eq!(
            (list[0].head, list[0].unread),
            (7, 6),
            "{of_list} {of_page}"
        );
    }
}

#[test]
fn who_has_entered_is_known_even_if_they_joined_before() {
    let cache = ReadCache::default();
    let (ana, token) = (UserId::new(), cache.token());
    cache.keep_memberships(&token, ana, Vec::new());
    cache.apply(&Durable::Read {
        room: RoomId::parse("tea").unwrap(),
        user: ana,
        seq: 1,
        messages: 0,
    });
    assert!(!cache.knows(ana), "it is read again");
}

#[test]
fn a_page_that_makes_place_is_forgotten_whoever_holds_its_room() {
    let cache = ReadCache::default();
    let (ana, token) = (UserId::new(), cache.token());
    let rooms: Vec<RoomId> = (0..PAGES_MAX.get() + 50)
        .map(|n| RoomId::parse(&format!("room-{n:04}")).unwrap())
        .collect();
    let membership = |room: &RoomId| Membership {
        room: room.clone(),
        read: 0,
        read_messages: 0,
        mentions: Vec::new(),
        level: Level::All,
    };
    cache.keep_memberships(&token, ana, rooms.iter().map(membership).collect());
    let listed = |room: &RoomId| {
        let end = LogEnd {
            newest: None,
            ..end(3)
        };
        (room.clone(), end)
    };
    cache.keep_ends(&token, ana, rooms.iter().map(listed).collect());
    for room in &rooms {
        cache.keep_page(&token, room, end(3));
    }
    let state = cache.state();
    let pages = state.rooms.values().filter_map(Weak::upgrade);
    let pages = pages
        .filter(|room| room.end().as_ref().is_some_and(|end| end.newest.is_some()))
        .count();
    assert_eq!(pages, PAGES_MAX.get());
}

/// Another node's event that was not heard stands between what is known and one of our own.
#[test]
fn a_log_with_a_gap_is_read_again() {
    let tea = RoomId::parse("tea").unwrap();
    let cache = ReadCache::default();
    cache.keep_page(&cache.token(), &tea, end(5));
    let appended = |seq| Durable::Change(Change::Appended(event(seq)));
    cache.apply(&appended(7));
    assert!(cache.newest(&tea, 50).is_none(), "6 is not known");
    // An event that comes late, or twice, brings nothing back.
    for seq in [6, 7, 8] {
        cache.apply(&appended(seq));
    }
    assert!(cache.newest(&tea, 50).is_none());
    cache.keep_page(&cache.token(), &tea, end(8));
    for seq in [5, 8, 9, 9] {
        cache.apply(&appended(seq));
    }
    let page = cache.newest(&tea, 50).unwrap();
    let seqs: Vec<Seq> = page.entries.iter().map(|event| event.seq).collect();
    assert_eq!(seqs, [1, 2, 3, 4, 5, 6, 7, 8, 9]);
}

#[cfg(feature = "mongodb")]
#[test]
fn what_was_being_read_when_all_was_forgotten_is_not_kept() {
    let tea = RoomId::parse("tea").unwrap();
    let (cache, ana) = (ReadCache::default(), UserId::new());
    let token = cache.token();
    cache.forget_all();
    cache.keep_page(&token, &tea, end(5));
    cache.keep_memberships(&token, ana, Vec::new());
    assert!(cache.newest(&tea, 50).is_none() && !cache.knows(ana));
    let token = cache.token();
    cache.apply(&Durable::Memberships);
    cache.keep_memberships(&token, ana, Vec::new());
    assert!(!cache.knows(ana));
    cache.keep_page(&cache.token(), &tea, end(5));
    assert!(cache.newest(&tea, 50).is_some());
}

/// The message of a number in `tea`, for somebody or, without one, for everybody.
fn mention(seq: Seq, whom: Option<UserId>) -> Arc<Event> {
    let mut event = Event::clone(&event(seq));
    if let EventKind::Message(message) = &mut event.kind {
        let named = whom.map(|id| Author {
            id,
            username: "ana".into(),
        });
        let room = whom.is_none();
        message.mentions = Mentions::new(named, None, room, event.author.id).unwrap();
    }
    Arc::new(event)
}

fn told(event: &Arc<Event>) -> Durable {
    Durable::Change(Change::Appended(Arc::clone(event)))
}

fn deletion(seq: Seq, target: Seq) -> Arc<Event> {
    let kind = EventKind::Changed(Changed {
        target,
        what: ChangeKind::Deleted,
        message: None,
    });
    let event = Event::clone(&event(seq));
    Arc::new(Event { kind, ..event })
}

fn tea() -> RoomId {
    RoomId::parse("tea").unwrap()
}

fn member(read: Seq, mentions: &[Seq]) -> Vec<Membership> {
    vec![Membership {
        room: tea(),
        read,
        read_messages: read,
        mentions: mentions.to_vec(),
        level: Level::All,
    }]
}

/// How many unread mentions are counted; `None` when it must be read.
fn mentions_of(cache: &ReadCache, user: UserId) -> Option<usize> {
    let token = cache.token();
    if let CachedList::AllBut(rooms) = cache.rooms_of(user) {
        let ends = rooms.into_iter().map(|room| (room, end(9)));
        cache.keep_ends(&token, user, ends.collect());
    }
    match cache.rooms_of(user) {
        CachedList::List(list) => Some(list[0].mentions),
        _ => None,
    }
}

#[test]
fn a_mention_counts_once_until_it_is_read_or_deleted() {
    let (cache, ana, ben) = (ReadCache::default(), UserId::new(), UserId::new());
    for user in [ana, ben] {
        cache.keep_memberships(&cache.token(), user, member(2, &[3]));
    }
    // Told twice, and what was in the membership already.
    for seq in [3, 4, 5, 4] {
        cache.apply(&told(&mention(seq, Some(ana))));
    }
    cache.apply(&told(&mention(6, None)));
    let kept = (mentions_of(&cache, ana), mentions_of(&cache, ben));
    assert_eq!(kept, (Some(4), Some(2)));
    cache.apply(&told(&deletion(7, 4)));
    cache.apply(&told(&deletion(8, 6)));
    let counts = || (mentions_of(&cache, ana), mentions_of(&cache, ben));
    assert_eq!(counts(), (Some(2), Some(1)));
    // A message that the log is known to have may be deleted: it is read again.
    cache.apply(&told(&mention(4, Some(ana))));
    assert_eq!(counts(), (None, Some(1)));
    cache.keep_memberships(&cache.token(), ana, member(2, &[3, 5]));
    let read = |seq| Durable::Read {
        room: tea(),
        user: ana,
        seq,
        messages: seq,
    };
    cache.apply(&read(4));
    assert_eq!(counts(), (Some(1), Some(1)));
    cache.apply(&read(9));
    // Told once more, late.
    cache.apply(&told(&mention(5, Some(ana))));
    assert_eq!(counts(), (Some(0), Some(1)));
}

#[test]
fn memberships_from_before_a_mention_are_not_kept() {
    let ana = UserId::new();
    for change in [mention(4, Some(ana)), mention(4, None), deletion(4, 3)] {
        let cache = ReadCache::default();
        let token = cache.token();
        cache.apply(&told(&change));
        cache.keep_memberships(&token, ana, member(2, &[3]));
        assert!(!cache.knows(ana), "{change:?}");
    }
}

#[test]
fn what_is_left_of_more_than_are_counted_is_read_again() {
    let (cache, ana) = (ReadCache::default(), UserId::new());
    let all: Vec<Seq> = (1..=100).collect();
    cache.keep_memberships(&cache.token(), ana, member(0, &all));
    cache.apply(&told(&deletion(101, 200)));
    assert_eq!(mentions_of(&cache, ana), Some(100));
    cache.apply(&told(&deletion(102, 50)));
    assert!(!cache.knows(ana));
}

/// Somebody may have read the log with it before it was told.
#[test]
fn who_has_left_is_forgotten_also_where_the_log_is_known_to_have_it() {
    let (cache, left) = (ReadCache::default(), event(5));
    let ana = left.author.id;
    cache.keep_memberships(&cache.token(), ana, member(2, &[]));
    cache.keep_page(&cache.token(), &tea(), end(5));
    let left = Event::clone(&left);
    let kind = EventKind::Left { by: None };
    cache.apply(&told(&Arc::new(Event { kind, ..left })));
    assert!(!cache.knows(ana) && cache.read_by(ana, &tea()).is_none());
}

/// A membership is counted once it stays, which is after its event.
#[test]
fn open_rooms_that_were_read_while_somebody_entered_are_read_again() {
    let cache = ReadCache::default();
    let rooms: Arc<[ListedRoom]> = Arc::new([]);
    cache.keep_open_rooms(&cache.token(), &rooms);
    assert!(cache.open_rooms().is_some());
    cache.apply(&Durable::Change(Change::Entered(UserId::new())));
    assert!(cache.open_rooms().is_none());
    let before = cache.token();
    cache.apply(&Durable::Change(Change::Entered(UserId::new())));
    cache.keep_open_rooms(&before, &rooms);
    assert!(cache.open_rooms().is_none(), "of before");
}
