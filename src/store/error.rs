//! The errors of a store.

#[cfg(doc)]
use super::ROOMS_PER_USER_MAX;
use super::UserField;
use crate::domain::Refusal;

/// An error of a store, whichever database is behind it.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Somebody has this name or address, or one that looks like it.
    #[error("{0:?} is taken")]
    Taken(UserField),
    /// The author's nonce already stands in this room, with another content.
    #[error("the nonce was used for another event")]
    NonceReused,
    /// A change to a message that may not be made; nothing was appended.
    #[error("{0}")]
    Refused(Refusal),
    /// An invitation that is unknown, used up or over.
    #[error("the invitation is over")]
    InviteOver,
    /// The user is the only admin.
    #[error("there would be no admin")]
    LastAdmin,
    /// There is a room with this id, which the user may not know of, or did not mean to enter.
    #[error("the room’s id is taken")]
    RoomTaken,
    /// The owners of the room keep the user out.
    #[error("the user is banned from the room")]
    Banned,
    /// The user is in [`ROOMS_PER_USER_MAX`] rooms already.
    #[error("the user is in too many rooms")]
    TooManyRooms,
    /// More waits to be written than can be written soon.
    #[error("too many writes are waiting")]
    Busy,
    /// The disk is full. Nothing was written; reading goes on.
    #[error("the disk is full")]
    StorageFull,
    /// The database failed while doing `operation`. The operation may have been done.
    #[error("could not {operation}")]
    Backend {
        /// The operation, as in "could not …".
        operation: &'static str,
        /// The database's error.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl StoreError {
    /// A [`Self::Backend`] from whatever the database said.
    pub fn backend(
        operation: &'static str,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self::Backend {
            operation,
            source: source.into(),
        }
    }
}
