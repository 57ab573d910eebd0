//! The reader: a parser's events as parts.
//!
//! Between its marks a text is taken as it was typed, from the text itself: the parser leaves out blank lines,
//! indentation and link definitions.

use std::borrow::Cow;
use std::ops::Range;

use pulldown_cmark::{CodeBlockKind, CowStr, Event, LinkType, Tag, TagEnd};

use super::links::{add_linked, host, is_web, looks_like_address};
use super::{Mark, Part};

/// How deep marks stand within each other; what is deeper is not marked.
const DEPTH_MAX: usize = 16;

pub(super) struct Reader<'a> {
    text: &'a str,
    parts: Vec<Part<'a>>,
    /// The marks around, `None` for one that is left out.
    open: Vec<Option<Mark<'a>>>,
    /// How many of them are not left out.
    depth: usize,
    /// How many of them are quotes and lists.
    blocks: usize,
    /// Where the text was read up to; `None` after a sign that is no text.
    read: Option<usize>,
    /// Text that is still to be put among the parts.
    pending: Range<usize>,
    /// Shown as it was typed, whatever is in it.
    typed: Range<usize>,
    code: Option<(Cow<'a, str>, Cow<'a, str>)>,
    /// The text of the link that is open.
    link_text: Option<String>,
    /// Whether a block stands before this one in the same quote or item.
    follows: bool,
}

impl<'a> Reader<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self {
            text,
            parts: Vec::new(),
            open: Vec::new(),
            depth: 0,
            blocks: 0,
            read: Some(0),
            pending: 0..0,
            typed: 0..0,
            code: None,
            link_text: None,
            follows: false,
        }
    }

    pub(super) fn read(&mut self, event: Event<'a>, range: Range<usize>) {
        if self.typed.start <= range.start && range.end <= self.typed.end && !range.is_empty() {
            return;
        }
        match event {
            Event::Start(tag) => self.start(tag, range),
            Event::End(tag) => self.finish(tag, &range),
            Event::Text(line) => match &mut self.code {
                Some((_, code)) => append(code, line),
                None => self.leaf(range),
            },
            Event::Code(code) => {
                self.gap(range.start);
                self.flush();
                if let Some(text) = &mut self.link_text {
                    text.push_str(&code);
                }
                self.parts.push(Part::Code(code.into()));
                self.read = Some(range.end);
            }
            Event::HardBreak => {
                self.gap(range.start);
                self.flush();
                self.parts.push(Part::Text("\n"));
                self.read = Some(range.end);
            }
            _ => self.leaf(range),
        }
    }

    pub(super) fn end(mut self) -> Vec<Part<'a>> {
        self.gap(self.text.len());
        self.flush();
        self.parts
    }

    fn start(&mut self, tag: Tag<'a>, range: Range<usize>) {
        match tag {
            Tag::Paragraph | Tag::HtmlBlock if self.blocks > 0 => {
                if self.follows {
                    self.flush();
                    self.parts.push(Part::Text("\n"));
                }
                self.follows = true;
                self.read = None;
            }
            Tag::Strong => self.open(Mark::Strong, range.start),
            Tag::Emphasis => self.open(Mark::Emphasis, range.start),
            Tag::Strikethrough => self.open(Mark::Strike, range.start),
            Tag::Heading { .. } => self.open(Mark::Strong, range.start),
            Tag::BlockQuote(_) => self.open_block(Mark::Quote, range.start),
            Tag::List(None) => self.open_block(Mark::List, range.start),
            Tag::List(Some(from)) => self.open_block(Mark::Numbered(from), range.start),
            Tag::Item => self.open_block(Mark::Item, range.start),
            Tag::Link {
                link_type: LinkType::Autolink,
                dest_url,
                ..
            } if is_web(&dest_url) => {
                self.gap(range.start);
                self.flush();
                let address = self.text.get(range.start + 1..range.end - 1).unwrap_or("");
                self.parts.push(Part::Link(address));
                self.read = Some(range.end);
                self.typed = range;
            }
            Tag::Link {
                link_type: LinkType::Inline,
                dest_url,
                ..
            } if is_web(&dest_url) && self.depth < DEPTH_MAX => {
                self.open(Mark::LinkTo(dest_url.into()), range.start);
                self.link_text = Some(String::new());
            }
            Tag::CodeBlock(CodeBlockKind::Fenced(info)) => {
                let language = info.split([' ', ',', '{']).next().unwrap_or("");
                self.code = Some((Cow::Owned(language.to_owned()), Cow::Borrowed("")));
            }
            Tag::Link { .. } | Tag::Image { .. } | Tag::CodeBlock(CodeBlockKind::Indented) => {
                self.as_typed(range);
            }
            _ => {}
        }
    }

    fn finish(&mut self, tag: TagEnd, range: &Range<usize>) {
        match tag {
            TagEnd::Strong | TagEnd::Emphasis | TagEnd::Strikethrough | TagEnd::Link => {
                self.close();
                self.read = Some(range.end);
            }
            TagEnd::Heading(_) => {
                self.close();
                self.read = Some(self.end_of(range));
            }
            TagEnd::BlockQuote(_) | TagEnd::List(_) | TagEnd::Item => {
                self.close();
                self.blocks -= 1;
                self.follows = false;
                self.after_block(range);
            }
            TagEnd::CodeBlock => self.finish_code(range),
            _ => {}
        }
    }

    fn finish_code(&mut self, range: &Range<usize>) {
        let Some((language, code)) = self.code.take() else {
            return;
        };
        // A fence with nothing in it is a text like any other.
        if code.trim().is_empty() {
            self.as_typed(range.clone());
            return;
        }
        self.gap_before_block(range.start);
        self.flush();
        self.parts
            .push(Part::Block(language, without_last_breaks(code)));
        self.follows = false;
        self.after_block(range);
    }

    /// Text, or something of the parser's that is shown as text.
    fn leaf(&mut self, range: Range<usize>) {
        self.gap(range.start);
        if let Some(text) = &mut self.link_text {
            text.push_str(self.text.get(range.clone()).unwrap_or(""));
        }
        self.read = Some(range.end);
        self.add(range);
    }

    fn as_typed(&mut self, range: Range<usize>) {
        let range = range.start..self.end_of(&range);
        self.gap(range.start);
        self.typed = range.clone();
        self.read = Some(range.end);
        self.add(range);
    }

    /// Adds the text between the last event and this place. In quotes and lists it is their signs.
    fn gap(&mut self, upto: usize) {
        let Some(from) = self.read.filter(|from| *from < upto) else {
            return;
        };
        let is_escape = self.text.get(from..upto) == Some("\\");
        if self.blocks == 0 && !is_escape {
            self.add(from..upto);
        }
    }

    /// The same before a block, which has a line of its own.
    fn gap_before_block(&mut self, upto: usize) {
        let before = self.text.get(..upto).unwrap_or("");
        self.gap(before.trim_end_matches('\n').len());
    }

    fn after_block(&mut self, range: &Range<usize>) {
        let after = self.text.get(range.end..).unwrap_or("");
        self.read = Some(range.end + after.len() - after.trim_start_matches('\n').len());
    }

    /// The end of a range without its last line's.
    fn end_of(&self, range: &Range<usize>) -> usize {
        let text = self.text.get(range.clone()).unwrap_or("");
        range.start + text.trim_end_matches('\n').len()
    }

    fn open(&mut self, mark: Mark<'a>, at: usize) {
        self.gap(at);
        self.push(mark);
        self.read = None;
    }

    fn open_block(&mut self, mark: Mark<'a>, at: usize) {
        self.gap_before_block(at);
        self.push(mark);
        self.blocks += 1;
        self.follows = false;
        self.read = None;
    }

    fn push(&mut self, mark: Mark<'a>) {
        self.flush();
        let is_shown = self.depth < DEPTH_MAX;
        if is_shown {
            self.depth += 1;
            self.parts.push(Part::Open(mark.clone()));
        }
        self.open.push(is_shown.then_some(mark));
    }

    fn close(&mut self) {
        self.flush();
        let Some(Some(mark)) = self.open.pop() else {
            return;
        };
        self.depth -= 1;
        let leads_to = match (&mark, self.link_text.take()) {
            (Mark::LinkTo(to), Some(text)) if says_otherwise(&text, to) => Some(to.clone()),
            (Mark::LinkTo(_), _) => None,
            (_, text) => {
                self.link_text = text;
                None
            }
        };
        self.parts.push(Part::Close(mark));
        self.parts.extend(leads_to.map(Part::LeadsTo));
    }

    fn add(&mut self, range: Range<usize>) {
        if self.pending.end != range.start {
            self.flush();
            self.pending = range.start..range.start;
        }
        self.pending.end = range.end;
    }

    fn flush(&mut self) {
        let text = self.text.get(self.pending.clone()).unwrap_or("");
        self.pending = 0..0;
        match &self.link_text {
            // No link stands in a link.
            Some(_) if !text.is_empty() => self.parts.push(Part::Text(text)),
            Some(_) => {}
            None => add_linked(text, &mut self.parts),
        }
    }
}

fn append<'a>(code: &mut Cow<'a, str>, line: CowStr<'a>) {
    match code.is_empty() {
        true => *code = line.into(),
        false => code.to_mut().push_str(&line),
    }
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

/// Whether the text of a link looks like the address of another host than the link leads to.
fn says_otherwise(text: &str, to: &str) -> bool {
    looks_like_address(text) && host(text) != host(to)
}
