use std::collections::HashSet;

use async_trait::async_trait;
use tokio::time::timeout;
use tokio_stream::StreamExt;

use super::*;
use crate::domain::testing::event;
use crate::domain::{
    Epoch, NewEvent, Nonce, PasswordChange, SeenSession, SessionId, SignIn, Timestamp, Username,
};
use crate::live::ByteStream;
use crate::live::room::tests::renderer;
use crate::metrics::Metrics;
use crate::store::{Appended, Freshness, History, LogPlace, OnChange, Written};

/// A log of which not everything is told, and sessions that end.
#[derive(Default)]
struct Fake {
    head: Mutex<Seq>,
    reads: Mutex<usize>,
    has_ended: Mutex<bool>,
    has_left: Mutex<bool>,
    /// Stands in the log at its number.
    left: Mutex<Option<Arc<Event>>>,
}

#[async_trait]
impl Log for Fake {
    fn epoch(&self) -> Epoch {
        0
    }

    async fn append(&self, _: &RoomId, _: NewEvent) -> Result<Appended, StoreError> {
        Err(StoreError::Busy)
    }

    async fn find_by_nonce(
        &self,
        _: &RoomId,
        _: UserId,
        _: &Nonce,
    ) -> Result<Option<Arc<Event>>, StoreError> {
        Ok(None)
    }

    async fn written_by(&self, _: UserId, _: Option<LogPlace>) -> Result<Written, StoreError> {
        Ok(Written {
            messages: Vec::new(),
            next: None,
        })
    }

    async fn reaches(&self, _: &RoomId, seq: Seq) -> Result<bool, StoreError> {
        Ok(seq <= *self.head.lock().unwrap())
    }

    async fn heads(&self, rooms: &[RoomId]) -> Result<Vec<Seq>, StoreError> {
        Ok(vec![*self.head.lock().unwrap(); rooms.len()])
    }

    async fn page_after(
        &self,
        _: &RoomId,
        after: Seq,
        limit: usize,
    ) -> Result<Vec<Arc<Event>>, StoreError> {
        *self.reads.lock().unwrap() += 1;
        let head = *self.head.lock().unwrap();
        let left = self.left.lock().unwrap().clone();
        let at = |seq| {
            let left = left.clone().filter(|left| left.seq == seq);
            left.unwrap_or_else(|| event(seq))
        };
        Ok((after + 1..=head).take(limit).map(at).collect())
    }

    async fn newest(&self, _: &RoomId, _: usize, _: &Freshness) -> Result<History, StoreError> {
        Ok(History {
            entries: Vec::new(),
            head: 0,
        })
    }

    async fn page_before(
        &self,
        _: &RoomId,
        _: Seq,
        _: usize,
    ) -> Result<Vec<Arc<Event>>, StoreError> {
        Ok(Vec::new())
    }
}

#[async_trait]
impl Sessions for Fake {
    async fn add_session(&self, _: SignIn) -> Result<bool, StoreError> {
        Ok(true)
    }

    async fn sessions_of(&self, _: UserId) -> Result<Vec<SeenSession>, StoreError> {
        Ok(Vec::new())
    }

    async fn note_seen(&self, _: SessionId, _: &str) -> Result<(), StoreError> {
        Ok(())
    }

    async fn revoke_sessions(&self, _: UserId, _: Option<SessionId>) -> Result<(), StoreError> {
        Ok(())
    }

    async fn set_password(&self, _: PasswordChange) -> Result<bool, StoreError> {
        Ok(true)
    }

    async fn find_session(&self, _: SessionId) -> Result<Option<(Session, User)>, StoreError> {
        let has_ended = *self.has_ended.lock().unwrap();
        Ok((!has_ended).then(|| (session(), ana())))
    }

    async fn live_sessions(&self, ids: &[SessionId]) -> Result<HashSet<SessionId>, StoreError> {
        let has_ended = *self.has_ended.lock().unwrap();
        Ok(ids.iter().copied().filter(|_| !has_ended).collect())
    }

    async fn revoke_session(&self, _: SessionId) -> Result<(), StoreError> {
        Ok(())
    }
}

#[async_trait]
impl Members for Fake {
    async fn members_named(&self, _: &RoomId, _: Vec<String>) -> Result<Vec<User>, StoreError> {
        Ok(Vec::new())
    }

    async fn members_called(
        &self,
        _: &RoomId,
        _: String,
        _: usize,
    ) -> Result<Vec<User>, StoreError> {
        Ok(Vec::new())
    }

    async fn people(
        &self,
        _: &RoomId,
        _: String,
        _: String,
        _: usize,
    ) -> Result<Vec<crate::domain::Person>, StoreError> {
        Ok(Vec::new())
    }

    async fn members_among(
        &self,
        pairs: &[(RoomId, UserId)],
    ) -> Result<HashSet<(RoomId, UserId)>, StoreError> {
        let has_left = *self.has_left.lock().unwrap();
        Ok(pairs.iter().filter(|_| !has_left).cloned().collect())
    }

    async fn count_members(&self, _: &RoomId) -> Result<u64, StoreError> {
        Ok(0)
    }
}

fn ana() -> User {
    User {
        id: UserId::new(),
        username: Username::parse("ana").unwrap(),
    }
}

fn session() -> Session {
    Session {
        id: SessionId::new(),
        user: UserId::new(),
        created_at: Timestamp::now(),
        expires_at: Timestamp::now().after(Duration::from_secs(600)),
    }
}

struct Started {
    log: Arc<Fake>,
    hub: Hub,
    on_change: OnChange,
}

fn start(head: Seq) -> Started {
    let log = Arc::new(Fake {
        head: Mutex::new(head),
        ..Fake::default()
    });
    let builder = HubBuilder::new(10, &Metrics::default(), renderer());
    let on_change = builder.on_change();
    let hub = builder.start(log.clone(), log.clone(), log.clone(), None);
    Started {
        log,
        hub,
        on_change,
    }
}

impl Started {
    async fn stream(&self) -> ByteStream {
        let tea = RoomId::parse("tea").unwrap();
        let subscriber = self
            .hub
            .follow(&tea, Format::Text, &ana(), &session())
            .await;
        ByteStream::new(subscriber.unwrap(), &self.hub)
    }

    /// Has the log say that the user whose only stream is open leaves.
    fn leaves_at(&self, seq: Seq) -> Arc<Event> {
        let mut left = Event::clone(&event(seq));
        left.kind = EventKind::Left { by: None };
        left.author.id = self.hub.streams().members()[0].1;
        let left = Arc::new(left);
        *self.log.left.lock().unwrap() = Some(Arc::clone(&left));
        left
    }

    /// Appends up to `head`, and tells of it only.
    fn appends_telling(&self, head: Seq, told: &[Seq]) {
        *self.log.head.lock().unwrap() = head;
        for seq in told {
            (self.on_change)(Change::Appended(event(*seq)));
        }
    }
}

/// The numbers that a stream brings until it has brought `last`.
async fn numbers(stream: &mut ByteStream, last: Seq) -> Vec<Seq> {
    let mut numbers = Vec::new();
    while numbers.last() != Some(&last) {
        let next = timeout(Duration::from_secs(5), stream.next()).await;
        let bytes = next.expect("it comes soon").expect("it goes on");
        let text = std::str::from_utf8(&bytes).unwrap();
        numbers.extend(text.lines().map(|line| {
            let (_, number) = line.rsplit_once(' ').unwrap();
            number.parse::<Seq>().unwrap()
        }));
    }
    numbers
}

#[tokio::test]
async fn a_stream_brings_what_comes_after_it_was_opened() {
    let started = start(7);
    let mut stream = started.stream().await;
    started.appends_telling(9, &[8, 8, 9, 8]);
    assert_eq!(numbers(&mut stream, 9).await, [8, 9]);
    assert_eq!(*started.log.reads.lock().unwrap(), 0);
}

#[tokio::test]
async fn what_nobody_told_of_is_read_once_for_all() {
    let started = start(0);
    let mut streams = Vec::new();
    for _ in 0..5 {
        streams.push(started.stream().await);
    }
    started.appends_telling(5, &[1, 4, 5]);
    for stream in &mut streams {
        assert_eq!(numbers(stream, 5).await, [1, 2, 3, 4, 5]);
    }
    assert_eq!(*started.log.reads.lock().unwrap(), 1);
}

#[tokio::test]
async fn a_resync_finds_what_was_missed() {
    let started = start(0);
    let mut stream = started.stream().await;
    started.appends_telling(3, &[]);
    (started.on_change)(Change::Resync);
    assert_eq!(numbers(&mut stream, 3).await, [1, 2, 3]);
    *started.log.has_ended.lock().unwrap() = true;
    (started.on_change)(Change::Resync);
    let ended = timeout(Duration::from_secs(5), stream.next()).await;
    assert!(ended.unwrap().is_none(), "its session was revoked");
}

#[tokio::test]
async fn at_the_end_a_stream_brings_what_was_acknowledged_before() {
    let started = start(0);
    let mut stream = started.stream().await;
    started.appends_telling(2, &[1, 2]);
    started.hub.streams().shut_down();
    assert_eq!(numbers(&mut stream, 2).await, [1, 2]);
    assert!(stream.next().await.is_none());
}

#[tokio::test]
async fn a_room_without_subscribers_is_forgotten() {
    let started = start(0);
    let stream = started.stream().await;
    assert_eq!(started.hub.0.shared.rooms().len(), 1);
    drop(stream);
    tokio::time::sleep(PRESENCE_EVERY * 2).await;
    assert_eq!(started.hub.0.shared.rooms().len(), 0);
}

/// Invariant: when messages may have been deleted unheard, nothing that was kept ready is sent any more.
#[tokio::test]
async fn what_was_kept_ready_is_read_again_when_it_may_be_out_of_date() {
    let started = start(7);
    let mut slow = started.stream().await;
    started.appends_telling(9, &[8, 9]);
    (started.on_change)(Change::Distrust);
    assert_eq!(numbers(&mut slow, 9).await, [8, 9]);
    assert_eq!(*started.log.reads.lock().unwrap(), 1, "from the store");
}

/// Invariant: a `left` that is told late or twice ends no stream of somebody who has come back.
#[tokio::test]
async fn a_stream_ends_with_its_membership_and_not_with_an_earlier_one() {
    let started = start(0);
    let mut stream = started.stream().await;
    let left = started.leaves_at(1);
    let tell = || (started.on_change)(Change::Appended(Arc::clone(&left)));
    started.appends_telling(1, &[]);
    tell();
    while !stream.next().await.unwrap().ends_with(b" ana left\n") {}
    tokio::time::sleep(Duration::from_millis(50)).await;
    started.appends_telling(2, &[2]);
    // Between heartbeats.
    while !stream.next().await.unwrap().ends_with(b"number 2\n") {}
    *started.log.has_left.lock().unwrap() = true;
    tell();
    let ends = async { while stream.next().await.is_some() {} };
    let ended = timeout(Duration::from_secs(5), ends).await;
    assert!(ended.is_ok(), "they are no member any more");
}

/// Invariant: whoever has left is sent nothing that comes after it, however it is heard of.
#[tokio::test]
async fn nothing_is_sent_after_the_end_of_a_membership() {
    for told in [&[1, 2, 3][..], &[3], &[]] {
        let started = start(0);
        let mut stream = started.stream().await;
        let left = started.leaves_at(1);
        *started.log.has_left.lock().unwrap() = true;
        for seq in told {
            started.appends_telling(3, &[]);
            let event = if *seq == 1 {
                Arc::clone(&left)
            } else {
                event(*seq)
            };
            (started.on_change)(Change::Appended(event));
        }
        if told.is_empty() {
            started.appends_telling(3, &[]);
            (started.on_change)(Change::Resync);
        }
        let mut sent = Vec::new();
        let rest = async {
            while let Some(bytes) = stream.next().await {
                sent.extend_from_slice(&bytes);
            }
        };
        let ended = timeout(Duration::from_secs(5), rest).await;
        let sent = String::from_utf8(sent).unwrap();
        assert!(ended.is_ok(), "{told:?}: {sent}");
        assert!(!sent.contains("number"), "{told:?}: {sent}");
    }
}
