//! Exports: everything a store keeps, as lines of JSON, which `parlor export` writes and `parlor import`
//! reads, whichever database is behind it.
//!
//! The order is fixed, so that equal stores have equal exports: a head, then memberships, bans, blocks, sessions,
//! the audit log, rooms, deleted rooms, events and users, each sorted by its key, then an end with the counts. Records refer
//! to later ones and never the other way round. So an export of a store in use is
//! whole: it has every user whom it mentions, and of each room a part of the log without gaps.

mod checker;
mod exporter;
mod importer;
mod record;
mod values;

use std::time::{SystemTime, UNIX_EPOCH};

pub(super) use checker::Checker;
pub use exporter::Exporter;
pub use importer::Importer;
pub use record::{Counts, EventRecord, ReactionRecord, Record, VERSION};
pub(super) use values::EPOCH_MAX;

use crate::domain::Epoch;

/// For a store that goes back in time: higher than the newest epoch that is known and, being the
/// time, than those nobody remembers, of a store that went back before and is gone.
pub(super) fn newer_epoch(newest: Epoch) -> Epoch {
    seconds_since_1970().max(newest + 1)
}

pub(super) fn seconds_since_1970() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}
