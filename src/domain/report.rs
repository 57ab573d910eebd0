//! Reports: messages that somebody shows the admins.

use super::{Invalid, ReportId, RoomId, Seq, Timestamp, User};

/// A message that somebody finds wrong. It holds nothing of the message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Names it.
    pub id: ReportId,
    /// The person who reports.
    pub by: User,
    /// The message's room.
    pub room: RoomId,
    /// The message's number there.
    pub seq: Seq,
    /// The reason, in their words; empty where they say nothing.
    pub reason: String,
    /// When.
    pub at: Timestamp,
}

impl Report {
    /// The most characters of a reason.
    pub const REASON_CHARS_MAX: usize = 1_000;

    /// A reason as typed.
    ///
    /// # Errors
    ///
    /// [`Invalid`] for one that is too long, or has what no text has.
    pub fn parse_reason(raw: &str) -> Result<String, Invalid> {
        let reason = raw.trim().replace("\r\n", "\n");
        if reason.chars().count() > Self::REASON_CHARS_MAX {
            return Err(Invalid("Say it in at most 1,000 characters."));
        }
        let is_odd = |c: char| c.is_control() && !matches!(c, '\n' | '\t');
        match reason.contains(is_odd) {
            true => Err(Invalid("Say it in words, without control characters.")),
            false => Ok(reason),
        }
    }
}
