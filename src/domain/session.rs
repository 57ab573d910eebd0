//! Sessions.

use super::{Email, SessionId, Timestamp, UserId, Username};

/// One sign-in of one user, until it is revoked or `expires_at` has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Session {
    /// The `sid` of its token.
    pub id: SessionId,
    /// The `sub` of its token.
    pub user: UserId,
    /// When it was made: the token's `iat`.
    pub created_at: Timestamp,
    /// When it ends by itself: the token's `exp`.
    pub expires_at: Timestamp,
}

/// A sign-in to be kept as a session.
#[derive(Debug, Clone)]
pub struct SignIn {
    /// The session.
    pub session: Session,
    /// The program and the system of the sign-in, in words: `Firefox on Linux`.
    pub device: String,
    /// The network address they come from.
    pub address: String,
    /// The password's hash that it was checked against.
    pub password_hash: String,
}

/// A change of what an account goes by.
#[derive(Debug, Clone, Default)]
pub struct ProfileChange {
    /// The new name, if it changes.
    pub username: Option<Username>,
    /// The new address, if it changes.
    pub email: Option<Email>,
}

/// A change of a password that was checked.
#[derive(Debug, Clone)]
pub struct PasswordChange {
    /// The account.
    pub user: UserId,
    /// The hash that the password was checked against.
    pub from: String,
    /// The hash of the new one.
    pub to: String,
    /// The session that stays: its user has just typed the password.
    pub but: SessionId,
}

/// A session, as its user sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenSession {
    /// The session.
    pub session: Session,
    /// See [`SignIn::device`]. Empty when nobody noted it.
    pub device: String,
    /// Likewise.
    pub address: String,
    /// The moment it was last used, to within some minutes.
    pub seen_at: Timestamp,
}
