//! Mentions: the people whom a message is for.

use std::collections::HashMap;
use std::sync::Arc;

use super::{Author, Invalid, UserId, Username};

/// The people whom a message is for: those whom it names, the author of the message it replies to, perhaps
/// everybody. Found when it is posted; edits change nothing about it. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Mentions {
    /// By id, with their names as of when this was read.
    users: Arc<[Author]>,
    room: bool,
}

impl Mentions {
    /// The most people that one message names.
    pub const USERS_MAX: usize = 50;

    /// The most mentions of one user that are counted as unread in a room.
    pub const UNREAD_MAX: usize = 100;

    /// The name that stands for everybody in the room.
    pub const ROOM: &str = "room";

    /// The mentions of a new message by `author`, who is never among them; `answered` is the author of the message it
    /// replies to. Nobody is twice.
    ///
    /// # Errors
    ///
    /// [`Invalid`] when it names more than [`Self::USERS_MAX`].
    pub fn new(
        named: impl IntoIterator<Item = Author>,
        answered: Option<Author>,
        room: bool,
        author: UserId,
    ) -> Result<Self, Invalid> {
        let mut once: Vec<Author> = Vec::new();
        for user in answered.iter().cloned().chain(named) {
            if user.id != author && once.iter().all(|other| other.id != user.id) {
                once.push(user);
            }
        }
        if once.len() > Self::USERS_MAX + usize::from(answered.is_some()) {
            return Err(Invalid(
                "A message names at most 50 people. Name fewer, or everybody with @room.",
            ));
        }
        let users = once.into();
        Ok(Self { users, room })
    }

    /// As the stores have them: [`Self::keys`].
    pub(crate) fn stored<'a>(keys: impl IntoIterator<Item = &'a str>) -> Self {
        let mut room = false;
        let mut users = Vec::new();
        for key in keys {
            room |= key == Self::ROOM;
            if let Ok(id) = UserId::parse(key) {
                let username = "".into();
                users.push(Author { id, username });
            }
        }
        let users = users.into();
        Self { users, room }
    }

    /// The ids of the people, and [`Self::ROOM`] if it is for everybody.
    pub(crate) fn keys(&self) -> impl Iterator<Item = String> {
        let room = self.room.then(|| Self::ROOM.to_owned());
        self.users
            .iter()
            .map(|user| user.id.to_string())
            .chain(room)
    }

    /// The same with the people's names as they are now.
    #[must_use]
    pub(crate) fn named(&self, names: &HashMap<UserId, Arc<str>>) -> Self {
        let named = self.users.iter().filter_map(|user| {
            let (id, username) = (user.id, Arc::clone(names.get(&user.id)?));
            Some(Author { id, username })
        });
        Self {
            users: named.collect(),
            room: self.room,
        }
    }

    /// Whether it is for nobody in particular.
    pub fn is_empty(&self) -> bool {
        self.users.is_empty() && !self.room
    }

    /// The people by name.
    pub fn users(&self) -> &[Author] {
        &self.users
    }

    /// Whether it is for everybody in the room.
    pub fn room(&self) -> bool {
        self.room
    }

    /// The people and the room by the names that they have in the message ([`Username::key`]).
    pub fn by_key(&self) -> HashMap<String, Mentioned> {
        let key = |name: &str| Username::stored(name).key();
        let named =
            { self.users.iter() }.map(|user| (key(&user.username), Mentioned::User(user.id)));
        let room = self.room.then(|| (key(Self::ROOM), Mentioned::Room));
        named.chain(room).collect()
    }

    /// The most bytes they take in an answer.
    pub(crate) fn bytes_max(&self) -> usize {
        const REST: usize = 100;
        let names = self.users.iter().map(|user| REST + user.username.len());
        names.sum()
    }
}

/// The person, or the whole room, that a name in a message stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mentioned {
    /// Somebody.
    User(UserId),
    /// Everybody in the room.
    Room,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_mentions_themselves_or_anybody_twice() {
        let author = |username: &str| Author {
            id: UserId::new(),
            username: username.into(),
        };
        let (ana, ben) = (author("ana"), author("ben"));
        let all = [ben.clone(), ana.clone(), ben.clone()];
        let mentions = Mentions::new(all, None, true, ana.id).unwrap();
        assert_eq!(mentions.users(), std::slice::from_ref(&ben));
        assert!(mentions.room());
        let by_key = mentions.by_key();
        let find = |name: &str| by_key.get(&Username::stored(name).key()).copied();
        assert_eq!(find("BEN"), Some(Mentioned::User(ben.id)));
        assert_eq!(find("Room"), Some(Mentioned::Room));
        assert_eq!(find("ana"), None);

        let keys: Vec<String> = mentions.keys().collect();
        let names = HashMap::from([(ben.id, ben.username.clone())]);
        let stored = Mentions::stored(keys.iter().map(String::as_str)).named(&names);
        assert_eq!(stored, mentions);
        let many = (0..51).map(|n| author(&n.to_string()));
        assert!(Mentions::new(many, None, false, ana.id).is_err());
    }
}
