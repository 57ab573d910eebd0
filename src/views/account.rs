//! The page of one's own account.

use askama::Template;

use super::{Field, focused};
use crate::domain::{Account, AccountRole, SeenSession, SessionId, User};

/// `GET /account`, and again with errors.
#[derive(Template)]
#[template(path = "account/show.html")]
pub struct AccountPage<'a> {
    user: &'a User,
    email: &'a str,
    role: AccountRole,
    sessions: &'a [SeenSession],
    current: SessionId,
    said: &'a str,
    fields: [Field<'a>; 2],
}

impl<'a> AccountPage<'a> {
    /// As it is, with what was just done or what is wrong with the passwords.
    pub fn of(
        account: &'a Account,
        sessions: &'a [SeenSession],
        current: SessionId,
        said: &'a str,
        errors: &'a [(&'static str, String)],
    ) -> Self {
        let field = |name, label, autocomplete, hint| {
            let wrong = errors.iter().find(|(wrong, _)| *wrong == name);
            Field {
                name,
                label,
                kind: "password",
                autocomplete,
                value: "",
                hint,
                error: wrong.map(|(_, says)| says.as_str()),
                is_first: false,
            }
        };
        Self {
            user: &account.user,
            email: account.email.as_str(),
            role: account.role,
            sessions,
            current,
            said,
            fields: [
                field("current", "Your password now", "current-password", ""),
                field(
                    "password",
                    "Another one",
                    "new-password",
                    "At least 10 characters.",
                ),
            ],
        }
    }

    fn focused(&self) -> Option<&'static str> {
        focused(&self.fields)
    }
}
