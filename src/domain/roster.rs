//! A roster: who is in a room now.

use std::sync::Arc;

use serde::Serialize;

/// The people in a room at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Roster {
    /// How many people.
    pub count: usize,
    /// Their names in alphabetical order, or the first of them.
    pub names: Vec<Arc<str>>,
}
