//! Emoji and other characters as a reader counts them: extended grapheme clusters (Unicode Standard
//! Annex 29).

use std::borrow::Cow;

use icu_properties::CodePointSetData;
use icu_properties::props::{Emoji, EmojiComponent, ExtendedPictographic, RegionalIndicator};
use unicode_segmentation::UnicodeSegmentation;

/// No shortcode is as long.
const MAX: usize = 64;

/// So many emoji stand large; more are a text of their own.
const LARGE_EMOJI_MAX: usize = 8;

/// Whether a text is a few emoji and nothing else, which are shown large.
pub fn is_emoji(text: &str) -> bool {
    // Nearly every message is told by its first character.
    let may_be = |c: char| !c.is_ascii() || c.is_ascii_digit() || matches!(c, '#' | '*');
    if !text.trim_start().starts_with(may_be) {
        return false;
    }
    let mut count = 0;
    for grapheme in text.graphemes(true) {
        if grapheme.chars().all(char::is_whitespace) {
            continue;
        }
        count += 1;
        if count > LARGE_EMOJI_MAX || !is_one_emoji(grapheme) {
            return false;
        }
    }
    count > 0
}

/// A text with the emoji that its shortcodes mean (`:tada:`), apart from those in code.
pub fn with_emoji(text: &str) -> Cow<'_, str> {
    if text.bytes().filter(|b| *b == b':').nth(1).is_none() {
        return Cow::Borrowed(text);
    }
    let code = super::code(text);
    let (mut shown, mut rest) = (String::new(), 0);
    let mut from = 0;
    while let Some(start) = text[from..].find(':').map(|at| from + at) {
        from = start + 1;
        let after = &text[from..];
        let length = after.bytes().take(MAX).position(|b| b == b':');
        let Some(emoji) = length.and_then(|length| emojis::get_by_shortcode(&after[..length]))
        else {
            continue;
        };
        if code.iter().any(|code| code.contains(&start)) {
            continue;
        }
        shown += &text[rest..start];
        shown += emoji.as_str();
        rest = from + length.unwrap_or(0) + 1;
        from = rest;
    }
    match rest {
        0 => Cow::Borrowed(text),
        _ => Cow::Owned(shown + &text[rest..]),
    }
}

/// Whether a grapheme cluster is an emoji: a keycap, a flag, or a pictograph with what joins, colours
/// and varies it (Unicode Technical Standard 51).
fn is_one_emoji(grapheme: &str) -> bool {
    let mut chars = grapheme.chars();
    let Some(first) = chars.next() else {
        return false;
    };
    if first.is_ascii() {
        let keycap = chars.as_str().trim_start_matches('\u{fe0f}');
        return matches!(first, '0'..='9' | '#' | '*') && keycap == "\u{20e3}";
    }
    if CodePointSetData::new::<RegionalIndicator>().contains(first) {
        return chars.next().is_some();
    }
    let is_part = |c: char| {
        CodePointSetData::new::<Emoji>().contains(c)
            || CodePointSetData::new::<EmojiComponent>().contains(c)
    };
    CodePointSetData::new::<ExtendedPictographic>().contains(first)
        && CodePointSetData::new::<Emoji>().contains(first)
        && chars.all(is_part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_emoji_are_large() {
        for text in [
            "😋",
            "👍🏽",
            "🏳️‍🌈 🎉",
            "❤️",
            "❤",
            "🇩🇪",
            "👨‍👩‍👧‍👦",
            "1️⃣",
            "#️⃣ *️⃣",
            "🏴󠁧󠁢󠁳󠁣󠁴󠁿",
            "👨‍👩‍👧‍👦👨‍👩‍👧‍👦👨‍👩‍👧‍👦👨‍👩‍👧‍👦👨‍👩‍👧‍👦",
            "🇩🇪🇫🇷🇮🇹🇪🇸🇵🇱🇺🇦🇳🇱🇬🇧",
            "🎉\n🎉",
        ] {
            assert!(is_emoji(text), "{text}");
        }
        for text in [
            "",
            " ",
            "a",
            "1",
            "42",
            "#",
            "*",
            "1\u{fe0f}",
            "🇩",
            "😋!",
            "©x",
            "é",
            "🎉🎉🎉🎉🎉🎉🎉🎉🎉",
            "中文",
        ] {
            assert!(!is_emoji(text), "{text}");
        }
    }

    #[test]
    fn shortcodes_are_emoji_except_in_code() {
        for (typed, shown) in [
            ("well done :tada:", "well done 🎉"),
            (":+1::tada:", "👍🎉"),
            ("`:tada:` :tada:", "`:tada:` 🎉"),
            ("```\n:tada:\n```", "```\n:tada:\n```"),
            (
                "at 10:30:45, std::fmt::Write, :nothing:, ::",
                "at 10:30:45, std::fmt::Write, :nothing:, ::",
            ),
            (":é:tada:", ":é🎉"),
        ] {
            assert_eq!(with_emoji(typed), shown);
        }
    }
}
