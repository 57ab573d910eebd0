//! The renderer: how events and people look on a page, handed in by the owner of the hub.

use crate::domain::{Epoch, Event, Roster};

/// How a room's events and people look on a page.
#[derive(Clone, Copy)]
pub struct Renderer {
    /// The HTML of an event's row.
    pub row: fn(&Event, Epoch) -> String,
    /// A line that says who is here.
    pub roster: fn(&Roster) -> String,
}
