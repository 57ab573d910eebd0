//! JSON that is safe to print: `serde_json`, and besides what it escapes, everything that a terminal
//! or an editor would act on instead of drawing it.

use std::io::{self, Write};

use serde::Serialize;
use serde_json::ser::{Formatter, Serializer};

use crate::domain::characters::is_unsafe_to_print;

/// The JSON text of a value: on one line, with control characters of both sets, line separators and
/// bidirectional controls as `\u…`.
pub fn to_string<T: Serialize + ?Sized>(value: &T) -> String {
    let mut json = Vec::with_capacity(256);
    // Writing to memory does not fail, and our types have nothing that has no JSON form.
    let _ = value.serialize(&mut Serializer::with_formatter(&mut json, Printable));
    String::from_utf8(json).unwrap_or_default()
}

struct Printable;

impl Formatter for Printable {
    fn write_string_fragment<W: ?Sized + Write>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        let mut rest = fragment;
        while let Some(at) = rest.find(is_unsafe_to_print) {
            let (before, from) = rest.split_at(at);
            writer.write_all(before.as_bytes())?;
            let mut chars = from.chars();
            if let Some(unsafe_char) = chars.next() {
                // All of them are in the basic plane: one unit of UTF-16.
                write!(writer, "\\u{:04x}", u32::from(unsafe_char))?;
            }
            rest = chars.as_str();
        }
        writer.write_all(rest.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_json_acts_on_a_terminal() {
        let text = "a\u{9b}31m\u{7f}\u{202e}b\u{2066}\u{61c}\u{2028}\u{200f}é😋\"\n";
        let json = to_string(text);
        assert_eq!(
            json,
            r#""a\u009b31m\u007f\u202eb\u2066\u061c\u2028\u200fé😋\"\n""#
        );
        let back: String = serde_json::from_str(&json).unwrap();
        assert_eq!(back, text);
    }
}
