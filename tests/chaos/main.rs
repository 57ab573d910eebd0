//! Several nodes on a replica set of three, and everything that can break, breaking. `tests/run`
//! runs this for about three minutes; `CHAOS_SECONDS` is how long each kind of fault lasts (15),
//! `CHAOS_SEED` repeats a run's choices.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod actors;
mod cluster;
mod cut_off;
mod election;
mod faults;
mod history;
mod net;
mod storm;
#[path = "../it/support/mod.rs"]
#[expect(dead_code, unused_imports, reason = "made for the other tests too")]
mod support;
