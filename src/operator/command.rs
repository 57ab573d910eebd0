//! The commands, as they are typed.

use clap::Subcommand;
use serde::{Deserialize, Serialize};

/// A command, as it is typed and as it is sent to a running server.
#[derive(Debug, Clone, Subcommand, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OperatorCommand {
    /// List people, make accounts, or change what somebody may do
    User {
        /// The command.
        #[command(subcommand)]
        act: UserCommand,
    },
    /// Print a link by which people make an account, or enter a room
    Invite {
        /// How many people it lets in
        #[arg(long, default_value = "1")]
        uses: String,
        /// How many days it is good for
        #[arg(long, default_value = "7")]
        days: String,
        /// The room that it leads to
        #[arg(long)]
        room: Option<String>,
    },
    /// List rooms, archive or delete one
    Room {
        /// The command.
        #[command(subcommand)]
        act: RoomCommand,
    },
}

/// The commands about people.
#[derive(Debug, Clone, Subcommand, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UserCommand {
    /// Print everybody’s name and role
    List,
    /// Make an account, and print a link by which its owner chooses a password
    Add {
        /// Their name
        name: String,
        /// Their email address
        email: String,
        /// Make it an admin’s
        #[arg(long)]
        admin: bool,
    },
    /// Print a link by which somebody chooses another password, good once and for a day
    Reset {
        /// Their name
        name: String,
    },
    /// Make somebody an admin
    Promote {
        /// Their name
        name: String,
    },
    /// Make an admin a member
    Demote {
        /// Their name
        name: String,
    },
    /// Sign somebody out, and let them sign in no more
    Deactivate {
        /// Their name
        name: String,
    },
    /// Let somebody sign in again
    Activate {
        /// Their name
        name: String,
    },
}

/// The commands about rooms.
#[derive(Debug, Clone, Subcommand, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RoomCommand {
    /// Print every room but conversations: its id, who may enter, how many people it has, and its name
    List,
    /// Keep a room to be read, and let nobody write there
    Archive {
        /// Its id
        room: String,
        /// The admin in whose name it is done; without one, the first by name
        #[arg(long, value_name = "NAME")]
        by: Option<String>,
    },
    /// Delete a room with all that was written there
    Delete {
        /// Its id
        room: String,
        /// Its id once more, to say that you mean it
        #[arg(long, value_name = "ROOM")]
        confirm: String,
    },
    /// Take a room out of the archive
    Reopen {
        /// Its id
        room: String,
        /// The admin in whose name it is done; without one, the first by name
        #[arg(long, value_name = "NAME")]
        by: Option<String>,
    },
}

impl OperatorCommand {
    /// The command in a word, for the log: names and addresses stay out of it.
    pub(super) fn word(&self) -> &'static str {
        match self {
            Self::User { act } => match act {
                UserCommand::List => "user list",
                UserCommand::Add { .. } => "user add",
                UserCommand::Reset { .. } => "user reset",
                UserCommand::Promote { .. } => "user promote",
                UserCommand::Demote { .. } => "user demote",
                UserCommand::Deactivate { .. } => "user deactivate",
                UserCommand::Activate { .. } => "user activate",
            },
            Self::Invite { .. } => "invite",
            Self::Room { act } => match act {
                RoomCommand::List => "room list",
                RoomCommand::Archive { .. } => "room archive",
                RoomCommand::Delete { .. } => "room delete",
                RoomCommand::Reopen { .. } => "room reopen",
            },
        }
    }
}
