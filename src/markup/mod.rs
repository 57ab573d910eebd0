//! The markup of a message: its text as a list of parts, which a template prints.
//!
//! A subset of CommonMark: bold, italic, strike, code, quotes, lists, links with a text. Headings are bold, and
//! HTML, images and tables stay as they were typed, like everything else: line breaks, indentation, blank
//! lines. The work is linear in the text, whatever the text is: see the property test below.

mod emoji;
mod links;
mod names;
mod reader;

use std::borrow::Cow;
use std::ops::Range;

use pulldown_cmark::{CodeBlockKind, Event, Options, Parser, Tag};

use crate::domain::Mentioned;

pub use emoji::{is_emoji, with_emoji};
pub use names::{names, parts_with_names, without_names};
use reader::Reader;

/// A piece of a message.
#[derive(Debug, PartialEq, Eq)]
pub enum Part<'a> {
    /// As it was typed.
    Text(&'a str),
    /// An http(s) address.
    Link(&'a str),
    /// Somebody's name after an `@`, with that.
    Name(&'a str, Mentioned),
    /// A code span: between backticks.
    Code(Cow<'a, str>),
    /// A code block: between fences, with the language's name, if there is one.
    Block(Cow<'a, str>, Cow<'a, str>),
    /// From here on the text is marked.
    Open(Mark<'a>),
    /// Up to here it was. What was opened last is closed first.
    Close(Mark<'a>),
    /// Where the link before leads, which its text says otherwise.
    LeadsTo(Cow<'a, str>),
}

/// How a piece of text is marked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mark<'a> {
    /// Important, or a heading.
    Strong,
    /// Stressed.
    Emphasis,
    /// No longer so.
    Strike,
    /// Somebody else's words.
    Quote,
    /// A list with bullets.
    List,
    /// A list that is numbered from here on.
    Numbered(u64),
    /// An item of a list.
    Item,
    /// A link to an http(s) address.
    LinkTo(Cow<'a, str>),
}

/// Takes a text apart.
pub fn parts(text: &str) -> Vec<Part<'_>> {
    if !may_have_marks(text) {
        let mut parts = Vec::new();
        links::add_linked(text, &mut parts);
        return parts;
    }
    let mut reader = Reader::new(text);
    for (event, range) in Parser::new_ext(text, Options::ENABLE_STRIKETHROUGH).into_offset_iter() {
        reader.read(event, range);
    }
    reader.end()
}

/// A text without its marks, on one line: what quotes and lists of rooms show of it.
pub fn plain(text: &str) -> String {
    let words = parts(text).into_iter().map(|part| match part {
        Part::Text(text) | Part::Link(text) | Part::Name(text, _) => Cow::Borrowed(text),
        Part::Code(code) => code,
        Part::Block(_, code) => Cow::Owned(format!(" {code} ")),
        Part::LeadsTo(to) => Cow::Owned(format!(" ({to})")),
        Part::Open(Mark::Quote | Mark::Item) | Part::Close(Mark::Quote | Mark::Item) => {
            Cow::Borrowed(" ")
        }
        Part::Open(_) | Part::Close(_) => Cow::Borrowed(""),
    });
    let words: String = words.collect();
    words.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Whether a text may have any mark at all; hardly any message has.
fn may_have_marks(text: &str) -> bool {
    let has_mark = text.bytes().any(|b| {
        matches!(
            b,
            b'`' | b'~' | b'*' | b'_' | b'[' | b'<' | b'>' | b'#' | b'-' | b'+' | b'=' | b'\\'
        )
    });
    has_mark
        || text.lines().any(|line| {
            let line = line.trim_start();
            line.starts_with(|c: char| c.is_ascii_digit())
                && line
                    .trim_start_matches(|c: char| c.is_ascii_digit())
                    .starts_with(['.', ')'])
        })
}

/// Where code stands in a text.
fn code(text: &str) -> Vec<Range<usize>> {
    if !text.contains('`') && !text.contains("~~~") {
        return Vec::new();
    }
    let is_code = |event: &Event<'_>| {
        matches!(
            event,
            Event::Code(_) | Event::Start(Tag::CodeBlock(CodeBlockKind::Fenced(_)))
        )
    };
    let events = Parser::new(text).into_offset_iter();
    let code = events.filter(|(event, _)| is_code(event));
    code.map(|(_, range)| range).collect()
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    fn block(code: &str) -> Part<'_> {
        Part::Block("".into(), code.into())
    }

    fn span(code: &str) -> Part<'_> {
        Part::Code(code.into())
    }

    #[test]
    fn code_is_shown_as_it_is() {
        assert_eq!(
            parts("try `a https://b.example` now"),
            [
                Part::Text("try "),
                span("a https://b.example"),
                Part::Text(" now"),
            ]
        );
        assert_eq!(
            parts("so:\n```rust\nlet a = `b`;\n\n  c\n```\nthere"),
            [
                Part::Text("so:"),
                Part::Block("rust".into(), "let a = `b`;\n\n  c".into()),
                Part::Text("there"),
            ]
        );
        for text in [
            "it`s",
            "``",
            "```",
            "```\n\n```",
            "~~~",
            "a ~~~ b",
            "``` on ` a line",
            "    indented",
            "snake_case_name and 2 * 3 * 4",
            "<b>no</b> HTML, ![nor](https://a.example/b.png) images",
            "[nor](javascript:alert(1)) <javascript:alert(1)>",
            "[a]: https://a.example/x",
            "| a | b |\n|---|---|\n| 1 | 2 |",
            "a\n\n\n\nb\n  indented",
            "&amp; &lt;",
            "---",
        ] {
            let shown: String = { parts(text).into_iter() }
                .map(|part| match part {
                    Part::Text(text) | Part::Link(text) => text,
                    other => panic!("{other:?} in {text:?}"),
                })
                .collect();
            assert_eq!(shown, text);
        }
        assert_eq!(parts("```\nonly\n```"), [block("only")]);
    }

    #[test]
    fn code_is_commonmarks() {
        for (text, expected) in [
            // Only a bare fence, at least as long, of the same character ends a block.
            ("```\n```bash\nls\n```", vec![block("```bash\nls")]),
            ("````\n```\nls\n```\n````", vec![block("```\nls\n```")]),
            ("~~~\n```\nls\n~~~\n", vec![block("```\nls")]),
            (
                "~~~ruby\nx\n~~~~",
                vec![Part::Block("ruby".into(), "x".into())],
            ),
            ("```\nls\n  ```  ", vec![block("ls")]),
            ("```\nnever closed", vec![block("never closed")]),
            ("a\n```\n1\n```\n~~~\n2\n~~~\nb", {
                vec![Part::Text("a"), block("1"), block("2"), Part::Text("b")]
            }),
            ("`` a ` b ``", vec![span("a ` b")]),
            ("a `b` c `d", {
                vec![Part::Text("a "), span("b"), Part::Text(" c `d")]
            }),
            ("``` not a block ```", vec![span("not a block")]),
        ] {
            assert_eq!(parts(text), expected, "{text:?}");
        }
    }

    /// A short form of parts: `{strong}`, `{/strong}`.
    fn told(text: &str) -> String {
        let name = |mark: &Mark<'_>| match mark {
            Mark::LinkTo(to) => format!("to {to}"),
            Mark::Numbered(from) => format!("from {from}"),
            mark => format!("{mark:?}").to_lowercase(),
        };
        let tell = |part: &Part<'_>| match part {
            Part::Text(text) | Part::Name(text, _) => (*text).to_owned(),
            Part::Link(to) => format!("{{link {to}}}"),
            Part::Code(code) => format!("{{code {code}}}"),
            Part::Block(language, code) => format!("{{block {language} {code}}}"),
            Part::Open(mark) => format!("{{{}}}", name(mark)),
            Part::Close(mark) => format!("{{/{}}}", name(mark)),
            Part::LeadsTo(to) => format!("{{leads to {to}}}"),
        };
        parts(text).iter().map(tell).collect()
    }

    #[test]
    fn marks_are_commonmarks_and_the_rest_as_typed() {
        for (text, expected) in [
            ("a **b** c", "a {strong}b{/strong} c"),
            (
                "*a* _b_ ~~c~~",
                "{emphasis}a{/emphasis} {emphasis}b{/emphasis} {strike}c{/strike}",
            ),
            (
                "**a *b* `c`**",
                "{strong}a {emphasis}b{/emphasis} {code c}{/strong}",
            ),
            (
                "one\n  two **x**\n\n\nthree",
                "one\n  two {strong}x{/strong}\n\n\nthree",
            ),
            ("# Title\ntext", "{strong}Title{/strong}\ntext"),
            (
                "so:\n> quoted\n> twice\n\nme",
                "so:{quote}quoted\ntwice{/quote}me",
            ),
            (
                "- a\n- b **c**",
                "{list}{item}a{/item}{item}b {strong}c{/strong}{/item}{/list}",
            ),
            (
                "3. a\n4. b",
                "{from 3}{item}a{/item}{item}b{/item}{/from 3}",
            ),
            (
                "[docs](https://a.example)!",
                "{to https://a.example}docs{/to https://a.example}!",
            ),
            (
                "<https://a.example/x_y_z>",
                "{link https://a.example/x_y_z}",
            ),
            (
                "see https://a.example/a_(b)_c, **x**",
                "see {link https://a.example/a_(b)_c}, {strong}x{/strong}",
            ),
            (
                "[https://bank.example](https://evil.example/x)",
                "{to https://evil.example/x}https://bank.example{/to https://evil.example/x}\
                 {leads to https://evil.example/x}",
            ),
            (
                "[a.example](https://a.example/x)",
                "{to https://a.example/x}a.example{/to https://a.example/x}",
            ),
            ("\\*no\\* \\_way\\_", "*no* _way_"),
            (
                "`*a*` and *`b`*",
                "{code *a*} and {emphasis}{code b}{/emphasis}",
            ),
            ("* a\n\n  b", "{list}{item}a\nb{/item}{/list}"),
        ] {
            assert_eq!(told(text), expected, "{text:?}");
        }
    }

    #[test]
    fn a_quote_shows_words() {
        for (text, words) in [
            ("**a** `b`\n- c\n- [d](https://d.example)", "a b c d"),
            ("> a\n\nb  c", "a b c"),
            (
                "[https://a.example](https://b.example)",
                "https://a.example (https://b.example)",
            ),
            ("a_b * c", "a_b * c"),
        ] {
            assert_eq!(plain(text), words);
        }
    }

    #[test]
    fn nesting_is_bounded_and_balanced() {
        for deep in [
            ">".repeat(4_000),
            "> ".repeat(2_000),
            "- ".repeat(2_000),
            "*a **b ".repeat(500),
        ] {
            let text = format!("{deep}x");
            let (mut depth, mut deepest) = (0_usize, 0);
            for part in parts(&text) {
                match part {
                    Part::Open(_) => depth += 1,
                    Part::Close(_) => depth -= 1,
                    _ => {}
                }
                deepest = deepest.max(depth);
            }
            assert_eq!(depth, 0);
            assert!(deepest <= 16, "{deepest}");
        }
    }

    /// A message of 4,000 characters takes a fraction of a millisecond, whatever the characters are.
    /// The bound is wide, because tests are not optimised and share their cores; what grew with the
    /// square of the text would still be far beyond it.
    #[test]
    fn the_work_is_linear_in_the_text() {
        const LONGEST: Duration = Duration::from_millis(40);
        let punctuation: Vec<String> = (' '..='~')
            .filter(|c| !c.is_ascii_alphanumeric())
            .chain(['a', '\n', '（', '—', '\u{202e}', '👨'])
            .map(String::from)
            .collect();
        let words = [
            "http://",
            "https://a",
            "https://a.b/(",
            "www.",
            "a@b.c ",
            "- `",
            "> ```\n",
            "> ",
            "- ",
            "[a](",
            "**a",
            "![",
            "[a]: ",
        ];
        let pieces: Vec<&str> = punctuation
            .iter()
            .map(String::as_str)
            .chain(words)
            .collect();
        let timed = |text: &str| {
            let began = Instant::now();
            let shown = parts(text).len();
            let emoji = is_emoji(text);
            std::hint::black_box((shown, emoji));
            began.elapsed()
        };
        let mut slowest = (Duration::ZERO, String::new());
        for a in &pieces {
            for b in pieces.iter().chain(&[""]) {
                let text: String = [*a, *b].concat().chars().cycle().take(4_000).collect();
                // The best of some, as another process may have had the core: that of long work stays long.
                let mut took = timed(&text);
                for _ in 0..50 {
                    if took < LONGEST {
                        break;
                    }
                    took = took.min(timed(&text));
                }
                if took > slowest.0 {
                    slowest = (took, format!("{a:?} and {b:?}"));
                }
            }
        }
        assert!(slowest.0 < LONGEST, "{slowest:?}");
    }
}
