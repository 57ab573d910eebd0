//! A room's settings: its access, name, topic, posting and archive.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use serde::{Serialize, Serializer};

use super::characters::{is_blank, is_unsafe_to_print};
use super::{Author, Invalid, RoomId, UserId};

/// A room's access: it decides who may enter, and who knows of the room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Access {
    /// Everybody on this server finds it in the lobby.
    Open,
    /// Whoever knows its id: what typing a new id makes, and what a room was before there were others.
    #[default]
    Unlisted,
    /// Whoever was added. To others there is no such room.
    Private,
    /// Just its people, for good.
    Direct,
}

impl Access {
    /// Those that somebody may choose, the most open first.
    pub const ALL: [Self; 3] = [Self::Open, Self::Unlisted, Self::Private];

    /// # Errors
    ///
    /// [`Invalid`] for any other word.
    pub fn parse(raw: &str) -> Result<Self, Invalid> {
        let word = raw.trim();
        let found = Self::ALL.into_iter().find(|access| access.as_str() == word);
        found.ok_or(Invalid("access is open, unlisted or private."))
    }

    /// Reads the stored word. A word of another version counts as private: it lets nobody in.
    pub(crate) fn stored(word: &str) -> Self {
        match word {
            "direct" => Self::Direct,
            word => Self::parse(word).unwrap_or(Self::Private),
        }
    }

    /// Whether nobody else may know of the room.
    pub fn is_hidden(self) -> bool {
        matches!(self, Self::Private | Self::Direct)
    }

    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Unlisted => "unlisted",
            Self::Private => "private",
            Self::Direct => "direct",
        }
    }
}

/// The right to write in a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Posting {
    /// Everybody who is in it.
    #[default]
    Everybody,
    /// Its owners.
    Owners,
}

impl Posting {
    /// Both, the freer one first.
    pub const ALL: [Self; 2] = [Self::Everybody, Self::Owners];

    /// # Errors
    ///
    /// [`Invalid`] for any other word.
    pub fn parse(raw: &str) -> Result<Self, Invalid> {
        let word = raw.trim();
        let found = Self::ALL.into_iter().find(|one| one.as_str() == word);
        found.ok_or(Invalid("posting is everybody or owners."))
    }

    /// Reads the stored word. A word of another version counts as the owners alone.
    pub(crate) fn stored(word: &str) -> Self {
        Self::parse(word).unwrap_or(Self::Owners)
    }

    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Everybody => "everybody",
            Self::Owners => "owners",
        }
    }
}

/// A line of free text that is safe to print: a room's name or topic. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Label(Arc<str>);

impl Label {
    /// The most characters of a room's name: what fits a heading on a phone.
    pub const NAME_CHARS_MAX: usize = 64;

    /// The most characters of a topic: two lines beside it.
    pub const TOPIC_CHARS_MAX: usize = 200;

    /// A room's name; `None` when nothing was typed.
    ///
    /// # Errors
    ///
    /// [`Invalid`] for a long one, or one with characters that are no text.
    pub fn name(raw: &str) -> Result<Option<Self>, Invalid> {
        let too_long = "A room’s name has at most 64 characters.";
        Self::parse(raw, Self::NAME_CHARS_MAX, too_long)
    }

    /// A room's topic, likewise.
    ///
    /// # Errors
    ///
    /// Likewise.
    pub fn topic(raw: &str) -> Result<Option<Self>, Invalid> {
        let too_long = "A topic has at most 200 characters.";
        Self::parse(raw, Self::TOPIC_CHARS_MAX, too_long)
    }

    fn parse(raw: &str, chars_max: usize, too_long: &'static str) -> Result<Option<Self>, Invalid> {
        let label = raw.trim();
        if label.chars().any(is_unsafe_to_print) {
            return Err(Invalid(
                "Type one line of text, without line breaks and control characters.",
            ));
        }
        if label.chars().count() > chars_max {
            return Err(Invalid(too_long));
        }
        Ok((!label.chars().all(is_blank)).then(|| Self(label.into())))
    }

    /// One that was parsed before it was stored.
    pub(crate) fn stored(label: &str) -> Self {
        Self(label.into())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for Label {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

/// The settings of a room.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RoomSettings {
    /// Decides who may enter.
    pub access: Access,
    /// Its name; without one it goes by its id.
    pub name: Option<Label>,
    /// A line about its purpose.
    pub topic: Option<Label>,
    /// Decides who may write.
    pub posting: Posting,
    /// Whether it is archived: kept to be read, and nobody may write.
    pub is_archived: bool,
    /// The people of a direct room, by name.
    pub people: Arc<[Author]>,
}

impl RoomSettings {
    /// The room's title for one reader: its name or else its id; a direct room's, the names of the others.
    pub fn title<'a>(&'a self, room: &'a RoomId, reader: &UserId) -> Cow<'a, str> {
        let others = self.people.iter().filter(|one| one.id != *reader);
        let others: Vec<&str> = others.map(|one| &*one.username).collect();
        match (&self.name, &others[..], self.people.first()) {
            (Some(name), ..) => name.as_str().into(),
            (None, [], None) => room.as_str().into(),
            (None, [], Some(own)) => (&*own.username).into(),
            (None, others, _) => others.join(", ").into(),
        }
    }

    /// These after a change; `None` when they are so already.
    #[must_use]
    pub(crate) fn with(&self, setting: &Setting) -> Option<Self> {
        let mut settings = self.clone();
        match setting {
            Setting::Name(name) => settings.name.clone_from(name),
            Setting::Topic(topic) => settings.topic.clone_from(topic),
            Setting::Access(access) => settings.access = *access,
            Setting::Posting(posting) => settings.posting = *posting,
            Setting::Archived(is_archived) => settings.is_archived = *is_archived,
        }
        (settings != *self).then_some(settings)
    }
}

/// One setting, with its new value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Setting {
    /// The room's name; `None` takes it away.
    Name(Option<Label>),
    /// Its topic, likewise.
    Topic(Option<Label>),
    /// The room's access.
    Access(Access),
    /// The right to write in it.
    Posting(Posting),
    /// Whether it is kept to be read.
    Archived(bool),
}

impl Setting {
    /// The field's word for a change to it.
    pub fn event_name(&self) -> &'static str {
        match self {
            Self::Name(_) => "renamed",
            Self::Topic(_) => "topic-set",
            Self::Access(_) => "access-set",
            Self::Posting(_) => "posting-set",
            Self::Archived(true) => "archived",
            Self::Archived(false) => "reopened",
        }
    }

    /// Which it is, and its value where that is a word: nothing that somebody wrote.
    pub(crate) fn in_words(&self) -> String {
        match self {
            Self::Name(_) => "its name".to_owned(),
            Self::Topic(_) => "its topic".to_owned(),
            Self::Access(access) => format!("access {}", access.as_str()),
            Self::Posting(posting) => format!("posting {}", posting.as_str()),
            Self::Archived(true) => "archived".to_owned(),
            Self::Archived(false) => "taken out of the archive".to_owned(),
        }
    }

    /// The value as the stores keep it with the event; `None` when it was taken away.
    pub(crate) fn value(&self) -> Option<&str> {
        match self {
            Self::Name(label) | Self::Topic(label) => label.as_ref().map(Label::as_str),
            Self::Access(access) => Some(access.as_str()),
            Self::Posting(posting) => Some(posting.as_str()),
            Self::Archived(_) => None,
        }
    }

    /// From an event's name and value.
    pub(crate) fn stored(event_name: &str, value: Option<&str>) -> Option<Self> {
        let label = || value.map(Label::stored);
        Some(match event_name {
            "renamed" => Self::Name(label()),
            "topic-set" => Self::Topic(label()),
            "access-set" => Self::Access(Access::parse(value?).ok()?),
            "posting-set" => Self::Posting(Posting::parse(value?).ok()?),
            "archived" => Self::Archived(true),
            "reopened" => Self::Archived(false),
            _ => return None,
        })
    }
}

/// The id offered for a room of this name: its letters a–z and digits, in words. `None` where there are none.
pub fn id_from_name(name: &str) -> Option<RoomId> {
    use unicode_normalization::UnicodeNormalization;
    let mut id = String::new();
    // Accents come off: "Café" is `cafe`.
    for c in name.nfkd().filter(|c| !is_mark(*c)) {
        match c.to_ascii_lowercase() {
            c @ ('a'..='z' | '0'..='9' | '_') => id.push(c),
            _ if !id.is_empty() && !id.ends_with('-') => id.push('-'),
            _ => {}
        }
    }
    let id: String = id.chars().take(RoomId::CHARS_MAX).collect();
    RoomId::parse(id.trim_matches('-')).ok()
}

fn is_mark(c: char) -> bool {
    unicode_normalization::char::is_combining_mark(c)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_offers_an_id() {
        for (name, id) in [
            ("Tea Time", Some("tea-time")),
            ("  Café – à la carte! ", Some("cafe-a-la-carte")),
            ("Class 7b", Some("class-7b")),
            ("お茶", None),
            ("お茶 tea", Some("tea")),
            ("---", None),
        ] {
            let offered = id_from_name(name);
            assert_eq!(offered.as_ref().map(RoomId::as_str), id, "{name}");
        }
        assert_eq!(id_from_name(&"ab ".repeat(64)).unwrap().as_str().len(), 64);
    }

    #[test]
    fn a_label_is_one_safe_line() {
        assert_eq!(Label::name("  ").unwrap(), None);
        assert_eq!(Label::name("\u{200b}").unwrap(), None);
        assert_eq!(
            Label::name(" Tea Time ").unwrap().unwrap().as_str(),
            "Tea Time"
        );
        for typed in ["a\nb", "a\u{202e}b", "\u{1b}[2J", "a\0"] {
            assert!(Label::name(typed).is_err(), "{typed:?}");
        }
        assert!(Label::name(&"é".repeat(64)).unwrap().is_some());
        assert!(Label::name(&"é".repeat(65)).is_err());
        assert!(Label::topic(&"é".repeat(200)).unwrap().is_some());
        assert!(Label::topic(&"é".repeat(201)).is_err());
    }
}
