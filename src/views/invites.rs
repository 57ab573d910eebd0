//! The pages of invitations.

use askama::Template;

use crate::domain::{Invite, RoomId, SignUpPolicy, User, Username};
use crate::error::error_of;

/// An invitation in words.
#[derive(Debug, Clone)]
pub struct Invited {
    /// The person who invites; `None` for the operator.
    pub by: Option<Username>,
    /// The title of the room.
    pub room: Option<String>,
}

impl Invited {
    /// In a sentence.
    pub fn says(&self) -> String {
        let place = self.room.as_deref().unwrap_or("this server");
        match &self.by {
            Some(by) => format!("{} invites you to {place}.", by.as_str()),
            None => format!("You are invited to {place}."),
        }
    }
}

/// An invitation, with the title of its room.
pub struct InviteRow {
    /// The invitation.
    pub invite: Invite,
    /// The title.
    pub room: Option<String>,
    /// Whether it opens anything now: not while its maker may not invite.
    pub is_good: bool,
}

impl InviteRow {
    /// Its place and the number of people it is for, in words.
    fn says(&self) -> String {
        let place = self.room.as_deref().unwrap_or("this server");
        match self.invite.uses_left {
            1 => format!("to {place}, for one person"),
            uses => format!("to {place}, for {uses} people"),
        }
    }
}

/// The form that makes a link, as typed.
#[derive(Debug, Clone, Copy)]
pub struct InviteForm<'a> {
    /// The room that it leads to; none for the server.
    pub room: Option<&'a RoomId>,
    /// The room's title.
    pub title: &'a str,
    /// The number of people it is for.
    pub uses: &'a str,
    /// The number of days it is good for.
    pub days: &'a str,
    /// The errors, by field.
    pub errors: &'a [(&'static str, String)],
}

/// A number of the form.
struct NumberField<'a> {
    name: &'static str,
    label: &'static str,
    typed: &'a str,
    /// Its value where nothing was typed.
    usual: u32,
}

impl<'a> InviteForm<'a> {
    /// Its numbers.
    fn numbers(&self) -> [NumberField<'a>; 2] {
        [
            NumberField {
                name: "uses",
                label: "For how many people",
                typed: self.uses,
                usual: 1,
            },
            NumberField {
                name: "days",
                label: "For how many days",
                typed: self.days,
                usual: 7,
            },
        ]
    }

    fn error_at(&self, name: &str) -> Option<&'a str> {
        error_of(self.errors, name)
    }
}

/// `GET /invites`, and again with errors.
#[derive(Template)]
#[template(path = "invites/index.html")]
pub struct InvitesPage<'a> {
    /// The reader.
    pub user: &'a User,
    /// Whether they see the links of others.
    pub is_admin: bool,
    /// The policy of sign-ups.
    pub sign_up: SignUpPolicy,
    /// The form, where they may invite.
    pub form: Option<InviteForm<'a>>,
    /// The links that are not over.
    pub rows: &'a [InviteRow],
    /// The address of the next page; `None` on the last.
    pub next: Option<String>,
}

impl InvitesPage<'_> {
    /// The room that is invited to, with its title.
    fn room(&self) -> Option<(&RoomId, &str)> {
        let form = self.form.as_ref()?;
        Some((form.room?, form.title))
    }
}

/// A link, shown once.
#[derive(Template)]
#[template(path = "invites/link.html")]
pub struct InvitePage<'a> {
    /// Its maker.
    pub user: &'a User,
    /// The invitation.
    pub row: &'a InviteRow,
    /// Its address.
    pub link: &'a str,
    /// The same for a phone's camera.
    pub code: Option<QrCode>,
}

/// `GET /join/{secret}` of somebody who has an account.
#[derive(Template)]
#[template(path = "invites/join.html")]
pub struct JoinPage<'a> {
    /// The reader.
    pub user: &'a User,
    /// The form's address.
    pub action: &'a str,
    /// Whether there is a room to enter.
    pub has_room: bool,
    /// The invitation.
    pub invited: &'a Invited,
}

/// A QR code, as the path of an SVG.
pub struct QrCode {
    /// Modules from side to side.
    pub width: usize,
    /// A rectangle for each run of dark ones.
    pub path: String,
}

impl QrCode {
    /// The code of an address; `None` of one that is too long for any.
    pub fn of(link: &str) -> Option<Self> {
        use std::fmt::Write;
        let code = qrcode::QrCode::new(link).ok()?;
        let (width, colours) = (code.width(), code.to_colors());
        let mut path = String::new();
        for (y, row) in colours.chunks(width).enumerate() {
            let mut x = 0;
            for run in row.chunk_by(|a, b| a == b) {
                let length = run.len();
                if run[0] == qrcode::Color::Dark {
                    let _ = write!(path, "M{x} {y}h{length}v1h-{length}z");
                }
                x += length;
            }
        }
        Some(Self { width, path })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_square_and_has_its_three_corners() {
        let code = QrCode::of("http://127.0.0.1:3000/join/secret").unwrap();
        let last = code.width - 7;
        for corner in [
            "M0 0h7v1h-7z",
            &format!("M{last} 0h7"),
            &format!("M0 {last}h7"),
        ] {
            assert!(code.path.contains(corner), "{corner} in {}", code.path);
        }
        assert!(QrCode::of(&"x".repeat(10_000)).is_none());
    }

    #[test]
    fn an_invitation_is_a_sentence() {
        let by = Username::parse("ana").ok();
        let room = Some("Tea Time".to_owned());
        let says = |by: &Option<Username>, room: &Option<String>| {
            let (by, room) = (by.clone(), room.clone());
            Invited { by, room }.says()
        };
        assert_eq!(says(&by, &room), "ana invites you to Tea Time.");
        assert_eq!(says(&by, &None), "ana invites you to this server.");
        assert_eq!(says(&None, &None), "You are invited to this server.");
    }
}
