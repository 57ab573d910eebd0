//! The people of a room: a page of them, and a list to choose from.

use askama::Template;

use super::Avatar;
use crate::domain::{Person, Role, RoomId, User};

/// `GET /rooms/{room}/people`.
#[derive(Template)]
#[template(path = "people/index.html")]
pub struct PeoplePage<'a> {
    /// The reader.
    pub user: &'a User,
    /// The room.
    pub room: &'a RoomId,
    /// The room's title.
    pub title: &'a str,
    /// The beginning of the names that are searched for.
    pub query: &'a str,
    /// The people, by name.
    pub people: &'a [PersonRow],
    /// The address of the next page; `None` on the last.
    pub next: Option<String>,
    /// Whether the reader may invite to the room.
    pub invites: bool,
    /// Whether the reader decides about the room: its owners do, and admins.
    pub decides: bool,
    /// The people who are kept out, where the reader decides.
    pub banned: &'a [User],
    /// The name that could not be added.
    pub typed: &'a str,
    /// The reason.
    pub error: Option<&'a str>,
}

/// Somebody in a room.
pub struct PersonRow {
    /// Who, and since when.
    pub person: Person,
    /// Whether they are an owner.
    pub is_owner: bool,
    /// Whether they are there now.
    pub is_here: bool,
}

impl PersonRow {
    /// Their role.
    pub fn role(&self) -> Role {
        match self.is_owner {
            true => Role::Owner,
            false => Role::Member,
        }
    }
}

/// People to choose from while a name is typed.
#[derive(Template)]
#[template(path = "people/_options.html")]
pub struct PeopleOptions<'a> {
    /// The people, those who spoke last first.
    pub people: &'a [User],
    /// Whether everybody may be meant.
    pub room: bool,
}
