//! Invitations: links by which people come to this server, or to a room of it.

use std::time::Duration;

use super::{Invalid, InviteId, NewUser, RoomId, Timestamp, User};

/// An invitation. Its secret is known by its hash alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invite {
    /// Names it where it is listed.
    pub id: InviteId,
    /// The [`hash`](super::LinkSecret::hash) of the secret in its address.
    pub secret_hash: String,
    /// The person who invites; `None` for the operator.
    pub by: Option<User>,
    /// The room that it leads to, if any.
    pub room: Option<RoomId>,
    /// The number of people who may still use it.
    pub uses_left: u32,
    /// The moment it was made.
    pub created_at: Timestamp,
    /// The end of its life.
    pub expires_at: Timestamp,
}

impl Invite {
    /// The most people one link lets in.
    pub const USES_MAX: u32 = 10_000;

    /// The most days one link is good for.
    pub const DAYS_MAX: u32 = 365;

    /// The most links of one person that are good at a time.
    pub const PER_USER_MAX: usize = 100;

    /// The number of people that a link is for, as typed: one where nothing is said.
    ///
    /// # Errors
    ///
    /// [`Invalid`] for anything but 1 to [`Self::USES_MAX`].
    pub fn parse_uses(raw: &str) -> Result<u32, Invalid> {
        const SAYS: Invalid = Invalid("A link is for 1 to 10000 people.");
        number(raw, 1, Self::USES_MAX).ok_or(SAYS)
    }

    /// The time that it is good for, typed in days: a week where nothing is said.
    ///
    /// # Errors
    ///
    /// [`Invalid`] for anything but 1 to [`Self::DAYS_MAX`].
    pub fn parse_days(raw: &str) -> Result<Duration, Invalid> {
        const SAYS: Invalid = Invalid("A link is good for 1 to 365 days.");
        let days = number(raw, 7, Self::DAYS_MAX).ok_or(SAYS)?;
        Ok(Duration::from_hours(24 * u64::from(days)))
    }

    /// Whether it lets in one more.
    pub fn is_good(&self) -> bool {
        self.uses_left > 0 && self.lasts()
    }

    /// Whether its time is not over.
    pub fn lasts(&self) -> bool {
        self.expires_at > Timestamp::now()
    }
}

fn number(raw: &str, default: u32, max: u32) -> Option<u32> {
    match raw.trim() {
        "" => Some(default),
        raw => raw.parse().ok().filter(|number| (1..=max).contains(number)),
    }
}

/// Somebody who comes by an invitation.
#[derive(Clone)]
pub enum Guest {
    /// Somebody who has an account.
    User(User),
    /// Somebody whose account is made with it: a member's.
    New(NewUser),
}

impl Guest {
    /// Id and name.
    pub fn user(&self) -> &User {
        match self {
            Self::User(user) => user,
            Self::New(new) => &new.user,
        }
    }
}

/// The policy of sign-ups: the people who may make an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SignUpPolicy {
    /// Everybody.
    #[default]
    Open,
    /// People with a link of an admin's.
    Invite,
    /// Nobody.
    Closed,
}

impl SignUpPolicy {
    /// All, from the widest.
    pub const ALL: [Self; 3] = [Self::Open, Self::Invite, Self::Closed];

    /// # Errors
    ///
    /// [`Invalid`] for any other word.
    pub fn parse(raw: &str) -> Result<Self, Invalid> {
        let word = raw.trim();
        let found = Self::ALL.into_iter().find(|one| one.as_str() == word);
        found.ok_or(Invalid("sign_up is open, invite or closed."))
    }

    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Invite => "invite",
            Self::Closed => "closed",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_for_some_people_and_some_days() {
        assert_eq!(Invite::parse_uses(""), Ok(1));
        assert_eq!(Invite::parse_uses(" 30 "), Ok(30));
        assert_eq!(Invite::parse_days(""), Ok(Duration::from_hours(7 * 24)));
        for raw in ["0", "-1", "10001", "1.5", "many", "99999999999"] {
            assert!(Invite::parse_uses(raw).is_err(), "{raw}");
        }
        for raw in ["0", "366", "x"] {
            assert!(Invite::parse_days(raw).is_err(), "{raw}");
        }
        for policy in SignUpPolicy::ALL {
            assert_eq!(SignUpPolicy::parse(policy.as_str()), Ok(policy));
        }
    }
}
