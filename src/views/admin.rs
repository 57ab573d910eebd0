//! Administration's pages.

use askama::Template;

use super::Avatar;
use crate::domain::{AccountRole, User};

/// `GET /admin`.
#[derive(Template)]
#[template(path = "admin/index.html")]
pub struct AdminPage<'a> {
    /// The reader.
    pub user: &'a User,
    /// The people of this server, by name.
    pub people: &'a [(User, AccountRole)],
    /// Where the next ones are, if there are any.
    pub next: Option<String>,
}
