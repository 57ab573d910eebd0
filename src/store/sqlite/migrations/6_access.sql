-- Version 6: who may enter a room and write in it, what it is called, and who owns it. Rooms were unlisted before: whoever knew
-- the id could enter. A room without an owner is owned by whoever has been in it longest.

ALTER TABLE rooms ADD COLUMN access TEXT NOT NULL DEFAULT 'unlisted';
ALTER TABLE rooms ADD COLUMN name TEXT;
ALTER TABLE rooms ADD COLUMN topic TEXT;
ALTER TABLE rooms ADD COLUMN posting TEXT NOT NULL DEFAULT 'everybody'; -- who may write
ALTER TABLE rooms ADD COLUMN archived INTEGER NOT NULL DEFAULT 0;

CREATE INDEX rooms_open ON rooms (id) WHERE access = 'open';

ALTER TABLE memberships ADD COLUMN role TEXT NOT NULL DEFAULT 'member';

CREATE INDEX memberships_owners ON memberships (room) WHERE role = 'owner';

-- In the order in which they joined.
DROP INDEX memberships_by_room;
CREATE INDEX memberships_by_room ON memberships (room, joined_seq, joined_at);

CREATE TABLE bans (
    room TEXT NOT NULL REFERENCES rooms (id),
    user TEXT NOT NULL REFERENCES users (id),
    at   INTEGER NOT NULL,
    by   TEXT NOT NULL REFERENCES users (id),
    PRIMARY KEY (room, user)
) STRICT, WITHOUT ROWID;

ALTER TABLE events ADD COLUMN actor TEXT REFERENCES users (id); -- who added or removed the author
