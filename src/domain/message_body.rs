//! Message bodies.

use std::fmt;
use std::sync::Arc;

use serde::{Serialize, Serializer};

use super::Invalid;
use super::characters::{excerpt, is_blank, is_unsafe_to_print};

/// A message's text: 1 to [`Self::CHARS_MAX`] characters; line breaks are kept, as `\n`.
/// Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MessageBody(Arc<str>);

impl MessageBody {
    /// About three screens on a phone. A longer text is a document, and belongs behind a link.
    pub const CHARS_MAX: usize = 4_000;

    /// Cuts white space off the end and blank lines off the start; the first line's indentation
    /// stays, for code. `\r\n` (what forms send) and `\r` become `\n`.
    ///
    /// # Errors
    ///
    /// [`Invalid`] when nothing or too much is left, or when there is a NUL in it, which no
    /// person types and MongoDB, terminals and HTML each treat in their own way.
    pub fn parse(raw: &str) -> Result<Self, Invalid> {
        let text = raw.replace("\r\n", "\n").replace('\r', "\n");
        let text = text.trim_end();
        let indented = text.len() - text.trim_start().len();
        let text = match text[..indented].rfind('\n') {
            Some(last_blank_line) => &text[last_blank_line + 1..],
            None => text,
        };
        if text.chars().all(is_blank) {
            return Err(Invalid("Write something first."));
        }
        if text.contains('\0') {
            return Err(Invalid(
                "A message cannot hold the NUL character. Remove it and send again.",
            ));
        }
        if text.chars().count() > Self::CHARS_MAX {
            return Err(Invalid(
                "A message has at most 4,000 characters. Shorten it or send it in parts.",
            ));
        }
        Ok(Self(text.into()))
    }

    /// A body that [`Self::parse`] took before it was stored.
    pub(crate) fn stored(text: &str) -> Self {
        Self(text.into())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The start of the text, with an ellipsis if there is more.
    #[must_use]
    pub fn excerpt(&self) -> Self {
        match excerpt(&self.0) {
            all if all.len() == self.0.len() => self.clone(),
            start => Self(format!("{start}…").into()),
        }
    }

    /// No fewer bytes than the text takes in an answer, whichever format it is escaped for: JSON makes six
    /// of a control character, HTML five of a quotation mark. Counted by bytes, of which many are looked at at
    /// once: the characters beyond ASCII that are escaped begin with one of three.
    pub fn escaped_bytes_max(&self) -> usize {
        let count = |is: fn(u8) -> bool| self.0.bytes().filter(|b| is(*b)).count();
        self.0.len()
            + 4 * count(|b| matches!(b, b'<' | b'>' | b'&' | b'"' | b'\''))
            + 5 * count(|b| b.is_ascii_control())
            + count(|b| b == b'\\')
            + 4 * count(|b| matches!(b, 0xc2 | 0xd8))
            + 3 * count(|b| b == 0xe2)
    }

    /// The text on one line that is safe to print in a terminal: breaks of every kind become
    /// ` ↵ `, other control characters (an escape sequence could repaint a terminal, a bidirectional one
    /// turn the line around) `�`.
    pub fn on_one_line(&self) -> impl fmt::Display + '_ {
        OneLine(&self.0)
    }
}

impl Serialize for MessageBody {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

struct OneLine<'a>(&'a str);

impl fmt::Display for OneLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use fmt::Write;
        for c in self.0.chars() {
            match c {
                '\n' | '\u{b}' | '\u{c}' | '\u{85}' | '\u{2028}' | '\u{2029}' => {
                    f.write_str(" ↵ ")?;
                }
                '\t' => f.write_char(' ')?,
                c if is_unsafe_to_print(c) => f.write_char('\u{fffd}')?,
                c => f.write_char(c)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_what_was_meant_and_refuses_the_rest() {
        for (typed, kept) in [
            ("hello", "hello"),
            ("one\r\ntwo\rthree\n", "one\ntwo\nthree"),
            ("\n \n    let x = 1;\n", "    let x = 1;"),
            ("a\n\nb", "a\n\nb"),
        ] {
            assert_eq!(MessageBody::parse(typed).unwrap().as_str(), kept);
        }
        for refused in [
            "",
            " \t\r\n ",
            "a\0b",
            "\u{200b}",
            "\u{202e} ",
            "\u{3164}",
            "\u{2800}\u{2800}",
            "\u{fe0f}",
            "\u{e0062}\u{e007f}",
            "\u{115f}\u{1160}\u{ffa0}",
            "\u{34f}\u{61c}\u{180e}",
            "\u{1b}\u{7}",
        ] {
            assert!(MessageBody::parse(refused).is_err(), "{refused:?}");
        }
        assert!(MessageBody::parse(&"é".repeat(4_000)).is_ok());
        assert!(MessageBody::parse(&"é".repeat(4_001)).is_err());
    }

    #[test]
    fn escaping_never_makes_more_of_a_text_than_was_counted() {
        for text in [
            "<&>\"'",
            "\u{1}\u{1b}\u{7f}x",
            "\u{202e}\u{85}\\ é 😋",
            "\u{2028}`\n",
        ] {
            let body = MessageBody::stored(text);
            let json = crate::json::to_string(&text);
            assert!(json.len() - 2 <= body.escaped_bytes_max(), "{json}");
        }
        for c in '\0'..=char::MAX {
            let body = MessageBody::stored(&c.to_string());
            let escaped = if is_unsafe_to_print(c) {
                6
            } else {
                c.len_utf8()
            };
            assert!(body.escaped_bytes_max() >= escaped, "{c:?}");
        }
    }

    #[test]
    fn one_line_is_one_line_without_escapes() {
        let body = MessageBody::parse("a\nb\u{2028}c\u{1b}[2Jd\te").unwrap();
        assert_eq!(body.on_one_line().to_string(), "a ↵ b ↵ c\u{fffd}[2Jd e");
    }
}
