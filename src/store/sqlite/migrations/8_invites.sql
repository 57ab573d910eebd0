-- Version 8: links by which people come here, who may sign up, accounts that may not sign in, an audit log,
-- the ids of rooms that were deleted, and names that people had.

CREATE TABLE invites (
    id          TEXT PRIMARY KEY,
    secret_hash TEXT NOT NULL UNIQUE,
    by          TEXT REFERENCES users (id), -- none: whoever runs the server
    room        TEXT REFERENCES rooms (id),
    uses_left   INTEGER NOT NULL,
    created_at  INTEGER NOT NULL,
    expires_at  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX invites_newest ON invites (created_at);
CREATE INDEX invites_expiry ON invites (expires_at);

-- The choices of admins. 'sign-up': open, invite or closed.
CREATE TABLE choices (
    key   TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

ALTER TABLE users ADD COLUMN deactivated_at INTEGER;

-- The acts of admins and owners, and of whoever runs the server (by nobody). Ids grow with time. An entry may be
-- about somebody who is here no more.
CREATE TABLE audit (
    id     TEXT PRIMARY KEY,
    at     INTEGER NOT NULL,
    by     TEXT,
    act    TEXT NOT NULL,
    user   TEXT,
    room   TEXT,
    detail TEXT,
    failed INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- The ids of rooms that were deleted, which nobody gets again: pages and programs have places in their logs.
CREATE TABLE deleted_rooms (
    id TEXT PRIMARY KEY
) STRICT, WITHOUT ROWID;

-- Names are somebody's for good, as hashes of their keys and shapes: filled by `accounts::claim_names`. Events have
-- their authors' names from the users, so that a rename shows everywhere.
CREATE TABLE names (
    hash TEXT PRIMARY KEY,
    user TEXT NOT NULL REFERENCES users (id)
) STRICT, WITHOUT ROWID;

ALTER TABLE events DROP COLUMN author_name;

-- The pages still hold what stood in them.
INSERT OR REPLACE INTO meta (key, value) VALUES ('to be vacuumed', 1);

CREATE INDEX names_by_user ON names (user);

-- Of an account that its user has deleted: what becomes of its messages, 'keep' or 'delete', until that is done, then
-- 'done'.
ALTER TABLE users ADD COLUMN erased TEXT;

ALTER TABLE memberships ADD COLUMN level TEXT NOT NULL DEFAULT 'all'; -- what counts as unread

-- The people from whom somebody does not want to hear.
CREATE TABLE blocks (
    user    TEXT NOT NULL REFERENCES users (id),
    blocked TEXT NOT NULL REFERENCES users (id),
    at      INTEGER NOT NULL,
    PRIMARY KEY (user, blocked)
) STRICT, WITHOUT ROWID;

CREATE INDEX blocks_of ON blocks (blocked);

-- Messages that somebody has shown the admins, until one closes the report.
CREATE TABLE reports (
    id     TEXT PRIMARY KEY,
    by     TEXT NOT NULL REFERENCES users (id),
    room   TEXT NOT NULL REFERENCES rooms (id),
    seq    INTEGER NOT NULL,
    reason TEXT NOT NULL,
    at     INTEGER NOT NULL,
    UNIQUE (by, room, seq)
) STRICT, WITHOUT ROWID;

CREATE INDEX reports_of_room ON reports (room);
