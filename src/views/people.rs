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
    /// Which room.
    pub room: &'a RoomId,
    /// What it is called.
    pub title: &'a str,
    /// How their names are to begin.
    pub query: &'a str,
    /// The people, by name.
    pub people: &'a [PersonRow],
    /// Where the next ones are, if there are any.
    pub next: Option<String>,
    /// Whether the reader is an owner.
    pub is_owner: bool,
    /// The people who are kept out, where the reader is an owner.
    pub banned: &'a [User],
    /// Who was to be added, and why they were not.
    pub typed: &'a str,
    /// Why they were not.
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
