use std::sync::Arc;

use super::{SqliteStore, log, rooms};
use crate::domain::{
    Author, Email, Mentions, MessageBody, NewChange, NewEvent, NewKind, NewUser, RoomId, Seq,
    Session, SessionId, SignIn, Timestamp, User, UserId, Username,
};
use crate::store::{Accounts, Freshness, Log, Memberships, Relation, Rooms, Seen, Sessions};

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
        kind: NewKind::Message {
            body: MessageBody::parse(text).unwrap(),
            reply_to: None,
            mentions: Mentions::default(),
        },
        nonce: None,
    }
}

/// The same for somebody, and now and then for everybody.
fn says_to(user: &User, other: &User, round: usize) -> NewEvent {
    let mut new = says(user, &format!("round {round}"));
    if let NewKind::Message { mentions, .. } = &mut new.kind {
        *mentions = Mentions::new(
            [Author::from(other)],
            None,
            round.is_multiple_of(5),
            user.id,
        )
        .unwrap();
    }
    new
}

fn deletes(user: &User, target: Seq) -> NewEvent {
    let change = NewChange::Delete { as_owner: false };
    NewEvent {
        kind: NewKind::Change { target, change },
        ..says(user, "none")
    }
}

fn kept() -> Freshness {
    Freshness::Seen(Seen::default())
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
            let other = users[(number + round) % users.len()].clone();
            tasks.spawn(async move {
                writes.join(&room, &user, None).await.unwrap();
                let said = says_to(&user, &other, round);
                let said = writes.append(&room, said).await.unwrap();
                let mut seq = said.event().seq;
                if round.is_multiple_of(3) {
                    let deleted = writes.append(&room, deletes(&user, seq)).await.unwrap();
                    assert!(deleted.event().kind.is_deletion());
                    seq = seq.saturating_sub(3).max(1);
                }
                let page = writes.newest(&room, 50, &kept()).await.unwrap();
                assert!(
                    page.entries
                        .iter()
                        .any(|event| event.seq == said.event().seq),
                    "it reads its own"
                );
                writes.mark_read(&room, &user, seq).await.unwrap();
                let relation = writes.relation(&room, &user).await.unwrap();
                assert!(matches!(relation, Relation::Member { read } if read >= seq));
            });
            tasks.spawn(async move {
                for _ in 0..4 {
                    reads.rooms_of(&reader, &kept()).await.unwrap();
                    reads.newest(&there, 50, &kept()).await.unwrap();
                    reads.relation(&there, &reader).await.unwrap();
                }
            });
        }
        while let Some(done) = tasks.join_next().await {
            done.unwrap();
        }
        for user in &users {
            let id = user.id;
            let kept = store.rooms_of(user, &self::kept()).await.unwrap();
            let file = store.readers.read("", move |file| rooms::of(file, id));
            assert_eq!(*kept, file.await.unwrap(), "round {round}");
        }
        for room in &rooms {
            let id = room.clone();
            let kept = store.newest(room, 20, &self::kept()).await.unwrap();
            let file = store
                .readers
                .read("", move |file| log::page_before(file, &id, Seq::MAX, 20));
            assert_eq!(kept.entries, file.await.unwrap(), "round {round}");
        }
    }
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
        let sign_in = SignIn {
            session,
            device: String::new(),
            address: String::new(),
            password_hash: "none".to_owned(),
        };
        assert!(store.add_session(sign_in).await.unwrap());
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
