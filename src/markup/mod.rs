//! The markup of a message: its text as a list of code, links and plain text.
//!
//! Code is CommonMark's, fenced or between backticks; everything else stays as it was typed. The work is
//! linear in the text, whatever the text is: see the property test below.

mod emoji;
mod links;

use std::borrow::Cow;
use std::ops::Range;

use pulldown_cmark::{CodeBlockKind, Event, Parser, Tag, TagEnd};

pub use emoji::is_emoji;

/// A piece of a message.
#[derive(Debug, PartialEq, Eq)]
pub enum Part<'a> {
    /// As it was typed.
    Text(&'a str),
    /// An http(s) address.
    Link(&'a str),
    /// A code span: between backticks.
    Code(Cow<'a, str>),
    /// A code block: between fences.
    Block(Cow<'a, str>),
}

/// Takes a text apart.
pub fn parts(text: &str) -> Vec<Part<'_>> {
    let mut parts = Vec::new();
    let mut rest = 0;
    for (range, code) in code(text) {
        let before = text.get(rest..range.start).unwrap_or("");
        match code {
            Part::Block(_) => links::add_linked(before.trim_end_matches('\n'), &mut parts),
            _ => links::add_linked(before, &mut parts),
        }
        rest = range.end;
        if matches!(code, Part::Block(_)) {
            let after = text.get(rest..).unwrap_or("");
            rest += after.len() - after.trim_start_matches('\n').len();
        }
        parts.push(code);
    }
    links::add_linked(text.get(rest..).unwrap_or(""), &mut parts);
    parts
}

/// The code in a text, and where it stands.
fn code(text: &str) -> Vec<(Range<usize>, Part<'_>)> {
    // Hardly any message has some.
    if !text.contains('`') && !text.contains("~~~") {
        return Vec::new();
    }
    let mut found = Vec::new();
    let mut block: Option<(Range<usize>, Cow<'_, str>)> = None;
    for (event, range) in Parser::new(text).into_offset_iter() {
        match event {
            Event::Code(code) => found.push((range, Part::Code(code.into()))),
            Event::Start(Tag::CodeBlock(CodeBlockKind::Fenced(_))) => {
                block = Some((range, Cow::Borrowed("")));
            }
            Event::Text(line) => {
                if let Some((_, lines)) = &mut block {
                    match lines.is_empty() {
                        true => *lines = line.into(),
                        false => lines.to_mut().push_str(&line),
                    }
                }
            }
            Event::End(TagEnd::CodeBlock) => {
                // A fence with nothing in it is a text like any other.
                if let Some((range, lines)) = block.take()
                    && !lines.trim().is_empty()
                {
                    found.push((range, Part::Block(without_last_breaks(lines))));
                }
            }
            _ => {}
        }
    }
    found
}

fn without_last_breaks(lines: Cow<'_, str>) -> Cow<'_, str> {
    match lines {
        Cow::Borrowed(lines) => Cow::Borrowed(lines.trim_end_matches('\n')),
        Cow::Owned(mut lines) => {
            lines.truncate(lines.trim_end_matches('\n').len());
            Cow::Owned(lines)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    fn block(code: &str) -> Part<'_> {
        Part::Block(code.into())
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
                block("let a = `b`;\n\n  c"),
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
            "*not yet*\n# nor this\n> or this\n<b>or</b> [this](https)",
        ] {
            assert_eq!(parts(text), [Part::Text(text)]);
        }
        assert_eq!(parts("```\nonly\n```"), [block("only")]);
    }

    #[test]
    fn code_is_commonmarks() {
        for (text, expected) in [
            // Only a bare fence, at least as long, of the same character ends a block.
            ("```\n```bash\nls\n```", vec![block("```bash\nls")]),
            ("````md\n```\nls\n```\n````", vec![block("```\nls\n```")]),
            ("~~~\n```\nls\n~~~\n", vec![block("```\nls")]),
            ("~~~ruby\nx\n~~~~", vec![block("x")]),
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

    /// A message of 4,000 characters takes a fraction of a millisecond, whatever the characters are.
    /// The bound is wide, because tests are not optimised and share their cores; what grew with the
    /// square of the text would still be far beyond it.
    #[test]
    fn the_work_is_linear_in_the_text() {
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
                // The best of two, as another process may have had the core.
                let took = timed(&text).min(timed(&text));
                if took > slowest.0 {
                    slowest = (took, format!("{a:?} and {b:?}"));
                }
            }
        }
        assert!(slowest.0 < Duration::from_millis(40), "{slowest:?}");
    }
}
