//! Accounts: who somebody is, and how they sign in.

use async_trait::async_trait;

use super::StoreError;
use crate::domain::{Account, Login, NewUser};

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
    /// Makes an account.
    ///
    /// # Errors
    ///
    /// [`StoreError::Taken`] when another has its name or address; of two racing for one, one.
    async fn add_user(&self, user: NewUser) -> Result<(), StoreError>;

    /// The account somebody signs in to.
    async fn find_account(&self, login: &Login) -> Result<Option<Account>, StoreError>;
}
