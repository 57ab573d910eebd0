//! Properties of characters that several rules ask for, from the Unicode database.

use icu_properties::CodePointSetData;
use icu_properties::props::{BidiControl, DefaultIgnorableCodePoint, WhiteSpace};
use unicode_segmentation::UnicodeSegmentation;

/// Whether a character draws nothing by itself: white space, default-ignorable code points (joiners,
/// variation selectors, fillers, tags), and the two blank symbols, which have no property that says so.
pub fn is_blank(c: char) -> bool {
    const BRAILLE_PATTERN_BLANK: char = '\u{2800}';
    const MUSICAL_SYMBOL_NULL_NOTEHEAD: char = '\u{1d159}';
    c.is_control()
        || CodePointSetData::new::<WhiteSpace>().contains(c)
        || is_ignorable(c)
        || matches!(c, BRAILLE_PATTERN_BLANK | MUSICAL_SYMBOL_NULL_NOTEHEAD)
}

/// Whether a character is one that programs may leave out when they draw a text.
pub fn is_ignorable(c: char) -> bool {
    CodePointSetData::new::<DefaultIgnorableCodePoint>().contains(c)
}

/// Whether a character turns the direction of the text after it around.
pub fn is_bidi_control(c: char) -> bool {
    CodePointSetData::new::<BidiControl>().contains(c)
}

/// Whether a terminal or an editor may act on a character instead of drawing it: control characters,
/// line and paragraph separators, and bidirectional controls.
pub fn is_unsafe_to_print(c: char) -> bool {
    if c.is_ascii() {
        return c.is_ascii_control();
    }
    c.is_control() || matches!(c, '\u{2028}' | '\u{2029}') || is_bidi_control(c)
}

/// The first 160 characters of a text, as a reader counts them (extended grapheme clusters, Unicode
/// Standard Annex 29): none is cut in two. Fewer when they are made of much, as by a pile of accents.
pub fn excerpt(text: &str) -> &str {
    const CHARS_MAX: usize = 160;
    const BYTES_MAX: usize = 1_600;
    let ends = text.grapheme_indices(true).map(|(at, one)| at + one.len());
    let fitting = ends.take(CHARS_MAX).take_while(|end| *end <= BYTES_MAX);
    let end = fitting
        .last()
        .unwrap_or_else(|| text.floor_char_boundary(BYTES_MAX));
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_character_is_cut_in_two() {
        let family = "👨‍👩‍👧‍👦";
        for (one, times) in [("a", 160), ("e\u{301}", 160), ("🇩🇪", 160), (family, 64)] {
            assert_eq!(excerpt(&one.repeat(200)), one.repeat(times), "{one}");
        }
        assert_eq!(excerpt("ab"), "ab");
        assert_eq!(excerpt(""), "");
        let pile = format!("e{}", "\u{301}".repeat(3_999));
        assert!(excerpt(&pile).len() <= 1_600);
        assert!(!excerpt(&pile).is_empty());
    }
}
