//! The page of one's own account.

use askama::Template;

use super::{Field, focused};
use crate::domain::{Account, AccountRole, KeptMessages, SeenSession, SessionId, User};
use crate::error::error_of;

/// The forms of the page that can be refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AccountForm {
    /// The name or the address.
    Profile,
    /// The password.
    Password,
    /// The deletion of the account.
    Deletion,
}

/// A form of the page that was refused, as it was typed.
#[derive(Debug, Clone, Copy)]
pub struct RefusedForm<'a> {
    /// The form.
    pub form: AccountForm,
    /// Its errors, by field; those of the whole form by `form`.
    pub errors: &'a [(&'static str, String)],
    /// The typed name, if one was sent.
    pub username: Option<&'a str>,
    /// The typed address, if one was sent.
    pub email: Option<&'a str>,
    /// The choice about the messages, or nothing.
    pub messages: &'a str,
}

impl<'a> RefusedForm<'a> {
    /// A form of which nothing typed is shown again.
    pub fn of(form: AccountForm, errors: &'a [(&'static str, String)]) -> Self {
        Self {
            form,
            errors,
            username: None,
            email: None,
            messages: "",
        }
    }

    fn error_at(&self, form: AccountForm, name: &str) -> Option<&'a str> {
        match self.form == form {
            true => error_of(self.errors, name),
            false => None,
        }
    }
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
    passwords: [Field<'a>; 2],
    /// The people whom the user blocks.
    blocked: &'a [User],
    refused: Option<RefusedForm<'a>>,
}

impl<'a> AccountPage<'a> {
    /// With a line about what was just done, or the form that was refused.
    pub fn of(
        account: &'a Account,
        (sessions, current): (&'a [SeenSession], SessionId),
        blocked: &'a [User],
        said: &'a str,
        refused: Option<RefusedForm<'a>>,
    ) -> Self {
        let error_at = |form, name| refused.and_then(|refused| refused.error_at(form, name));
        let password = |name, label, autocomplete, hint| Field {
            name,
            label,
            kind: "password",
            autocomplete,
            value: "",
            hint,
            error: error_at(AccountForm::Password, name),
            is_first: false,
        };
        let username = refused.and_then(|refused| refused.username);
        let email = refused.and_then(|refused| refused.email);
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
                error: error_at(AccountForm::Profile, "username"),
                is_first: false,
            },
            email: Field {
                name: "email",
                label: "Email",
                kind: "email",
                autocomplete: "email",
                value: email.unwrap_or(account.email.as_str()),
                hint: "To sign in with. Only admins see it.",
                error: error_at(AccountForm::Profile, "email"),
                is_first: false,
            },
            blocked,
            refused,
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

    /// The error of a field of this form.
    fn error_at(&self, form: AccountForm, name: &str) -> Option<&'a str> {
        self.refused?.error_at(form, name)
    }

    /// The error of the deletion that is not about the password.
    fn not_deleted(&self) -> Option<&'a str> {
        let error_at = |name| self.error_at(AccountForm::Deletion, name);
        error_at("form").or_else(|| error_at("messages"))
    }

    /// Whether the deletion was refused, and the messages were to go with the account.
    fn deletes(&self) -> Option<bool> {
        let refused = self
            .refused
            .filter(|refused| refused.form == AccountForm::Deletion)?;
        Some(refused.messages == KeptMessages::Delete.as_str())
    }

    fn focused(&self) -> Option<&'static str> {
        let [current, password] = self.passwords;
        focused(&[self.name, self.email, current, password])
    }
}
