//! Administration's pages.

use askama::Template;

use super::{Avatar, Field};
use crate::domain::{
    Account, AccountRole, AuditEntry, EventId, KeptMessages, ListedRoom, Report, SignUpPolicy,
    User, UserId,
};
use crate::error::error_of;

/// `GET /admin`.
#[derive(Template)]
#[template(path = "admin/index.html")]
pub struct AdminPage<'a> {
    /// The reader.
    pub user: &'a User,
    /// The word that they are searched by.
    pub query: &'a str,
    /// The people of this server, by name.
    pub people: &'a [Account],
    /// The address of the next page; `None` on the last.
    pub next: Option<String>,
    /// The policy of sign-ups.
    pub sign_up: SignUpPolicy,
    /// The number of open reports.
    pub reports: u64,
    /// A deletion that was refused.
    pub not_deleted: Option<RefusedDeletion<'a>>,
}

/// A deletion of somebody's account that was refused, as typed.
#[derive(Debug, Clone, Copy)]
pub struct RefusedDeletion<'a> {
    /// The account's user.
    pub user: UserId,
    /// The name, typed again.
    pub confirm: &'a str,
    /// The choice about the messages.
    pub messages: &'a str,
    /// The errors, by field.
    pub errors: &'a [(&'static str, String)],
}

impl<'a> AdminPage<'a> {
    /// The form that deletes somebody's account, as typed where that was refused.
    fn deletion(&self, user: &User) -> RefusedDeletion<'a> {
        let refused = self.not_deleted.filter(|refused| refused.user == user.id);
        refused.unwrap_or(RefusedDeletion {
            user: user.id,
            confirm: "",
            messages: KeptMessages::Keep.as_str(),
            errors: &[],
        })
    }
}

impl<'a> RefusedDeletion<'a> {
    fn error_at(&self, name: &str) -> Option<&'a str> {
        error_of(self.errors, name)
    }
}

/// A policy of sign-ups in a word, and what it means in a line.
fn explained(policy: &SignUpPolicy) -> (&'static str, &'static str) {
    match policy {
        SignUpPolicy::Open => ("Everybody", "who opens this server’s address."),
        SignUpPolicy::Invite => ("By invitation", "People with a link of an admin’s."),
        SignUpPolicy::Closed => ("Nobody", "Links let in those who have an account."),
    }
}

/// A report, with its message's place.
pub struct ReportRow {
    /// The report.
    pub report: Report,
    /// The message.
    pub message: EventId,
}

/// `GET /admin/reports`.
#[derive(Template)]
#[template(path = "admin/reports.html")]
pub struct ReportsPage<'a> {
    /// The reader.
    pub user: &'a User,
    /// The reports, the newest first.
    pub rows: Vec<ReportRow>,
    /// The address of the next page; `None` on the last.
    pub next: Option<String>,
}

/// `GET /admin/rooms`.
#[derive(Template)]
#[template(path = "admin/rooms.html")]
pub struct AdminRoomsPage<'a> {
    /// The reader.
    pub user: &'a User,
    /// The word that they are searched by.
    pub query: &'a str,
    /// The rooms, by id.
    pub rooms: &'a [ListedRoom],
    /// The address of the next page; `None` on the last.
    pub next: Option<String>,
}

/// `GET /admin/audit`.
#[derive(Template)]
#[template(path = "admin/audit.html")]
pub struct AuditPage<'a> {
    /// The reader.
    pub user: &'a User,
    /// The entries, the newest first.
    pub entries: &'a [AuditEntry],
    /// The address of the next page; `None` on the last.
    pub next: Option<String>,
}

/// The answer to `POST /admin/people/{username}/reset`: the link is shown this once.
#[derive(Template)]
#[template(path = "admin/reset.html")]
pub struct ResetLinkPage<'a> {
    /// The reader.
    pub user: &'a User,
    /// The user whose password the link resets.
    pub other: &'a User,
    /// The link.
    pub link: &'a str,
}

/// `GET /forgot`, and again with an error.
#[derive(Template)]
#[template(path = "account/forgot.html")]
pub struct ForgotPage<'a> {
    /// Whether the server sends mail.
    has_mail: bool,
    field: Field<'a>,
}

impl<'a> ForgotPage<'a> {
    /// With what was typed, and what is wrong with it.
    pub fn of(has_mail: bool, email: &'a str, error: Option<&'a str>) -> Self {
        Self {
            has_mail,
            field: Field {
                name: "email",
                label: "Email",
                kind: "email",
                autocomplete: "email",
                value: email,
                hint: "The address that you sign in with.",
                error,
                is_first: true,
            },
        }
    }
}

/// The answer to `POST /forgot`, the same for all addresses.
#[derive(Template)]
#[template(path = "account/sent.html")]
pub struct SentPage;

/// `GET /reset/{secret}`, and again with an error.
#[derive(Template)]
#[template(path = "account/reset.html")]
pub struct ResetPage<'a> {
    other: &'a User,
    secret: &'a str,
    field: Field<'a>,
}

impl<'a> ResetPage<'a> {
    /// For this user, who came by this secret.
    pub fn of(other: &'a User, secret: &'a str, error: Option<&'a str>) -> Self {
        Self {
            other,
            secret,
            field: Field {
                name: "password",
                label: "Password",
                kind: "password",
                autocomplete: "new-password",
                value: "",
                hint: "At least 10 characters.",
                error,
                is_first: true,
            },
        }
    }
}
