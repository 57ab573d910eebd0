//! Events for unit tests.

use std::sync::Arc;

use super::{Author, Event, EventKind, Message, MessageBody, RoomId, Seq, Timestamp, UserId};

/// The event of this number in a room of messages: `number 7`, by ana.
pub(crate) fn event(seq: Seq) -> Arc<Event> {
    Arc::new(Event {
        room: RoomId::parse("tea").unwrap(),
        seq,
        messages: seq,
        at: Timestamp::from_millis(0),
        author: Author {
            id: UserId::new(),
            username: "ana".into(),
        },
        kind: EventKind::Message(Message::new(
            MessageBody::parse(&format!("number {seq}")).unwrap(),
            None,
        )),
    })
}
