use super::super::{SqliteStore, log, rooms};
use super::*;
use crate::domain::testing::event;
use crate::domain::{Author, Email, MessageBody, NewEvent, NewUser, Username};
use crate::store::{Access, Accounts, Log, Rooms, Sessions};

async fn somebody(store: &SqliteStore, name: &str) -> User {
    let user = User {
        id: UserId::new(),
        username: Username::parse(name).unwrap(),
    };
    let new = NewUser {
        user: user.clone(),
        email: Email::parse(&format!("{name}@example.org")).unwrap(),
        password_hash: "none".to_owned(),
    };
    store.add_user(new).await.unwrap();
    user
}

fn says(user: &User, text: &str) -> NewEvent {
    NewEvent {
        author: Author::from(user),
        kind: EventKind::Message {
            body: MessageBody::parse(text).unwrap(),
        },
        nonce: None,
    }
}

/// Invariant: whatever is read while whatever is written, what is kept afterwards is in the
/// file; and who has written reads it.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_is_kept_is_what_the_file_says() {
    let dir = tempfile::tempdir().unwrap();
    let store = Arc::new(SqliteStore::open(dir.path(), Arc::new(|_| {})).unwrap());
    let mut users = Vec::new();
    for name in ["ana", "ben", "cleo"] {
        users.push(somebody(&store, name).await);
    }
    let rooms: Vec<RoomId> = (0..12)
        .map(|n| RoomId::parse(&format!("room-{n}")).unwrap())
        .collect();
    for round in 0..150 {
        let mut tasks = tokio::task::JoinSet::new();
        for (number, user) in users.iter().enumerate() {
            // More and more rooms, and each is entered in the midst of it.
            let room = rooms[(round / 12 + number) % rooms.len()].clone();
            let (writes, reads, user) = (Arc::clone(&store), Arc::clone(&store), user.clone());
            let (there, reader) = (room.clone(), user.clone());
            tasks.spawn(async move {
                writes.join(&room, &user).await.unwrap();
                let said = says(&user, &format!("round {round}"));
                let said = writes.append(&room, said).await.unwrap();
                let seq = said.event().seq;
                let page = writes.page_before(&room, Seq::MAX, 50).await.unwrap();
                assert!(
                    page.iter().any(|event| event.seq == seq),
                    "it reads its own"
                );
                writes.mark_read(&room, &user, seq).await.unwrap();
                let access = writes.access(&room, &user).await.unwrap();
                assert_eq!(access, Access::Member { read: seq });
            });
            tasks.spawn(async move {
                for _ in 0..4 {
                    reads.rooms_of(&reader).await.unwrap();
                    reads.page_before(&there, Seq::MAX, 50).await.unwrap();
                    reads.access(&there, &reader).await.unwrap();
                }
            });
        }
        while let Some(done) = tasks.join_next().await {
            done.unwrap();
        }
        for user in &users {
            let id = user.id;
            let kept = store.rooms_of(user).await.unwrap();
            let file = store.readers.read("", move |file| rooms::of(file, id));
            assert_eq!(*kept, file.await.unwrap(), "round {round}");
        }
        for room in &rooms {
            let id = room.clone();
            let kept = store.page_before(room, Seq::MAX, 20).await.unwrap();
            let file = store
                .readers
                .read("", move |file| log::page_before(file, &id, Seq::MAX, 20));
            assert_eq!(kept, file.await.unwrap(), "round {round}");
        }
    }
}

fn end(head: Seq) -> LogEnd {
    LogEnd {
        head,
        messages: head,
        last_message: Some(event(head)),
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
            let seqs: Vec<Seq> = page.iter().map(|event| event.seq).collect();
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
    let pages = pages.filter(|room| room.end().newest.is_some()).count();
    assert_eq!(pages, PAGES_MAX.get());
}

#[tokio::test]
async fn a_session_is_kept_until_it_is_revoked_or_over() {
    let dir = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(dir.path(), Arc::new(|_| {})).unwrap();
    let ana = somebody(&store, "ana").await;
    let session = |lasts_ms: i64| Session {
        id: SessionId::new(),
        user: ana.id,
        created_at: Timestamp::now(),
        expires_at: Timestamp::from_millis(Timestamp::now().as_millis() + lasts_ms),
    };
    let (long, short) = (session(60_000), session(300));
    for session in [long, short] {
        store.add_session(session).await.unwrap();
        store.find_session(session.id).await.unwrap().unwrap();
        assert!(store.cache.session(session.id).is_some(), "it is kept");
    }
    let token = store.cache.token();
    store.revoke_session(long.id).await.unwrap();
    assert!(store.find_session(long.id).await.unwrap().is_none());
    // A read from before that comes too late.
    store.cache.keep_session(&token, long, ana.clone());
    assert!(store.find_session(long.id).await.unwrap().is_none());
    tokio::time::sleep(std::time::Duration::from_millis(400)).await;
    assert!(store.find_session(short.id).await.unwrap().is_none());
}
