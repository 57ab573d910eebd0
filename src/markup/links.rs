//! Web addresses in a text.

use icu_properties::props::{Emoji, GeneralCategory, GeneralCategoryGroup};
use icu_properties::{CodePointMapData, CodePointSetData};
use linkify::{LinkFinder, LinkKind};

use super::Part;
use crate::domain::characters::is_ignorable;

/// Adds a text's parts: the http(s) addresses in it, and the text between them. A link opens the
/// address that it shows.
pub(super) fn add_linked<'a>(text: &'a str, parts: &mut Vec<Part<'a>>) {
    let mut finder = LinkFinder::new();
    finder.kinds(&[LinkKind::Url]);
    let mut rest = 0;
    let mut searched = 0;
    // Every web address has "://" in it, and none goes beyond a character that ends links: most texts
    // are passed over at the speed of a substring search.
    while let Some(at) = text[searched..].find("://") {
        let tail = searched + at;
        let end = text[tail..]
            .find(ends_link)
            .map_or(text.len(), |length| tail + length);
        for link in finder.links(&text[searched..end]) {
            if is_web(link.as_str()) {
                let (start, end) = (searched + link.start(), searched + link.end());
                add_text(&text[rest..start], parts);
                parts.push(Part::Link(&text[start..end]));
                rest = end;
            }
        }
        searched = end;
    }
    add_text(&text[rest..], parts);
}

fn add_text<'a>(text: &'a str, parts: &mut Vec<Part<'a>>) {
    if !text.is_empty() {
        parts.push(Part::Text(text));
    }
}

/// Whether a reader may take a text for an address.
pub(super) fn looks_like_address(text: &str) -> bool {
    let text = text.trim();
    let is_domain =
        |host: &str| host.split('.').count() > 1 && host.split('.').all(|label| !label.is_empty());
    text.contains("://") || (!text.contains(char::is_whitespace) && is_domain(&host(text)))
}

/// The host of an address, with or without a scheme.
pub(super) fn host(address: &str) -> String {
    let address = address.trim();
    let after = address
        .split_once("://")
        .map_or(address, |(_, after)| after);
    let authority = after.split(['/', '?', '#', '\\']).next().unwrap_or("");
    let host = authority.rsplit('@').next().unwrap_or("");
    let host = host.split(':').next().unwrap_or("").to_lowercase();
    host.trim_start_matches("www.").to_owned()
}

pub(super) fn is_web(address: &str) -> bool {
    ["http://", "https://"].iter().any(|scheme| {
        address
            .get(..scheme.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(scheme))
    })
}

/// Whether a reader takes a character beyond ASCII for the end of an address: punctuation and
/// brackets of every script, spaces, symbols that are no emoji, and everything invisible. Letters,
/// marks, digits and emoji are in addresses that people paste. In ASCII the finder knows.
fn ends_link(c: char) -> bool {
    if c.is_ascii() {
        return false;
    }
    let category = CodePointMapData::<GeneralCategory>::new().get(c);
    let is_word = GeneralCategoryGroup::Letter
        .union(GeneralCategoryGroup::Mark)
        .union(GeneralCategoryGroup::Number)
        .contains(category);
    is_ignorable(c) || !is_word && !CodePointSetData::new::<Emoji>().contains(c)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn linked(text: &str) -> Vec<Part<'_>> {
        let mut parts = Vec::new();
        add_linked(text, &mut parts);
        parts
    }

    #[test]
    fn only_web_addresses_become_links() {
        assert_eq!(
            linked("see https://a.example/x?y=1&z, or (HTTP://b.example)."),
            [
                Part::Text("see "),
                Part::Link("https://a.example/x?y=1&z"),
                Part::Text(", or ("),
                Part::Link("HTTP://b.example"),
                Part::Text(")."),
            ]
        );
        for text in [
            "javascript:alert(1)",
            "ftp://a.example",
            "javascript://a.example/%0aalert(1)",
        ] {
            assert_eq!(linked(text), [Part::Text(text)]);
        }
    }

    #[test]
    fn a_link_ends_where_a_reader_ends_it() {
        for (text, link) in [
            (
                "访问 https://example.com/docs（中文说明）",
                "https://example.com/docs",
            ),
            ("“https://example.com/a”", "https://example.com/a"),
            ("«https://example.com/a»", "https://example.com/a"),
            ("‘https://example.com/a’.", "https://example.com/a"),
            ("„https://example.com/a.“", "https://example.com/a"),
            ("https://example.com/a…", "https://example.com/a"),
            ("https://example.com/a—b", "https://example.com/a"),
            ("https://example.com/a، ثم", "https://example.com/a"),
            ("https://example.com/a؟", "https://example.com/a"),
            ("https://example.com/a。下一句", "https://example.com/a"),
            ("「https://example.com/a」", "https://example.com/a"),
            ("https://example.com/a、b", "https://example.com/a"),
            ("https://example.com/a｜b", "https://example.com/a"),
            ("https://example.com/a।", "https://example.com/a"),
            ("https://example.com/a\u{a0}b", "https://example.com/a"),
            ("https://example.com/a\u{200b}b", "https://example.com/a"),
            (
                "https://example.com/\u{202e}gpj.exe",
                "https://example.com/",
            ),
            ("https://example.com/\u{3164}x", "https://example.com/"),
            ("https://example.com/a\u{feff}", "https://example.com/a"),
            ("https://example.com/a\u{e0041}", "https://example.com/a"),
            ("https://example.com/a).", "https://example.com/a"),
            ("https://example.com/a_(b)", "https://example.com/a_(b)"),
            (
                "https://zh.wikipedia.org/wiki/中文",
                "https://zh.wikipedia.org/wiki/中文",
            ),
            (
                "https://müller.example/straße",
                "https://müller.example/straße",
            ),
            ("https://example.com/🍕 now", "https://example.com/🍕"),
        ] {
            let found: Vec<&str> = linked(text)
                .iter()
                .filter_map(|part| match part {
                    Part::Link(link) => Some(*link),
                    _ => None,
                })
                .collect();
            assert_eq!(found, [link], "{text}");
        }
        assert_eq!(
            linked("https://a.example（https://b.example）"),
            [
                Part::Link("https://a.example"),
                Part::Text("（"),
                Part::Link("https://b.example"),
                Part::Text("）"),
            ]
        );
    }
}
