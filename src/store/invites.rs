//! Invitations, and who may sign up.

use async_trait::async_trait;

use super::StoreError;
use crate::domain::{Guest, Invite, InviteId, Seq, SignUpPolicy, UserId};

/// The invitations. A caller that goes away does not stop one from being spent.
///
/// # Errors
///
/// [`StoreError::Backend`] from any method; the others where a method says so.
#[async_trait]
pub trait Invites: Send + Sync {
    /// Keeps an invitation.
    async fn add_invite(&self, invite: Invite) -> Result<(), StoreError>;

    /// The invitation with this secret; `None` when it is unknown or over. It may be used up.
    async fn find_invite(&self, secret_hash: &str) -> Result<Option<Invite>, StoreError>;

    /// The invitation of this id, also when it is over.
    async fn invite(&self, id: InviteId) -> Result<Option<Invite>, StoreError>;

    /// The invitations of a user that let in one more, or everybody's, the newest first: at most `limit` of those before
    /// this one.
    async fn invites(
        &self,
        by: Option<UserId>,
        before: Option<InviteId>,
        limit: usize,
    ) -> Result<Vec<Invite>, StoreError>;

    /// Ends an invitation; `false` when there is none.
    async fn revoke_invite(&self, id: InviteId) -> Result<bool, StoreError>;

    /// Lets somebody in: one use is spent, and with it their account is made if they are new. Then they are a member
    /// of the invitation's room, if it has one, whoever may enter that. Of somebody who is in there already, or
    /// has been on the way, no use is spent. How far one must see the room to see it is answered; 0 for nothing.
    ///
    /// # Errors
    ///
    /// [`StoreError::InviteOver`] when it is unknown, used up or over: of those who race for the last use, one gets
    /// it. [`StoreError::Taken`] as from [`add_user`](super::Accounts::add_user), unless it is over, too;
    /// [`StoreError::Banned`] from the room; [`StoreError::TooManyRooms`]. Nothing is spent then.
    async fn spend_invite(&self, secret_hash: &str, guest: Guest) -> Result<Seq, StoreError>;

    /// The policy that an admin has chosen, if one has.
    async fn sign_up_policy(&self) -> Result<Option<SignUpPolicy>, StoreError>;

    /// Chooses one.
    async fn set_sign_up_policy(&self, policy: SignUpPolicy) -> Result<(), StoreError>;
}
