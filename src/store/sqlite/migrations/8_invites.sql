-- Version 8: links by which people come here, who may sign up, and accounts that may not sign in.

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
