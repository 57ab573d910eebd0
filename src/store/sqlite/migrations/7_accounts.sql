-- Version 7: what an account may do on the server, and what its sessions are. Nobody becomes an admin by it: `parlor user promote` makes one.

ALTER TABLE users ADD COLUMN role TEXT NOT NULL DEFAULT 'member';

-- What a session was begun with, and when it was used last.
ALTER TABLE sessions ADD COLUMN device TEXT NOT NULL DEFAULT '';
ALTER TABLE sessions ADD COLUMN address TEXT NOT NULL DEFAULT '';
ALTER TABLE sessions ADD COLUMN seen_at INTEGER NOT NULL DEFAULT 0;

CREATE INDEX sessions_by_user ON sessions (user);

-- Links by which somebody chooses another password, by the hash of their secret.
CREATE TABLE resets (
    secret_hash TEXT PRIMARY KEY,
    user        TEXT NOT NULL REFERENCES users (id),
    expires_at  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX users_admins ON users (id) WHERE role = 'admin';
