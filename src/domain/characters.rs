//! Properties of characters that several rules ask for, from the Unicode database.

use icu_properties::CodePointSetData;
use icu_properties::props::{BidiControl, DefaultIgnorableCodePoint, WhiteSpace};

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
