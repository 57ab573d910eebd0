//! Views: a struct for each page and fragment, holding what its template prints.
//!
//! Everything is escaped by the templates' engine; only what it has rendered before ([`CachedHtml`]) is
//! not escaped again. A row of the log is
//! the same for every viewer, because all streams share its bytes: what depends on the viewer is
//! done by the page around it.

mod account;
mod actions;
mod admin;
mod avatar;
mod fragment_cache;
mod invites;
mod mentions;
mod people;
mod reacted;
mod reader;
mod room_forms;
mod row;

use askama::Template;

use crate::assets;
use crate::domain::{
    Access, Event, EventId, Level, ListedRoom, Mentions, RoomId, RoomSettings, RoomSummary, Roster,
    User, UserId, characters,
};
use crate::markup::{self, Mark, Part};

pub use account::{AccountForm, AccountPage, RefusedForm};
pub use actions::{MessageActions, Refused};
pub use admin::{
    AdminPage, AdminRoomsPage, AuditPage, ForgotPage, RefusedDeletion, ReportRow, ReportsPage,
    ResetLinkPage, ResetPage, SentPage,
};
// The templates name those who reacted.
use actions::{named_in_row, reactors};
pub use avatar::Avatar;
pub use fragment_cache::{CachedHtml, FragmentCache};
pub use invites::{InviteForm, InvitePage, InviteRow, Invited, InvitesPage, JoinPage, QrCode};
pub use mentions::MentionsPage;
// The lists of rooms count them.
use mentions::{count_of, mentions_of};
pub use people::{PeopleOptions, PeoplePage, PersonRow};
pub use reacted::Reacted;
pub use reader::{folding_style_sheet, reader_style_sheet};
// Its template says what each access means.
use room_forms::explained;
pub use room_forms::{DirectPage, NewRoomPage, RoomForm, RoomSettingsPage};
pub use row::{Row, changed_rows, event_row, rows};
// The pages' templates include the rows'.
use row::RowKind;

/// Where a file of `static/` is served, with the hash of its content in the name.
pub fn asset(name: &str) -> &'static str {
    assets::path(name)
}

/// Renders a page or fragment. Writing to memory cannot fail, and templates call nothing that can.
pub fn render(template: &impl Template) -> String {
    template.render().unwrap_or_default()
}

/// The same, for a page with parts of so many bytes in it: nothing is moved while it grows.
pub fn render_around(parts_bytes: usize, template: &impl Template) -> String {
    const REST_BYTES: usize = 8 * 1024;
    let mut page = String::with_capacity(parts_bytes + REST_BYTES);
    let _ = template.render_into(&mut page);
    page
}

/// One input of a form, with what was typed and what was wrong with it.
#[derive(Debug, Clone, Copy)]
pub struct Field<'a> {
    /// The form's key, and the input's id.
    pub name: &'static str,
    /// Its label.
    pub label: &'static str,
    /// The input's `type`.
    pub kind: &'static str,
    /// The input's `autocomplete`.
    pub autocomplete: &'static str,
    /// The value typed before; never for passwords.
    pub value: &'a str,
    /// Help, shown while there is no error.
    pub hint: &'static str,
    /// The error, if there was one.
    pub error: Option<&'a str>,
    /// Whether typing starts here while nothing is wrong.
    pub is_first: bool,
}

/// The name of the one field of a form that typing starts in: the first that is wrong, or else the
/// one meant for it.
fn focused(fields: &[Field<'_>]) -> Option<&'static str> {
    let wrong = fields.iter().find(|field| field.error.is_some());
    let field = wrong.or_else(|| fields.iter().find(|field| field.is_first));
    field.map(|field| field.name)
}

impl Field<'_> {
    fn describes(&self) -> bool {
        self.error.is_some() || !self.hint.is_empty()
    }
}

/// `GET /signup`, and again with errors.
#[derive(Template)]
#[template(path = "accounts/new.html")]
pub struct SignUpPage<'a> {
    /// Name, address, password.
    pub fields: [Field<'a>; 3],
    /// The form's address.
    pub action: &'a str,
    /// The secret of the link that led here.
    pub invite: &'a str,
    /// The invitation with it.
    pub invited: Option<&'a Invited>,
    /// Why nobody can sign up here; empty where they can.
    pub closed: &'a str,
    /// Why signing up failed, where no field is to blame.
    pub error: Option<&'a str>,
}

/// `GET /login`, and again with an error.
#[derive(Template)]
#[template(path = "sessions/new.html")]
pub struct SignInPage<'a> {
    /// Name, password.
    pub fields: [Field<'a>; 2],
    /// Why signing in failed.
    pub error: Option<&'a str>,
    /// Where to go afterwards.
    pub next: Option<&'a str>,
    /// A notice of what just happened: somebody signed out, say.
    pub said: String,
}

/// `GET /rooms`.
#[derive(Template)]
#[template(path = "rooms/index.html")]
pub struct LobbyPage<'a> {
    /// The reader.
    pub user: &'a User,
    /// The id to type.
    pub field: Field<'a>,
    /// Their rooms, if there are any.
    pub rooms: Option<CachedHtml>,
    /// Whether they are an admin; asked only where there are no rooms.
    pub is_admin: bool,
    /// How many unread mentions there are in all of them.
    pub mentions: usize,
    /// Open rooms to enter.
    pub open: &'a [ListedRoom],
    /// Whether there are more.
    pub has_more: bool,
    /// The word they were searched by.
    pub word: &'a str,
}

/// One of a reader's rooms in the lobby.
#[derive(Template)]
#[template(path = "rooms/_item.html")]
struct RoomItem<'a> {
    room: &'a RoomSummary,
    reader: UserId,
}

/// One of a reader's rooms beside the one they are in, which may be the same.
#[derive(Template)]
#[template(path = "rooms/_link.html")]
struct RoomLink<'a> {
    room: &'a RoomSummary,
    reader: UserId,
    is_current: bool,
}

/// A room that somebody has not entered, or that is not there.
#[derive(Template)]
#[template(path = "rooms/new.html")]
pub struct EnterPage<'a> {
    /// The reader.
    pub user: &'a User,
    /// Which room.
    pub room: &'a RoomId,
    /// Whether it is there.
    pub exists: bool,
}

/// `GET /rooms/{room}`.
#[derive(Template)]
#[template(path = "rooms/show.html")]
pub struct RoomPage<'a> {
    /// The reader.
    pub user: &'a User,
    /// Which room.
    pub room: &'a RoomId,
    /// Its name and its topic.
    pub settings: &'a RoomSettings,
    /// The roster in words.
    pub here: String,
    /// The newest events, oldest first.
    pub log: CachedHtml,
    /// Where the reader's own picture is.
    pub avatar: String,
    /// All their rooms, for wide screens.
    pub side: CachedHtml,
    /// Where older ones end, if there are any.
    pub older: Option<EventId>,
    /// The last event on the page: the stream goes on from there.
    pub cursor: EventId,
    /// Where to write.
    pub composer: Composer<'a>,
    /// Why they may not.
    pub read_only: Option<&'static str>,
    /// The reader's own reactions.
    pub reacted: Reacted,
    /// Whether nobody has said anything yet.
    pub is_new: bool,
    /// How many unread mentions there are in all their rooms.
    pub mentions: usize,
}

/// The head of the document that never ends; rows follow.
#[derive(Template)]
#[template(path = "rooms/live.html")]
pub struct LivePage<'a> {
    /// Which room.
    pub room: &'a RoomId,
    /// The reader.
    pub user: UserId,
}

/// Stands around the document that goes on, and comes back when that ends.
#[derive(Template)]
#[template(path = "rooms/around_frame.html")]
pub struct AroundFrame<'a> {
    /// Which room.
    pub room: &'a RoomId,
    /// Where its messages begin.
    pub after: EventId,
}

/// Leads to an [`AroundFrame`].
#[derive(Template)]
#[template(path = "rooms/before_frame.html")]
pub struct BeforeFrame<'a> {
    /// Which room.
    pub room: &'a RoomId,
    /// Where its messages begin.
    pub after: EventId,
}

/// Said in the document that never ends when its place in the log is no more.
#[derive(Template)]
#[template(path = "messages/_reset.html")]
pub struct ResetRow<'a> {
    /// Which room.
    pub room: &'a RoomId,
}

/// A page of the log on its own, for browsers without scripts and for permanent links.
#[derive(Template)]
#[template(path = "messages/index.html")]
pub struct HistoryPage<'a> {
    /// The reader.
    pub user: &'a User,
    /// The room.
    pub room: &'a RoomId,
    /// Its title.
    pub title: &'a str,
    /// Events, oldest first.
    pub rows: Vec<Row<'a>>,
    /// Where older ones end, if there are any.
    pub older: Option<EventId>,
    /// Where newer ones begin, if there are any.
    pub newer: Option<EventId>,
    /// A line about the last act.
    pub said: &'static str,
    /// The forms for the message that the page is about.
    pub actions: Option<MessageActions<'a>>,
}

/// Older events, put in place of the link that asked for them.
#[derive(Template)]
#[template(path = "messages/_page.html")]
pub struct HistoryFragment<'a> {
    /// Which room.
    pub room: &'a RoomId,
    /// Events, oldest first.
    pub rows: Vec<Row<'a>>,
    /// Where still older ones end, if there are any.
    pub older: Option<EventId>,
    /// Messages that are on the reader's page already and have changed.
    pub changed: Vec<Row<'a>>,
}

/// Emoji to choose from.
#[derive(Template)]
#[template(path = "messages/_emoji.html")]
pub struct EmojiList {
    /// Each with its name.
    pub emoji: Vec<(&'static str, &'static str)>,
}

/// Where to write, with what was refused and why.
#[derive(Debug, Clone, Default)]
pub struct Composer<'a> {
    /// Makes sending twice safe.
    pub nonce: String,
    /// The text that was refused.
    pub text: &'a str,
    /// Why it was not.
    pub error: Option<&'a str>,
    /// The id of the message above it; empty when it is no reply.
    pub reply_to: &'a str,
    /// Whether sending it again says that everybody in the room is meant.
    pub asks: bool,
}

/// The composer on its own: the answer to a post from the page.
#[derive(Template)]
#[template(path = "messages/_composer.html")]
pub struct ComposerFragment<'a> {
    /// Which room.
    pub room: &'a RoomId,
    /// Its state.
    pub composer: Composer<'a>,
}

/// A post that was not taken, for browsers without scripts.
#[derive(Template)]
#[template(path = "messages/refused.html")]
pub struct RefusedPage<'a> {
    /// Which room.
    pub room: &'a RoomId,
    /// The text that was refused, and why.
    pub composer: Composer<'a>,
    /// Whether that is because nobody is signed in.
    pub is_signed_out: bool,
}

/// An edit that was not taken because nobody knows whose it is.
#[derive(Template)]
#[template(path = "messages/edit_refused.html")]
pub struct EditRefusedPage<'a> {
    /// Where the message has its page, which is also where its edits go.
    pub path: &'a str,
    /// The text.
    pub text: &'a str,
    /// The edit that its editor has seen.
    pub rev: &'a str,
    /// Why it was refused.
    pub error: &'a str,
    /// Whether that is because nobody is signed in.
    pub is_signed_out: bool,
}

/// The manifest, which makes Parlor an app on a phone (W3C Web Application Manifest).
#[derive(Template)]
#[template(path = "manifest.webmanifest", escape = "none")]
pub struct Manifest;

/// A page that says what went wrong.
#[derive(Template)]
#[template(path = "errors/page.html")]
pub struct ErrorPage<'a> {
    /// In a few words.
    pub title: &'a str,
    /// And what to do.
    pub detail: &'a str,
}

/// An error in the frame of a room's page: one line.
#[derive(Template)]
#[template(path = "errors/frame.html")]
pub struct ErrorFrame {
    /// What, and what to do.
    pub says: String,
    /// The text of the link, which leaves the frame.
    pub link: &'static str,
    /// Where it leads.
    pub leads_to: String,
}

/// An error, to be put into a page.
#[derive(Template)]
#[template(path = "errors/_notice.html")]
pub struct ErrorNotice<'a> {
    /// A sentence that says what to do.
    pub detail: &'a str,
}

/// The start of the first line of a message, for the lobby.
pub fn excerpt(event: &Event) -> String {
    let Some(body) = event.kind.body() else {
        return "deleted a message".to_owned();
    };
    let line = body.as_str().lines().next().unwrap_or("").trim();
    let excerpt = characters::excerpt(line);
    let words = markup::plain(excerpt);
    match excerpt.len() < body.as_str().len() {
        true => format!("{words}…"),
        false => words,
    }
}

/// A roster in words: `ana, ben and 3 more are here`.
pub fn here(present: &Roster) -> String {
    const NAMES_MAX: usize = 4;
    let shown = &present.names[..present.names.len().min(NAMES_MAX)];
    let more = present.count - shown.len();
    let mut names: Vec<String> = shown.iter().map(|name| name.to_string()).collect();
    if more > 0 {
        names.push(format!("{more} more"));
    }
    match names.split_last() {
        None => String::new(),
        Some((only, [])) => format!("{only} is here"),
        Some((last, others)) => format!("{} and {last} are here", others.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_here_is_a_sentence() {
        let present = |count: usize, names: &[&str]| Roster {
            count,
            names: names.iter().map(|name| (*name).into()).collect(),
        };
        assert_eq!(here(&present(0, &[])), "");
        assert_eq!(here(&present(1, &["ana"])), "ana is here");
        assert_eq!(here(&present(2, &["ana", "ben"])), "ana and ben are here");
        assert_eq!(
            here(&present(9, &["a", "b", "c", "d", "e"])),
            "a, b, c, d and 5 more are here"
        );
    }
}
