//! A reader's own reactions on a page. Rows are the same for everybody, so a style sheet made of these, and the
//! page's script, tell one's own apart.

use std::fmt::{self, Write as _};
use std::sync::Arc;

use crate::domain::{Emoji, Event, Seq, UserId};

/// Which messages a reader has reacted to, and how. As text it is what [`Self::parse`] reads:
/// `42.1f44d,50.2764-fe0f`.
#[derive(Debug, Default, PartialEq)]
pub struct Reacted(Vec<(Seq, Emoji)>);

impl Reacted {
    /// The most that are told apart: more would not fit an address.
    const MAX: usize = 200;

    /// Collects those on a page.
    pub fn on(events: &[Arc<Event>], reader: UserId) -> Self {
        let mut own = Vec::new();
        for event in events {
            let Some(message) = event.message() else {
                continue;
            };
            let by_reader = message
                .reactions
                .all()
                .iter()
                .filter(|one| one.user == reader);
            own.extend(by_reader.map(|one| (event.seq, one.emoji.clone())));
        }
        own.truncate(Self::MAX);
        Self(own)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Reads them from an address; whatever does not fit is left out.
    pub fn parse(text: &str) -> Self {
        let one = |text: &str| {
            let (seq, code) = text.split_once('.')?;
            let chars = code
                .split('-')
                .map(|hex| char::from_u32(u32::from_str_radix(hex, 16).ok()?));
            let emoji = chars.collect::<Option<String>>()?;
            Some((seq.parse().ok()?, Emoji::parse(&emoji).ok()?))
        };
        Self(text.split(',').filter_map(one).take(Self::MAX).collect())
    }

    /// `42 👍,50 ❤️`.
    pub(super) fn for_script(&self) -> String {
        let own: Vec<String> = { self.0.iter() }
            .map(|(seq, emoji)| format!("{seq} {emoji}"))
            .collect();
        own.join(",")
    }

    /// The style sheet.
    pub fn style_sheet(&self) -> String {
        let mut css = String::new();
        for (seq, emoji) in &self.0 {
            let _ = writeln!(
                css,
                "#m-{seq} .reactions [value=\"{emoji}\"] {{ --ring: var(--accent); \
                 background-color: var(--own-surface); }}"
            );
        }
        css
    }
}

impl fmt::Display for Reacted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (seq, emoji)) in self.0.iter().enumerate() {
            let comma = if at == 0 { "" } else { "," };
            write!(f, "{comma}{seq}.")?;
            for (at, c) in emoji.as_str().chars().enumerate() {
                let dash = if at == 0 { "" } else { "-" };
                write!(f, "{dash}{:x}", u32::from(c))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_says_the_same_as_the_page() {
        let text = "42.1f44d,50.2764-fe0f,51.1f469-200d-1f469-200d-1f467";
        let own = Reacted::parse(text);
        assert_eq!(own.to_string(), text);
        assert!(own.for_script().starts_with("42 👍,50 ❤️,51 👩\u{200d}"));
        for nonsense in [
            "",
            "42",
            "42.",
            "x.1f44d",
            "42.22",
            "42.7d",
            "42.1f44d-1f44d",
        ] {
            assert!(Reacted::parse(nonsense).is_empty(), "{nonsense}");
        }
    }
}
