-- Version 1. Later versions are added as files of their own and never change this one.
-- Times are milliseconds since 1970; ids are UUIDs as text.

CREATE TABLE users (
    id            TEXT PRIMARY KEY,
    username      TEXT NOT NULL,
    username_key  TEXT NOT NULL UNIQUE, -- one per name, whatever its case
    username_shape TEXT NOT NULL UNIQUE, -- one per look
    email         TEXT NOT NULL,
    email_key     TEXT NOT NULL UNIQUE,
    password_hash TEXT NOT NULL,
    created_at    INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE sessions (
    id         TEXT PRIMARY KEY,
    user       TEXT NOT NULL REFERENCES users (id),
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    revoked_at INTEGER
) STRICT, WITHOUT ROWID;

CREATE INDEX sessions_expiry ON sessions (expires_at);

CREATE TABLE rooms (
    id         TEXT PRIMARY KEY,
    created_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE memberships (
    user      TEXT NOT NULL REFERENCES users (id),
    room      TEXT NOT NULL REFERENCES rooms (id),
    joined_at INTEGER NOT NULL,
    PRIMARY KEY (user, room)
) STRICT, WITHOUT ROWID;

-- The log. Clustered by its key, so that a page of a room is one run of the file.
CREATE TABLE events (
    room        TEXT NOT NULL REFERENCES rooms (id),
    seq         INTEGER NOT NULL,
    messages    INTEGER NOT NULL, -- how many of events 1..=seq are messages
    at          INTEGER NOT NULL,
    kind        TEXT NOT NULL,
    author      TEXT NOT NULL REFERENCES users (id),
    author_name TEXT NOT NULL,
    body        TEXT,
    nonce       TEXT,
    PRIMARY KEY (room, seq)
) STRICT, WITHOUT ROWID;

CREATE UNIQUE INDEX events_nonce ON events (room, author, nonce) WHERE nonce IS NOT NULL;

-- 'epoch': how often this store was restored from a backup.
CREATE TABLE meta (
    key   TEXT PRIMARY KEY,
    value INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

INSERT INTO meta (key, value) VALUES ('epoch', 0);
