//! Memberships, settings and open rooms, as both stores keep them.

use std::sync::Arc;

use parlor::domain::{
    Access, Event, EventKind, Label, ListedRoom, Role, RoomId, RoomSettings, Seq, Setting, User,
};
use parlor::store::{Freshness, Relation, Store, StoreError};
use tokio::task::JoinSet;

use crate::store_contract::{open, room};
use crate::support::Backend;

on_both_stores!(
    a_room_belongs_to_whoever_makes_it,
    a_room_without_an_owner_belongs_to_who_is_longest_in_it,
    a_private_room_is_not_there_for_others,
    a_room_is_made_once,
    whoever_is_banned_stays_out,
    banned_while_entering_is_banned,
    a_setting_is_told_once,
    settings_that_differ_are_each_told_once,
    a_demotion_stands_while_others_are_promoted,
    open_rooms_are_found_by_a_word,
    a_direct_room_is_one_however_many_start_it,
    people_are_listed_page_by_page,
    bans_and_their_ends_leave_whole_memberships,
);

fn named(name: &str, access: Access) -> RoomSettings {
    RoomSettings {
        access,
        name: Label::name(name).unwrap(),
        ..RoomSettings::default()
    }
}

async fn log(store: &Arc<dyn Store>, room: &RoomId) -> Vec<Arc<Event>> {
    store.page_after(room, 0, 200).await.unwrap()
}

async fn a_room_belongs_to_whoever_makes_it(backend: Backend) {
    let opened = open(backend).await;
    let (store, tea) = (&opened.store, room("tea"));
    let [ana, ben] = [opened.user("ana").await, opened.user("ben").await];
    assert_eq!(store.owners(&tea).await.unwrap(), []);
    assert_eq!(store.settings(&tea).await.unwrap(), None);
    for user in [&ana, &ben] {
        store.join(&tea, user, None).await.unwrap();
    }
    let settings = store.settings(&tea).await.unwrap();
    assert_eq!(settings, Some(RoomSettings::default()));
    assert_eq!(store.owners(&tea).await.unwrap(), [ana.id]);

    assert!(store.set_role(&tea, ben.id, Role::Owner).await.unwrap());
    let mut owners = store.owners(&tea).await.unwrap();
    owners.sort();
    let mut both = [ana.id, ben.id];
    both.sort();
    assert_eq!(owners, both);
    store.leave(&tea, &ana).await.unwrap();
    assert_eq!(store.owners(&tea).await.unwrap(), [ben.id]);
    // Whoever comes back is a member like others.
    store.join(&tea, &ana, None).await.unwrap();
    assert_eq!(store.owners(&tea).await.unwrap(), [ben.id]);
    let nobody = opened.user("cleo").await;
    assert!(!store.set_role(&tea, nobody.id, Role::Owner).await.unwrap());
    assert_eq!(store.owners(&tea).await.unwrap(), [ben.id]);
}

/// Invariant: a room with people in it has an owner, whatever they do at the same time.
async fn a_room_without_an_owner_belongs_to_who_is_longest_in_it(backend: Backend) {
    let opened = open(backend).await;
    let (store, tea) = (&opened.store, room("tea"));
    let mut people = Vec::new();
    for name in ["ana", "ben", "cleo", "dan"] {
        let user = opened.user(name).await;
        store.join(&tea, &user, None).await.unwrap();
        people.push(user);
    }
    let [ana, ben, cleo, dan] = &people[..] else {
        panic!("four");
    };
    store.leave(&tea, ana).await.unwrap();
    assert_eq!(store.owners(&tea).await.unwrap(), [ben.id]);
    // They remain one when they make another.
    store.set_role(&tea, dan.id, Role::Owner).await.unwrap();
    assert_eq!(store.owners(&tea).await.unwrap().len(), 2);
    // Both step down at once.
    let (one, other) = tokio::join!(
        store.set_role(&tea, ben.id, Role::Member),
        store.set_role(&tea, dan.id, Role::Member)
    );
    assert!(one.unwrap() && other.unwrap());
    assert_eq!(store.owners(&tea).await.unwrap(), [ben.id]);

    // All but one leave at once, who are made owners meanwhile.
    let mut all = JoinSet::new();
    for user in [ben, dan] {
        let (store, tea, user) = (Arc::clone(store), tea.clone(), user.clone());
        all.spawn(async move { store.leave(&tea, &user).await.map(drop) });
    }
    for user in [ben, cleo, dan] {
        let (store, tea, user) = (Arc::clone(store), tea.clone(), user.id);
        all.spawn(async move { store.set_role(&tea, user, Role::Owner).await.map(drop) });
    }
    for done in all.join_all().await {
        done.unwrap();
    }
    assert_eq!(store.owners(&tea).await.unwrap(), [cleo.id]);
    store.leave(&tea, cleo).await.unwrap();
    assert_eq!(store.owners(&tea).await.unwrap(), []);
}

async fn a_private_room_is_not_there_for_others(backend: Backend) {
    let opened = open(backend).await;
    let (store, den) = (&opened.store, room("den"));
    let [ana, ben] = [opened.user("ana").await, opened.user("ben").await];
    let private = named("The den", Access::Private);
    store.join(&den, &ana, Some(&private)).await.unwrap();
    let relation = async |user: &User| store.relation(&den, user).await.unwrap();
    assert_eq!(relation(&ana).await, Relation::Member { read: 1 });
    assert_eq!(relation(&ben).await, Relation::NoRoom);
    for made in [None, Some(&private)] {
        let refused = store.join(&den, &ben, made).await;
        assert!(matches!(refused, Err(StoreError::RoomTaken)), "{refused:?}");
    }
    assert_eq!(store.add(&den, &ana, &ben).await.unwrap(), 2);
    assert_eq!(store.add(&den, &ana, &ben).await.unwrap(), 0);
    assert_eq!(relation(&ben).await, Relation::Member { read: 2 });
    assert_eq!(store.remove(&den, &ana, &ben).await.unwrap(), 3);
    assert_eq!(store.remove(&den, &ana, &ben).await.unwrap(), 0);
    assert_eq!(relation(&ben).await, Relation::NoRoom);
    let log = log(store, &den).await;
    let deed = |event: &Arc<Event>| {
        let deed = event.kind.deed().unwrap_or_default();
        format!("{} {deed}", event.author.username)
    };
    assert_eq!(
        log.iter().map(deed).collect::<Vec<_>>(),
        [
            "ana joined",
            "ben was added by ana",
            "ben was removed by ana"
        ]
    );
    // Told as it is read.
    assert_eq!(opened.told_events(), log);
}

/// Invariant: of those racing to make a room one does, and asking again makes no second.
async fn a_room_is_made_once(backend: Backend) {
    let opened = open(backend).await;
    let store = &opened.store;
    let mut makers = JoinSet::new();
    for number in 0..25 {
        let user = opened.user(&format!("user{number}")).await;
        for _ in 0..2 {
            let (store, user) = (Arc::clone(store), user.clone());
            makers.spawn(async move {
                let private = named("Den", Access::Private);
                let made = store.join(&room("den"), &user, Some(&private)).await;
                (user, made)
            });
        }
    }
    let mut made = Vec::new();
    for (user, result) in makers.join_all().await {
        match result {
            Ok(_) => made.push(user),
            Err(error) => assert!(matches!(error, StoreError::RoomTaken), "{error:?}"),
        }
    }
    let maker = made.first().expect("somebody made it");
    assert!(made.iter().all(|user| user.id == maker.id));
    let again = named("Den", Access::Private);
    let den = room("den");
    assert_eq!(store.join(&den, maker, Some(&again)).await.unwrap(), 0);
    let other = named("Another", Access::Open);
    let other = store.join(&den, maker, Some(&other)).await;
    assert!(matches!(other, Err(StoreError::RoomTaken)));
    assert_eq!(log(store, &den).await.len(), 1);
    assert_eq!(store.owners(&den).await.unwrap(), [maker.id]);
}

async fn whoever_is_banned_stays_out(backend: Backend) {
    let opened = open(backend).await;
    let (store, tea) = (&opened.store, room("tea"));
    let [ana, ben, cleo] = [
        opened.user("ana").await,
        opened.user("ben").await,
        opened.user("cleo").await,
    ];
    for user in [&ana, &ben] {
        store.join(&tea, user, None).await.unwrap();
    }
    // A member, and somebody who never was one; twice.
    assert_eq!(store.ban(&tea, &ana, &ben).await.unwrap(), 3);
    assert_eq!(store.ban(&tea, &ana, &cleo).await.unwrap(), 0);
    assert_eq!(store.ban(&tea, &ana, &ben).await.unwrap(), 0);
    for user in [&ben, &cleo] {
        assert_eq!(store.relation(&tea, user).await.unwrap(), Relation::Banned);
        for refused in [
            store.join(&tea, user, None).await,
            store.add(&tea, &ana, user).await,
        ] {
            assert!(matches!(refused, Err(StoreError::Banned)), "{refused:?}");
        }
        assert_eq!(store.leave(&tea, user).await.unwrap(), 0);
    }
    let names = async || {
        let banned = store.banned(&tea, 10).await.unwrap();
        let names = banned.iter().map(|user| user.username.as_str().to_owned());
        names.collect::<Vec<_>>()
    };
    assert_eq!(names().await, ["ben", "cleo"]);
    assert_eq!(store.count_members(&tea).await.unwrap(), 1);
    let rooms = store.rooms_of(&ben, &Freshness::Now).await.unwrap();
    assert!(rooms.is_empty());

    store.unban(&tea, &ben).await.unwrap();
    assert_eq!(names().await, ["cleo"]);
    let relation = store.relation(&tea, &ben).await.unwrap();
    assert_eq!(relation, Relation::NotMember);
    assert_eq!(store.join(&tea, &ben, None).await.unwrap(), 4);
    let log = log(store, &tea).await;
    let kinds: Vec<&str> = log.iter().map(|event| event.kind.name()).collect();
    assert_eq!(kinds, ["joined", "joined", "left", "joined"]);
}

/// Invariant: whoever is banned while they enter and leave is out in the end, and their events take turns.
async fn banned_while_entering_is_banned(backend: Backend) {
    let opened = open(backend).await;
    let (store, tea) = (&opened.store, room("tea"));
    let ana = opened.user("ana").await;
    store.join(&tea, &ana, None).await.unwrap();
    for number in 0..10 {
        let ben = opened.user(&format!("ben{number}")).await;
        let mut all = JoinSet::new();
        for task in 0..9 {
            let (store, tea) = (Arc::clone(store), tea.clone());
            let (ana, ben) = (ana.clone(), ben.clone());
            all.spawn(async move {
                match task % 3 {
                    0 => store.join(&tea, &ben, None).await,
                    1 => store.leave(&tea, &ben).await,
                    _ => store.ban(&tea, &ana, &ben).await,
                }
            });
        }
        for done in all.join_all().await {
            assert!(matches!(done, Ok(_) | Err(StoreError::Banned)), "{done:?}");
        }
        assert_eq!(store.relation(&tea, &ben).await.unwrap(), Relation::Banned);
        let log = log(store, &tea).await;
        let own = log.iter().filter(|event| event.author.id == ben.id);
        let kinds: Vec<&str> = own.map(|event| event.kind.name()).collect();
        for (at, kind) in kinds.iter().enumerate() {
            assert_eq!(*kind, ["joined", "left"][at % 2], "{kinds:?}");
        }
        assert_eq!(kinds.len() % 2, 0, "the last says that they are out");
    }
}

async fn a_setting_is_told_once(backend: Backend) {
    let opened = open(backend).await;
    let (store, tea) = (&opened.store, room("tea"));
    let ana = opened.user("ana").await;
    store.join(&tea, &ana, None).await.unwrap();
    let name = || Setting::Name(Label::name("Tea Time").unwrap());
    let title = async || {
        let rooms = store.rooms_of(&ana, &Freshness::Now).await.unwrap();
        rooms[0]
            .settings
            .title(&rooms[0].room, &ana.id)
            .into_owned()
    };
    assert_eq!(title().await, "tea");
    let mut all = JoinSet::new();
    for _ in 0..10 {
        let (store, tea, ana, name) = (Arc::clone(store), tea.clone(), ana.clone(), name());
        all.spawn(async move { store.set(&tea, &ana, name).await.unwrap() });
    }
    let told: Vec<Seq> = all.join_all().await;
    assert!(told.iter().all(|seq| matches!(seq, 0 | 2)), "{told:?}");
    assert!(told.contains(&2));
    assert_eq!(title().await, "Tea Time");
    let topic = Setting::Topic(Label::topic("Leaves and cups").unwrap());
    assert_eq!(store.set(&tea, &ana, topic).await.unwrap(), 3);
    let open = Setting::Access(Access::Open);
    assert_eq!(store.set(&tea, &ana, open).await.unwrap(), 4);
    let no_name = Setting::Name(None);
    assert_eq!(store.set(&tea, &ana, no_name).await.unwrap(), 5);
    assert_eq!(title().await, "tea");
    let settings = store.settings(&tea).await.unwrap().unwrap();
    assert_eq!((settings.access, settings.name), (Access::Open, None));
    assert_eq!(settings.topic.unwrap().as_str(), "Leaves and cups");
    let nowhere = store.set(&room("nowhere"), &ana, name()).await;
    assert_eq!(nowhere.unwrap(), 0);
    let log = log(store, &tea).await;
    let kinds: Vec<&str> = log.iter().map(|event| event.kind.name()).collect();
    let expected = ["joined", "renamed", "topic-set", "access-set", "renamed"];
    assert_eq!(kinds, expected);
    assert_eq!(log[1].kind, EventKind::Set(name()));
    let is_quiet = |event: &Arc<Event>| event.messages == 0 && event.kind.is_shown();
    assert!(log.iter().all(is_quiet));
}

async fn open_rooms_are_found_by_a_word(backend: Backend) {
    let opened = open(backend).await;
    let store = &opened.store;
    let [ana, ben] = [opened.user("ana").await, opened.user("ben").await];
    for (id, name, access) in [
        ("tea", "A Tea", Access::Open),
        ("coffee", "ΚΑΦΈΣ", Access::Open),
        ("den", "Tea den", Access::Private),
        ("attic", "Tea attic", Access::Unlisted),
    ] {
        let made = named(name, access);
        store.join(&room(id), &ana, Some(&made)).await.unwrap();
    }
    store.join(&room("tea"), &ben, None).await.unwrap();
    let shown = async || {
        let open = store.open_rooms().await.unwrap();
        let shown = |open: &ListedRoom| format!("{} {}", open.room, open.people);
        open.iter().map(shown).collect::<Vec<_>>()
    };
    assert_eq!(shown().await, ["tea 2", "coffee 1"]);
    let open = store.open_rooms().await.unwrap();
    let found = |word: &str| {
        let found = open.iter().filter(|open| open.has(word));
        found.map(|open| open.room.as_str()).collect::<Vec<_>>()
    };
    assert_eq!(found(""), ["tea", "coffee"]);
    assert_eq!(found("tea"), ["tea"]);
    assert_eq!(found("καφές"), ["coffee"]);
    assert_eq!(found("den"), [""; 0]);
    // Whatever changes them is seen at once by whom it was answered to.
    let set = async |id, setting| store.set(&room(id), &ana, setting).await.unwrap();
    set("den", Setting::Access(Access::Open)).await;
    assert_eq!(shown().await, ["tea 2", "den 1", "coffee 1"]);
    set("coffee", Setting::Archived(true)).await;
    assert_eq!(shown().await, ["tea 2", "den 1"]);
    store.leave(&room("tea"), &ben).await.unwrap();
    assert_eq!(shown().await, ["tea 1", "den 1"]);
    store.leave(&room("den"), &ana).await.unwrap();
    assert_eq!(shown().await, ["tea 1"]);
    set("tea", Setting::Access(Access::Private)).await;
    assert_eq!(shown().await, [""; 0]);
    let made = named("Nook", Access::Open);
    store.join(&room("nook"), &ben, Some(&made)).await.unwrap();
    assert_eq!(shown().await, ["nook 1"]);
}

/// Invariant: the same people have one direct room, whoever of them asks for it when.
async fn a_direct_room_is_one_however_many_start_it(backend: Backend) {
    let opened = open(backend).await;
    let store = &opened.store;
    let mut people = Vec::new();
    for name in ["ana", "ben", "cleo"] {
        people.push(opened.user(name).await);
    }
    let mut all = JoinSet::new();
    for number in 0..50 {
        let (store, mut people) = (Arc::clone(store), people.clone());
        people.rotate_left(number % 3);
        all.spawn(async move { store.join_direct(&people).await.unwrap().0 });
    }
    let rooms: Vec<RoomId> = all.join_all().await;
    let room = &rooms[0];
    assert!(rooms.iter().all(|other| other == room));
    assert!(room.is_direct());
    assert_eq!(log(store, room).await.len(), 3);
    assert_eq!(store.owners(room).await.unwrap(), []);
    let two = store.join_direct(&people[..2]).await.unwrap();
    assert_ne!(two.0, *room);
    let [ana, ben, cleo] = &people[..] else {
        panic!("three");
    };
    let settings = store.settings(room).await.unwrap().unwrap();
    assert_eq!(settings.access, Access::Direct);
    assert_eq!(settings.title(room, &ana.id), "ben, cleo");
    assert_eq!(settings.title(room, &cleo.id), "ana, ben");
    let relation = store.relation(&two.0, cleo).await.unwrap();
    assert_eq!(relation, Relation::NoRoom);
    let rooms = store.rooms_of(ben, &Freshness::Now).await.unwrap();
    assert_eq!(rooms.len(), 2);
    assert!(rooms.iter().all(|room| !room.is_listed()));
    let title =
        |room: &parlor::domain::RoomSummary| room.settings.title(&room.room, &ben.id).into_owned();
    let mut titles: Vec<String> = rooms.iter().map(title).collect();
    titles.sort();
    assert_eq!(titles, ["ana", "ana, cleo"]);
}

/// Invariant: `joined` and `left` take turns, whoever bans and lets in at once.
async fn bans_and_their_ends_leave_whole_memberships(backend: Backend) {
    let opened = open(backend).await;
    let (store, tea) = (&opened.store, room("tea"));
    let [ana, ben] = [opened.user("ana").await, opened.user("ben").await];
    store.join(&tea, &ana, None).await.unwrap();
    for _ in 0..15 {
        store.join(&tea, &ben, None).await.unwrap();
        let mut all = JoinSet::new();
        for number in 0..6 {
            let (store, tea, ana, ben) = (Arc::clone(store), tea.clone(), ana.clone(), ben.clone());
            all.spawn(async move {
                match number % 2 {
                    0 => store.ban(&tea, &ana, &ben).await.map(drop).unwrap(),
                    _ => store.unban(&tea, &ben).await.unwrap(),
                }
            });
        }
        all.join_all().await;
        store.unban(&tea, &ben).await.unwrap();
        let log = log(store, &tea).await;
        let own: Vec<&str> = { log.iter() }
            .filter(|event| event.author.id == ben.id)
            .map(|event| event.kind.name())
            .collect();
        let turns = own.chunks(2).all(|turn| turn == ["joined", "left"]);
        assert!(turns, "{own:?}");
    }
}

async fn people_are_listed_page_by_page(backend: Backend) {
    let opened = open(backend).await;
    let (store, tea) = (&opened.store, room("tea"));
    for name in ["dan", "ana", "Cleo", "ben", "anton"] {
        let user = opened.user(name).await;
        store.join(&tea, &user, None).await.unwrap();
    }
    opened.user("andy").await;
    let page = async |prefix: &str, after: &str| {
        let people = store.people(&tea, prefix.to_owned(), after.to_owned(), 2);
        let people = people.await.unwrap();
        let names = people.iter().map(|one| one.user.username.as_str());
        names.map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(page("", "").await, ["ana", "anton"]);
    assert_eq!(page("", "anton").await, ["ben", "Cleo"]);
    let cleo = parlor::domain::Username::parse("Cleo").unwrap().key();
    assert_eq!(page("", &cleo).await, ["dan"]);
    assert_eq!(page("an", "ana").await, ["anton"]);
    assert_eq!(page("x", "").await, [""; 0]);
}

/// Invariant: of several who set different values each is told once, and the last told is in force.
async fn settings_that_differ_are_each_told_once(backend: Backend) {
    let opened = open(backend).await;
    let (store, tea) = (&opened.store, room("tea"));
    let ana = opened.user("ana").await;
    store.join(&tea, &ana, None).await.unwrap();
    let mut all = JoinSet::new();
    for number in 0..12 {
        let (store, tea, ana) = (Arc::clone(store), tea.clone(), ana.clone());
        let name = Label::name(&format!("name {}", number % 4)).unwrap();
        all.spawn(async move { store.set(&tea, &ana, Setting::Name(name)).await.unwrap() });
    }
    all.join_all().await;
    let log = log(store, &tea).await;
    assert!(log.len() <= 13, "{} events", log.len());
    let last = log.last().unwrap();
    let settings = store.settings(&tea).await.unwrap().unwrap();
    assert_eq!(last.kind, EventKind::Set(Setting::Name(settings.name)));
    // Each says something new.
    for two in log.windows(2) {
        assert_ne!(two[0].kind, two[1].kind);
    }
}

async fn a_demotion_stands_while_others_are_promoted(backend: Backend) {
    let opened = open(backend).await;
    let (store, tea) = (&opened.store, room("tea"));
    let mut people = Vec::new();
    for name in ["ana", "ben", "cleo"] {
        let user = opened.user(name).await;
        store.join(&tea, &user, None).await.unwrap();
        people.push(user.id);
    }
    let [ana, ben, cleo] = people[..] else {
        panic!("three");
    };
    for _ in 0..10 {
        store.set_role(&tea, ben, Role::Owner).await.unwrap();
        store.set_role(&tea, cleo, Role::Member).await.unwrap();
        let (promoted, demoted) = tokio::join!(
            store.set_role(&tea, cleo, Role::Owner),
            store.set_role(&tea, ben, Role::Member)
        );
        assert!(promoted.unwrap() && demoted.unwrap());
        let owners = store.owners(&tea).await.unwrap();
        assert!(owners.contains(&ana) && owners.contains(&cleo) && !owners.contains(&ben));
    }
}
