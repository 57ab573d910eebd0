//! What happens now: who follows which log, how they are woken, and who is here.
//!
//! A stream is a [`Follower`]: a cursor into a room's log. The [`Hub`] keeps the newest events of
//! each followed room, encoded, and wakes the followers when there are more; what a follower has
//! not sent it takes from there, or from the store when it is further behind. So a slow reader
//! costs its place in the log and nothing else, and replay and live are one loop.

mod encode;
mod follower;
mod growth;
mod hub;
mod notice;
mod presence;
mod room;
mod streams;
mod watch;

pub use encode::{Format, sse, text_line};
pub use follower::{Follower, Next, ReadOn};
pub use growth::Growth;
pub use hub::Hub;
pub use notice::RETRY_MS;
pub use presence::{Here, Present};
pub use streams::{Ending, Streams};
pub use watch::{Ready, Watch};
