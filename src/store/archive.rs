//! Everything a store keeps, as lines of JSON: what `parlor export` writes and `parlor import`
//! reads, whichever database is behind it.
//!
//! The order is fixed, so that equal stores have equal exports: a head, then memberships, sessions,
//! rooms, events and users, each sorted by its key, then an end with the counts. What is read first
//! refers to what is read later and not the other way round. So an export of a store in use is
//! whole: it has every user whom it mentions, and of each room a part of the log without gaps.

use std::collections::{HashMap, HashSet};
use std::io::BufRead;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, bail, ensure};
use serde::{Deserialize, Serialize};

use crate::domain::{Epoch, EventKind, RoomId, Seq, SessionId, UserId};

/// What [`Record::Parlor`] says: a number for each change of the format.
pub const VERSION: u32 = 1;

/// One line. Times are milliseconds since 1970.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "record", rename_all = "snake_case", deny_unknown_fields)]
pub enum Record {
    /// The head.
    Parlor {
        /// [`VERSION`].
        version: u32,
        /// The store's, so that readers' places in the logs stay good.
        epoch: Epoch,
    },
    /// Somebody is in a room.
    Membership {
        /// Who.
        user: String,
        /// Where.
        room: String,
        /// Since when.
        joined_at: i64,
        /// The last event they have read.
        #[serde(default)]
        read: Seq,
    },
    /// A sign-in that is neither revoked nor over.
    Session {
        /// Its id.
        id: String,
        /// Whose it is.
        user: String,
        /// When it was made.
        created_at: i64,
        /// When it ends by itself.
        expires_at: i64,
    },
    /// A room.
    Room {
        /// Its id.
        id: String,
        /// When it was made.
        created_at: i64,
    },
    /// An event of a room's log.
    Event(EventRecord),
    /// An account.
    User {
        /// Its id.
        id: String,
        /// As typed.
        username: String,
        /// As typed.
        email: String,
        /// A PHC string.
        password_hash: String,
        /// When it was made.
        created_at: i64,
    },
    /// The end: an export that was cut off has none.
    End(Counts),
}

/// An event as it is kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EventRecord {
    /// Whose log.
    pub room: String,
    /// Its number there.
    pub seq: Seq,
    /// When it was appended.
    pub at: i64,
    /// [`EventKind::name`].
    pub r#type: String,
    /// Who did it.
    pub author: String,
    /// What they were called then.
    pub author_name: String,
    /// What was said.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub body: Option<String>,
    /// What makes repeating it safe.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub nonce: Option<String>,
    /// How many messages the log holds up to here. Not written: it follows from the log.
    #[serde(skip)]
    pub messages: u64,
}

/// How many there are of each.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Counts {
    pub memberships: u64,
    pub sessions: u64,
    pub rooms: u64,
    pub events: u64,
    pub users: u64,
}

impl Counts {
    fn count(&mut self, record: &Record) {
        match record {
            Record::Parlor { .. } | Record::End(_) => {}
            Record::Membership { .. } => self.memberships += 1,
            Record::Session { .. } => self.sessions += 1,
            Record::Room { .. } => self.rooms += 1,
            Record::Event(_) => self.events += 1,
            Record::User { .. } => self.users += 1,
        }
    }
}

impl std::fmt::Display for Counts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} users, {} rooms, {} events",
            self.users, self.rooms, self.events
        )
    }
}

/// Takes the records of an export one by one, counts them, and adds the end.
pub struct Exporter<'a> {
    take: &'a mut (dyn FnMut(&Record, &Counts) -> anyhow::Result<()> + Send),
    counts: Counts,
}

impl<'a> Exporter<'a> {
    /// Passes each record, with the counts so far, to `take`.
    pub fn new(take: &'a mut (dyn FnMut(&Record, &Counts) -> anyhow::Result<()> + Send)) -> Self {
        Self {
            take,
            counts: Counts::default(),
        }
    }

    /// Writes the first record.
    pub(super) fn begin(&mut self, epoch: Epoch) -> anyhow::Result<()> {
        self.put(&Record::Parlor {
            version: VERSION,
            epoch,
        })
    }

    pub(super) fn put(&mut self, record: &Record) -> anyhow::Result<()> {
        self.counts.count(record);
        (self.take)(record, &self.counts)
    }

    /// Writes the last record.
    pub(super) fn end(mut self) -> anyhow::Result<Counts> {
        self.put(&Record::End(self.counts))?;
        Ok(self.counts)
    }
}

/// Reads an export and checks it as it goes: nothing is missing, nothing is out of order.
pub struct Importer<'a> {
    lines: std::io::Lines<&'a mut dyn BufRead>,
    line: u64,
    stage: u8,
    counts: Counts,
    /// The log that is being read: its room, its head, and its messages up to there.
    log: (String, Seq, u64),
    /// How many events of it each room has; filled by the rooms, checked by the events.
    rooms: HashMap<String, Seq>,
    /// Users and rooms that were mentioned and have not come yet.
    owed: HashSet<String>,
    is_over: bool,
    progress: &'a mut dyn FnMut(&Counts),
}

impl<'a> Importer<'a> {
    /// Reads from `input`, telling `progress` of what was read.
    pub fn new(input: &'a mut dyn BufRead, progress: &'a mut dyn FnMut(&Counts)) -> Self {
        Self {
            lines: input.lines(),
            line: 0,
            stage: 0,
            counts: Counts::default(),
            log: (String::new(), 0, 0),
            rooms: HashMap::new(),
            owed: HashSet::new(),
            is_over: false,
            progress,
        }
    }

    /// The first record: the epoch of the store that was exported.
    pub(super) fn begin(&mut self) -> anyhow::Result<Epoch> {
        match self.next_line()? {
            Some(Record::Parlor { version, epoch }) => {
                ensure!(
                    version == VERSION,
                    "this export is of version {version}; this parlor reads version {VERSION}"
                );
                ensure!(
                    i64::try_from(epoch).is_ok(),
                    "this export’s epoch is no number we gave"
                );
                Ok(epoch)
            }
            _ => bail!("this is not what parlor export writes"),
        }
    }

    /// The next record, checked; `None` at the end, which is checked too.
    pub(super) fn next(&mut self) -> anyhow::Result<Option<Record>> {
        let Some(mut record) = self.next_line()? else {
            ensure!(
                self.is_over,
                "this export was cut off after line {}",
                self.line
            );
            return Ok(None);
        };
        self.check(&mut record)
            .with_context(|| format!("line {} of this export is wrong", self.line))?;
        if let Record::End(_) = record {
            self.is_over = true;
            return self.next();
        }
        self.counts.count(&record);
        (self.progress)(&self.counts);
        Ok(Some(record))
    }

    /// What was read so far.
    pub(super) fn counts(&self) -> Counts {
        self.counts
    }

    fn next_line(&mut self) -> anyhow::Result<Option<Record>> {
        let Some(line) = self.lines.next() else {
            return Ok(None);
        };
        self.line += 1;
        let line = line.context("cannot read the export")?;
        let record = serde_json::from_str(&line)
            .with_context(|| format!("line {} of this export cannot be read", self.line))?;
        Ok(Some(record))
    }

    fn check(&mut self, record: &mut Record) -> anyhow::Result<()> {
        ensure!(!self.is_over, "something follows the end");
        let stage = match record {
            Record::Parlor { .. } => 0,
            Record::Membership { user, room, .. } => {
                self.owes_user(user)?;
                is_written_like(room, &RoomId::parse(room)?)?;
                self.owed.insert(format!("room {room}"));
                1
            }
            Record::Session { id, user, .. } => {
                is_written_like(id, &SessionId::parse(id)?)?;
                self.owes_user(user)?;
                2
            }
            Record::Room { id, .. } => {
                is_written_like(id, &RoomId::parse(id)?)?;
                self.owed.remove(&format!("room {id}"));
                self.rooms.insert(id.clone(), 0);
                3
            }
            Record::Event(event) => {
                self.check_event(event)?;
                4
            }
            Record::User { id, .. } => {
                is_written_like(id, &UserId::parse(id)?)?;
                self.owed.remove(&format!("user {id}"));
                5
            }
            Record::End(counts) => {
                let missing = self.owed.iter().next();
                ensure!(
                    missing.is_none(),
                    "{} is missing",
                    missing.map_or("", |it| it)
                );
                ensure!(
                    *counts == self.counts,
                    "the end counts other records than there are"
                );
                6
            }
        };
        ensure!(stage >= self.stage.max(1), "it is out of order");
        self.stage = stage;
        Ok(())
    }

    fn owes_user(&mut self, user: &str) -> anyhow::Result<()> {
        is_written_like(user, &UserId::parse(user)?)?;
        self.owed.insert(format!("user {user}"));
        Ok(())
    }

    fn check_event(&mut self, event: &mut EventRecord) -> anyhow::Result<()> {
        self.owes_user(&event.author)?;
        let (room, head, messages) = &mut self.log;
        if *room != event.room {
            let seen = self.rooms.get(&event.room);
            ensure!(
                seen == Some(&0),
                "the log of {} comes twice, or has no room",
                event.room
            );
            (*room, *head, *messages) = (event.room.clone(), 0, 0);
        }
        ensure!(
            event.seq == *head + 1,
            "the log of {} has a gap at {}",
            room,
            *head + 1
        );
        let kind = EventKind::stored(&event.r#type, event.body.as_deref());
        *head += 1;
        *messages += u64::from(kind.is_message());
        event.messages = *messages;
        self.rooms.insert(event.room.clone(), *head);
        Ok(())
    }
}

/// An id in another spelling would be kept and never found.
fn is_written_like(id: &str, parsed: &impl ToString) -> anyhow::Result<()> {
    ensure!(parsed.to_string() == id, "{id:?} is no id");
    Ok(())
}

/// For a store that goes back in time: higher than the newest epoch that is known and, being the
/// time, than those nobody remembers, of a store that went back before and is gone.
pub(super) fn newer_epoch(newest: Epoch) -> Epoch {
    seconds_since_1970().max(newest + 1)
}

pub(super) fn seconds_since_1970() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}
