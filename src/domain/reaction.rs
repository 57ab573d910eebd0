//! Reactions to a message.

use std::fmt;
use std::sync::Arc;

use serde::ser::SerializeSeq;
use serde::{Serialize, Serializer};

use super::{Author, Invalid, Refusal, Seq, UserId};

/// One emoji, in the spelling that Unicode recommends. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Emoji(Arc<str>);

impl Emoji {
    /// An emoji, or its shortcode: `:tada:`.
    ///
    /// # Errors
    ///
    /// [`Invalid`] for anything but one emoji.
    pub fn parse(raw: &str) -> Result<Self, Invalid> {
        let raw = raw.trim();
        let code = raw.strip_prefix(':').and_then(|raw| raw.strip_suffix(':'));
        match emojis::get(raw).or_else(|| emojis::get_by_shortcode(code?)) {
            Some(emoji) => Ok(Self(emoji.as_str().into())),
            None => Err(Invalid("Choose one emoji, like 👍 or :thumbsup:.")),
        }
    }

    /// One that [`Self::parse`] of some version took.
    pub(crate) fn stored(emoji: &str) -> Self {
        Self(emoji.into())
    }

    /// Emoji whose names hold all these words, at most `limit`, each with its name: first those whose names
    /// begin with them. Without words, those that come first.
    pub fn search(words: &str, limit: usize) -> Vec<(&'static str, &'static str)> {
        let words = words.to_lowercase();
        let words: Vec<&str> = words
            .split([' ', '_', ':'])
            .filter(|word| !word.is_empty())
            .collect();
        let holds = |emoji: &&emojis::Emoji| {
            let names = || emoji.shortcodes().chain([emoji.name()]);
            words
                .iter()
                .all(|word| names().any(|name| name.contains(word)))
        };
        let begins = |emoji: &&emojis::Emoji| {
            let first = words.first().copied().unwrap_or("");
            emoji
                .shortcodes()
                .chain([emoji.name()])
                .any(|name| name.starts_with(first))
        };
        let (first, then): (Vec<_>, Vec<_>) = emojis::iter().filter(holds).partition(begins);
        let all = first.into_iter().chain(then).take(limit);
        all.map(|emoji| (emoji.as_str(), emoji.name())).collect()
    }

    /// The emoji.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Its name in English, "thumbs up".
    pub fn name(&self) -> &str {
        emojis::get(&self.0).map_or("reaction", emojis::Emoji::name)
    }
}

impl fmt::Display for Emoji {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for Emoji {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

/// One user's reaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reaction {
    /// The number of the event that put it there: their order.
    pub seq: Seq,
    /// Which.
    pub emoji: Emoji,
    /// Whose.
    pub user: UserId,
}

/// All reactions to a message, each user's one of a kind at most. As JSON:
/// `[{"emoji","count","users":[{"id","username"}]}]`. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Reactions {
    /// In their order.
    all: Arc<[Reaction]>,
    /// The kinds, the one whose oldest reaction is the oldest first.
    kinds: Arc<[ReactionKind]>,
}

/// The reactions of a kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ReactionKind {
    /// The emoji.
    pub emoji: Emoji,
    /// How many there are.
    pub count: usize,
    /// The first of those who put them there, at most [`Reactions::NAMED_MAX`].
    pub users: Vec<Author>,
}

impl Reactions {
    /// The most kinds on one message, and so the most that one user puts there: two rows of buttons.
    pub const KINDS_MAX: usize = 20;

    /// How many of those who reacted are named.
    pub const NAMED_MAX: usize = 20;

    /// All reactions, in their order, with the names of those that [`Self::to_name`] lists.
    pub(crate) fn new(all: Vec<Reaction>, name: impl Fn(UserId) -> Option<Arc<str>>) -> Self {
        let mut kinds: Vec<ReactionKind> = Vec::new();
        for reaction in &all {
            let at = kinds.iter().position(|kind| kind.emoji == reaction.emoji);
            let at = at.unwrap_or_else(|| {
                kinds.push(ReactionKind {
                    emoji: reaction.emoji.clone(),
                    count: 0,
                    users: Vec::new(),
                });
                kinds.len() - 1
            });
            let Some(kind) = kinds.get_mut(at) else {
                continue;
            };
            kind.count += 1;
            if kind.count <= Self::NAMED_MAX
                && let Some(username) = name(reaction.user)
            {
                let id = reaction.user;
                kind.users.push(Author { id, username });
            }
        }
        Self {
            all: all.into(),
            kinds: kinds.into(),
        }
    }

    /// The users to be named.
    pub(crate) fn to_name(all: &[Reaction]) -> Vec<UserId> {
        let mut counts: Vec<(&Emoji, usize)> = Vec::new();
        let mut users = Vec::new();
        for Reaction { emoji, user, .. } in all {
            let at = counts.iter().position(|(counted, _)| *counted == emoji);
            let at = at.unwrap_or_else(|| {
                counts.push((emoji, 0));
                counts.len() - 1
            });
            let Some((_, count)) = counts.get_mut(at) else {
                continue;
            };
            *count += 1;
            if *count <= Self::NAMED_MAX {
                users.push(*user);
            }
        }
        users
    }

    /// All of them, in their order.
    pub fn all(&self) -> &Arc<[Reaction]> {
        &self.all
    }

    /// The kinds, in their order.
    pub fn kinds(&self) -> &[ReactionKind] {
        &self.kinds
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// About how much memory they take, in bytes.
    pub fn weight(&self) -> usize {
        const NAME: usize = 32;
        let of_kind = |kind: &ReactionKind| {
            size_of::<ReactionKind>() + kind.users.len() * (size_of::<Author>() + NAME)
        };
        let kinds: usize = self.kinds.iter().map(of_kind).sum();
        self.all.len() * size_of::<Reaction>() + kinds
    }

    /// The most bytes they take in an answer, about: in JSON, with ids and names.
    pub(super) fn escaped_bytes_max(&self) -> usize {
        const KIND: usize = 160;
        const USER: usize = 200;
        let of_kind = |kind: &ReactionKind| KIND + kind.users.len() * USER;
        self.kinds.iter().map(of_kind).sum()
    }

    /// The reactions once a user's is on or off, without anybody's name; `None` when it is so already.
    pub(super) fn with(
        &self,
        emoji: &Emoji,
        on: bool,
        user: UserId,
        seq: Seq,
    ) -> Result<Option<Self>, Refusal> {
        let is_it = |one: &&Reaction| one.user == user && one.emoji == *emoji;
        if self.all.iter().any(|one| is_it(&one)) == on {
            return Ok(None);
        }
        let mut all = self.all.to_vec();
        if on {
            let is_new = self.kinds.iter().all(|kind| kind.emoji != *emoji);
            if is_new && self.kinds.len() >= Self::KINDS_MAX {
                return Err(Refusal::TooManyKinds);
            }
            let emoji = emoji.clone();
            all.push(Reaction { seq, emoji, user });
        } else {
            all.retain(|one| !is_it(&one));
        }
        Ok(Some(Self::new(all, |_| None)))
    }
}

impl Serialize for Reactions {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut kinds = serializer.serialize_seq(Some(self.kinds.len()))?;
        for kind in self.kinds.iter() {
            kinds.serialize_element(kind)?;
        }
        kinds.end()
    }
}
