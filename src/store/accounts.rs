//! Accounts: who somebody is, and how they sign in.

use async_trait::async_trait;

#[cfg(doc)]
use super::Change;
use super::StoreError;
use crate::domain::{Account, AccountRole, KeptMessages, Login, NewUser, ProfileChange, UserId};

/// The fields of an account that must be unique.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UserField {
    /// By key and by shape: case and look-alikes don't count.
    Username,
    /// Case doesn't count.
    Email,
}

/// The accounts.
///
/// # Errors
///
/// [`StoreError::Backend`] from any method; the others where a method says so.
#[async_trait]
pub trait Accounts: Send + Sync {
    /// Makes an account: an admin's, if it is the first of an empty store, a member's otherwise.
    ///
    /// # Errors
    ///
    /// [`StoreError::Taken`] when another has its name, or had it, or has its address; of two racing for one, one.
    async fn add_user(&self, user: NewUser) -> Result<AccountRole, StoreError>;

    /// Whether there is no account yet.
    async fn has_no_users(&self) -> Result<bool, StoreError>;

    /// The account of a user, as it is now.
    async fn account(&self, user: UserId) -> Result<Option<Account>, StoreError>;

    /// Gives a user a role.
    ///
    /// # Errors
    ///
    /// [`StoreError::LastAdmin`] when the last admin who may sign in would be none; of two who step down at once, one
    /// stays.
    async fn set_account_role(&self, user: UserId, role: AccountRole) -> Result<(), StoreError>;

    /// Gives an account another name, another address, or both in one step; `false` when it was deleted. Earlier
    /// names are given to nobody else. A new name shows everywhere, and [`Change::Renamed`] follows. A new address
    /// ends the links that were sent to the old one.
    ///
    /// # Errors
    ///
    /// [`StoreError::Taken`] when another has the name or the address, or had the name; of two racing for one, one
    /// gets it.
    async fn set_profile(&self, user: UserId, change: ProfileChange) -> Result<bool, StoreError>;

    /// Lets nobody sign in to an account, and ends its sessions, its resets and the sign-ins under way; or lets its
    /// user in again.
    ///
    /// # Errors
    ///
    /// [`StoreError::LastAdmin`] when this is the last admin who may sign in.
    async fn set_deactivated(&self, user: UserId, is_on: bool) -> Result<(), StoreError>;

    /// Deletes an account for its user: from here on nobody signs in to it, and its name, address and password are
    /// nowhere, also where others have named them. They have left all rooms but conversations, and their messages
    /// are gone or a former member's. Once begun it is finished, also after a restart.
    ///
    /// # Errors
    ///
    /// [`StoreError::LastAdmin`] when this is the last admin who may sign in.
    async fn erase(&self, user: UserId, messages: KeptMessages) -> Result<(), StoreError>;

    /// The accounts with a word in their name or their address, but deleted ones, by name: at most `limit` of those
    /// whose keys come after this one. Case and look-alikes don't count, as in names.
    async fn accounts(
        &self,
        word: String,
        after: String,
        limit: usize,
    ) -> Result<Vec<Account>, StoreError>;

    /// The account somebody signs in to.
    async fn find_account(&self, login: &Login) -> Result<Option<Account>, StoreError>;
}
