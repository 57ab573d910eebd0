//! The suite: eight writers, three who change what they have written, two who keep private rooms, twelve readers, four visitors, one fault
//! after another. After each fault: every acknowledged message is in the log once, every message is as the last
//! acknowledged change made it, every private room has the people and owners that were acknowledged last, the logs have no gap, every reader ends with what the log has, and no visitor
//! has seen one shrink.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::Mutex;
use tokio::task::JoinSet;

use crate::actors::{
    Acknowledged, Kept, Orders, ROOMS, Settled, changer, keeper, reader, take_in, visitor, writer,
};
use crate::cluster::{Cluster, Shared};
use crate::faults::{Fault, break_things};
use crate::history::History;
use crate::support::{Person, eventually};

const WRITERS: usize = 8;
const CHANGERS: usize = 3;
const KEEPERS: usize = 2;
const VISITORS: usize = 4;
const NODES: usize = 3;

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_whatever_breaks() {
    let seconds = std::env::var("CHAOS_SECONDS").map_or(15, |seconds| {
        seconds.parse().expect("CHAOS_SECONDS takes a whole number")
    });
    let history = History::new();
    let cluster = Cluster::start(NODES, Duration::from_secs(2)).await;
    let bases: Vec<String> = (0..NODES).map(|node| cluster.base(node)).collect();
    let mut people = Vec::new();
    for number in 0..WRITERS {
        let person = cluster.person(&format!("writer-{number}")).await;
        for room in ROOMS {
            person.enters(room).await;
        }
        people.push(person);
    }
    let cluster: Shared = Arc::new(Mutex::new(cluster));

    let mut acknowledged = Vec::new();
    for fault in [
        Fault::Calm,
        Fault::PrimaryKilled,
        Fault::StepDowns,
        Fault::NodesKilled,
        Fault::NetworkCut,
        Fault::EverythingAtOnce,
    ] {
        history.note("suite", json!(format!("{fault:?}")));
        let before = acknowledged.len();
        let storm = Storm {
            fault,
            people: &people,
            bases: &bases,
            history: &history,
            cluster: &cluster,
        };
        storm
            .rage(Duration::from_secs(seconds), &mut acknowledged)
            .await;
        eprintln!("{fault:?}: {} posts", acknowledged.len() - before);
        history.check();
    }
    // Of those who read and wrote, only who is here now is shown, on every node; and then nobody.
    let stream = people[0].at(&bases[0]).listens("tea", 0).await;
    everywhere_shown(&people[1], &bases, &["writer-0"]).await;
    drop(stream);
    everywhere_shown(&people[1], &bases, &[]).await;
    drop(cluster);
}

async fn everywhere_shown(person: &Person, bases: &[String], names: &[&str]) {
    for base in bases {
        let there = person.at(base);
        let shown = async || there.json("/rooms/tea").await["present"]["names"] == json!(names);
        let what = format!("{base} shows that {names:?} are here");
        eventually(&what, Duration::from_secs(40), shown).await;
    }
}

struct Storm<'a> {
    fault: Fault,
    people: &'a [Person],
    bases: &'a [String],
    history: &'a History,
    cluster: &'a Shared,
}

impl Storm<'_> {
    async fn rage(&self, longest: Duration, acknowledged: &mut Vec<Acknowledged>) {
        let stop = Arc::new(AtomicBool::new(false));
        let mut writers = JoinSet::new();
        for (number, person) in self.people.iter().enumerate() {
            let name = format!("{:?}-w{number}", self.fault);
            let at = self.everywhere(person);
            writers.spawn(writer(name, at, self.history.clone(), Arc::clone(&stop)));
        }
        let mut changers = JoinSet::new();
        for (number, person) in self.people.iter().enumerate().take(CHANGERS) {
            let name = format!("{:?}-c{number}", self.fault);
            let at = self.everywhere(person);
            changers.spawn(changer(name, at, self.history.clone(), Arc::clone(&stop)));
        }
        let mut keepers = JoinSet::new();
        for (number, person) in self.people.iter().enumerate().take(KEEPERS) {
            let name = format!("{:?}-k{number}", self.fault);
            let guest = self.people[number + 1].name.clone();
            let at = self.everywhere(person);
            keepers.spawn(keeper(
                name,
                guest,
                at,
                self.history.clone(),
                Arc::clone(&stop),
            ));
        }
        let mut visitors = JoinSet::new();
        for (number, room) in ROOMS.into_iter().cycle().take(VISITORS).enumerate() {
            let name = format!("{:?}-v{number}", self.fault);
            let at = self.everywhere(&self.people[number % WRITERS]);
            let (history, stop) = (self.history.clone(), Arc::clone(&stop));
            visitors.spawn(visitor(name, room, at, history, stop));
        }
        let orders = ROOMS.map(|_| {
            Arc::new(Orders {
                until: AtomicU64::new(0),
            })
        });
        let mut readers = JoinSet::new();
        for (room, orders) in ROOMS.into_iter().zip(&orders) {
            let everywhere = self.everywhere(&self.people[0]);
            let own_node = everywhere.iter().map(|person| vec![person.clone()]);
            let all: Vec<Vec<Person>> = own_node.chain([everywhere.clone()]).collect();
            for (number, at) in all.into_iter().enumerate() {
                let name = format!("{:?}-{room}-r{number}", self.fault);
                let reading = reader(
                    name.clone(),
                    room,
                    at,
                    self.history.clone(),
                    Arc::clone(orders),
                );
                readers.spawn(async move { (name, room, reading.await) });
            }
        }

        break_things(self.fault, longest, self.cluster, self.history).await;
        self.cluster.lock().await.is_ready().await;
        stop.store(true, Ordering::Relaxed);
        let pages: usize = visitors.join_all().await.into_iter().sum();
        eprintln!("{:?}: {pages} pages", self.fault);
        if pages == 0 {
            self.history
                .broken("visitors", "have seen no page".to_owned());
        }
        acknowledged.extend(writers.join_all().await.into_iter().flatten());
        let settled: Vec<Settled> = changers.join_all().await.into_iter().flatten().collect();
        eprintln!("{:?}: {} messages changed", self.fault, settled.len());
        let kept: Vec<Kept> = keepers.join_all().await.into_iter().flatten().collect();
        eprintln!("{:?}: {} private rooms", self.fault, kept.len());
        for kept in &kept {
            self.check_kept(kept).await;
        }

        let mut logs = Vec::new();
        for (room, orders) in ROOMS.into_iter().zip(&orders) {
            let mut log = Vec::new();
            for event in self.people[0].log(room).await {
                take_in(&mut log, event);
            }
            orders.until.store(log.len() as u64, Ordering::Relaxed);
            logs.push((room, log));
        }
        for (room, log) in &logs {
            self.check_log(room, log, acknowledged);
            self.check_settled(room, log, &settled);
        }
        for (name, room, read) in readers.join_all().await {
            let log = logs.iter().find(|(of, _)| *of == room).map(|(_, log)| log);
            if log != Some(&read) {
                self.history
                    .broken(&name, "has not read the log".to_owned());
            }
        }
    }

    fn everywhere(&self, person: &Person) -> Vec<Person> {
        self.bases.iter().map(|base| person.at(base)).collect()
    }

    /// Every node says of the room's guest what was acknowledged last, and they have come and gone in turns.
    async fn check_kept(&self, kept: &Kept) {
        let keepers = self.people.iter().zip(&self.people[1..]);
        let keeper = { keepers }.find(|(_, guest)| guest.name == kept.guest);
        let (keeper, _) = keeper.expect("a keeper's guest is the next writer");
        let path = format!("/rooms/{}/people", kept.room);
        for there in self.everywhere(keeper) {
            let is_so = async || {
                let people = there.json(&path).await;
                let all = people["people"].as_array().cloned().unwrap_or_default();
                let guest = all
                    .iter()
                    .find(|one| one["username"] == kept.guest.as_str());
                let role = guest.map(|one| one["role"] == "owner");
                role == kept.is_member.then_some(kept.is_owner)
            };
            eventually(
                &format!("{} says {kept:?}", there.base),
                Duration::from_secs(10),
                is_so,
            )
            .await;
        }
        let log = keeper.log(&kept.room).await;
        let is_guests = |event: &&Value| event["author"]["username"] == kept.guest.as_str();
        let kinds = log
            .iter()
            .filter(is_guests)
            .map(|event| event["type"].as_str());
        for (number, kind) in kinds.enumerate() {
            let expected = if number % 2 == 0 { "joined" } else { "left" };
            if kind != Some(expected) {
                self.history
                    .broken(&kept.room, format!("{kind:?} is number {number}"));
            }
        }
    }

    fn check_settled(&self, room: &str, log: &[Value], settled: &[Settled]) {
        for settled in settled.iter().filter(|settled| settled.room == room) {
            let stands = log.get(settled.seq as usize - 1).unwrap_or(&Value::Null);
            let is_liked = stands["reactions"]
                .as_array()
                .is_some_and(|all| !all.is_empty());
            let is_deleted = stands["deleted_at"].is_string();
            if stands["body"].as_str() != settled.body.as_deref()
                || is_liked != settled.is_liked
                || is_deleted != settled.body.is_none()
            {
                self.history
                    .broken(room, format!("{settled:?} stands as {stands}"));
            }
        }
    }

    /// `log` has no gap: whoever read it has checked that.
    fn check_log(&self, room: &str, log: &[Value], acknowledged: &[Acknowledged]) {
        for Acknowledged { seq, body, .. } in acknowledged.iter().filter(|said| said.room == room) {
            let stands = log.get(*seq as usize - 1).map(|event| &event["body"]);
            if stands.and_then(Value::as_str) != Some(body) {
                let how = format!("{body} was acknowledged as {seq}, where {stands:?} stands");
                self.history.broken(room, how);
            }
        }
        let mut bodies = HashSet::new();
        for body in log.iter().filter_map(|event| event["body"].as_str()) {
            if !bodies.insert(body) {
                self.history.broken(room, format!("{body} stands twice"));
            }
        }
    }
}
