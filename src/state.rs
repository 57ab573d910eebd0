//! The application's state, which every handler reaches.

use std::ops::Deref;
use std::sync::Arc;

use crate::auth::password::Hasher;
use crate::auth::token::Keys;
use crate::config::Config;
use crate::in_flight::InFlight;
use crate::limits::Limits;
use crate::live::Hub;
use crate::mail::Mailer;
use crate::noted_sessions::NotedSessions;
use crate::store::Store;
use crate::views::FragmentCache;

/// The state that every request carries. Cheap to clone.
#[derive(Clone)]
pub struct AppState(Arc<Services>);

impl AppState {
    /// The state of these services.
    pub fn new(services: Services) -> Self {
        Self(Arc::new(services))
    }
}

impl Deref for AppState {
    type Target = Services;

    fn deref(&self) -> &Services {
        &self.0
    }
}

/// The parts of a running server.
pub struct Services {
    /// The settings.
    pub config: Config,
    /// Everything durable.
    pub store: Arc<dyn Store>,
    /// Everything live.
    pub hub: Hub,
    /// Signs and checks tokens.
    pub keys: Keys,
    /// Hashes passwords.
    pub hasher: Hasher,
    /// Rate limits.
    pub limits: Limits,
    /// The way to people who are not here, if there is one.
    pub mailer: Option<Mailer>,
    /// Parts of pages.
    pub fragments: FragmentCache,
    /// The sessions noted as used a moment ago.
    pub noted_sessions: NotedSessions,
    /// Requests in flight.
    pub in_flight: InFlight,
}
