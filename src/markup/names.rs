//! Names of people in a text: `@ana`.

use std::ops::Range;

use icu_properties::CodePointMapData;
use icu_properties::props::Script;
use unicode_segmentation::UnicodeSegmentation;

use super::{Mark, Part};
use crate::domain::{Mentioned, MessageBody, Username};

/// The longest that a name is looked for, with the signs after it.
const CHARS_MAX: usize = 40;

/// So many forms of names are looked for in a text, some hundred names at least: a text may be made of
/// nothing else.
const FORMS_MAX: usize = 500;

/// The names in a text, each in every form that may be meant, the longest first: where a sentence ends with
/// a name its full stop may belong to it. Names in code, in quotes and in links are not meant.
pub fn names(text: &str) -> Vec<Vec<&str>> {
    if !text.contains('@') {
        return Vec::new();
    }
    let mut names = Vec::new();
    for (part, is_meant) in with_meaning(super::parts(text)) {
        if let (Part::Text(text), true) = (part, is_meant) {
            names.extend(Names::of(text).map(|(_, name)| forms(name).collect::<Vec<_>>()));
        }
    }
    let mut left = FORMS_MAX;
    names.retain(|forms| {
        let fits = forms.len() <= left;
        left = if fits { left - forms.len() } else { 0 };
        fits
    });
    names
}

/// A text without the names of somebody who is a former member now, also in code and quotes; `None` when it names
/// them nowhere. Of a longer name that `is_anothers` nothing is taken away.
pub fn without_names(
    text: &str,
    is_theirs: impl Fn(&str) -> bool,
    is_anothers: impl Fn(&str) -> bool,
) -> Option<String> {
    let theirs = text.match_indices('@').filter_map(|(at, _)| {
        let written = Written::after(text, at)?;
        let forms: Vec<&str> = forms(&written.name).collect();
        let found = forms.iter().position(|form| is_theirs(form))?;
        // As a mention is found: the longest name that there is.
        let is_longer = forms[..found].iter().any(|form| is_anothers(form));
        (!is_longer).then(|| at..written.end_of(forms[found]))
    });
    let theirs: Vec<Range<usize>> = theirs.collect();
    if theirs.is_empty() {
        return None;
    }
    let with = |instead: &str| {
        let mut without = String::with_capacity(text.len());
        let mut rest = 0;
        for name in &theirs {
            without.push_str(&text[rest..name.start]);
            without.push_str(instead);
            rest = name.end;
        }
        without.push_str(&text[rest..]);
        without
    };
    let without = with(Username::FORMER);
    match without.chars().count() > MessageBody::CHARS_MAX {
        // It was as long as a text may be.
        true => Some(with("@")),
        false => Some(without),
    }
}

/// The parts of a text, with the names told apart that `find` knows.
pub fn parts_with_names(text: &str, find: impl Fn(&str) -> Option<Mentioned>) -> Vec<Part<'_>> {
    let mut parts = Vec::new();
    let mut left = FORMS_MAX;
    let mut find = |name: &str| {
        left = left.checked_sub(1)?;
        find(name)
    };
    for (part, is_meant) in with_meaning(super::parts(text)) {
        match part {
            Part::Text(text) if is_meant => add_named(text, &mut find, &mut parts),
            part => parts.push(part),
        }
    }
    parts
}

/// Parts, each with whether it is its author's own words.
fn with_meaning<'a>(parts: Vec<Part<'a>>) -> impl Iterator<Item = (Part<'a>, bool)> {
    let mut around = 0_usize;
    parts.into_iter().map(move |part| {
        match &part {
            Part::Open(Mark::Quote | Mark::LinkTo(_)) => around += 1,
            Part::Close(Mark::Quote | Mark::LinkTo(_)) => around -= 1,
            _ => {}
        }
        (part, around == 0)
    })
}

fn add_named<'a>(
    text: &'a str,
    mut find: impl FnMut(&str) -> Option<Mentioned>,
    parts: &mut Vec<Part<'a>>,
) {
    let mut rest = 0;
    for (at, name) in Names::of(text) {
        let found = forms(name).find_map(|form| Some((form, find(form)?)));
        let Some((form, whom)) = found else { continue };
        let end = at + '@'.len_utf8() + form.len();
        if rest < at {
            parts.push(Part::Text(&text[rest..at]));
        }
        parts.push(Part::Name(&text[at..end], whom));
        rest = end;
    }
    if rest < text.len() {
        parts.push(Part::Text(&text[rest..]));
    }
}

/// A name as it is written in a text with its marks: a sign of it may stand behind a backslash.
struct Written {
    name: String,
    /// The end in the text of each of its characters.
    ends: Vec<usize>,
}

impl Written {
    /// The possible name after the `@` at a place.
    fn after(text: &str, at: usize) -> Option<Self> {
        // The marks of emphasis may stand before it, too.
        let is_in_address = |c: char| ends_address(c) && c != '_';
        let mut name = Self {
            name: String::new(),
            ends: Vec::new(),
        };
        let mut rest = text[at + 1..].char_indices().peekable();
        while let Some((from, c)) = rest.next() {
            let sign = rest
                .peek()
                .filter(|(_, sign)| matches!(sign, '-' | '_' | '.'));
            let (c, end) = match (c, sign) {
                ('\\', Some(&(_, sign))) => {
                    rest.next();
                    (sign, from + 2)
                }
                (c, _) if is_in_name(c) => (c, from + c.len_utf8()),
                ('@', _) => return None,
                _ => break,
            };
            name.name.push(c);
            name.ends.push(at + 1 + end);
        }
        let is_name = name.name.starts_with(char::is_alphanumeric);
        (is_name && !text[..at].ends_with(is_in_address)).then_some(name)
    }

    /// The end in the text of one of its forms.
    fn end_of(&self, form: &str) -> usize {
        let last = form.chars().count().saturating_sub(1);
        self.ends.get(last).copied().unwrap_or(0)
    }
}

/// The possible names in a text, each with where its `@` stands.
struct Names<'a> {
    text: &'a str,
    from: usize,
}

impl<'a> Names<'a> {
    fn of(text: &'a str) -> Self {
        Self { text, from: 0 }
    }
}

impl<'a> Iterator for Names<'a> {
    type Item = (usize, &'a str);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let at = self.from + self.text[self.from..].find('@')?;
            let after = &self.text[at + 1..];
            let length = after.find(|c| !is_in_name(c)).unwrap_or(after.len());
            self.from = at + 1 + length;
            let name = &after[..length];
            // An address, as of mail, has something on both sides.
            let is_address =
                self.text[..at].ends_with(ends_address) || after[length..].starts_with('@');
            if !is_address && name.starts_with(char::is_alphanumeric) {
                return Some((at, name));
            }
        }
    }
}

/// Whether the part of an address before its `@` ends with a character. In scripts without case people
/// write names and other words without spaces.
fn ends_address(c: char) -> bool {
    c.is_ascii_digit() || c.is_lowercase() || c.is_uppercase() || matches!(c, '_' | '@')
}

/// Whether a name may hold a character, at some place.
fn is_in_name(c: char) -> bool {
    let is_joiner = matches!(c, '\u{200c}' | '\u{200d}');
    c.is_alphanumeric() || is_mark(c) || is_joiner || matches!(c, '-' | '_' | '.')
}

fn is_mark(c: char) -> bool {
    unicode_normalization::char::is_combining_mark(c)
}

/// The forms in which a name may be meant: without the signs at its end, and where people write without
/// spaces also up to any letter.
fn forms(name: &str) -> impl Iterator<Item = &str> {
    let end = name.char_indices().nth(CHARS_MAX);
    let name = end.map_or(name, |(end, _)| &name[..end]);
    let signs = name.trim_end_matches(['-', '_', '.']).len();
    let ends = name.grapheme_indices(true).map(|(at, _)| at).skip(1);
    let ends = ends.filter(move |at| *at >= signs || name[*at..].starts_with(is_written_on));
    let ends: Vec<usize> = ends.chain([name.len()]).collect();
    ends.into_iter().rev().map(move |end| &name[..end])
}

/// Whether a letter may follow a name without a space between them.
fn is_written_on(c: char) -> bool {
    let scripts = CodePointMapData::<Script>::new();
    [
        Script::Han,
        Script::Hiragana,
        Script::Katakana,
        Script::Hangul,
        Script::Thai,
        Script::Lao,
        Script::Khmer,
        Script::Myanmar,
    ]
    .contains(&scripts.get(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The longest form of each name.
    fn longest(text: &str) -> Vec<&str> {
        names(text)
            .into_iter()
            .filter_map(|forms| forms.first().copied())
            .collect()
    }

    #[test]
    fn names_are_meant_outside_of_code_quotes_and_links() {
        for (text, expected) in [
            ("@ana hello", vec!["ana"]),
            (
                "hello, @ana, (@ben) and **@cleo**!",
                vec!["ana", "ben", "cleo"],
            ),
            ("@ana @Ben_2 @c-d.e", vec!["ana", "Ben_2", "c-d.e"]),
            ("`@ana` and\n```\n@ben\n```", vec![]),
            ("> @ana said\n\n@ben", vec!["ben"]),
            ("[@ana](https://a.example) https://b.example/@ben", vec![]),
            ("ana@example.org @ana@example.org mail@b", vec![]),
            ("@ @- a@", vec![]),
            ("你好@李 привет@ана", vec!["李"]),
            ("- @ana\n- @snake_case_name", vec!["ana", "snake_case_name"]),
            ("@ana/@ben", vec!["ana", "ben"]),
        ] {
            assert_eq!(longest(text), expected, "{text:?}");
        }
        assert_eq!(names("thanks @ana.")[0], ["ana.", "ana"]);
        assert_eq!(
            names("@ana.b_..")[0],
            ["ana.b_..", "ana.b_.", "ana.b_", "ana.b"]
        );
        assert_eq!(names("@李你好")[0], ["李你好", "李你", "李"]);
        // Letters of scripts with spaces are one name, and no letter is cut from its vowel.
        assert_eq!(names("@علياء")[0].len(), 1);
        assert_eq!(names("@किरण")[0].len(), 1);
        assert_eq!(names("@ชาญชัย")[0].last(), Some(&"ช"));
        let crowd = format!("@{} ", "李".repeat(60)).repeat(60);
        let forms: usize = names(&crowd).iter().map(Vec::len).sum();
        assert!((400..=FORMS_MAX).contains(&forms), "{forms}");
    }

    #[test]
    fn a_text_names_nobody_who_is_gone() {
        let is_anothers = |name: &str| ["김철수", "ana-"].contains(&name);
        let was_theirs = |name: &str| {
            let key = Username::stored(name).key();
            ["ana", "anna.b", "김", "snake_case", "علی\u{200c}رضا"]
                .map(|name| Username::stored(name).key())
                .contains(&key)
        };
        for (text, expected) in [
            ("hello @ana!", Some("hello former member!")),
            ("@ANA, @ana.", Some("former member, former member.")),
            ("(@anna.b)", Some("(former member)")),
            ("@anna.b.", Some("former member.")),
            ("> @ana `@ana`", Some("> former member `former member`")),
            ("@علی\u{200c}رضا و", Some("former member و")),
            (
                "a former member and @ana",
                Some("a former member and former member"),
            ),
            ("ana, a@b @ben @", None),
            ("@anabel @ana_b info@ana.example @ana@b", None),
            ("_@ana_ ~~@ana~~", Some("_former member_ ~~former member~~")),
            ("__@ana__", Some("__former member__")),
            ("@snake\\_case!", Some("former member!")),
            (
                "@김철수 @김 @김이 @ana-",
                Some("@김철수 former member former member이 @ana-"),
            ),
            ("", None),
        ] {
            assert_eq!(
                without_names(text, was_theirs, is_anothers).as_deref(),
                expected,
                "{text}"
            );
        }
        let long = format!(
            "a former member{} @ana",
            "x".repeat(MessageBody::CHARS_MAX - 20)
        );
        let without = without_names(&long, was_theirs, is_anothers).unwrap();
        assert!(without.starts_with("a former member") && without.ends_with("x @"));
    }

    #[test]
    fn only_known_names_are_told_apart() {
        let find = |name: &str| (name == "ana").then_some(Mentioned::Room);
        assert_eq!(
            parts_with_names("hi @ana. and @ben", find),
            [
                Part::Text("hi "),
                Part::Name("@ana", Mentioned::Room),
                Part::Text(". and @ben"),
            ]
        );
        assert_eq!(
            parts_with_names("@ana", find),
            [Part::Name("@ana", Mentioned::Room)]
        );
        assert_eq!(parts_with_names("> @ana", find).len(), 3);
    }
}
