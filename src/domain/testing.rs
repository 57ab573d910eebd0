//! Events for unit tests.

use std::sync::Arc;

use super::{
    Author, ChangeKind, Changed, Emoji, Event, EventKind, Message, MessageBody, NewChange, RoomId,
    Seq, Timestamp, UserId,
};

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

/// The event of this number by which ana has reacted to the message `number {target}`.
pub(crate) fn reaction(seq: Seq, target: Seq) -> Arc<Event> {
    let message = event(target);
    let emoji = Emoji::parse("👍").unwrap();
    let react = NewChange::React { emoji, on: true };
    let at = Timestamp::from_millis(0);
    let after = message.after_change(&react, UserId::new(), seq, at);
    Arc::new(Event {
        seq,
        messages: target,
        kind: EventKind::Changed(Changed {
            target,
            what: ChangeKind::from(&react),
            message: after.unwrap().map(Arc::new),
        }),
        ..Event::clone(&message)
    })
}
