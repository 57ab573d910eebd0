//! The operator's command line: people, invitations and rooms.
//!
//! A server with the embedded store has its file to itself, so it is asked through a [`socket`]; where none runs,
//! and with MongoDB, the command does it itself.

mod command;
pub mod socket;

use std::fmt::Write;

use anyhow::{Context, anyhow, bail, ensure};
use serde::{Deserialize, Serialize};
use serde_json::json;

pub use self::command::{OperatorCommand, RoomCommand, UserCommand};
use crate::auth::password::{Hasher, NewPassword};
use crate::config::Config;
use crate::domain::{
    Account, AccountRole, Act, AuditEntry, Email, Invite, LinkSecret, ListedRoom, Login, NewUser,
    RoomId, Setting, User, UserId,
};
use crate::store::{Store, StoreError, UserField, audited};
use crate::web::{new_invite, new_name, new_reset};

/// The outcome of a command.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// The result, for standard output.
    pub output: String,
    /// A line about it, for standard error.
    pub said: Option<String>,
}

/// Performs commands.
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

/// The number of accounts or rooms read at a time.
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
                let entry = AuditEntry::new(None, Act::Reset).about(&user);
                let making = new_reset(self.store, self.config, user.id);
                let link = audited(self.store, entry, making).await?;
                let name = user.username.as_str();
                let said = format!(
                    "with this link {name} chooses another password, once and within a day"
                );
                Ok(self.link(said, &link, json!({ "username": name, "link": link })))
            }
            UserCommand::Promote { name } => self.set_role(&name, AccountRole::Admin).await,
            UserCommand::Demote { name } => self.set_role(&name, AccountRole::Member).await,
            UserCommand::Deactivate { name } => self.deactivate(&name, true).await,
            UserCommand::Activate { name } => self.deactivate(&name, false).await,
        }
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
    fn link(&self, said: String, link: &str, object: serde_json::Value) -> Outcome {
        let output = match self.as_json {
            true => format!("{object}\n"),
            false => format!("{link}\n"),
        };
        let said = Some(said);
        Outcome { output, said }
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
        let entry = AuditEntry::new(None, Act::AddUser).about(&user);
        let mut role = match audited(self.store, entry, self.store.add_user(new)).await {
            Ok(role) => role,
            Err(StoreError::Taken(UserField::Username)) => {
                bail!("somebody is called {name}, or a name that looks like it")
            }
            Err(StoreError::Taken(UserField::Email)) => {
                bail!("there is an account with the address {email}")
            }
            Err(error) => return Err(error.into()),
        };
        if admin && role != AccountRole::Admin {
            role = AccountRole::Admin;
            let entry = AuditEntry::new(None, Act::SetRole).about(&user);
            let making = self.store.set_account_role(user.id, role);
            audited(self.store, entry.with(role.as_str()), making).await?;
        }
        let link = new_reset(self.store, self.config, user.id).await?;
        let object = json!({ "username": user.username, "role": role, "link": link });
        let name = user.username.as_str();
        let said = format!("{name} has an account now, and chooses a password with this link");
        Ok(self.link(said, &link, object))
    }

    async fn set_role(&self, name: &str, role: AccountRole) -> anyhow::Result<Outcome> {
        let user = self.account(name).await?.user;
        let entry = AuditEntry::new(None, Act::SetRole).about(&user);
        let giving = self.store.set_account_role(user.id, role);
        let given = audited(self.store, entry.with(role.as_str()), giving).await;
        given.map_err(plainly)?;
        let name = user.username.as_str();
        let said = match role {
            AccountRole::Admin => format!("{name} is an admin now"),
            AccountRole::Member => format!("{name} is a member now"),
        };
        Ok(self.done(said, json!({ "username": user.username, "role": role })))
    }

    async fn deactivate(&self, name: &str, is_on: bool) -> anyhow::Result<Outcome> {
        let user = self.account(name).await?.user;
        let act = if is_on { Act::Close } else { Act::Open };
        let entry = AuditEntry::new(None, act).about(&user);
        let setting = self.store.set_deactivated(user.id, is_on);
        let set = audited(self.store, entry, setting).await;
        set.map_err(plainly)?;
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
        let making = new_invite(self.store, self.config, None, room, uses, lasts);
        let (invite, link) = audited(self.store, entry, making).await?;
        let leads_to = invite
            .room
            .as_ref()
            .map_or("this server", |room| room.as_str());
        let said = format!(
            "with this link {} get to {leads_to} until {}",
            counted(invite.uses_left),
            invite.expires_at
        );
        let object = json!({
            "id": invite.id, "link": link, "room": invite.room, "uses_left": invite.uses_left,
            "expires_at": invite.expires_at,
        });
        Ok(self.link(said, &link, object))
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
        audited(self.store, entry, self.store.set(&room, &by, setting)).await?;
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
        let entry = AuditEntry::new(None, Act::DeleteRoom).in_room(&room);
        let deleting = async {
            let is_done = self.store.delete_room(&room).await?;
            ensure!(is_done, "there is no room {room}");
            Ok(())
        };
        audited(self.store, entry, deleting).await?;
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
            if let Some(admin) = accounts.into_iter().find(Account::is_admin) {
                return Ok(admin.user);
            }
        }
    }
}

/// The reason why something was not done, for somebody at a command line.
fn plainly(error: StoreError) -> anyhow::Error {
    match error {
        StoreError::LastAdmin => anyhow!("there would be no admin: promote another first"),
        error => error.into(),
    }
}

fn counted(people: u32) -> String {
    match people {
        1 => "one person can".to_owned(),
        people => format!("{people} people can"),
    }
}
