//! A fragment cache: the large parts of pages, rendered, so that most of a room's page is a copy.
//!
//! A fragment is found by the very data it was made from, a list of events or of a reader's rooms, and
//! whatever changes is another list. So there is nothing to forget in time, and nothing can be stale.

use std::fmt;
use std::hash::Hash;
use std::num::NonZero;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use askama::filters::HtmlSafe;
use lru::LruCache;

use super::row::{Row, first_new, rows};
use super::{RoomItem, RoomLink, render};
use crate::domain::{Event, EventId, RoomId, RoomSummary, UserId};

/// Of how many rooms, and of how many readers, parts are kept.
const KEPT_MAX: NonZero<usize> = NonZero::new(200).expect("not zero");

/// How many bytes they have in all. Usual ones have half of what that is for each.
const KEPT_BYTES_MAX: usize = KEPT_MAX.get() * 64 * 1024;

/// A longer part is made each time: a page with ten reactions to each message has half of it.
const PART_BYTES_MAX: usize = 256 * 1024;

/// Rendered fragments, one after the other.
pub struct Fragments {
    html: String,
    /// Where each ends.
    ends: Vec<usize>,
}

/// Fragments, one of which may stand there otherwise for this page's reader.
pub struct CachedHtml {
    fragments: Arc<Fragments>,
    otherwise: Option<(usize, String)>,
}

/// The parts that are kept. One for all pages.
pub struct FragmentCache {
    logs: Mutex<Kept<RoomId, Vec<Arc<Event>>>>,
    sides: Lists,
    lobbies: Lists,
}

/// Fragments made of somebody's rooms, by whose.
type Lists = Mutex<Kept<UserId, Arc<[RoomSummary]>>>;

/// Fragments with what they were made of: those that were used last.
struct Kept<K, M> {
    parts: LruCache<K, (M, Arc<Fragments>)>,
    bytes: usize,
}

impl<K: Hash + Eq, M> Kept<K, M> {
    fn new() -> Self {
        let parts = LruCache::new(KEPT_MAX);
        Self { parts, bytes: 0 }
    }

    fn get(&mut self, key: &K) -> Option<&(M, Arc<Fragments>)> {
        self.parts.get(key)
    }

    fn put(&mut self, key: K, made_of: M, fragments: &Arc<Fragments>) {
        let length = fragments.html.len();
        if length > PART_BYTES_MAX {
            return;
        }
        self.bytes += length;
        let pushed_out = self.parts.push(key, (made_of, Arc::clone(fragments)));
        self.forgot(pushed_out);
        while self.bytes > KEPT_BYTES_MAX {
            let oldest = self.parts.pop_lru();
            self.forgot(oldest);
        }
    }

    fn forgot(&mut self, part: Option<(K, (M, Arc<Fragments>))>) {
        let length = part.map_or(0, |(_, (_, fragments))| fragments.html.len());
        self.bytes -= length;
    }
}

impl Default for FragmentCache {
    fn default() -> Self {
        Self {
            logs: Mutex::new(Kept::new()),
            sides: Mutex::new(Kept::new()),
            lobbies: Mutex::new(Kept::new()),
        }
    }
}

impl FragmentCache {
    /// A page of a room's log, with the line at what its reader has not read.
    pub fn log(
        &self,
        room: &RoomId,
        events: &[Arc<Event>],
        read: EventId,
        reader: UserId,
    ) -> CachedHtml {
        let epoch = read.epoch;
        let last = events.last().map_or(0, |last| last.seq);
        // They are held here, so others are elsewhere.
        let are_those = |made_of: &[Arc<Event>]| {
            let mut pairs = made_of.iter().zip(events);
            made_of.len() == events.len() && pairs.all(|(one, other)| Arc::ptr_eq(one, other))
        };
        let found = match locked(&self.logs).get(room) {
            Some((made_of, fragments)) if are_those(made_of) => Some(Arc::clone(fragments)),
            _ => None,
        };
        let fragments = found.unwrap_or_else(|| {
            let fragments = Arc::new(Fragments::of(
                rows(events, epoch).into_iter().map(Row::render),
            ));
            locked(&self.logs).put(room.clone(), events.to_vec(), &fragments);
            fragments
        });
        // A reader who has read all of it gets it as it is.
        let otherwise = (read.seq < last)
            .then(|| first_new(events, read, reader))
            .flatten()
            .map(|(at, row)| (at, row.render()));
        CachedHtml {
            fragments,
            otherwise,
        }
    }

    /// A reader's rooms, beside the one they are in.
    pub fn side(&self, user: UserId, rooms: &Arc<[RoomSummary]>, current: &RoomId) -> CachedHtml {
        let link = |room: &RoomSummary, is_current| {
            render(&RoomLink {
                room,
                reader: user,
                is_current,
            })
        };
        let fragments = kept(&self.sides, user, rooms, |room| link(room, false));
        let at = rooms.iter().position(|room| room.room == *current);
        let otherwise = at.and_then(|at| Some((at, link(rooms.get(at)?, true))));
        CachedHtml {
            fragments,
            otherwise,
        }
    }

    /// A reader's rooms, in the lobby.
    pub fn lobby(&self, user: UserId, rooms: &Arc<[RoomSummary]>) -> CachedHtml {
        let fragments = kept(&self.lobbies, user, rooms, |room| {
            render(&RoomItem { room, reader: user })
        });
        CachedHtml {
            fragments,
            otherwise: None,
        }
    }
}

fn kept(
    lists: &Lists,
    user: UserId,
    rooms: &Arc<[RoomSummary]>,
    piece: impl Fn(&RoomSummary) -> String,
) -> Arc<Fragments> {
    // It is held here, so another list is elsewhere.
    if let Some((made_of, fragments)) = locked(lists).get(&user)
        && Arc::ptr_eq(made_of, rooms)
    {
        return Arc::clone(fragments);
    }
    let piece = |room: &RoomSummary| match room.is_listed() {
        true => piece(room),
        false => String::new(),
    };
    let fragments = Arc::new(Fragments::of(rooms.iter().map(piece)));
    locked(lists).put(user, Arc::clone(rooms), &fragments);
    fragments
}

impl Fragments {
    fn of(fragments: impl Iterator<Item = String>) -> Self {
        let mut all = Self {
            html: String::new(),
            ends: Vec::new(),
        };
        for piece in fragments {
            all.html += &piece;
            all.ends.push(all.html.len());
        }
        all
    }

    /// The HTML before and after one of them.
    fn around(&self, at: usize) -> Option<(&str, &str)> {
        let start = match at.checked_sub(1) {
            None => 0,
            Some(before) => *self.ends.get(before)?,
        };
        let end = *self.ends.get(at)?;
        Some((self.html.get(..start)?, self.html.get(end..)?))
    }
}

impl CachedHtml {
    /// About how long it is.
    pub fn bytes(&self) -> usize {
        self.fragments.html.len()
    }
}

/// All of it was escaped when it was rendered.
impl HtmlSafe for CachedHtml {}

impl fmt::Display for CachedHtml {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some((at, instead)) = &self.otherwise
            && let Some((before, after)) = self.fragments.around(*at)
        {
            f.write_str(before)?;
            f.write_str(instead)?;
            return f.write_str(after);
        }
        f.write_str(&self.fragments.html)
    }
}

fn locked<T>(kept: &Mutex<T>) -> MutexGuard<'_, T> {
    // Entries are put in and taken out whole.
    kept.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Author, EventKind, Message, MessageBody, Timestamp};

    /// Invariant: what is kept is bounded in number and in bytes.
    #[test]
    fn long_parts_make_place_for_others() {
        let mut kept = Kept::new();
        for length in [1_000, PART_BYTES_MAX, PART_BYTES_MAX + 1] {
            for key in 0..300 {
                let html = "x".repeat(length);
                let ends = Vec::new();
                let fragments = Arc::new(Fragments { html, ends });
                kept.put((length, key % 150), (), &fragments);
                let bytes: usize = kept
                    .parts
                    .iter()
                    .map(|(_, (_, part))| part.html.len())
                    .sum();
                assert_eq!(kept.bytes, bytes);
                assert!(bytes <= KEPT_BYTES_MAX);
            }
        }
        assert!(kept.get(&(PART_BYTES_MAX, 149)).is_some());
        assert!(kept.get(&(PART_BYTES_MAX + 1, 149)).is_none());
    }

    #[test]
    fn what_is_kept_looks_as_if_it_were_made_for_each_reader() {
        let (room, ana, ben) = (RoomId::parse("tea").unwrap(), UserId::new(), UserId::new());
        let events: Vec<Arc<Event>> = (1..=6)
            .map(|seq| {
                Arc::new(Event {
                    room: room.clone(),
                    seq,
                    messages: seq,
                    at: Timestamp::from_millis(0),
                    author: Author {
                        id: ana,
                        username: "ana".into(),
                    },
                    kind: EventKind::Message(Message::new(
                        MessageBody::parse(&format!("<number {seq}>")).unwrap(),
                        None,
                    )),
                })
            })
            .collect();
        let cache = FragmentCache::default();
        for (upto, read, reader, line_above) in [
            (4, 2, ben, Some("m-3")),
            (4, 4, ben, None),
            (4, 2, ana, None),
            (6, 4, ben, Some("m-5")),
            (4, 1, ben, Some("m-2")),
            (6, 6, ben, None),
        ] {
            let events = &events[..upto];
            let read = EventId {
                epoch: 0,
                seq: read,
            };
            let shown = cache.log(&room, events, read, reader).to_string();
            let fresh = FragmentCache::default().log(&room, events, read, reader);
            assert_eq!(shown, fresh.to_string());
            assert_eq!(shown.matches("<li class=\"message").count(), upto);
            assert!(shown.contains("&#60;number 1&#62;"), "{shown}");
            let above = shown.split("New since you left").nth(1).map(|below| {
                let id = below.split("id=\"").nth(1).unwrap();
                id.split('"').next().unwrap().to_owned()
            });
            assert_eq!(above.as_deref(), line_above);
        }
    }
}
