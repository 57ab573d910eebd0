//! The end of an account that its user deletes.

use std::collections::HashSet;

use super::{Invalid, MessageBody, Username};

/// What becomes of the messages of somebody who deletes their account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeptMessages {
    /// They stay, and are a former member's.
    Keep,
    /// They are deleted.
    Delete,
}

impl KeptMessages {
    /// # Errors
    ///
    /// [`Invalid`] for any other word.
    pub fn parse(raw: &str) -> Result<Self, Invalid> {
        match raw.trim() {
            "keep" => Ok(Self::Keep),
            "delete" => Ok(Self::Delete),
            _ => Err(Invalid("messages is keep or delete.")),
        }
    }

    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Keep => "keep",
            Self::Delete => "delete",
        }
    }
}

/// A text without the names by which it names somebody: `@ana` is a former member. `None` when it names them
/// nowhere. `claims` are those of all names they have had.
pub(crate) fn unnamed(text: &str, claims: &HashSet<String>) -> Option<String> {
    let mut rest = text;
    let mut unnamed = String::with_capacity(text.len());
    let mut has_changed = false;
    while let Some(at) = rest.find('@') {
        let (before, from) = rest.split_at(at);
        unnamed.push_str(before);
        let after = &from['@'.len_utf8()..];
        match named(after, claims) {
            Some(name) => {
                unnamed.push_str(Username::FORMER);
                rest = &after[name.len()..];
                has_changed = true;
            }
            None => {
                unnamed.push('@');
                rest = after;
            }
        }
    }
    unnamed.push_str(rest);
    if unnamed.chars().count() > MessageBody::CHARS_MAX {
        // It was as long as a text may be: the names are just taken away.
        unnamed = unnamed.replace(Username::FORMER, "@");
    }
    has_changed.then_some(unnamed)
}

/// The longest name of theirs that a text begins with, and that does not go on.
fn named<'a>(text: &'a str, claims: &HashSet<String>) -> Option<&'a str> {
    let is_of_name = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | '.');
    let long = text.char_indices().take(Username::CHARS_MAX);
    let ends = long
        .take_while(|(_, c)| is_of_name(*c))
        .map(|(at, c)| at + c.len_utf8());
    let ends: Vec<usize> = ends.collect();
    let is_theirs = |name: &&str| {
        let [key, _] = Username::stored(name).claims();
        claims.contains(&key)
    };
    ends.iter().rev().map(|end| &text[..*end]).find(is_theirs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_names_nobody_who_is_gone() {
        let claims: HashSet<String> = ["ana", "anna.b"]
            .iter()
            .flat_map(|name| Username::stored(name).claims())
            .collect();
        for (text, expected) in [
            ("hello @ana!", Some("hello former member!")),
            ("@ANA, @ana.", Some("former member, former member.")),
            ("(@anna.b)", Some("(former member)")),
            ("@anna.b.", Some("former member.")),
            ("ana, a@b @ben @", None),
            ("", None),
        ] {
            assert_eq!(unnamed(text, &claims).as_deref(), expected, "{text}");
        }
        let long = format!("{}@ana", "x".repeat(MessageBody::CHARS_MAX - 4));
        let unnamed = unnamed(&long, &claims).unwrap();
        assert!(unnamed.ends_with("x@"));
    }
}
