//! The checker: whether records could have been written by this program or an earlier version.

use std::collections::{HashMap, HashSet};

use anyhow::ensure;

use super::record::{Counts, EventRecord, ReactionRecord, Record, VERSION};
use super::values::{
    EPOCH_MAX, are_words, is_body, is_claim, is_email, is_emoji, is_label, is_moment, is_name,
    is_nonce, is_password_hash, is_written_like,
};
use crate::domain::{
    Access, AccountRole, AuditId, EventKind, KeptMessages, Label, Level, Mentions, Posting,
    Reactions, Role, RoomId, Seq, SessionId, SignUpPolicy, UserId, Username,
};

/// The last of the stages, which are the kinds of record in their order.
const STAGE_OF_END: u8 = 11;

/// Checks the records of a store one by one, in the order of an export. An export or a backup may come
/// from anywhere, so each must be one that this or an earlier version could have written.
#[derive(Default)]
pub(in crate::store) struct Checker {
    stage: u8,
    pub(super) counts: Counts,
    /// The key of the record before, within its stage.
    last: String,
    /// The log that is being read: its room, its head, and its messages up to there.
    log: (String, Seq, u64),
    /// How many events of it each room has; filled by the rooms, checked by the events.
    rooms: HashMap<String, Seq>,
    /// How far somebody has read in each room, or a message's state goes.
    read: HashMap<String, Seq>,
    /// Users and rooms that were mentioned and have not come yet.
    owed: HashSet<String>,
}

impl Checker {
    /// Fails for a record that cannot follow those before.
    pub(in crate::store) fn check(&mut self, record: &Record) -> anyhow::Result<()> {
        ensure!(!self.is_over(), "something follows the end");
        let stage = match record {
            Record::Parlor { .. } => 1,
            Record::Membership { .. } => 2,
            Record::Ban { .. } => 3,
            Record::Block { .. } => 4,
            Record::Session { .. } => 5,
            Record::Audit { .. } => 6,
            Record::Room { .. } => 7,
            Record::DeletedRoom { .. } => 8,
            Record::Event(_) => 9,
            Record::User { .. } => 10,
            Record::End(_) => STAGE_OF_END,
        };
        ensure!(
            stage >= self.stage.max(2) || self.stage == 0,
            "it is out of order"
        );
        if stage > self.stage {
            self.last.clear();
        }
        self.stage = stage;
        match record {
            Record::Parlor {
                version,
                epoch,
                sign_up,
            } => {
                let sign_up = sign_up.as_deref();
                ensure!(
                    sign_up.is_none_or(
                        |it| SignUpPolicy::parse(it).is_ok_and(|parsed| parsed.as_str() == it)
                    ),
                    "its policy of sign-ups is none"
                );
                ensure!(
                    (1..=VERSION).contains(version),
                    "this export is of version {version}; this parlor reads versions up to {VERSION}"
                );
                ensure!(
                    *epoch <= EPOCH_MAX,
                    "this export’s epoch is no number we gave"
                );
            }
            Record::Membership {
                user,
                room,
                joined_at,
                read,
                joined,
                role,
                level,
            } => {
                let level = level.as_deref();
                ensure!(
                    level.is_none_or(|it| Level::parse(it).is_ok_and(|one| one.as_str() == it)),
                    "its level is none"
                );
                let role = role.as_deref();
                ensure!(
                    role.is_none_or(|role| Role::parse(role).is_ok_and(|it| it.as_str() == role)),
                    "its role is none"
                );
                self.owes_user(user)?;
                is_written_like(room, &RoomId::known(room)?)?;
                self.follows(format!("{user} {room}"))?;
                is_moment(*joined_at)?;
                self.owed.insert(format!("room {room}"));
                let most = self.read.entry(room.clone()).or_default();
                *most = (*most).max(*read).max(*joined);
            }
            Record::Ban { user, room, at, by } => {
                self.owes_user(user)?;
                self.owes_user(by)?;
                is_written_like(room, &RoomId::known(room)?)?;
                self.follows(format!("{room} {user}"))?;
                is_moment(*at)?;
                self.owed.insert(format!("room {room}"));
            }
            Record::Block { user, blocked, at } => {
                self.owes_user(user)?;
                self.owes_user(blocked)?;
                self.follows(format!("{user} {blocked}"))?;
                is_moment(*at)?;
            }
            Record::Session {
                id,
                user,
                created_at,
                expires_at,
            } => {
                is_written_like(id, &SessionId::parse(id)?)?;
                self.follows(id.clone())?;
                self.owes_user(user)?;
                is_moment(*created_at)?;
                is_moment(*expires_at)?;
            }
            // Its subject may be here no more.
            Record::Audit {
                id,
                at,
                by,
                act,
                user,
                room,
                detail,
                failed: _,
            } => {
                is_written_like(id, &AuditId::parse(id)?)?;
                self.follows(id.clone())?;
                is_moment(*at)?;
                for user in [by, user].into_iter().flatten() {
                    is_written_like(user, &UserId::parse(user)?)?;
                }
                if let Some(room) = room {
                    is_written_like(room, &RoomId::known(room)?)?;
                }
                let mut words = [Some(act), detail.as_ref()].into_iter().flatten();
                ensure!(words.all(|word| are_words(word)), "its words are none");
            }
            Record::Room {
                id,
                created_at,
                access,
                name,
                topic,
                posting,
                archived: _,
            } => {
                let posting = posting.as_deref();
                ensure!(
                    posting.is_none_or(
                        |it| Posting::parse(it).is_ok_and(|parsed| parsed.as_str() == it)
                    ),
                    "its posting is none"
                );
                is_written_like(id, &RoomId::known(id)?)?;
                let is_direct = RoomId::known(id)?.is_direct();
                ensure!(
                    is_direct == (access.as_deref() == Some(Access::Direct.as_str())),
                    "its access is none"
                );
                let access = access.as_deref().filter(|_| !is_direct);
                ensure!(
                    access.is_none_or(
                        |it| Access::parse(it).is_ok_and(|parsed| parsed.as_str() == it)
                    ),
                    "its access is none"
                );
                ensure!(is_label(name, Label::name), "its name is none");
                ensure!(is_label(topic, Label::topic), "its topic is none");
                self.follows(id.clone())?;
                is_moment(*created_at)?;
                self.owed.remove(&format!("room {id}"));
                self.rooms.insert(id.clone(), 0);
            }
            // Of a store in use somebody may have been in it a moment before.
            Record::DeletedRoom { id } => {
                is_written_like(id, &RoomId::parse(id)?)?;
                self.follows(id.clone())?;
                ensure!(!self.rooms.contains_key(id), "it is there, and was deleted");
                self.owed.remove(&format!("room {id}"));
                self.read.remove(id);
            }
            Record::Event(event) => self.check_event(event)?,
            Record::User {
                id,
                username,
                email,
                password_hash,
                created_at,
                role,
                names,
                deactivated_at,
                erased,
                erasing,
            } => {
                ensure!(names.iter().all(|it| is_claim(it)), "its names are none");
                if let Some(at) = deactivated_at {
                    is_moment(*at)?;
                }
                let role = role.as_deref();
                ensure!(
                    role.is_none_or(|role| role == AccountRole::Admin.as_str()),
                    "its role is none"
                );
                is_written_like(id, &UserId::parse(id)?)?;
                self.follows(id.clone())?;
                let is_word = |word| KeptMessages::parse(word).is_ok_and(|it| it.as_str() == word);
                ensure!(
                    erasing
                        .as_deref()
                        .is_none_or(|word| *erased && is_word(word)),
                    "what becomes of its messages is nothing we know"
                );
                if *erased {
                    let is_nobody = username == Username::FORMER && role.is_none();
                    let is_bare = email.is_empty() && password_hash.is_empty();
                    ensure!(is_nobody && is_bare, "it was deleted, and is not empty");
                } else {
                    ensure!(is_name(username), "its username is none");
                    ensure!(is_email(email), "its email is none");
                    ensure!(
                        is_password_hash(password_hash),
                        "its password hash is none that parlor makes, or takes too long to check"
                    );
                }
                is_moment(*created_at)?;
                self.owed.remove(&format!("user {id}"));
            }
            Record::End(counts) => self.check_end(counts)?,
        }
        self.counts.count(record);
        Ok(())
    }

    /// How many messages the log holds up to the event that was checked last.
    pub(in crate::store) fn messages(&self) -> u64 {
        self.log.2
    }

    pub(super) fn is_over(&self) -> bool {
        self.stage == STAGE_OF_END
    }

    /// Records of a kind are sorted, so none comes twice.
    fn follows(&mut self, key: String) -> anyhow::Result<()> {
        ensure!(key > self.last, "it comes twice, or is out of order");
        self.last = key;
        Ok(())
    }

    fn owes_user(&mut self, user: &str) -> anyhow::Result<()> {
        is_written_like(user, &UserId::parse(user)?)?;
        self.owed.insert(format!("user {user}"));
        Ok(())
    }

    fn check_event(&mut self, event: &EventRecord) -> anyhow::Result<()> {
        self.owes_user(&event.author)?;
        is_written_like(&event.room, &RoomId::known(&event.room)?)?;
        if let Some(actor) = &event.actor {
            self.owes_user(actor)?;
        }
        let author_name = event.author_name.as_deref();
        ensure!(author_name.is_none_or(is_name), "its author’s name is none");
        is_moment(event.at)?;
        // Kinds of another version are kept; their names are as short and plain as ours.
        let is_plain = event.r#type.bytes().all(|b| b.is_ascii_graphic());
        ensure!(is_plain && event.r#type.len() <= 64, "its type is none");
        let is_fitting = match &*event.r#type {
            "renamed" => is_label(&event.body, Label::name),
            "topic-set" => is_label(&event.body, Label::topic),
            _ => true,
        };
        ensure!(is_fitting, "its value is none");
        ensure!(
            event.body.as_deref().is_none_or(is_body),
            "its body is none"
        );
        ensure!(
            event.nonce.as_deref().is_none_or(is_nonce),
            "its nonce is none"
        );
        self.check_state(event)?;
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
        *head += 1;
        *messages += u64::from(event.kind().is_message());
        self.rooms.insert(event.room.clone(), *head);
        Ok(())
    }

    /// Checks the state of a message, or the target of a change.
    fn check_state(&mut self, event: &EventRecord) -> anyhow::Result<()> {
        ensure!(
            event
                .target
                .is_none_or(|target| (1..event.seq).contains(&target)),
            "it changes what is not there"
        );
        ensure!(
            event.reply_to.is_none_or(|to| (1..event.seq).contains(&to)),
            "it replies to what is not there"
        );
        ensure!(
            event.emoji.as_deref().is_none_or(is_emoji),
            "its emoji is none"
        );
        for moment in [event.edited_at, event.deleted_at].into_iter().flatten() {
            is_moment(moment)?;
        }
        let (mut last, mut once) = (0, HashSet::new());
        for ReactionRecord { seq, emoji, user } in &event.reactions {
            self.owes_user(user)?;
            ensure!(is_emoji(emoji), "the emoji of a reaction is none");
            ensure!(
                *seq > last && once.insert((emoji, user)),
                "a reaction comes twice, or is out of order"
            );
            last = *seq;
        }
        let kinds: HashSet<&String> = event.reactions.iter().map(|one| &one.emoji).collect();
        let may_have =
            matches!(event.kind(), EventKind::Message(message) if message.body.is_some());
        ensure!(
            kinds.len() <= Reactions::KINDS_MAX && (kinds.is_empty() || may_have),
            "it has more reactions than it can"
        );
        let mut once = HashSet::new();
        for key in &event.mentions {
            if key != Mentions::ROOM {
                self.owes_user(key)?;
            }
            ensure!(once.insert(key), "it mentions somebody twice");
        }
        // The author of the message that it answers is one more.
        ensure!(
            event.mentions.is_empty()
                || may_have && event.mentions.len() <= Mentions::USERS_MAX + 2,
            "it mentions more people than it can"
        );
        let changed = event.changed.max(event.rev).max(Some(last)).unwrap_or(0);
        let most = self.read.entry(event.room.clone()).or_default();
        *most = (*most).max(changed);
        Ok(())
    }

    fn check_end(&self, counts: &Counts) -> anyhow::Result<()> {
        let missing = self.owed.iter().next();
        ensure!(
            missing.is_none(),
            "{} is missing",
            missing.map_or("", |it| it)
        );
        for (room, read) in &self.read {
            ensure!(
                self.rooms.get(room).is_some_and(|head| read <= head),
                "more of {room} was read or changed than there is"
            );
        }
        ensure!(
            *counts == self.counts,
            "the end counts other records than there are"
        );
        Ok(())
    }
}
