//! Memberships: how they begin and end, and whether there is one.

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension, params};

use super::rooms::memberships;
use super::{SqliteStore, accounts, log, room_deletion, room_row};
use crate::domain::{
    Access, Author, Level, MembershipId, NewEvent, NewKind, Nonce, Role, RoomId, RoomSettings, Seq,
    Timestamp, User, UserId,
};
use crate::store::cache::{Durable, Membership};
use crate::store::{Change, Memberships, ROOMS_PER_USER_MAX, Relation, StoreError};

/// Runs a statement, and answers how many rows it has changed.
fn execute(
    connection: &Connection,
    operation: &'static str,
    statement: &str,
    params: &[&dyn rusqlite::ToSql],
) -> Result<usize, StoreError> {
    connection
        .prepare_cached(statement)
        .and_then(|mut statement| statement.execute(params))
        .map_err(|error| StoreError::backend(operation, error))
}

const JOIN: &str = "join a room";

pub(super) fn join(
    connection: &Connection,
    changes: &mut Vec<Durable>,
    room: &RoomId,
    user: &User,
    made: Option<&RoomSettings>,
) -> Result<Seq, StoreError> {
    let failed = |error| StoreError::backend(JOIN, error);
    let settings = room_row::settings(connection, room).map_err(failed)?;
    let role = match settings {
        None if room_deletion::was_deleted(connection, room).map_err(failed)? => {
            return Err(StoreError::RoomTaken);
        }
        None => {
            let made = made.cloned().unwrap_or_default();
            execute(
                connection,
                JOIN,
                "INSERT INTO rooms (id, created_at, access, name, topic) VALUES (?1, ?2, ?3, ?4, ?5)",
                params![
                    room.as_str(),
                    Timestamp::now().as_millis(),
                    made.access.as_str(),
                    made.name.as_ref().map(|name| name.as_str()),
                    made.topic.as_ref().map(|topic| topic.as_str()),
                ],
            )?;
            Role::Owner
        }
        Some(settings) => {
            let relation = relation(connection, room, user.id).map_err(failed)?;
            match relation {
                // Asked for twice, a room is made once.
                Relation::Member { .. } => {
                    let is_so = made.is_none_or(|made| *made == settings);
                    let is_own = || owners(connection, room).map(|all| all.contains(&user.id));
                    return match made.is_none() || is_so && is_own().map_err(failed)? {
                        true => Ok(0),
                        false => Err(StoreError::RoomTaken),
                    };
                }
                Relation::NoRoom => return Err(StoreError::RoomTaken),
                _ if made.is_some() => return Err(StoreError::RoomTaken),
                Relation::Banned => return Err(StoreError::Banned),
                Relation::NotMember => Role::Member,
            }
        }
    };
    begin(connection, changes, room, user, role, None)
}

/// Makes somebody a member who is none.
fn begin(
    connection: &Connection,
    changes: &mut Vec<Durable>,
    room: &RoomId,
    user: &User,
    role: Role,
    by: Option<&User>,
) -> Result<Seq, StoreError> {
    let (id, now) = (user.id.to_string(), Timestamp::now().as_millis());
    // Of an account that was deleted a moment ago nothing begins.
    let joined = execute(
        connection,
        JOIN,
        "INSERT INTO memberships (user, room, joined_at, role)
         SELECT ?1, ?2, ?3, ?4 WHERE EXISTS (SELECT 1 FROM users WHERE id = ?1 AND erased IS NULL)
         ON CONFLICT DO NOTHING",
        params![id, room.as_str(), now, role.as_str()],
    )?;
    if joined == 0 {
        return Ok(0);
    }
    let rooms: usize = connection
        .prepare_cached(
            "SELECT count(*) FROM memberships WHERE user = ?1 AND (substr(room, 1, 1) = '@') = ?2",
        )
        .and_then(|mut count| {
            count.query_row(params![id, room.is_direct()], |row| row.get::<_, u32>(0))
        })
        .map_err(|error| StoreError::backend(JOIN, error))? as usize;
    if rooms > ROOMS_PER_USER_MAX {
        return Err(StoreError::TooManyRooms);
    }
    let event = NewEvent {
        author: Author::from(user),
        kind: NewKind::Joined {
            by: by.map(Author::from),
        },
        // A membership and its event are one transaction: nobody else tries the same one.
        nonce: Some(Nonce::joined(MembershipId::new())),
    };
    let seq = log::append(connection, changes, room, event)?.event().seq;
    execute(
        connection,
        JOIN,
        "UPDATE memberships SET joined_seq = ?3 WHERE user = ?1 AND room = ?2",
        params![id, room.as_str(), seq.cast_signed()],
    )?;
    // Earlier messages are history to them.
    mark_read(connection, changes, room, user.id, seq)?;
    changes.push(Durable::Change(Change::Entered(user.id)));
    Ok(seq)
}

fn join_direct(
    connection: &Connection,
    changes: &mut Vec<Durable>,
    people: &[User],
) -> Result<(RoomId, Seq), StoreError> {
    let ids: Vec<UserId> = people.iter().map(|user| user.id).collect();
    let room = RoomId::direct(&ids);
    execute(
        connection,
        JOIN,
        "INSERT INTO rooms (id, created_at, access) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING",
        params![
            room.as_str(),
            Timestamp::now().as_millis(),
            Access::Direct.as_str()
        ],
    )?;
    let mut seq = 0;
    for user in people {
        seq = begin(connection, changes, &room, user, Role::Member, None)?.max(seq);
    }
    Ok((room, seq))
}

/// Makes somebody a member whom the room's access may keep out: who is added, or comes by an invitation.
pub(super) fn add(
    connection: &Connection,
    changes: &mut Vec<Durable>,
    room: &RoomId,
    by: Option<&User>,
    user: &User,
) -> Result<Seq, StoreError> {
    let failed = |error| StoreError::backend(JOIN, error);
    if room_deletion::was_deleted(connection, room).map_err(failed)? {
        return Err(StoreError::RoomTaken);
    }
    let is_banned = connection
        .prepare_cached("SELECT 1 FROM bans WHERE room = ?1 AND user = ?2")
        .and_then(|mut find| find.exists(params![room.as_str(), user.id.to_string()]))
        .map_err(failed)?;
    if is_banned {
        return Err(StoreError::Banned);
    }
    begin(connection, changes, room, user, Role::Member, by)
}

/// Ends a membership, if there is one: its member leaves, or is removed.
pub(super) fn end(
    connection: &Connection,
    changes: &mut Vec<Durable>,
    room: &RoomId,
    user: &User,
    by: Option<&User>,
) -> Result<Seq, StoreError> {
    let ended = execute(
        connection,
        "leave a room",
        "DELETE FROM memberships WHERE user = ?1 AND room = ?2",
        params![user.id.to_string(), room.as_str()],
    )?;
    if ended == 0 {
        return Ok(0);
    }
    let event = NewEvent {
        author: Author::from(user),
        kind: NewKind::Left {
            by: by.map(Author::from),
        },
        nonce: Some(Nonce::left(MembershipId::new())),
    };
    Ok(log::append(connection, changes, room, event)?.event().seq)
}

fn ban(
    connection: &Connection,
    changes: &mut Vec<Durable>,
    room: &RoomId,
    by: &User,
    user: &User,
) -> Result<Seq, StoreError> {
    execute(
        connection,
        "ban from a room",
        "INSERT INTO bans (room, user, at, by) VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO NOTHING",
        params![
            room.as_str(),
            user.id.to_string(),
            Timestamp::now().as_millis(),
            by.id.to_string(),
        ],
    )?;
    end(connection, changes, room, user, Some(by))
}

fn banned(connection: &Connection, room: &RoomId, limit: usize) -> rusqlite::Result<Vec<User>> {
    connection
        .prepare_cached(
            "SELECT id, username FROM bans JOIN users ON id = user WHERE room = ?1
             ORDER BY username_key LIMIT ?2",
        )?
        .query_map(params![room.as_str(), limit as i64], accounts::user_from)?
        .collect()
}

fn owners(connection: &Connection, room: &RoomId) -> rusqlite::Result<Vec<UserId>> {
    if room.is_direct() {
        return Ok(Vec::new());
    }
    let owners = connection
        .prepare_cached("SELECT user FROM memberships WHERE room = ?1 AND role = 'owner'")?
        .query_map([room.as_str()], |row| accounts::id_from(row, "user"))?
        .collect::<rusqlite::Result<Vec<_>>>()?;
    if !owners.is_empty() {
        return Ok(owners);
    }
    connection
        .prepare_cached(
            "SELECT user FROM memberships WHERE room = ?1
             ORDER BY joined_seq, joined_at, user LIMIT 1",
        )?
        .query_map([room.as_str()], |row| accounts::id_from(row, "user"))?
        .collect()
}

fn set_role(
    connection: &Connection,
    room: &RoomId,
    user: UserId,
    role: Role,
) -> Result<bool, StoreError> {
    const OPERATION: &str = "give a role";
    let set = |user: UserId, role: Role| {
        execute(
            connection,
            OPERATION,
            "UPDATE memberships SET role = ?3 WHERE user = ?1 AND room = ?2",
            params![user.to_string(), room.as_str(), role.as_str()],
        )
    };
    if role == Role::Owner {
        // An owner for having been there longest stays one.
        let owners = owners(connection, room);
        for owner in owners.map_err(|error| StoreError::backend(OPERATION, error))? {
            set(owner, Role::Owner)?;
        }
    }
    Ok(set(user, role)? > 0)
}

pub(super) fn mark_read(
    connection: &Connection,
    changes: &mut Vec<Durable>,
    room: &RoomId,
    user: UserId,
    seq: Seq,
) -> Result<(), StoreError> {
    let failed = |error| StoreError::backend("mark as read", error);
    let seq = seq.min(log::head(connection, room).map_err(failed)?.seq);
    let updated = connection
        .prepare_cached(
            "UPDATE memberships SET read_seq = ?3
             WHERE user = ?1 AND room = ?2 AND read_seq < ?3",
        )
        .and_then(|mut update| {
            update.execute(params![user.to_string(), room.as_str(), seq.cast_signed()])
        })
        .map_err(failed)?;
    if updated > 0 {
        changes.push(Durable::Read {
            room: room.clone(),
            user,
            seq,
            messages: log::messages_up_to(connection, room, seq).map_err(failed)?,
        });
    }
    Ok(())
}

pub(super) fn relation(
    connection: &Connection,
    room: &RoomId,
    user: UserId,
) -> rusqlite::Result<Relation> {
    let found = connection
        .prepare_cached(
            "SELECT access,
                    (SELECT read_seq FROM memberships WHERE user = ?2 AND room = rooms.id),
                    EXISTS (SELECT 1 FROM bans WHERE user = ?2 AND room = rooms.id)
             FROM rooms WHERE id = ?1",
        )?
        .query_row(params![room.as_str(), user.to_string()], |row| {
            let access = Access::stored(row.get_ref(0)?.as_str()?);
            Ok((access, row.get::<_, Option<i64>>(1)?, row.get(2)?))
        })
        .optional()?;
    Ok(match found {
        Some((_, Some(read), _)) => Relation::Member {
            read: read.unsigned_abs(),
        },
        None => Relation::NoRoom,
        Some((access, ..)) if access.is_hidden() => Relation::NoRoom,
        Some((_, None, true)) => Relation::Banned,
        Some((_, None, false)) => Relation::NotMember,
    })
}

#[async_trait]
impl Memberships for SqliteStore {
    async fn join(
        &self,
        room: &RoomId,
        user: &User,
        made: Option<&RoomSettings>,
    ) -> Result<Seq, StoreError> {
        let (room, user, made) = (room.clone(), user.clone(), made.cloned());
        self.writer
            .write(JOIN, move |connection, changes| {
                join(connection, changes, &room, &user, made.as_ref())
            })
            .await
    }

    async fn join_direct(&self, people: &[User]) -> Result<(RoomId, Seq), StoreError> {
        let people = people.to_vec();
        self.writer
            .write(JOIN, move |connection, changes| {
                join_direct(connection, changes, &people)
            })
            .await
    }

    async fn leave(&self, room: &RoomId, user: &User) -> Result<Seq, StoreError> {
        let (room, user) = (room.clone(), user.clone());
        self.writer
            .write("leave a room", move |connection, changes| {
                end(connection, changes, &room, &user, None)
            })
            .await
    }

    async fn add(&self, room: &RoomId, by: &User, user: &User) -> Result<Seq, StoreError> {
        let (room, by, user) = (room.clone(), by.clone(), user.clone());
        self.writer
            .write("add to a room", move |connection, changes| {
                add(connection, changes, &room, Some(&by), &user)
            })
            .await
    }

    async fn remove(&self, room: &RoomId, by: &User, user: &User) -> Result<Seq, StoreError> {
        let (room, by, user) = (room.clone(), by.clone(), user.clone());
        self.writer
            .write("remove from a room", move |connection, changes| {
                end(connection, changes, &room, &user, Some(&by))
            })
            .await
    }

    async fn ban(&self, room: &RoomId, by: &User, user: &User) -> Result<Seq, StoreError> {
        let (room, by, user) = (room.clone(), by.clone(), user.clone());
        self.writer
            .write("ban from a room", move |connection, changes| {
                ban(connection, changes, &room, &by, &user)
            })
            .await
    }

    async fn unban(&self, room: &RoomId, user: &User) -> Result<(), StoreError> {
        let (room, user) = (room.clone(), user.id.to_string());
        self.writer
            .write("lift a ban", move |connection, _| {
                let lift = "DELETE FROM bans WHERE room = ?1 AND user = ?2";
                let lifted = execute(connection, "lift a ban", lift, params![room.as_str(), user]);
                lifted.map(drop)
            })
            .await
    }

    async fn banned(&self, room: &RoomId, limit: usize) -> Result<Vec<User>, StoreError> {
        let room = room.clone();
        self.readers
            .read("list who is banned", move |connection| {
                banned(connection, &room, limit)
            })
            .await
    }

    async fn owners(&self, room: &RoomId) -> Result<Vec<UserId>, StoreError> {
        let room = room.clone();
        self.readers
            .read("look up owners", move |connection| {
                owners(connection, &room)
            })
            .await
    }

    async fn set_role(&self, room: &RoomId, user: UserId, role: Role) -> Result<bool, StoreError> {
        let room = room.clone();
        self.writer
            .write("give a role", move |connection, _| {
                set_role(connection, &room, user, role)
            })
            .await
    }

    async fn set_level(
        &self,
        room: &RoomId,
        user: UserId,
        level: Level,
    ) -> Result<bool, StoreError> {
        const OPERATION: &str = "choose what counts as unread";
        let room = room.clone();
        self.writer
            .write(OPERATION, move |connection, changes| {
                let set = execute(
                    connection,
                    OPERATION,
                    "UPDATE memberships SET level = ?3 WHERE user = ?1 AND room = ?2",
                    params![user.to_string(), room.as_str(), level.as_str()],
                )?;
                changes.push(Durable::Level(user));
                changes.push(Durable::Change(Change::Entered(user)));
                Ok(set > 0)
            })
            .await
    }

    async fn relation(&self, room: &RoomId, user: &User) -> Result<Relation, StoreError> {
        if let Some(read) = self.cache.read_by(user.id, room) {
            return Ok(Relation::Member { read });
        }
        let token = self.cache.token();
        let is_known = self.cache.knows(user.id);
        let (room, id) = (room.clone(), user.id);
        let (relation, memberships): (Relation, Option<Vec<Membership>>) = self
            .readers
            .read("look up a membership", move |connection| {
                let relation = relation(connection, &room, id)?;
                let is_worth_it = !is_known && matches!(relation, Relation::Member { .. });
                let memberships = is_worth_it.then(|| memberships(connection, id));
                Ok((relation, memberships.transpose()?))
            })
            .await?;
        if let Some(memberships) = memberships {
            self.cache.keep_memberships(&token, user.id, memberships);
        }
        Ok(relation)
    }

    async fn mark_read(&self, room: &RoomId, user: &User, seq: Seq) -> Result<(), StoreError> {
        let (room, user) = (room.clone(), user.id);
        self.writer
            .write("mark as read", move |connection, changes| {
                mark_read(connection, changes, &room, user, seq)
            })
            .await
    }
}
