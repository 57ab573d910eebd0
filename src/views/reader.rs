//! The style sheet that tells apart, for a reader, their own messages and those that mention them. Rows are the
//! same for everybody, so it goes by the ids in them.

use crate::domain::{Mentions, UserId};

/// The style sheet of a reader.
pub fn reader_style_sheet(reader: UserId) -> String {
    let room = Mentions::ROOM;
    let others = format!(".message:not([data-author=\"{reader}\"])");
    let mentioning =
        format!(".message[data-mentions~=\"{reader}\"], {others}[data-mentions~=\"{room}\"]");
    let name = format!(".name[data-user=\"{reader}\"], {others} .name[data-user=\"{room}\"]");
    format!(
        ".message[data-author=\"{reader}\"] {{ --tint: var(--own-surface); --own: var(--link); }}\n\
         :is({mentioning}) {{ --tint: var(--mention); --mentioned: var(--accent); --mentions: \"mentions you\"; }}\n\
         :is({name}) {{ --name: var(--mark); }}\n"
    )
}
