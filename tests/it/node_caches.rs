//! The caches of nodes on one database: never wrong where it matters, and the same in the end.

use std::sync::Arc;
use std::time::Duration;

use mongodb::bson::{Bson, DateTime, Document, doc};
use mongodb::options::{Acknowledgment, WriteConcern};
use parlor::domain::{
    Author, Emoji, Login, Mentions, MessageBody, NewChange, NewEvent, NewKind, RoomId, Session,
    SessionId, Timestamp, User,
};
use parlor::metrics::Metrics;
use parlor::store::mongo::MongoStore;
use parlor::store::{
    Accounts, Freshness, Log, Members, Memberships, MentionPlace, Mentions as _, Relation, Rooms,
    Seen, Sessions,
};
use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio_stream::StreamExt;

use crate::store_contract::{message, new_user, sign_in};
use crate::support::{MongoDb, eventually};

async fn open(uri: &str) -> Arc<MongoStore> {
    let (wait, metrics) = (Duration::from_secs(5), Metrics::default());
    let store = MongoStore::open(uri, wait, Arc::new(|_| {}), Arc::new(|_| {}), metrics).await;
    Arc::new(store.unwrap())
}

/// Three nodes that have heard from their change streams.
async fn three() -> Vec<Arc<MongoStore>> {
    let uri = MongoDb::shared().await.fresh_uri();
    let mut nodes = Vec::new();
    for _ in 0..3 {
        nodes.push(open(&uri).await);
    }
    sleep(Duration::from_millis(1_500)).await;
    nodes
}

async fn somebody(store: &MongoStore, name: &str) -> User {
    let new = new_user(name);
    store.add_user(new.clone()).await.unwrap();
    new.user
}

fn session_of(user: &User) -> Session {
    Session {
        id: SessionId::new(),
        user: user.id,
        created_at: Timestamp::now(),
        expires_at: Timestamp::now().after(Duration::from_secs(600)),
    }
}

fn room(number: usize) -> RoomId {
    RoomId::parse(&format!("room-{number}")).unwrap()
}

/// Invariant: whoever carries what they have seen finds it at the next node, and their own writes; a log
/// never shrinks; and when nobody writes any more, all nodes keep what the database says.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn who_goes_from_node_to_node_sees_what_they_have_seen() {
    let nodes = three().await;
    let mut users = Vec::new();
    for name in ["ana", "ben", "cleo", "dan"] {
        users.push(somebody(&nodes[0], name).await);
    }
    let mut people = JoinSet::new();
    for (number, user) in users.iter().enumerate() {
        let (nodes, user) = (nodes.clone(), user.clone());
        let others = users.clone();
        people.spawn(async move {
            let mut seen = Seen::default();
            for round in 0..120 {
                let node = |hop: usize| &nodes[(round * 7 + number + hop) % 3];
                let here = room((round / 20 + number) % 6);
                let joined = node(0).join(&here, &user, None).await.unwrap();
                seen.note(&here, joined);
                let relation = node(1).relation(&here, &user).await.unwrap();
                assert!(matches!(relation, Relation::Member { .. }), "round {round}");
                let mut said = message(&user, &format!("round {round}"), None);
                if let NewKind::Message { mentions, .. } = &mut said.kind {
                    let other = [Author::from(&others[round % others.len()])];
                    *mentions = Mentions::new(other, None, round % 7 == 0, user.id).unwrap();
                }
                let said = node(1).append(&here, said).await.unwrap().event().seq;
                seen.note(&here, said);
                for hop in 0..3 {
                    let at = Freshness::Seen(seen.clone());
                    let page = node(hop).newest(&here, 50, &at).await.unwrap();
                    let head = page.head;
                    let known = seen.in_room(&here).unwrap();
                    assert!(head >= known, "round {round}: {head} after {known}");
                    assert!(
                        page.entries.iter().any(|event| event.seq == said),
                        "round {round}"
                    );
                    let mut log = node(hop)
                        .page_after(&here, head.saturating_sub(20), 20)
                        .await;
                    log.as_mut().unwrap().retain(|event| event.seq <= head);
                    let numbers: Vec<u64> = log.unwrap().iter().map(|event| event.seq).collect();
                    let expected: Vec<u64> = (head.saturating_sub(20) + 1..=head).collect();
                    assert_eq!(numbers, expected, "without a gap");
                    seen.note(&here, head);
                    let at = Freshness::Seen(seen.clone());
                    let rooms = node(hop + 1).rooms_of(&user, &at).await.unwrap();
                    let listed = rooms.iter().find(|listed| listed.room == here).unwrap();
                    assert!(listed.head >= head, "round {round}");
                    let last = listed.last.as_ref().unwrap().seq;
                    assert!(last >= said, "round {round}");
                }
                if round % 5 == 1 {
                    let (target, change) = (said, NewChange::Delete { as_owner: false });
                    let kind = NewKind::Change { target, change };
                    let deletes = NewEvent {
                        kind,
                        ..message(&user, "none", None)
                    };
                    let deleted = node(2).append(&here, deletes).await.unwrap();
                    seen.note(&here, deleted.event().seq);
                }
                if round % 3 == 0 {
                    node(2).mark_read(&here, &user, said).await.unwrap();
                }
            }
        });
    }
    while let Some(done) = people.join_next().await {
        done.unwrap();
    }
    let kept = Freshness::Seen(Seen::default());
    let agree = async || {
        for node in &nodes {
            for user in &users {
                let now = node.rooms_of(user, &Freshness::Now).await.unwrap();
                if *now != *node.rooms_of(user, &kept).await.unwrap() {
                    return false;
                }
            }
            for number in 0..6 {
                let now = node
                    .newest(&room(number), 50, &Freshness::Now)
                    .await
                    .unwrap();
                if now != node.newest(&room(number), 50, &kept).await.unwrap() {
                    return false;
                }
            }
        }
        true
    };
    eventually("the nodes agree", Duration::from_secs(5), agree).await;
}

/// Invariant: within two seconds no node takes a revoked session; at once the one that revoked it.
#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_session_is_refused_by_every_node() {
    let nodes = three().await;
    let ana = somebody(&nodes[0], "ana").await;
    for _ in 0..5 {
        let session = session_of(&ana);
        nodes[0].add_session(sign_in(session)).await.unwrap();
        for node in &nodes {
            assert!(node.find_session(session.id).await.unwrap().is_some());
        }
        nodes[1].revoke_session(session.id).await.unwrap();
        assert!(nodes[1].find_session(session.id).await.unwrap().is_none());
        sleep(Duration::from_secs(2)).await;
        for node in &nodes {
            assert!(node.find_session(session.id).await.unwrap().is_none());
        }
    }
    drop(nodes);
}

/// Invariant: a write that is not a majority's yet when a node opens its stream anew is told by it.
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_begins_anew_misses_no_revocation() {
    let set = MongoDb::start().await;
    let uri = set.fresh_uri();
    let node = open(&format!("{uri}&appName=anew")).await;
    let ana = somebody(&node, "ana").await;
    let session = session_of(&ana);
    node.add_session(sign_in(session)).await.unwrap();
    let client = mongodb::Client::with_uri_str(&uri).await.unwrap();
    let sessions = client
        .default_database()
        .unwrap()
        .collection::<Document>("sessions");
    set.hides_newest_writes(true).await;
    let revoked = doc! { "$set": { "revoked_at": DateTime::now() } };
    let one = WriteConcern::builder().w(Acknowledgment::Nodes(1)).build();
    let revoke = sessions.update_many(doc! {}, revoked).write_concern(one);
    revoke.await.unwrap();
    // The place it would go on at is lost, too.
    let lost = doc! { "failCommands": ["getMore", "aggregate"], "errorCode": 286 };
    let twice = Bson::Document(doc! { "times": 2 });
    set.fails("anew", twice, lost).await;
    sleep(Duration::from_secs(2)).await;
    let found = node.find_session(session.id).await.unwrap();
    assert!(found.is_some(), "a majority does not have it yet");
    set.hides_newest_writes(false).await;
    // With the next write they show.
    node.add_session(sign_in(session_of(&ana))).await.unwrap();
    sleep(Duration::from_secs(2)).await;
    assert!(node.find_session(session.id).await.unwrap().is_none());
}

/// Every query that a store makes seeks by an index, and reads no more than twice what it answers. As
/// `mongod` itself profiles them.
#[tokio::test(flavor = "multi_thread")]
async fn every_query_is_an_index_seek() {
    let uri = MongoDb::shared().await.fresh_uri();
    let store = open(&uri).await;
    let client = mongodb::Client::with_uri_str(&uri).await.unwrap();
    let database = client.default_database().unwrap();
    let (ana, ben) = (somebody(&store, "ana").await, somebody(&store, "ben").await);
    for number in 0..40 {
        store.join(&room(number), &ana, None).await.unwrap();
        for text in ["one", "two", "three", "four"] {
            store
                .append(&room(number), message(&ana, text, None))
                .await
                .unwrap();
        }
        // Some logs end with what is no message.
        if number % 2 == 0 {
            store.join(&room(number), &ben, None).await.unwrap();
        }
    }
    // Written by a version that noted neither: its rooms are asked for by name.
    let events = database.collection::<Document>("events");
    let of_one = doc! { "room": "room-2" };
    events
        .update_many(of_one.clone(), doc! { "$unset": { "last_message": "" } })
        .await
        .unwrap();
    let memberships = database.collection::<Document>("memberships");
    memberships
        .update_many(of_one, doc! { "$unset": { "read_mark": "" } })
        .await
        .unwrap();
    database.run_command(doc! { "profile": 2 }).await.unwrap();

    let session = session_of(&ana);
    store.add_session(sign_in(session)).await.unwrap();
    store.find_session(session.id).await.unwrap();
    store.find_session(SessionId::new()).await.unwrap();
    store.live_sessions(&[session.id]).await.unwrap();
    store.revoke_session(session.id).await.unwrap();
    for login in ["ana", "ben@example.org", "nobody"] {
        store
            .find_account(&Login::parse(login).unwrap())
            .await
            .unwrap();
    }
    let rooms: Vec<RoomId> = (0..41).map(room).collect();
    store.heads(&rooms).await.unwrap();
    for user in [&ana, &ben] {
        store.rooms_of(user, &Freshness::Now).await.unwrap();
        store
            .rooms_of(user, &Freshness::Seen(Seen::default()))
            .await
            .unwrap();
        store.relation(&rooms[1], user).await.unwrap();
        store.mark_read(&rooms[0], user, 4).await.unwrap();
    }
    store.relation(&rooms[40], &ana).await.unwrap();
    for room in &rooms[..4] {
        store.newest(room, 50, &Freshness::Now).await.unwrap();
        store.page_before(room, 3, 2).await.unwrap();
        store.page_after(room, 1, 2).await.unwrap();
        store.reaches(room, 3).await.unwrap();
    }
    store.join(&rooms[1], &ben, None).await.unwrap();
    let once = message(&ben, "once", Some("a-nonce"));
    for _ in 0..2 {
        store.append(&rooms[1], once.clone()).await.unwrap();
    }
    // Changes, and what reads them.
    let emoji = Emoji::parse("👍").unwrap();
    for (by, target, change) in [
        (&ben, 2, NewChange::React { emoji, on: true }),
        (&ana, 3, NewChange::Delete { as_owner: false }),
        (
            &ana,
            2,
            NewChange::Edit {
                body: MessageBody::parse("edited").unwrap(),
                rev: None,
            },
        ),
    ] {
        let author = Author::from(by);
        let kind = NewKind::Change { target, change };
        let nonce = None;
        let new = NewEvent {
            author,
            kind,
            nonce,
        };
        store.append(&rooms[3], new).await.unwrap();
    }
    let mut reply = message(&ana, "indeed", None);
    if let NewKind::Message {
        reply_to, mentions, ..
    } = &mut reply.kind
    {
        *reply_to = Some(2);
        *mentions = Mentions::new([Author::from(&ben)], None, true, ana.id).unwrap();
    }
    store.append(&rooms[3], reply).await.unwrap();
    // As a node does that has read none of it.
    let other = open(&uri).await;
    other.newest(&rooms[3], 50, &Freshness::Now).await.unwrap();
    other.page_before(&rooms[3], 7, 2).await.unwrap();
    other.page_after(&rooms[3], 0, 200).await.unwrap();
    other.rooms_of(&ana, &Freshness::Now).await.unwrap();
    for user in [&ana, &ben] {
        other.unread_mentions(user, None, 50).await.unwrap();
        let first = other.read_mentions(user, None, 1).await.unwrap();
        let before = first.events.last().map(|last| MentionPlace::of(last));
        other.read_mentions(user, before, 5).await.unwrap();
    }
    let keys = vec!["ana".to_owned(), "ben".to_owned(), "nobody".to_owned()];
    other.members_named(&rooms[3], keys).await.unwrap();
    other
        .members_called(&rooms[3], "a".to_owned(), 5)
        .await
        .unwrap();
    other.count_members(&rooms[3]).await.unwrap();
    database.run_command(doc! { "profile": 0 }).await.unwrap();

    let profiled = database.collection::<Document>("system.profile");
    let mut profiled = profiled.find(doc! {}).await.unwrap();
    let mut queries = 0;
    while let Some(profiled) = profiled.next().await {
        let profiled = profiled.unwrap();
        let collection = profiled.get_str("ns").unwrap().split_once('.').unwrap().1;
        // All of them are wanted: who is where, and which nodes there are.
        let is_whole = ["presence", "nodes", "system.profile"].contains(&collection);
        let Ok(plan) = profiled.get_str("planSummary") else {
            continue;
        };
        if is_whole || collection.starts_with('$') {
            continue;
        }
        queries += 1;
        assert!(!plan.contains("COLLSCAN"), "{profiled}");
        let number = |field| profiled.get_i32(field).unwrap_or(0);
        let answered = number("nreturned").max(number("nMatched"));
        assert!(number("docsExamined") <= 2 * answered.max(1), "{profiled}");
        // Counting somebody's rooms reads keys alone.
        let keys = number("keysExamined");
        let is_count = plan.contains("COUNT_SCAN");
        assert!(is_count || keys <= 2 * answered.max(1) + 2, "{profiled}");
    }
    assert!(queries > 40, "{queries}");
}
