//! What whoever runs a server asks of it at the command line: people, invitations and rooms.
//!
//! A server with the embedded store has its file to itself, so it is asked through a [`socket`]; where none runs,
//! and with MongoDB, the command does it itself.

pub mod socket;

use std::fmt::Write;

use anyhow::{Context, bail};
use clap::Subcommand;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::auth::password::{Hasher, NewPassword};
use crate::config::Config;
use crate::domain::{
    Account, AccountRole, Act, AuditEntry, Email, Invite, LinkSecret, ListedRoom, Login, NewUser,
    RoomId, Setting, User, UserId,
};
use crate::store::{Store, StoreError, UserField};
use crate::web::{new_invite, new_name, new_reset};

/// A command, as it is typed and as it is sent to a running server.
#[derive(Debug, Clone, Subcommand, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OperatorCommand {
    /// List people, make accounts, or change what somebody may do
    User {
        /// What is done.
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
        /// What is done.
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

/// The outcome of a command.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// What it is for: standard output.
    pub output: String,
    /// What was done, in a line: standard error.
    pub said: Option<String>,
}

/// What commands work with.
pub struct Operator<'a> {
    /// Everything durable.
    pub store: &'a dyn Store,
    /// The settings.
    pub config: &'a Config,
    /// Hashes passwords.
    pub hasher: &'a Hasher,
    /// Whether the output is JSON: an object, or one a line.
    pub as_json: bool,
}

/// How many accounts or rooms are read at a time.
const AT_ONCE: usize = 1_000;

impl Operator<'_> {
    /// Does what a command says.
    ///
    /// # Errors
    ///
    /// One line for whoever called: what is named is not there, may not be so, or the store fails.
    pub async fn perform(&self, command: OperatorCommand) -> anyhow::Result<Outcome> {
        match command {
            OperatorCommand::User { act } => self.user(act).await,
            OperatorCommand::Invite { uses, days, room } => self.invite(&uses, &days, room).await,
            OperatorCommand::Room { act } => match act {
                RoomCommand::List => self.list_rooms().await,
                RoomCommand::Archive { room, by } => self.archive(&room, by, true).await,
                RoomCommand::Delete { room, confirm } => self.delete_room(&room, &confirm).await,
                RoomCommand::Reopen { room, by } => self.archive(&room, by, false).await,
            },
        }
    }

    async fn user(&self, command: UserCommand) -> anyhow::Result<Outcome> {
        match command {
            UserCommand::List => self.list_users().await,
            UserCommand::Add { name, email, admin } => self.add_user(&name, &email, admin).await,
            UserCommand::Reset { name } => {
                let user = self.account(&name).await?.user;
                self.note(AuditEntry::new(None, Act::Reset).about(&user))
                    .await?;
                let link = new_reset(self.store, self.config, user.id).await?;
                Ok(self.link(&link, json!({ "username": user.username, "link": link })))
            }
            UserCommand::Promote { name } => self.set_role(&name, AccountRole::Admin).await,
            UserCommand::Demote { name } => self.set_role(&name, AccountRole::Member).await,
            UserCommand::Deactivate { name } => self.deactivate(&name, true).await,
            UserCommand::Activate { name } => self.deactivate(&name, false).await,
        }
    }

    /// Notes an act before it is done.
    async fn note(&self, entry: AuditEntry) -> anyhow::Result<()> {
        Ok(self.store.add_audit(&entry).await?)
    }

    async fn account(&self, name: &str) -> anyhow::Result<Account> {
        let account = self.store.find_account(&Login::named(name)).await?;
        account.with_context(|| format!("nobody is called {name}"))
    }

    /// A line in words, or an object.
    fn done(&self, said: String, object: serde_json::Value) -> Outcome {
        let output = match self.as_json {
            true => format!("{object}\n"),
            false => String::new(),
        };
        let said = Some(said);
        Outcome { output, said }
    }

    /// A link that stands alone, or in an object.
    fn link(&self, link: &str, object: serde_json::Value) -> Outcome {
        let output = match self.as_json {
            true => format!("{object}\n"),
            false => format!("{link}\n"),
        };
        Outcome { output, said: None }
    }

    async fn list_users(&self) -> anyhow::Result<Outcome> {
        let (mut output, mut after) = (String::new(), String::new());
        loop {
            let accounts = self.store.accounts(String::new(), after, AT_ONCE).await?;
            let Some(last) = accounts.last() else {
                return Ok(Outcome { output, said: None });
            };
            after = last.user.username.key();
            for account in &accounts {
                let (name, role) = (&account.user.username, account.role);
                let is_deactivated = account.is_deactivated;
                let _ = match self.as_json {
                    true => {
                        let (email, deactivated) = (account.email.as_str(), is_deactivated);
                        let account = json!({
                            "username": name, "email": email, "role": role, "deactivated": deactivated,
                        });
                        writeln!(output, "{account}")
                    }
                    false => {
                        let mark = if is_deactivated { "\tdeactivated" } else { "" };
                        writeln!(output, "{}\t{}{mark}", name.as_str(), role.as_str())
                    }
                };
            }
        }
    }

    async fn add_user(&self, name: &str, email: &str, admin: bool) -> anyhow::Result<Outcome> {
        let user = User {
            id: UserId::new(),
            username: new_name(name)?,
        };
        // Nobody signs in with it: their owner chooses one.
        let password = NewPassword::parse(&LinkSecret::new().to_string())?;
        let new = NewUser {
            user: user.clone(),
            email: Email::parse(email)?,
            password_hash: self.hasher.hash(password).await?,
        };
        let mut role = match self.store.add_user(new).await {
            Ok(role) => role,
            Err(StoreError::Taken(UserField::Username)) => {
                bail!("somebody is called {name}, or a name that looks like it")
            }
            Err(StoreError::Taken(UserField::Email)) => {
                bail!("there is an account with the address {email}")
            }
            Err(error) => return Err(error.into()),
        };
        self.note(AuditEntry::new(None, Act::AddUser).about(&user))
            .await?;
        if admin && role != AccountRole::Admin {
            role = AccountRole::Admin;
            let entry = AuditEntry::new(None, Act::SetRole).about(&user);
            self.note(entry.with(role.as_str())).await?;
            self.store.set_account_role(user.id, role).await?;
        }
        let link = new_reset(self.store, self.config, user.id).await?;
        let object = json!({ "username": user.username, "role": role, "link": link });
        let name = user.username.as_str();
        Ok(Outcome {
            said: Some(format!(
                "{name} has an account now, and chooses a password with this link"
            )),
            ..self.link(&link, object)
        })
    }

    async fn set_role(&self, name: &str, role: AccountRole) -> anyhow::Result<Outcome> {
        let user = self.account(name).await?.user;
        let entry = AuditEntry::new(None, Act::SetRole).about(&user);
        let entry = entry.with(role.as_str());
        self.note(entry.clone()).await?;
        if let Err(error) = self.store.set_account_role(user.id, role).await {
            return Err(self.not_done(entry, error).await);
        }
        let name = user.username.as_str();
        let said = match role {
            AccountRole::Admin => format!("{name} is an admin now"),
            AccountRole::Member => format!("{name} is a member now"),
        };
        Ok(self.done(said, json!({ "username": user.username, "role": role })))
    }

    /// Notes that it did not come to an act, and says why.
    async fn not_done(&self, entry: AuditEntry, error: StoreError) -> anyhow::Error {
        let _ = self.store.add_audit(&entry.failed()).await;
        match error {
            StoreError::LastAdmin => {
                anyhow::anyhow!("there would be no admin: promote another first")
            }
            error => error.into(),
        }
    }

    async fn deactivate(&self, name: &str, is_on: bool) -> anyhow::Result<Outcome> {
        let user = self.account(name).await?.user;
        let act = if is_on { Act::Close } else { Act::Open };
        let entry = AuditEntry::new(None, act).about(&user);
        self.note(entry.clone()).await?;
        if let Err(error) = self.store.set_deactivated(user.id, is_on).await {
            return Err(self.not_done(entry, error).await);
        }
        let name = user.username.as_str();
        let said = match is_on {
            true => format!("{name} is signed out, and cannot sign in"),
            false => format!("{name} can sign in again"),
        };
        let object = json!({ "username": user.username, "deactivated": is_on });
        Ok(self.done(said, object))
    }

    async fn invite(
        &self,
        uses: &str,
        days: &str,
        room: Option<String>,
    ) -> anyhow::Result<Outcome> {
        let (uses, lasts) = (Invite::parse_uses(uses)?, Invite::parse_days(days)?);
        if self.store.has_no_users().await? {
            bail!("nobody is here yet: make the first account, an admin’s, with parlor user add");
        }
        let room = match room {
            None => None,
            Some(room) => Some(self.room(&room).await?),
        };
        let mut entry = AuditEntry::new(None, Act::Invite);
        if let Some(room) = &room {
            entry = entry.in_room(room);
        }
        self.note(entry).await?;
        let (invite, link) = new_invite(self.store, self.config, None, room, uses, lasts).await?;
        let object = json!({
            "id": invite.id, "link": link, "room": invite.room, "uses_left": invite.uses_left,
            "expires_at": invite.expires_at,
        });
        Ok(self.link(&link, object))
    }

    /// A room that is there, and no conversation.
    async fn room(&self, id: &str) -> anyhow::Result<RoomId> {
        let room = RoomId::parse(id)?;
        match self.store.settings(&room).await? {
            Some(_) => Ok(room),
            None => bail!("there is no room {room}"),
        }
    }

    async fn list_rooms(&self) -> anyhow::Result<Outcome> {
        let (mut output, mut after) = (String::new(), String::new());
        loop {
            let rooms = self.store.all_rooms(String::new(), after, AT_ONCE).await?;
            let Some(last) = rooms.last() else {
                return Ok(Outcome { output, said: None });
            };
            after = last.room.to_string();
            for listed in &rooms {
                let ListedRoom {
                    room,
                    settings,
                    people,
                } = listed;
                let _ = match self.as_json {
                    true => {
                        let room = json!({
                            "room": room, "name": settings.name, "access": settings.access,
                            "people": people, "archived": settings.is_archived,
                        });
                        writeln!(output, "{room}")
                    }
                    false => {
                        let name = settings.name.as_ref().map_or("", |name| name.as_str());
                        let access = match settings.is_archived {
                            true => "archived",
                            false => settings.access.as_str(),
                        };
                        writeln!(output, "{room}\t{access}\t{people}\t{name}")
                    }
                };
            }
        }
    }

    async fn archive(
        &self,
        room: &str,
        by: Option<String>,
        is_on: bool,
    ) -> anyhow::Result<Outcome> {
        let room = self.room(room).await?;
        let by = self.admin(by).await?;
        let setting = Setting::Archived(is_on);
        let entry = AuditEntry::new(None, Act::SetRoom).in_room(&room);
        let entry = entry.with(setting.in_words());
        self.note(entry.clone()).await?;
        if let Err(error) = self.store.set(&room, &by, setting).await {
            return Err(self.not_done(entry, error).await);
        }
        let said = match is_on {
            true => format!("{room} can be read, and nobody writes there"),
            false => format!("{room} is out of the archive"),
        };
        Ok(self.done(said, json!({ "room": room, "archived": is_on })))
    }

    async fn delete_room(&self, room: &str, confirm: &str) -> anyhow::Result<Outcome> {
        let room = self.room(room).await?;
        if RoomId::parse(confirm).ok().as_ref() != Some(&room) {
            bail!("nothing was deleted: --confirm takes the room’s id, {room}");
        }
        self.note(AuditEntry::new(None, Act::DeleteRoom).in_room(&room))
            .await?;
        self.store.delete_room(&room).await?;
        let said = format!("{room} is gone, with all that was written there");
        Ok(self.done(said, json!({ "room": room, "deleted": true })))
    }

    /// The admin of this name, or the first.
    async fn admin(&self, name: Option<String>) -> anyhow::Result<User> {
        if let Some(name) = name {
            let account = self.account(&name).await?;
            return match account.role {
                AccountRole::Admin => Ok(account.user),
                AccountRole::Member => bail!("{name} is no admin"),
            };
        }
        let mut after = String::new();
        loop {
            let accounts = self.store.accounts(String::new(), after, AT_ONCE).await?;
            let Some(last) = accounts.last() else {
                bail!("there is no admin: promote somebody first");
            };
            after = last.user.username.key();
            let is_admin = |it: &Account| it.role == AccountRole::Admin && !it.is_deactivated;
            if let Some(admin) = accounts.into_iter().find(is_admin) {
                return Ok(admin.user);
            }
        }
    }
}
