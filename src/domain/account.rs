//! Accounts: who somebody is, and what they sign in with.

use serde::Serialize;

use super::{Email, Invalid, UserId, Username};

/// A name or an address, typed to sign in. Neither form says whether there is such an account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Login {
    /// By [`Email::key`].
    Email(String),
    /// By [`Username::key`].
    Username(String),
}

impl Login {
    /// A username to look up, which may be one that only an earlier version took.
    pub fn named(raw: &str) -> Self {
        let name = raw
            .trim()
            .chars()
            .take(Username::CHARS_MAX)
            .collect::<String>();
        Self::Username(
            Username::parse(&name)
                .unwrap_or(Username::stored(&name))
                .key(),
        )
    }

    /// `None` when no account can have such a name or address.
    pub fn parse(raw: &str) -> Option<Self> {
        if raw.contains(['@', '＠']) {
            Email::parse(raw).ok().map(|email| Self::Email(email.key()))
        } else {
            let name = Username::parse(raw).ok()?;
            Some(Self::Username(name.key()))
        }
    }
}

/// An account, as others see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct User {
    /// Names it for ever.
    pub id: UserId,
    /// The name that others see.
    pub username: Username,
}

/// An account to be made.
#[derive(Clone)]
pub struct NewUser {
    /// Id and name.
    pub user: User,
    /// The address.
    pub email: Email,
    /// A PHC string.
    pub password_hash: String,
}

/// An account's role on the server: the rights it has everywhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum AccountRole {
    /// Make rooms, and talk.
    #[default]
    Member,
    /// Also what an owner may, in every room but conversations, and decide who is here.
    Admin,
}

impl AccountRole {
    /// # Errors
    ///
    /// [`Invalid`] for any other word.
    pub fn parse(raw: &str) -> Result<Self, Invalid> {
        match raw.trim() {
            "admin" => Ok(Self::Admin),
            "member" => Ok(Self::Member),
            _ => Err(Invalid("role is admin or member.")),
        }
    }

    /// Reads the stored word. A word of another version gives no rights.
    pub(crate) fn stored(word: &str) -> Self {
        Self::parse(word).unwrap_or_default()
    }

    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Member => "member",
            Self::Admin => "admin",
        }
    }
}

/// An account, with what signing in checks against.
#[derive(Clone)]
pub struct Account {
    /// Id and name.
    pub user: User,
    /// The address.
    pub email: Email,
    /// Its rights on the server.
    pub role: AccountRole,
    /// Whether nobody may sign in to it.
    pub is_deactivated: bool,
    /// A PHC string.
    pub password_hash: String,
}

impl Account {
    /// Whether it is an admin's who may sign in.
    pub fn is_admin(&self) -> bool {
        self.role == AccountRole::Admin && !self.is_deactivated
    }
}
