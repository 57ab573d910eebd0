//! The contract of every store, whichever database is behind it.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ::mongodb::bson::doc;
use parlor::domain::{
    AccountRole, Author, Email, Event, EventKind, Login, Mentions, MessageBody, NewEvent, NewKind,
    NewUser, Nonce, RoomId, Session, SessionId, SignIn, Timestamp, User, UserId, Username,
};
use parlor::metrics::Metrics;
use parlor::store::mongo::MongoStore;
use parlor::store::sqlite::SqliteStore;
use parlor::store::{
    Appended, Change, Freshness, PAGE_MAX, Relation, Store, StoreError, UserField,
};
use tempfile::TempDir;
use tokio::task::JoinSet;

use crate::support::{Backend, MongoDb};

on_both_stores!(
    a_log_is_gap_free_under_sixteen_appenders,
    fifty_equal_nonces_are_one_event,
    a_nonce_belongs_to_its_author_and_room,
    pages_go_both_ways,
    entering_is_once_however_often,
    sessions_live_until_revoked_or_over,
    names_and_addresses_are_unique,
    of_those_racing_for_a_name_one_gets_it,
    the_lobby_is_sorted_by_what_was_said_last,
    unread_is_the_difference_of_two_counts,
    a_caller_that_goes_away_does_not_stop_its_event,
);

pub(crate) struct Opened {
    pub(crate) store: Arc<dyn Store>,
    changes: Arc<Mutex<Vec<Change>>>,
    dir: TempDir,
    /// The database's address, of MongoDB.
    uri: Option<String>,
}

pub(crate) async fn open(backend: Backend) -> Opened {
    let dir = tempfile::tempdir().unwrap();
    let changes = Arc::new(Mutex::new(Vec::new()));
    let told = Arc::clone(&changes);
    let on_change = Arc::new(move |change| told.lock().unwrap().push(change));
    let uri = match backend {
        Backend::Sqlite => None,
        Backend::MongoDb => Some(MongoDb::shared().await.fresh_uri()),
    };
    let store: Arc<dyn Store> = match &uri {
        None => Arc::new(SqliteStore::open(dir.path(), on_change).unwrap()),
        Some(uri) => {
            let (wait, metrics) = (Duration::from_secs(5), Metrics::default());
            let store = MongoStore::open(uri, wait, on_change, Arc::new(|_| {}), metrics).await;
            Arc::new(store.unwrap())
        }
    };
    Opened {
        store,
        changes,
        dir,
        uri,
    }
}

impl Opened {
    /// The events told so far, without those told again, in their order.
    pub(crate) fn told_events(&self) -> Vec<Arc<Event>> {
        let mut seen = HashSet::new();
        let changes = self.changes.lock().unwrap();
        let events = changes.iter().filter_map(|change| match change {
            Change::Appended(event) => Some(Arc::clone(event)),
            _ => None,
        });
        events.filter(|event| seen.insert(event.seq)).collect()
    }

    /// The numbers told so far, without those told again.
    fn told(&self) -> Vec<u64> {
        let mut seen = HashSet::new();
        let changes = self.changes.lock().unwrap();
        let numbers = changes.iter().filter_map(|change| match change {
            Change::Appended(event) => Some(event.seq),
            _ => None,
        });
        numbers.filter(|seq| seen.insert(*seq)).collect()
    }

    /// As a version without admins has left it.
    pub(crate) async fn make_all_members(&self) {
        let Some(uri) = &self.uri else {
            let file = self.dir.path().join("parlor.db");
            let connection = rusqlite::Connection::open(file).unwrap();
            let update = "UPDATE users SET role = 'member'";
            connection.execute(update, []).unwrap();
            return;
        };
        let client = ::mongodb::Client::with_uri_str(uri).await.unwrap();
        let users = client.default_database().unwrap();
        let users = users.collection::<::mongodb::bson::Document>("users");
        let set = doc! { "$set": { "role": "member" } };
        users.update_many(doc! {}, set).await.unwrap();
    }

    pub(crate) async fn user(&self, name: &str) -> User {
        let user = new_user(name);
        self.store.add_user(user.clone()).await.unwrap();
        user.user
    }
}

pub(crate) fn new_user(name: &str) -> NewUser {
    NewUser {
        user: User {
            id: UserId::new(),
            username: Username::parse(name).unwrap(),
        },
        email: Email::parse(&format!("{name}@example.org")).unwrap(),
        password_hash: "$argon2id$…".to_owned(),
    }
}

/// The sign-in of a session, with the password of [`new_user`].
pub(crate) fn sign_in(session: Session) -> SignIn {
    SignIn {
        session,
        device: "curl".to_owned(),
        address: "192.0.2.1".to_owned(),
        password_hash: "$argon2id$…".to_owned(),
    }
}

pub(crate) fn room(id: &str) -> RoomId {
    RoomId::parse(id).unwrap()
}

pub(crate) fn message(author: &User, body: &str, nonce: Option<&str>) -> NewEvent {
    NewEvent {
        author: Author::from(author),
        kind: NewKind::Message {
            body: MessageBody::parse(body).unwrap(),
            reply_to: None,
            mentions: Mentions::default(),
        },
        nonce: nonce.map(|nonce| Nonce::parse(nonce).unwrap()),
    }
}

fn numbers(events: &[Arc<Event>]) -> Vec<u64> {
    events.iter().map(|event| event.seq).collect()
}

async fn a_log_is_gap_free_under_sixteen_appenders(backend: Backend) {
    const APPENDERS: u64 = 16;
    const EACH: u64 = 25;
    let opened = open(backend).await;
    let ana = opened.user("ana").await;
    opened.store.join(&room("tea"), &ana, None).await.unwrap();
    let mut appenders = JoinSet::new();
    for appender in 0..APPENDERS {
        let (store, ana) = (Arc::clone(&opened.store), ana.clone());
        appenders.spawn(async move {
            let mut last = 0;
            for number in 0..EACH {
                let event = message(&ana, &format!("{appender}-{number}"), None);
                let appended = store.append(&room("tea"), event).await.unwrap();
                let seq = appended.event().seq;
                assert!(
                    seq > last,
                    "one's own messages stand in the order they were answered"
                );
                last = seq;
            }
        });
    }
    appenders.join_all().await;

    let mut log = Vec::new();
    loop {
        let after = log.len() as u64;
        let page = opened.store.page_after(&room("tea"), after, PAGE_MAX).await;
        let page = page.unwrap();
        if page.is_empty() {
            break;
        }
        log.extend(page);
    }
    let all: Vec<u64> = (1..=1 + APPENDERS * EACH).collect();
    assert_eq!(numbers(&log), all);
    assert_eq!(opened.told(), all, "told in order, each before its answer");
    let bodies: HashSet<_> = log
        .iter()
        .filter_map(|event| event.kind.body())
        .collect_bodies();
    assert_eq!(bodies.len() as u64, APPENDERS * EACH);
    for (event, messages) in log.iter().zip(0..) {
        assert_eq!(event.messages, messages, "the join is not a message");
    }
    assert!(log.is_sorted_by_key(|event| event.at));
    let heads = opened
        .store
        .heads(&[room("none"), room("tea")])
        .await
        .unwrap();
    assert_eq!(heads, [0, 1 + APPENDERS * EACH]);
    for (seq, is_there) in [(heads[1], true), (heads[1] + 1, false)] {
        let reaches = opened.store.reaches(&room("tea"), seq).await;
        assert_eq!(reaches.unwrap(), is_there);
    }
}

trait CollectBodies {
    fn collect_bodies(self) -> HashSet<String>;
}

impl<'a, I: Iterator<Item = &'a MessageBody>> CollectBodies for I {
    fn collect_bodies(self) -> HashSet<String> {
        self.map(|body| body.as_str().to_owned()).collect()
    }
}

async fn fifty_equal_nonces_are_one_event(backend: Backend) {
    let opened = open(backend).await;
    let ana = opened.user("ana").await;
    opened.store.join(&room("tea"), &ana, None).await.unwrap();
    let mut appends = JoinSet::new();
    for _ in 0..50 {
        let (store, ana) = (Arc::clone(&opened.store), ana.clone());
        appends.spawn(async move {
            let event = message(&ana, "only once", Some("nonce-1"));
            store.append(&room("tea"), event).await.unwrap()
        });
    }
    let appended = appends.join_all().await;
    let new = appended
        .iter()
        .filter(|appended| matches!(appended, Appended::New(_)));
    assert_eq!(new.count(), 1);
    assert!(appended.iter().all(|appended| appended.event().seq == 2));

    let other = message(&ana, "something else", Some("nonce-1"));
    let refused = opened.store.append(&room("tea"), other).await;
    assert!(matches!(refused, Err(StoreError::NonceReused)));
    let next = message(&ana, "next", Some("nonce-2"));
    let next = opened.store.append(&room("tea"), next).await.unwrap();
    assert_eq!(next.event().seq, 3, "what was refused left no gap");
}

async fn a_nonce_belongs_to_its_author_and_room(backend: Backend) {
    let opened = open(backend).await;
    let [ana, ben] = [opened.user("ana").await, opened.user("ben").await];
    for id in ["tea", "coffee"] {
        for user in [&ana, &ben] {
            opened.store.join(&room(id), user, None).await.unwrap();
            let event = message(user, "hello", Some("nonce"));
            let appended = opened.store.append(&room(id), event).await.unwrap();
            assert!(matches!(appended, Appended::New(_)));
        }
    }
    let without = message(&ana, "twice", None);
    for seq in [5, 6] {
        let appended = opened.store.append(&room("tea"), without.clone()).await;
        assert_eq!(appended.unwrap().event().seq, seq);
    }
}

async fn pages_go_both_ways(backend: Backend) {
    let opened = open(backend).await;
    let ana = opened.user("ana").await;
    let tea = room("tea");
    opened.store.join(&tea, &ana, None).await.unwrap();
    let mut appends = JoinSet::new();
    for number in 2..=250 {
        let (store, event) = (
            Arc::clone(&opened.store),
            message(&ana, &format!("{number}"), None),
        );
        appends.spawn(async move { store.append(&room("tea"), event).await.unwrap() });
    }
    appends.join_all().await;
    let store = &opened.store;

    let after = async |after, limit| numbers(&store.page_after(&tea, after, limit).await.unwrap());
    let before =
        async |before, limit| numbers(&store.page_before(&tea, before, limit).await.unwrap());
    assert_eq!(after(0, 3).await, [1, 2, 3]);
    assert_eq!(after(248, 50).await, [249, 250]);
    assert_eq!(after(250, 50).await, [0_u64; 0]);
    assert_eq!(after(u64::MAX, 50).await, [0_u64; 0]);
    assert_eq!(after(0, 10_000).await.len(), PAGE_MAX);
    assert_eq!(after(0, 0).await, [0_u64; 0]);
    assert_eq!(before(u64::MAX, 2).await, [249, 250]);
    assert_eq!(before(4, 50).await, [1, 2, 3]);
    assert_eq!(before(1, 50).await, [0_u64; 0]);
    assert_eq!(before(0, 50).await, [0_u64; 0]);
    assert_eq!(before(u64::MAX, 10_000).await.len(), PAGE_MAX);

    let [first, second] = &store.page_after(&tea, 0, 2).await.unwrap()[..] else {
        panic!("two events");
    };
    assert_eq!(first.kind, EventKind::Joined { by: None });
    assert_eq!(second.author, Author::from(&ana));
    assert_eq!(second.room, tea);
    assert!(second.kind.body().is_some());
}

async fn entering_is_once_however_often(backend: Backend) {
    let opened = open(backend).await;
    let [ana, ben] = [opened.user("ana").await, opened.user("ben").await];
    let tea = room("tea");
    let relation = async |user: &User| opened.store.relation(&tea, user).await.unwrap();
    assert_eq!(relation(&ana).await, Relation::NoRoom);
    let mut entries = JoinSet::new();
    for _ in 0..20 {
        let (store, ana) = (Arc::clone(&opened.store), ana.clone());
        entries.spawn(async move { store.join(&room("tea"), &ana, None).await.unwrap() });
    }
    entries.join_all().await;
    assert_eq!(relation(&ana).await, Relation::Member { read: 1 });
    assert_eq!(relation(&ben).await, Relation::NotMember);
    opened.store.join(&tea, &ben, None).await.unwrap();
    let log = opened.store.page_after(&tea, 0, 50).await.unwrap();
    let joined: Vec<&str> = log.iter().map(|event| &*event.author.username).collect();
    assert_eq!(joined, ["ana", "ben"]);
}

async fn unread_is_the_difference_of_two_counts(backend: Backend) {
    let opened = open(backend).await;
    let [ana, ben] = [opened.user("ana").await, opened.user("ben").await];
    let tea = room("tea");
    let unread = async |user: &User| {
        let rooms = opened.store.rooms_of(user, &Freshness::Now).await.unwrap();
        rooms.first().unwrap().unread
    };
    opened.store.join(&tea, &ana, None).await.unwrap();
    for number in 0..5 {
        let event = message(&ana, &format!("{number}"), None);
        opened.store.append(&tea, event).await.unwrap();
    }
    assert_eq!(unread(&ana).await, 5);
    // A later member has not missed earlier messages.
    opened.store.join(&tea, &ben, None).await.unwrap();
    assert_eq!(unread(&ben).await, 0);
    for (seq, left) in [(3, 3), (2, 3), (6, 0), (100, 0)] {
        opened.store.mark_read(&tea, &ana, seq).await.unwrap();
        assert_eq!(unread(&ana).await, left, "read up to {seq}");
    }
    // Beyond the head is not beyond what comes.
    opened
        .store
        .append(&tea, message(&ben, "new", None))
        .await
        .unwrap();
    assert_eq!((unread(&ana).await, unread(&ben).await), (1, 1));
    let relation = opened.store.relation(&tea, &ana).await.unwrap();
    assert_eq!(relation, Relation::Member { read: 7 });
}

async fn sessions_live_until_revoked_or_over(backend: Backend) {
    let opened = open(backend).await;
    let ana = opened.user("ana").await;
    let session = |lasting| Session {
        id: SessionId::new(),
        user: ana.id,
        created_at: Timestamp::now(),
        expires_at: Timestamp::now().after(lasting),
    };
    let [kept, revoked, over] = [60_000, 60_000, 0].map(|ms| session(Duration::from_millis(ms)));
    for session in [kept, revoked, over] {
        assert!(opened.store.add_session(sign_in(session)).await.unwrap());
    }
    let find = async |session: Session| opened.store.find_session(session.id).await.unwrap();
    assert_eq!(find(kept).await, Some((kept, ana.clone())));
    assert_eq!(find(over).await, None);
    assert_eq!(find(session(Duration::ZERO)).await, None);

    opened.store.revoke_session(revoked.id).await.unwrap();
    opened.store.revoke_session(revoked.id).await.unwrap();
    assert_eq!(find(revoked).await, None);
    assert_eq!(find(kept).await, Some((kept, ana.clone())));
    let changes = opened.changes.lock().unwrap();
    let told = |change: &Change| matches!(change, Change::SessionRevoked(id) if *id == revoked.id);
    assert!(changes.iter().any(told));
}

async fn names_and_addresses_are_unique(backend: Backend) {
    let opened = open(backend).await;
    let ana = opened.user("Ana").await;
    let with = |name: &str, email: &str| NewUser {
        email: Email::parse(email).unwrap(),
        ..new_user(name)
    };
    for (name, email, taken) in [
        ("aNA", "other@example.org", UserField::Username),
        ("other", "ANA@example.org", UserField::Email),
    ] {
        let refused = opened.store.add_user(with(name, email)).await;
        assert!(matches!(refused, Err(StoreError::Taken(field)) if field == taken));
    }
    opened.user("Paul").await;
    let impostor = opened.store.add_user(with("PauI", "p@example.org")).await;
    assert!(matches!(
        impostor,
        Err(StoreError::Taken(UserField::Username))
    ));

    for login in ["ana", "ANA", "ana@EXAMPLE.org", " Ana "] {
        let login = Login::parse(login.trim()).unwrap();
        let found = opened.store.find_account(&login).await.unwrap().unwrap();
        assert_eq!(found.user, ana);
        assert_eq!(found.password_hash, "$argon2id$…");
    }
    let nobody = Login::parse("nobody").unwrap();
    assert!(opened.store.find_account(&nobody).await.unwrap().is_none());
}

async fn of_those_racing_for_a_name_one_gets_it(backend: Backend) {
    let opened = open(backend).await;
    let mut racers = JoinSet::new();
    for number in 0..10 {
        let store = Arc::clone(&opened.store);
        racers.spawn(async move {
            let email = Email::parse(&format!("racer{number}@example.org")).unwrap();
            let racer = NewUser {
                email,
                ..new_user("ana")
            };
            store.add_user(racer).await
        });
    }
    let ended = racers.join_all().await;
    assert_eq!(ended.iter().filter(|ended| ended.is_ok()).count(), 1);
    let taken = |ended: &&Result<AccountRole, StoreError>| {
        matches!(ended, Err(StoreError::Taken(UserField::Username)))
    };
    assert_eq!(ended.iter().filter(taken).count(), 9);
}

async fn the_lobby_is_sorted_by_what_was_said_last(backend: Backend) {
    let opened = open(backend).await;
    let [ana, ben] = [opened.user("ana").await, opened.user("ben").await];
    let store = &opened.store;
    assert!(
        store
            .rooms_of(&ana, &Freshness::Now)
            .await
            .unwrap()
            .is_empty()
    );
    for id in ["silent", "first", "second", "bens"] {
        let who = if id == "bens" { &ben } else { &ana };
        store.join(&room(id), who, None).await.unwrap();
    }
    for id in ["second", "first", "second"] {
        // Times are in milliseconds.
        tokio::time::sleep(Duration::from_millis(3)).await;
        store
            .append(&room(id), message(&ana, id, None))
            .await
            .unwrap();
    }
    store.join(&room("first"), &ben, None).await.unwrap();
    let lobby = store.rooms_of(&ana, &Freshness::Now).await.unwrap();
    let lines: Vec<(&str, u64, Option<&str>)> = lobby
        .iter()
        .map(|line| {
            let last = line.last.as_ref().and_then(|last| last.kind.body());
            (line.room.as_str(), line.head, last.map(MessageBody::as_str))
        })
        .collect();
    assert_eq!(
        lines,
        [
            ("second", 3, Some("second")),
            ("first", 3, Some("first")),
            ("silent", 1, None),
        ]
    );
}

async fn a_caller_that_goes_away_does_not_stop_its_event(backend: Backend) {
    let opened = open(backend).await;
    let ana = opened.user("ana").await;
    let tea = room("tea");
    opened.store.join(&tea, &ana, None).await.unwrap();
    for number in 0..20 {
        let append = opened
            .store
            .append(&tea, message(&ana, &format!("{number}"), None));
        // Polled once, so that it is under way, and dropped.
        let given_up = tokio::time::timeout(Duration::ZERO, append).await;
        assert!(given_up.is_err() || number < 20);
    }
    let all: Vec<u64> = (1..=21).collect();
    crate::support::eventually(
        "all are stored and told",
        Duration::from_secs(5),
        async || {
            let log = opened.store.page_after(&tea, 0, 50).await.unwrap();
            numbers(&log) == all && opened.told() == all
        },
    )
    .await;
}
