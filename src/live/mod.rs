//! Streams: subscribers of rooms' logs, what wakes them, and presence.
//!
//! A stream is a [`Subscriber`]: a cursor into a room's log. The [`Hub`] keeps the newest events of
//! each followed room, encoded, and wakes the subscribers when there are more; what a subscriber has
//! not sent it takes from there, or from the store when it is further behind. So a slow reader
//! costs its place in the log and nothing else, and replay and live are one loop.

mod byte_stream;
mod encode;
mod hub;
mod log_wait;
mod notice;
mod presence;
mod renderer;
mod room;
mod room_view;
mod streams;
mod subscriber;

pub use byte_stream::ByteStream;
pub use encode::{Format, sse, text_line};
pub use hub::{Hub, HubBuilder};
pub use log_wait::LogWait;
pub use notice::RETRY_MS;
pub use presence::PresenceGuard;
pub use renderer::Renderer;
pub use room_view::RoomView;
pub use streams::{CloseReason, Streams};
pub use subscriber::{ReadOn, Step, Subscriber};
