-- Version 7: what an account may do on the server. Nobody becomes an admin by it: `parlor user promote` makes one.

ALTER TABLE users ADD COLUMN role TEXT NOT NULL DEFAULT 'member';

CREATE INDEX users_admins ON users (id) WHERE role = 'admin';
