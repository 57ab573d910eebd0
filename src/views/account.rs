//! The page of one's own account.

use askama::Template;

use super::{Field, focused};
use crate::domain::{Account, AccountRole, SeenSession, SessionId, User};

/// What is wrong with a form of the page.
#[derive(Debug, Clone, Copy)]
pub enum AccountErrors<'a> {
    /// Nothing.
    None,
    /// With a name or an address, as typed.
    Profile {
        /// The name.
        username: Option<&'a str>,
        /// The address.
        email: Option<&'a str>,
        /// By field.
        errors: &'a [(&'static str, String)],
    },
    /// With a password.
    Password(&'a [(&'static str, String)]),
    /// With the end of the account.
    Deletion(&'a [(&'static str, String)]),
}

impl<'a> AccountErrors<'a> {
    /// The error of a field of the name or the address.
    fn of_profile(self, name: &str) -> Option<&'a str> {
        match self {
            Self::Profile { errors, .. } => find(errors, name),
            Self::None | Self::Password(_) | Self::Deletion(_) => None,
        }
    }

    fn of_password(self, name: &str) -> Option<&'a str> {
        match self {
            Self::Password(errors) => find(errors, name),
            Self::None | Self::Profile { .. } | Self::Deletion(_) => None,
        }
    }

    fn of_deletion(self) -> Option<&'a str> {
        match self {
            Self::Deletion(errors) => errors.first().map(|(_, says)| says.as_str()),
            Self::None | Self::Profile { .. } | Self::Password(_) => None,
        }
    }
}

fn find<'a>(errors: &'a [(&'static str, String)], name: &str) -> Option<&'a str> {
    let wrong = errors.iter().find(|(wrong, _)| *wrong == name);
    wrong.map(|(_, says)| says.as_str())
}

/// `GET /account`, and again with errors.
#[derive(Template)]
#[template(path = "account/show.html")]
pub struct AccountPage<'a> {
    user: &'a User,
    role: AccountRole,
    sessions: &'a [SeenSession],
    current: SessionId,
    said: &'a str,
    name: Field<'a>,
    email: Field<'a>,
    /// What is wrong with the password that another address takes.
    not_proved: Option<&'a str>,
    passwords: [Field<'a>; 2],
    /// The people whom the user blocks.
    blocked: &'a [User],
    /// Why the account was not deleted.
    not_deleted: Option<&'a str>,
}

impl<'a> AccountPage<'a> {
    /// As it is, with what was just done or what is wrong.
    pub fn of(
        account: &'a Account,
        (sessions, current): (&'a [SeenSession], SessionId),
        blocked: &'a [User],
        said: &'a str,
        errors: AccountErrors<'a>,
    ) -> Self {
        let password = |name, label, autocomplete, hint| Field {
            name,
            label,
            kind: "password",
            autocomplete,
            value: "",
            hint,
            error: errors.of_password(name),
            is_first: false,
        };
        let (username, email) = match errors {
            AccountErrors::Profile {
                username, email, ..
            } => (username, email),
            _ => (None, None),
        };
        Self {
            user: &account.user,
            role: account.role,
            sessions,
            current,
            said,
            name: Field {
                name: "username",
                label: "Name",
                kind: "text",
                autocomplete: "username",
                value: username.unwrap_or(account.user.username.as_str()),
                hint: "What others see. It changes everywhere at once, twice a month at most.",
                error: errors.of_profile("username"),
                is_first: false,
            },
            email: Field {
                name: "email",
                label: "Email",
                kind: "email",
                autocomplete: "email",
                value: email.unwrap_or(account.email.as_str()),
                hint: "To sign in with. Others don’t see it.",
                error: errors.of_profile("email"),
                is_first: false,
            },
            not_proved: errors.of_profile("current"),
            blocked,
            not_deleted: errors.of_deletion(),
            passwords: [
                password("current", "Your password now", "current-password", ""),
                password(
                    "password",
                    "Another one",
                    "new-password",
                    "At least 10 characters.",
                ),
            ],
        }
    }

    fn focused(&self) -> Option<&'static str> {
        let [current, password] = self.passwords;
        focused(&[self.name, self.email, current, password])
    }
}
