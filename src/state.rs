//! What every handler can reach.

use std::sync::Arc;

use crate::auth::password::Hasher;
use crate::auth::token::Keys;
use crate::config::Config;
use crate::limits::Limits;
use crate::live::Hub;
use crate::store::Store;
use crate::views::Parts;

/// The parts of a running server. Cheap to clone.
#[derive(Clone)]
pub struct AppState {
    /// The settings.
    pub config: Arc<Config>,
    /// Everything durable.
    pub store: Arc<dyn Store>,
    /// Everything live.
    pub hub: Hub,
    /// Signs and checks tokens.
    pub keys: Arc<Keys>,
    /// Hashes passwords.
    pub hasher: Hasher,
    /// Rate limits.
    pub limits: Arc<Limits>,
    /// Parts of pages.
    pub parts: Arc<Parts>,
}
