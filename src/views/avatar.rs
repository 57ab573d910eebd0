//! Avatars: pictures made from names.

use askama::Template;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use crate::domain::Username;
use crate::fnv::fnv1a;

/// Dark enough for a white letter on them (at least 4.5 to 1), told apart by people who see colours
/// differently by the letter.
const COLOURS: [&str; 12] = [
    "#0f6b62", "#8a3b12", "#5b4a9e", "#96306b", "#3d6212", "#1f5f99", "#a12f2f", "#6b5310",
    "#2f6f4e", "#7a3f8f", "#3a5a78", "#7d4a3a",
];

/// A picture made from a name: its first letter on a colour of its own. The same for ever, so
/// browsers keep it for ever; when the drawing changes, the number in its address does.
#[derive(Template)]
#[template(path = "avatar.svg")]
pub struct Avatar {
    letter: String,
    colour: &'static str,
}

impl Avatar {
    /// The part of its address before the name.
    pub const PREFIX: &'static str = "/avatars/1/";

    /// The picture of whoever has this name.
    pub fn of(name: &Username) -> Self {
        let first = name.as_str().chars().next();
        // The same for every spelling of the name.
        let hash = fnv1a(&name.key());
        Self {
            letter: first.into_iter().flat_map(char::to_uppercase).collect(),
            colour: COLOURS[hash as usize % COLOURS.len()],
        }
    }

    /// Where that picture is.
    pub fn path(name: &str) -> String {
        let name = utf8_percent_encode(name, NON_ALPHANUMERIC);
        format!("{}{name}.svg", Self::PREFIX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Relative luminance (WCAG 2.2).
    fn luminance(colour: &str) -> f64 {
        let channel = |at: usize| {
            let value = u8::from_str_radix(&colour[at..at + 2], 16).unwrap();
            let value = f64::from(value) / 255.0;
            match value <= 0.04045 {
                true => value / 12.92,
                false => ((value + 0.055) / 1.055).powf(2.4),
            }
        };
        0.2126 * channel(1) + 0.7152 * channel(3) + 0.0722 * channel(5)
    }

    #[test]
    fn the_letter_can_be_read_on_every_colour() {
        for colour in COLOURS {
            let contrast = 1.05 / (luminance(colour) + 0.05);
            assert!(contrast >= 4.5, "{colour}: {contrast}");
        }
    }

    #[test]
    fn a_name_has_one_picture_however_it_is_spelled() {
        let of = |name: &str| Avatar::of(&Username::parse(name).unwrap());
        assert_eq!(of("ana").colour, of("Ana").colour);
        assert_eq!(of("żaneta").letter, "Ż");
        assert_eq!(Avatar::path("żaneta"), "/avatars/1/%C5%BCaneta.svg");
    }
}
