//! The style sheet that tells apart, for a reader, their own messages and those that mention them. Rows are the
//! same for everybody, so it goes by the ids in them.

use crate::domain::{Mentions, User, UserId};

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

/// The style sheet that folds what these people have written: a line says so, and a message that has the focus is shown.
pub fn folding_style_sheet(blocked: &[User]) -> String {
    let ids = blocked
        .iter()
        .map(|user| format!("[data-author=\"{}\"]", user.id));
    let ids: Vec<String> = ids.collect();
    if ids.is_empty() {
        return String::new();
    }
    let folded = format!(
        ".message:is({}):not(.marked, :focus, :has(:focus-visible))",
        ids.join(", ")
    );
    format!(
        "{folded} > :is(.body, .quote, .reactions) {{ display: none; }}\n\
         {folded} .meta::after {{ content: \" \u{b7} from somebody you have blocked\"; }}\n"
    )
}
